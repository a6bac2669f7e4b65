"""Whether a submitted vote holds together, and whether two submissions are the same one."""

import math
from typing import get_args

from sqlalchemy import RowMapping

from app.comparisons.errors import VoteInvalidError
from app.comparisons.records import COUNTED, FLAG_REASONS, MAX_COMMENT_CHARS, MAX_KEY_CHARS, Ballot, Choice, shown_of


def checked(ballot: Ballot, key: str | None) -> Ballot:
    """The ballot with blank texts as none.

    Raises:
        VoteInvalidError: names the part that is wrong, and what it may be.
    """
    if ballot.choice not in get_args(Choice):
        raise VoteInvalidError(
            f"The choice {ballot.choice!r} is unknown.", mend=f"Choose one of {', '.join(get_args(Choice))}."
        )
    reason = (ballot.reason or "").strip() or None
    comment = (ballot.comment or "").strip() or None
    if ballot.choice == "flag" and reason not in FLAG_REASONS:
        raise VoteInvalidError(
            f"A flag needs a reason; {reason!r} is none.", mend=f"Give one of {', '.join(FLAG_REASONS)}."
        )
    if ballot.choice in COUNTED and reason is not None:
        raise VoteInvalidError("A reason belongs to a skip or a flag.", mend="Say it in the comment instead.")
    if ballot.strength is not None and (ballot.choice not in ("a", "b") or ballot.strength not in (1, 2, 3)):
        raise VoteInvalidError(
            f"Strength {ballot.strength} does not fit the choice {ballot.choice!r}.",
            mend="Send 1, 2 or 3 with the choice a or b, or leave it out.",
        )
    for name, value, limit in (
        ("comment", comment, MAX_COMMENT_CHARS),
        ("reason", reason, 200),
        ("key", key, MAX_KEY_CHARS),
    ):
        if value is not None and len(value) > limit:
            raise VoteInvalidError(f"The {name} has {len(value)} characters.", mend=f"Keep it to {limit}.")
        if value is not None and "\x00" in value:
            raise VoteInvalidError(f"The {name} holds a null character.", mend="Leave it out.")
    if key is not None and not key.strip():
        raise VoteInvalidError("The idempotency key is empty.", mend="Send a fresh random value, or no key.")
    seconds = ballot.seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise VoteInvalidError(
            f"{seconds} is no duration.", mend="Send the seconds from showing to choosing, or leave them out."
        )
    return Ballot(ballot.choice, strength=ballot.strength, comment=comment, reason=reason, seconds=seconds)


def same(ballot: Ballot, stored: RowMapping) -> bool:
    """Whether a stored vote says what this ballot says. How long it took may differ: a resend measures anew."""
    said = (shown_of(ballot.choice), ballot.strength, ballot.comment, ballot.reason)
    return said == (stored["shown_choice"], stored["strength"], stored["comment"], stored["reason"])
