"""What ``training.py`` trains on: a model's shape, and random preferences as either side reads them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.rounds.spec import TrainingSettings
from app.versions.manifest import VersionInfo, write_manifest
from worker.trainer.data import Group, parse_group
from worker.trainer.examples import select
from worker.trainer.order import steps

SHAPE = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
"""Llama's, 42 million parameters."""

LARGE = SHAPE | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
"""Of a billion parameters, for GPUs."""

TINY = SHAPE | {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
"""For trying the program out; its figures mean nothing."""

SHAPES = {"42m": SHAPE, "1b": LARGE, "tiny": TINY}

PAIRS_PER_STEP = 4
"""If not said otherwise, and at most; of rankings one, which implies more pairs than that."""


@dataclass(frozen=True)
class Workload:
    """Groups of completions; lengths in tokens, log-normal around their medians."""

    completions: int
    votes: tuple[tuple[int, int], ...]
    """(chosen, rejected) of every pair."""
    prompt: int
    completion: int
    ranked: bool = False
    """Trained on as one ranking of all completions, which implies the pairs in ``votes``."""


_CHAIN = ((0, 1), (1, 2), (2, 3))
_ALL = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
WORKLOADS = {
    "single": Workload(2, ((0, 1),), 180, 120),
    "group": Workload(4, _CHAIN, 180, 120),
    "ranked": Workload(4, _ALL, 180, 120, ranked=True),
    "long-single": Workload(2, ((0, 1),), 1000, 40),
    "long-group": Workload(4, _CHAIN, 1000, 40),
}

SPREAD = 0.25
"""Standard deviation of a length's logarithm."""


def make_groups(
    workload: Workload, pairs: int, vocabulary: int, *, seed: int = 0, per_step: int = PAIRS_PER_STEP
) -> list[Group]:
    """Random groups that hold ``pairs`` pairs together, rounded up to whole steps, in the trainer's own format."""
    rng = random.Random(seed)

    def ids(median: int) -> list[int]:
        length = max(2, round(median * math.exp(rng.gauss(0, SPREAD))))
        return [rng.randrange(6, vocabulary) for _ in range(length)]

    a_group = len(workload.votes)
    a_step = max(1, per_step // a_group)
    count = math.ceil(pairs / a_group / a_step) * a_step
    made = []
    for g in range(count):
        answers = [
            {"id": f"{g}.{k}", "ids": ids(workload.completion), "text": None, "end": "length"}
            for k in range(workload.completions)
        ]
        data: dict[str, Any] = {"id": str(g), "split": "train", "prompt_ids": ids(workload.prompt)}
        data["completions"] = answers
        if workload.ranked:
            data["rankings"] = [{"tiers": [[k] for k in range(workload.completions)], "weight": 1.0}]
        else:
            data["preferences"] = [{"id": f"{g}:{a}>{b}", "a": a, "b": b, "outcome": "a"} for a, b in workload.votes]
        made.append(parse_group(data))
    return made


def settings_for(
    workload: Workload,
    *,
    bfloat16: bool,
    learning_rate: float,
    tokens_per_row: int | None = None,
    per_step: int = PAIRS_PER_STEP,
    compiled: str = "auto",
) -> TrainingSettings:
    """DPO of every weight at a constant rate, as TRL's side does it; the rest is the trainer's default."""
    given: dict[str, Any] = {
        "loss": "sigmoid",
        "method": "full",
        "dtype": "bfloat16" if bfloat16 else "float32",
        "learning_rate": learning_rate,
        "pairs_per_step": 1 if workload.ranked else per_step,
        "compile": compiled,
        "warmup_ratio": 0.0,
        "schedule": "constant",
        "checkpoint_every_seconds": 86_400.0,
        "seed": 0,
    }
    if tokens_per_row is not None:
        given["tokens_per_row"] = tokens_per_row
    return TrainingSettings.from_dict(given)


def trl_steps(made: Sequence[Group], settings: TrainingSettings) -> list[list[dict[str, list[int]]]]:
    """The rows of every optimiser step as TRL takes them, tokenised, in the order of the trainer's own steps."""
    examples = select(made, settings.loss, 1 << 20).train
    return [
        [
            {
                "prompt_ids": unit.prompt_ids,
                "chosen_ids": unit.completions[pair.chosen],
                "rejected_ids": unit.completions[pair.rejected],
            }
            for index in step
            for unit in [examples[index].unit]
            for pair in examples[index].pairs
        ]
        for step in steps(examples, settings)
    ]


def write_model(directory: Path, shape: dict[str, Any]) -> None:
    """A random model of Llama's kind, as it is initialised, as a version directory with a tokenizer."""
    from tests.factories.models import tokenizer

    config = AutoConfig.for_model("llama", **shape, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    VersionInfo(kind="full", context_length=shape["max_position_embeddings"]).write(directory)
    write_manifest(directory)
