"""The preference losses: one pure function each, and the table that maps names to them.

A new loss is a module with one function, a line here, and its settings in ``app.rounds.spec.LOSS_SETTINGS``. The
function takes ``Pairs`` and its settings by keyword and returns one value per preference; weights, accumulation and
reduction are the loop's.
"""

from collections.abc import Callable

from torch import Tensor

from worker.trainer.losses.dpop import dpop
from worker.trainer.losses.pairs import Pairs, Side
from worker.trainer.losses.sigmoid import sigmoid

PairLoss = Callable[..., Tensor]

LOSSES: dict[str, PairLoss] = {
    "sigmoid": sigmoid,
    "dpop": dpop,
}
"""Functions by name; every name and every keyword is in ``app.rounds.spec.LOSS_SETTINGS``."""

READS_OUTCOMES: dict[str, frozenset[str]] = {
    "sigmoid": frozenset({"a", "b"}),
    "dpop": frozenset({"a", "b"}),
}
"""Outcomes of a preference each loss learns from; others are counted by name and left out."""

__all__ = ["LOSSES", "READS_OUTCOMES", "PairLoss", "Pairs", "Side"]
