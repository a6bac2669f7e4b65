"""Quarantine: reversible, audited, and exact in what it gives back to the queue."""

from random import Random
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.comparisons.service import lease_next, record_vote, undo_vote
from app.comparisons.setting_aside import SetAside
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.db.tables import Assignment, AuditEntry, Comparison, ComparisonSlot, Project, User, Vote
from app.preferences.collecting import collect
from app.reviewers import service, watch
from app.reviewers.errors import AlreadyPausedError, NoReviewerError, NotPausedError
from tests.factories.rows import make_comparison, make_member, make_project, make_user, make_version, make_vote
from tests.fixtures.logged import Logged


@pytest.fixture
def project(db: Session) -> Project:
    project = make_project(db)
    make_version(db, project, number=1)
    return project


def pairs(db: Session, project: Project, count: int, slots: int = 2) -> list[Comparison]:
    version = make_version(db, project, number=9, state="retired")
    return [make_comparison(db, project, version=version, slots=slots) for _ in range(count)]


def judge(db: Session, project: Project, who: User, choice: str = "a") -> UUID | None:
    leased = lease_next(db, project=project, reviewer_id=who.id)
    if leased is None:
        return None
    record_vote(db, reviewer_id=who.id, assignment_id=leased.assignment_id, choice=choice, source="web")
    return leased.comparison_id


def states(db: Session, comparison_id: UUID) -> tuple[str, list[str]]:
    db.expire_all()
    slots = select(ComparisonSlot.state).where(ComparisonSlot.comparison_id == comparison_id)
    return db.get_one(Comparison, comparison_id).state, sorted(db.scalars(slots))


def test_votes_are_set_aside_their_places_filled_by_others_and_brought_back_where_free(
    db: Session, project: Project
) -> None:
    bad, good, third = (make_member(db, project) for _ in range(3))
    first, second = pairs(db, project, 2)
    for _ in range(2):
        judge(db, project, bad, "b")
        judge(db, project, good)
    assert states(db, first.id) == ("complete", ["voted", "voted"])

    assert service.quarantine(db, project, bad.id, reason="too fast", actor=good.id) == SetAside(unread=2, read=0)
    assert states(db, first.id) == ("open", ["free", "voted"])
    assert {item.reviewer_id for item in collect(db, project).preferences} == {good.id}
    assert lease_next(db, project=project, reviewer_id=bad.id) is None
    assert why_empty(db, project, bad.id) == "paused"

    assert judge(db, project, third) == first.id
    released = service.release(db, project, bad.id, actor=good.id)
    assert (released.counted, released.surplus) == (1, 1)
    assert states(db, first.id) == ("complete", ["voted", "voted"])
    assert states(db, second.id) == ("complete", ["voted", "voted"])
    counted = {(item.comparison_id, item.reviewer_id) for item in collect(db, project).preferences}
    assert counted == {(first.id, good.id), (first.id, third.id), (second.id, good.id), (second.id, bad.id)}
    assert db.scalar(select(func.count()).select_from(Vote)) == 5  # nothing was deleted

    about = select(AuditEntry.action).where(AuditEntry.subject == f"user:{bad.id}").order_by(AuditEntry.at)
    assert list(db.scalars(about)) == ["reviewer.quarantine", "reviewer.release"]


def test_what_a_round_has_read_keeps_its_place_and_is_read_again_only_after_the_end(
    db: Session, project: Project
) -> None:
    bad = make_member(db, project)
    (pair,) = pairs(db, project, 1, slots=1)
    judge(db, project, bad)
    db.query(Assignment).update({"frozen_at": utcnow()})
    assert service.quarantine(db, project, bad.id, reason="x", actor=None) == SetAside(unread=0, read=1)
    assert states(db, pair.id) == ("complete", ["voted"])
    assert (collect(db, project).preferences, collect(db, project).left_out) == ([], {"set_aside": 1})
    service.release(db, project, bad.id, actor=None)
    assert [item.reviewer_id for item in collect(db, project).preferences] == [bad.id]


def test_a_pair_in_hand_goes_back_and_a_late_choice_is_kept_without_counting(db: Session, project: Project) -> None:
    bad, good = make_member(db, project), make_member(db, project)
    (pair,) = pairs(db, project, 1, slots=1)
    leased = lease_next(db, project=project, reviewer_id=bad.id)
    service.quarantine(db, project, bad.id, reason="x", actor=good.id)
    assert states(db, pair.id) == ("open", ["free"])
    recorded = record_vote(db, reviewer_id=bad.id, assignment_id=leased.assignment_id, choice="a", source="web")
    assert recorded.surplus
    assert not recorded.counted
    assert states(db, pair.id) == ("open", ["free"])
    undo_vote(db, reviewer_id=bad.id, assignment_id=leased.assignment_id)
    assert states(db, pair.id) == ("open", ["free"])
    assert judge(db, project, good) == pair.id


def test_twice_is_refused_and_so_is_somebody_elses_reviewer(db: Session, project: Project) -> None:
    bad = make_member(db, project)
    with pytest.raises(NotPausedError):
        service.release(db, project, bad.id, actor=None)
    service.quarantine(db, project, bad.id, reason="x", actor=None)
    with pytest.raises(AlreadyPausedError):
        service.quarantine(db, project, bad.id, reason="y", actor=None)
    with pytest.raises(NoReviewerError):
        service.quarantine(db, project, make_user(db).id, reason="z", actor=None)


def crew_with_a_clicker(db: Session, project: Project) -> tuple[User, list[User]]:
    """Five who agree mostly, and one who always chooses the left answer; forty pairs of three votes."""
    rng = Random(5)
    crew = [make_member(db, project) for _ in range(5)]
    clicker = make_member(db, project)
    for comparison in pairs(db, project, 40, slots=3):
        comparison.first_left = rng.choice("ab")
        for slot, who in enumerate([clicker, *rng.sample(crew, 2)]):
            left = comparison.first_left if slot % 2 == 0 else {"a": "b", "b": "a"}[comparison.first_left]
            choice = left if who is clicker else ("a" if rng.random() < 0.85 else "b")
            make_vote(db, comparison, reviewer=who, choice=choice, slot=slot)
    return clicker, crew


def test_the_worker_quarantines_only_where_the_project_wants_it(db: Session, project: Project, logged: Logged) -> None:
    clicker, _ = crew_with_a_clicker(db, project)
    assert watch.due(db) == []
    assert watch.look(db, project) == []
    project.queue = {"bad_faith": "quarantine"}
    db.flush()
    assert watch.due(db) == [project.id]
    assert watch.due(db) == []  # claimed until the next time
    assert watch.look(db, project) == [clicker.id]
    entry = db.scalars(select(AuditEntry).where(AuditEntry.action == "reviewer.quarantine")).one()
    assert entry.actor_id is None
    assert "on the left" in entry.data["reason"]
    assert logged.about("is in quarantine") == [{"project": str(project.id), "slug": project.slug}]
    assert watch.look(db, project) == []


def test_the_worker_spares_admins_and_whom_an_admin_released(db: Session, project: Project) -> None:
    clicker, crew = crew_with_a_clicker(db, project)
    project.queue = {"bad_faith": "quarantine"}
    db.flush()
    assert watch.look(db, project) == [clicker.id]
    service.release(db, project, clicker.id, actor=crew[0].id)
    assert watch.look(db, project) == []
