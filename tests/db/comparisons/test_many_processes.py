"""Several processes against one Postgres: claiming, voting, repeating, changing, undoing, expiring, withdrawing.

What may never happen, whatever the interleaving: a comparison with more counted votes than slots, a vote stored
twice, an acknowledged vote lost, a vote that is neither counted nor surplus, a deadlock.
"""

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.pool import Pool
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from app.comparisons.errors import NothingToUndoError
from app.comparisons.records import Choice, Leased
from app.comparisons.service import (
    expire_leases,
    lease_ahead,
    lease_next,
    record_vote,
    show_lease,
    undo_last,
    withdraw_unvoted,
)
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.session import SessionFactory, make_engine, make_session_factory, transaction
from app.db.tables import Comparison, ComparisonSlot, Project, Vote
from app.settings import Settings
from tests.factories.rows import make_comparison, make_project, make_user, make_version

PROCESSES = 8
STEPS = 60
CHOICES: tuple[Choice, ...] = ("a", "b", "tie", "both_bad", "a", "b", "skip")
SPAWN = multiprocessing.get_context("spawn")
GATE = 4711
_PASS_GATE = text("SELECT pg_advisory_xact_lock_shared(:n)")


@dataclass
class Log:
    """What one process was told: votes by their key, and everything that was raised."""

    acknowledged: dict[str, UUID] = field(default_factory=dict)
    undone: int = 0
    problems: list[str] = field(default_factory=list)


def _review(url: str, seed: int, project_id: UUID, reviewers: list[UUID], stale: UUID) -> Log:
    """One process: reviewers take turns at whatever a person, a retrying client or the reconciler may do."""
    rng, log = random.Random(seed), Log()
    engine = make_engine(Settings(database_url=url, database_pool_size=1))
    factory = make_session_factory(engine)
    aside: list[tuple[UUID, Leased]] = []
    for _ in range(STEPS):
        reviewer = rng.choice(reviewers)
        try:
            with transaction(factory) as db:
                project = db.get_one(Project, project_id)
                leased = lease_next(db, project=project, reviewer_id=reviewer)
            if rng.random() < 0.15:
                with transaction(factory) as db:
                    expire_leases(db, now=utcnow() + timedelta(hours=1))
            if rng.random() < 0.02:
                with transaction(factory) as db:
                    withdraw_unvoted(db, project=project, sampled_by_other_than=stale)
            if leased is not None and rng.random() < 0.3:  # gone to lunch with the pair on the screen
                aside.append((reviewer, leased))
                reviewer, leased = aside.pop(0) if len(aside) > 4 else (reviewer, None)
            if leased is not None:
                with transaction(factory) as db:  # as the page does: the next one waits behind it
                    ahead = lease_ahead(db, project=project, reviewer_id=reviewer, holding=leased.assignment_id)
                _submit(factory, rng, log, reviewer, leased, f"{seed}-{new_id()}", project, ahead)
            if rng.random() < 0.15:
                with transaction(factory) as db:
                    undo_last(db, project=project, reviewer_id=reviewer)
                log.undone += 1
        except NothingToUndoError:
            continue
        except Exception as error:  # noqa: BLE001 - the parent asserts that there was none
            log.problems.append(f"{type(error).__name__}: {error}")
            break
    engine.dispose()
    return log


def _submit(
    factory: SessionFactory,
    rng: random.Random,
    log: Log,
    reviewer: UUID,
    leased: Leased,
    key: str,
    project: Project,
    ahead: Leased | None,
) -> None:
    """Vote or skip, sometimes twice with the same key, as a client does that got no answer; and show what waits."""
    choice = rng.choice(CHOICES)
    for _ in range(rng.choice((1, 1, 2))):
        with transaction(factory) as db:
            recorded = record_vote(
                db,
                reviewer_id=reviewer,
                assignment_id=leased.assignment_id,
                choice=choice,
                idempotency_key=key,
                source="api",
            )
            if ahead is not None:
                on_screen = ahead.assignment_id
                show_lease(db, project=project, reviewer_id=reviewer, assignment_id=on_screen)
                lease_ahead(db, project=project, reviewer_id=reviewer, holding=on_screen)
        if log.acknowledged.setdefault(key, recorded.vote.id) != recorded.vote.id:
            log.problems.append(f"{key} was answered with two votes")


def _review_all(url: str, project_id: UUID, reviewers: list[UUID]) -> list[str]:
    """One process: its own reviewers take turns, each with a pair waiting, until the queue has nothing for them."""
    engine = make_engine(Settings(database_url=url, database_pool_size=1))
    factory = make_session_factory(engine)
    with transaction(factory) as db:
        db.execute(_PASS_GATE, {"n": GATE})
    problems: list[str] = []
    waiting = list(reviewers)
    while waiting:
        reviewer = waiting.pop(0)
        try:
            with transaction(factory) as db:
                project = db.get_one(Project, project_id)
                leased = lease_next(db, project=project, reviewer_id=reviewer)
                if leased is None:
                    continue
                lease_ahead(db, project=project, reviewer_id=reviewer, holding=leased.assignment_id)
            with transaction(factory) as db:
                record_vote(db, reviewer_id=reviewer, assignment_id=leased.assignment_id, choice="a", source="web")
        except Exception as error:  # noqa: BLE001 - the parent asserts that there was none
            problems.append(f"{type(error).__name__}: {error}")
            break
        waiting.append(reviewer)
    engine.dispose()
    return problems


def _same_vote(url: str, reviewer: UUID, comparison: UUID) -> tuple[UUID, bool]:
    """One process: one submission that others send at the same moment."""
    engine = make_engine(Settings(database_url=url, database_pool_size=1))
    factory = make_session_factory(engine)
    with transaction(factory) as db:
        db.execute(_PASS_GATE, {"n": GATE})
        recorded = record_vote(
            db, reviewer_id=reviewer, comparison_id=comparison, choice="a", idempotency_key="same", source="api"
        )
    engine.dispose()
    return recorded.vote.id, recorded.replayed


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with SPAWN.Pool(PROCESSES) as processes:
        yield processes


@pytest.fixture
def committed(fresh_engine: Engine) -> Iterator[Session]:
    with make_session_factory(fresh_engine)() as session:
        yield session


def all_at_once(db: Session, pool: Pool, work: Callable[..., Any], jobs: list[tuple[Any, ...]]) -> list[Any]:
    """Results of the jobs, a process each: none begins before all of them stand at the gate."""
    db.execute(text("SELECT pg_advisory_lock(:n)"), {"n": GATE})
    pending = pool.starmap_async(work, jobs, chunksize=1)
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while db.execute(waiting).scalar_one() < len(jobs):
        assert not pending.ready()
    db.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": GATE})
    db.commit()
    return pending.get(timeout=120)


def test_whatever_the_interleaving_no_slot_is_overrun_and_no_vote_lost(
    committed: Session, fresh_database: str, pool: Pool
) -> None:
    db = committed
    project = make_project(db, lease_seconds=600, buffer_size=1, round_every_votes=50)
    version, other = make_version(db, project), make_version(db, project, state="retired")
    for number in range(60):
        make_comparison(db, project, version=version, slots=1 + number % 3)
    reviewers = [make_user(db).id for _ in range(6)]
    db.commit()
    jobs = [(fresh_database, seed, project.id, reviewers, other.id) for seed in range(PROCESSES)]
    logs = pool.starmap(_review, jobs, chunksize=1)

    assert [problem for log in logs for problem in log.problems] == []
    acknowledged = {key: vote for log in logs for key, vote in log.acknowledged.items()}
    assert len(acknowledged) > 60
    assert sum(log.undone for log in logs) > 0
    stored = dict(db.execute(select(Vote.idempotency_key, Vote.id).where(Vote.idempotency_key.is_not(None))).all())
    assert stored == acknowledged, "every acknowledged vote is there, once, and no other"

    rows = db.execute(
        text("""
            SELECT a.id, a.comparison_id, a.state, v.choice, v.surplus,
                   (SELECT count(*) FROM comparison_slots s WHERE s.assignment_id = a.id AND s.state = 'voted') AS seats
            FROM assignments a LEFT JOIN LATERAL (
                SELECT choice, surplus FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v ON true
        """)
    ).all()
    for row in rows:
        says = row.choice in ("a", "b", "tie", "both_bad")
        assert says == (row.state in ("voted", "surplus")), row
        assert (row.state == "voted") == (row.seats == 1), row
        assert not says or row.surplus == (row.state == "surplus"), row
    slots = dict(
        db.execute(select(ComparisonSlot.comparison_id, func.count()).group_by(ComparisonSlot.comparison_id)).all()
    )
    counted = Counter(row.comparison_id for row in rows if row.state == "voted")
    assert all(counted[comparison] <= asked for comparison, asked in slots.items())
    for comparison in db.execute(select(Comparison)).scalars():
        full = counted[comparison.id] == slots[comparison.id]
        assert (comparison.state == "complete") == full or comparison.state == "withdrawn", comparison.state
    orphans = text("""
        SELECT count(*) FROM comparison_slots s JOIN comparisons c ON c.id = s.comparison_id
        WHERE s.state = 'free' AND c.state <> 'open'
    """)
    assert db.execute(orphans).scalar_one() == 0
    assert {"voted", "surplus"} <= {row.state for row in rows}, "the run met late votes too"


def test_the_same_submission_from_many_processes_at_once_is_one_vote(
    committed: Session, fresh_database: str, pool: Pool
) -> None:
    db = committed
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    lease_next(db, project=project, reviewer_id=reviewer.id)
    db.commit()
    answers = all_at_once(db, pool, _same_vote, [(fresh_database, reviewer.id, comparison.id)] * PROCESSES)
    assert len({vote for vote, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * (PROCESSES - 1)
    assert db.execute(select(func.count(Vote.id))).scalar_one() == 1


def test_eight_processes_give_each_pair_exactly_its_votes_and_nobody_a_pair_twice(
    committed: Session, fresh_database: str, pool: Pool
) -> None:
    """More reviewers than votes asked for, all at once: what is counted is the overlap, neither more nor less."""
    db = committed
    project = make_project(db, buffer_size=1)
    version = make_version(db, project)
    asked = {make_comparison(db, project, version=version, slots=slots).id: slots for slots in (1, 2, 3, 5) * 10}
    crews = [[make_user(db).id for _ in range(2)] for _ in range(PROCESSES)]
    db.commit()
    problems = all_at_once(db, pool, _review_all, [(fresh_database, project.id, crew) for crew in crews])
    assert problems == [[] for _ in crews]
    votes = db.execute(select(Vote.comparison_id, Vote.reviewer_id).where(~Vote.surplus)).all()
    assert len(set(votes)) == len(votes)
    assert Counter(comparison for comparison, _ in votes) == asked
    assert len({reviewer for _, reviewer in votes}) == 2 * PROCESSES, "everybody was handed something"
