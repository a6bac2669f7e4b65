"""What the API takes and gives about reviewers and pairs with a known answer."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.reviewers.controls import Listed
from app.reviewers.report import Line, Report
from app.reviewers.service import MAX_REASON_CHARS


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
    set_aside: int = Field(description="Votes that quarantine took out of the count.")
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
            figures=FiguresOut.model_validate(line.figures) if line.figures else None,
            suspicions=[
                SuspicionOut(kind=item.kind, probability=item.probability, told=item.told, others=others)
                for item, others in line.suspicions
            ],
        )


class ReviewersOut(BaseModel):
    """All reviewers of a project, those under suspicion first."""

    crew: CrewOut | None
    items: list[ReviewerOut]

    @classmethod
    def of(cls, report: Report) -> "ReviewersOut":
        """The whole report."""
        return cls(
            crew=CrewOut.model_validate(report.crew) if report.crew else None,
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


class ReviewerChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"qualification": "waived"}]})

    qualification: Literal["open", "waived"] | None = Field(
        default=None, description="`waived`: on to real work; `open`: back to the qualification round."
    )
    daily_goal: int | None = Field(default=None, ge=1, le=10_000, description="Of their own; null: the project's.")


class CheckMessage(BaseModel):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class CheckIn(BaseModel):
    """A pair whose better answer is known."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "gold",
                    "prompt": "Where is my parcel?",
                    "better": "Let me look that up: could you give me its number?",
                    "worse": "I do not know.",
                }
            ]
        },
    )

    kind: Literal["gold", "attention"] = "gold"
    prompt: str | None = Field(default=None, description="A text, or…")
    messages: list[CheckMessage] | None = Field(default=None, description="…a conversation that ends with the user.")
    better: str
    worse: str
    note: str = Field(default="", max_length=1000, description="Why, for other admins.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "CheckIn":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self


class CheckOut(_Read):
    """A pair with a known answer, and what reviewers made of it."""

    id: UUID
    kind: str
    origin: str = Field(description="`admin`, `unanimous` or `made`.")
    note: str
    messages: list[CheckMessage]
    better: str
    worse: str
    judged: int
    right: int
    flagged: int
    retired: bool
    doubtful: bool = Field(description="Most who judged it see it the other way.")


class ChecksPage(BaseModel):
    """Some of them, newest first."""

    items: list[CheckOut]
    next_offset: int | None = Field(description="Give it as `offset` to go on; null at the end.")

    @classmethod
    def of(cls, found: list[Listed], *, limit: int, offset: int) -> "ChecksPage":
        """A page out of one row more than it shows."""
        items = [CheckOut.model_validate(item) for item in found[:limit]]
        return cls(items=items, next_offset=offset + limit if len(found) > limit else None)


class PromoteIn(BaseModel):
    """Which unanimous pairs become gold."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"fewest_votes": 3, "most": 50}]})

    fewest_votes: int = Field(default=3, ge=2, le=50, description="Reviewers who agreed, without exception.")
    most: int = Field(default=50, ge=1, le=1000)


class AttentionIn(BaseModel):
    """How many attention pairs to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"count": 20}]})

    count: int = Field(ge=1, le=200)


class MadeOut(BaseModel):
    """How many were made."""

    made: int
