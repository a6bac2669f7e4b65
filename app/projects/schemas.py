"""The shape of projects: what may be set, in which range, and what the API shows."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from app.projects.aggregation import Aggregation
from app.projects.queue import QueueSettings
from app.projects.refilling import GateSettings, RefillSettings
from app.projects.reviewing import Reviewing, labels_differ
from app.rounds.spec import training_schema

Promotion = Literal["manual", "after_round", "gate"]
Feedback = Literal["ignore", "train", "count"]
Role = Literal["admin", "reviewer"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["support-tone"])]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]

Training = Annotated[dict[str, Any], WithJsonSchema(training_schema())]
"""Training settings. ``app.rounds.spec`` checks them, and this is its description of what it lets through."""

TRAINING_EXAMPLE: dict[str, Any] = {"loss": "sigmoid", "loss_settings": {"beta": 0.1}, "lora_rank": 16, "epochs": 2}


class SamplingSettings(BaseModel):
    """How the current version is asked for completions."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(
        default=1.0, gt=0, le=2, description="Above 0: at 0 both answers to a prompt would be the same."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus sampling; 1 keeps every token.")
    top_k: int = Field(default=0, ge=0, le=100_000, description="Keep the k likeliest tokens; 0 keeps all.")
    min_p: float = Field(
        default=0.0, ge=0, lt=1, description="Keep tokens at least this likely beside the likeliest; 0 keeps all."
    )
    max_tokens: int = Field(default=256, ge=1, le=32_768, description="Longest completion, tokens.")
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=8, description="Texts that end a completion."
    )


class _Options(BaseModel):
    """Settings that can be changed at any time; each has a default."""

    model_config = ConfigDict(extra="forbid")

    guidelines: str = Field(default="", max_length=50_000, description="Markdown, shown to reviewers.")
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    training: Training = Field(
        default_factory=dict,
        description="Training settings: `loss` with `loss_settings`, `method`, `learning_rate`, … What the chosen loss "
        "does not read is refused.",
        examples=[TRAINING_EXAMPLE],
    )
    reviewing: Annotated[Reviewing, AfterValidator(labels_differ)] = Field(
        default_factory=Reviewing, description="What reviewers are asked, and how."
    )
    refilling: RefillSettings = Field(
        default_factory=RefillSettings, description="Which pairs are made, and how many wait."
    )
    gate: GateSettings = Field(
        default_factory=GateSettings, description="What a new version must show where `promotion` is `gate`."
    )
    queue: QueueSettings = Field(
        default_factory=QueueSettings, description="How pairs reach reviewers, and how their work is checked."
    )
    aggregation: Aggregation = Field(default_factory=Aggregation, description="How votes become preferences.")
    votes_per_comparison: int = Field(default=1, ge=1, le=50, description="Reviewers that see each pair.")
    buffer_size: int = Field(
        default=24, ge=1, le=10_000, description="Ready comparisons kept waiting for reviewers at least."
    )
    lease_seconds: int = Field(
        default=900, ge=10, le=86_400, description="How long a pair stays reserved for a reviewer, seconds."
    )
    held_out_percent: int = Field(
        default=10, ge=0, le=50, description="Share of new prompts whose votes evaluate and never train, percent."
    )
    feedback: Feedback = Field(
        default="train",
        description="What API clients' feedback is for: `ignore`: kept, never read; `train`: rounds learn from it, "
        "outside the overlap of reviewers; `count`: it also takes a free place among a pair's votes.",
    )
    promotion: Promotion = Field(
        default="manual",
        description="`manual`: an admin promotes; `after_round`: each new version; `gate`: if its figures pass, and "
        "people prefer it in blind comparisons.",
    )
    min_round_votes: int = Field(default=10, ge=2, le=1_000_000, description="Fewest new votes a round starts with.")
    round_every_votes: int | None = Field(
        default=None, ge=2, le=1_000_000, description="Start a round after so many new votes; null: never by itself."
    )
    round_schedule: str | None = Field(
        default=None,
        max_length=200,
        description="Start a round at these times if there are enough votes: a crontab of five fields, UTC.",
        examples=["0 3 * * *"],
    )


class ProjectIn(_Options):
    """A new project."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Support tone",
                    "base_model": "/models/llama-8b-instruct",
                    "guidelines": "Prefer the answer you would send to a customer.",
                    "sampling": {"temperature": 0.9, "max_tokens": 256},
                    "training": TRAINING_EXAMPLE,
                    "round_every_votes": 100,
                    "promotion": "manual",
                }
            ]
        },
    )

    name: Line = Field(description="What people call it.", examples=["Support tone"])
    slug: Slug | None = Field(default=None, description="Its name in addresses; made from the name if left out.")
    base_model: str = Field(
        max_length=4096,
        description="Where version 1 comes from: a directory on the server (safetensors), or a hub id `owner/name`.",
        examples=["/models/llama-8b-instruct"],
    )


class ProjectEdit(_Options):
    """A project as it is after a change. The base model can be changed until version 1 exists."""

    name: Line
    base_model: str = Field(max_length=4096)


class ProjectOut(BaseModel):
    """A project."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    slug: str
    name: str
    guidelines: str
    base_model: str
    sampling: dict[str, Any]
    training: dict[str, Any]
    reviewing: dict[str, Any]
    refilling: RefillSettings
    gate: GateSettings
    queue: dict[str, Any]
    aggregation: dict[str, Any]
    votes_per_comparison: int
    buffer_size: int
    lease_seconds: int
    held_out_percent: int
    feedback: str
    promotion: str
    min_round_votes: int
    round_every_votes: int | None
    round_schedule: str | None
    next_round_at: datetime | None
    refill_problem: str | None = Field(description="Why no new pairs can be made at present; null: nothing is wrong.")
    created_at: datetime
    archived_at: datetime | None = Field(
        description="Since when it is archived and takes no votes, prompts or rounds; null: it is in use."
    )

    def for_reviewers(self) -> "ProjectOut":
        """Without what tells of the server (where the base model lies, where machines meet), nor of checks."""
        training = {name: value for name, value in self.training.items() if name != "rendezvous"}
        base = self.base_model.rsplit("/", 1)[-1] if self.base_model.startswith("/") else self.base_model
        return self.model_copy(update={"base_model": base, "training": training, "queue": {}, "refill_problem": None})


class ProjectChange(BaseModel):
    """Settings to change; those left out stay. Groups of settings, such as `sampling`, are replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"round_every_votes": 200, "training": TRAINING_EXAMPLE}]},
    )

    name: Any = Field(default=None, description="As in a new project; so are the others.")
    base_model: Any = Field(default=None, description="Can be changed until version 1 exists.")
    guidelines: Any = None
    sampling: Any = Field(default=None, description="Replaced as a whole.")
    training: Any = Field(default=None, description="Replaced as a whole.")
    reviewing: Any = Field(default=None, description="Replaced as a whole.")
    refilling: Any = Field(default=None, description="Replaced as a whole.")
    gate: Any = Field(default=None, description="Replaced as a whole.")
    queue: Any = Field(default=None, description="Replaced as a whole.")
    aggregation: Any = Field(default=None, description="Replaced as a whole.")
    votes_per_comparison: Any = None
    buffer_size: Any = None
    lease_seconds: Any = None
    held_out_percent: Any = None
    feedback: Any = None
    promotion: Any = None
    min_round_votes: Any = None
    round_every_votes: Any = None
    round_schedule: Any = None


class ProjectPage(BaseModel):
    """Some projects, newest first."""

    items: list[ProjectOut]
    next_cursor: UUID | None = Field(description="Give it as `cursor` to go on; null at the end.")


class RefillOut(BaseModel):
    """How the refill of a project is doing."""

    model_config = ConfigDict(from_attributes=True)

    state: str = Field(
        description="`filling`: a worker samples; `waiting`: it backs off; `full`: enough is ready; `low`: a worker "
        "will come."
    )
    ready: int = Field(description="Pairs that wait for a reviewer.")
    target: int = Field(description="Pairs kept ready at the present pace of voting.")
    votes_per_minute: float
    problem: str | None = Field(description="Why no new pairs can be made at present.")
    failures: int = Field(description="Turns that failed, one after another.")
    due_at: datetime | None = Field(description="When it tries again.")
    last_error: str | None = Field(description="The latest problem, also when it is over.")
    last_error_at: datetime | None
    strategy: str
    waiting: dict[str, int] = Field(description="Open pairs by kind: `current`, `previous`, `candidate`, `gate`.")
    counts: dict[str, int] = Field(
        description="Of the last 7 days: `sampled`, `resampled`, `identical`, `near_identical`, `empty`, `unreadable`, "
        "`looping`, `unmeasured`, `no_pair`, `too_long`, `passed_over`, `formed`, `seconds`."
    )


class MemberIn(BaseModel):
    """Who takes part, and as what."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "ann@example.org", "role": "reviewer"}]}
    )

    email: str = Field(max_length=320, description="The address of an account that exists.")
    role: Role


class MemberOut(BaseModel):
    """A person in a project."""

    user_id: UUID
    email: str
    name: str
    role: Role
