"""What a vote changes: pure rules, from the state of a comparison to the state after, no database.

A comparison's slots are the votes it asks for. Whatever a reviewer says, the rules here answer three questions:
which slot becomes whose, what becomes of the reviewer's assignment, and what becomes of the comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as it stands: 'free', 'leased', 'voted' or 'closed', and by whom it is held."""

    number: int
    state: str
    assignment_id: UUID | None


@dataclass(frozen=True, slots=True)
class Place:
    """A comparison with its slots, locked, and the assignment that wants to change something."""

    comparison_state: str
    slots: Sequence[Slot]
    assignment_id: UUID
    mirrored: bool
    """The reviewer saw the sides the other way round than the first slot shows them."""
    others_flagged: bool = False
    """Another reviewer's flag stands."""

    @property
    def held(self) -> Slot | None:
        """The slot that this assignment leases or has voted in."""
        return next((slot for slot in self.slots if slot.assignment_id == self.assignment_id), None)

    def free(self) -> Slot | None:
        """A free slot of a comparison in the queue, of the side that was shown if there is one."""
        if self.comparison_state != "open":
            return None
        free = [slot for slot in self.slots if slot.state == "free"]
        return next((slot for slot in free if (slot.number % 2 == 1) == self.mirrored), free[0] if free else None)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written."""

    assignment_state: str
    comparison_state: str
    take: int | None = None
    """The slot that becomes (or stays) this assignment's…"""
    take_as: str = "voted"
    """…as 'voted' or 'leased'."""
    release: tuple[int, ...] = ()
    """Slots that lose their holder…"""
    release_as: str = "free"
    """…and become 'free' or 'closed'."""

    @property
    def surplus(self) -> bool:
        """The choice is kept but counts nowhere."""
        return self.assignment_state == "surplus"


def vote(place: Place) -> Change:
    """A choice fills the slot held, or a free one; without either it is surplus."""
    seat = place.held or place.free()
    if seat is None:
        return Change("surplus", place.comparison_state)
    full = all(slot.state == "voted" for slot in place.slots if slot is not seat)
    complete = full and place.comparison_state == "open"
    return Change("voted", "complete" if complete else place.comparison_state, take=seat.number)


def skip(place: Place) -> Change:
    """A skip gives the slot back to the queue; a complete comparison is open again."""
    if place.held is None:
        return Change("skipped", place.comparison_state)
    queued = place.comparison_state in ("open", "complete")
    return Change(
        "skipped",
        "open" if queued else place.comparison_state,
        release=(place.held.number,),
        release_as="free" if queued else "closed",
    )


def put_aside(place: Place, *, assignment_state: str = "surplus") -> Change:
    """What somebody in quarantine says is kept and counts nowhere; a slot they held goes back to the queue."""
    released = skip(place)
    return Change(assignment_state, released.comparison_state, release=released.release, release_as=released.release_as)


def flag(place: Place) -> Change:
    """A flag takes the comparison out of the queue: its own and all free slots are closed; others' votes stay."""
    own = place.held
    closing = tuple(slot.number for slot in place.slots if slot.state == "free" or slot is own)
    state = "withdrawn" if place.comparison_state == "withdrawn" else "flagged"
    return Change("skipped", state, release=closing, release_as="closed")


def undo(place: Place, *, choice: str) -> Change:
    """Take back ``choice``: the slot is leased to the reviewer again, or another free one, if there is one.

    The undoing of the only flag puts the comparison back in the queue.
    """
    if choice == "flag" and place.comparison_state == "flagged" and not place.others_flagged:
        closed = [slot.number for slot in place.slots if slot.state == "closed"]
        if closed:
            seat, *rest = sorted(closed, key=lambda number: (number % 2 == 1) != place.mirrored)
            return Change("leased", "open", take=seat, take_as="leased", release=tuple(rest), release_as="free")
        return Change("expired", "complete" if all(slot.state == "voted" for slot in place.slots) else "open")
    seat_held = place.held or place.free()
    if seat_held is None:
        return Change("expired", place.comparison_state)
    state = "open" if place.comparison_state == "complete" else place.comparison_state
    return Change("leased", state, take=seat_held.number, take_as="leased")
