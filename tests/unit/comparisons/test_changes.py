"""What a vote changes, as pure rules: every start, without a database."""

from uuid import UUID, uuid4

import pytest

from app.comparisons import changes
from app.comparisons.changes import Change, Place, Slot
from app.comparisons.records import Choice, choice_of, meant_of, shown_of

ME, OTHER = uuid4(), uuid4()


def place(*slots: str, state: str = "open", mirrored: bool = False, others_flagged: bool = False) -> Place:
    """Slots in short: 'free', 'closed', 'mine' (leased), 'my vote', 'theirs' (leased), 'their vote'."""
    kinds: dict[str, tuple[str, UUID | None]] = {
        "free": ("free", None),
        "closed": ("closed", None),
        "mine": ("leased", ME),
        "my vote": ("voted", ME),
        "theirs": ("leased", OTHER),
        "their vote": ("voted", OTHER),
    }
    rows = [Slot(number, *kinds[kind]) for number, kind in enumerate(slots)]
    return Place(state, rows, ME, mirrored=mirrored, others_flagged=others_flagged)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (place("mine"), Change("voted", "complete", take=0)),
        (place("mine", "free"), Change("voted", "open", take=0)),
        (place("their vote", "mine"), Change("voted", "complete", take=1)),
        (place("my vote", state="complete"), Change("voted", "complete", take=0)),
        (place("theirs", "free"), Change("voted", "open", take=1)),
        (place("theirs"), Change("surplus", "open")),
        (place("their vote", state="complete"), Change("surplus", "complete")),
        (place("mine", "closed", state="withdrawn"), Change("voted", "withdrawn", take=0)),
        (place("closed", state="withdrawn"), Change("surplus", "withdrawn")),
    ],
)
def test_a_choice_fills_the_slot_held_or_a_free_one_or_is_surplus(before: Place, after: Change) -> None:
    assert changes.vote(before) == after
    assert after.surplus == (after.take is None)


@pytest.mark.parametrize(("mirrored", "taken"), [(False, 2), (True, 1)])
def test_a_late_choice_takes_a_slot_of_the_side_that_was_shown(mirrored: bool, taken: int) -> None:
    assert changes.vote(place("theirs", "free", "free", mirrored=mirrored)).take == taken


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (place("mine"), Change("skipped", "open", release=(0,), release_as="free")),
        (place("my vote", state="complete"), Change("skipped", "open", release=(0,), release_as="free")),
        (place("mine", state="withdrawn"), Change("skipped", "withdrawn", release=(0,), release_as="closed")),
        (place("theirs"), Change("skipped", "open")),
    ],
)
def test_a_skip_gives_the_slot_back(before: Place, after: Change) -> None:
    assert changes.skip(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (place("their vote", "mine", "free"), Change("skipped", "flagged", release=(1, 2), release_as="closed")),
        (place("theirs", "mine"), Change("skipped", "flagged", release=(1,), release_as="closed")),
        (place("mine", state="withdrawn"), Change("skipped", "withdrawn", release=(0,), release_as="closed")),
    ],
)
def test_a_flag_closes_what_is_open_and_leaves_what_others_hold(before: Place, after: Change) -> None:
    assert changes.flag(before) == after


@pytest.mark.parametrize(
    ("choice", "before", "after"),
    [
        ("left", place("my vote", state="complete"), Change("leased", "open", take=0, take_as="leased")),
        ("left", place("my vote", "free"), Change("leased", "open", take=0, take_as="leased")),
        ("left", place("my vote", state="withdrawn"), Change("leased", "withdrawn", take=0, take_as="leased")),
        ("tie", place("their vote", state="complete"), Change("expired", "complete")),
        ("skip", place("free"), Change("leased", "open", take=0, take_as="leased")),
        ("skip", place("theirs"), Change("expired", "open")),
        (
            "flag",
            place("their vote", "closed", "closed", state="flagged", mirrored=True),
            Change("leased", "open", take=1, take_as="leased", release=(2,), release_as="free"),
        ),
        ("flag", place("closed", state="flagged", others_flagged=True), Change("expired", "flagged")),
        ("flag", place("their vote", state="flagged"), Change("expired", "complete")),
        ("flag", place("theirs", state="flagged"), Change("expired", "open")),
    ],
)
def test_taking_back_returns_the_slot_if_there_is_one(choice: str, before: Place, after: Change) -> None:
    assert changes.undo(before, choice=choice) == after


@pytest.mark.parametrize("choice", ["a", "b", "tie", "both_bad", "skip", "flag"])
@pytest.mark.parametrize("left_side", ["a", "b"])
def test_seen_and_meant_are_two_ways_to_say_the_same(choice: Choice, left_side: str) -> None:
    assert choice_of(shown_of(choice)) == choice
    meant = meant_of(choice, left_side)
    sides = {"left": left_side, "right": "b" if left_side == "a" else "a"}
    assert meant == sides.get(shown_of(choice), choice)
