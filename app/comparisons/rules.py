"""Whether a vote says what the project asks for: its scale, criteria, reasons, comment, correction, and a full ranking.

Pure: from the ballot and the project's reviewing settings to nothing, or to what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import COUNTED, Ballot, Mode
from app.language import _, _n
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
        raise VoteInvalidError(_("A skip needs a reason here."), mend=_("Say why you pass it on."))
    if ballot.comment is not None and asks.comment == "off":
        raise VoteInvalidError(_("This project takes no comments."), mend=_("Leave the comment out."))
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
            _("%(unknown)s is no reason of this project.", unknown=repr(unknown[0])),
            mend=_("Use %(tags)s.", tags=", ".join(map(repr, asks.tags)))
            if asks.tags
            else _("Send no tags: the project has none."),
        )
    if ballot.corrected is not None and not asks.correction:
        raise VoteInvalidError(_("This project takes no corrections."), mend=_("Leave the corrected answer out."))


def _check_choice(ballot: Ballot, asks: Reviewing) -> None:
    if ballot.choice not in asks.pair_choices:
        raise VoteInvalidError(
            _("The choice %(choice)s is not on this project's scale.", choice=repr(ballot.choice)),
            mend=_("Choose one of %(pair_choices)s.", pair_choices=", ".join(asks.pair_choices)),
        )
    if asks.scale == "strength" and ballot.choice in ("a", "b") and ballot.strength is None:
        raise VoteInvalidError(
            _("This project asks how much better the answer is."), mend=_("Send the strength 1, 2 or 3 with it.")
        )
    if asks.scale != "strength":
        check_no_strength(ballot.strength)
    for key, said in ballot.criteria.items():
        criterion = asks.criteria_by_key.get(key)
        if criterion is None:
            known = ", ".join(asks.criteria_by_key)
            raise VoteInvalidError(
                _("%(key)s is no criterion of this project.", key=repr(key)),
                mend=_("Its criteria are %(known)s.", known=known)
                if known
                else _("Send no criteria: the project has none."),
            )
        _check_criterion(criterion, said)
    missing = [criterion.label for criterion in asks.criteria if criterion.key not in ballot.criteria]
    if asks.criteria_required and missing:
        raise VoteInvalidError(
            _n("%(names)s is not judged yet.", "%(names)s are not judged yet.", len(missing), names=", ".join(missing)),
            mend=_("Judge every criterion."),
        )


def check_no_strength(strength: int | None) -> None:
    """Raises VoteInvalidError: it says how much better, and the project does not ask."""
    if strength is not None:
        raise VoteInvalidError(
            _("This project does not ask how much better an answer is."),
            mend=_("Leave the strength out, or set the project's scale to strength."),
        )


def _check_criterion(criterion: Criterion, said: Any) -> None:
    if criterion.scale == "preference":
        if said not in ("a", "tie", "b"):
            raise VoteInvalidError(
                _("%(label)s: %(said)s is no judgement.", label=criterion.label, said=repr(said)),
                mend=_("Send a, tie or b."),
            )
        return
    sides = said if isinstance(said, Mapping) else {}
    if set(sides) != {"a", "b"} or not all(type(points) is int and points in LIKERT for points in sides.values()):
        told = ", ".join(f"{str(side).upper()} {points}" for side, points in sides.items()) or repr(said)
        raise VoteInvalidError(
            _("%(label)s: %(said)s does not rate both answers.", label=criterion.label, said=told),
            mend=_("Rate each answer from %(likert)s to %(likert_2)s.", likert=LIKERT[0], likert_2=LIKERT[-1]),
        )


def _check_comment(ballot: Ballot, asks: Reviewing) -> None:
    length = len(ballot.comment or "")
    if asks.comment == "required" and length == 0:
        raise VoteInvalidError(_("This project asks for a comment."), mend=_("Say in a few words why."))
    if 0 < length < asks.comment_min_chars:
        raise VoteInvalidError(
            _("The comment has %(length)s characters.", length=length),
            mend=_("Write at least %(comment_min_chars)s.", comment_min_chars=asks.comment_min_chars),
        )


def _check_ranking(ballot: Ballot, answers: int) -> None:
    if ballot.choice != "ranked":
        raise VoteInvalidError(
            _(
                "The choice %(choice)s compares two answers; these are %(answers)s to be ranked.",
                choice=repr(ballot.choice),
                answers=answers,
            ),
            mend=_("Send the choice ranked with a ranking."),
        )
    if ballot.criteria:
        raise VoteInvalidError(_("Criteria compare two answers."), mend=_("Leave them out of a ranking."))
    places = [place for tier in ballot.ranking or () for place in tier]
    if sorted(places) != list(range(answers)) or not all(ballot.ranking or ()):
        raise VoteInvalidError(
            _(
                "The ranking %(ranking)s does not place every answer once.",
                ranking=[list(tier) for tier in ballot.ranking or ()],
            ),
            mend=_("Send tiers, the best first, in which each of 0 to %(answers)s stands once.", answers=answers - 1),
        )
