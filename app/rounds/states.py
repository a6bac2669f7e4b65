"""The states of a round, and which may follow which. Only ``leases`` and ``requests`` change them."""

from typing import Literal

State = Literal["queued", "preparing", "training", "publishing", "done", "failed", "cancelled"]
Trigger = Literal["button", "api", "votes", "schedule", "setup"]

ACTIVE: tuple[State, ...] = ("queued", "preparing", "training", "publishing")
"""At most one round of a project is in one of these (partial unique index)."""

# From publishing back to training: a worker took the round over and the finished version was gone.
NEXT: dict[State, tuple[State, ...]] = {
    "queued": ("preparing", "failed", "cancelled"),
    "preparing": ("training", "failed", "cancelled"),
    "training": ("publishing", "failed", "cancelled"),
    "publishing": ("done", "training", "failed", "cancelled"),
    "done": (),
    "failed": ("queued",),
    "cancelled": (),
}
