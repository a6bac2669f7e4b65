"""Writing down what was sampled and what was made of it, a short transaction each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.comparisons import refill_counts
from app.comparisons.service import Made, create_comparison, create_ranking
from app.db.base import utcnow
from app.db.tables import Comparison, ComparisonSlot, Completion, Project, Prompt, Version
from worker.refill.answers import Answer
from worker.refill.lease import Lease
from worker.refill.plan import Job, Plan
from worker.refill.strategies import Chosen, Option


def gone(db: Session, plan: Plan, job: Job) -> set[UUID]:
    """The versions of a job (the current one among them) that are no longer what they were planned as.

    Their rows are share-locked: a promotion waits for this transaction, and then withdraws what it made.
    """
    ids = {wanted.version_id for wanted in job.wanted} | {plan.version_id}
    query = select(Version.id, Version.state).where(Version.id.in_(ids)).order_by(Version.id)
    found = {row.id: row.state for row in db.execute(query.with_for_update(read=True))}
    return {id_ for id_ in ids if found.get(id_) != plan.states.get(id_)}


def keep(db: Session, lease: Lease, prompt_id: UUID, answers: Sequence[Answer]) -> list[Answer]:
    """Store new answers, spare until something is made of them; those with an id get what was measured since."""
    kept = []
    for answer in answers:
        if answer.id is not None:
            if answer.scores:
                db.execute(update(Completion).where(Completion.id == answer.id).values(scores=answer.scores))
            kept.append(answer)
            continue
        row = Completion(
            project_id=lease.project_id,
            prompt_id=prompt_id,
            version_id=answer.version_id,
            text=answer.text,
            prompt_ids=answer.prompt_ids,
            ids=answer.ids,
            end=answer.end,
            sampling=answer.sampling,
            scores=answer.scores,
            spare=True,
        )
        db.add(row)
        db.flush()
        kept.append(replace(answer, id=row.id))
    return kept


def options_of(plan: Plan, job: Job, answers: Sequence[Answer]) -> list[Option]:
    """What could be made of the answers to one prompt: every pair, or one ranking of all.

    Between two versions, only pairs of one answer of each.
    """
    across = job.kind != "current"
    if across and len({answer.version_id for answer in answers}) < 2:
        return []
    if len(answers) < 2:
        return []
    if plan.mode == "ranking" and not across:
        return [Option(job.prompt.id, job.prompt.text, tuple(answers))]
    return [
        Option(job.prompt.id, job.prompt.text, pair)
        for pair in combinations(answers, 2)
        if not across or pair[0].version_id != pair[1].version_id
    ]


def form(db: Session, lease: Lease, plan: Plan, job: Job, chosen: Chosen, strategy: str, rng: Random) -> None:
    """Queue what was chosen as a comparison. Its answers are spare no more."""
    project = db.get_one(Project, lease.project_id)
    ids = [answer.id for answer in chosen.option.answers]
    rows = {row.id: row for row in db.scalars(select(Completion).where(Completion.id.in_(ids)))}
    completions = [rows[id_] for id_ in ids if id_ is not None]
    rng.shuffle(completions)  # a comparison's own 'a' must not always be the current version
    made = Made(job.kind, chosen.importance, _selection(chosen))
    common: dict[str, Any] = {
        "project": project,
        "slots": plan.slots,
        "rng": rng,
        "strategy": strategy,
        "propensity": chosen.propensity,
        "made": made,
        "now": _amid(db, project, rng) if job.kind == "gate" else None,
    }
    if plan.mode == "ranking":
        create_ranking(db, completions=completions, **common)
    else:
        create_comparison(db, completion_a=completions[0], completion_b=completions[1], **common)
    pass_over(db, chosen.option.answers)


def pass_over(db: Session, answers: Sequence[Answer]) -> None:
    """These answers are spare no more: shown, or left by a strategy, whose leavings are no even draw."""
    ids = [answer.id for answer in answers if answer.id is not None]
    db.execute(
        update(Completion)
        .where(Completion.id.in_(ids), Completion.spare)
        .values(spare=False)
        .execution_options(synchronize_session=False)
    )


def count_attempt(db: Session, prompt_id: UUID) -> None:
    """The prompt was sampled, whatever came of it; others are first in line now."""
    db.execute(
        update(Prompt)
        .where(Prompt.id == prompt_id)
        .values(sampled_count=Prompt.sampled_count + 1)
        .execution_options(synchronize_session=False)
    )


def set_problem(db: Session, prompt_id: UUID, problem: str) -> None:
    """The prompt cannot be sampled; it is passed over and shown to admins until they take it up again."""
    db.execute(
        update(Prompt)
        .where(Prompt.id == prompt_id)
        .values(problem=problem)
        .execution_options(synchronize_session=False)
    )


def count(db: Session, lease: Lease, plan: Plan, counts: Mapping[str, int]) -> None:
    """Add to what admins see."""
    refill_counts.add(db, project_id=lease.project_id, version_id=plan.version_id, counts=counts)


def _selection(chosen: Chosen) -> dict[str, Any]:
    seen: dict[str, Any] = {"pool": chosen.pool, "chosen": chosen.taken}
    if chosen.score is not None:
        seen["score"] = chosen.score
    rewards = [answer.reward for answer in chosen.option.answers]
    known = [reward for reward in rewards if reward is not None]
    if len(known) == len(rewards):
        seen["margin"] = max(known) - min(known)
    return seen


def _amid(db: Session, project: Project, rng: Random) -> datetime:
    """A place in the line among those that wait: a run of the gate's pairs at its end would be noticed, and late."""
    waiting = (
        select(func.min(Comparison.created_at))
        .join(ComparisonSlot, ComparisonSlot.comparison_id == Comparison.id)
        .where(
            Comparison.project_id == project.id,
            Comparison.purpose == "work",
            Comparison.state == "open",
            ComparisonSlot.state == "free",
        )
    )
    now = utcnow()
    first = db.scalar(waiting) or now
    return datetime.fromtimestamp(rng.uniform(first.timestamp(), now.timestamp()), UTC)
