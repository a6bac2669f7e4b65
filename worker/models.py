"""Version directories as models: loading one that verifies.

Weights are safetensors only and no code of a model's own is ever run. Heavy libraries are imported when used.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from app.versions.manifest import ManifestError, VersionInfo, verify

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
    base = _load_full(info.base_directory(directory), dtype, device, attention, quantization)
    return put_adapter(directory, base, device, trainable=trainable_adapter)


def load_full(directory: Path, dtype: "torch.dtype", device: "torch.device | str") -> "PreTrainedModel":
    """The model of a directory with all of its weights, version or not; in evaluation mode. Raises ModelError."""
    return _load_full(directory, dtype, device, None)


def put_adapter(
    directory: Path, base: "PreTrainedModel", device: "torch.device | str", *, trainable: bool = False
) -> "PreTrainedModel":
    """The adapter in ``directory``, a version or PEFT's, on ``base``; in evaluation mode.

    Raises:
        ModelError: it is not in safetensors, or was made for another model.
    """
    from peft import PeftModel
    from safetensors import safe_open

    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{directory}: no {ADAPTER_WEIGHTS}; adapters are loaded from safetensors only")
    misfit = f"{directory}: the adapter does not fit the model it stands on"
    with old_names_of_peft(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")  # worker.adapters minds it
        try:
            model: Any = PeftModel.from_pretrained(
                base, str(directory), is_trainable=trainable, torch_device=str(device), local_files_only=True
            )
        except (RuntimeError, ValueError, KeyError, UserWarning) as error:
            if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
                raise
            raise ModelError(f"{misfit}: {' '.join(str(error).split())}") from error
    with safe_open(directory / ADAPTER_WEIGHTS, framework="pt") as tensors:
        stored = sum(".lora_" in name for name in tensors.keys())  # noqa: SIM118 - not a dict
    taken = sum(".lora_" in name for name, _ in model.named_parameters())
    if taken < stored:  # PEFT leaves out what it finds no module for
        raise ModelError(f"{misfit}: that has modules for {taken} of its {stored} matrices")
    model.train(False)
    return cast("PreTrainedModel", model)


@contextmanager
def old_names_of_peft() -> Iterator[None]:
    """Silence transformers about a name that PEFT 0.21 still asks for; may go when PEFT asks for the new one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def libraries() -> dict[str, str]:
    """Installed versions of the libraries a model's figures depend on."""
    return {name: installed_version(name) for name in LIBRARIES}


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


def read_json(file: Path) -> dict[str, Any]:
    """The object in a model's JSON file. Raises ModelError."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{file.parent}: no {file.name}; is it a model directory?") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file}: holds {type(data).__name__}, not an object")
    return data
