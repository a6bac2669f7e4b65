"""Everything that changes rounds and versions, in one place to import from.

People and schedules ask (``requests``), workers hold and move on what was asked (``leases``), and versions come and go
(``promotion``). No other room registers a version, promotes one, or withdraws stale comparisons.
"""

from app.rounds.archiving import archive, restore
from app.rounds.leases import (
    Beat,
    Claimed,
    advance,
    claim,
    end_cancelled,
    fail,
    heartbeat,
    note,
    record_progress,
    release,
)
from app.rounds.promotion import promote, register_version, reject, roll_back
from app.rounds.requests import cancel, request_import, request_round, retry, settings_of, settings_over
from app.rounds.snapshots import prepare

__all__ = [
    "Beat",
    "Claimed",
    "advance",
    "archive",
    "cancel",
    "claim",
    "end_cancelled",
    "fail",
    "heartbeat",
    "note",
    "prepare",
    "promote",
    "record_progress",
    "register_version",
    "reject",
    "release",
    "request_import",
    "request_round",
    "restore",
    "retry",
    "roll_back",
    "settings_of",
    "settings_over",
]
