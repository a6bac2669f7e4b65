"""From what people said of a group to what a loss can read of it, everything counted by name.

A pairwise loss reads a ranking as the pairs it implies, which share the ranking's weight, so that a ranking is one
judgement however many answers it orders (as InstructGPT did, section 3.5, arXiv:2203.02155). A loss on single answers
reads a choice as a good and a bad one (as KTO did for its paired data), and 'both bad' as two bad ones.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

from app.rounds.spec import LossSpec
from worker.trainer.data import Group, Preference, Ranking
from worker.trainer.losses.plackett_luce import MOST_EQUALS


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: indices of completions, how much it counts, and its margin δ in nats."""

    chosen: int
    rejected: int
    weight: float
    margin: float
    tie: bool = False
    """Neither is better; either may stand as the chosen one."""
    judgement: int = 0
    """Which of the things people said of the group it is; the pairs that a ranking implies have one number."""

    def moved(self, place: Mapping[int, int]) -> "Pair":
        """The same with other indices."""
        return replace(self, chosen=place[self.chosen], rejected=place[self.rejected])


@dataclass(frozen=True, slots=True)
class Labelled:
    """One completion that is good or bad by itself."""

    completion: int
    desirable: bool
    weight: float
    judgement: int = 0
    """As a pair's; both answers of a choice have one number."""

    def moved(self, place: Mapping[int, int]) -> "Labelled":
        """The same with another index."""
        return replace(self, completion=place[self.completion])


@dataclass(frozen=True, slots=True)
class Order:
    """One ranking: indices of completions, best first, and the tier of each."""

    places: list[int]
    tiers: list[int]
    weight: float
    judgement: int = 0
    """As a pair's."""

    def moved(self, place: Mapping[int, int]) -> "Order":
        """The same with other indices."""
        return replace(self, places=[place[index] for index in self.places])


@dataclass(slots=True)
class Judgements:
    """What a loss reads of one group, by indices into the group's completions."""

    pairs: list[Pair] = field(default_factory=list)
    labels: list[Labelled] = field(default_factory=list)
    rankings: list[Order] = field(default_factory=list)
    count: int = 0
    """Things people said of the group so far, read or not."""


def read(group: Group, loss: LossSpec, margin_scale: float, used: Counter[str], unused: Counter[str]) -> Judgements:
    """The judgements of ``group`` that ``loss`` reads; ``used`` and ``unused`` are counted up by name."""
    found = Judgements()
    for preference in group.preferences:
        found.count += 1
        reason = _why_not(group, preference, loss)
        if reason is not None:
            unused[reason] += 1
            continue
        used[_signal(preference)] += 1
        margin = 0.0
        if preference.margin and preference.outcome in ("a", "b"):
            read_it = "margin" in loss.signals and margin_scale > 0
            (used if read_it else unused)["margin"] += 1
            margin = preference.margin * margin_scale if read_it else 0.0
        _add_preference(found, preference, loss, margin)
    for ranking in group.rankings:
        found.count += 1
        _add_ranking(found, group, ranking, loss, used, unused)
    for label in group.labels:
        found.count += 1
        if "label" not in loss.signals:
            unused["label"] += 1
        elif label.weight == 0:
            unused["weight 0"] += 1
        else:
            used["label"] += 1
            found.labels.append(Labelled(label.completion, label.desirable, label.weight, found.count))
    return found


def _signal(preference: Preference) -> str:
    return "choice" if preference.outcome in ("a", "b") else preference.outcome


def _why_not(group: Group, preference: Preference, loss: LossSpec) -> str | None:
    """Why the preference is left out; None where it is read."""
    if _signal(preference) not in loss.signals:
        return _signal(preference)
    if preference.weight == 0:
        return "weight 0"
    # Two equal answers that are both bad are two bad answers.
    same = group.completions[preference.a].ids == group.completions[preference.b].ids
    return "identical" if same and preference.outcome != "both_bad" else None


def _add_preference(found: Judgements, preference: Preference, loss: LossSpec, margin: float) -> None:
    weight, number = preference.weight, found.count
    if preference.outcome == "both_bad":
        found.labels += [Labelled(index, False, weight, number) for index in (preference.a, preference.b)]
        return
    won, lost = (preference.a, preference.b) if preference.outcome != "b" else (preference.b, preference.a)
    found.pairs.append(Pair(won, lost, weight, margin, tie=preference.outcome == "tie", judgement=number))
    if loss.shape == "labels":
        found.labels += [Labelled(won, True, weight, number), Labelled(lost, False, weight, number)]
    elif loss.shape == "rankings":
        found.rankings.append(Order([won, lost], [0, 1], weight, number))


def _add_ranking(
    found: Judgements, group: Group, ranking: Ranking, loss: LossSpec, used: Counter[str], unused: Counter[str]
) -> None:
    if "ranking" not in loss.signals:
        unused["ranking"] += 1
        return
    if ranking.weight == 0:
        unused["weight 0"] += 1
        return
    pairs, ties = _implied(group, ranking, unused)
    if loss.shape == "rankings":
        if not pairs:
            unused["ranking without order"] += 1
            return
        if any(len(tier) > MOST_EQUALS for tier in ranking.tiers[:-1]):
            unused[f"ranking with more than {MOST_EQUALS} equals above its last tier"] += 1
            return
        places = [index for tier in ranking.tiers for index in tier]
        tiers = [number for number, tier in enumerate(ranking.tiers) for _ in tier]
        found.rankings.append(Order(places, tiers, ranking.weight, found.count))
    elif "tie" in loss.signals:
        pairs += ties
    elif ties:
        unused["tie in a ranking"] += len(ties)
    if not pairs:
        return
    used["ranking"] += 1
    share = ranking.weight / len(pairs)
    found.pairs += [replace(pair, weight=share, judgement=found.count) for pair in pairs]


def _implied(group: Group, ranking: Ranking, unused: Counter[str]) -> tuple[list[Pair], list[Pair]]:
    """The choices and the ties that a ranking implies."""
    pairs: list[Pair] = []
    ties: list[Pair] = []
    placed = [(number, index) for number, tier in enumerate(ranking.tiers) for index in tier]
    for (better, first), (worse, second) in combinations(placed, 2):
        if group.completions[first].ids == group.completions[second].ids:
            unused["identical"] += 1
        elif better < worse:
            pairs.append(Pair(first, second, 1.0, 0.0))
        else:
            ties.append(Pair(first, second, 1.0, 0.0, tie=True))
    return pairs, ties
