"""What is in the queue: making comparisons, counting them, and taking stale ones out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.comparisons.errors import PairExistsError, PairInvalidError
from app.comparisons.telling import told_by
from app.db.base import utcnow
from app.db.ids import blurred_id
from app.db.tables import Comparison, ComparisonItem, ComparisonSlot, Completion, Project
from app.language import _
from app.projects.reviewing import MAX_ANSWERS, Mode

Kind = Literal["current", "previous", "candidate", "gate"]


@dataclass(frozen=True, slots=True)
class Made:
    """Why a comparison was made, as the refill knows it."""

    kind: Kind = "current"
    importance: float = 1.0
    """Weight of its votes where pairs drawn evenly are meant: see ``app.comparisons.weights``."""
    selection: Mapping[str, Any] = field(default_factory=dict)


def create_comparison(
    db: Session,
    *,
    project: Project,
    completion_a: Completion,
    completion_b: Completion,
    slots: int,
    rng: Random,
    strategy: str = "random",
    propensity: float | None = None,
    now: datetime | None = None,
    made: Made | None = None,
) -> Comparison:
    """Put two completions of one prompt in the queue, to be judged by ``slots`` reviewers, last in line.

    Args:
        rng: decides which completion the first reviewer sees on the left; later reviewers alternate.
        strategy: what chose the pair, with the ``propensity`` (0 … 1) with which it did.
        now: its place in the line is that of a comparison made then.
        made: what else is known of its making.

    Raises:
        PairInvalidError: not two different answers to one prompt of this project, or no slots asked for.
        PairExistsError: the pair is a comparison already, in either order.
    """
    if slots < 1:
        raise PairInvalidError(
            _("%(slots)s votes were asked for.", slots=slots), mend=_("Ask for at least one vote per comparison.")
        )
    if {completion_a.project_id, completion_b.project_id} != {project.id}:
        raise PairInvalidError(_("The answers belong to another project."), mend=_("Compare answers of one project."))
    if completion_a.prompt_id != completion_b.prompt_id:
        raise PairInvalidError(_("The answers are to different prompts."), mend=_("Compare answers to one prompt."))
    if completion_a.text == completion_b.text:
        raise PairInvalidError(_("The answers read the same."), mend=_("Compare answers that differ."))
    values = _comparison(project, (completion_a, completion_b), rng, strategy, propensity, made or Made())
    created = db.execute(
        pg_insert(Comparison).values(**values).on_conflict_do_nothing().returning(Comparison.id)
    ).scalar_one_or_none()
    if created is None:
        raise PairExistsError(
            _("A comparison of these two answers exists already."),
            mend=_("Sample new answers, or use the one there is."),
        )
    _queue(db, project, created, slots, now, rng)
    return db.get_one(Comparison, created)


def create_ranking(
    db: Session,
    *,
    project: Project,
    completions: Sequence[Completion],
    slots: int,
    rng: Random,
    strategy: str = "random",
    propensity: float | None = None,
    now: datetime | None = None,
    made: Made | None = None,
) -> Comparison:
    """Put 2 to 8 completions of one prompt in the queue, to be ranked by ``slots`` reviewers, last in line.

    Args:
        completions: in any order; ``rng`` decides their positions, and which way round the first reviewer sees them.

    Raises:
        PairInvalidError: not 2 to 8 different answers to one prompt of this project, or no slots asked for.
    """
    if slots < 1:
        raise PairInvalidError(
            _("%(slots)s votes were asked for.", slots=slots), mend=_("Ask for at least one vote per comparison.")
        )
    if not 2 <= len(completions) <= MAX_ANSWERS:
        raise PairInvalidError(
            _("%(completions)s answers cannot be ranked.", completions=len(completions)),
            mend=_("Rank between 2 and %(max_answers)s.", max_answers=MAX_ANSWERS),
        )
    if {completion.project_id for completion in completions} != {project.id}:
        raise PairInvalidError(_("The answers belong to another project."), mend=_("Rank answers of one project."))
    if len({completion.prompt_id for completion in completions}) > 1:
        raise PairInvalidError(_("The answers are to different prompts."), mend=_("Rank answers to one prompt."))
    if len({completion.text for completion in completions}) < len(completions):
        raise PairInvalidError(_("Two of the answers read the same."), mend=_("Rank answers that differ."))
    items = rng.sample(list(completions), len(completions))
    values = _comparison(project, items, rng, strategy, propensity, made or Made()) | {"mode": "ranking"}
    db.execute(insert(Comparison), [values])
    db.execute(
        insert(ComparisonItem),
        [
            {"comparison_id": values["id"], "position": position, "completion_id": item.id}
            for position, item in enumerate(items)
        ],
    )
    _queue(db, project, values["id"], slots, now, rng)
    return db.get_one(Comparison, values["id"])


def _comparison(
    project: Project,
    completions: Sequence[Completion],
    rng: Random,
    strategy: str,
    propensity: float | None,
    made: Made,
) -> dict[str, Any]:
    return {
        "id": blurred_id(),
        "project_id": project.id,
        "prompt_id": completions[0].prompt_id,
        "completion_a_id": completions[0].id,
        "completion_b_id": completions[1].id,
        "state": "open",
        "first_left": rng.choice(("a", "b")),
        "strategy": strategy,
        "propensity": propensity,
        "kind": made.kind,
        "importance": made.importance,
        "selection": dict(made.selection),
        "tells": next((told for item in completions if (told := told_by(item.text))), None),
    }


def _queue(db: Session, project: Project, comparison_id: UUID, slots: int, now: datetime | None, rng: Random) -> None:
    at = (now or utcnow()).timestamp()
    drawn = rng.random() if project.queue_order == "random" else 0.0
    slot = {"comparison_id": comparison_id, "project_id": project.id, "state": "free"}
    key = _KEYS[project.queue_order]
    db.execute(
        insert(ComparisonSlot),
        [slot | {"slot": number, "queue_key": key(at, number, drawn)} for number in range(slots)],
    )


# In all orders but "breadth" the slots of a comparison stand together in the line, so that it is complete soon after
# its first vote. Keys stay below infinity, which is where the slots of checks are.
_LINE = 1e11
"""Above any time in seconds: what one more vote costs in the order "breadth"."""
_KEYS: dict[str, Callable[[float, int, float], float]] = {
    "oldest": lambda at, _slot, _drawn: at,
    "newest": lambda at, _slot, _drawn: -at,
    "breadth": lambda at, slot, _drawn: slot * _LINE + at,
    "random": lambda _at, _slot, drawn: drawn,
}
"""Order → the place of a slot in the line, lowest first, by when its comparison was made and its number."""

_REKEY = {
    "oldest": "extract(epoch FROM c.created_at)",
    "newest": "-extract(epoch FROM c.created_at)",
    "breadth": f"s.slot * {_LINE:.0f} + extract(epoch FROM c.created_at)",
    "random": "('x' || substr(md5(c.id::text), 1, 8))::bit(32)::bigint / 4294967296.0",
}

_TAKE_ORDER = text("""
    UPDATE projects SET queue_order = :order WHERE id = :project AND queue_order <> :order RETURNING id
""")


def keep_order(db: Session, project: Project, order: str) -> None:
    """Key the line anew when the project's order is not the one by which it was keyed.

    A slot that somebody is just taking keeps its place.
    """
    if project.queue_order == order:
        return
    if db.execute(_TAKE_ORDER, {"project": project.id, "order": order}).scalar_one_or_none() is not None:
        db.execute(
            text(f"""
                WITH line AS (
                    SELECT s.comparison_id, s.slot, {_REKEY[order]} AS queue_key
                    FROM comparison_slots s JOIN comparisons c ON c.id = s.comparison_id
                    WHERE s.project_id = :project AND c.purpose = 'work' AND c.state = 'open' AND s.state <> 'closed'
                    ORDER BY s.comparison_id, s.slot
                    FOR UPDATE OF s SKIP LOCKED
                )
                UPDATE comparison_slots s SET queue_key = line.queue_key
                FROM line WHERE s.comparison_id = line.comparison_id AND s.slot = line.slot
            """),  # noqa: S608 - composed of constants
            {"project": project.id},
        )
    db.refresh(project, ["queue_order"])


# Every answer of a comparison: the two of a pair, all of a ranking.
_ANSWERS = """
    (SELECT t.version_id FROM completions t WHERE t.id IN (c.completion_a_id, c.completion_b_id)
     UNION ALL
     SELECT t.version_id FROM comparison_items i JOIN completions t ON t.id = i.completion_id
     WHERE i.comparison_id = c.id)
"""

# Stale: another model wrote at least one of the answers, and the given version none of them. Comparisons of two
# versions come first.
_STALE = text(f"""
    SELECT c.id FROM comparisons c
    CROSS JOIN LATERAL (
        SELECT count(t.version_id) AS sampled, coalesce(bool_or(t.version_id = :version), false) AS has_it,
               count(DISTINCT t.version_id) + count(*) FILTER (WHERE t.version_id IS NULL) > 1 AS mixed
        FROM {_ANSWERS} t
    ) wrote
    WHERE c.project_id = :project AND c.state = 'open' AND c.purpose = 'work'
      AND wrote.sampled > 0 AND NOT wrote.has_it
      AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.comparison_id = c.id AND v.choice <> 'undone')
    ORDER BY wrote.mixed DESC, md5(c.id::text)
""")  # noqa: S608 - composed of constants

_UNVOTED_OF = text(f"""
    SELECT c.id FROM comparisons c
    WHERE c.project_id = :project AND c.state = 'open' AND c.purpose = 'work' AND c.kind = ANY(:kinds)
      AND EXISTS (SELECT 1 FROM {_ANSWERS} t WHERE t.version_id = :version)
      AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.comparison_id = c.id AND v.choice <> 'undone')
""")  # noqa: S608 - composed of constants

_UNVOTED_OTHERWISE = text("""
    SELECT c.id FROM comparisons c
    WHERE c.project_id = :project AND c.state = 'open' AND c.purpose = 'work' AND c.mode <> :mode
      AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.comparison_id = c.id AND v.choice <> 'undone')
""")

_WITHDRAW = text("""
    UPDATE comparisons c SET state = 'withdrawn', closed_at = clock_timestamp()
    WHERE c.id = ANY(:ids) AND c.state = 'open'
      AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.comparison_id = c.id AND v.choice <> 'undone')
    RETURNING c.id
""")


def withdraw_unvoted(db: Session, *, project: Project, sampled_by_other_than: UUID, keep_percent: int = 0) -> int:
    """Take out of the queue what other versions sampled and nobody has voted on; how many.

    A reviewer who holds one keeps the lease: a vote within it still counts, and only then the slot closes.

    Args:
        keep_percent: share of them that stays, pairs that compare two versions before those of one version.
    """
    values = {"project": project.id, "version": sampled_by_other_than}
    stale = list(db.execute(_STALE, values).scalars())
    return _withdraw(db, stale[len(stale) * keep_percent // 100 :])


def withdraw_comparing(
    db: Session, *, project: Project, version_id: UUID, kinds: Sequence[Kind] = ("previous", "candidate", "gate")
) -> int:
    """Take out of the queue what was made to set ``version_id`` against another version and nobody has voted on; how
    many."""
    values = {"project": project.id, "version": version_id, "kinds": list(kinds)}
    return _withdraw(db, list(db.execute(_UNVOTED_OF, values).scalars()))


def withdraw_otherwise(db: Session, *, project: Project, mode: Mode) -> int:
    """Take out of the queue what is compared in another way than ``mode`` and nobody has voted on; how many."""
    return _withdraw(db, list(db.execute(_UNVOTED_OTHERWISE, {"project": project.id, "mode": mode}).scalars()))


def _withdraw(db: Session, comparison_ids: list[UUID]) -> int:
    """Comparison before slots, and comparisons in one order, as everywhere in this room."""
    if not comparison_ids:
        return 0
    locked = select(Comparison.id).where(Comparison.id.in_(comparison_ids)).order_by(Comparison.id)
    db.execute(locked.with_for_update(key_share=True)).all()
    withdrawn = list(db.execute(_WITHDRAW, {"ids": comparison_ids}).scalars())
    if withdrawn:
        close_free_slots(db, withdrawn)
    return len(withdrawn)


def close_free_slots(db: Session, comparison_ids: list[UUID]) -> None:
    """Close the free slots of comparisons that the caller has locked.

    All slots are locked first: a lease that is just running out must be seen as what it becomes, or a slot
    could be left free on a comparison that left the queue.
    """
    slots = select(ComparisonSlot.slot).where(ComparisonSlot.comparison_id.in_(comparison_ids))
    db.execute(slots.order_by(ComparisonSlot.comparison_id, ComparisonSlot.slot).with_for_update()).all()
    db.execute(
        update(ComparisonSlot)
        .where(ComparisonSlot.comparison_id.in_(comparison_ids), ComparisonSlot.state == "free")
        .values(state="closed")
        .execution_options(synchronize_session=False)
    )
