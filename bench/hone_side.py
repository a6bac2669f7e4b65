"""Hone's side of ``training.py``: the trainer's own reference pass and loop over the groups of a workload."""

import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from app.rounds.spec import ModelRef, TrainingSettings
from app.versions.manifest import read_digest
from bench import rate
from bench.turns import Peak
from worker.trainer import compiling
from worker.trainer.checkpoint import Checkpoints
from worker.trainer.data import Group
from worker.trainer.examples import Example, select
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.loop import Loop, Passes, Split
from worker.trainer.memory import heap
from worker.trainer.policy import Policy, load_start, make_trainable
from worker.trainer.prepare import verified
from worker.trainer.reference import ReferenceStore, compute
from worker.trainer.selfcheck import choose_path


def examples_of(groups: Sequence[Group], settings: TrainingSettings) -> list[Example]:
    """What the loss reads of the groups."""
    return select(groups, settings.loss, 1 << 20).train


def start_policy(model: Path, settings: TrainingSettings) -> Policy:
    """The model as a round starts with it."""
    start = ModelRef(str(model), read_digest(model), "start")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return load_start(start, verified(start), settings, device)


def train(model: Path, groups: Sequence[Group], settings: TrainingSettings) -> dict[str, Any]:
    """One epoch.

    Returns:
        'seconds' of reference pass and training; 'losses' of the steps; 'tokens' computed in both, a training pass
        counted once; 'flops' of their matrix products, those that are repeated in a backward pass not counted;
        'peak_mib' and, of it, 'before_mib' when training began; 'path': how the model was run.
    """
    heap().keep_freed()  # as worker.trainer.__main__ does
    autocast = torch.bfloat16 if settings.dtype == "bfloat16" else None
    examples = examples_of(groups, settings)
    policy = start_policy(model, settings)
    forward = Forward(policy.model, autocast=autocast)
    path, _ = choose_path(forward, examples)
    passes = Passes(path, settings.tokens_per_row, forward.row_length(settings))
    units = [example.unit for example in examples]
    if compiling.pays(settings, policy.model, 4 * sum(unit.shared_length for unit in units)):
        forward.compile_layers()
    losses: list[float] = []
    reference_tokens: list[int] = []
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        peak = Peak()
        began = time.perf_counter()
        reference = compute(
            forward,
            units,
            passes.plan(examples, range(len(examples))),
            passes.path,
            store=ReferenceStore(Path(folder), "start", settings.dtype, passes.path),
            stored={},
            on_pass=reference_tokens.append,
        )
        between = time.perf_counter()
        torch.manual_seed(settings.seed)
        policy = make_trainable(policy, settings)
        loop = Loop(
            policy,
            Forward(policy.model, autocast=autocast, compiled=forward.compiled),
            settings,
            passes,
            train=Split(examples, reference),
            held_out=Split([], reference),
            checkpoints=Checkpoints(Path(folder)),
            fingerprint="bench",
            stop=Stop(),
            emit=lambda event: losses.append(event["loss"]) if event["kind"] == "train" else None,
            on_tokens=lambda _tokens: None,
        )
        state = loop.run()
        seconds = time.perf_counter() - began
    flops = rate.forward_flops(policy.model.config.to_dict(), units)
    return {
        "seconds": seconds,
        "reference_seconds": between - began,
        "losses": losses,
        "tokens": sum(reference_tokens) + state.tokens,
        "flops": 4 * flops,
        "peak_mib": peak.mib(),
        "before_mib": peak.before,
        "path": path,
    }
