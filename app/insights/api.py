"""Figures over several rooms in the API."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.insights.winrates import win_rates
from app.web.deps import Db

router = APIRouter(prefix="/api/v1", tags=["versions"])


class WinRateOut(BaseModel):
    """One version against another, by what people said of pairs of both."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    opponent: int
    pairs: int
    effective: float = Field(description="Evenly drawn pairs that would tell as much.")
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
