"""The rules by which votes become preferences, without a database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.preferences.aggregating import Aggregated, aggregate
from app.preferences.collecting import age_weight
from app.preferences.records import Preference, Vote, implied
from app.projects.aggregation import Aggregation

NOW = datetime(2026, 5, 1, tzinfo=UTC)
A, B, C, D, EDIT = (UUID(int=n) for n in (10, 11, 12, 13, 99))


def vote(
    choice: str = "a", *, who: int = 1, comparison: int = 1, items: tuple[UUID, ...] = (A, B), **more: Any
) -> Vote:
    number = UUID(int=1000 * comparison + who)
    return Vote(
        vote_id=number,
        assignment_id=number,
        reviewer_id=UUID(int=who),
        comparison_id=UUID(int=comparison),
        prompt_id=UUID(int=5),
        split="train",
        choice=choice,
        items=items,
        at=more.pop("at", NOW),
        **more,
    )


def made(
    *votes: Vote, weigh: Callable[[Vote], tuple[float, float]] = lambda _: (1.0, 1.0), **settings: Any
) -> Aggregated:
    return aggregate(votes, Aggregation(**settings), weigh)


def outcomes(found: Aggregated) -> list[tuple[str | None, float, float]]:
    return [(item.outcome, item.margin, item.weight) for item in found.preferences]


def test_every_vote_on_its_own_with_the_margin_of_its_strength() -> None:
    found = made(vote("a", who=1, strength=1), vote("b", who=2, strength=2), vote("a", who=3, strength=3))
    assert outcomes(found) == [("a", 0.0, 1.0), ("b", 0.5, 1.0), ("a", 1.0, 1.0)]
    assert found.contradictions == 1
    margins = {"slightly": 0.1, "clearly": 0.2, "much": 0.3}
    assert outcomes(made(vote("a", strength=3), margins=margins)) == [("a", 0.3, 1.0)]
    assert outcomes(made(vote("tie"))) == [("tie", 0.0, 1.0)]


def test_ties_and_both_bad_are_kept_or_dropped_as_the_project_says() -> None:
    votes = (vote("tie", who=1), vote("both_bad", who=2), vote("a", who=3))
    assert [item.outcome for item in made(*votes).preferences] == ["tie", "both_bad", "a"]
    dropped = made(*votes, ties="drop", both_bad="drop")
    assert [item.outcome for item in dropped.preferences] == ["a"]
    assert dropped.left_out == {"tie": 1, "both_bad": 1, "no_criterion": 0}


def test_the_majority_is_one_preference_of_all_its_votes() -> None:
    found = made(
        vote("a", who=1, strength=3), vote("b", who=2, strength=3), vote("a", who=3, strength=2), method="majority"
    )
    (item,) = found.preferences
    assert (item.outcome, item.margin, item.weight) == ("a", 0.75, 1.0)  # the mean margin of those who said a
    assert len(item.vote_ids) == len(item.reviewer_ids) == 3


@pytest.mark.parametrize(("undecided", "outcome", "left_out"), [("tie", ["tie"], 0), ("drop", [], 2)])
def test_an_even_split_is_a_tie_or_nothing(undecided: str, outcome: list[str], left_out: int) -> None:
    found = made(vote("a", who=1), vote("b", who=2), method="majority", undecided=undecided)
    assert [item.outcome for item in found.preferences] == outcome
    assert found.left_out["undecided"] == left_out


def test_skill_turns_a_majority_and_weighs_votes() -> None:
    """One who is worth 3 against two who are worth 1 each."""
    votes = (vote("b", who=1), vote("a", who=2), vote("a", who=3))

    def weigh(one: Vote) -> tuple[float, float]:
        return (3.0 if one.reviewer_id == UUID(int=1) else 1.0), 1.0

    assert outcomes(made(*votes, weigh=weigh, method="majority")) == [("b", 0.0, 1.0)]
    assert outcomes(made(*votes, weigh=weigh)) == [("b", 0.0, 3.0), ("a", 0.0, 1.0), ("a", 0.0, 1.0)]


def test_age_turns_a_majority_and_weighs_what_it_says() -> None:
    old, new = NOW - timedelta(days=60), NOW
    votes = (vote("a", who=1, at=old), vote("a", who=2, at=old), vote("b", who=3, at=new))

    def weigh(one: Vote) -> tuple[float, float]:
        return 1.0, age_weight(one.at, NOW, 30.0)

    assert outcomes(made(*votes, weigh=weigh)) == [("a", 0.0, 0.25), ("a", 0.0, 0.25), ("b", 0.0, 1.0)]
    assert outcomes(made(*votes, weigh=weigh, method="majority")) == [("b", 0.0, 0.5)]


def test_a_half_life_halves() -> None:
    assert age_weight(NOW - timedelta(days=7), NOW, 7.0) == 0.5
    assert age_weight(NOW - timedelta(days=21), NOW, 7.0) == 0.125
    assert age_weight(NOW + timedelta(days=1), NOW, 7.0) == 1.0
    assert age_weight(NOW - timedelta(days=999), NOW, None) == 1.0


@pytest.mark.parametrize(
    ("criteria", "outcome", "margin"),
    [
        ({"helpful": "b"}, "b", 1.0),
        ({"helpful": "tie"}, "tie", 0.0),
        ({"helpful": {"a": 4, "b": 2}}, "a", 0.5),  # two of four points: clearly
        ({"helpful": {"a": 3, "b": 4}}, "b", 0.0),  # one: slightly
        ({"helpful": {"a": 5, "b": 1}}, "a", 1.0),
    ],
)
def test_one_criterion_can_be_trained_on_alone(criteria: dict[str, Any], outcome: str, margin: float) -> None:
    assert outcomes(made(vote("a", criteria=criteria), criteria="helpful")) == [(outcome, margin, 1.0)]


def test_a_vote_without_the_criterion_is_left_out_and_both_bad_stays() -> None:
    found = made(vote("a", who=1), vote("both_bad", who=2), criteria="helpful")
    assert [item.outcome for item in found.preferences] == ["both_bad"]
    assert found.left_out["no_criterion"] == 1


def test_criteria_are_weighed_into_one() -> None:
    """helpful +1 (weight 1), honest −1 (weight 3): (1 − 3)/4 = −½: b, clearly. Without weights they cancel."""
    said = {"helpful": "a", "honest": "b"}
    assert outcomes(made(vote("a", criteria=said), criteria="weighted", criteria_weights={"honest": 3})) == [
        ("b", 0.5, 1.0)
    ]
    assert outcomes(made(vote("a", criteria=said), criteria="weighted")) == [("tie", 0.0, 1.0)]
    assert outcomes(made(vote("a", strength=2), criteria="weighted")) == [("a", 0.5, 1.0)]


def pairs(found: Aggregated) -> list[tuple[UUID, UUID | None, str | None]]:
    return [(item.completion_a_id, item.completion_b_id, item.outcome) for item in found.preferences]


def test_an_edit_beats_the_answer_it_was_made_from_and_the_other() -> None:
    found = made(vote("b", correction_id=EDIT))
    assert pairs(found) == [(A, B, "b"), (EDIT, B, "a"), (EDIT, A, "a")]
    assert [item.correction for item in found.preferences] == [False, True, True]
    assert pairs(made(vote("b", correction_id=EDIT), corrections=False)) == [(A, B, "b")]


def test_an_edit_does_not_beat_what_most_preferred() -> None:
    found = made(vote("b", who=1, correction_id=EDIT), vote("a", who=2), vote("a", who=3), method="majority")
    assert pairs(found) == [(A, B, "a"), (EDIT, B, "a")]


def ranked(*tiers: list[int], who: int = 1, **more: Any) -> Vote:
    return vote("ranked", who=who, items=(A, B, C, D), ranking=tiers, **more)


def test_a_ranking_keeps_its_tiers_and_an_edit_of_its_best_comes_first() -> None:
    (item,) = made(ranked([2], [0, 3], [1])).preferences
    assert item.kind == "ranking"
    assert item.tiers == ((C,), (A, D), (B,))
    (edited,) = made(ranked([2], [0, 3], [1], correction_id=EDIT)).preferences
    assert edited.tiers == ((EDIT,), (C,), (A, D), (B,))
    assert edited.correction


def test_rankings_of_several_become_one_by_mean_places() -> None:
    """A B C D, A C B D, B A D C: mean places A 1/3, B 1, C 2, D 8/3."""
    found = made(
        ranked([0], [1], [2], [3], who=1),
        ranked([0], [2], [1], [3], who=2),
        ranked([1], [0], [3], [2], who=3),
        method="majority",
    )
    (item,) = found.preferences
    assert item.tiers == ((A,), (B,), (C,), (D,))
    even = made(ranked([0], [1], [2], [3], who=1), ranked([3], [2], [1], [0], who=2), method="majority")
    assert even.preferences == []
    assert even.left_out["undecided"] == 2


def test_a_ranking_in_one_tier_says_nothing() -> None:
    found = made(ranked([0, 1, 2, 3]))
    assert found.preferences == []
    assert found.left_out["tie"] == 1


def test_a_ranking_implies_its_pairs() -> None:
    (item,) = made(ranked([2], [0, 3], [1])).preferences
    said = {(pair.completion_a_id, pair.completion_b_id): pair.outcome for pair in implied(item)}
    assert said == {
        (C, A): "a",
        (C, D): "a",
        (C, B): "a",
        (A, D): "tie",
        (A, B): "a",
        (D, B): "a",
    }


CHOICES = st.sampled_from(["a", "b", "tie", "both_bad"])


@given(st.lists(CHOICES, min_size=1, max_size=7), st.sampled_from(["each", "majority"]))
def test_turning_the_sides_turns_the_outcome_and_nothing_else(choices: list[str], method: str) -> None:
    turn = {"a": "b", "b": "a"}
    there = made(*(vote(choice, who=who) for who, choice in enumerate(choices)), method=method)
    back = made(*(vote(turn.get(choice, choice), who=who) for who, choice in enumerate(choices)), method=method)
    assert [turn.get(str(item.outcome), item.outcome) for item in there.preferences] == [
        item.outcome for item in back.preferences
    ]
    assert there.left_out == back.left_out


@given(st.permutations(["a", "a", "b", "tie", "both_bad"]))
def test_the_majority_does_not_depend_on_who_spoke_first(choices: list[str]) -> None:
    found: list[Preference] = made(
        *(vote(choice, who=who) for who, choice in enumerate(choices)), method="majority"
    ).preferences
    assert [item.outcome for item in found] == ["a"]
