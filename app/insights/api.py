"""Figures over several rooms in the API."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext
from app.insights.audit import lines
from app.insights.winrates import win_rates
from app.web.deps import Db

router = APIRouter(prefix="/api/v1", tags=["versions"])


class WinRateOut(BaseModel):
    """One version against another, by what people said of pairs of both."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    opponent: int
    pairs: int
    effective: float = Field(description="Evenly drawn pairs, each of another prompt, that would tell as much.")
    value: float = Field(description="Win rate, ties half, weighed back to pairs drawn evenly.")
    low: float
    high: float = Field(description="Ends of Wilson's 95 % interval over the effective pairs.")
    plain: float = Field(description="Without the weights.")


class WinRatesOut(BaseModel):
    """Every two versions that were compared, both ways round, newest first."""

    items: list[WinRateOut]


@router.get("/projects/{slug}/win-rates")
def versions_against_each_other(
    here: Annotated[ProjectContext, access.api_admin("versions:read")], db: Db
) -> WinRatesOut:
    """How often each version wins against others, by people's votes on pairs of both.

    Pairs that a strategy chose are weighed back, so that the figure is of prompts and pairs drawn evenly.
    """
    return WinRatesOut(items=[WinRateOut.model_validate(rate) for rate in win_rates(db, here.project)])


class AuditLineOut(BaseModel):
    """One act."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    at: datetime
    who: str | None = Field(description="Name or address; null where the system itself acted.")
    project: str | None = Field(description="Slug.")
    action: str = Field(examples=["version.promote"])
    subject: str = Field(examples=["version:019ab4c8-7c1e-7d3a-9a55-0c8d2f3b6e11"])
    data: dict[str, Any]


class AuditPage(BaseModel):
    """Some acts, newest first."""

    items: list[AuditLineOut]
    next_cursor: UUID | None


Cursor = Annotated[UUID | None, Query(description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.get("/projects/{slug}/audit", tags=["projects"])
def audit_of_project(
    here: Annotated[ProjectContext, access.api_admin("projects:read")], db: Db, cursor: Cursor = None, limit: Limit = 50
) -> AuditPage:
    """Who did what in a project, newest first."""
    return _audit(db, here.project.id, cursor, limit)


@router.get("/audit", tags=["projects"])
def audit_of_everything(
    _me: Annotated[Principal, access.api_site_admin("projects:read")], db: Db, cursor: Cursor = None, limit: Limit = 50
) -> AuditPage:
    """Who did what in every project, and who signed in, newest first. For site admins."""
    return _audit(db, None, cursor, limit)


def _audit(db: Db, project_id: UUID | None, cursor: UUID | None, limit: int) -> AuditPage:
    found = lines(db, project_id=project_id, after=cursor, limit=limit + 1)
    items = [AuditLineOut.model_validate(line) for line in found[:limit]]
    return AuditPage(items=items, next_cursor=items[-1].id if len(found) > limit else None)
