"""The whole model that an adapter makes of its base, as a version: merged, opened again, and compared."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.versions.manifest import MANIFEST_FILE, Parent, VersionInfo, publish, read_digest, verify, write_manifest
from worker.adapters import Adapter, copy_surroundings, is_adapter, merged, refuse_quantized
from worker.hub import files_of
from worker.imports import checked_model, source_of
from worker.models import ADAPTER_CONFIG, ModelError, libraries, load_full, put_adapter, verify_base
from worker.trainer.errors import RefusedError
from worker.trainer.publish import make_readable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BOUNDS = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Most that a logit may differ between the adapter on its base and the merged model, as a share of the largest one.

A merge in fp32 comes to some 1e-6 of it. What stands in 8 or 11 bits is rounded once, and hidden states carry that on.
"""
_PROBE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of it."""

    difference: float
    """The largest between logits of the adapter on its base and of the merged model, on ``_PROBE_TOKENS`` ids."""
    largest: float
    """The largest logit there, by its absolute value."""


def merge(source: Path, output: Path, *, base: str | None = None, dtype: str = "float32") -> Merged:
    """Write the version ``output``: the base under the adapter ``source``, with the adapter in its weights.

    Args:
        source: a version that is an adapter, or a directory with one of PEFT's.
        output: must not exist yet.
        base: of an adapter of PEFT's, a directory or hub id in place of the model that it names.
        dtype: of the weights that are written; they are added up in fp32.

    Raises:
        RefusedError: the output exists, there is nothing to merge, or the merged model is another than the adapter on
            its base.
        ModelError, ManifestError: adapter or base cannot be used.
    """
    if output.exists():
        raise RefusedError(f"{output} exists already; a version is never overwritten, so name another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with _parts(source, output, base) as (directory, info):
        refuse_quantized(directory, source)
        staged = output.with_name(f".{output.name}.new")
        shutil.rmtree(staged, ignore_errors=True)
        try:
            staged.mkdir()
            expected = _write_model(source, directory, staged, DTYPES[dtype])
            copy_surroundings(source, directory, staged)
            info.write(staged)
            make_readable(staged)
            write_manifest(staged)
            found = _compare(expected, _logits(load_full(staged, torch.float32, "cpu")), source, dtype)
            publish(staged, output)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return found


@contextmanager
def _parts(source: Path, output: Path, base: str | None) -> Iterator[tuple[Path, VersionInfo]]:
    """The directory of the base, and the version.json of what will be merged."""
    if (source / MANIFEST_FILE).is_file():
        digest, info = verify(source), VersionInfo.read(source)
        if info.kind == "full":
            raise RefusedError(f"{source} is a full model already; there is nothing to merge")
        if base is not None:
            raise RefusedError(f"--base means nothing for {source}, a version, which names its base; leave it out")
        directory = verify_base(source, info)
        made_of = {"path": str(source.resolve()), "digest": digest, "base": read_digest(directory)}
        parent = Parent(version=None, digest=digest)
        yield directory, _info(info.context_length, made_of, parent, info)
        return
    if not is_adapter(source):
        raise RefusedError(f"{source} is no version and no adapter (it has no {ADAPTER_CONFIG}); name one of the two")
    name, revision = Adapter.read(source).base if base is None else (base, None)
    local = Path(name).is_dir()
    try:
        with nullcontext((Path(name), None)) if local else files_of(name, output.parent, revision) as (folder, commit):
            context = checked_model(folder)
            stands_on = source_of(name, revision) | ({} if local else {"revision": commit})
            yield folder, _info(context, source_of(source) | {"base": stands_on}, None, None)
    except ModelError as error:
        raise ModelError(f"{source}: the model it stands on: {error}") from error


def _info(
    context_length: int, made_of: dict[str, Any], parent: Parent | None, trained: VersionInfo | None
) -> VersionInfo:
    """What it was trained with, and its figures, are those of the adapter, for it is the same policy."""
    return VersionInfo(
        kind="full",
        context_length=context_length,
        parent=parent,
        source={"merged": made_of},
        spec={} if trained is None else trained.spec,
        snapshot_hash=None if trained is None else trained.snapshot_hash,
        metrics={} if trained is None else trained.metrics,
        libraries=libraries(),
    )


def _write_model(source: Path, base: Path, staged: Path, dtype: torch.dtype) -> Tensor:
    """Write the merged weights; returns the logits of the adapter on its base. The model is let go."""
    from transformers import GenerationConfig

    model: Any = put_adapter(source, load_full(base, torch.float32, "cpu"), "cpu")
    expected = _logits(model)
    whole = merged(model, source).to(dtype)
    whole.config.dtype = dtype
    whole.generation_config = GenerationConfig()  # the base's is copied, which need not be one that is saved
    whole.save_pretrained(staged)
    return expected


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    """(1, tokens, vocabulary) on ids that are drawn once for all."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(size, (1, _PROBE_TOKENS), generator=torch.Generator().manual_seed(0))
    output: Tensor = model(input_ids=ids).logits
    return output


def _compare(expected: Tensor, found: Tensor, source: Path, dtype: str) -> Merged:
    made = Merged(float((found - expected).abs().max()), float(expected.abs().max()))
    if not made.difference <= BOUNDS[dtype] * made.largest:  # also where one of them is not a number
        raise RefusedError(
            f"{source}: merged and opened again in {dtype} the model has logits that differ by up to "
            f"{made.difference:.3g} (of {made.largest:.3g}) from the adapter on its base; nothing was written: try "
            "--dtype float32, or serve the adapter on its base"
        )
    return made
