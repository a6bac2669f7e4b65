"""Who is handed which comparison, for how long, and on which side the answers stand."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from app.comparisons import wake
from app.comparisons.errors import PairExistsError, PairInvalidError
from app.comparisons.queries import ready_count
from app.comparisons.service import (
    create_comparison,
    create_ranking,
    expire_leases,
    lease_next,
    record_vote,
    undo_vote,
    withdraw_unvoted,
)
from app.db.base import utcnow
from app.db.tables import Assignment, Comparison, ComparisonSlot, OutboxMessage
from tests.factories.rows import (
    make_comparison,
    make_completion,
    make_project,
    make_prompt,
    make_user,
    make_version,
)


def slots_of(db: Session, comparison: Comparison) -> list[str]:
    query = select(ComparisonSlot.state).where(ComparisonSlot.comparison_id == comparison.id)
    return list(db.execute(query.order_by(ComparisonSlot.slot)).scalars())


def state_of(db: Session, comparison: Comparison) -> str:
    return db.execute(select(Comparison.state).where(Comparison.id == comparison.id)).scalar_one()


def test_a_reviewer_sees_the_answers_in_the_order_of_their_slot(db: Session) -> None:
    project = make_project(db)
    make_comparison(db, project, texts=("alpha", "beta"), slots=2, first_left="b")
    first, second = make_user(db), make_user(db)
    seen_first = lease_next(db, project=project, reviewer_id=first.id)
    seen_second = lease_next(db, project=project, reviewer_id=second.id)
    assert seen_first is not None
    assert seen_second is not None
    assert (seen_first.left, seen_first.right) == ("beta", "alpha")
    assert (seen_second.left, seen_second.right) == ("alpha", "beta")


def test_sides_are_balanced_over_the_reviewers_of_a_pair_and_random_over_pairs(db: Session) -> None:
    project, version = make_project(db), make_version(db, make_project(db))
    version.project_id = project.id
    rng = random.Random(7)
    reviewers = [make_user(db) for _ in range(4)]
    for _ in range(40):
        prompt = make_prompt(db, project)
        pair = [make_completion(db, prompt, version=version) for _ in range(2)]
        create_comparison(db, project=project, completion_a=pair[0], completion_b=pair[1], slots=4, rng=rng)
    for reviewer in reviewers:
        for _ in range(40):
            leased = lease_next(db, project=project, reviewer_id=reviewer.id)
            assert leased is not None
            record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="tie", source="web")
    per_pair = db.execute(select(Assignment.comparison_id, Assignment.left_side)).all()
    assert set(Counter(per_pair).values()) == {2}, "each pair is shown twice each way"
    firsts = Counter(db.execute(select(Comparison.first_left)).scalars())
    assert min(firsts["a"], firsts["b"]) >= 10, "which way comes first is a coin's fall, not a rule"


def test_a_running_lease_is_handed_out_again_and_to_nobody_else(db: Session) -> None:
    project = make_project(db)
    make_comparison(db, project)
    mine, other = make_user(db), make_user(db)
    leased = lease_next(db, project=project, reviewer_id=mine.id)
    assert leased is not None
    assert lease_next(db, project=project, reviewer_id=mine.id) == leased
    assert lease_next(db, project=project, reviewer_id=other.id) is None


def test_the_queue_is_served_in_order(db: Session) -> None:
    project = make_project(db)
    late = make_comparison(db, project, queue_key=2.0)
    early = make_comparison(db, project, queue_key=1.0)
    reviewer = make_user(db)
    order = []
    for _ in range(2):
        leased = lease_next(db, project=project, reviewer_id=reviewer.id)
        assert leased is not None
        order.append(leased.comparison_id)
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
    assert order == [early.id, late.id]


def test_an_expired_lease_goes_to_others_and_comes_back_only_when_nothing_else_is_there(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    slow = make_comparison(db, project)
    fresh = make_comparison(db, project)
    reviewer = make_user(db)
    start = utcnow()
    first = lease_next(db, project=project, reviewer_id=reviewer.id, now=start)
    assert first is not None
    assert first.comparison_id == slow.id
    assert first.expires_at == start + timedelta(seconds=60)
    later = start + timedelta(seconds=61)
    second = lease_next(db, project=project, reviewer_id=reviewer.id, now=later)
    assert second is not None
    assert second.comparison_id == fresh.id
    record_vote(db, reviewer_id=reviewer.id, assignment_id=second.assignment_id, choice="a", source="web", now=later)
    again = lease_next(db, project=project, reviewer_id=reviewer.id, now=later)
    assert again is not None
    assert again.assignment_id == first.assignment_id
    assert (again.left, again.right) == (first.left, first.right), "the same reviewer never sees it mirrored"
    other = lease_next(db, project=project, reviewer_id=make_user(db).id, now=later + timedelta(seconds=61))
    assert other is not None
    assert other.comparison_id == slow.id


def test_a_skipped_comparison_is_free_for_others_and_not_offered_again(db: Session) -> None:
    project = make_project(db)
    comparison = make_comparison(db, project)
    reviewer, other = make_user(db), make_user(db)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="skip", source="web")
    assert slots_of(db, comparison) == ["free"]
    assert lease_next(db, project=project, reviewer_id=reviewer.id) is None
    assert lease_next(db, project=project, reviewer_id=other.id) is not None


def test_expiry_frees_slots_once_and_only_those_that_ran_out(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    comparison = make_comparison(db, project, slots=2)
    start = utcnow()
    lease_next(db, project=project, reviewer_id=make_user(db).id, now=start)
    lease_next(db, project=project, reviewer_id=make_user(db).id, now=start + timedelta(seconds=30))
    assert ready_count(db, project, now=start) == 0
    assert ready_count(db, project, now=start + timedelta(seconds=60)) == 0
    assert ready_count(db, project, now=start + timedelta(seconds=90)) == 1
    assert expire_leases(db, now=start + timedelta(seconds=60)) == 1
    assert expire_leases(db, now=start + timedelta(seconds=60)) == 0
    assert slots_of(db, comparison) == ["free", "leased"]
    states = Counter(db.execute(select(Assignment.state)).scalars())
    assert states == {"expired": 1, "leased": 1}


def test_what_a_team_of_one_has_judged_or_skipped_is_not_counted_as_ready(db: Session) -> None:
    project, alone = make_project(db, buffer_size=2), make_user(db)
    for _ in range(2):
        make_comparison(db, project, slots=3)
    for choice in ("a", "skip"):
        leased = lease_next(db, project=project, reviewer_id=alone.id)
        assert leased is not None
        record_vote(db, reviewer_id=alone.id, assignment_id=leased.assignment_id, choice=choice, source="web")
    assert lease_next(db, project=project, reviewer_id=alone.id) is None
    assert ready_count(db, project) == 0
    assert db.execute(select(OutboxMessage.task)).scalars().all() == ["hone.refill"]
    assert lease_next(db, project=project, reviewer_id=make_user(db).id) is not None, "others can still judge them"


def test_other_projects_pairs_are_never_handed_out(db: Session) -> None:
    project = make_project(db)
    make_comparison(db, make_project(db))
    assert lease_next(db, project=project, reviewer_id=make_user(db).id) is None


def test_held_out_prompts_are_in_the_queue_like_others(db: Session) -> None:
    project = make_project(db)
    make_comparison(db, project, held_out=True)
    assert lease_next(db, project=project, reviewer_id=make_user(db).id) is not None


@pytest.mark.parametrize(("ready_after", "asks"), [(2, False), (1, True)])
def test_a_buffer_below_half_asks_for_one_refill(db: Session, ready_after: int, asks: bool) -> None:
    project = make_project(db, buffer_size=4)
    for _ in range(ready_after + 1):
        make_comparison(db, project)
    reviewer = make_user(db)
    for _ in range(2):  # asking again while the first message waits adds none
        lease_next(db, project=project, reviewer_id=reviewer.id)
    sent = db.execute(select(OutboxMessage.task, OutboxMessage.args)).all()
    assert sent == ([("hone.refill", [str(project.id)])] if asks else [])


def test_a_buffer_is_counted_when_it_can_have_become_low_and_not_with_every_pair(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "SPARE_SECONDS", 600)
    project = make_project(db, buffer_size=4)
    for _ in range(9):
        make_comparison(db, project)
    counts: list[int] = []

    def count(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        if "AS low" in statement:
            counts.append(handed)

    event.listen(db.connection(), "before_cursor_execute", count)
    for handed in range(1, 9):
        lease_next(db, project=project, reviewer_id=make_user(db).id)
        asked = db.execute(select(func.count()).select_from(OutboxMessage)).scalar_one()
        assert asked == (1 if 9 - handed < 2 else 0)
    assert counts == [1, 8]  # after the first 8 were ready, 6 more than half


def test_no_refill_is_asked_for_while_one_runs_or_backs_off(db: Session) -> None:
    now = utcnow()
    for columns in ({"refill_lease_until": now + timedelta(minutes=1)}, {"refill_due_at": now + timedelta(minutes=1)}):
        project = make_project(db, **columns)
        lease_next(db, project=project, reviewer_id=make_user(db).id, now=now)
    assert db.execute(select(OutboxMessage)).all() == []


def test_a_pair_is_compared_once_in_either_order_and_only_if_it_differs(db: Session) -> None:
    project = make_project(db)
    version, prompt, rng = make_version(db, project), make_prompt(db, project), random.Random(1)
    a, b = make_completion(db, prompt, version=version), make_completion(db, prompt, version=version)
    made = create_comparison(
        db, project=project, completion_a=a, completion_b=b, slots=3, rng=rng, strategy="active", propensity=0.25
    )
    assert (made.strategy, made.propensity, made.state) == ("active", 0.25, "open")
    assert slots_of(db, made) == ["free"] * 3
    with pytest.raises(PairExistsError):
        create_comparison(db, project=project, completion_a=b, completion_b=a, slots=1, rng=rng)
    twin = make_completion(db, prompt, version=version, text=a.text)
    elsewhere = make_completion(db, make_prompt(db, project), version=version)
    for other in (twin, elsewhere, a):
        with pytest.raises(PairInvalidError):
            create_comparison(db, project=project, completion_a=a, completion_b=other, slots=1, rng=rng)
    foreign = make_completion(db, make_prompt(db, make_project(db)), version=version)
    with pytest.raises(PairInvalidError):
        create_comparison(db, project=project, completion_a=a, completion_b=foreign, slots=1, rng=rng)
    with pytest.raises(PairInvalidError):
        create_comparison(db, project=project, completion_a=a, completion_b=b, slots=0, rng=rng)


def test_promotion_withdraws_what_older_versions_wrote_unless_somebody_voted(db: Session) -> None:
    project = make_project(db)
    old, new = make_version(db, project), make_version(db, project)
    voted = make_comparison(db, project, version=old, slots=2)
    reviewer = make_user(db)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
    untouched = make_comparison(db, project, version=old)
    current = make_comparison(db, project, version=new)
    elsewhere = make_comparison(db, make_project(db))
    assert withdraw_unvoted(db, project=project, sampled_by_other_than=new.id) == 1
    assert [state_of(db, c) for c in (voted, untouched, current, elsewhere)] == ["open", "withdrawn", "open", "open"]
    assert slots_of(db, untouched) == ["closed"]
    assert withdraw_unvoted(db, project=project, sampled_by_other_than=new.id) == 0


def test_a_pair_withdrawn_under_a_reviewers_hands_still_takes_their_vote(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    old, new = make_version(db, project), make_version(db, project)
    comparison = make_comparison(db, project, version=old, slots=2)
    quick, slow = make_user(db), make_user(db)
    start = utcnow()
    leases = [lease_next(db, project=project, reviewer_id=who.id, now=start) for who in (quick, slow)]
    assert all(leases)
    withdraw_unvoted(db, project=project, sampled_by_other_than=new.id)
    assert lease_next(db, project=project, reviewer_id=quick.id, now=start) is None, "it is not shown again"
    counted = record_vote(db, reviewer_id=quick.id, comparison_id=comparison.id, choice="a", source="web", now=start)
    assert counted.counted
    expire_leases(db, now=start + timedelta(minutes=2))
    late = record_vote(db, reviewer_id=slow.id, comparison_id=comparison.id, choice="b", source="web")
    assert late.surplus
    assert slots_of(db, comparison) == ["voted", "closed"]
    assert state_of(db, comparison) == "withdrawn"
    undone = undo_vote(db, reviewer_id=quick.id, comparison_id=comparison.id, now=start)
    assert lease_next(db, project=project, reviewer_id=quick.id, now=start) == undone, "mid-change it stays in hand"


def test_candidates_against_the_current_version_are_not_stale(db: Session) -> None:
    project = make_project(db)
    candidate, current = make_version(db, project, state="candidate"), make_version(db, project)
    prompt, rng = make_prompt(db, project), random.Random(0)
    by_candidate, by_current = (make_completion(db, prompt, version=v) for v in (candidate, current))
    by_hand = make_completion(db, prompt, version=None)
    mixed = create_comparison(db, project=project, completion_a=by_candidate, completion_b=by_current, slots=1, rng=rng)
    old_and_human = create_comparison(
        db, project=project, completion_a=by_hand, completion_b=by_candidate, slots=1, rng=rng
    )
    assert withdraw_unvoted(db, project=project, sampled_by_other_than=current.id) == 1
    assert (state_of(db, mixed), state_of(db, old_and_human)) == ("open", "withdrawn")


def test_a_ranking_is_stale_only_when_the_version_wrote_none_of_its_answers(db: Session) -> None:
    project = make_project(db)
    old, current = make_version(db, project, state="retired"), make_version(db, project)
    made = []
    for writers in ((old, old, old), (old, old, current)):
        prompt = make_prompt(db, project)
        items = [make_completion(db, prompt, version=version) for version in writers]
        for position in (0, 1, 2):  # wherever chance puts the current version's answer
            rotated = items[position:] + items[:position]
            ranking = create_ranking(db, project=project, completions=rotated, slots=1, rng=random.Random(position))
            made.append(ranking)
    assert withdraw_unvoted(db, project=project, sampled_by_other_than=current.id) == 3
    assert [state_of(db, ranking) for ranking in made] == ["withdrawn"] * 3 + ["open"] * 3


def test_a_slot_that_lapsed_names_no_holder(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    make_comparison(db, project)
    start = utcnow()
    lease_next(db, project=project, reviewer_id=make_user(db).id, now=start)
    expire_leases(db, now=start + timedelta(seconds=61))
    slot = db.execute(select(ComparisonSlot)).scalar_one()
    db.refresh(slot)
    assert (slot.state, slot.assignment_id, slot.lease_expires_at) == ("free", None, None)
