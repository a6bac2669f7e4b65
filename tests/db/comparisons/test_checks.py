"""Gold, attention and repeated pairs: handed out at their share, never told apart, never counted as work."""

import re
from collections import Counter
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.orm import Session

from app.comparisons import wake
from app.comparisons.errors import VoteTooFastError
from app.comparisons.queries import progress, ready_count, votes_since_last_round
from app.comparisons.records import Leased
from app.comparisons.service import extend_lease, lease_next, record_vote, undo_vote
from app.comparisons.waiting import why_empty
from app.db.base import utcnow
from app.db.ids import blurred_id
from app.db.tables import Assignment, Comparison, ComparisonSlot, Control, Project, Standing, User
from tests.factories.rows import (
    make_comparison,
    make_control,
    make_member,
    make_project,
    make_prompt,
    make_ranking,
    make_user,
    make_version,
)


def work(db: Session, project: Project, count: int, **columns: object) -> list[Comparison]:
    version = make_version(db, project, number=1)
    return [make_comparison(db, project, version=version, **columns) for _ in range(count)]


def judge(db: Session, project: Project, reviewer: User, rng: Random, choice: str = "a") -> Leased | None:
    """Take one pair and judge it."""
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, rng=rng)
    if leased is not None:
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice=choice, source="web")
    return leased


def purpose(db: Session, leased: Leased | None) -> str | None:
    return None if leased is None else db.get_one(Comparison, leased.comparison_id).purpose


def test_a_reviewer_is_handed_each_kind_at_its_share(db: Session) -> None:
    project = make_project(db, queue={"gold_percent": 10, "attention_percent": 5, "repeat_percent": 10})
    work(db, project, 100)
    for _ in range(12):
        make_control(db, project)
        make_control(db, project, kind="attention")
    reviewer, rng = make_user(db), Random(5)
    kinds = Counter(purpose(db, judge(db, project, reviewer, rng)) for _ in range(100))
    assert 9 <= kinds["gold"] <= 11
    assert 4 <= kinds["attention"] <= 6
    assert 7 <= kinds["repeat"] <= 11  # none before twenty pairs were judged
    assert kinds["work"] == 100 - kinds["gold"] - kinds["attention"] - kinds["repeat"]


def test_a_repeat_is_an_own_earlier_pair_with_the_sides_swapped(db: Session) -> None:
    project = make_project(db, queue={"repeat_percent": 50, "repeat_after": 3})
    work(db, project, 10)
    reviewer, rng = make_user(db), Random(2)
    seen: dict[UUID, Leased] = {}
    repeats = 0
    for _ in range(12):
        leased = judge(db, project, reviewer, rng)
        assert leased is not None
        shown = db.get_one(Comparison, leased.comparison_id)
        if shown.purpose == "repeat":
            earlier = seen.pop(shown.source_id)  # once each
            assert (leased.left, leased.right) == (earlier.right, earlier.left)
            assert leased.messages == earlier.messages
            repeats += 1
        else:
            seen[leased.comparison_id] = leased
    assert repeats >= 3


def test_a_ranking_is_repeated_in_another_order_and_pairs_with_a_known_answer_stay_out(db: Session) -> None:
    project = make_project(
        db, queue={"repeat_percent": 25, "gold_percent": 25, "repeat_after": 1}, reviewing={"mode": "ranking"}
    )
    version = make_version(db, project, number=1)
    for _ in range(8):
        make_ranking(db, project, version=version)
    make_control(db, project)
    reviewer, rng, orders = make_user(db), Random(4), {}
    for _ in range(10):
        leased = lease_next(db, project=project, reviewer_id=reviewer.id, rng=rng)
        if leased is None:
            break
        shown = db.get_one(Comparison, leased.comparison_id)
        assert shown.purpose in ("work", "repeat")
        assert leased.mode == "ranking"
        ranking = [[place] for place in range(len(leased.answers))]
        record_vote(
            db,
            reviewer_id=reviewer.id,
            assignment_id=leased.assignment_id,
            choice="ranked",
            ranking=ranking,
            source="web",
        )
        if shown.purpose == "repeat":
            assert sorted(leased.answers) == sorted(orders[shown.source_id])
            assert leased.answers != orders[shown.source_id]
        orders[leased.comparison_id] = leased.answers
    assert any(db.get_one(Comparison, id_).purpose == "repeat" for id_ in orders)


def test_what_is_given_says_nothing_of_the_kind(db: Session) -> None:
    """Work of three batches, judged by two in turn: each check is as old as the work around it, for either of them."""
    project = make_project(db, queue={"gold_percent": 50})
    version = make_version(db, project, number=1)
    batches = [utcnow() - timedelta(hours=age) for age in (3, 2, 1)]
    for number, batch in enumerate(batches):
        for _ in range(8):
            pair = make_comparison(db, project, version=version, slots=2)
            like = UUID(int=int(batch.timestamp() * 1000) << 80)
            values = {"id": blurred_id(like), "project_id": project.id, "prompt_id": pair.prompt_id}
            values |= {"completion_a_id": pair.completion_a_id, "completion_b_id": pair.completion_b_id}
            db.execute(delete(ComparisonSlot).where(ComparisonSlot.comparison_id == pair.id))
            db.execute(delete(Comparison).where(Comparison.id == pair.id))
            db.add(Comparison(**values, first_left="a"))
            db.flush()
            for slot in range(2):
                row = {"comparison_id": values["id"], "slot": slot, "project_id": project.id}
                db.add(ComparisonSlot(**row, queue_key=float(number)))
        for _ in range(10):
            make_control(db, project)
    db.flush()
    rng, kinds = Random(8), Counter[str]()
    for reviewer in (make_user(db), make_user(db)):
        blocks = []
        for _ in range(24):
            leased = judge(db, project, reviewer, rng)
            assert leased is not None
            assert leased.comparison_id.version == 7
            blocks.append(leased.comparison_id.int >> 94)
            kinds[str(purpose(db, leased))] += 1
        assert blocks == sorted(blocks), "a check would be older or younger than what came before and after it"
        assert set(blocks) <= {int(batch.timestamp() * 1000) >> 14 for batch in batches}
    assert kinds["work"] >= 20
    assert kinds["gold"] >= 20


def test_ids_of_checks_and_of_work_are_drawn_alike(db: Session) -> None:
    """Bit for bit, over all that one reviewer is handed; work is made in a row, checks one by one."""
    project = make_project(db, queue={"gold_percent": 50})
    work(db, project, 150)
    for _ in range(150):
        make_control(db, project)
    reviewer, rng = make_user(db), Random(3)
    ids: dict[str, list[int]] = {"work": [], "gold": []}
    while (leased := judge(db, project, reviewer, rng)) is not None:
        ids[str(purpose(db, leased))].append(leased.comparison_id.int)
    assert len(ids["work"]) == 150
    assert len(ids["gold"]) >= 100
    for bit in range(94):
        share = {kind: sum(id_ >> bit & 1 for id_ in of) / len(of) for kind, of in ids.items()}
        assert abs(share["work"] - share["gold"]) < 0.3, f"bit {bit}: {share}"  # 4.5 standard deviations


def test_work_and_checks_cost_the_same_statements(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time to an answer does not tell: the statements of a lease, counted."""
    monkeypatch.setattr(wake, "SPARE", 0)  # whatever is handed out, the buffer is counted once in so many times
    project = make_project(db, queue={"gold_percent": 50})
    work(db, project, 30)
    for _ in range(20):
        make_control(db, project)
    reviewer, rng = make_user(db), Random(3)
    counts: dict[str, set[tuple[str, ...]]] = {}
    statements: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        verb = re.match(r"\s*(?:SAVEPOINT|RELEASE|(\w+))", statement)
        if verb and verb.group(1):
            statements.append(verb.group(1).lower())

    connection = db.connection()
    event.listen(connection, "before_cursor_execute", note)
    for _ in range(16):
        statements.clear()
        leased = lease_next(db, project=project, reviewer_id=reviewer.id, rng=rng)
        said = tuple(statements)
        assert leased is not None
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
        counts.setdefault(str(purpose(db, leased)), set()).add(said)
    event.remove(connection, "before_cursor_execute", note)
    assert set(counts) == {"work", "gold"}
    assert counts["work"] == counts["gold"]


def test_checks_count_neither_as_ready_nor_as_votes_but_for_the_reviewer_as_done(db: Session) -> None:
    project = make_project(db, queue={"gold_percent": 50})
    work(db, project, 6, slots=2)
    for _ in range(6):
        make_control(db, project)
    reviewer, rng = make_user(db), Random(1)
    kinds = Counter(purpose(db, judge(db, project, reviewer, rng)) for _ in range(8))
    assert kinds["gold"] >= 3
    assert votes_since_last_round(db, project) == kinds["work"]
    assert ready_count(db, project) == 6 - kinds["work"]
    shown = progress(db, project=project, reviewer_id=reviewer.id)
    assert shown.mine_today == 8
    assert shown.ready is None  # a check in hand would leave the number as it was
    # somebody else is never given a check that was made for this reviewer
    other = make_user(db)
    db.execute(update(Project).where(Project.id == project.id).values(queue={}))
    db.refresh(project)
    while judge(db, project, other, rng):
        pass
    mine = db.execute(
        select(func.count())
        .select_from(Assignment)
        .join(Comparison, Comparison.id == Assignment.comparison_id)
        .where(Assignment.reviewer_id == other.id, Comparison.purpose != "work")
    ).scalar_one()
    assert mine == 0


def test_nobody_is_given_a_pair_as_work_and_as_gold(db: Session) -> None:
    project = make_project(db, queue={"gold_percent": 50})
    (pair,) = work(db, project, 1, slots=2)
    first, second, rng = make_user(db), make_user(db), Random(9)
    assert judge(db, project, first, rng).comparison_id == pair.id
    db.add(
        Control(
            project_id=project.id,
            kind="gold",
            prompt_id=pair.prompt_id,
            completion_a_id=pair.completion_a_id,
            completion_b_id=pair.completion_b_id,
            answer="a",
            origin="unanimous",
            source_id=pair.id,
        )
    )
    db.flush()
    for _ in range(6):
        assert lease_next(db, project=project, reviewer_id=first.id, rng=rng) is None
    given = [leased for _ in range(6) if (leased := judge(db, project, second, rng))]
    assert len(given) == 1


def test_gold_is_not_given_twice_nor_to_whoever_wrote_it(db: Session) -> None:
    author, rng = make_user(db), Random(1)
    project = make_project(db, queue={"gold_percent": 50})
    work(db, project, 20, slots=2)
    for _ in range(3):
        make_control(db, project, created_by=author)
    reviewer = make_user(db)
    given = [judge(db, project, reviewer, rng) for _ in range(20)]
    controls = [id_ for leased in given if (id_ := db.get_one(Comparison, leased.comparison_id).control_id)]
    assert sorted(controls) == sorted(set(controls))
    assert len(controls) == 3
    assert {purpose(db, judge(db, project, author, rng)) for _ in range(20)} == {"work"}


def test_own_prompts_are_passed_over_where_the_project_says_so(db: Session) -> None:
    project = make_project(db, queue={"own_prompts": False})
    author, other = make_user(db), make_user(db)
    prompt = make_prompt(db, project)
    prompt.created_by = author.id
    make_comparison(db, project, prompt=prompt)
    theirs = make_comparison(db, project)
    leased = lease_next(db, project=project, reviewer_id=author.id)
    assert leased is not None
    assert leased.comparison_id == theirs.id
    assert lease_next(db, project=project, reviewer_id=other.id).messages == prompt.messages


def test_the_order_of_the_line_is_the_projects_and_follows_when_it_changes(db: Session) -> None:
    project = make_project(db)
    first, second, third = work(db, project, 3, slots=2)
    for age, pair in ((3, first), (2, second), (1, third)):
        pair.created_at = utcnow() - timedelta(hours=age)
    db.flush()

    def handed(order: str) -> list[UUID]:
        project.queue = {"order": order}
        db.flush()
        ids = []
        for _ in range(4):
            with db.begin_nested() as savepoint:
                leased = lease_next(db, project=project, reviewer_id=make_user(db).id)
                assert leased is not None
                ids.append(leased.comparison_id)
                savepoint.commit()
        db.execute(update(ComparisonSlot).values(state="free", assignment_id=None, lease_expires_at=None))
        return ids

    assert handed("newest") == [third.id, third.id, second.id, second.id]
    assert handed("breadth") == [first.id, second.id, third.id, first.id]
    assert handed("oldest") == [first.id, first.id, second.id, second.id]
    assert len(set(handed("random"))) >= 2


@pytest.mark.parametrize(("right", "outcome"), [(4, "passed"), (2, "failed")])
def test_a_qualification_round_comes_before_real_work(db: Session, right: int, outcome: str) -> None:
    project = make_project(db, queue={"qualification_pairs": 5, "qualification_percent": 80})
    work(db, project, 3)
    for _ in range(6):
        make_control(db, project, answer="a")
    reviewer, admin, rng = make_member(db, project), make_member(db, project, role="admin"), Random(4)
    for number in range(5):
        leased = lease_next(db, project=project, reviewer_id=reviewer.id, rng=rng)
        assert purpose(db, leased) == "gold"
        shown = db.get_one(Comparison, leased.comparison_id)
        good = "a" if shown.first_left == "a" else "b"
        choice = good if number < right else {"a": "b", "b": "a"}[good]
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice=choice, source="web")
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, rng=rng)
    assert db.get_one(Standing, (project.id, reviewer.id), populate_existing=True).qualification == outcome
    if outcome == "passed":
        assert purpose(db, leased) == "work"
    else:
        assert leased is None
        assert why_empty(db, project, reviewer.id) == "unqualified"
    assert purpose(db, lease_next(db, project=project, reviewer_id=admin.id, rng=rng)) == "work"


def test_a_qualification_round_without_pairs_says_so(db: Session) -> None:
    project = make_project(db, queue={"qualification_pairs": 5})
    work(db, project, 3)
    reviewer = make_member(db, project)
    assert lease_next(db, project=project, reviewer_id=reviewer.id) is None
    assert why_empty(db, project, reviewer.id) == "no_gold"


def test_a_choice_before_the_shortest_look_is_refused_and_can_be_made_again(db: Session) -> None:
    project = make_project(db, queue={"min_seconds": 4})
    work(db, project, 1)
    reviewer, start = make_user(db), utcnow()
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, now=start)
    assert leased is not None

    def vote(after: float, seconds: float | None, choice: str = "a") -> float | None:
        record_vote(
            db,
            reviewer_id=reviewer.id,
            assignment_id=leased.assignment_id,
            choice=choice,
            seconds=seconds,
            source="web",
            now=start + timedelta(seconds=after),
        )
        return None

    for after, seconds in ((3.0, None), (60.0, 1.5), (3.0, 90.0)):
        with pytest.raises(VoteTooFastError):
            vote(after, seconds)
    vote(60.0, 4.5)
    vote(61.0, 0.5, "b")  # a change of mind may be quick


def test_a_skip_or_what_was_taken_back_is_no_look(db: Session) -> None:
    """The first judgement has to wait, whatever came before it."""
    project = make_project(db, queue={"min_seconds": 4})
    work(db, project, 1)
    reviewer, start = make_user(db), utcnow()
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, now=start)
    assert leased is not None

    def vote(after: float, choice: str) -> None:
        now = start + timedelta(seconds=after)
        record_vote(
            db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice=choice, source="api", now=now
        )

    vote(0.1, "skip")
    with pytest.raises(VoteTooFastError):
        vote(0.2, "a")
    undo_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, now=start + timedelta(seconds=0.3))
    with pytest.raises(VoteTooFastError):
        vote(0.4, "b")
    vote(4.5, "a")
    vote(4.6, "b")


def test_the_time_of_a_decision_is_never_longer_than_the_pair_was_there(db: Session) -> None:
    project = make_project(db)
    work(db, project, 1)
    reviewer, start = make_user(db), utcnow()
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, now=start)
    recorded = record_vote(
        db,
        reviewer_id=reviewer.id,
        assignment_id=leased.assignment_id,
        choice="a",
        seconds=500.0,
        source="api",
        now=start + timedelta(seconds=20),
    )
    from app.db.tables import Vote

    assert db.get_one(Vote, recorded.vote.id).seconds == pytest.approx(20.0)


def test_a_lease_is_kept_while_its_reviewer_is_at_work_but_not_for_ever(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    (pair,) = work(db, project, 1)
    reviewer, start = make_user(db), utcnow()
    leased = lease_next(db, project=project, reviewer_id=reviewer.id, now=start)

    def keep(after: float, who: User = reviewer) -> float | None:
        until = extend_lease(
            db,
            reviewer_id=who.id,
            assignment_id=leased.assignment_id,
            now=start + timedelta(seconds=after),
        )
        return None if until is None else (until - start).total_seconds()

    assert keep(50) == pytest.approx(110)
    slot = db.execute(select(ComparisonSlot.lease_expires_at).where(ComparisonSlot.comparison_id == pair.id)).scalar()
    assert (slot - start).total_seconds() == pytest.approx(110)
    assert keep(50, make_user(db)) is None
    for after in range(100, 460, 50):
        keep(after)
    assert keep(460) == pytest.approx(480)
    assert keep(481) is None


def test_a_daily_goal_is_the_projects_or_the_reviewers_own(db: Session) -> None:
    project = make_project(db, queue={"daily_goal": 2})
    work(db, project, 3)
    reviewer, rng = make_user(db), Random(1)
    assert progress(db, project=project, reviewer_id=reviewer.id).goal == 2
    judge(db, project, reviewer, rng)
    assert not progress(db, project=project, reviewer_id=reviewer.id).goal_reached
    judge(db, project, reviewer, rng)
    assert progress(db, project=project, reviewer_id=reviewer.id).goal_reached
    db.add(Standing(project_id=project.id, reviewer_id=reviewer.id, daily_goal=5))
    db.flush()
    assert progress(db, project=project, reviewer_id=reviewer.id).goal == 5
