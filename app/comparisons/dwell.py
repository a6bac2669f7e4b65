"""How long a pair was looked at: as measured where it was shown, and never longer than it was handed out."""

from dataclasses import replace
from datetime import datetime

from app.comparisons.errors import VoteTooFastError
from app.comparisons.records import COUNTED, Ballot


def measured(ballot: Ballot, *, shown_at: datetime, now: datetime) -> Ballot:
    """The ballot with a time that can be true: nobody looked longer than since ``shown_at``."""
    if ballot.seconds is None:
        return ballot
    return replace(ballot, seconds=min(ballot.seconds, max(0.0, (now - shown_at).total_seconds())))


def require_dwell(ballot: Ballot, *, shown_at: datetime, now: datetime, min_seconds: float) -> None:
    """Refuse a judgement that came too soon; skips and flags may come at once.

    The page says how long the pair was visible; who does not say is taken to have looked since it was handed out.

    Raises:
        VoteTooFastError: with both times.
    """
    if not min_seconds or ballot.choice not in COUNTED:
        return
    looked = ballot.seconds if ballot.seconds is not None else (now - shown_at).total_seconds()
    if looked < min_seconds:
        raise VoteTooFastError(looked, min_seconds)
