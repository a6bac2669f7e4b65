"""The queue as a person would explain it: an independent, slow model that the state machine compares with Postgres.

It knows nothing of rows, locks or slot numbers: a comparison asks for so many votes; people hold, fill or lose seats.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

COUNTED = ("a", "b", "tie", "both_bad")


@dataclass
class Hand:
    """One reviewer's dealings with one comparison."""

    state: str = "leased"
    leased_at: datetime | None = None
    expires_at: datetime | None = None
    said: list[str] = field(default_factory=list)
    frozen: bool = False

    @property
    def last(self) -> str | None:
        return self.said[-1] if self.said else None

    @property
    def seated(self) -> bool:
        return self.state in ("leased", "voted")


@dataclass
class Pair:
    """A comparison that asks for ``seats`` votes."""

    seats: int
    stale: bool = False
    """An older version wrote the answers."""
    closed: int = 0
    queued: bool = True
    why_out: str = ""
    hands: dict[int, Hand] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return self.seats - self.closed - sum(hand.seated for hand in self.hands.values())

    @property
    def voted(self) -> int:
        return sum(hand.state == "voted" for hand in self.hands.values())

    @property
    def state(self) -> str:
        if not self.queued:
            return self.why_out
        return "complete" if self.voted == self.seats else "open"

    @property
    def takes_more(self) -> bool:
        return self.queued and self.free > 0

    def leave_queue(self, why: str) -> None:
        self.queued, self.why_out = False, why
        self.closed += self.free


def lapsed(hand: Hand, now: datetime) -> bool:
    """It ran out, or is about to be found out to have."""
    return hand.state == "expired" or (hand.state == "leased" and hand.expires_at <= now)


class Model:
    """What should be true after each step."""

    def __init__(self, lease: timedelta) -> None:
        self.lease = lease
        self.pairs: list[Pair] = []

    def sit(self, hand: Hand, now: datetime) -> None:
        hand.state, hand.leased_at, hand.expires_at = "leased", now, now + self.lease

    def sweep(self, now: datetime) -> int:
        gone = [(p, h) for p in self.pairs for h in p.hands.values() if h.state == "leased" and h.expires_at <= now]
        for pair, hand in gone:
            hand.state = "expired"
            if not pair.queued:
                pair.closed += 1
        return len(gone)

    def next_for(self, who: int, now: datetime) -> int | None:
        """Which pair the reviewer should be given, by its number; the model is changed as if they took it."""
        mine = [
            (p.hands[who].leased_at, n)
            for n, p in enumerate(self.pairs)
            if who in p.hands
            and p.hands[who].state == "leased"
            and p.hands[who].expires_at > now
            and (p.state == "open" or p.hands[who].said)
        ]
        if mine:
            return max(mine)[1]
        for attempt in ("fresh", "fresh after the sweep"):
            for number, pair in enumerate(self.pairs):
                if pair.takes_more and who not in pair.hands:
                    pair.hands[who] = Hand()
                    self.sit(pair.hands[who], now)
                    return number
            if attempt == "fresh" and not self.sweep(now):
                break
        for number, pair in enumerate(self.pairs):
            if pair.takes_more and who in pair.hands and pair.hands[who].state == "expired":
                self.sit(pair.hands[who], now)
                return number
        return None

    def say(self, number: int, who: int, choice: str) -> str:
        """'counted', 'surplus' or 'kept' (a skip, a flag), or 'frozen' where nothing may change."""
        pair, hand = self.pairs[number], self.pairs[number].hands[who]
        if hand.frozen:
            return "frozen"
        hand.said.append(choice)
        if choice in COUNTED:
            hand.state = "voted" if hand.seated or pair.takes_more else "surplus"
            return "counted" if hand.state == "voted" else "surplus"
        was_seated = hand.seated
        hand.state = "skipped"
        if choice == "flag" and pair.why_out != "withdrawn":
            pair.leave_queue("flagged")
        elif was_seated and not pair.queued:
            pair.closed += 1
        return "kept"

    def take_back(self, number: int, who: int, now: datetime) -> str:
        """'leased' or 'without a seat', 'nothing' or 'frozen'."""
        pair, hand = self.pairs[number], self.pairs[number].hands[who]
        if not hand.said:
            return "nothing"
        if hand.last == "undone":
            return "leased" if hand.seated else "without a seat"
        if hand.frozen:
            return "frozen"
        flagged, was_seated = hand.last == "flag", hand.seated
        hand.said.append("undone")
        hand.state = "expired"
        others = any(other.last == "flag" for name, other in pair.hands.items() if name != who)
        if flagged and pair.why_out == "flagged" and not others:
            pair.queued, pair.why_out, pair.closed = True, "", 0
        if was_seated or pair.takes_more:
            self.sit(hand, now)
            return "leased"
        return "without a seat"

    def withdraw(self) -> int:
        gone = self.stale
        for pair in gone:
            pair.leave_queue("withdrawn")
        return len(gone)

    @property
    def stale(self) -> list[Pair]:
        """What a promotion takes out of the queue."""
        return [p for p in self.pairs if p.stale and p.state == "open" and not any(self._spoken(p))]

    @staticmethod
    def _spoken(pair: Pair) -> list[bool]:
        return [word != "undone" for hand in pair.hands.values() for word in hand.said]
