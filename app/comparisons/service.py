"""The rules of comparing, in one place to import from: leases, votes, and what is in the queue.

Everything takes a session first, flushes and never commits. Times can be given (``now``) so that tests decide them.
"""

from app.comparisons.feedback import record_feedback
from app.comparisons.holding import expire_leases, extend_lease, lease_on, load_lease, show_lease
from app.comparisons.labels import record_label
from app.comparisons.leasing import lease_ahead, lease_next
from app.comparisons.qualifying import uses_feedback
from app.comparisons.stock import (
    Made,
    create_comparison,
    create_ranking,
    withdraw_comparing,
    withdraw_otherwise,
    withdraw_unvoted,
)
from app.comparisons.voting import record_vote, undo_last, undo_vote

__all__ = [
    "Made",
    "create_comparison",
    "create_ranking",
    "expire_leases",
    "extend_lease",
    "lease_ahead",
    "lease_next",
    "lease_on",
    "load_lease",
    "record_feedback",
    "record_label",
    "record_vote",
    "show_lease",
    "undo_last",
    "undo_vote",
    "uses_feedback",
    "withdraw_comparing",
    "withdraw_otherwise",
    "withdraw_unvoted",
]
