"""How a route says who may call it. The checks themselves belong to ``app.accounts.access``.

Every route carries exactly one ``Guard`` among its dependencies; a test walks all routes and fails on one without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Depends

Who = Literal["anyone", "signed_in", "site_admin", "reviewer", "admin"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route declares: who may call it, through which door, and how the project is found."""

    who: Who
    door: Literal["page", "api"] = "page"
    scope: str | None = None
    """What a token must be allowed to do (API only)."""
    project_by: Literal["slug", "id"] | None = None
    """``slug``: the path's slug is checked before the route runs; ``id``: the route checks with ``require_role``."""


class Guard:
    """A dependency that lets a request pass or raises. Subclasses define ``__call__``."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule


class PublicGuard(Guard):
    """Lets everybody pass, without looking at anything."""

    async def __call__(self) -> None:
        return None


_PUBLIC = PublicGuard(Rule("anyone"))


def public() -> Any:
    """Anybody may call this: ``dependencies=[public()]``. Touches neither the request nor the database."""
    return Depends(_PUBLIC)


def guards_of(dependant: Any) -> Iterator[Guard]:
    """All guards in the tree of a route's dependencies (``route.dependant``)."""
    if isinstance(dependant.call, Guard):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from guards_of(inner)
