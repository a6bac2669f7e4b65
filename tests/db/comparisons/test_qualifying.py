"""The qualification round: whom it asks, how it ends and begins anew, and whose word counts meanwhile."""

from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.comparisons.checks import gold_ahead
from app.comparisons.direct import judge_directly
from app.comparisons.qualifying import bar, uses_feedback
from app.comparisons.records import Leased
from app.comparisons.service import expire_leases, lease_ahead, lease_next, record_feedback, record_label, record_vote
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.db.tables import Assignment, AuditEntry, Comparison, Project, Standing, User
from app.preferences.collecting import collect
from app.preferences.labels import collect_labels
from app.reviewers import service
from tests.factories import rows

ROUND = {"qualification_pairs": 3, "qualification_percent": 70}


@pytest.fixture
def project(db: Session) -> Project:
    made = rows.make_project(db, queue=ROUND)
    version = rows.make_version(db, made, number=1)
    for _ in range(6):
        rows.make_comparison(db, made, version=version)
    return made


def gold(db: Session, project: Project, count: int) -> None:
    for _ in range(count):
        rows.make_control(db, project, answer="a")


def purpose(db: Session, leased: Leased | None) -> str | None:
    return None if leased is None else db.get_one(Comparison, leased.comparison_id).purpose


def vote(db: Session, reviewer: User, leased: Leased | None, *, right: bool = True) -> None:
    assert leased is not None
    best = "a" if db.get_one(Comparison, leased.comparison_id).first_left == "a" else "b"
    choice = best if right else {"a": "b", "b": "a"}[best]
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice=choice, source="web")  # type: ignore[arg-type]


def judge(db: Session, project: Project, reviewer: User, *, right: bool = True) -> str | None:
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    if leased is not None:
        vote(db, reviewer, leased, right=right)
    return purpose(db, leased)


def fail(db: Session, project: Project, reviewer: User) -> None:
    assert [judge(db, project, reviewer, right=False) for _ in range(3)] == ["gold"] * 3
    assert lease_next(db, project=project, reviewer_id=reviewer.id) is None
    assert bar(db, project, reviewer.id) == "failed"


def switch(db: Session, project: Project, pairs: int) -> None:
    project.queue = ROUND | {"qualification_pairs": pairs}
    db.flush()


def play(db: Session, project: Project, reviewer: User) -> str:
    """Choose in the playground; what became of it."""
    prompt, version = rows.make_prompt(db, project), rows.make_version(db, project)
    left, right = (rows.make_completion(db, prompt, version=version) for _ in range(2))
    comparison = judge_directly(
        db, project=project, reviewer_id=reviewer.id, left=left, right=right, choice="a", kind="current",
        seconds=None, shown_at=utcnow(), now=utcnow(), rng=Random(1),
    )  # fmt: skip
    return db.scalars(select(Assignment.state).where(Assignment.comparison_id == comparison.id)).one()


def speak(db: Session, project: Project, person: User) -> UUID:
    """Say as an API client which answer is better, and that it is good; the pair."""
    prompt, version = rows.make_prompt(db, project), rows.make_version(db, project)
    a, b = (rows.make_completion(db, prompt, version=version) for _ in range(2))
    record_label(db, project=project, user_id=person.id, completion=a, desirable=True)
    return record_feedback(db, project=project, user_id=person.id, a=a, b=b, choice="a").vote.comparison_id


def learned(db: Session, project: Project) -> int:
    return len(collect(db, project).preferences) + len(collect_labels(db, project))


def test_who_failed_goes_on_when_the_round_is_switched_off_and_no_further_when_it_is_on_again(
    db: Session, project: Project
) -> None:
    gold(db, project, 3)
    reviewer = rows.make_member(db, project)
    fail(db, project, reviewer)
    assert why_empty(db, project, reviewer.id) == "unqualified"
    project.queue = {"gold_percent": 5}  # checks, and no round
    db.flush()
    assert judge(db, project, reviewer) == "work"
    switch(db, project, 3)
    assert judge(db, project, reviewer) is None


def test_deciding_again_takes_gold_pairs_judged_since(db: Session, project: Project) -> None:
    gold(db, project, 5)
    reviewer, admin = rows.make_member(db, project), rows.make_member(db, project, role="admin")
    fail(db, project, reviewer)
    assert gold_ahead(db, project, reviewer.id) == 2, "not enough for another round"
    service.set_qualification(db, project, reviewer.id, "open", actor=admin.id)
    assert bar(db, project, reviewer.id) == "qualifying"
    assert [judge(db, project, reviewer) for _ in range(3)] == ["gold", "gold", None]
    assert why_empty(db, project, reviewer.id) == "no_gold"
    gold(db, project, 1)
    assert [judge(db, project, reviewer) for _ in range(2)] == ["gold", "work"]
    standing = db.get_one(Standing, (project.id, reviewer.id), populate_existing=True)
    assert standing.qualification == "passed"
    said = db.scalars(select(AuditEntry).where(AuditEntry.action == "reviewer.passed")).one()
    assert (said.data["correct"], said.data["judged"]) == (3, 3)


def test_an_old_answer_changed_after_the_reset_is_none_of_the_second_round(db: Session, project: Project) -> None:
    gold(db, project, 6)
    reviewer, admin = rows.make_member(db, project), rows.make_member(db, project, role="admin")
    fail(db, project, reviewer)
    service.set_qualification(db, project, reviewer.id, "open", actor=admin.id)
    for mine in db.scalars(select(Assignment).where(Assignment.reviewer_id == reviewer.id)).all():
        first_left = db.get_one(Comparison, mine.comparison_id).first_left
        good = "a" if first_left == "a" else "b"
        record_vote(db, reviewer_id=reviewer.id, assignment_id=mine.id, choice=good, source="web")  # type: ignore[arg-type]
    assert purpose(db, lease_next(db, project=project, reviewer_id=reviewer.id)) == "gold"


def test_who_judged_before_the_round_began_is_not_sent_through_it(db: Session, project: Project) -> None:
    gold(db, project, 6)
    old, new, player = (rows.make_member(db, project) for _ in range(3))
    switch(db, project, 0)
    assert judge(db, project, old) == "work"
    play(db, project, player)
    switch(db, project, 3)
    assert judge(db, project, old) == "work"
    assert judge(db, project, new) == "gold"
    assert judge(db, project, player) == "gold", "what one asks oneself is no work"
    service.set_qualification(db, project, old.id, "open", actor=None)
    assert judge(db, project, old) == "gold", "an admin wants to know"


def test_no_more_gold_pairs_are_handed_out_than_the_round_takes(db: Session, project: Project) -> None:
    gold(db, project, 6)
    reviewer = rows.make_member(db, project)
    held = lease_next(db, project=project, reviewer_id=reviewer.id)
    kinds = []
    for _ in range(3):
        ahead = lease_ahead(db, project=project, reviewer_id=reviewer.id, holding=held.assignment_id)
        kinds.append(purpose(db, ahead))
        vote(db, reviewer, held)
        held = ahead or lease_next(db, project=project, reviewer_id=reviewer.id)
    assert kinds == ["gold", "gold", None]
    assert purpose(db, held) == "work"
    given = select(Comparison.id).where(Comparison.for_reviewer_id == reviewer.id)
    assert len(db.scalars(given).all()) == 3


def test_a_lapsed_pair_of_work_does_not_come_back_in_the_round(db: Session, project: Project) -> None:
    reviewer, start = rows.make_member(db, project), utcnow() - timedelta(hours=1)
    switch(db, project, 0)
    assert purpose(db, lease_next(db, project=project, reviewer_id=reviewer.id, now=start)) == "work"
    switch(db, project, 3)
    assert expire_leases(db) == 1
    assert lease_next(db, project=project, reviewer_id=reviewer.id) is None


def test_the_playground_counts_nobody_who_has_yet_to_qualify(db: Session, project: Project) -> None:
    gold(db, project, 3)
    reviewer, admin = rows.make_member(db, project), rows.make_member(db, project, role="admin")
    assert play(db, project, reviewer) == "surplus", "they would be asked first"
    judge(db, project, reviewer, right=False)
    assert play(db, project, reviewer) == "surplus"
    for _ in range(2):
        judge(db, project, reviewer, right=False)
    lease_next(db, project=project, reviewer_id=reviewer.id)
    assert play(db, project, reviewer) == "surplus"
    assert learned(db, project) == 0
    assert play(db, project, admin) == "voted"
    service.set_qualification(db, project, reviewer.id, "waived", actor=admin.id)
    assert play(db, project, reviewer) == "voted"


@pytest.mark.parametrize("failed", [True, False])
def test_feedback_of_who_does_not_qualify_is_kept_and_counts_once_they_are_let_through(
    db: Session, project: Project, failed: bool
) -> None:
    gold(db, project, 4)
    project.feedback = "count"
    reviewer, admin = rows.make_member(db, project), rows.make_member(db, project, role="admin")
    if failed:
        fail(db, project, reviewer)
    else:
        judge(db, project, reviewer)
    pair = speak(db, project, reviewer)
    mine = select(Assignment.state).where(Assignment.comparison_id == pair, Assignment.reviewer_id == reviewer.id)
    assert db.scalars(mine).one() == "feedback", "it takes no place"
    assert not uses_feedback(db, project, reviewer.id)
    assert learned(db, project) == 0
    assert collect(db, project).left_out["feedback"] == 1
    service.set_qualification(db, project, reviewer.id, "waived", actor=admin.id)
    assert learned(db, project) == 2


def test_a_program_that_was_never_asked_to_qualify_is_heard(db: Session, project: Project) -> None:
    gold(db, project, 3)
    program = rows.make_member(db, project)
    speak(db, project, program)
    assert bar(db, project, program.id) == "new"
    assert uses_feedback(db, project, program.id)
    assert learned(db, project) == 2
