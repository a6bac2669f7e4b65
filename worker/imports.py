"""A base model, of a local directory or the hub, made into a version directory.

Weights are safetensors only and no code of a model's own is ever run. Heavy libraries are imported when used.
"""

import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from app.versions.manifest import MANIFEST_FILE, VersionInfo, verify, write_manifest
from worker.hub import files_of
from worker.models import (
    ADAPTER_CONFIG,
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    WEIGHTS,
    WEIGHTS_INDEX,
    ModelError,
    libraries,
    load_tokenizer,
    read_json,
)

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")


def import_base(
    source: str | Path, staged: Path, *, revision: str | None = None, converses: bool = True
) -> VersionInfo:
    """Make the full version directory ``staged`` (manifest included) of a local model directory or a hub id.

    Only configuration, tokenizer, chat template and safetensors are taken. A model that does not say in its
    generation config which tokens end an answer gets that from its config or tokenizer, written down. A model that
    never ``converses`` needs no chat template. ``revision`` is a branch, tag or commit of the hub's.

    Raises:
        ModelError: nothing there, or no safetensors, tokenizer, chat template, or no architecture we know.
        ManifestError: ``source`` is a version directory that does not verify.
    """
    local = Path(source)
    if local.is_dir():
        return _import_directory(local, staged, source_of(local), converses=converses)
    if isinstance(source, Path):
        raise ModelError(f"{source}: no such directory")
    with files_of(source, staged.parent, revision) as (folder, commit):
        made_of = source_of(source, revision) | {"revision": commit}
        return _import_directory(folder, staged, made_of, converses=converses)


def source_of(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """What a model is imported from, so that another one, or the same one changed, can be told from it.

    A hub id is its name, with the revision that was asked for, to which an import adds the commit; a directory is its
    absolute path, with size in bytes and time of change in ns of every file that an import may take.
    """
    directory = Path(source)
    if not directory.is_dir():
        return {"hub": str(source)} | ({} if revision is None else {"asked": revision})
    taken = {"config.json", ADAPTER_CONFIG, GENERATION_CONFIG, WEIGHTS_INDEX, *TOKENIZER_FILES}
    files = sorted(file for file in directory.iterdir() if file.name in taken or file.suffix == ".safetensors")
    facts = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()}
    return {"path": str(directory.resolve()), "files": facts}


def checked_model(directory: Path) -> int:
    """The context length, in tokens, of a model directory that could be imported.

    Raises:
        ModelError: it has not what an import takes.
    """
    config = _architecture(directory)
    _weight_files(directory)
    return _context_length(directory, config)


def has_tokenizer(directory: Path) -> bool:
    """Whether a tokenizer's vocabulary lies in ``directory``."""
    return any((directory / name).is_file() for name in _VOCABULARIES)


def _import_directory(source: Path, staged: Path, made_of: dict[str, Any], *, converses: bool) -> VersionInfo:
    if (source / MANIFEST_FILE).is_file():
        verify(source)
    config = _architecture(source)
    names = ["config.json", *_weight_files(source)]
    if not has_tokenizer(source):
        raise ModelError(f"{source}: no tokenizer; one of {', '.join(_VOCABULARIES)} belongs beside the weights")
    names += [name for name in TOKENIZER_FILES if (source / name).is_file()]
    staged.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, staged / name)
    tokenizer = load_tokenizer(staged, converses=converses)
    write_generation_config(source, staged, config, tokenizer.eos_token_id)
    context = _context_length(source, config)
    info = VersionInfo(kind="full", context_length=context, source=made_of, libraries=libraries())
    info.write(staged)
    write_manifest(staged)
    return info


def _architecture(source: Path) -> dict[str, Any]:
    """config.json, of a causal language model that transformers has built in."""
    file = source / "config.json"
    if (source / ADAPTER_CONFIG).is_file() and not file.is_file():
        raise ModelError(
            f"{source}: is an adapter, and no version of Hone's; merge it into its base with `hone merge`, or import "
            "the model it stands on"
        )
    config = read_json(file)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = config.get("model_type")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{source}: unknown architecture {model_type!r}; a causal language model built into transformers "
            f"{installed_version('transformers')} is needed, for no code of a model's own is run"
        )
    return config


def _weight_files(source: Path) -> list[str]:
    """Names of the safetensors that make the model, with the index where it is sharded."""
    if (source / WEIGHTS_INDEX).is_file():
        shards = sorted(set(read_json(source / WEIGHTS_INDEX).get("weight_map", {}).values()))
        missing = [name for name in shards if Path(name).name != name or not (source / name).is_file()]
        if missing or not shards:
            raise ModelError(f"{source}: {WEIGHTS_INDEX} names {missing or 'no files'}, which are not there")
        names = [*shards, WEIGHTS_INDEX]
    elif (source / WEIGHTS).is_file():
        names = [WEIGHTS]
    else:
        raise ModelError(
            f"{source}: no safetensors ({WEIGHTS} or {WEIGHTS_INDEX}); other weight files can run code when they "
            "are opened and are not read: save the model with save_pretrained(safe_serialization=True)"
        )
    _check_headers(source / name for name in names if name.endswith(".safetensors"))
    return names


def _check_headers(files: Iterable[Path]) -> None:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                if not list(tensors.keys()):
                    raise ModelError(f"{file}: holds no tensors")
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: is not a whole safetensors file: {error}") from error


def _context_length(source: Path, config: dict[str, Any]) -> int:
    for place in (config, config.get("text_config") or {}):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            if isinstance(place.get(name), int) and place[name] > 0:
                return int(place[name])
    raise ModelError(f"{source}: config.json does not say its context length; add max_position_embeddings")


def write_generation_config(source: Path, staged: Path, config: dict[str, Any], tokenizer_eos: int | None) -> None:
    """Write generation_config.json such that it names the tokens that end an answer."""
    file = source / GENERATION_CONFIG
    generation = read_json(file) if file.is_file() else {}
    if generation.get("eos_token_id") in (None, []):
        eos = config.get("eos_token_id") if config.get("eos_token_id") is not None else tokenizer_eos
        if eos is None:
            raise ModelError(f"{source}: names no token that ends an answer; set eos_token_id in {GENERATION_CONFIG}")
        generation["eos_token_id"] = eos
    (staged / GENERATION_CONFIG).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
