"""Probes: ``/healthz`` says that the process answers, ``/readyz`` that it can serve."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse

from app.web.bounded import Bounded
from app.web.guard import public

log = logging.getLogger("hone.web")
router = APIRouter(include_in_schema=False)

PROBE_SECONDS = 2.0
"""All checks together; what has not answered by then counts as not well."""


class NotReadyError(Exception):
    """A check failed. Everybody may read the message: it says what to do, and no address, name or secret."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. ``look`` says what it found and raises when it is not well."""

    name: str
    look: Callable[[], str]
    needed: bool = True
    """Whether the process cannot serve without; otherwise it is only reported."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to."""

    ok: bool
    found: str


class Probe:
    """All checks, one look at a time: probes that come meanwhile wait for the same one."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._bounded = Bounded([partial(_look, check) for check in checks], PROBE_SECONDS)

    async def look(self) -> tuple[bool, dict[str, Finding]]:
        """Whether all that is needed is well, and every finding by its check's name."""
        found = await self._bounded.found()
        silent = [Finding(ok=False, found=f"no answer within {PROBE_SECONDS:g} s")] * (len(self._checks) - len(found))
        findings = dict(zip((check.name for check in self._checks), [*found, *silent], strict=True))
        return all(findings[check.name].ok for check in self._checks if check.needed), findings


def _look(check: Check) -> Finding:
    try:
        return Finding(ok=True, found=check.look())
    except Exception as error:  # noqa: BLE001 - a probe reports whatever goes wrong
        log.warning("not ready: %s: %s", check.name, error)
        return Finding(ok=False, found=_told(error))


def _told(error: Exception) -> str:
    """The reason for everybody; the log has the rest."""
    if isinstance(error, NotReadyError):
        return str(error)
    return "the database does not answer" if isinstance(error, SQLAlchemyError) else type(error).__name__


@router.get("/healthz", dependencies=[public()])
async def healthz() -> dict[str, str]:
    """The process answers. Touches nothing."""
    return {"status": "ok"}


@router.get("/readyz", dependencies=[public()])
async def readyz(request: Request) -> JSONResponse:
    """Everything that is needed is there (200), or what is not (503)."""
    probe: Probe = request.app.state.probe
    ready, findings = await probe.look()
    checks = {name: {"ok": finding.ok, "found": finding.found} for name, finding in findings.items()}
    return JSONResponse(
        {"status": "ready" if ready else "not ready", "checks": checks}, status_code=200 if ready else 503
    )
