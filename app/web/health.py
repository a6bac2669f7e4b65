"""Probes: ``/healthz`` says that the process answers, ``/readyz`` that it can serve."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from app.web.guard import public

log = logging.getLogger("hone.web")
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. ``look`` says what it found and raises when it is not well."""

    name: str
    look: Callable[[], str]
    needed: bool = True
    """Whether the process cannot serve without; otherwise it is only reported."""


@router.get("/healthz", dependencies=[public()])
async def healthz() -> dict[str, str]:
    """The process answers. Touches nothing."""
    return {"status": "ok"}


@router.get("/readyz", dependencies=[public()])
def readyz(request: Request) -> JSONResponse:
    """Everything that is needed is there (200), or what is not (503)."""
    ready = True
    found: dict[str, dict[str, str | bool]] = {}
    checks: list[Check] = request.app.state.checks
    for check in checks:
        try:
            found[check.name] = {"ok": True, "found": check.look()}
        except Exception as error:  # noqa: BLE001 - a probe reports whatever goes wrong
            log.warning("not ready: %s: %s", check.name, error)
            found[check.name] = {"ok": False, "found": type(error).__name__}
            ready = ready and not check.needed
    return JSONResponse(
        {"status": "ready" if ready else "not ready", "checks": found}, status_code=200 if ready else 503
    )
