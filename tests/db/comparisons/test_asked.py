"""What a vote says beside the choice: stored as meant, read as seen, refused where the project does not ask for it."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.comparisons import ballot_form, queries
from app.comparisons.errors import KeyReusedError, VoteInvalidError
from app.comparisons.service import lease_next, record_vote, undo_vote
from app.db.tables import Assignment, Project, User, Vote
from app.projects.reviewing import reviewing_of
from tests.factories.rows import make_comparison, make_project, make_ranking, make_user

ASKS: dict[str, Any] = {
    "criteria": [{"key": "helpful", "label": "Helpful"}, {"key": "clear", "label": "Clear", "scale": "likert"}],
    "tags": ["Kind", "Exact"],
    "correction": True,
}


def vote(db: Session, project: Project, reviewer: User, **said: Any) -> Any:
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    return record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, source="web", **said)


def stored(db: Session) -> Vote:
    return db.execute(select(Vote).order_by(Vote.created_at.desc(), Vote.revision.desc()).limit(1)).scalar_one()


def test_criteria_are_stored_for_the_comparisons_own_sides_and_read_as_seen(db: Session) -> None:
    project = make_project(db, reviewing=ASKS)
    make_comparison(db, project, texts=("alpha", "beta"), first_left="b")
    reviewer = make_user(db)
    seen = {"helpful": "a", "clear": {"a": 5, "b": 2}}
    vote(
        db, project, reviewer, choice="a", criteria=seen, tags=["Exact", "Kind", "Exact"], corrected="Better beta.\r\n"
    )
    row = stored(db)
    assert (row.choice, row.shown_choice) == ("b", "left")
    assert row.criteria == {"helpful": "b", "clear": {"b": 5, "a": 2}}
    assert row.tags == ["Exact", "Kind"]
    assert row.corrected == "Better beta."
    [mine] = queries.answers(db, project_id=project.id, reviewer_id=reviewer.id)
    assert (mine.criteria, mine.tags, mine.corrected) == (seen, ["Exact", "Kind"], "Better beta.")
    assert mine.shown == ("beta", "alpha")


def test_a_correction_that_changes_nothing_is_none(db: Session) -> None:
    project = make_project(db, reviewing=ASKS)
    make_comparison(db, project, texts=("alpha", "beta"), first_left="b")
    vote(db, project, make_user(db), choice="b", corrected="  alpha\n")
    assert stored(db).corrected is None


def test_a_line_break_that_a_browser_writes_its_own_way_is_no_correction(db: Session) -> None:
    project = make_project(db, reviewing=ASKS)
    shown = ("one\rtwo\r\nthree", "four\rfive")
    make_comparison(db, project, texts=shown, first_left="a")
    fields = FormData(
        {"choice": "b"}
        | {f"corrected-{n}": text.replace("\r\n", "\r").replace("\r", "\r\n") for n, text in enumerate(shown)}
    )
    said = ballot_form.read(fields, reviewing_of(project.reviewing), shown)
    assert said["corrected"] is None
    vote(db, project, make_user(db), choice="b", corrected="four\nfive")
    assert stored(db).corrected is None


def test_a_ranking_is_stored_by_item_and_read_by_place(db: Session) -> None:
    project = make_project(db, reviewing={"mode": "ranking", "answers": 4, "correction": True})
    make_ranking(db, project, texts=("one", "two", "three", "four"), slots=2)
    first, second = make_user(db), make_user(db)
    one = lease_next(db, project=project, reviewer_id=first.id)
    two = lease_next(db, project=project, reviewer_id=second.id)
    assert one is not None
    assert two is not None
    assert one.mode == "ranking"
    assert one.answers == ("one", "two", "three", "four")
    assert two.answers != one.answers, "the order turns from reviewer to reviewer"
    for person, leased in ((first, one), (second, two)):
        order = [leased.answers.index(text) for text in ("three", "one", "two", "four")]
        record_vote(
            db,
            reviewer_id=person.id,
            assignment_id=leased.assignment_id,
            choice="ranked",
            ranking=[[order[0]], sorted(order[1:3]), [order[3]]],
            corrected="three",
            source="api",
        )
        assert stored(db).ranking == [[2], [0, 1], [3]]
        assert stored(db).corrected is None, "what stands on top was not changed"
        [mine] = queries.answers(db, project_id=project.id, reviewer_id=person.id)
        assert mine.ranking is not None
        assert [mine.shown[place] for place in mine.ranking[0]] == ["three"]
        assert {mine.shown[place] for place in mine.ranking[1]} == {"one", "two"}


def test_what_was_said_before_is_told_with_its_order_and_note(db: Session) -> None:
    project, reviewer = make_project(db, reviewing={"mode": "ranking", "answers": 3}), make_user(db)
    make_ranking(db, project, texts=("one", "two", "three"))
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    for ranking, comment in (([[2], [0, 1]], "three is short"), ([[0], [1], [2]], None)):
        said = {"choice": "ranked", "ranking": ranking, "comment": comment}
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, source="web", **said)
    lease = leased.assignment_id
    before, last = queries.histories(db, [lease])[lease]
    assert (before.ranking, before.comment) == ([[2], [0, 1]], "three is short")
    assert (last.ranking, last.comment) == ([[0], [1], [2]], None)


def test_each_item_stands_once_at_each_place_over_as_many_reviewers_as_there_are_items(db: Session) -> None:
    project = make_project(db, reviewing={"mode": "ranking", "answers": 4})
    for first_left in ("a", "b"):
        ranking = make_ranking(db, project, texts=("one", "two", "three", "four"), slots=8, first_left=first_left)
        for _ in range(8):
            lease_next(db, project=project, reviewer_id=make_user(db).id)
        shown = select(Assignment.shown_order).where(Assignment.comparison_id == ranking.id)
        orders = [tuple(order or ()) for order in db.scalars(shown.order_by(Assignment.slot))]
        for four in (orders[:4], orders[4:]):
            assert all(sorted(place) == [0, 1, 2, 3] for place in zip(*four, strict=True))
        assert orders[4:] == [tuple(reversed(order)) for order in orders[:4]]


def test_undoing_a_ranking_gives_it_back_in_the_order_it_was_shown(db: Session) -> None:
    project = make_project(db, reviewing={"mode": "ranking", "answers": 3})
    make_ranking(db, project, texts=("one", "two", "three"), first_left="b")
    reviewer = make_user(db)
    recorded = vote(db, project, reviewer, choice="ranked", ranking=[[0], [1], [2]])
    back = undo_vote(db, reviewer_id=reviewer.id, assignment_id=recorded.vote.assignment_id)
    assert back.answers == ("three", "two", "one")
    assert back.previous is None


@pytest.mark.parametrize(
    "said",
    [
        {"choice": "ranked", "ranking": [[0], [1]]},
        {"choice": "a", "tags": ["Rude"]},
        {"choice": "a", "criteria": {"honest": "a"}},
        {"choice": "tie", "corrected": "Better."},
        {"choice": "a", "criteria": {"clear": {"a": 0, "b": 3}}},
    ],
)
def test_what_the_project_does_not_ask_for_is_refused_and_nothing_is_stored(db: Session, said: dict[str, Any]) -> None:
    project = make_project(db, reviewing=ASKS)
    make_comparison(db, project)
    with pytest.raises(VoteInvalidError):
        vote(db, project, make_user(db), **said)
    assert db.scalars(select(Vote)).all() == []


def test_the_same_submission_is_known_by_all_its_parts(db: Session) -> None:
    project = make_project(db, reviewing=ASKS)
    make_comparison(db, project, first_left="b")
    reviewer = make_user(db)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    said: dict[str, Any] = {
        "reviewer_id": reviewer.id,
        "assignment_id": leased.assignment_id,
        "choice": "a",
        "criteria": {"helpful": "b", "clear": {"a": 1, "b": 5}},
        "tags": ["Kind"],
        "corrected": "Better.",
        "idempotency_key": "k",
        "source": "web",
    }
    record_vote(db, **said)
    assert record_vote(db, **said).replayed
    project.reviewing = {}  # what the project asks for may have changed before the answer to the first came through
    db.flush()
    assert record_vote(db, **said).replayed
    for other in ({"criteria": {"helpful": "a"}}, {"tags": []}, {"corrected": "Best."}):
        with pytest.raises(KeyReusedError):
            record_vote(db, **(said | other))
    assert len(db.scalars(select(Vote)).all()) == 1
