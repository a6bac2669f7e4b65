"""What a vote changes, what it never changes, and how it is taken back."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from app.comparisons.errors import (
    KeyReusedError,
    LeaseNotFoundError,
    NothingToUndoError,
    VoteFrozenError,
    VoteInvalidError,
)
from app.comparisons.queries import answers, judged, progress, votes_since_last_round
from app.comparisons.records import Choice, Leased
from app.comparisons.service import expire_leases, lease_next, record_vote, undo_last, undo_vote
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Assignment, Comparison, OutboxMessage, Project, User, Vote
from tests.db.comparisons.test_leases import slots_of, state_of
from tests.factories.rows import make_comparison, make_project, make_user


def lease(db: Session, project: Project, reviewer: User) -> Leased:
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    return leased


def assignment_state(db: Session, assignment_id: UUID) -> str:
    return db.execute(select(Assignment.state).where(Assignment.id == assignment_id)).scalar_one()


def history(db: Session, assignment_id: UUID) -> list[tuple[int, str, str]]:
    query = select(Vote.revision, Vote.choice, Vote.shown_choice).where(Vote.assignment_id == assignment_id)
    return [tuple(row) for row in db.execute(query.order_by(Vote.revision))]


@pytest.mark.parametrize(
    ("first_left", "choice", "meant", "shown"),
    [
        ("a", "a", "a", "left"),
        ("a", "b", "b", "right"),
        ("b", "a", "b", "left"),
        ("b", "b", "a", "right"),
        ("b", "tie", "tie", "tie"),
        ("b", "both_bad", "both_bad", "both_bad"),
    ],
)
def test_a_choice_is_stored_as_seen_and_as_meant(
    db: Session, first_left: str, choice: Choice, meant: str, shown: str
) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project, first_left=first_left)
    leased = lease(db, project, reviewer)
    recorded = record_vote(
        db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice=choice, seconds=4.5, source="api"
    )
    assert (recorded.counted, recorded.surplus, recorded.replayed) == (True, False, False)
    assert recorded.vote.choice == choice
    assert history(db, leased.assignment_id) == [(1, meant, shown)]
    assert (slots_of(db, comparison), state_of(db, comparison)) == (["voted"], "complete")
    assert assignment_state(db, leased.assignment_id) == "voted"


def test_a_comparison_is_complete_when_its_last_slot_is_voted(db: Session) -> None:
    project = make_project(db)
    comparison = make_comparison(db, project, slots=2)
    for expected in ("open", "complete"):
        reviewer = make_user(db)
        lease(db, project, reviewer)
        record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="a", source="web")
        assert state_of(db, comparison) == expected
    closed_at = db.execute(select(Comparison.closed_at)).scalar_one()
    assert closed_at is not None


def test_somebody_elses_lease_and_an_unknown_one_look_the_same(db: Session) -> None:
    project, holder, thief = make_project(db), make_user(db), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, holder)
    tries = [
        {"comparison_id": comparison.id},
        {"assignment_id": leased.assignment_id},
        {"comparison_id": new_id()},
        {"assignment_id": new_id()},
    ]
    messages = set()
    for target in tries:
        for act in (
            lambda target=target: record_vote(db, reviewer_id=thief.id, choice="a", source="api", **target),
            lambda target=target: undo_vote(db, reviewer_id=thief.id, **target),
        ):
            with pytest.raises(LeaseNotFoundError) as caught:
                act()
            messages.add(str(caught.value))
    assert len(messages) == 1
    assert db.execute(select(Vote)).all() == []


def test_a_repeated_submission_answers_as_the_first_did(db: Session) -> None:
    project, reviewer = make_project(db, reviewing={"scale": "strength"}), make_user(db)
    comparison = make_comparison(db, project)
    lease(db, project, reviewer)

    def send(**changed: object) -> object:
        vote = {"choice": "b", "strength": 2, "comment": " clearer ", "seconds": 3.0} | changed
        return record_vote(
            db, reviewer_id=reviewer.id, comparison_id=comparison.id, idempotency_key="k1", source="api", **vote
        )

    first = send()
    again = send(seconds=9.0)
    assert again.vote == first.vote
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.counted, again.surplus) == (first.counted, first.surplus)
    for changed in ({"choice": "a"}, {"strength": 1}, {"comment": "other"}):
        with pytest.raises(KeyReusedError):
            send(**changed)
    assert len(db.execute(select(Vote)).all()) == 1


def test_a_key_belongs_to_one_comparison_and_one_reviewer(db: Session) -> None:
    project, reviewer, other = make_project(db), make_user(db), make_user(db)
    first, second = make_comparison(db, project, slots=2), make_comparison(db, project)
    for who in (reviewer, other):
        lease(db, project, who)
        record_vote(db, reviewer_id=who.id, comparison_id=first.id, choice="a", idempotency_key="k", source="api")
    lease(db, project, reviewer)
    with pytest.raises(KeyReusedError):
        record_vote(db, reviewer_id=reviewer.id, comparison_id=second.id, choice="a", idempotency_key="k", source="api")
    assert slots_of(db, second) == ["leased"]


def test_a_replay_is_answered_even_after_the_vote_was_changed_or_frozen(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    vote = {"reviewer_id": reviewer.id, "comparison_id": comparison.id, "source": "api"}
    first = record_vote(db, choice="a", idempotency_key="one", **vote)
    record_vote(db, choice="b", idempotency_key="two", **vote)
    db.execute(update(Assignment).values(frozen_at=utcnow()))
    assert record_vote(db, choice="a", idempotency_key="one", **vote).vote == first.vote
    assert [row[1] for row in history(db, leased.assignment_id)] == ["a", "b"]


def test_a_second_vote_replaces_the_first_and_history_keeps_both(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    for choice in ("a", "both_bad"):
        recorded = record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice=choice, source="web")
        assert recorded.counted
    assert [row[1] for row in history(db, leased.assignment_id)] == ["a", "both_bad"]
    assert slots_of(db, comparison) == ["voted"]
    assert [answer.choice for answer in answers(db, project_id=project.id, reviewer_id=reviewer.id)] == ["both_bad"]


def test_a_late_vote_takes_its_own_slot_again_if_nobody_took_it(db: Session) -> None:
    project, reviewer = make_project(db, lease_seconds=60), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    later = utcnow() + timedelta(hours=1)
    assert expire_leases(db, now=later) == 1
    assert assignment_state(db, leased.assignment_id) == "expired"
    recorded = record_vote(
        db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="a", source="web", now=later
    )
    assert recorded.counted
    assert state_of(db, comparison) == "complete"


def test_a_late_vote_takes_another_free_slot_else_it_is_surplus_and_never_lost(db: Session) -> None:
    project = make_project(db, lease_seconds=60)
    comparison = make_comparison(db, project, slots=2)
    late = [make_user(db) for _ in range(2)]
    for reviewer in late:
        lease(db, project, reviewer)
    later = utcnow() + timedelta(hours=1)
    expire_leases(db, now=later)
    quick = make_user(db)
    taken = lease_next(db, project=project, reviewer_id=quick.id, now=later)
    assert taken is not None
    results = [
        record_vote(db, reviewer_id=r.id, comparison_id=comparison.id, choice="a", source="web", now=later)
        for r in late
    ]
    assert [(r.counted, r.surplus) for r in results] == [(True, False), (False, True)]
    record_vote(db, reviewer_id=quick.id, comparison_id=comparison.id, choice="b", source="web", now=later)
    assert slots_of(db, comparison) == ["voted", "voted"]
    assert votes_since_last_round(db, project) == 2, "surplus stays outside what trains"
    assert len(db.execute(select(Vote)).all()) == 3


def test_undo_gives_the_slot_back_to_the_reviewer_and_appends(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    following = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="a", source="web")
    upcoming = lease(db, project, reviewer)
    assert upcoming.comparison_id == following.id
    back = undo_last(db, project=project, reviewer_id=reviewer.id)
    assert back.assignment_id == leased.assignment_id
    assert (back.left, back.right, back.holds_slot) == (leased.left, leased.right, True)
    assert (slots_of(db, comparison), state_of(db, comparison)) == (["leased"], "open")
    assert db.execute(select(Comparison.closed_at).where(Comparison.id == comparison.id)).scalar_one() is None
    assert lease(db, project, reviewer).assignment_id == leased.assignment_id, "the pair taken back comes first"
    assert lease_next(db, project=project, reviewer_id=make_user(db).id) is None
    record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="b", source="web")
    assert [row[1] for row in history(db, leased.assignment_id)] == ["a", "undone", "b"]
    assert lease(db, project, reviewer).assignment_id == upcoming.assignment_id, "then the one that was in hand"


def test_undoing_twice_is_undoing_once(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparisons = [make_comparison(db, project) for _ in range(2)]
    for _ in comparisons:
        leased = lease(db, project, reviewer)
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
    for _ in range(2):
        undo_vote(db, reviewer_id=reviewer.id, comparison_id=comparisons[1].id)
    assert votes_since_last_round(db, project) == 1


def test_a_reviewer_can_go_back_choice_by_choice(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparisons = [make_comparison(db, project) for _ in range(3)]
    start = utcnow()
    for number, _ in enumerate(comparisons):
        leased = lease(db, project, reviewer)
        record_vote(
            db,
            reviewer_id=reviewer.id,
            assignment_id=leased.assignment_id,
            choice="a",
            source="web",
            now=start + timedelta(seconds=number),
        )
    undone = [undo_last(db, project=project, reviewer_id=reviewer.id).comparison_id for _ in comparisons]
    assert undone == [c.id for c in reversed(comparisons)]
    with pytest.raises(NothingToUndoError):
        undo_last(db, project=project, reviewer_id=reviewer.id)


def test_what_a_round_has_read_cannot_be_changed(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    with pytest.raises(NothingToUndoError):
        undo_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id)
    record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="a", source="web")
    db.execute(update(Assignment).values(frozen_at=utcnow()))
    with pytest.raises(VoteFrozenError):
        undo_last(db, project=project, reviewer_id=reviewer.id)
    for choice in ("b", "skip"):
        with pytest.raises(VoteFrozenError):
            record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice=choice, source="web")
    assert len(history(db, leased.assignment_id)) == 1
    assert votes_since_last_round(db, project) == 0


def test_a_flag_takes_the_pair_out_of_the_queue_and_its_undoing_puts_it_back(db: Session) -> None:
    project, reviewer, other, third = make_project(db), make_user(db), make_user(db), make_user(db)
    comparison = make_comparison(db, project, slots=3)
    lease(db, project, other)
    record_vote(db, reviewer_id=other.id, comparison_id=comparison.id, choice="a", source="web")
    leased = lease(db, project, reviewer)
    with pytest.raises(VoteInvalidError):
        record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="flag", source="web")
    flagged = record_vote(
        db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="flag", reason="unsafe", source="web"
    )
    assert not flagged.counted
    assert (slots_of(db, comparison), state_of(db, comparison)) == (["voted", "closed", "closed"], "flagged")
    assert lease_next(db, project=project, reviewer_id=third.id) is None
    undo_last(db, project=project, reviewer_id=reviewer.id)
    assert (slots_of(db, comparison), state_of(db, comparison)) == (["voted", "leased", "free"], "open")
    assert assignment_state(db, leased.assignment_id) == "leased"


def test_one_of_two_flags_taken_back_leaves_the_other_standing(db: Session) -> None:
    project, first, second = make_project(db), make_user(db), make_user(db)
    comparison = make_comparison(db, project, slots=2)
    for reviewer in (first, second):
        lease(db, project, reviewer)
    for reviewer in (first, second):
        record_vote(
            db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="flag", reason="broken", source="web"
        )
    undo_last(db, project=project, reviewer_id=first.id)
    assert (slots_of(db, comparison), state_of(db, comparison)) == (["closed", "closed"], "flagged")
    undo_last(db, project=project, reviewer_id=second.id)
    assert state_of(db, comparison) == "open"


def test_a_skip_can_be_taken_back_while_there_is_a_slot(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    lease(db, project, reviewer)
    record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="skip", source="web")
    assert undo_last(db, project=project, reviewer_id=reviewer.id).holds_slot
    record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="skip", source="web")
    other = make_user(db)
    lease(db, project, other)
    record_vote(db, reviewer_id=other.id, comparison_id=comparison.id, choice="a", source="web")
    assert not undo_last(db, project=project, reviewer_id=reviewer.id).holds_slot
    late = record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, choice="b", source="web")
    assert late.surplus


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "left"},
        {"choice": "undone"},
        {"choice": "a", "strength": 4},
        {"choice": "tie", "strength": 1},
        {"choice": "a", "reason": "unsafe"},
        {"choice": "flag", "reason": "boring"},
        {"choice": "a", "comment": "x" * 4001},
        {"choice": "a", "comment": "nul\x00"},
        {"choice": "a", "seconds": float("nan")},
        {"choice": "a", "seconds": -1.0},
        {"choice": "a", "idempotency_key": " "},
        {"choice": "a", "idempotency_key": "k" * 201},
    ],
)
def test_a_vote_that_does_not_hold_together_is_refused_and_the_lease_stays(
    db: Session, wrong: dict[str, object]
) -> None:
    project, reviewer = make_project(db), make_user(db)
    comparison = make_comparison(db, project)
    leased = lease(db, project, reviewer)
    with pytest.raises(VoteInvalidError) as caught:
        record_vote(db, reviewer_id=reviewer.id, comparison_id=comparison.id, source="api", **wrong)
    assert caught.value.mend
    assert lease_next(db, project=project, reviewer_id=reviewer.id) == leased


def test_the_vote_that_makes_a_round_due_asks_for_a_look_once(db: Session) -> None:
    project, reviewer = make_project(db, round_every_votes=2, buffer_size=1), make_user(db)
    asked = []
    for held_out in (True, False, False, False):
        make_comparison(db, project, held_out=held_out)
        leased = lease(db, project, reviewer)
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
        sent = db.execute(select(OutboxMessage).where(OutboxMessage.task == "hone.tick")).all()
        asked.append(len(sent))
    assert asked == [0, 0, 1, 1]


def test_progress_counts_what_stands(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    for _ in range(5):
        make_comparison(db, project)
    for choice in ("a", "tie", "skip"):
        leased = lease(db, project, reviewer)
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice=choice, source="web")
    mine = progress(db, project=project, reviewer_id=reviewer.id)
    assert (mine.mine_today, mine.mine_any, mine.ready_in_words) == (2, True, "2")
    assert judged(db, project_id=project.id, reviewer_id=reviewer.id) == 2
    tomorrow = progress(db, project=project, reviewer_id=reviewer.id, now=utcnow() + timedelta(days=1))
    assert (tomorrow.mine_today, tomorrow.mine_any) == (0, True)


def test_what_waits_is_counted_up_to_a_hundred_places(db: Session) -> None:
    project, reviewer = make_project(db), make_user(db)
    for _ in range(40):
        make_comparison(db, project, slots=3)
    mine = progress(db, project=project, reviewer_id=reviewer.id)
    assert mine.ready_in_words == "34+"
    assert not mine.mine_any


def test_my_answers_are_mine_alone_newest_first_page_by_page(db: Session) -> None:
    project, reviewer, other = make_project(db), make_user(db), make_user(db)
    start = utcnow()
    chosen = []
    for number in range(5):
        make_comparison(db, project, slots=2)
        for who in (reviewer, other):
            leased = lease(db, project, who)
            record_vote(
                db,
                reviewer_id=who.id,
                assignment_id=leased.assignment_id,
                choice="a",
                source="web",
                now=start + timedelta(seconds=number),
            )
            if who is reviewer:
                chosen.append(leased.assignment_id)
    undo_last(db, project=project, reviewer_id=reviewer.id)
    page = answers(db, project_id=project.id, reviewer_id=reviewer.id, limit=3)
    rest = answers(db, project_id=project.id, reviewer_id=reviewer.id, limit=3, before=page[-1].vote_id)
    assert [a.assignment_id for a in page + rest] == chosen[:4][::-1]
    assert all(a.changeable for a in page)


def test_a_review_takes_few_statements(db: Session) -> None:
    """A lease and a vote are the two things that must stay quick when many people review at once."""
    project, reviewer = make_project(db, round_every_votes=5, buffer_size=2), make_user(db)
    for _ in range(4):
        make_comparison(db, project)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.upper().startswith(("SAVEPOINT", "RELEASE")):
            statements.append(statement)

    connection = db.connection()
    event.listen(connection, "before_cursor_execute", note)
    leased = lease(db, project, reviewer)
    assert len(statements) == 3, "held, claimed, buffer"
    statements.clear()
    record_vote(
        db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", idempotency_key="k", source="api"
    )
    event.remove(connection, "before_cursor_execute", note)
    assert len(statements) == 4, "locked, mine, written, round due"
