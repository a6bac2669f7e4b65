"""LoRA adapters as PEFT writes them: what they say of themselves, and one made into a version on its base."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.rounds.spec import ALL_LINEAR
from app.versions.manifest import MANIFEST_FILE, Base, VersionInfo, read_digest, write_manifest
from worker.imports import has_tokenizer, source_of, write_generation_config
from worker.models import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    ModelError,
    libraries,
    load_tokenizer,
    read_json,
)

_ANYWAY = frozenset(
    {
        # Of the file, and of the model that the adapter is for.
        "peft_type",
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "fan_in_fan_out",
        # Its shape, which the weights show as well, and how they began.
        "r",
        "lora_alpha",
        "lora_dropout",
        "use_rslora",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "init_lora_weights",
        "eva_config",
        # Settings of what is switched off by others.
        "megatron_core",
        "qalora_group_size",
        "ensure_weight_tying",
    }
)
"""What an adapter may say and still be plain. Whatever else is set is more than two matrices a module."""
_KEEPS_BASE = ("gaussian", "eva", "orthogonal")
"""Initialisations by name that leave the weights under an adapter as they are; others (PiSSA, OLoRA, …) do not."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """adapter_config.json, and the names of the weights beside it."""

    directory: Path
    config: dict[str, Any]
    weights: list[str]

    @classmethod
    def read(cls, directory: Path) -> "Adapter":
        """The adapter in ``directory``.

        Raises:
            ModelError: it is no LoRA adapter, or its weights are not there or not in safetensors.
        """
        from safetensors import SafetensorError, safe_open

        config = read_json(directory / ADAPTER_CONFIG)
        if config.get("peft_type") != "LORA":
            raise ModelError(
                f"{directory}: is an adapter of type {config.get('peft_type')!r}; only LoRA adapters (DoRA among them) "
                "are read: merge it with PEFT, and name the model that makes"
            )
        file = directory / ADAPTER_WEIGHTS
        if not file.is_file():
            raise ModelError(
                f"{directory}: no {ADAPTER_WEIGHTS}; other weight files can run code when they are opened and are not "
                "read: save the adapter with save_pretrained(safe_serialization=True)"
            )
        try:
            with safe_open(file, framework="pt") as tensors:
                return cls(directory, config, sorted(tensors.keys()))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: is not a whole safetensors file: {error}") from error

    @property
    def is_plain(self) -> bool:
        """Whether it is two matrices for each module and nothing else: what vLLM loads, and training goes on in."""
        begun = self.config.get("init_lora_weights", True)
        more = {name for name, value in self.config.items() if name not in _ANYWAY and value not in (None, "none")}
        return (
            not any(self.config[name] for name in more)
            and (isinstance(begun, bool) or begun in _KEEPS_BASE)
            and all(".lora_" in name for name in self.weights)
        )

    @property
    def modules(self) -> list[str]:
        """Last names of the modules it adapts, sorted."""
        places = {name.split(".lora_")[0] for name in self.weights if ".lora_" in name}
        return sorted({place.rpartition(".")[2] for place in places})

    @property
    def shape(self) -> dict[str, Any]:
        """The settings of a training that goes on in it."""
        return {
            "lora_rank": self.config.get("r"),
            "lora_alpha": self.config.get("lora_alpha"),
            "lora_rslora": bool(self.config.get("use_rslora")),
            "lora_targets": self.modules,
        }

    @property
    def base(self) -> tuple[str, str | None]:
        """The model it stands on, by its directory or hub id, and the revision of that. Raises ModelError."""
        name = self.config.get("base_model_name_or_path")
        if not isinstance(name, str) or not name:
            raise ModelError(
                f"{self.directory}: does not name the model it stands on; write its directory or hub id into "
                f"{ADAPTER_CONFIG}, as base_model_name_or_path"
            )
        return name, self.config.get("revision")


def is_adapter(directory: Path) -> bool:
    """Whether PEFT's adapter lies in ``directory``, and neither a model nor a version of Hone's."""
    return (directory / ADAPTER_CONFIG).is_file() and not any(
        (directory / name).exists() for name in ("config.json", MANIFEST_FILE)
    )


def shape_of(directory: Path) -> dict[str, Any]:
    """The LoRA settings that the adapter in ``directory`` was made with, version or not; none if there is no adapter.

    Raises:
        ModelError, ManifestError: there is one, and it cannot be read.
    """
    if not (directory / ADAPTER_CONFIG).is_file():
        return {}
    adapter = Adapter.read(directory)
    if not adapter.is_plain:
        return {}
    asked = None
    if (directory / MANIFEST_FILE).is_file():
        asked = VersionInfo.read(directory).spec.get("settings", {}).get("lora_targets")
    return adapter.shape | ({} if asked != ALL_LINEAR else {"lora_targets": asked})


def import_adapter(adapter: Adapter, base: Path, staged: Path) -> VersionInfo:
    """Make the version directory ``staged`` of an adapter, on the version in ``base``.

    The tokenizer is the adapter's own where it has one.

    Raises:
        ModelError: a tokenizer that cannot be read.
        ManifestError: ``base`` is no version.
    """
    info, digest = VersionInfo.read(base), read_digest(base)
    staged.mkdir(parents=True, exist_ok=True)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(adapter.directory / name, staged / name)
    copy_surroundings(adapter.directory, base, staged)
    made = VersionInfo(
        kind="adapter",
        context_length=info.context_length,
        base=Base(path=str(base.resolve()), digest=digest),
        source=source_of(adapter.directory) | {"base": digest},
        libraries=libraries(),
    )
    made.write(staged)
    write_manifest(staged)
    return made


def copy_surroundings(adapter: Path, base: Path, staged: Path) -> None:
    """Tokenizer and generation config of an adapter, or of its base where it has none of its own.

    Raises:
        ModelError: neither has a tokenizer, or says which token ends an answer.
    """
    tokenizer = adapter if has_tokenizer(adapter) else base
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, staged / name)
    generation = adapter if (adapter / GENERATION_CONFIG).is_file() else base
    eos = load_tokenizer(staged, converses=False).eos_token_id
    write_generation_config(generation, staged, read_json(base / "config.json"), eos)


def refuse_quantized(directory: Path, adapter: Path) -> None:
    """Raises ModelError for a base whose weights are stored in a few bits: nothing is trained on it, or merged in."""
    found = read_json(directory / "config.json").get("quantization_config")
    if isinstance(found, dict):
        raise ModelError(
            f"{adapter}: its base {directory} holds quantised weights ({found.get('quant_method', 'of some kind')}), "
            "which an adapter can neither be trained on nor merged into; name the same model in full precision"
        )


def merged(model: Any, directory: Path) -> Any:
    """The model under ``model``, with the adapter of ``directory`` that it has in its weights; ``model`` is spent.

    Raises:
        ModelError: the adapter is of a kind that cannot be merged, or what comes of it is not finite.
    """
    _untie(model)
    try:
        return model.merge_and_unload(safe_merge=True)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(f"{directory}: the adapter cannot be merged: {error}; train another one") from error


def _untie(model: Any) -> None:
    """Give the head weights of its own where it shares the embedding's, and the adapter changes one of the two."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper
    from torch import nn

    whole = model.get_base_model()
    head, embedding = whole.get_output_embeddings(), whole.get_input_embeddings()
    changed = any(isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper) for layer in (head, embedding))
    if changed and whole.config.tie_word_embeddings:
        if isinstance(head, BaseTunerLayer):
            head = head.get_base_layer()
        elif isinstance(head, AuxiliaryTrainingWrapper):
            head = head.original_module
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        whole.config.tie_word_embeddings = False
