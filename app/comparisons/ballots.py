"""Whether a submitted vote holds together in itself, and whether two submissions are the same one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import (
    COUNTED,
    FLAG_REASONS,
    MAX_CORRECTED_CHARS,
    MAX_KEY_CHARS,
    Ballot,
    Choice,
    meant_criteria,
    meant_ranking,
    shown_of,
)
from app.db.direct import Row
from app.language import _
from app.lines import with_newlines
from app.projects.reviewing import MAX_COMMENT_CHARS

MAX_REASON_CHARS = 200


def checked(ballot: Ballot, key: str | None) -> Ballot:
    """The ballot with blank texts as none. What the project asks for is another matter (``rules``).

    Raises:
        VoteInvalidError: names the part that is wrong, and what it may be.
    """
    if ballot.choice not in get_args(Choice):
        raise VoteInvalidError(
            _("The choice %(choice)s is unknown.", choice=repr(ballot.choice)),
            mend=_("Choose one of %(choice)s.", choice=", ".join(get_args(Choice))),
        )
    reason = (ballot.reason or "").strip() or None
    comment = (ballot.comment or "").strip() or None
    corrected = with_newlines(ballot.corrected or "").strip() or None
    if ballot.choice == "flag" and reason not in FLAG_REASONS:
        raise VoteInvalidError(
            _("A flag needs a reason; %(reason)s is none.", reason=repr(reason)),
            mend=_("Give one of %(flag_reasons)s.", flag_reasons=", ".join(FLAG_REASONS)),
        )
    if ballot.choice in COUNTED and reason is not None:
        raise VoteInvalidError(_("A reason belongs to a skip or a flag."), mend=_("Say it in the comment instead."))
    if ballot.choice not in COUNTED and (ballot.tags or ballot.criteria or corrected):
        raise VoteInvalidError(
            _(
                "Tags, criteria and corrections belong to a judgement, not to the choice %(choice)s.",
                choice=repr(ballot.choice),
            ),
            mend=_("Leave them out of a skip or a flag."),
        )
    if ballot.strength is not None and (ballot.choice not in ("a", "b") or ballot.strength not in (1, 2, 3)):
        raise VoteInvalidError(
            _(
                "Strength %(strength)s does not fit the choice %(choice)s.",
                strength=ballot.strength,
                choice=repr(ballot.choice),
            ),
            mend=_("Send 1, 2 or 3 with the choice a or b, or leave it out."),
        )
    if (ballot.choice == "ranked") != (ballot.ranking is not None):
        raise VoteInvalidError(
            _("The choice %(choice)s came with a ranking.", choice=repr(ballot.choice))
            if ballot.ranking is not None
            else _("The choice %(choice)s came without a ranking.", choice=repr(ballot.choice)),
            mend=_("Send the choice ranked together with a ranking, and no other choice with one."),
        )
    if corrected is not None and ballot.best is None:
        raise VoteInvalidError(
            _("A correction is an edit of the better answer, and this vote prefers none."),
            mend=_("Choose the answer that you edited, or leave the correction out."),
        )
    _check_texts(
        ("comment", comment, MAX_COMMENT_CHARS),
        ("reason", reason, MAX_REASON_CHARS),
        ("correction", corrected, MAX_CORRECTED_CHARS),
        ("key", key, MAX_KEY_CHARS),
    )
    if key is not None and not key.strip():
        raise VoteInvalidError(_("The idempotency key is empty."), mend=_("Send a fresh random value, or no key."))
    seconds = ballot.seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise VoteInvalidError(
            _("%(seconds)s is no duration.", seconds=seconds),
            mend=_("Send the seconds from showing to choosing, or leave them out."),
        )
    tags = tuple(dict.fromkeys(ballot.tags))
    return replace(ballot, comment=comment, reason=reason, corrected=corrected, tags=tags)


def same(ballot: Ballot, stored: Row, *, left_side: str, shown_order: Sequence[int] | None) -> bool:
    """Whether a stored vote says what this ballot says. How long it took may differ: a resend measures anew."""
    return meant(ballot, left_side=left_side, shown_order=shown_order) == {
        "shown_choice": stored["shown_choice"],
        "strength": stored["strength"],
        "comment": stored["comment"],
        "reason": stored["reason"],
        "tags": stored["tags"],
        "criteria": stored["criteria"],
        "ranking": stored["ranking"],
        "corrected": stored["corrected"],
    }


def meant(ballot: Ballot, *, left_side: str, shown_order: Sequence[int] | None) -> dict[str, Any]:
    """The ballot as it is stored: criteria of the comparison's own sides, rankings of its own items."""
    return {
        "shown_choice": shown_of(ballot.choice),
        "strength": ballot.strength,
        "comment": ballot.comment,
        "reason": ballot.reason,
        "tags": list(ballot.tags),
        "criteria": meant_criteria(ballot.criteria, left_side),
        "ranking": None if ballot.ranking is None else meant_ranking(ballot.ranking, shown_order or ()),
        "corrected": ballot.corrected,
    }


def _check_texts(*texts: tuple[str, str | None, int]) -> None:
    for name, value, limit in texts:
        if value is not None and len(value) > limit:
            raise VoteInvalidError(
                _("The %(name)s has %(value)s characters.", name=name, value=len(value)),
                mend=_("Keep it to %(limit)s.", limit=limit),
            )
        if value is not None and "\x00" in value:
            raise VoteInvalidError(_("The %(name)s holds a null character.", name=name), mend=_("Leave it out."))
