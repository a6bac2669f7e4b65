"""What the API takes and gives about reviewers."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.reviewers.report import Line, Report
from app.reviewers.service import MAX_REASON_CHARS
from app.reviewers.sides import Sides


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ShareOut(_Read):
    """So many of so many, with Wilson's 95 % interval."""

    hits: int
    total: int
    value: float
    low: float
    high: float


class EstimateOut(_Read):
    """A figure with its 95 % interval (null where there is too little for one)."""

    value: float
    low: float | None
    high: float | None
    total: int = Field(description="Judgements or pairs it rests on.")


class SideOut(_Read):
    """A share that should be one half."""

    share: ShareOut
    p: float = Field(description="Exact two-sided binomial test against one half.")


class FiguresOut(_Read):
    """What one reviewer's votes show. Null where nothing can be said."""

    judged: int
    with_others: ShareOut | None = Field(description="Agreement with other reviewers, over every two votes on a pair.")
    kappa: EstimateOut | None = Field(description="Cohen's κ of the same.")
    alpha: EstimateOut | None = Field(description="Krippendorff's α (nominal) over the pairs shared with others.")
    gold: ShareOut | None
    attention: ShareOut | None
    adjudicated: ShareOut | None = Field(description="Votes that said what somebody else decided about the pair.")
    with_self: ShareOut | None = Field(description="Repeated pairs judged alike.")
    left: SideOut | None = Field(description="Preferences for the answer on the left.")
    longer: SideOut | None = Field(description="Preferences for the longer answer.")
    ties: ShareOut | None = Field(description="Tie and both bad among judgements.")
    seconds: EstimateOut | None = Field(description="Median time of a decision.")
    skill: float = Field(description="Probability that a preference is the better side (one-coin Dawid-Skene).")
    weight: float = Field(description="Worth of a vote where training weighs by skill; 1 on average.")


class CrewOut(_Read):
    """The project as a whole."""

    reviewers: int
    judged: int
    agreement: ShareOut | None
    alpha: EstimateOut | None
    fleiss: EstimateOut | None = Field(description="Fleiss' κ over the pairs with as many votes as most.")
    gold: ShareOut | None
    adjudicated: ShareOut | None
    with_self: ShareOut | None
    left: SideOut | None
    longer: SideOut | None
    ties: ShareOut | None
    seconds: EstimateOut | None


class SuspicionOut(_Read):
    """Why votes do not look like judgements."""

    kind: Literal["random", "one_sided", "copies"]
    probability: float
    told: str
    others: list[UUID] = Field(default_factory=list, description="Of `copies`: the accounts that agree with this one.")


class ReviewerOut(BaseModel):
    """A reviewer of the project."""

    user_id: UUID
    email: str
    name: str
    role: str | None
    qualification: str = Field(description="`open`, `passed`, `failed` or `waived`.")
    daily_goal: int | None
    today: int = Field(description="Pairs judged since midnight UTC.")
    paused_at: datetime | None = Field(description="In quarantine since.")
    paused_reason: str | None
    set_aside: int = Field(description="Unread votes that quarantine took out of the count.")
    left_out: int = Field(description="Votes that a round has read, which later ones leave out while it lasts.")
    figures: FiguresOut | None
    suspicions: list[SuspicionOut]

    @classmethod
    def of(cls, line: Line) -> "ReviewerOut":
        """A line of the report."""
        person = line.person
        return cls(
            user_id=person.id,
            email=person.email,
            name=person.name,
            role=person.role,
            qualification=person.qualification,
            daily_goal=person.daily_goal,
            today=person.today,
            paused_at=person.paused_at,
            paused_reason=person.paused_reason,
            set_aside=person.set_aside,
            left_out=person.left_out,
            figures=FiguresOut.model_validate(line.figures) if line.figures else None,
            suspicions=[
                SuspicionOut(kind=item.kind, probability=item.probability, told=item.told, others=others)
                for item, others in line.suspicions
            ],
        )


class VersionSideOut(BaseModel):
    """How often a version stood on the left."""

    version: int
    on_left: SideOut


class SidesOut(BaseModel):
    """How sides were handed out, of pairs that were judged."""

    first_left: SideOut | None = Field(description="How often a pair's first answer stood on the left.")
    balanced: ShareOut | None = Field(
        description="Of pairs with two votes or more, those whose answers stood on the left equally often."
    )
    versions: list[VersionSideOut] = Field(description="Versions that were compared with others.")

    @classmethod
    def of(cls, sides: Sides) -> "SidesOut":
        """The whole report."""
        return cls(
            first_left=SideOut.model_validate(sides.first_left) if sides.first_left else None,
            balanced=ShareOut.model_validate(sides.balanced) if sides.balanced else None,
            versions=[
                VersionSideOut(version=number, on_left=SideOut.model_validate(found))
                for number, found in sides.versions
            ],
        )


class ReviewersOut(BaseModel):
    """All reviewers of a project, those under suspicion first."""

    crew: CrewOut | None
    sides: SidesOut
    items: list[ReviewerOut]

    @classmethod
    def of(cls, report: Report, sides: Sides) -> "ReviewersOut":
        """The whole report."""
        return cls(
            crew=CrewOut.model_validate(report.crew) if report.crew else None,
            sides=SidesOut.of(sides),
            items=[ReviewerOut.of(line) for line in report.lines],
        )


class QuarantineIn(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "Answers within a second"}]})

    reason: str = Field(min_length=1, max_length=MAX_REASON_CHARS, description="For the audit log.")


class ReleasedOut(BaseModel):
    """What became of the votes that were set aside."""

    counted: int = Field(description="Votes that count again.")
    surplus: int = Field(description="Votes whose place others have taken meanwhile.")
    read: int = Field(description="Votes that a round had read before: later rounds read them again.")


class ReviewerChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"qualification": "waived"}]})

    qualification: Literal["open", "waived"] | None = Field(
        default=None, description="`waived`: on to real work; `open`: back to the qualification round."
    )
    daily_goal: int | None = Field(default=None, ge=1, le=10_000, description="Of their own; null: the project's.")
