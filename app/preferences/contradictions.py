"""Pairs on which reviewers contradict each other: those that wait to be settled, and what was said of one.

Looked at are the votes that a round would read, so that nobody settles a quarrel with somebody in quarantine. What is
shown here is in the sides of whoever looks: drawn for each person and pair, and the same whenever they look again.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Boolean, DateTime, bindparam, text
from sqlalchemy.orm import Session

from app.comparisons.records import Side, meant_criteria, meant_of
from app.db.base import utcnow
from app.db.tables import Project
from app.preferences import reading

Age = Literal["week", "month", "older"]
AGES: Mapping[Age, tuple[float, float]] = {"week": (0, 7), "month": (0, 30), "older": (30, 36_500)}
"""How long ago the last vote on a pair may have been given, days."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which contradictions are asked for."""

    criterion: str | None = None
    """Those about this criterion; null: about the choice itself."""
    reviewer_id: UUID | None = None
    """Those in which this reviewer has a vote."""
    age: Age | None = None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A pair that waits, with how many said what."""

    comparison_id: UUID
    messages: list[dict[str, Any]]
    a: str
    b: str
    votes_a: int
    votes_b: int
    neither: int
    """Tie or both bad."""
    at: datetime
    """When the last of them was given."""
    held_out: bool
    waiting: int
    """Pairs that wait, of which this is one."""

    @property
    def fewer(self) -> int:
        """Votes of the smaller side."""
        return min(self.votes_a, self.votes_b)

    @property
    def more(self) -> int:
        """Votes of the larger side."""
        return max(self.votes_a, self.votes_b)

    @property
    def place(self) -> "Place":
        """Where it stands in the list."""
        return self.fewer, self.more - self.fewer, self.at, self.comparison_id


Place = tuple[int, int, datetime, UUID]
"""Votes of the smaller side, by how many the larger one has more, when the last was given, and which pair it is."""


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody said of a pair, in the sides of whoever reads it."""

    who: str
    reviewer_id: UUID
    choice: str
    """'a', 'b', 'tie', 'both_bad', 'skip' or 'flag'."""
    strength: int | None
    criteria: dict[str, Any]
    tags: list[str]
    comment: str | None
    reason: str | None
    corrected: str | None
    at: datetime
    left_out: str | None
    """Why no round reads it; null where one would. See ``app.preferences.records.REASONS``."""
    swapped: bool
    """They saw the two answers the other way round: a comment that says A means B."""
    ranking: None = None


@dataclass(frozen=True, slots=True)
class Disputed:
    """One pair, to be read and settled."""

    comparison_id: UUID
    messages: list[dict[str, Any]]
    answers: tuple[str, ...]
    """As shown: A first."""
    left_side: Side
    """Which of the comparison's completions is A."""
    held_out: bool
    words: list[Word]
    mode: Literal["pair"] = "pair"
    holds_slot: bool = True
    sides: Counter[str] = field(default_factory=Counter)
    """Counted words by choice."""

    @property
    def contested(self) -> bool:
        """Words that count contradict each other: in the choice, or in a criterion."""
        counted = [word for word in self.words if word.left_out is None]
        said = [{"": word.choice} | {key: _side(value) for key, value in word.criteria.items()} for word in counted]
        keys = {key for one in said for key in one}
        return any({"a", "b"} <= {one.get(key) for one in said} for key in keys)


def side_for(comparison_id: UUID, viewer_id: UUID) -> Side:
    """Which completion of a pair is A for this person: as good as drawn, and always the same."""
    drawn = hashlib.sha256(comparison_id.bytes + viewer_id.bytes).digest()[0] % 2
    return "a" if drawn else "b"


_CONTESTED = f"""
    WITH spoken AS ({reading.SPOKEN}), said AS (
        SELECT s.comparison_id, s.reviewer_id, s.created_at,
               CASE WHEN CAST(:criterion AS text) IS NULL THEN s.choice
                    ELSE CASE jsonb_typeof(s.criteria -> :criterion)
                         WHEN 'string' THEN s.criteria ->> :criterion
                         WHEN 'object' THEN CASE sign((s.criteria -> :criterion ->> 'a')::numeric
                                                      - (s.criteria -> :criterion ->> 'b')::numeric)
                                            WHEN 1 THEN 'a' WHEN -1 THEN 'b' ELSE 'tie' END
                         END
               END AS side
        FROM spoken s WHERE s.left_out IS NULL AND s.choice <> 'ranked'
    ), counted AS (
        SELECT comparison_id, count(*) FILTER (WHERE side = 'a') AS votes_a,
               count(*) FILTER (WHERE side = 'b') AS votes_b,
               count(*) FILTER (WHERE side IN ('tie', 'both_bad')) AS neither, max(created_at) AS at
        FROM said
        GROUP BY comparison_id
        HAVING CAST(:reviewer AS uuid) IS NULL OR bool_or(reviewer_id = :reviewer)
    ), waiting AS (
        SELECT n.*, count(*) OVER () AS waiting
        FROM counted n
        WHERE n.votes_a > 0 AND n.votes_b > 0 AND n.at > :after AND n.at <= :until
          AND NOT EXISTS (
            SELECT 1 FROM adjudications d WHERE d.comparison_id = n.comparison_id AND d.withdrawn_at IS NULL)
    )
"""  # noqa: S608 - composed of constants
_IN_ORDER = "ORDER BY least(n.votes_a, n.votes_b) DESC, abs(n.votes_a - n.votes_b), n.at DESC, n.comparison_id"
_TYPED = (
    bindparam("asks", type_=Boolean),
    bindparam("after", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)
_WAITING = text(f"""{_CONTESTED}
    SELECT n.*, p.messages, x.text AS a, y.text AS b, p.held_out
    FROM waiting n
    JOIN comparisons c ON c.id = n.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    WHERE CAST(:fewer AS bigint) IS NULL
       OR (-least(n.votes_a, n.votes_b), abs(n.votes_a - n.votes_b)) > (-:fewer, :ahead)
       OR (-least(n.votes_a, n.votes_b), abs(n.votes_a - n.votes_b)) = (-:fewer, :ahead)
          AND (n.at < :at OR n.at = :at AND n.comparison_id > CAST(:id AS uuid))
    {_IN_ORDER}
    LIMIT :limit OFFSET :offset
""").bindparams(*_TYPED, bindparam("at", type_=DateTime(timezone=True)))  # noqa: S608 - composed of constants
_IDS = text(f"{_CONTESTED} SELECT n.comparison_id FROM waiting n {_IN_ORDER}").bindparams(*_TYPED)  # noqa: S608


def waiting(
    db: Session,
    project: Project,
    viewer_id: UUID,
    wanted: Filter,
    *,
    limit: int = 20,
    offset: int = 0,
    after: Place | None = None,
) -> list[Contradiction]:
    """Pairs that nobody has settled, those with most votes on the smaller side first, then the most even ones.

    Args:
        after: only those that come behind this place.
    """
    fewer, ahead, at, last = after or (None, None, None, None)
    names = _names(project, wanted) | {"limit": limit, "offset": offset}
    rows = db.execute(_WAITING, names | {"fewer": fewer, "ahead": ahead, "at": at, "id": last}).mappings()
    return [_in_sides(Contradiction(**row), side_for(row["comparison_id"], viewer_id)) for row in rows]


def order(db: Session, project: Project, wanted: Filter) -> Sequence[UUID]:
    """All of them, in that order."""
    return db.execute(_IDS, _names(project, wanted)).scalars().all()


def _names(project: Project, wanted: Filter) -> dict[str, Any]:
    now = utcnow()
    youngest, oldest = AGES[wanted.age] if wanted.age else (0, 36_500)
    return reading.values(project) | {
        "criterion": wanted.criterion,
        "reviewer": wanted.reviewer_id,
        "after": now - timedelta(days=oldest),
        "until": now - timedelta(days=youngest) if youngest else now + timedelta(days=1),
    }


def _in_sides(found: Contradiction, left_side: Side) -> Contradiction:
    if left_side == "a":
        return found
    return Contradiction(
        found.comparison_id,
        found.messages,
        a=found.b,
        b=found.a,
        votes_a=found.votes_b,
        votes_b=found.votes_a,
        neither=found.neither,
        at=found.at,
        held_out=found.held_out,
        waiting=found.waiting,
    )


_IS_PAIR = "c.id = :only AND c.project_id = :project AND c.purpose = 'work' AND c.mode = 'pair'"
_EXISTS = text(f"SELECT EXISTS (SELECT 1 FROM comparisons c WHERE {_IS_PAIR})")  # noqa: S608 - composed of constants
_PAIR = text(f"""
    SELECT p.messages, x.text AS a, y.text AS b, p.held_out
    FROM comparisons c
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    WHERE {_IS_PAIR}
""")  # noqa: S608 - composed of constants
_WORDS = text(f"""
    WITH spoken AS ({reading.SPOKEN})
    SELECT coalesce(nullif(u.name, ''), u.email) AS who, s.reviewer_id, s.choice, s.strength, s.criteria, v.tags,
           v.comment, v.reason, v.corrected, s.created_at AS at, s.left_out, a.left_side
    FROM spoken s
    JOIN votes v ON v.id = s.vote_id
    JOIN assignments a ON a.id = s.assignment_id
    JOIN users u ON u.id = s.reviewer_id
    WHERE s.choice <> 'undone'
    ORDER BY s.left_out IS NOT NULL, s.created_at
""").bindparams(bindparam("asks", type_=Boolean))  # noqa: S608 - composed of constants


def is_pair(db: Session, project: Project, comparison_id: UUID) -> bool:
    """Whether the project has such a pair of work."""
    return bool(db.scalar(_EXISTS, {"project": project.id, "only": comparison_id}))


def disputed(db: Session, project: Project, comparison_id: UUID, left_side: Side) -> Disputed | None:
    """A pair with everything that was said of it, A being that completion; null where the project has no such pair."""
    names = reading.values(project, only=comparison_id)
    pair = db.execute(_PAIR, names).one_or_none()
    if pair is None:
        return None
    words = [_word(row, left_side) for row in db.execute(_WORDS, names)]
    return Disputed(
        comparison_id=comparison_id,
        messages=pair.messages,
        answers=(pair.a, pair.b) if left_side == "a" else (pair.b, pair.a),
        left_side=left_side,
        held_out=pair.held_out,
        words=words,
        sides=Counter(word.choice for word in words if word.left_out is None),
    )


def _word(row: Any, left_side: Side) -> Word:
    return Word(
        who=row.who,
        reviewer_id=row.reviewer_id,
        choice=meant_of(row.choice, left_side),
        strength=row.strength,
        criteria=meant_criteria(row.criteria, left_side),
        tags=row.tags,
        comment=row.comment,
        reason=row.reason,
        corrected=row.corrected,
        at=row.at,
        left_out=row.left_out,
        swapped=row.left_side != left_side,
    )


def _side(value: Any) -> str:
    """Which side a criterion speaks for."""
    if not isinstance(value, Mapping):
        return str(value)
    return "a" if value["a"] > value["b"] else "b" if value["b"] > value["a"] else "tie"
