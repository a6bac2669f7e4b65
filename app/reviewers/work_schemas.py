"""What the API gives about how far reviewers are."""

from datetime import date, datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.reviewers.schemas import ShareOut
from app.reviewers.work import DAYS, WEEKS, Line, Week, Work


class WeekOut(BaseModel):
    """A week of the whole project."""

    model_config = ConfigDict(from_attributes=True)

    monday: date
    judged: int
    reviewers: int
    agreement: ShareOut | None = Field(description="Of every two votes on a pair, in the week of the later one.")


class PaceOut(BaseModel):
    """A reviewer's last days. Null where nothing can be said."""

    user_id: UUID
    email: str
    name: str
    today: int = Field(description="Pairs judged since midnight UTC.")
    goal: int | None = Field(description="Pairs a day: their own goal, or the project's.")
    days: list[int] = Field(
        description=f"Judged on each of the last {DAYS} days of UTC, today last; empty: nothing yet."
    )
    last: datetime | None = Field(description="When they last judged a pair.")
    recent: ShareOut | None = Field(description="Agreement of the votes of these days with others'.")
    before: ShareOut | None = Field(description="The same of all earlier ones.")

    @classmethod
    def of(cls, line: Line) -> "PaceOut":
        """One reviewer's line."""
        person, pace = line.person, line.pace
        return cls(
            user_id=person.id,
            email=person.email,
            name=person.name,
            today=person.today,
            goal=line.goal,
            days=list(pace.days) if pace else [],
            last=pace.last if pace else None,
            recent=ShareOut.model_validate(pace.recent) if pace and pace.recent else None,
            before=ShareOut.model_validate(pace.before) if pace and pace.before else None,
        )


class WorkOut(BaseModel):
    """How far everybody is."""

    items: list[PaceOut] = Field(description="Those that judged most in the last seven days first.")
    weeks: list[WeekOut] = Field(description=f"At most {WEEKS}, from Monday in UTC, the current one last.")

    @classmethod
    def of(cls, work: Work) -> "WorkOut":
        """The whole page."""
        weeks: list[Week] = work.weeks
        return cls(
            items=[PaceOut.of(line) for line in work.lines], weeks=[WeekOut.model_validate(week) for week in weeks]
        )
