"""Batches for losses out of plain numbers, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.trainer.losses import Labels, Pairs, Rankings, Side

REFERENCE_NATS = -20.0


def f64(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def side(policy: Tensor, reference: Tensor, length: Tensor | None = None, collisions: Tensor | None = None) -> Side:
    """Out of token log-probs, (batch, longest), or out of sums, (batch,), which count as one token each."""
    if policy.ndim == 1:
        policy, reference = policy[:, None], reference[:, None]
    length = torch.ones(len(policy), dtype=torch.float64) if length is None else length
    return Side(policy.sum(1), reference.sum(1), length, policy, reference, collisions)


def pairs(
    chosen: Sequence[float],
    rejected: Sequence[float],
    *,
    lengths: tuple[Sequence[float], Sequence[float]] | None = None,
    margin: Sequence[float] | None = None,
    tie: Sequence[bool] | None = None,
) -> Pairs:
    """Pairs of the given log-ratios ρ_w and ρ_l, over a reference of −20 nats."""
    sides = []
    for number, ratios in enumerate((chosen, rejected)):
        reference = torch.full((len(ratios),), REFERENCE_NATS, dtype=torch.float64)
        sides.append(side(reference + f64(ratios), reference, f64(lengths[number]) if lengths else None))
    delta = torch.zeros(len(chosen), dtype=torch.float64) if margin is None else f64(margin)
    return Pairs(sides[0], sides[1], delta, None if tie is None else torch.tensor(tie))


def labels(ratios: Sequence[float], desirable: Sequence[bool], baseline: float) -> Labels:
    """Judged completions of the given log-ratios, and z0."""
    reference = torch.full((len(ratios),), REFERENCE_NATS, dtype=torch.float64)
    judged = side(reference + f64(ratios), reference)
    return Labels(judged, torch.tensor(desirable), torch.tensor(baseline, dtype=torch.float64))


def rankings(ratios: Sequence[Sequence[float]], tiers: Sequence[Sequence[int]]) -> Rankings:
    """Rankings of the given log-ratios, best first; shorter ones are filled up as the trainer does."""
    longest = max(map(len, ratios))
    rows = [[*row, *[7.0] * (longest - len(row))] for row in ratios]
    places = [[*row, *[-1] * (longest - len(row))] for row in tiers]
    return Rankings(f64([x for row in rows for x in row]).view(len(rows), longest), torch.tensor(places))


def token_pairs(count: int = 6, *, seed: int = 0, margins: bool = True, ties: bool = False) -> Pairs:
    """Random pairs with tokens of their own and lengths from 1 to 7, collisions included."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    sides = []
    for _ in range(2):
        length = torch.randint(1, 8, (count,), generator=generator)
        inside = (torch.arange(7) < length[:, None]).double()
        policy, reference = -3 * draw(count, 7) * inside, -3 * draw(count, 7) * inside
        collisions = -(1 + draw(count, 7)) * inside
        sides.append(Side(policy.sum(1), reference.sum(1), length.double(), policy, reference, collisions))
    margin = draw(count) if margins else torch.zeros(count, dtype=torch.float64)
    return Pairs(sides[0], sides[1], margin, torch.arange(count) % 2 == 1 if ties else None)
