"""Version directories as models: loading one that verifies, and importing a base model into one.

Weights are safetensors only and no code of a model's own is ever run. Heavy libraries are imported when used.
"""

import json
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from app.versions.manifest import MANIFEST_FILE, ManifestError, VersionInfo, verify, write_manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
LIBRARIES = ("torch", "transformers", "peft", "safetensors", "tokenizers")

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")


class ModelError(Exception):
    """A model cannot be loaded or imported. The message says what is missing and what to do."""


def load_tokenizer(directory: Path, *, converses: bool = True) -> "PreTrainedTokenizerBase":
    """The tokenizer of a version, chat template included; without one where nobody ``converses``.

    Raises:
        ModelError: it cannot be read, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{directory}: its tokenizer cannot be loaded: {error}") from error
    if converses and not tokenizer.chat_template:
        raise ModelError(f"{directory}: its tokenizer has no chat template; add chat_template.jinja")
    return tokenizer


def load_model(
    directory: Path, dtype: "torch.dtype", device: "torch.device | str"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase, VersionInfo]":
    """The model of a version, verified first; an adapter is put on its base through PEFT. In evaluation mode.

    Raises:
        ManifestError: a file of the version, or of its base, is not what its manifest says.
        ModelError: the files are whole and still make no model.
    """
    verify(directory)
    info = VersionInfo.read(directory)
    if info.kind == "adapter":
        verify_base(directory, info)
    tokenizer = load_tokenizer(directory)
    return load_weights(directory, info, dtype, device), tokenizer, info


def verify_base(directory: Path, info: VersionInfo) -> Path:
    """The directory of the base under the adapter in ``directory``, verified against its own manifest and ours.

    Raises:
        ManifestError: no base, a damaged one, or another than the adapter was trained on.
    """
    base = info.base_directory(directory)
    digest = verify(base)
    if info.base is not None and info.base.digest not in (None, digest):
        raise ManifestError(f"{base}: digest {digest}, the adapter in {directory} was trained on {info.base.digest}")
    return base


def load_weights(
    directory: Path,
    info: VersionInfo,
    dtype: "torch.dtype",
    device: "torch.device | str",
    *,
    trainable_adapter: bool = False,
    attention: str | None = None,
    quantization: Any = None,
) -> "PreTrainedModel":
    """The model of a version that was verified already.

    Args:
        directory: the version.
        info: its version.json.
        dtype: of the weights.
        device: where they go.
        trainable_adapter: whether an adapter is loaded to go on training.
        attention: transformers' ``attn_implementation``.
        quantization: transformers' ``quantization_config`` of the full weights.
    """
    if info.kind == "full":
        return _load_full(directory, dtype, device, attention, quantization)
    from peft import PeftModel

    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{directory}: no {ADAPTER_WEIGHTS}; adapters are loaded from safetensors only")
    base = _load_full(info.base_directory(directory), dtype, device, attention, quantization)
    with old_names_of_peft():
        model = PeftModel.from_pretrained(
            base, str(directory), is_trainable=trainable_adapter, torch_device=str(device), local_files_only=True
        )
    model.train(False)
    return model


@contextmanager
def old_names_of_peft() -> Iterator[None]:
    """Silence transformers about a name that PEFT 0.21 still asks for; may go when PEFT asks for the new one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def libraries() -> dict[str, str]:
    """Installed versions of the libraries a model's figures depend on."""
    return {name: installed_version(name) for name in LIBRARIES}


def import_base(source: str | Path, staged: Path, *, converses: bool = True) -> VersionInfo:
    """Make the full version directory ``staged`` (manifest included) of a local model directory or a hub id.

    Only configuration, tokenizer, chat template and safetensors are taken. A model that does not say in its
    generation config which tokens end an answer gets that from its config or tokenizer, written down. A model that
    never ``converses`` needs no chat template.

    Raises:
        ModelError: nothing there, or no safetensors, tokenizer, chat template, or no architecture we know.
        ManifestError: ``source`` is a version directory that does not verify.
    """
    local = Path(source)
    if local.is_dir():
        return _import_directory(local, staged, source_of(local), converses=converses)
    if isinstance(source, Path):
        raise ModelError(f"{source}: no such directory")
    import huggingface_hub

    revision = hub_revision(str(source))
    patterns = ["config.json", GENERATION_CONFIG, *TOKENIZER_FILES, "*.safetensors", WEIGHTS_INDEX]
    options: dict[str, Any] = {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}
    with TemporaryDirectory(dir=staged.parent, prefix=".download-") as folder:
        with _fetching(str(source)):
            huggingface_hub.snapshot_download(str(source), revision=revision, local_dir=folder, **options)
        made_of = source_of(str(source)) | {"revision": revision}
        return _import_directory(Path(folder), staged, made_of, converses=converses)


def hub_revision(name: str) -> str | None:
    """The commit that the hub has of a model now. Raises ModelError, also for a name that no model can have."""
    if len(Path(name).parts) != 2 or Path(name).is_absolute():
        raise ModelError(f"{name}: no such directory, and not a hub id like 'owner/name'")
    import huggingface_hub

    with _fetching(name):
        return huggingface_hub.model_info(name).sha


@contextmanager
def _fetching(name: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # What every error of the hub's HTTP client is, whichever client that is.
    of_client = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except (of_client, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = " ".join(str(error).split())
        raise ModelError(
            f"{name}: could not be fetched from the hub: {said}; see to the network, and to HF_TOKEN for a model that "
            "asks for it, or name a directory that has the model"
        ) from error


def source_of(source: str | Path) -> dict[str, Any]:
    """What a model is imported from, so that another one, or the same one changed, can be told from it.

    A hub id is its name, to which an import adds the revision; a directory is its absolute path, with size in bytes
    and time of change in ns of every file that an import may take.
    """
    directory = Path(source)
    if not directory.is_dir():
        return {"hub": str(source)}
    taken = {"config.json", GENERATION_CONFIG, WEIGHTS_INDEX, *TOKENIZER_FILES}
    files = sorted(file for file in directory.iterdir() if file.name in taken or file.suffix == ".safetensors")
    facts = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()}
    return {"path": str(directory.resolve()), "files": facts}


def _import_directory(source: Path, staged: Path, made_of: dict[str, Any], *, converses: bool) -> VersionInfo:
    if (source / MANIFEST_FILE).is_file():
        verify(source)
    config = _architecture(source)
    names = ["config.json", *_weight_files(source)]
    if not any((source / name).is_file() for name in _VOCABULARIES):
        raise ModelError(f"{source}: no tokenizer; one of {', '.join(_VOCABULARIES)} belongs beside the weights")
    names += [name for name in TOKENIZER_FILES if (source / name).is_file()]
    staged.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, staged / name)
    tokenizer = load_tokenizer(staged, converses=converses)
    _write_generation_config(source, staged, config, tokenizer.eos_token_id)
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
            f"{source}: is an adapter, and no version of Hone's; merge it into its base (PEFT's merge_and_unload, then "
            "save_pretrained), or import the model it stands on"
        )
    config = _read_json(file)
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
        shards = sorted(set(_read_json(source / WEIGHTS_INDEX).get("weight_map", {}).values()))
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


def _write_generation_config(source: Path, staged: Path, config: dict[str, Any], tokenizer_eos: int | None) -> None:
    """Write generation_config.json such that it names the tokens that end an answer."""
    file = source / GENERATION_CONFIG
    generation = _read_json(file) if file.is_file() else {}
    if generation.get("eos_token_id") in (None, []):
        eos = config.get("eos_token_id") if config.get("eos_token_id") is not None else tokenizer_eos
        if eos is None:
            raise ModelError(f"{source}: names no token that ends an answer; set eos_token_id in {GENERATION_CONFIG}")
        generation["eos_token_id"] = eos
    (staged / GENERATION_CONFIG).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{file.parent}: no {file.name}; is it a model directory?") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file}: holds {type(data).__name__}, not an object")
    return data


def _load_full(
    directory: Path,
    dtype: "torch.dtype",
    device: "torch.device | str",
    attention: str | None,
    quantization: Any = None,
) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # the trainer and the engine say in their own words how far they are
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if quantization is not None:  # such weights cannot be moved later
        options |= {"quantization_config": quantization, "device_map": {"": device}}
    options |= {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{directory}: its model cannot be loaded: {error}") from error
    absent = sorted({str(key) for kind in ("missing_keys", "mismatched_keys") for key in loading[kind]})
    if absent:
        raise ModelError(
            f"{directory}: its safetensors lack {len(absent)} weights of the architecture in config.json "
            f"({absent[0]}); they would be random"
        )
    return model if quantization is not None else model.to(device)
