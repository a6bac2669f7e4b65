"""The playground's rules, without a browser: a choice is taken once, stays blind, and belongs to its person."""

import random
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.comparisons.errors import VersionsKnownError
from app.comparisons.in_hand import PromptInHandError
from app.comparisons.service import lease_next, record_vote, undo_vote
from app.db.tables import Assignment, Comparison, PlaygroundTurn, Project, Prompt, User, Vote
from app.playground import service
from app.playground.errors import ChosenError, NotYetError, TurnLostError, TurnNotFoundError, TurnTakenError
from tests.factories import rows

RNG = random.Random(3)


def answer(text: str, *ids: int) -> dict[str, Any]:
    return {
        "text": text,
        "ids": [*ids, 2],
        "prompt_ids": [1, 5],
        "end": "eos",
        "sampling": {"seed": 1},
        "storable": True,
    }


WHOLE = {"a": answer("One.", 11), "b": answer("Two.", 12)}


@pytest.fixture
def project(db: Session) -> Project:
    made = rows.make_project(db)
    rows.make_version(db, made, number=1)
    return made


@pytest.fixture
def person(db: Session, project: Project) -> User:
    return rows.make_member(db, project)


def asked(db: Session, project: Project, person: User, text: str = "Hello?", **more: Any) -> PlaygroundTurn:
    return service.open_turn(db, project, person.id, text, max_chars=1000, rng=RNG, **more)


def test_a_choice_before_the_end_is_a_vote_when_the_answers_are_whole(
    db: Session, project: Project, person: User
) -> None:
    turn = asked(db, project, person)
    with pytest.raises(TurnLostError):
        service.choose(db, project, turn, "a", 3.0, RNG)
    service.start_writing(db, turn)
    with pytest.raises(TurnTakenError):
        service.start_writing(db, turn)
    db.refresh(turn)
    service.choose(db, project, turn, "b", 3.0, RNG)
    service.choose(db, project, turn, "b", 9.0, RNG)
    with pytest.raises(ChosenError):
        service.choose(db, project, turn, "a", 3.0, RNG)
    assert db.scalars(select(Vote)).all() == []
    assert service.leave(db, turn.id) is True, "somebody has chosen: the answers are needed"
    assert service.finish_writing(db, turn.id, WHOLE, rng=RNG) == "done"
    vote = db.scalars(select(Vote)).one()
    assert (vote.choice, vote.shown_choice, vote.comparison_id) == ("b", "right", turn.comparison_id)


def test_a_question_asked_twice_is_one_prompt_and_others_are_asked_too(
    db: Session, project: Project, person: User
) -> None:
    project.votes_per_comparison = 2
    for _ in range(2):
        turn = asked(db, project, person, "Hello? ")
        service.start_writing(db, turn)
        service.finish_writing(db, turn.id, WHOLE, rng=RNG)
        db.refresh(turn)
        service.choose(db, project, turn, "tie", None, RNG)
    (prompt,) = db.scalars(select(Prompt)).all()
    assert prompt.messages == [{"role": "user", "content": "Hello?"}]
    comparisons = db.scalars(select(Comparison)).all()
    assert [comparison.state for comparison in comparisons] == ["open", "open"]
    assert {row.state for row in db.scalars(select(Assignment))} == {"voted"}


def test_what_cannot_be_compared_is_kept_and_is_no_vote(db: Session, project: Project, person: User) -> None:
    for number, answers in enumerate(
        [
            {"a": answer("Same.", 11), "b": answer("Same.", 12)},
            {"a": answer("One.", 11), "b": {"error": "cut", "text": "T"}},
        ]
    ):
        turn = asked(db, project, person, f"Question {number}")
        service.start_writing(db, turn)
        db.refresh(turn)
        service.choose(db, project, turn, "a", None, RNG)
        state = service.finish_writing(db, turn.id, answers, rng=RNG)
        assert (state, turn.choice, turn.comparison_id) == ("failed" if number else "done", "a", None)
    assert db.scalars(select(Vote)).all() == []


def test_after_the_versions_were_shown_a_choice_can_be_taken_back_and_not_changed(
    db: Session, project: Project, person: User
) -> None:
    turn = asked(db, project, person)
    service.start_writing(db, turn)
    service.finish_writing(db, turn.id, WHOLE, rng=RNG)
    db.refresh(turn)
    service.choose(db, project, turn, "a", None, RNG)
    mine = {"reviewer_id": person.id, "comparison_id": turn.comparison_id}
    with pytest.raises(VersionsKnownError):
        record_vote(db, **mine, choice="b", source="web")
    undo_vote(db, **mine)
    with pytest.raises(VersionsKnownError):
        record_vote(db, **mine, choice="b", source="web")
    record_vote(db, **mine, choice="skip", source="web")
    assert [vote.choice for vote in db.scalars(select(Vote).order_by(Vote.revision))] == ["a", "undone", "skip"]


def test_a_turn_is_its_persons_own_and_goes_on_when_it_is_judged(db: Session, project: Project, person: User) -> None:
    turn = asked(db, project, person)
    other, elsewhere = rows.make_member(db, project), rows.make_project(db)
    with pytest.raises(TurnNotFoundError):
        service.get_turn(db, project, other.id, turn.id)
    with pytest.raises(TurnNotFoundError):
        service.get_turn(db, elsewhere, person.id, turn.id)
    with pytest.raises(NotYetError):
        asked(db, project, person, "And?", parent=turn)
    service.start_writing(db, turn)
    service.finish_writing(db, turn.id, WHOLE, rng=RNG)
    db.refresh(turn)
    service.choose(db, project, turn, "b", None, RNG)
    going_on = asked(db, project, person, "And?", parent=turn)
    assert [message["content"] for message in going_on.messages] == ["Hello?", "Two.", "And?"]


def test_the_candidate_is_met_on_either_side_by_chance(db: Session, project: Project, person: User) -> None:
    candidate = rows.make_version(db, project, number=2, state="candidate")
    sides = [asked(db, project, person, f"Question {n}").left_version_id == candidate.id for n in range(40)]
    assert 8 < sum(sides) < 32


def test_nobody_asks_the_versions_about_a_pair_that_they_have_to_judge_blind(
    db: Session, project: Project, person: User
) -> None:
    versions = (rows.make_version(db, project, number=2, state="candidate"), rows.make_version(db, project, number=3))
    prompt = rows.make_prompt(db, project, messages=[{"role": "user", "content": "Tea or coffee?"}])
    comparison = rows.make_comparison(db, project, prompt=prompt, versions=versions)
    asked(db, project, person, "Tea or coffee?")
    assert lease_next(db, project=project, reviewer_id=person.id) is not None
    for text in ("Tea or coffee?", "Tea or coffee?  \r\n"):
        with pytest.raises(PromptInHandError):
            asked(db, project, person, text)
    asked(db, project, person, "Tea or coffee? ", blind=False)
    asked(db, project, person, "Tea?")
    asked(db, project, rows.make_member(db, project), "Tea or coffee?")
    record_vote(db, reviewer_id=person.id, comparison_id=comparison.id, choice="a", source="api")
    asked(db, project, person, "Tea or coffee?")
