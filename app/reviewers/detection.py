"""Finding reviewers who do not judge: random choices, one side always, answers copied from each other.

Three independent looks, each with its own error rate, on what every reviewer's votes show:

one side     how often a preference fell on the left: an exact binomial test.
copies       two accounts that agree far more often on the pairs they share than reviewers do (an exact binomial test
             for every two that share enough, with Bonferroni's correction): one person twice, or a ring with one sheet.
random       the likelihood of a reviewer's choices if they were those of an ordinary reviewer, given what others said
             of the same pairs and what is known of gold pairs, against that of coin flips; and whether repeated pairs
             are judged alike. Copies are one voice here, for a ring that fills a pair by itself agrees with itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom, binomtest

from app.language import _
from app.reviewers.records import UNKNOWN, B, Floats, Ints, Judgements
from app.reviewers.skill import Skill, estimate, log_odds

Kind = Literal["random", "one_sided", "copies"]

FEWEST_VOTES = 25
"""Judgements below which nobody is suspected of anything."""

ONE_SIDED_P = 1e-5
ONE_SIDED_SHARE = 0.8
"""Share of preferences on one side, from which on a bias is no longer a habit."""

COPIES_FEWEST_SHARED = 12
COPIES_P = 0.01
"""Probability that any two honest reviewers of the project are taken for copies."""
COPIES_ALLOWANCE = 0.05
"""People who think alike agree more than others do: so much more is expected of anybody."""

PRIOR_RANDOM = 0.05
RANDOM_PROBABILITY = 0.5
"""Suspected from this probability on, given the prior and the votes."""
MOST_SURE = 0.95
"""No single pair speaks for or against anybody with more than this probability."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a reviewer's votes do not look like judgements."""

    reviewer: int
    kind: Kind
    probability: float
    """'random': that the choices are coin flips; otherwise 1 − p of the test."""
    told: str
    """The evidence in a sentence, figures included."""
    others: tuple[int, ...] = ()
    """Of 'copies': the accounts that agree with this one."""


def detect(judgements: Judgements) -> list[Suspicion]:
    """Everybody suspected, at most once for each kind, by reviewer."""
    rings = copies(judgements)
    found = [*one_sided(judgements), *_told_rings(judgements, rings), *random_choices(judgements, rings)]
    return sorted(found, key=lambda item: (item.reviewer, item.kind))


def one_sided(judgements: Judgements) -> list[Suspicion]:
    """Those whose preferences stand on one side of the page whatever is there."""
    found = []
    use = judgements.decided
    on_left = judgements.choice == judgements.left
    for reviewer in range(len(judgements.reviewers)):
        mine = use & (judgements.reviewer == reviewer)
        total, left = int(mine.sum()), int((mine & on_left).sum())
        if total < FEWEST_VOTES or max(left, total - left) < ONE_SIDED_SHARE * total:
            continue
        p = float(binomtest(left, total).pvalue)
        if p < ONE_SIDED_P:
            told = (
                _("%(n)s of %(total)s preferences are for the answer on the left", n=left, total=total)
                if left * 2 > total
                else _("%(n)s of %(total)s preferences are for the answer on the right", n=total - left, total=total)
            )
            found.append(Suspicion(reviewer, "one_sided", 1.0 - p, told))
    return found


@dataclass(frozen=True, slots=True)
class Match:
    """Two reviewers who agree more than they should."""

    first: int
    second: int
    shared: int
    agreed: int
    p: float


def copies(judgements: Judgements) -> list[Match]:
    """Every two reviewers whose agreement on the pairs they share is no coincidence, Bonferroni-corrected."""
    shared, agreed = _shared(judgements)
    tested = [(pair, n) for pair, n in shared.items() if n >= COPIES_FEWEST_SHARED]
    total = sum(shared.values())
    if not tested or not total:
        return []
    expected = min(0.95, sum(agreed.values()) / total + COPIES_ALLOWANCE)
    found = []
    for (first, second), n in tested:
        p = float(binom.sf(agreed[first, second] - 1, n, expected))
        if p * len(tested) < COPIES_P:
            found.append(Match(first, second, n, agreed[first, second], p))
    return found


def _shared(judgements: Judgements) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """For every two reviewers: pairs of work both judged, and on how many of them they said the same."""
    use = judgements.work
    order = np.argsort(judgements.pair[use], kind="stable")
    pair, reviewer, choice = (x[use][order] for x in (judgements.pair, judgements.reviewer, judgements.choice))
    shared: dict[tuple[int, int], int] = {}
    agreed: dict[tuple[int, int], int] = {}
    for block in np.split(np.arange(len(pair)), np.flatnonzero(np.diff(pair)) + 1):
        for i, one in enumerate(block):
            for other in block[i + 1 :]:
                a, b = sorted((int(reviewer[one]), int(reviewer[other])))
                if a == b:
                    continue
                shared[a, b] = shared.get((a, b), 0) + 1
                agreed[a, b] = agreed.get((a, b), 0) + int(choice[one] == choice[other])
    return shared, agreed


def voices(reviewers: int, matches: list[Match]) -> Ints:
    """(R,) The voice each reviewer belongs to: copies of one another, through others too, share one."""
    voice = np.arange(reviewers)
    for match in matches:
        voice[voice == voice[match.second]] = voice[match.first]
    return voice


def _told_rings(judgements: Judgements, matches: list[Match]) -> list[Suspicion]:
    voice = voices(len(judgements.reviewers), matches)
    found = []
    for reviewer in sorted({x for match in matches for x in (match.first, match.second)}):
        mine = [match for match in matches if reviewer in (match.first, match.second)]
        best = min(mine, key=lambda match: match.p)
        others = tuple(int(x) for x in np.flatnonzero(voice == voice[reviewer]) if x != reviewer)
        told = _(
            "says the same as another account on %(agreed)s of the %(shared)s pairs both judged",
            agreed=best.agreed,
            shared=best.shared,
        )
        found.append(Suspicion(reviewer, "copies", 1.0 - best.p, told, others))
    return found


def random_choices(judgements: Judgements, matches: list[Match] | None = None) -> list[Suspicion]:
    """Those whose choices are likelier to be coin flips than an ordinary reviewer's."""
    voice = voices(len(judgements.reviewers), matches or [])
    against = evidence(judgements, voice)
    votes = np.bincount(judgements.reviewer, minlength=len(judgements.reviewers))
    found = []
    for reviewer, nats in enumerate(against):
        probability = float(1.0 / (1.0 + np.exp(-(nats + np.log(PRIOR_RANDOM / (1 - PRIOR_RANDOM))))))
        if votes[reviewer] >= FEWEST_VOTES and probability >= RANDOM_PROBABILITY:
            told = _(
                "%(reviewer)s choices fit coin flips better than an ordinary reviewer's judgement "
                "(by a factor of %(nats)s)",
                reviewer=votes[reviewer],
                nats=f"{np.exp(min(nats, 30.0)):.0f}",
            )
            found.append(Suspicion(reviewer, "random", probability, told))
    return found


def evidence(judgements: Judgements, voice: Ints) -> Floats:
    """(R,) log-likelihood of coin flips minus that of an ordinary reviewer, nats: above 0 speaks for coin flips."""
    share = _shares(judgements, voice)
    skill = estimate(judgements, worth=share)
    against = _by_others(judgements, voice, share, skill)
    against += _by_gold(judgements)
    against += _by_repeats(judgements)
    return against


def fair_skill(judgements: Judgements) -> Skill:
    """Everybody's skill, with copies of one another as one voice: they would vouch for each other.

    Half or a third of a vote each: in a ring of three that fills a pair by itself, one vote on it.
    """
    return estimate(judgements, worth=_shares(judgements, voices(len(judgements.reviewers), copies(judgements))))


def _shares(judgements: Judgements, voice: Ints) -> Floats:
    """(V,) What each judgement counts: one, shared by all who are the same voice."""
    crowd = np.bincount(voice, minlength=len(voice))[voice]
    return np.asarray(1.0 / crowd[judgements.reviewer], dtype=np.float64)


def ordinary(skill: Skill) -> float:
    """Accuracy of the reviewer in the middle, by votes."""
    order = np.argsort(skill.accuracy)
    heap = np.cumsum(skill.votes[order])
    if not len(heap) or heap[-1] == 0:
        return 0.75
    return float(np.clip(skill.accuracy[order][np.searchsorted(heap, heap[-1] / 2)], 0.6, MOST_SURE))


def _by_others(judgements: Judgements, voice: Ints, share: Floats, skill: Skill) -> Floats:
    """What the others of the same pair, copies left out, make of each preference."""
    use = judgements.decided & judgements.work
    rows = np.flatnonzero(use)
    against = np.zeros(len(judgements.reviewers))
    if not len(rows):
        return against
    pair, reviewer = judgements.pair[rows], judgements.reviewer[rows]
    sign = np.where(judgements.choice[rows] == B, 1.0, -1.0)
    voted = share[rows] * sign * log_odds(skill.accuracy)[reviewer]
    of_pair = np.bincount(pair, weights=voted, minlength=int(pair.max()) + 1)
    own: dict[tuple[int, int], float] = {}
    for p, r, v in zip(pair, voice[reviewer], voted, strict=True):
        own[int(p), int(r)] = own.get((int(p), int(r)), 0.0) + float(v)
    others = of_pair[pair] - np.array([own[int(p), int(r)] for p, r in zip(pair, voice[reviewer], strict=True)])
    agrees = 1.0 / (1.0 + np.exp(-others * sign))
    right = ordinary(skill)
    expected = np.clip(right * agrees + (1 - right) * (1 - agrees), 1 - MOST_SURE, MOST_SURE)
    np.add.at(against, reviewer, np.log(0.5) - np.log(expected))
    return against


def _by_gold(judgements: Judgements) -> Floats:
    """What known answers make of each preference; attention pairs too."""
    against = np.zeros(len(judgements.reviewers))
    for attention in (False, True):
        use = (judgements.gold != UNKNOWN) & judgements.decided & (judgements.attention == attention)
        right = judgements.choice[use] == judgements.gold[use]
        rate = _rate(int(right.sum()), len(right), 0.9 if attention else 0.85)
        np.add.at(against, judgements.reviewer[use], np.log(0.5) - np.log(np.where(right, rate, 1 - rate)))
    return against


def _by_repeats(judgements: Judgements) -> Floats:
    """Whether a pair that was shown twice was judged alike."""
    against = np.zeros(len(judgements.reviewers))
    rows = np.flatnonzero(judgements.repeat_of != UNKNOWN)
    rows = rows[judgements.decided[rows] & judgements.decided[judgements.repeat_of[rows]]]
    same = judgements.choice[rows] == judgements.choice[judgements.repeat_of[rows]]
    rate = _rate(int(same.sum()), len(same), 0.75)
    np.add.at(against, judgements.reviewer[rows], np.log(0.5) - np.log(np.where(same, rate, 1 - rate)))
    return against


def _rate(hits: int, total: int, prior: float, strength: float = 20.0) -> float:
    """What an ordinary reviewer does, from everybody's record and a prior of ``strength`` imagined cases."""
    return float(np.clip((hits + prior * strength) / (total + strength), 0.55, MOST_SURE))


def by_reviewer(found: list[Suspicion]) -> Mapping[int, list[Suspicion]]:
    """Suspicions of each reviewer who has any."""
    grouped: dict[int, list[Suspicion]] = {}
    for suspicion in found:
        grouped.setdefault(suspicion.reviewer, []).append(suspicion)
    return grouped
