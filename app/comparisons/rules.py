"""Whether a vote says what the project asks for: its scale, criteria, reasons, comment, correction, and a full ranking.

Pure: from the ballot and the project's reviewing settings to nothing, or to what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import COUNTED, Ballot, Mode
from app.projects.reviewing import LIKERT, Criterion, Reviewing


def check_asked(ballot: Ballot, asks: Reviewing, *, mode: Mode, answers: int) -> None:
    """
    Args:
        mode: the comparison's own; a project may have changed to another since.
        answers: how many there are to be ranked.

    Raises:
        VoteInvalidError: the first thing that does not fit, and what would.
    """
    if ballot.choice == "skip" and asks.skip_reason == "required" and ballot.reason is None:
        raise VoteInvalidError("A skip needs a reason here.", mend="Say why you pass it on.")
    if ballot.comment is not None and asks.comment == "off":
        raise VoteInvalidError("This project takes no comments.", mend="Leave the comment out.")
    if ballot.choice not in COUNTED:
        return
    if mode == "ranking":
        _check_ranking(ballot, answers)
    else:
        _check_choice(ballot, asks)
    _check_comment(ballot, asks)
    unknown = [tag for tag in ballot.tags if tag not in asks.tags]
    if unknown:
        raise VoteInvalidError(
            f"{unknown[0]!r} is no reason of this project.",
            mend=f"Use {', '.join(map(repr, asks.tags))}." if asks.tags else "Send no tags: the project has none.",
        )
    if ballot.corrected is not None and not asks.correction:
        raise VoteInvalidError("This project takes no corrections.", mend="Leave the corrected answer out.")


def _check_choice(ballot: Ballot, asks: Reviewing) -> None:
    if ballot.choice not in asks.pair_choices:
        raise VoteInvalidError(
            f"The choice {ballot.choice!r} is not on this project's scale.",
            mend=f"Choose one of {', '.join(asks.pair_choices)}.",
        )
    if asks.scale == "strength" and ballot.choice in ("a", "b") and ballot.strength is None:
        raise VoteInvalidError(
            "This project asks how much better the answer is.", mend="Send the strength 1, 2 or 3 with it."
        )
    for key, said in ballot.criteria.items():
        criterion = asks.criteria_by_key.get(key)
        if criterion is None:
            known = ", ".join(asks.criteria_by_key)
            raise VoteInvalidError(
                f"{key!r} is no criterion of this project.",
                mend=f"Its criteria are {known}." if known else "Send no criteria: the project has none.",
            )
        _check_criterion(criterion, said)
    missing = [criterion.label for criterion in asks.criteria if criterion.key not in ballot.criteria]
    if asks.criteria_required and missing:
        raise VoteInvalidError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not judged yet.",
            mend="Judge every criterion.",
        )


def _check_criterion(criterion: Criterion, said: Any) -> None:
    if criterion.scale == "preference":
        if said not in ("a", "tie", "b"):
            raise VoteInvalidError(f"{criterion.label}: {said!r} is no judgement.", mend="Send a, tie or b.")
        return
    sides = said if isinstance(said, Mapping) else {}
    if set(sides) != {"a", "b"} or not all(type(points) is int and points in LIKERT for points in sides.values()):
        raise VoteInvalidError(
            f"{criterion.label}: {said!r} does not rate both answers.",
            mend=f"Rate each answer from {LIKERT[0]} to {LIKERT[-1]}.",
        )


def _check_comment(ballot: Ballot, asks: Reviewing) -> None:
    length = len(ballot.comment or "")
    if asks.comment == "required" and length == 0:
        raise VoteInvalidError("This project asks for a comment.", mend="Say in a few words why.")
    if 0 < length < asks.comment_min_chars:
        raise VoteInvalidError(
            f"The comment has {length} characters.", mend=f"Write at least {asks.comment_min_chars}."
        )


def _check_ranking(ballot: Ballot, answers: int) -> None:
    if ballot.choice != "ranked":
        raise VoteInvalidError(
            f"The choice {ballot.choice!r} compares two answers; these are {answers} to be ranked.",
            mend="Send the choice ranked with a ranking.",
        )
    if ballot.criteria:
        raise VoteInvalidError("Criteria compare two answers.", mend="Leave them out of a ranking.")
    places = [place for tier in ballot.ranking or () for place in tier]
    if sorted(places) != list(range(answers)) or not all(ballot.ranking or ()):
        raise VoteInvalidError(
            f"The ranking {[list(tier) for tier in ballot.ranking or ()]} does not place every answer once.",
            mend=f"Send tiers, the best first, in which each of 0 to {answers - 1} stands once.",
        )
