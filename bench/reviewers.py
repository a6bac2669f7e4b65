"""Are reviewers who do not judge found? Simulated crews, 5 % of them in bad faith, through the product's own detection.

Honest reviewers prefer the better answer the more surely, the larger the difference (a Bradley-Terry model whose scale
is set so that two of them agree on 65 to 73 % of the pairs), with a small habit for one side and some ties. They work
in sessions, several at a time, and the queue fills each pair with the next three who ask, as the product's does. Bad
ones are coin flippers, clickers of one side, rings that copy one sheet, or one person with two accounts.

    python bench/reviewers.py --seeds 20 --json
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from app.reviewers.detection import detect
from app.reviewers.records import BOTH_BAD, TIE, UNKNOWN, A, B, Judgements

KINDS = ("random", "always_left", "colluding", "duplicate")
BAD_SHARE = 0.05
OVERLAP = 3
SESSION = 25
LOOKS = (25, 50, 75, 100)
"""Votes each after which the crew is looked at: whoever is suspected at any of them counts as found."""
TIES = 0.08
SAME_PERSON = 0.96
"""How often one person says the same of the same pair under both names."""
GOLD_SCALE = 2.0
"""Gold pairs are clearer than others: their differences are this many times as large."""


@dataclass
class Row:
    """One judgement, as it is collected."""

    reviewer: int
    pair: int
    choice: int
    left: int
    gold: int = UNKNOWN
    repeat_of: int = UNKNOWN


@dataclass
class Crew:
    """Who reviews, and how."""

    kinds: list[str]
    scale: np.ndarray
    side_habit: np.ndarray
    partner: dict[int, int] = field(default_factory=dict)
    """Account → the account whose sheet it uses."""


def scale_for(agreement: float) -> float:
    """The scale s of p = σ(s·u), u ~ N(0, 1), at which two such reviewers agree this often."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()

    def agree(scale: float) -> float:
        p = expit(scale * nodes)
        return float((weights * (p**2 + (1 - p) ** 2)).sum())

    return float(brentq(lambda s: agree(s) - agreement, 0.01, 50))


def make_crew(kind: str, size: int, rng: np.random.Generator) -> Crew:
    """A crew of ``size`` with 5 % of this kind, or of all kinds ('mixed')."""
    bad = max(2, round(size * BAD_SHARE))
    kinds = ["honest"] * size
    partner: dict[int, int] = {}
    who = rng.permutation(size)[:bad].tolist()
    wanted = list(KINDS) if kind == "mixed" else [kind]
    while who:
        for name in wanted:
            if name in ("colluding", "duplicate"):
                group = who[: min(len(who), 3 if name == "colluding" else 2)]
                if len(group) < 2:
                    group, name = who[:1], "random"  # noqa: PLW2901 - one alone copies nobody
            else:
                group = who[:1]
            who = who[len(group) :]
            for one in group:
                kinds[one] = name
                if one != group[0]:
                    partner[one] = group[0]
            if not who:
                break
    scales = np.array([scale_for(a) for a in np.linspace(0.65, 0.73, 9)])
    return Crew(kinds, scales[rng.integers(0, 9, size)], rng.normal(0, 0.15, size), partner)


class Queue:
    """Pairs in line, each filled by the next reviewers who ask and have not had it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.open: list[tuple[int, list[int]]] = []
        self.made = 0
        self.difference: list[float] = []

    def next(self, reviewer: int) -> tuple[int, int]:
        """A pair, and how many had it before."""
        for pair, had in self.open:
            if reviewer not in had:
                had.append(reviewer)
                if len(had) == OVERLAP:
                    self.open.remove((pair, had))
                return pair, len(had) - 1
        self.difference.append(float(self.rng.normal()))
        self.open.append((self.made, [reviewer]))
        self.made += 1
        return self.made - 1, 0


class Work:
    """A crew at work until everybody has judged ``votes_each`` pairs."""

    def __init__(
        self, kind: str, size: int, votes_each: int, *, gold: float, repeats: float, at_once: int, seed: int
    ) -> None:
        self.rng = np.random.default_rng([seed, KINDS.index(kind) if kind in KINDS else len(KINDS)])
        self.crew = make_crew(kind, size, self.rng)
        self.queue = Queue(self.rng)
        self.size, self.votes_each, self.gold, self.repeats, self.at_once = size, votes_each, gold, repeats, at_once
        self.golds = [self._gold_difference() for _ in range(200)]
        self.rows: list[Row] = []
        self.done = np.zeros(size, dtype=int)
        self.unrepeated: dict[int, list[int]] = defaultdict(list)
        self.sheet: dict[tuple[int, int], int] = {}
        self.given: dict[int, set[int]] = defaultdict(set)

    def _gold_difference(self) -> float:
        size = GOLD_SCALE * abs(self.rng.normal()) + 0.5
        return float(size if self.rng.random() < 0.5 else -size)

    def run(self) -> Judgements:
        """People come for a session, some at a time; accounts in one hand ask one after the other."""
        teams: dict[int, list[int]] = defaultdict(list)
        for reviewer in range(self.size):
            teams[self.crew.partner.get(reviewer, reviewer)].append(reviewer)
        left_in_session: dict[int, int] = {}
        while True:
            idle = [head for head, team in teams.items() if head not in left_in_session and self._unfinished(team)]
            while len(left_in_session) < self.at_once and idle:
                left_in_session[idle.pop(int(self.rng.integers(len(idle))))] = SESSION
            if not left_in_session:
                return _arrays(self.rows, self.size, self.queue.made)
            head = list(left_in_session)[int(self.rng.integers(len(left_in_session)))]
            for member in self._unfinished(teams[head]):
                self._review(member)
            left_in_session[head] -= 1
            if not left_in_session[head] or not self._unfinished(teams[head]):
                del left_in_session[head]

    def _unfinished(self, team: list[int]) -> list[int]:
        return [member for member in team if self.done[member] < self.votes_each]

    def _review(self, reviewer: int) -> None:
        self.done[reviewer] += 1
        draw = self.rng.random()
        if draw < self.gold:
            self._review_gold(reviewer)
        elif draw < self.gold + self.repeats and len(self.unrepeated[reviewer]) > 20:
            self._review_again(reviewer)
        else:
            pair, slot = self.queue.next(reviewer)
            left = (pair * 7 + slot) % 2
            choice = self._choice(reviewer, pair, self.queue.difference[pair], left)
            self.unrepeated[reviewer].append(len(self.rows))
            self.rows.append(Row(reviewer, pair, choice, left))

    def _review_gold(self, reviewer: int) -> None:
        fresh = [number for number in range(len(self.golds)) if number not in self.given[reviewer]]
        number, left = int(self.rng.choice(fresh)), int(self.rng.integers(0, 2))
        self.given[reviewer].add(number)
        pair, difference = -1 - number, self.golds[number]
        choice = self._choice(reviewer, pair, difference, left)
        self.rows.append(Row(reviewer, pair, choice, left, gold=A if difference > 0 else B))

    def _review_again(self, reviewer: int) -> None:
        earlier = int(self.rng.choice(self.unrepeated[reviewer][:-20]))
        self.unrepeated[reviewer].remove(earlier)
        first = self.rows[earlier]
        choice = self._opinion(reviewer, self.queue.difference[first.pair], 1 - first.left)
        self.rows.append(Row(reviewer, first.pair, choice, 1 - first.left, repeat_of=earlier))

    def _choice(self, reviewer: int, pair: int, difference: float, left: int) -> int:
        """The reviewer's own opinion, or what stands on the sheet they share with others."""
        choice = self._opinion(reviewer, difference, left)
        name = self.crew.kinds[reviewer]
        if name not in ("colluding", "duplicate"):
            return choice
        on_sheet = self.sheet.setdefault((self.crew.partner.get(reviewer, reviewer), pair), choice)
        return on_sheet if name == "colluding" or self.rng.random() < SAME_PERSON else choice

    def _opinion(self, reviewer: int, difference: float, left: int) -> int:
        rng, name = self.rng, self.crew.kinds[reviewer]
        if name == "always_left":
            return left
        if rng.random() < TIES:
            return TIE if rng.random() < 0.8 else BOTH_BAD
        if name in ("random", "colluding"):
            return int(rng.choice((A, B)))
        person = self.crew.partner.get(reviewer, reviewer)
        for_a = self.crew.scale[person] * difference + self.crew.side_habit[person] * (1 if left == A else -1)
        return A if rng.random() < expit(for_a) else B


def _arrays(rows: Sequence[Row], size: int, pairs: int) -> Judgements:
    def column(name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], dtype=np.int64)

    pair = column("pair")
    count = len(rows)
    return Judgements(
        reviewer=column("reviewer"),
        pair=np.where(pair < 0, pairs - 1 - pair, pair),
        choice=column("choice"),
        left=column("left"),
        gold=column("gold"),
        attention=np.zeros(count, dtype=bool),
        repeat_of=column("repeat_of"),
        seconds=np.full(count, np.nan),
        length_a=np.full(count, 100),
        length_b=np.full(count, 100),
        at=np.arange(count, dtype=float),
        reviewers=range(size),
    )


def found_within(judgements: Judgements, votes_each: int) -> set[int]:
    """Everybody suspected at one of the looks, each of which sees what the crew had said by then."""
    number = np.zeros(len(judgements), dtype=int)
    seen: dict[int, int] = defaultdict(int)
    for row, reviewer in enumerate(judgements.reviewer.tolist()):
        seen[reviewer] += 1
        number[row] = seen[reviewer]
    found: set[int] = set()
    for look in sorted({min(look, votes_each) for look in LOOKS} | {votes_each}):
        found |= {suspicion.reviewer for suspicion in detect(judgements.rows(number <= look))}
    return found


def run(kind: str, options: argparse.Namespace) -> dict[str, float | int | str]:
    """One kind over all seeds."""
    caught = bad = alarms = honest = 0
    agreement: list[float] = []
    for seed in range(options.seeds):
        work = Work(
            kind,
            options.reviewers,
            options.votes,
            gold=options.gold / 100,
            repeats=options.repeats / 100,
            at_once=options.at_once,
            seed=seed,
        )
        judgements, crew = work.run(), work.crew
        found = found_within(judgements, options.votes)
        is_bad = {r for r, name in enumerate(crew.kinds) if name != "honest"}
        caught += len(found & is_bad)
        bad += len(is_bad)
        alarms += len(found - is_bad)
        honest += len(crew.kinds) - len(is_bad)
        agreement.append(_agreement(judgements, is_bad))
    return {
        "kind": kind,
        "bad": bad,
        "detected": caught / bad,
        "honest": honest,
        "false_alarms": alarms / honest,
        "honest_agreement": float(np.mean(agreement)),
    }


def _agreement(judgements: Judgements, bad: set[int]) -> float:
    """How often two honest preferences of a pair agree."""
    keep = judgements.work & judgements.decided & ~np.isin(judgements.reviewer, list(bad))
    said: dict[int, list[int]] = defaultdict(list)
    for pair, choice in zip(judgements.pair[keep].tolist(), judgements.choice[keep].tolist(), strict=True):
        said[pair].append(choice)
    twos = [(x, y) for row in said.values() for i, x in enumerate(row) for y in row[i + 1 :]]
    return float(np.mean([x == y for x, y in twos]))


def main() -> None:
    """Run the simulation and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="simulated crews of each kind")
    parser.add_argument("--reviewers", type=int, default=100, help="people in a crew")
    parser.add_argument("--votes", type=int, default=100, help="judgements of each of them")
    parser.add_argument("--gold", type=float, default=5.0, help="share of gold pairs, percent (at most 5)")
    parser.add_argument("--repeats", type=float, default=0.0, help="share of repeated pairs, percent")
    parser.add_argument("--at-once", type=int, default=8, help="people at work at a time")
    parser.add_argument("--json", action="store_true", help="print one line of JSON last")
    options = parser.parse_args()
    started = time.monotonic()
    rows = []
    print(f"{'kind':<12} {'bad':>5} {'found':>7} {'honest':>7} {'false alarms':>13} {'agreement':>10}")
    for kind in (*KINDS, "mixed"):
        row = run(kind, options)
        rows.append(row)
        print(
            f"{kind:<12} {row['bad']:>5} {row['detected']:>7.1%} {row['honest']:>7} {row['false_alarms']:>13.2%}"
            f" {row['honest_agreement']:>10.1%}",
            flush=True,
        )
    kinds = [row for row in rows if row["kind"] != "mixed"]
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        print(
            json.dumps(
                {
                    "detected": min(float(row["detected"]) for row in rows),
                    "false_alarms": max(float(row["false_alarms"]) for row in rows),
                    "votes_each": options.votes,
                    "seeds": options.seeds,
                    "gold_percent": options.gold,
                    "repeat_percent": options.repeats,
                    "reviewers": options.reviewers,
                    "kinds": {str(row["kind"]): row for row in kinds},
                    "mixed": rows[-1],
                }
            )
        )


if __name__ == "__main__":
    main()
