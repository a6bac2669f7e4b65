"""Reference log-probs: computed once, stored per token in fp32, shared by epochs, losses and rounds.

A store is a directory. Under ``<reference digest>/<dtype>-<path>/`` lie shards: safetensors files of many
completions, each under the digest of its prompt and completion ids, named by the SHA-256 of their content and moved
into place when whole. A damaged shard is noticed and its completions are computed again.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from worker.trainer.data import ids_digest
from worker.trainer.distributed import ALONE, Crew
from worker.trainer.forward import Forward
from worker.trainer.memory import heap
from worker.trainer.packing import ForwardPath, Plan, Unit, build

log = logging.getLogger(__name__)

FLUSH_SECONDS = 20.0


class ReferenceStore:
    """The shards of one reference under one dtype and forward path."""

    def __init__(self, directory: Path, digest: str, dtype: str, path: ForwardPath) -> None:
        self.directory = directory / digest / f"{dtype}-{path}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def read(self, wanted: set[str]) -> dict[str, Tensor]:
        """Those of the ``wanted`` completions that are stored: digest → (tokens,), nats, fp32."""
        found: dict[str, Tensor] = {}
        for shard in sorted(self.directory.glob("*.safetensors")):
            if len(found) == len(wanted):
                break
            content = shard.read_bytes()
            if hashlib.sha256(content).hexdigest() != shard.stem:
                log.warning("%s is damaged; its log-probs are computed again", shard)
                continue
            try:
                tensors = load(content)
            except SafetensorError:
                log.warning("%s is not a safetensors file; its log-probs are computed again", shard)
                continue
            found |= {key: value for key, value in tensors.items() if key in wanted and key not in found}
        return found

    def write(self, logps: dict[str, Tensor]) -> None:
        """Store a shard, whole or not at all."""
        content = save(logps)
        final = self.directory / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        staged = self.directory / f".{final.stem}.{os.getpid()}"
        try:
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(final)
        finally:
            staged.unlink(missing_ok=True)


def completion_keys(units: Iterable[Unit]) -> list[list[str]]:
    """The key of every completion in the store, unit by unit."""
    return [[ids_digest(unit.prompt_ids, completion) for completion in unit.completions] for unit in units]


def missing_plans(plans: Sequence[Plan], keys: Sequence[Sequence[str]], stored: Iterable[str]) -> list[Plan]:
    """The passes that hold a completion without stored log-probs.

    Passes are planned over everything and skipped whole, so that a job that was killed computes the rest in the very
    batches it would have used: same shapes, same rounding, same bits.
    """
    have = set(stored)
    return [made for made in plans if any(key not in have for unit in made.units for key in keys[unit])]


@torch.no_grad()
def compute(
    forward: Forward,
    units: Sequence[Unit],
    plans: Sequence[Plan],
    path: ForwardPath,
    *,
    store: ReferenceStore,
    stored: dict[str, Tensor],
    on_pass: Callable[[int], None],
    crew: Crew = ALONE,
) -> dict[str, Tensor]:
    """``stored`` with the log-probs of all ``plans`` added, written to ``store`` as it goes.

    ``on_pass`` hears after every pass how many tokens it had, and may raise to stop; what was computed is kept.
    Several processes share the passes, and each gets all of the log-probs.
    """
    keys = completion_keys(units)
    known, fresh, found = dict(stored), dict[str, Tensor](), dict[str, Tensor]()
    flushed = time.monotonic()
    try:
        for made in crew.every(plans):
            batch = build(units, made, path)
            logps = forward(batch).tokens.float().cpu()
            for unit in made.units:
                for k, key in enumerate(keys[unit], start=batch.first_completion[unit]):
                    if key not in known:
                        known[key] = fresh[key] = found[key] = logps[k, : int(batch.lengths[k])].clone()
            if time.monotonic() - flushed > FLUSH_SECONDS:
                store.write(fresh)
                fresh, flushed = {}, time.monotonic()
            heap().settle()
            on_pass(batch.tokens)
    finally:
        if fresh:
            store.write(fresh)
    for others in crew.gather_tensors(found) if crew.size > 1 else ():
        known |= others
    return known
