"""What to sample next: how many comparisons are missing, of which kind, on which prompts, and from which versions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from app.comparisons.pace import measure
from app.comparisons.queries import ready_count
from app.comparisons.service import withdraw_otherwise
from app.comparisons.stock import Kind
from app.db.tables import Comparison, Completion, Project, Prompt, Round, Version
from app.projects.refilling import DEFAULT_POOL_FACTOR, RefillSettings, refilling_of
from app.projects.reviewing import Mode, reviewing_of
from app.projects.schemas import SamplingSettings
from app.rounds import blind
from app.versions.queries import current, predecessor
from worker.refill.answers import Answer
from worker.refill.lease import Lease

FIRST_WAVE = 4
"""Prompts that a strategy chooses at a time while nothing is ready: who waits should not wait for a large pool."""

WAVE = 16
"""Prompts that a strategy chooses at a time otherwise."""


@dataclass(frozen=True, slots=True)
class ToSample:
    """A prompt to be asked."""

    id: UUID
    messages: list[dict[str, str]]
    held_out: bool = False

    @property
    def text(self) -> str:
        """Its last turn."""
        return self.messages[-1]["content"] if self.messages else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Answers of one version."""

    version_id: UUID
    count: int
    spare: list[Answer] = field(default_factory=list)
    """Sampled earlier and never shown: taken before new ones are sampled."""


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt, and whose answers to it are compared."""

    prompt: ToSample
    kind: Kind
    wanted: tuple[Wanted, ...]
    pooled: bool = False
    """What becomes of its answers is decided together with other prompts'."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one wave of sampling does."""

    version_id: UUID
    """The current one."""
    reference_id: UUID | None
    """What the current version was trained against; None for version 1, which has no implicit reward."""
    training: Mapping[str, Any]
    """The settings of the round that made the current version."""
    states: Mapping[UUID, str]
    """The versions that are sampled, with the state each must still have when its answers are stored."""
    sampling: SamplingSettings
    settings: RefillSettings
    mode: Mode
    slots: int
    """Votes that each comparison asks for."""
    pooled_count: int
    """Prompts to choose out of the pooled jobs."""
    jobs: list[Job]


def make_plan(db: Session, lease: Lease, rng: Random, *, most: int) -> Plan | None:
    """The next wave, at most ``most`` prompts; None when nothing is missing, or there is no model or prompt.

    Where the project has changed between pairs and rankings, what nobody has judged leaves the queue first.

    The gate's comparisons come first. Prompts that were sampled least come first, equals by chance; held-out ones take
    their turn like all others, but no strategy chooses among them: votes that measure are drawn evenly.
    """
    project = db.get_one(Project, lease.project_id, populate_existing=True)
    version = current(db, project)
    if version is None or project.archived_at is not None:
        return None
    settings, reviewing = refilling_of(project.refilling), reviewing_of(project.reviewing)
    withdraw_otherwise(db, project=project, mode=reviewing.mode)
    ready = ready_count(db, project)
    missing = measure(db, project) - ready
    candidate = blind.open_version(db, project.id)
    for_gate = blind.missing(db, project)
    if missing <= 0 and for_gate <= 0:
        return None
    others = _others(db, project, version)
    jobs: list[Job] = []
    if candidate is not None and for_gate > 0:
        others["gate"] = candidate
        jobs += _gate_jobs(db, project, version, candidate, min(for_gate, most), rng)
    pooled_count = 0
    if missing > 0 and len(jobs) < most:
        kinds = _kinds(settings, others, min(missing, most - len(jobs)), rng)
        pooled = settings.strategy != "random"
        per_prompt = 1 if reviewing.mode == "ranking" else settings.pairs_per_prompt
        count_current = math.ceil(kinds.count("current") / per_prompt)
        if pooled:
            count_current = pooled_count = min(count_current, WAVE if ready else FIRST_WAVE)
        room = most - len(jobs) - len(kinds) + kinds.count("current")
        factor = (settings.pool_factor or DEFAULT_POOL_FACTOR) if pooled else 1
        wide = min(count_current * factor, room)
        kinds = [kind for kind in kinds if kind != "current"]
        of_versions: list[tuple[Kind, tuple[tuple[UUID, int], ...]]] = [
            (kind, _either_first(version, others[kind], rng)) for kind in kinds
        ]
        of_versions += [("current", ((version.id, reviewing.answers),))] * wide
        prompts = _least_sampled(db, project, len(of_versions), {job.prompt.id for job in jobs})
        jobs += [
            Job(prompt, kind, tuple(Wanted(*item) for item in wanted), pooled and kind == "current")
            for prompt, (kind, wanted) in zip(prompts, of_versions, strict=False)
        ]
    if not jobs:
        return None
    made_by = db.execute(
        select(Round.reference_id, Round.settings).where(Round.version_id == version.id).limit(1)
    ).one_or_none()
    return Plan(
        version_id=version.id,
        reference_id=None if made_by is None or version.parent_id is None else made_by.reference_id,
        training={} if made_by is None else made_by.settings,
        states={version.id: "current"} | {other.id: other.state for other in others.values()},
        sampling=SamplingSettings.model_validate(project.sampling),
        settings=settings,
        mode=reviewing.mode,
        slots=project.votes_per_comparison,
        pooled_count=pooled_count,
        jobs=_with_spares(db, project, jobs),
    )


def _others(db: Session, project: Project, version: Version) -> dict[Kind, Version]:
    """Whom the current version can be set against, by kind."""
    others: dict[Kind, Version] = {}
    previous = predecessor(db, project)
    if previous is not None:
        others["previous"] = previous
    candidate = db.scalar(
        select(Version)
        .where(Version.project_id == project.id, Version.state == "candidate", Version.number > version.number)
        .order_by(Version.number.desc())
        .limit(1)
    )
    if candidate is not None:
        others["candidate"] = candidate
    return others


def _kinds(settings: RefillSettings, others: Mapping[Kind, Version], count: int, rng: Random) -> list[Kind]:
    """Kinds of ``count`` comparisons, each drawn by the project's shares; what there is no version for is current."""
    shares: dict[Kind, int] = {"previous": settings.previous_percent, "candidate": settings.candidate_percent}
    weights: dict[Kind, int] = {kind: percent for kind, percent in shares.items() if kind in others}
    weights["current"] = 100 - sum(weights.values())
    return rng.choices(list(weights), list(weights.values()), k=count)


def _usable(project: Project) -> ColumnElement[bool]:
    return and_(Prompt.project_id == project.id, Prompt.archived_at.is_(None), Prompt.problem.is_(None))


def _least_sampled(db: Session, project: Project, count: int, but: set[UUID]) -> list[ToSample]:
    query = select(Prompt.id, Prompt.messages, Prompt.held_out).where(_usable(project), Prompt.id.not_in(but))
    return [ToSample(*row) for row in db.execute(query.order_by(Prompt.sampled_count, func.random()).limit(count))]


def _either_first(one: Version, other: Version, rng: Random) -> tuple[tuple[UUID, int], ...]:
    """An answer of each, in an order that is drawn.

    What the second one says is asked for again, hotter, where it is like the answer of the first. If that were always
    the same version, it would be judged by answers that it does not give otherwise.
    """
    both = [(one.id, 1), (other.id, 1)]
    rng.shuffle(both)
    return tuple(both)


def _gate_jobs(
    db: Session, project: Project, version: Version, candidate: Version, count: int, rng: Random
) -> list[Job]:
    """Prompts that the candidate has not learned from come first, then those it was compared on least."""
    asked = (
        select(func.count())
        .select_from(Comparison)
        .join(Completion, Completion.id.in_([Comparison.completion_a_id, Comparison.completion_b_id]))
        .where(
            Comparison.prompt_id == Prompt.id,
            Comparison.kind == "gate",
            Comparison.purpose == "work",
            Completion.version_id == candidate.id,
        )
        .scalar_subquery()
    )
    query = select(Prompt.id, Prompt.messages, Prompt.held_out).where(_usable(project))
    rows = db.execute(query.order_by(asked, Prompt.held_out.desc(), func.random()).limit(count))
    return [
        Job(ToSample(*row), "gate", tuple(Wanted(*item) for item in _either_first(version, candidate, rng)))
        for row in rows
    ]


def _with_spares(db: Session, project: Project, jobs: Sequence[Job]) -> list[Job]:
    """The jobs with what was sampled for them before and never shown."""
    versions = {wanted.version_id for job in jobs for wanted in job.wanted}
    query = (
        select(Completion)
        .where(
            Completion.project_id == project.id,
            Completion.spare,
            Completion.version_id.in_(versions),
            Completion.prompt_id.in_({job.prompt.id for job in jobs}),
        )
        .order_by(Completion.id)
    )
    spares: dict[tuple[UUID, UUID | None], list[Answer]] = {}
    for row in db.scalars(query):
        spares.setdefault((row.prompt_id, row.version_id), []).append(answer_of(row))
    return [
        Job(
            job.prompt,
            job.kind,
            tuple(
                Wanted(
                    wanted.version_id,
                    wanted.count,
                    spares.get((job.prompt.id, wanted.version_id), [])[: wanted.count],
                )
                for wanted in job.wanted
            ),
            job.pooled,
        )
        for job in jobs
    ]


def answer_of(row: Completion) -> Answer:
    """A stored completion of some version."""
    if row.version_id is None:
        raise ValueError(f"completion {row.id} was written by a person, not sampled")
    return Answer(
        row.version_id, row.text, list(row.prompt_ids), list(row.ids), row.end, row.sampling, row.scores, row.id
    )
