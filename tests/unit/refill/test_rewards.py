"""The implicit reward is the one that the version's loss trained."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch

from tests.unit.refill.made import answer
from worker.refill.rewards import Rewards
from worker.trainer.losses import LOSSES
from worker.trainer.losses.pairs import Pairs, Side

VERSION, REFERENCE = UUID(int=1), UUID(int=2)
LOGPS = {
    (str(VERSION), 7): [-0.5, -0.25, -1.0],
    (str(VERSION), 8): [-2.0, -0.125],
    (str(REFERENCE), 7): [-1.0, -1.0, -1.0],
    (str(REFERENCE), 8): [-0.5, -0.5],
}


class Engine:
    """Tells the log-probs above, by the answer's first token."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def logprobs(self, model: str, _prompt_ids: list[int], ids: list[int]) -> list[float]:
        self.asked.append(model)
        return LOGPS[model, ids[0]]


def side(first: int) -> Side:
    policy, reference = (torch.tensor([LOGPS[str(model), first]]) for model in (VERSION, REFERENCE))
    return Side(policy.sum(1), reference.sum(1), torch.tensor([float(policy.shape[1])]), policy, reference)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("sigmoid", {"beta": 0.3}),
        ("length_normalised", {"beta": 5.0}),
        ("simpo", {"beta": 2.0, "gamma": 0.0}),
        ("orpo", {"orpo_lambda": 1.0}),
    ],
)
def test_a_margin_of_rewards_is_what_the_loss_sees(loss: str, settings: dict[str, Any]) -> None:
    """Of all these losses the preference is −log σ(r_chosen − r_rejected); ORPO adds what the chosen answer costs."""
    engine = Engine()
    made = [replace(answer(ids=ids), version_id=VERSION) for ids in ([7, 5, 2], [8, 2])]
    training = {"loss": loss, "loss_settings": settings}
    rewards = Rewards(engine, Path(), VERSION, REFERENCE, training)  # type: ignore[arg-type]
    chosen, rejected = (item.scores["reward"] for item in rewards.measure(made))
    seen = LOSSES[loss](Pairs(side(7), side(8), torch.zeros(1)), **settings).item()
    if loss == "orpo":
        seen -= 1.75 / 3
    assert math.log1p(math.exp(-(chosen - rejected))) == pytest.approx(seen, abs=1e-5)
    assert (str(REFERENCE) in engine.asked) == (loss in ("sigmoid", "length_normalised")), "no prefill for nothing"
