"""From a version directory to a model that can run; adapters stand on one shared copy of their base."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open

from app.versions.manifest import ManifestError, VersionInfo, read_digest, verify
from worker.engine.compiled.runner import LARGEST_BYTES
from worker.engine.fit import make_lane
from worker.engine.lane import Lane
from worker.engine.linear import Packs, packs
from worker.engine.llama import KNOWN
from worker.engine.slots import Reserve
from worker.models import (
    ADAPTER_WEIGHTS,
    GENERATION_CONFIG,
    ModelError,
    load_tokenizer,
    load_weights,
    old_names_of_peft,
    verify_base,
)


@dataclass(frozen=True, slots=True)
class Base:
    """Weights that were verified, and that any number of versions may stand on."""

    model: Any
    digest: str
    weight_bytes: int
    packs: Packs = field(default_factory=Packs)
    """What the fused forward laid out of its weights, for all versions that stand on it."""

    @property
    def held_bytes(self) -> int:
        """Bytes in memory: the weights, and the copies of them that are laid out for a CPU."""
        return self.weight_bytes + self.packs.held_bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version ready to sample from."""

    name: str
    info: VersionInfo
    tokenizer: Any
    lane: Lane
    context_length: int
    """Tokens, prompt and completion together."""
    eos: frozenset[int]
    """Tokens that end a completion."""
    vocabulary: int
    """Ids the model has an embedding for."""
    base: str
    """Key of the base it stands on; a full version is its own."""
    own_bytes: int
    """Bytes of weights beside the base's."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``, special tokens left out, exactly as the tokens spell it."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return cast("str", text)


def base_of(directory: Path) -> tuple[VersionInfo, Path]:
    """What version.json says, and the directory that holds the full weights.

    Raises:
        ManifestError: no readable version.json, or an adapter without its base.
    """
    info = VersionInfo.read(directory)
    return info, (directory if info.kind == "full" else info.base_directory(directory)).resolve()


def weight_bytes(directory: Path, dtype: torch.dtype) -> int:
    """Bytes that the safetensors of ``directory`` take in memory as ``dtype``, from their headers alone."""
    elements = 0
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                size = 1
                for extent in tensors.get_slice(name).get_shape():
                    size *= extent
                elements += size
    return elements * dtype.itemsize


def base_bytes(directory: Path, dtype: torch.dtype, device: torch.device) -> int:
    """Bytes of a full model once it can sample, with the copies that are laid out for a CPU (see ``Base``)."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # an estimate before anything is verified; verifying names the damaged file
        config = None
    known = isinstance(config, dict) and config.get("model_type") in KNOWN
    packed = known and dtype == torch.float32 and device.type == "cpu" and packs()
    size = weight_bytes(directory, dtype)
    if not packed:
        return size
    return size * (3 if size <= LARGEST_BYTES else 2)  # small ones are laid out for compiled code, too


def load_base(directory: Path, version: Path, info: VersionInfo, dtype: torch.dtype, device: torch.device) -> Base:
    """Verify and load the full weights in ``directory`` for ``version`` (which may be the same).

    Raises:
        ManifestError: a file differs from its manifest, or it is not the base the adapter was trained on.
        ModelError: whole files that make no model.
    """
    if info.kind == "adapter":
        verify_base(version, info)
        base_info = VersionInfo.read(directory)
    else:
        verify(directory)
        base_info = info
    model = load_weights(directory, base_info, dtype, device)
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    size = sum(t.numel() * t.element_size() for t in {id(t): t for t in _tensors(model)}.values())
    return Base(model, read_digest(directory), size)


def load_version(
    name: str,
    directory: Path,
    info: VersionInfo,
    base: Base,
    *,
    base_key: str,
    max_rows: int,
    reserve: Reserve,
) -> Loaded:
    """Put the version in ``directory`` on its ``base``, which is in memory; nothing of the base is copied.

    Raises:
        ManifestError: a file differs from its manifest, or the base in memory is another than it was trained on.
        ModelError: whole files that make no model.
    """
    tokenizer = load_tokenizer(directory)
    tokenizer("warm")  # drops truncation its file may ask for, while no other thread uses it yet
    model = _shared(base.model)
    own_bytes = 0
    if info.kind == "adapter":
        verify(directory)
        if info.base is not None and info.base.digest not in (None, base.digest):
            raise ManifestError(f"{directory}: trained on base {info.base.digest}, found {base.digest}")
        model = _with_adapter(model, directory)
        kept = {id(tensor) for tensor in _tensors(base.model)}
        own_bytes = sum(t.numel() * t.element_size() for t in _tensors(model) if id(t) not in kept)
    config = model.config.get_text_config(decoder=True)
    context_length = min(info.context_length, getattr(config, "max_position_embeddings", None) or info.context_length)
    lane = make_lane(model, context_length=context_length, max_rows=max_rows, reserve=reserve, packs=base.packs)
    return Loaded(
        name=name,
        info=info,
        tokenizer=tokenizer,
        lane=lane,
        context_length=context_length,
        eos=_eos(directory, model, tokenizer),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        base=base_key,
        own_bytes=own_bytes,
    )


def _tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    return list(chain(model.parameters(), model.buffers()))


def _shared(model: Any) -> Any:
    """A copy of the modules around the same tensors: hooks and adapters put on it do not reach the original."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in _tensors(model)}
    return copy.deepcopy(model, memo)


def _with_adapter(model: Any, directory: Path) -> Any:
    from peft import PeftModel

    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{directory}: no {ADAPTER_WEIGHTS}; adapters are loaded from safetensors only")
    with old_names_of_peft():
        wrapped = PeftModel.from_pretrained(
            model, str(directory), is_trainable=False, torch_device=str(model.device), local_files_only=True
        )
    wrapped.requires_grad_(requires_grad=False)
    wrapped.train(mode=False)
    return wrapped.get_base_model()


def _eos(directory: Path, model: Any, tokenizer: Any) -> frozenset[int]:
    """``eos_token_id`` of the version's generation config, else of its base's, else the tokenizer's."""
    file = directory / GENERATION_CONFIG
    found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    if found is None:
        found = model.generation_config.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        return frozenset()
    return frozenset(found if isinstance(found, list) else [found])
