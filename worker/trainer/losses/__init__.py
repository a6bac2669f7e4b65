"""The preference losses: one pure function each, and the table that maps names to them.

A new loss is a module with one function, a line here, and its settings in ``app.rounds.spec.losses``. The function
takes ``Pairs``, ``Labels`` or ``Rankings``, as ``LOSSES[name].shape`` there says, and its settings by keyword, and
returns one value per judgement; weights, accumulation and reduction are the loop's.
"""

from collections.abc import Callable

from torch import Tensor

from worker.trainer.losses.apo_down import apo_down
from worker.trainer.losses.apo_zero import apo_zero
from worker.trainer.losses.bco_pair import bco_pair
from worker.trainer.losses.cdpo import cdpo
from worker.trainer.losses.davidson import davidson
from worker.trainer.losses.discopop import discopop
from worker.trainer.losses.dpo_nll import dpo_nll
from worker.trainer.losses.dpop import dpop
from worker.trainer.losses.exo_pair import exo_pair
from worker.trainer.losses.hinge import hinge
from worker.trainer.losses.ipo import ipo, ipo_sum
from worker.trainer.losses.kto import kto
from worker.trainer.losses.labels import Labels
from worker.trainer.losses.ld_dpo import ld_dpo
from worker.trainer.losses.length_normalised import length_normalised
from worker.trainer.losses.mpo import mpo
from worker.trainer.losses.nca_pair import nca_pair
from worker.trainer.losses.orpo import orpo
from worker.trainer.losses.pairs import Pairs, Side
from worker.trainer.losses.plackett_luce import plackett_luce
from worker.trainer.losses.rankings import Rankings
from worker.trainer.losses.rao_kupper import rao_kupper
from worker.trainer.losses.rdpo import rdpo
from worker.trainer.losses.robust import robust
from worker.trainer.losses.sigmoid import sigmoid
from worker.trainer.losses.simpo import simpo
from worker.trainer.losses.sppo_hard import sppo_hard

Loss = Callable[..., Tensor]

LOSSES: dict[str, Loss] = {
    "sigmoid": sigmoid,
    "dpop": dpop,
    "ipo": ipo,
    "ipo_sum": ipo_sum,
    "hinge": hinge,
    "cdpo": cdpo,
    "robust": robust,
    "exo_pair": exo_pair,
    "discopop": discopop,
    "length_normalised": length_normalised,
    "ld_dpo": ld_dpo,
    "rdpo": rdpo,
    "dpo_nll": dpo_nll,
    "simpo": simpo,
    "orpo": orpo,
    "kto": kto,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "nca_pair": nca_pair,
    "bco_pair": bco_pair,
    "mpo": mpo,
    "sppo_hard": sppo_hard,
    "rao_kupper": rao_kupper,
    "davidson": davidson,
    "plackett_luce": plackett_luce,
}
"""Functions by name; every name and every keyword is in ``app.rounds.spec.LOSSES``."""

__all__ = ["LOSSES", "Labels", "Loss", "Pairs", "Rankings", "Side"]
