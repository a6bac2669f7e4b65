"""What a project asks of a vote, and what it takes."""

from typing import Any

import pytest

from app.comparisons.ballots import checked, meant
from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import Ballot, meant_criteria, meant_ranking, shown_ranking
from app.comparisons.rules import check_asked
from app.projects.reviewing import Reviewing, reviewing_of

HELPFUL = {"key": "helpful", "label": "Helpful"}
CLEAR = {"key": "clear", "label": "Clear", "scale": "likert"}


def refused(ballot: Ballot, answers: int = 2, **asks: Any) -> str:
    """Why the ballot is refused; empty when it is not."""
    mode = "ranking" if asks.get("mode") == "ranking" else "pair"
    try:
        check_asked(checked(ballot, None), reviewing_of(asks), mode=mode, answers=answers)
    except VoteInvalidError as error:
        return error.message
    return ""


def test_the_defaults_ask_for_a_choice_and_nothing_else() -> None:
    for choice in ("a", "b", "tie", "both_bad", "skip"):
        assert refused(Ballot(choice)) == ""
    assert refused(Ballot("flag", reason="broken")) == ""
    assert refused(Ballot("a", comment="kinder")) == ""
    assert "no reason of this project" in refused(Ballot("a", tags=("Kind",)))
    assert "no criterion" in refused(Ballot("a", criteria={"helpful": "a"}))
    assert "no corrections" in refused(Ballot("a", corrected="Better."))


@pytest.mark.parametrize(
    ("scale", "taken"),
    [("ab", "a b"), ("ab_tie", "a tie b"), ("ab_tie_bad", "a tie both_bad b"), ("strength", "tie both_bad")],
)
def test_a_scale_takes_its_own_choices(scale: str, taken: str) -> None:
    for choice in ("a", "b", "tie", "both_bad"):
        assert (refused(Ballot(choice), scale=scale) == "") == (choice in taken.split())
    for choice in ("skip", "flag"):
        assert refused(Ballot(choice, reason="broken"), scale=scale) == ""


def test_a_strength_scale_needs_a_strength() -> None:
    assert "how much better" in refused(Ballot("a"), scale="strength")
    assert refused(Ballot("a", strength=3), scale="strength") == ""
    assert "does not fit" in refused(Ballot("a", strength=4), scale="strength")
    assert "does not fit" in refused(Ballot("tie", strength=1), scale="strength")
    assert "does not ask how much better" in refused(Ballot("a", strength=3), scale="ab_tie_bad")


def test_criteria_are_judged_on_their_own_scales() -> None:
    asks: dict[str, Any] = {"criteria": [HELPFUL, CLEAR]}
    assert refused(Ballot("a", criteria={"helpful": "tie", "clear": {"a": 5, "b": 1}}), **asks) == ""
    assert refused(Ballot("a"), **asks) == ""
    assert "Clear is not judged yet" in refused(Ballot("a", criteria={"helpful": "a"}), criteria_required=True, **asks)
    for wrong in ({"helpful": "both_bad"}, {"clear": "a"}, {"clear": {"a": 3}}, {"clear": {"a": 6, "b": 1}},
                  {"clear": {"a": True, "b": 1}}):  # fmt: skip
        assert refused(Ballot("a", criteria=wrong), **asks) != "", wrong
    assert "Clear: A 3 does not rate both" in refused(Ballot("a", criteria={"clear": {"a": 3}}), **asks)
    assert "belong to a judgement" in refused(Ballot("skip", criteria={"helpful": "a"}), **asks)


def test_comments_can_be_asked_for_with_a_minimum_or_not_at_all() -> None:
    assert "asks for a comment" in refused(Ballot("a", comment="  "), comment="required")
    assert "7 characters" in refused(Ballot("a", comment="because"), comment="required", comment_min_chars=8)
    assert refused(Ballot("a", comment="because!"), comment="required", comment_min_chars=8) == ""
    assert refused(Ballot("skip"), comment="required") == ""
    assert "at least" not in refused(Ballot("a"), comment="optional", comment_min_chars=8)
    assert "takes no comments" in refused(Ballot("a", comment="why"), comment="off")


def test_a_skip_may_have_to_say_why() -> None:
    assert "needs a reason" in refused(Ballot("skip"), skip_reason="required")
    assert refused(Ballot("skip", reason="unclear"), skip_reason="required") == ""


def test_a_correction_goes_with_the_answer_that_is_better() -> None:
    assert refused(Ballot("b", corrected="Better."), correction=True) == ""
    assert "prefers none" in refused(Ballot("tie", corrected="Better."), correction=True)
    ranked = Ballot("ranked", ranking=((1,), (0, 2)), corrected="Better.")
    assert refused(ranked, answers=3, mode="ranking", correction=True) == ""
    tied = Ballot("ranked", ranking=((0, 1), (2,)), corrected="Better.")
    assert "prefers none" in refused(tied, answers=3, mode="ranking", correction=True)


@pytest.mark.parametrize("ranking", [((0, 1),), ((0,), (1,), (1, 2)), ((0,), (1,), (3,)), ((0,), (), (1, 2)), ()])
def test_a_ranking_places_every_answer_once(ranking: tuple[tuple[int, ...], ...]) -> None:
    assert refused(Ballot("ranked", ranking=ranking), answers=3, mode="ranking") != ""


def test_a_ranking_and_a_choice_do_not_stand_for_each_other() -> None:
    assert refused(Ballot("ranked", ranking=((2,), (0, 1))), answers=3, mode="ranking") == ""
    assert "to be ranked" in refused(Ballot("a"), answers=3, mode="ranking")
    assert "not on this project's scale" in refused(Ballot("ranked", ranking=((0,), (1,))))
    assert "without a ranking" in refused(Ballot("ranked"), answers=3, mode="ranking")
    assert "with a ranking" in refused(Ballot("a", ranking=((0,), (1,))))


def test_what_was_seen_is_stored_as_what_was_meant_and_read_back() -> None:
    seen = {"helpful": "a", "honest": "tie", "clear": {"a": 4, "b": 2}}
    mirrored = meant_criteria(seen, "b")
    assert mirrored == {"helpful": "b", "honest": "tie", "clear": {"b": 4, "a": 2}}
    assert meant_criteria(mirrored, "b") == seen == meant_criteria(seen, "a")
    order = [2, 0, 3, 1]  # the answer shown first is item 2
    assert meant_ranking(((1,), (0, 3), (2,)), order) == [[0], [1, 2], [3]]
    assert shown_ranking([[0], [1, 2], [3]], order) == [[1], [0, 3], [2]]
    stored = meant(Ballot("ranked", ranking=((1,), (0, 3), (2,))), left_side="a", shown_order=order)
    assert (stored["shown_choice"], stored["ranking"]) == ("ranked", [[0], [1, 2], [3]])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"criteria": [HELPFUL, HELPFUL]}, "helpful is there twice"),
        ({"tags": ["Kind", "Kind"]}, "Kind is there twice"),
        ({"mode": "ranking", "criteria": [HELPFUL]}, "criteria compare two answers"),
        ({"criteria_required": True}, "there are none"),
        ({"comment": "off", "comment_min_chars": 5}, "comments are off"),
        ({"answers": 9}, "8"),
        ({"scale": "stars"}, "ab_tie_bad"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_do_not_hold_together_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Reviewing.model_validate(settings)
