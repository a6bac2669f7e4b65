"""Freezing what a round reads, so that it can be replayed, and no vote it read can change any more.

What no model learned from after all is let go again (``thaw``): a frozen vote is one that a round reads now, or has
made a version of.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from app.comparisons import setting_aside
from app.db.base import utcnow
from app.db.tables import Assignment, Project, Round, RoundExample
from app.preferences import adjudication, groups, reading
from app.preferences.collecting import Collected, Preference, collect
from app.preferences.labels import collect_labels, freeze_labels

_ROWS_PER_INSERT = 2000


@dataclass(frozen=True, slots=True)
class Frozen:
    """A snapshot that was written."""

    hash: str
    """SHA-256 of its groups.jsonl, hexadecimal."""
    counts: dict[str, Any]
    """See ``Collected.counts``."""


# The same lock that a vote takes on its comparison: whoever is changing a vote finishes first, and whoever wants to
# change one afterwards sees that it is frozen. A first vote on another comparison that comes while this runs is not
# locked, could be changed between reading and fixing it, and is left to the next round.
_LOCK_UNREAD = text("""
    SELECT c.id FROM comparisons c
    WHERE c.id IN (SELECT a.comparison_id FROM assignments a
                   WHERE a.project_id = :project AND a.state IN ('voted', 'feedback')
                     AND a.frozen_at IS NULL)
    ORDER BY c.id
    FOR NO KEY UPDATE
""")


def freeze(db: Session, round_: Round) -> Frozen:
    """Write the snapshot of a round: its examples, and on every vote they hold the time from which it is fixed.

    Held-out prompts go to the split 'eval' and nowhere else. The caller holds the round and stores hash and counts
    on it in the same transaction.
    """
    project = db.get_one(Project, round_.project_id)
    held = set(db.execute(_LOCK_UNREAD, {"project": project.id}).scalars())
    now = utcnow()
    collected = collect(db, project, now=now, start=round_.parent_id, held=held)
    _write(db, round_, collected.preferences)
    _fix(db, project, collected.read)
    labels = collect_labels(db, project, now=now, start=round_.parent_id)
    freeze_labels(db, round_, labels, first=len(collected.preferences))
    return Frozen(groups.digest(groups.snapshot_lines(db, round_.id)), collected.counts() | {"labels": len(labels)})


# The rows that ``freeze`` locks, for the same reason.
_LOCK_FROZEN = text("""
    SELECT c.id FROM comparisons c
    WHERE c.id IN (SELECT a.comparison_id FROM assignments a WHERE a.project_id = :project AND a.frozen_at >= :since)
    ORDER BY c.id
    FOR NO KEY UPDATE
""")
_THAW = text("""
    UPDATE assignments SET frozen_at = NULL WHERE project_id = :project AND frozen_at >= :since
    RETURNING reviewer_id
""")
_PAUSED = text("SELECT reviewer_id FROM standings WHERE project_id = :project AND paused_at IS NOT NULL")


def thaw(db: Session, project_id: UUID, since: datetime) -> None:
    """Let go of the votes that were frozen since then: they count as new again, and can be changed.

    Those of reviewers who came into quarantine meanwhile are set aside, as they would have been.
    """
    names = {"project": project_id, "since": since}
    db.execute(_LOCK_FROZEN, names).all()
    spoke = set(db.execute(_THAW, names).scalars())
    for reviewer_id in sorted(spoke.intersection(db.execute(_PAUSED, {"project": project_id}).scalars())):
        setting_aside.set_aside(db, project_id=project_id, reviewer_id=reviewer_id)


def freeze_again(db: Session, round_: Round) -> int:
    """Freeze the votes of a snapshot that was let go; how many of them do not count as they did when it was written.

    Where that is any (changed since, taken back, of a reviewer in quarantine, on a flagged pair, on one that was
    settled otherwise), none is frozen: the snapshot says what nobody says any more.
    """
    project = db.get_one(Project, round_.project_id)
    db.execute(_LOCK_UNREAD, {"project": project.id}).all()
    written = db.execute(
        select(RoundExample.comparison_id, RoundExample.adjudication_id, RoundExample.vote_ids).where(
            RoundExample.round_id == round_.id, RoundExample.kind != "label"
        )
    ).all()
    decisions, votes = adjudication.standing(db, project), reading.read(db, project).votes
    held = {vote for row in written for vote in row.vote_ids}
    lost = held.difference(vote.vote_id for vote in votes)
    for row in written:
        decision = decisions.get(row.comparison_id)
        if row.adjudication_id != (decision.id if decision else None):
            lost.update(row.vote_ids)
    if lost or not held:
        return len(lost)
    # What was read and made no example (a tie that is dropped) is as old.
    newest = max(vote.at for vote in votes if vote.vote_id in held)
    _fix(db, project, [vote.assignment_id for vote in votes if vote.at <= newest], until=newest)
    return 0


def preview(db: Session, project: Project) -> dict[str, Any]:
    """What a round would read now, as ``Collected.counts`` has it, labels too. Nothing is written."""
    return collect(db, project).counts() | {"labels": len(collect_labels(db, project))}


def _write(db: Session, round_: Round, preferences: list[Preference]) -> None:
    for start in range(0, len(preferences), _ROWS_PER_INSERT):
        block = preferences[start : start + _ROWS_PER_INSERT]
        db.execute(
            insert(RoundExample),
            [
                {
                    "round_id": round_.id,
                    "ordinal": start + offset,
                    "kind": item.kind,
                    "comparison_id": item.comparison_id,
                    "prompt_id": item.prompt_id,
                    "completion_a_id": item.completion_a_id,
                    "completion_b_id": item.completion_b_id,
                    "split": item.split,
                    "outcome": item.outcome,
                    "tiers": None if item.tiers is None else [[str(one) for one in tier] for tier in item.tiers],
                    "margin": item.margin,
                    "weight": item.weight,
                    "vote_ids": list(item.vote_ids),
                    "adjudication_id": item.adjudication_id,
                }
                for offset, item in enumerate(block)
            ],
        )


# What was said of checks is fixed along with the votes: what can still be changed would tell them apart.
_FIX_CHECKS = text("""
    UPDATE assignments a SET frozen_at = clock_timestamp()
    FROM comparisons c
    WHERE c.id = a.comparison_id AND c.purpose <> 'work'
      AND a.project_id = :project AND a.state = 'voted' AND a.frozen_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = a.id AND v.created_at > :until)
""")


def _fix(db: Session, project: Project, read: list[UUID], *, until: datetime | None = None) -> None:
    """No vote that was read can change from now on, whatever the aggregation made of it.

    ``until``: what was said of checks later than this stays as it is.
    """
    for start in range(0, len(read), _ROWS_PER_INSERT):
        db.execute(
            update(Assignment)
            .where(Assignment.id.in_(read[start : start + _ROWS_PER_INSERT]), Assignment.frozen_at.is_(None))
            .values(frozen_at=func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )
    db.execute(_FIX_CHECKS, {"project": project.id, "until": until or datetime.max.replace(tzinfo=UTC)})


__all__ = ["Collected", "Frozen", "Preference", "collect", "freeze", "freeze_again", "preview", "thaw"]
