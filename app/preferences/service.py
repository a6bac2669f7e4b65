"""Freezing what a round reads, so that it can be replayed, and no vote it read can change any more."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, text, update
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Assignment, Project, Round, RoundExample
from app.preferences import groups
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
# change one afterwards sees that it is frozen.
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
    db.execute(_LOCK_UNREAD, {"project": project.id}).all()
    now = utcnow()
    collected = collect(db, project, now=now, start=round_.parent_id)
    _write(db, round_, collected.preferences)
    _fix(db, project, collected.read)
    labels = collect_labels(db, project, now=now, start=round_.parent_id)
    freeze_labels(db, round_, labels, first=len(collected.preferences))
    return Frozen(groups.digest(groups.snapshot_lines(db, round_.id)), collected.counts() | {"labels": len(labels)})


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
""")


def _fix(db: Session, project: Project, read: list[UUID]) -> None:
    """No vote that was read can change from now on, whatever the aggregation made of it."""
    for start in range(0, len(read), _ROWS_PER_INSERT):
        db.execute(
            update(Assignment)
            .where(Assignment.id.in_(read[start : start + _ROWS_PER_INSERT]), Assignment.frozen_at.is_(None))
            .values(frozen_at=func.clock_timestamp())
            .execution_options(synchronize_session=False)
        )
    db.execute(_FIX_CHECKS, {"project": project.id})


__all__ = ["Collected", "Frozen", "Preference", "collect", "freeze", "preview"]
