"""Reads: how many pairs are ready, how many votes wait for a round, what a reviewer has said so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ARRAY, RowMapping, bindparam, exists, func, not_, or_, select, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Session

from app.comparisons.records import Choice, Mode, choice_of, meant_criteria, shown_ranking
from app.db.base import utcnow
from app.db.direct import Direct
from app.db.tables import Assignment, Comparison, Project, Prompt
from app.projects.queue import queue_of


def ready_count(db: Session, project: Project, *, now: datetime | None = None) -> int:
    """Open comparisons that anybody could be given: nobody holds one, and nobody has judged or skipped it.

    What some have judged or skipped waits for the others, who may never come: counted as ready, it would keep new
    pairs from a team of one. A lease that ran out leaves no trace here.
    """
    lapsed = (Assignment.state == "leased") & (Assignment.expires_at <= (now or utcnow()))
    touched = exists().where(
        Assignment.comparison_id == Comparison.id, not_(or_(Assignment.state.in_(("expired", "feedback")), lapsed))
    )
    return db.execute(
        select(func.count()).where(
            Comparison.project_id == project.id,
            Comparison.purpose == "work",
            Comparison.state == "open",
            not_(touched),
        )
    ).scalar_one()


def votes_since_last_round(db: Session, project: Project) -> int:
    """Counted votes on prompts that may train, which no round has frozen."""
    return db.execute(
        select(func.count())
        .select_from(Assignment)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .join(Prompt, Prompt.id == Comparison.prompt_id)
        .where(
            Assignment.project_id == project.id,
            Assignment.state == "voted",
            Assignment.frozen_at.is_(None),
            Prompt.held_out.is_(False),
            Comparison.purpose == "work",
        )
    ).scalar_one()


def project_of_comparison(db: Session, comparison_id: UUID) -> UUID | None:
    """The project a comparison belongs to, for deciding who may touch it."""
    return db.execute(select(Comparison.project_id).where(Comparison.id == comparison_id)).scalar_one_or_none()


def is_changeable(db: Session, assignment_id: UUID) -> bool:
    """Whether no round has learned from what was said of it."""
    return db.execute(select(Assignment.frozen_at).where(Assignment.id == assignment_id)).scalar_one() is None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a reviewer and the queue stand."""

    mine_today: int
    """Pairs this reviewer judged since midnight UTC (latest revisions; skips and taken-back ones left out)."""
    mine_any: bool
    """They have judged at least one, ever."""
    more: bool
    """The queue has something that this reviewer could be given, the one in hand not counted."""
    ready: int | None
    """How many; null where the project checks its reviewers: a check in hand would show by leaving it as it was."""
    ready_or_more: bool
    """There are more than ``ready``: counting stops at ``READY_SLOTS`` free places."""
    goal: int | None
    """Pairs to be judged today: the reviewer's own goal, or the project's; null without one."""

    @property
    def goal_reached(self) -> bool:
        """Today's goal is met."""
        return self.goal is not None and self.mine_today >= self.goal

    @property
    def ready_in_words(self) -> str:
        """'12', or '100+' where counting stopped."""
        return f"{self.ready or 0:,}{'+' if self.ready_or_more else ''}"


READY_SLOTS = 100
"""The page says how much is left up to here, and only that it is more beyond: a count of all would take longer the more
there is, with every pair that is shown."""


_PROGRESS = Direct(
    text("""
    SELECT
      (SELECT count(*) FILTER (WHERE choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')) FROM (
         SELECT DISTINCT ON (assignment_id) choice FROM votes
         WHERE reviewer_id = :reviewer AND project_id = :project AND created_at >= :midnight AND source <> 'feedback'
         ORDER BY assignment_id, revision DESC) today) AS mine_today,
      EXISTS (SELECT 1 FROM votes WHERE reviewer_id = :reviewer AND project_id = :project AND source <> 'feedback'
         AND choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')) AS mine_any,
      (SELECT daily_goal FROM standings WHERE project_id = :project AND reviewer_id = :reviewer) AS own_goal,
      count(DISTINCT place.comparison_id) AS ready, count(*) AS places
    FROM (
      SELECT s.comparison_id FROM comparison_slots s
      WHERE s.project_id = :project AND s.state = 'free' AND s.queue_key < 'infinity' AND coalesce((
        SELECT seen.state FROM assignments seen WHERE seen.comparison_id = s.comparison_id
          AND seen.reviewer_id = :reviewer), 'expired') = 'expired'
      ORDER BY s.queue_key LIMIT :most) place
""")
)
_JUDGED = text("""
    SELECT count(*) FROM assignments
    WHERE reviewer_id = :reviewer AND project_id = :project AND state IN ('voted', 'surplus')
""")


def judged(db: Session, *, project_id: UUID, reviewer_id: UUID) -> int:
    """Pairs this reviewer has ever judged (latest revisions; skips and taken-back ones left out)."""
    return int(db.execute(_JUDGED, {"reviewer": reviewer_id, "project": project_id}).scalar_one())


def progress(db: Session, *, project: Project, reviewer_id: UUID, now: datetime | None = None) -> Progress:
    """The reviewer's own count and what is left, for the bar above the pair."""
    midnight = (now or utcnow()).replace(hour=0, minute=0, second=0, microsecond=0)
    values = {"reviewer": reviewer_id, "project": project.id, "midnight": midnight, "most": READY_SLOTS}
    row = _PROGRESS.one(db, values)
    queue = queue_of(project.queue)
    return Progress(
        mine_today=row["mine_today"],
        mine_any=row["mine_any"],
        more=row["ready"] > 0,
        ready=None if queue.checks else row["ready"],
        ready_or_more=not queue.checks and row["places"] >= READY_SLOTS,
        goal=row["own_goal"] or queue.daily_goal,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """A reviewer's latest word on one comparison, as they saw it."""

    vote_id: UUID
    assignment_id: UUID
    comparison_id: UUID
    choice: Choice
    comment: str | None
    reason: str | None
    strength: int | None
    surplus: bool
    changeable: bool
    """No round has learned from it yet."""
    revealed: bool
    """The reviewer was told the versions after this choice: it can be taken back, but another would not be blind."""
    revision: int
    created_at: datetime
    messages: list[dict[str, Any]]
    mode: Mode
    shown: tuple[str, ...]
    """The answers in the order in which they were shown."""
    tags: list[str]
    criteria: dict[str, Any]
    """As seen: 'a' is the answer on the left."""
    ranking: list[list[int]] | None
    """Tiers of places in ``shown``, the best first."""
    corrected: str | None

    @property
    def left(self) -> str:
        """The answer that stood on the left, or first."""
        return self.shown[0]

    @property
    def right(self) -> str:
        """The answer that stood on the right, or second."""
        return self.shown[1]


ANSWER_COLUMNS = """
           v.id AS vote_id, v.assignment_id, v.comparison_id, v.shown_choice, v.comment, v.reason, v.strength,
           v.tags, v.criteria, v.ranking, v.corrected, v.surplus, v.revision, v.created_at, a.frozen_at, a.left_side,
           a.shown_order, c.mode, c.strategy, p.messages, x.text AS text_a, y.text AS text_b,
           CASE WHEN c.mode = 'ranking' THEN (
               SELECT array_agg(t.text ORDER BY i.position)
               FROM comparison_items i JOIN completions t ON t.id = i.completion_id WHERE i.comparison_id = c.id
           ) END AS texts"""
"""What ``answer_of`` reads, of ``ANSWER_TABLES``."""
ANSWER_TABLES = """votes v
    JOIN assignments a ON a.id = v.assignment_id
    JOIN comparisons c ON c.id = v.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id"""
LATEST = """NOT EXISTS (
        SELECT 1 FROM votes later WHERE later.assignment_id = v.assignment_id AND later.revision > v.revision)"""
"""Of the votes ``v``: somebody's latest word on what they were handed."""

# Walked newest first along (reviewer, project, created_at), one row per assignment: only its latest revision.
_ANSWERS_SQL = f"""
    SELECT {ANSWER_COLUMNS}
    FROM {ANSWER_TABLES}
    WHERE v.reviewer_id = :reviewer AND v.choice <> 'undone' AND v.source <> 'feedback' AND {LATEST}
"""  # noqa: S608 - composed of constants
_ANSWERS = text(f"""{_ANSWERS_SQL}
      AND v.project_id = :project
      AND (CAST(:before AS uuid) IS NULL OR (v.created_at, v.id) <
           (SELECT b.created_at, b.id FROM votes b WHERE b.id = :before AND b.reviewer_id = :reviewer))
    ORDER BY v.created_at DESC, v.id DESC
    LIMIT :limit
""")  # noqa: S608 - composed of constants
_ANSWER = text(f"{_ANSWERS_SQL} AND v.assignment_id = :assignment")


def answers(
    db: Session, *, project_id: UUID, reviewer_id: UUID, limit: int = 30, before: UUID | None = None
) -> list[Answer]:
    """What the reviewer said in this project, newest first, one row per pair; choices taken back are left out.

    ``before`` is the ``vote_id`` of the last answer of the page before.
    """
    values = {"reviewer": reviewer_id, "project": project_id, "before": before, "limit": limit}
    return [answer_of(row) for row in db.execute(_ANSWERS, values).mappings()]


def answer(db: Session, *, reviewer_id: UUID, assignment_id: UUID) -> Answer | None:
    """The reviewer's latest word on what that lease handed to them; null when there is none, or it was taken back."""
    values = {"reviewer": reviewer_id, "assignment": assignment_id}
    row = db.execute(_ANSWER, values).mappings().one_or_none()
    return answer_of(row) if row else None


def answer_of(row: RowMapping) -> Answer:
    """What somebody said, as they saw it, of a row of ``ANSWER_COLUMNS``."""
    texts = (row["text_a"], row["text_b"])
    order = (0, 1) if row["left_side"] == "a" else (1, 0)
    if row["mode"] == "ranking":
        texts, order = tuple(row["texts"]), tuple(row["shown_order"])
    return Answer(
        vote_id=row["vote_id"],
        assignment_id=row["assignment_id"],
        comparison_id=row["comparison_id"],
        choice=choice_of(row["shown_choice"]),
        comment=row["comment"],
        reason=row["reason"],
        strength=row["strength"],
        surplus=row["surplus"],
        changeable=row["frozen_at"] is None,
        revealed=row["strategy"] == "playground",
        revision=row["revision"],
        created_at=row["created_at"],
        messages=row["messages"],
        mode=row["mode"],
        shown=tuple(texts[position] for position in order),
        tags=row["tags"],
        criteria=meant_criteria(row["criteria"], row["left_side"]),
        ranking=None if row["ranking"] is None else shown_ranking(row["ranking"], order),
        corrected=row["corrected"],
    )


@dataclass(frozen=True, slots=True)
class Said:
    """One revision of a reviewer's word on a comparison."""

    choice: Choice | Literal["undone"]
    strength: int | None
    created_at: datetime
    ranking: list[list[int]] | None
    """As in ``Answer``."""
    comment: str | None
    reason: str | None


_HISTORY = text("""
    SELECT v.assignment_id, v.shown_choice, v.strength, v.created_at, v.ranking, v.comment, v.reason, a.shown_order
    FROM votes v JOIN assignments a ON a.id = v.assignment_id
    WHERE v.assignment_id = ANY(:assignments)
    ORDER BY v.assignment_id, v.revision
""").bindparams(bindparam("assignments", type_=ARRAY(PG_UUID)))


def histories(db: Session, assignment_ids: Sequence[UUID]) -> dict[UUID, list[Said]]:
    """Everything that was said under each, taken back or not, oldest first."""
    found: dict[UUID, list[Said]] = {}
    for row in db.execute(_HISTORY, {"assignments": list(assignment_ids)}):
        choice = "undone" if row.shown_choice == "undone" else choice_of(row.shown_choice)
        ranking = None if row.ranking is None else shown_ranking(row.ranking, row.shown_order)
        said = Said(choice, row.strength, row.created_at, ranking, row.comment, row.reason)
        found.setdefault(row.assignment_id, []).append(said)
    return found
