"""What reviewers of a project are asked, and how: one shape for forms, API, queue and page.

Stored in ``projects.reviewing`` as plain JSON; what is missing there has its default, and the defaults ask for no
more than a choice between two answers. Read it with :func:`reviewing_of`, never by key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from app.language import _

Mode = Literal["pair", "ranking"]
Scale = Literal["ab", "ab_tie", "ab_tie_bad", "strength"]
Asked = Literal["off", "optional", "required"]
CriterionScale = Literal["preference", "likert"]

LIKERT = (1, 2, 3, 4, 5)
"""Points of a Likert scale, worst first."""
MAX_ANSWERS = 8
MAX_COMMENT_CHARS = 4000
MAX_TAGS = 24
MAX_CRITERIA = 8

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Criterion(BaseModel):
    """One aspect that answers are judged by, beside the choice itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Key = Field(description="Its name in votes and exports.", examples=["helpful"])
    label: Words = Field(description="What reviewers read.", examples=["Helpful"])
    scale: CriterionScale = Field(
        default="preference", description="`preference`: A, tie or B; `likert`: 1 to 5 for each answer."
    )


class Reviewing(BaseModel):
    """The reviewing settings of a project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(
        default="pair", description="`pair`: two answers side by side; `ranking`: all `answers` in order."
    )
    answers: int = Field(default=2, ge=2, le=MAX_ANSWERS, description="Answers sampled for a prompt, and ranked.")
    scale: Scale = Field(
        default="ab_tie_bad",
        description='`ab`; `ab_tie`; `ab_tie_bad` (with "both bad"); `strength`: slightly, clearly, much better on '
        "each side, with tie and both bad.",
    )
    criteria: list[Criterion] = Field(
        default_factory=list, max_length=MAX_CRITERIA, description="Aspects judged beside the choice (pairs only)."
    )
    criteria_required: bool = Field(default=False, description="A choice needs all of the criteria.")
    comment: Asked = Field(default="optional", description="Whether a choice may or must come with a comment.")
    comment_min_chars: int = Field(
        default=0, ge=0, le=1000, description="Shortest comment, characters, where there is one."
    )
    tags: list[Words] = Field(default_factory=list, max_length=MAX_TAGS, description="Reasons to tick.")
    correction: bool = Field(default=False, description="Reviewers may edit the better answer.")
    skip_reason: Asked = Field(default="optional", description="Whether a skip may or must say why.")

    @field_validator("criteria")
    @classmethod
    def _keys_differ(cls, criteria: list[Criterion]) -> list[Criterion]:
        keys = [criterion.key for criterion in criteria]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(_("each key stands for one criterion; %(twice)s is there twice", twice=", ".join(twice)))
        return criteria

    @field_validator("tags")
    @classmethod
    def _tags_differ(cls, tags: list[str]) -> list[str]:
        twice = sorted({tag for tag in tags if tags.count(tag) > 1})
        if twice:
            raise ValueError(_("each reason is listed once; %(twice)s is there twice", twice=", ".join(twice)))
        return tags

    @model_validator(mode="after")
    def _fits_the_mode(self) -> "Reviewing":
        if self.mode == "ranking" and self.criteria:
            raise ValueError(_("criteria compare two answers; a ranking has none"))
        if self.criteria_required and not self.criteria:
            raise ValueError(_("criteria are required, but there are none"))
        if self.comment == "off" and self.comment_min_chars:
            raise ValueError(
                _(
                    "comments are off, so they have no shortest length (%(comment_min_chars)s)",
                    comment_min_chars=self.comment_min_chars,
                )
            )
        return self

    @property
    def pair_choices(self) -> tuple[str, ...]:
        """The judgements of a pair that the scale knows, from left to right."""
        return {"ab": ("a", "b"), "ab_tie": ("a", "tie", "b")}.get(self.scale, ("a", "tie", "both_bad", "b"))

    @property
    def criteria_by_key(self) -> dict[str, Criterion]:
        """Key → criterion, in their order."""
        return {criterion.key: criterion for criterion in self.criteria}


def labels_differ(reviewing: Reviewing) -> Reviewing:
    """No two criteria that read alike, if only by their case; for what is typed: what is stored is read as it is.

    Raises:
        ValueError: two are called the same.
    """
    labels = [criterion.label for criterion in reviewing.criteria]
    folded = [label.casefold() for label in labels]
    twice = [label for label, key in zip(labels, folded, strict=True) if folded.count(key) > 1]
    if twice:
        raise ValueError(_("reviewers could not tell these criteria apart: %(twice)s", twice=", ".join(twice)))
    return reviewing


def reviewing_of(stored: Mapping[str, Any] | None) -> Reviewing:
    """``projects.reviewing`` with every default filled in."""
    return Reviewing.model_validate(dict(stored or {}))
