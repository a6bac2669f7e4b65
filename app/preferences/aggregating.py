"""From votes to preferences: pure rules, from the votes on one comparison and a project's settings to what trains.

Each vote first says something of two answers (by its choice, by one criterion, or by all of them weighed into one), or
ranks several. Then every vote is a preference of its own, or the votes on a comparison make one: what most of their
weight says of a pair, the mean places (Borda) of a ranking. An edit is better than the answer it was made from and than
the one that was not chosen. Where somebody has settled a pair, it is one preference of full weight: what was decided.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any
from uuid import UUID

from app.preferences.records import Preference, Settled, Tiers, Vote
from app.projects.aggregation import OVERALL, WEIGHTED, Aggregation

_LIKERT_RANGE = 4.0
"""Largest difference of two points on the scale from 1 to 5."""
_EVEN = 1e-9
_DIGITS = 6

Weigh = Callable[[Vote], tuple[float, float]]
"""A vote's (skill, age) weights: how much its reviewer is worth, and how much it still counts."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a vote says of the two answers of a pair."""

    outcome: str
    """'a', 'b', 'tie' or 'both_bad'."""
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What votes became."""

    preferences: list[Preference]
    left_out: Counter[str]
    contradictions: int


def aggregate(
    votes: Iterable[Vote], settings: Aggregation, weigh: Weigh, decisions: Mapping[UUID, Settled] = MappingProxyType({})
) -> Aggregated:
    """The preferences of votes that come ordered by comparison; in that order.

    Args:
        decisions: comparison → what was decided about it.
    """
    found = Aggregated([], Counter(), 0)
    contradictions = 0
    for comparison_id, block in groupby(votes, key=lambda vote: vote.comparison_id):
        together = list(block)
        if comparison_id in decisions:
            found.preferences.extend(_settled(together, decisions[comparison_id], settings, weigh, found.left_out))
            continue
        contradictions += {"a", "b"} <= {vote.choice for vote in together}
        make = _of_ranking if together[0].choice == "ranked" else _of_pair
        found.preferences.extend(make(together, settings, weigh, found.left_out))
    return Aggregated(found.preferences, found.left_out, contradictions)


def said(vote: Vote, settings: Aggregation) -> Said | None:
    """What a vote on a pair says under the project's settings; null when it says nothing of the criterion."""
    if settings.criteria == OVERALL or vote.choice == "both_bad":
        return Said(vote.choice, settings.margins.of(vote.strength) if vote.choice in ("a", "b") else 0.0)
    if settings.criteria == WEIGHTED:
        return _weighted(vote, settings)
    score = _score(vote.criteria.get(settings.criteria))
    return None if score is None else _from_score(score, settings)


def _weighted(vote: Vote, settings: Aggregation) -> Said:
    """All criteria in one; a vote without any is taken by its choice."""
    total = points = 0.0
    for key, value in vote.criteria.items():
        score, weight = _score(value), settings.criteria_weights.get(key, 1.0)
        if score is not None:
            points += weight * score
            total += weight
    if total <= 0:
        return Said(vote.choice, settings.margins.of(vote.strength) if vote.choice in ("a", "b") else 0.0)
    return _from_score(points / total, settings)


def _score(value: Any) -> float | None:
    """+1 … −1: how far a criterion speaks for a; null when nothing was said."""
    if isinstance(value, Mapping):
        return (float(value["a"]) - float(value["b"])) / _LIKERT_RANGE
    return {"a": 1.0, "tie": 0.0, "b": -1.0}.get(str(value)) if value is not None else None


def _from_score(score: float, settings: Aggregation) -> Said:
    if abs(score) < _EVEN:
        return Said("tie")
    strength = 1 if abs(score) <= 1 / 3 else 2 if abs(score) <= 2 / 3 else 3
    return Said("a" if score > 0 else "b", settings.margins.of(strength))


def _of_pair(
    votes: Sequence[Vote], settings: Aggregation, weigh: Weigh, left_out: Counter[str]
) -> Iterable[Preference]:
    spoken = [(vote, word) for vote in votes if (word := said(vote, settings)) is not None]
    left_out["no_criterion"] += len(votes) - len(spoken)
    if settings.method == "majority":
        yield from _majority(spoken, settings, weigh, left_out)
        return
    for vote, word in spoken:
        skill, age = weigh(vote)
        if _dropped(word.outcome, settings):
            left_out[word.outcome] += 1
        else:
            yield _pair([vote], word, skill * age)
        if settings.corrections:
            yield from _edits(vote, skill * age, beats_other=word.outcome == vote.choice)


def _majority(
    spoken: Sequence[tuple[Vote, Said]], settings: Aggregation, weigh: Weigh, left_out: Counter[str]
) -> Iterable[Preference]:
    """One preference: the outcome with most weight. Its weight is the mean age weight of the votes."""
    if not spoken:
        return
    weights = [weigh(vote) for vote, _ in spoken]
    for_outcome: dict[str, float] = {}
    for (_, word), (skill, age) in zip(spoken, weights, strict=True):
        for_outcome[word.outcome] = for_outcome.get(word.outcome, 0.0) + skill * age
    most = max(for_outcome.values())
    ahead = [outcome for outcome, weight in for_outcome.items() if weight > most - _EVEN]
    outcome = ahead[0] if len(ahead) == 1 and most > _EVEN else "undecided"
    fresh = sum(age for _, age in weights) / len(weights)
    votes = [vote for vote, _ in spoken]
    if outcome == "undecided":
        if settings.undecided == "drop" or settings.ties == "drop":
            left_out["undecided"] += len(votes)
        else:
            yield _pair(votes, Said("tie"), fresh)
    elif _dropped(outcome, settings):
        left_out[outcome] += len(votes)
    else:
        margins = [word.margin for _, word in spoken if word.outcome == outcome]
        yield _pair(votes, Said(outcome, round(sum(margins) / len(margins), _DIGITS)), fresh)
    if settings.corrections:
        for vote, (_, age) in zip(votes, weights, strict=True):
            yield from _edits(vote, age, beats_other=outcome == vote.choice)


def _settled(
    votes: Sequence[Vote], decision: Settled, settings: Aggregation, weigh: Weigh, left_out: Counter[str]
) -> Iterable[Preference]:
    """One preference, and the edits of its votes, all marked with the decision."""
    word = Said(decision.outcome, settings.margins.of(decision.strength))
    if _dropped(word.outcome, settings):
        left_out[word.outcome] += len(votes)
    else:
        yield replace(_pair(votes, word, 1.0), adjudication_id=decision.id)
    if settings.corrections:
        for vote in votes:
            skill, age = weigh(vote)
            weight = age if settings.method == "majority" else skill * age
            for edit in _edits(vote, weight, beats_other=word.outcome == vote.choice):
                yield replace(edit, adjudication_id=decision.id)


def _dropped(outcome: str, settings: Aggregation) -> bool:
    return (outcome == "tie" and settings.ties == "drop") or (outcome == "both_bad" and settings.both_bad == "drop")


def _pair(votes: Sequence[Vote], word: Said, weight: float) -> Preference:
    first = votes[0]
    return Preference(
        kind="pair",
        prompt_id=first.prompt_id,
        comparison_id=first.comparison_id,
        completion_a_id=first.items[0],
        completion_b_id=first.items[1],
        split=first.split,
        outcome=word.outcome,
        margin=word.margin,
        weight=round(weight, _DIGITS),
        vote_ids=tuple(vote.vote_id for vote in votes),
        reviewer_ids=tuple(vote.reviewer_id for vote in votes),
        voted_at=max(vote.at for vote in votes),
    )


def _edits(vote: Vote, weight: float, *, beats_other: bool) -> Iterable[Preference]:
    """corrected ≻ chosen, and corrected ≻ rejected where the pair went the way of the vote."""
    edited = vote.corrected_item
    if edited is None or vote.correction_id is None:
        return
    losers = [item for item in vote.items if item == edited or beats_other]
    for loser in sorted(losers, key=lambda item: item != edited):
        yield Preference(
            kind="pair",
            prompt_id=vote.prompt_id,
            comparison_id=vote.comparison_id,
            completion_a_id=vote.correction_id,
            completion_b_id=loser,
            split=vote.split,
            outcome="a",
            weight=round(weight, _DIGITS),
            vote_ids=(vote.vote_id,),
            reviewer_ids=(vote.reviewer_id,),
            voted_at=vote.at,
            correction=True,
        )


def _of_ranking(
    votes: Sequence[Vote], settings: Aggregation, weigh: Weigh, left_out: Counter[str]
) -> Iterable[Preference]:
    """Each ranking, with the edit of its best before all others; or one by mean places."""
    if settings.method == "majority" and len(votes) > 1:
        weights = [weigh(vote) for vote in votes]
        if sum(skill * age for skill, age in weights) <= _EVEN:
            left_out["undecided"] += len(votes)
            return
        places = _mean_places(votes, [skill * age for skill, age in weights])
        tiers = _tiers_of(places, votes[0].items)
        if len(tiers) < 2:
            left_out["undecided"] += len(votes)
        else:
            yield _ranking(votes, tiers, sum(age for _, age in weights) / len(weights))
        if settings.corrections:
            for vote, (_, age) in zip(votes, weights, strict=True):
                yield from _edits(vote, age, beats_other=False)
        return
    for vote in votes:
        skill, age = weigh(vote)
        ranked = tuple(tuple(vote.items[position] for position in tier) for tier in vote.ranking or ())
        if settings.corrections and vote.correction_id is not None:
            yield _ranking([vote], ((vote.correction_id,), *ranked), skill * age, correction=True)
        elif len(ranked) < 2:
            left_out["tie"] += 1  # all in one tier: nothing is better than anything
        else:
            yield _ranking([vote], ranked, skill * age)


def _mean_places(votes: Sequence[Vote], weights: Sequence[float]) -> list[float]:
    """Weighted mean place of each item, the best lowest; items of one tier share the mean of their places."""
    sums = [0.0] * len(votes[0].items)
    for vote, weight in zip(votes, weights, strict=True):
        place = 0.0
        for tier in vote.ranking or ():
            for position in tier:
                sums[position] += weight * (place + (len(tier) - 1) / 2)
            place += len(tier)
    return [value / sum(weights) for value in sums]


def _tiers_of(places: Sequence[float], items: Sequence[UUID]) -> Tiers:
    order = sorted(range(len(items)), key=lambda position: (round(places[position], _DIGITS), position))
    blocks = groupby(order, key=lambda position: round(places[position], _DIGITS))
    return tuple(tuple(items[position] for position in block) for _, block in blocks)


def _ranking(votes: Sequence[Vote], tiers: Tiers, weight: float, *, correction: bool = False) -> Preference:
    first = votes[0]
    return Preference(
        kind="ranking",
        prompt_id=first.prompt_id,
        comparison_id=first.comparison_id,
        completion_a_id=tiers[0][0],
        split=first.split,
        tiers=tiers,
        weight=round(weight, _DIGITS),
        vote_ids=tuple(vote.vote_id for vote in votes),
        reviewer_ids=tuple(vote.reviewer_id for vote in votes),
        voted_at=max(vote.at for vote in votes),
        correction=correction,
    )
