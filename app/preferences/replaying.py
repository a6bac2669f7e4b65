"""Which of the votes that may count a round reads: those of the project's window, and a share of what was learned.

Learned is what the model that the round starts from has trained on: the snapshots of the rounds that made that version
and its ancestors. Votes of a round whose version was rejected or rolled back are new to it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.db.tables import Project, Version

_LINE = """
    WITH RECURSIVE line AS (
        SELECT id, parent_id FROM versions WHERE id = :start
        UNION
        SELECT v.id, v.parent_id FROM versions v JOIN line ON v.id = line.parent_id
    )
"""
_LEARNED = text(f"""{_LINE}
    SELECT DISTINCT unnest(e.vote_ids)
    FROM line
    JOIN rounds r ON r.version_id = line.id
    JOIN round_examples e ON e.round_id = r.id AND e.split = 'train' AND (e.kind = 'label') = :labels
""")  # noqa: S608 - composed of constants

# As it was learned last; only of pairs that were decided about at some time: of all others the votes spoke, as now.
_LEARNED_DECISIONS = text(f"""{_LINE}
    SELECT DISTINCT ON (e.comparison_id) e.comparison_id, e.adjudication_id
    FROM line
    JOIN rounds r ON r.version_id = line.id
    JOIN round_examples e ON e.round_id = r.id AND e.split = 'train' AND e.kind = 'pair'
    WHERE EXISTS (SELECT 1 FROM adjudications d WHERE d.comparison_id = e.comparison_id)
    ORDER BY e.comparison_id, r.number DESC
""")  # noqa: S608 - composed of constants


def start_of(db: Session, project: Project) -> UUID | None:
    """The version that a round would start from now."""
    return db.scalar(select(Version.id).where(Version.project_id == project.id, Version.state == "current"))


def learned(db: Session, start: UUID | None, *, labels: bool = False) -> set[UUID]:
    """Ids of the votes, or of the thumbs, that made ``start`` and its ancestors."""
    return set(db.execute(_LEARNED, {"start": start, "labels": labels}).scalars())


def decided_otherwise(db: Session, start: UUID | None, decisions: Mapping[UUID, UUID]) -> set[UUID]:
    """Comparisons that ``start`` and its ancestors learned from, but not as they are decided now.

    Args:
        decisions: comparison → the decision that stands; where there is none, the votes speak.
    """
    rows = db.execute(_LEARNED_DECISIONS, {"start": start})
    return {about for about, decision in rows if decisions.get(about) != decision}


def in_window(at: datetime, now: datetime, window_days: float | None) -> bool:
    """Whether something said then is young enough."""
    return window_days is None or now - at <= timedelta(days=window_days)


def replayed(said: Iterable[tuple[UUID, UUID]], known: set[UUID], percent: float, *, start: UUID | None) -> set[UUID]:
    """What a round reads: everything with something new in it, and so much of the rest that it makes up ``percent``.

    The rest is drawn by a hash of ``start`` and what it is about: another draw for each version, and always the same
    one for the same version, so that what was shown before is what the round reads.

    Args:
        said: (what it is about, vote) of each vote. What it is about is read whole or not at all.
        known: votes that were learned from.

    Returns:
        What of it is read.
    """
    votes: dict[UUID, list[UUID]] = defaultdict(list)
    for about, vote in said:
        votes[about].append(vote)
    read = {about for about, given in votes.items() if not known.issuperset(given)}
    room = sum(len(votes[about]) for about in read) * percent / (100 - percent)
    salt = start.bytes if start else b""
    for about in sorted(votes.keys() - read, key=lambda one: hashlib.sha256(salt + one.bytes).digest()):
        room -= len(votes[about])
        if room < 0:
            break
        read.add(about)
    return read
