"""Drawing from what a strategy wants and from chance, such that every option's probability is known and above zero.

With exploration ε, ``n`` options to take of ``N`` prompts and ``m`` options of an option's prompt, it is taken with

    π = (1 − ε) · [the strategy wants it] + ε · n / (N · m)

which sums to ``n``. A systematic draw (Madow 1949) over those probabilities, prompts in random order, takes exactly
``n`` and each with exactly its π. Weighted by 1 / (m π), what is taken stands for a prompt drawn evenly, and a pair of
its answers drawn evenly: see ``app.comparisons.weights``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

from worker.refill.strategies.options import Option, Strategy


@dataclass(frozen=True, slots=True)
class Chosen:
    """An option that was taken, and how."""

    option: Option
    propensity: float
    """Probability with which it was, above 0, at most 1."""
    importance: float
    """Weight of its votes where pairs drawn evenly are meant."""
    score: float | None
    """What the strategy took it for; None when chance did."""
    pool: int
    """Options there were."""
    taken: int
    """Options that were taken of them."""


def choose(
    strategy: Strategy,
    options: Sequence[Option],
    count: int,
    *,
    per_prompt: int,
    exploration: float,
    rng: Random,
    share: float = 1.0,
) -> list[Chosen]:
    """``count`` of ``options`` (all of them, if there are fewer), about ``per_prompt`` at most of one prompt.

    Args:
        exploration: ε, above 0; 1 draws evenly among prompts, whatever the strategy wants.
        share: probability with which the prompts of ``options`` were drawn in the first place.

    Raises:
        ValueError: ``exploration`` is not above 0 and at most 1.
    """
    if not 0 < exploration <= 1:
        raise ValueError(f"exploration {exploration} is not in (0, 1]: at 0 most options could never be taken")
    by_prompt: dict[UUID, list[int]] = {}
    for index, option in enumerate(options):
        by_prompt.setdefault(option.prompt_id, []).append(index)
    count = min(count, sum(min(per_prompt, len(of_prompt)) for of_prompt in by_prompt.values()))
    if count <= 0:
        return []
    wanted = dict(strategy.best(options, count, per_prompt, rng)) if exploration < 1 else {}
    chances = inclusion(options, by_prompt, wanted, count, exploration)
    order = list(by_prompt.values())
    rng.shuffle(order)
    line = [index for of_prompt in order for index in rng.sample(of_prompt, len(of_prompt))]
    taken = systematic([chances[index] for index in line], rng.random())
    return [
        Chosen(
            options[index],
            share * chances[index],
            1.0 / (len(by_prompt[options[index].prompt_id]) * share * chances[index]),
            wanted.get(index),
            len(options),
            count,
        )
        for index in (line[place] for place in taken)
    ]


def inclusion(
    options: Sequence[Option],
    by_prompt: dict[UUID, list[int]],
    wanted: dict[int, float],
    count: int,
    exploration: float,
) -> list[float]:
    """π of each option; they sum to ``count``."""
    even = exploration if wanted else 1.0
    share = count / len(by_prompt)
    chances = [even * share / len(by_prompt[option.prompt_id]) for option in options]
    for index in wanted:
        chances[index] += (1.0 - even) * count / len(wanted)
    return _at_most_one(chances)


def systematic(chances: Sequence[float], start: float) -> list[int]:
    """Places in ``chances`` hit by start, start + 1, start + 2 … on the line on which they lie end to end.

    Each is hit with exactly its probability when ``start`` is uniform on [0, 1), and what lies together within a
    length of 1 is hit once at most.
    """
    hit, reached, following = [], 0.0, start
    for place, chance in enumerate(chances):
        reached += chance
        if following < reached - 1e-12:
            hit.append(place)
            following += 1.0
    return hit


def _at_most_one(chances: list[float]) -> list[float]:
    """Probabilities above 1 become 1, and what they had too much goes to the others in proportion."""
    total = sum(chances)
    while any(chance > 1.0 + 1e-12 for chance in chances):
        whole = sum(chance >= 1.0 for chance in chances)
        rest = sum(chance for chance in chances if chance < 1.0)
        factor = (total - whole) / rest if rest else 0.0
        chances = [1.0 if chance >= 1.0 else chance * factor for chance in chances]
    return chances
