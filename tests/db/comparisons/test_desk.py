"""What the page's script asks of the server: the next pair ahead, a lease kept, a choice while another is shown."""

import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from starlette.datastructures import FormData

from app.comparisons import service
from app.comparisons.ballot_form import read
from app.comparisons.desk import buttons, is_long, order_in_words, said, shown_answers
from app.comparisons.errors import VoteInvalidError
from app.db.session import transaction
from app.db.tables import Assignment, Project, Vote
from app.projects.reviewing import reviewing_of
from tests.factories.rows import make_comparison, make_prompt
from tests.fixtures.portal import Caller, Portal

HTMX = {"HX-Request": "true"}


@pytest.fixture
def bo(portal: Portal) -> Caller:
    """A reviewer of ``tone``, where four pairs wait."""
    admin = portal.user("ann@example.org", is_site_admin=True)
    project = portal.project("Tone", admin)
    with transaction(portal.factory) as db:
        for number in range(1, 5):
            prompt = make_prompt(db, db.merge(project), text=f"Question {number}:")
            make_comparison(db, db.merge(project), prompt=prompt)
    return portal.browser(portal.member(project, "bo@example.org"))


def lease_in(html: str) -> str:
    found = re.search(r'data-lease="([0-9a-f-]+)"', html)
    assert found is not None
    return found[1]


def test_a_choice_while_another_pair_is_shown_is_answered_with_the_one_after_that(portal: Portal, bo: Caller) -> None:
    first = lease_in(bo.get("/p/tone/compare").text)
    answer = bo.post("/p/tone/compare/ahead", {"holding": first}, headers=HTMX)
    assert "Question 2:" in answer.text
    second = lease_in(answer.text)
    assert lease_in(bo.post("/p/tone/compare/ahead", {"holding": first}, headers=HTMX).text) == second
    with portal.db() as db:
        assert db.get_one(Assignment, UUID(second)).shown_at is None
    choice = {"lease": first, "choice": "a", "key": "k1", "showing": second, "showing_for": "0.2", "seconds": "3"}
    answer = bo.post("/p/tone/compare", choice, headers=HTMX)
    assert "Question 3:" in answer.text
    with portal.db() as db:
        assert db.get_one(Assignment, UUID(second)).shown_at is not None
        assert db.get_one(Assignment, UUID(lease_in(answer.text))).shown_at is None
    assert "Question 2:" in bo.get("/p/tone/compare").text, "what is on the screen stays the pair in hand"
    again = bo.post("/p/tone/compare", choice, headers=HTMX)
    assert lease_in(again.text) == lease_in(answer.text)
    with portal.db() as db:
        assert len(db.scalars(select(Vote)).all()) == 1


def test_a_choice_stands_even_if_nothing_can_be_shown_after_it(
    portal: Portal, bo: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lease_in(bo.get("/p/tone/compare").text)
    choice = {"lease": first, "choice": "a", "key": "k1", "seconds": "3"}
    with monkeypatch.context() as broken:

        def lost(*_: object, **__: object) -> None:
            raise OperationalError("SELECT", {}, Exception("the connection was lost"))

        broken.setattr(service, "lease_next", lost)
        assert bo.post("/p/tone/compare", choice, headers=HTMX).status_code == 503
    with portal.db() as db:
        assert db.scalars(select(Vote)).one().shown_choice == "left"
    assert "Question 2:" in bo.post("/p/tone/compare", choice, headers=HTMX).text
    with portal.db() as db:
        assert len(db.scalars(select(Vote)).all()) == 1


def test_a_second_tab_changes_nothing_that_it_did_not_show(portal: Portal, bo: Caller) -> None:
    """The pair lies in two tabs; what is said in the first stands, until it is taken back or opened to be changed."""
    lease = lease_in(bo.get("/p/tone/compare").text)
    assert bo.post("/p/tone/compare", {"lease": lease, "choice": "a", "key": "k1"}, headers=HTMX).status_code == 200
    stale = {"lease": lease, "choice": "b", "key": "k2"}
    refused = bo.post("/p/tone/compare", stale, headers=HTMX)
    assert (refused.status_code, "You have judged this pair in another tab" in refused.text) == (409, True)
    assert 'name="change"' in bo.get(f"/p/tone/compare?again={lease}").text
    assert 'name="change"' not in bo.get("/p/tone/compare").text
    assert bo.post("/p/tone/compare", stale | {"change": "1"}, headers=HTMX).status_code == 200
    assert bo.post("/p/tone/compare/undo", {"lease": lease}, headers=HTMX).status_code == 200
    assert bo.post("/p/tone/compare", stale | {"key": "k3"}, headers=HTMX).status_code == 200
    with portal.db() as db:
        votes = db.scalars(select(Vote).order_by(Vote.revision)).all()
        assert [vote.shown_choice for vote in votes] == ["left", "right", "undone", "right"]


def test_a_lease_is_kept_while_somebody_reads_and_nobody_elses_is(portal: Portal, bo: Caller) -> None:
    lease = lease_in(bo.get("/p/tone/compare").text)
    kept = bo.post("/p/tone/compare/keep", {"lease": lease}, headers=HTMX)
    assert (kept.status_code, int(kept.headers["Hone-Seconds-Left"]) > 800) == (204, True)
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    other = portal.browser(portal.member(project, "cy@example.org"))
    assert other.post("/p/tone/compare/keep", {"lease": lease}).headers["Hone-Seconds-Left"] == "0"


def test_a_stranger_to_a_lease_is_told_nothing(portal: Portal, bo: Caller) -> None:
    lease = lease_in(bo.get("/p/tone/compare").text)
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
    other = portal.browser(portal.member(project, "cy@example.org"))
    assert other.post("/p/tone/compare", {"lease": lease, "choice": "a"}).status_code == 404
    assert other.post("/p/tone/compare", {"lease": lease, "choice": "a", "corrected-0": "x"}).status_code == 404
    assert (
        bo.post("/p/tone/compare", {"lease": lease, "choice": "a", "showing": "no id"}, headers=HTMX).status_code == 404
    )


def form(**values: Any) -> FormData:
    """A form; underscores in names stand for hyphens, a list for a field that is there several times."""
    lists = {name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in values.items()}
    return FormData([(name, item) for name, items in lists.items() for item in items])


ASKS = reviewing_of(
    {"criteria": [{"key": "clear", "label": "Clear", "scale": "likert"}], "tags": ["Kind"], "correction": True}
)


def test_a_form_is_read_as_a_ballot() -> None:
    fields = form(choice="b:2", tags=["Kind"], criterion_clear_a="4", criterion_clear_b="2", seconds="1.5", key="k")
    assert read(fields, ASKS, ()) == {
        "choice": "b",
        "strength": 2,
        "tags": ["Kind"],
        "criteria": {"clear": {"a": 4, "b": 2}},
        "corrected": None,
        "comment": None,
        "seconds": 1.5,
        "idempotency_key": "k",
    }
    assert read(form(choice="skip:unclear", tags=["Kind"]), ASKS, ())["reason"] == "unclear"
    ranked = read(form(choice="ranked", place_0="2", place_1="1", place_2="2"), ASKS, ())
    assert ranked["ranking"] == [[1], [0, 2]]


def test_an_edit_goes_with_the_answer_that_was_chosen_and_an_untouched_one_is_none() -> None:
    shown = ("one\ntwo", "three")
    untouched = {"corrected_0": "one\r\ntwo\r\n", "corrected_1": "three"}
    assert read(form(choice="a", **untouched), ASKS, shown)["corrected"] is None
    assert read(form(choice="a", **(untouched | {"corrected_0": "one\r\n2"})), ASKS, shown)["corrected"] == "one\n2"
    with pytest.raises(VoteInvalidError, match="You edited answer A"):
        read(form(choice="b", **(untouched | {"corrected_0": "one\r\n2"})), ASKS, shown)


@pytest.mark.parametrize("choice", ["", "c", "a:4", "a:x", "ranked"])
def test_what_no_button_sends_is_refused(choice: str) -> None:
    with pytest.raises(VoteInvalidError):
        read(form(choice=choice, place_0="", place_1="1"), ASKS, ())


def test_lengths_are_told_in_words_and_where_there_are_none_in_characters() -> None:
    shown = shown_answers(("one two", "水" * 90))
    assert [(item.letter, item.length, item.share) for item in shown] == [
        ("A", "2 words", 8),
        ("B", "90 characters", 100),
    ]
    assert not is_long(("short", "x" * 2000))
    assert is_long(("short", "x" * 3000))
    assert is_long(("line\n" * 40, ""))


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        ("ab", "a b"),
        ("ab_tie", "a tie b"),
        ("ab_tie_bad", "a tie both_bad b"),
        ("strength", "a:3 a:2 a:1 tie both_bad b:1 b:2 b:3"),
    ],
)
def test_each_scale_has_its_buttons(scale: str, values: str) -> None:
    assert [item.value for item in buttons(reviewing_of({"scale": scale}), "pair")] == values.split()


def test_choices_are_said_in_words() -> None:
    assert said("a", 3) == "A is much better"
    assert said("b", None) == "B is better"
    assert order_in_words([[2], [0, 1], [3]]) == "C › A = B › D"
