"""Comparisons, the slots they ask to have filled, reviewers' leases on them, and votes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, CreatedAt, Id
from app.db.ids import blurred_id


class Comparison(Base):
    """Completions of one prompt, to be shown to as many reviewers as it has slots: a pair, or several to be ranked."""

    __tablename__ = "comparisons"
    __table_args__ = (
        Index(
            "uq_comparisons_pair",
            func.least(text("completion_a_id"), text("completion_b_id")),
            func.greatest(text("completion_a_id"), text("completion_b_id")),
            unique=True,
            postgresql_where=text("mode = 'pair' and purpose = 'work'"),
        ),
        Index(
            "uq_comparisons_control_once",
            "for_reviewer_id",
            "control_id",
            unique=True,
            postgresql_where=text("control_id is not null"),
        ),
        Index(
            "uq_comparisons_copy_once",
            "for_reviewer_id",
            "source_id",
            unique=True,
            postgresql_where=text("source_id is not null"),
        ),
        Index("ix_comparisons_project_id_state", "project_id", "state"),
        Index("ix_comparisons_prompt_id", "prompt_id"),
        CheckConstraint("completion_a_id <> completion_b_id", name="two_completions"),
        Index("ix_comparisons_gate", "project_id", "created_at", postgresql_where=text("kind = 'gate'")),
        CheckConstraint("state in ('open', 'complete', 'withdrawn', 'flagged')", name="state_known"),
        CheckConstraint("mode in ('pair', 'ranking')", name="mode_known"),
        CheckConstraint("kind in ('current', 'previous', 'candidate', 'gate')", name="kind_known"),
        CheckConstraint("importance > 0", name="importance_range"),
        CheckConstraint("purpose in ('work', 'gold', 'attention', 'repeat')", name="purpose_known"),
        CheckConstraint("(purpose = 'work') = (for_reviewer_id is null)", name="check_has_reviewer"),
        CheckConstraint("(purpose in ('gold', 'attention')) = (control_id is not null)", name="control_named"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=blurred_id)
    """Reviewers see it: work and checks are drawn alike, so that it tells nothing."""
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    prompt_id: Mapped[UUID] = mapped_column(ForeignKey("prompts.id"))
    mode: Mapped[str] = mapped_column(default="pair", server_default="pair")
    """'pair', or 'ranking': then ``comparison_items`` has all its completions."""
    completion_a_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    completion_b_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))
    """Of a ranking, 'a' and 'b' are its items 0 and 1."""
    purpose: Mapped[str] = mapped_column(default="work", server_default="work")
    """'work', or why it was made for one reviewer: 'gold', 'attention' (an answer is known), 'repeat' (of an own one).
    Reviewers are never told, and only work counts towards overlap and training."""
    for_reviewer_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    """The only one who is given it; null for work."""
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("comparisons.id"))
    """The work it shows again: nobody is given both, but for repeats."""
    control_id: Mapped[UUID | None] = mapped_column(ForeignKey("controls.id"))
    """The pair with a known answer that it shows."""
    state: Mapped[str] = mapped_column(default="open")
    first_left: Mapped[str]
    """Which completion ('a' or 'b') the first reviewer sees on the left; later reviewers alternate. A ranking is
    shown from its first item on or, for 'b', from its last back."""
    tells: Mapped[str | None]
    """A passage in which an answer speaks of what wrote it, for admins to judge whether the pair is still blind."""
    flags_cleared_at: Mapped[datetime | None]
    """An admin put the comparison back in the queue then: flags before it take nothing out any more."""
    kind: Mapped[str] = mapped_column(default="current", server_default="current")
    """What was set against what when it was made: the current version against itself, against the version before or
    a candidate by the project's shares, or against a candidate for the gate."""
    strategy: Mapped[str] = mapped_column(default="random")
    propensity: Mapped[float | None]
    """Probability with which the strategy chose this pair out of all it could have chosen."""
    importance: Mapped[float] = mapped_column(default=1.0, server_default=text("1"))
    """What its votes are weighted with to get back to prompts and pairs drawn evenly: 1 / (pairs that its prompt
    could have given x propensity)."""
    selection: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What the strategy saw: pool (what there was to choose from), chosen, score, margin (nats), where it has them."""
    created_at: Mapped[CreatedAt]
    closed_at: Mapped[datetime | None]


class ComparisonItem(Base):
    """One of the completions of a ranking. Votes name it by its position."""

    __tablename__ = "comparison_items"
    __table_args__ = (
        UniqueConstraint("comparison_id", "completion_id"),
        CheckConstraint("position between 0 and 7", name="position_range"),
    )

    comparison_id: Mapped[UUID] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    """0 … K − 1, without gaps, in no order that means anything."""
    completion_id: Mapped[UUID] = mapped_column(ForeignKey("completions.id"))


class ComparisonSlot(Base):
    """One of the votes a comparison asks for. Slots are rows, so no count can be overrun.

    free → leased (claimed with FOR UPDATE SKIP LOCKED) → voted; leased → free when the lease expires, the
    reviewer skips, or an undo gives it back and expires; free → closed when the comparison is withdrawn or flagged.
    """

    __tablename__ = "comparison_slots"
    __table_args__ = (
        Index("ix_comparison_slots_free", "project_id", "queue_key", "slot", postgresql_where=text("state = 'free'")),
        Index(
            "ix_comparison_slots_leased", "project_id", "lease_expires_at", postgresql_where=text("state = 'leased'")
        ),
        Index(
            "uq_comparison_slots_assignment_id",
            "assignment_id",
            unique=True,
            postgresql_where=text("assignment_id is not null"),
        ),
        CheckConstraint("state in ('free', 'leased', 'voted', 'closed')", name="state_known"),
        CheckConstraint("(state = 'leased') = (lease_expires_at is not null)", name="leased_has_expiry"),
        CheckConstraint("(state in ('leased', 'voted')) = (assignment_id is not null)", name="held_has_assignment"),
    )

    comparison_id: Mapped[UUID] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(Integer, primary_key=True)
    """0 … votes asked for − 1; odd slots show the other side on the left."""
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    queue_key: Mapped[float]
    """Order in the queue, lowest first."""
    state: Mapped[str] = mapped_column(default="free")
    assignment_id: Mapped[UUID | None] = mapped_column(ForeignKey("assignments.id"))
    lease_expires_at: Mapped[datetime | None]


class Assignment(Base):
    """A reviewer's lease on a comparison, and what became of it. A reviewer has at most one per comparison.

    In the state 'feedback' it is no lease: an API client's own preference, given without a place among the reviewers'.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("comparison_id", "reviewer_id"),
        Index("ix_assignments_reviewer_id_created_at", "reviewer_id", "created_at"),
        Index("ix_assignments_project_id_state", "project_id", "state"),
        Index("ix_assignments_leased", "reviewer_id", "project_id", postgresql_where=text("state = 'leased'")),
        Index(
            "ix_assignments_unread",
            "project_id",
            "comparison_id",
            postgresql_where=text("state = 'voted' and frozen_at is null"),
        ),
        CheckConstraint(
            "state in ('leased', 'voted', 'surplus', 'skipped', 'expired', 'set_aside', 'feedback')",
            name="state_known",
        ),
        CheckConstraint("left_side in ('a', 'b')", name="left_side_known"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    comparison_id: Mapped[UUID] = mapped_column(ForeignKey("comparisons.id"))
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    slot: Mapped[int]
    left_side: Mapped[str]
    """Which completion was shown first in reading order, as answer A: 'a' or 'b' of the comparison. That is the left
    side, unless the page is read from right to left (``votes.mirrored``)."""
    shown_order: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    """Of a ranking: the positions of its items in the order in which they were shown."""
    shown_at: Mapped[datetime | None]
    """When it came to the reviewer's eyes; null while it waits, leased, behind the one in hand."""
    state: Mapped[str] = mapped_column(default="leased")
    leased_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    frozen_at: Mapped[datetime | None]
    """Set by the first round that reads the vote: it can no longer be changed, unless that round makes no version."""
    created_at: Mapped[CreatedAt]


class Look(Base):
    """Until when a reviewer's time is taken by the shortest looks at what they judged, in whichever project."""

    __tablename__ = "looks"

    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    until: Mapped[datetime]


class Vote(Base):
    """One revision of what a reviewer said of a comparison. Rows are only ever added.

    The choice is stored twice: as the reviewer saw it (``shown_choice``: 'left' …) and as the comparison has it
    ('a' …). The latest revision of an assignment is the one that counts; 'undone' takes the earlier ones back.
    """

    __tablename__ = "votes"
    __table_args__ = (
        UniqueConstraint("assignment_id", "revision"),
        Index(
            "uq_votes_idempotency",
            "reviewer_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key is not null"),
        ),
        Index("ix_votes_project_id_created_at", "project_id", "created_at"),
        Index("ix_votes_comparison_id", "comparison_id"),
        Index("ix_votes_reviewer_id_project_id_created_at", "reviewer_id", "project_id", "created_at"),
        ForeignKeyConstraint(["assignment_id"], ["assignments.id"]),
        CheckConstraint(
            "choice in ('a', 'b', 'tie', 'both_bad', 'skip', 'flag', 'undone', 'ranked')", name="choice_known"
        ),
        CheckConstraint(
            "shown_choice in ('left', 'right', 'tie', 'both_bad', 'skip', 'flag', 'undone', 'ranked')",
            name="shown_choice_known",
        ),
        CheckConstraint("(choice = 'ranked') = (ranking is not null)", name="ranked_has_ranking"),
        CheckConstraint("strength is null or strength between 1 and 3", name="strength_range"),
        CheckConstraint("source in ('web', 'api', 'feedback')", name="source_known"),
    )

    id: Mapped[Id]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    comparison_id: Mapped[UUID] = mapped_column(ForeignKey("comparisons.id"))
    assignment_id: Mapped[UUID]
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    revision: Mapped[int]
    choice: Mapped[str]
    """What the reviewer said, of the comparison's own 'a' and 'b'."""
    shown_choice: Mapped[str]
    """The same in terms of what the reviewer saw: 'left', the first answer in reading order, or 'right', the second,
    in place of 'a' and 'b'."""
    mirrored: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether the page read from right to left, so that the first answer (``assignments.left_side``) stood on the right
    of the screen."""
    strength: Mapped[int | None]
    """1 slightly, 2 clearly, 3 much better; null where the project does not ask."""
    comment: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it was skipped or flagged."""
    criteria: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Criterion → 'a', 'b' or 'tie', or {"a": 1 … 5, "b": 1 … 5} on a Likert scale; the comparison's own sides."""
    tags: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    """Reasons that were ticked, as the project words them."""
    ranking: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Of 'ranked': tiers of item positions, the best first; items of one tier are tied. [[2], [0, 1], [3]]"""
    corrected: Mapped[str | None]
    """The reviewer's edit of the answer they preferred (of a ranking: of the one on top)."""
    surplus: Mapped[bool] = mapped_column(default=False)
    """Came after its slot was lost and no slot was free: kept, but outside overlap and training."""
    seconds: Mapped[float | None]
    """Time from showing to choosing, seconds, as the browser measured it."""
    source: Mapped[str]
    idempotency_key: Mapped[str | None]
    created_at: Mapped[CreatedAt]
