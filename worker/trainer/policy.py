"""The model that is trained: a version's weights, with a LoRA adapter new or continued, or every weight."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from app.rounds.spec import ADAPTER_METHODS, ALL_LINEAR, ModelRef, TrainingSettings
from app.versions.manifest import VERSION_FILE, Base, VersionInfo
from worker.adapters import Adapter, merged
from worker.models import ADAPTER_CONFIG, GENERATION_CONFIG, TOKENIZER_FILES, load_weights, old_names_of_peft
from worker.trainer import flex, quantization, recompute
from worker.trainer.errors import RefusedError


@dataclass(slots=True)
class Policy:
    """A model, and how the version made of it is to be stored."""

    model: Any
    kind: Literal["full", "adapter"]
    """How the new version is published."""
    base: Base | None
    """The base an adapter is published on."""
    start: Path
    """The version it started from, whose tokenizer goes with it."""

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    @contextmanager
    def dropout(self) -> Iterator[None]:
        """LoRA's own dropout at work; the model's stays off always, as log-ratios need one function, not a family."""
        layers = [
            module for name, module in self.model.named_modules() if name.rpartition(".")[0].endswith("lora_dropout")
        ]
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()

    def save(self, directory: Path) -> None:
        """Write weights, configuration, tokenizer and generation config into ``directory``.

        What vLLM cannot load as an adapter is merged into the weights it stands on; the policy is spent then.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if self.kind == "adapter":
            self.model.save_pretrained(directory, safe_serialization=True, save_embedding_layers=False)
            (directory / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
            _set_base_name(directory / ADAPTER_CONFIG, self.base)
        else:
            model = merged(self.model, directory) if hasattr(self.model, "merge_and_unload") else self.model
            model.save_pretrained(directory)
        # `save_pretrained` writes a generation config of its own making; the start's says which tokens end an answer.
        for name in (*TOKENIZER_FILES, GENERATION_CONFIG):
            if (self.start / name).is_file():
                shutil.copyfile(self.start / name, directory / name)


def attention_for(device: torch.device) -> str:
    """Which attention models are loaded with: block masks on a GPU that can have them, dense ones elsewhere."""
    return flex.register() if flex.usable(device) else "sdpa"


def load_start(
    start: ModelRef,
    info: VersionInfo,
    settings: TrainingSettings,
    device: torch.device,
    *,
    quantized: bool = True,
    load_on: torch.device | None = None,
) -> Policy:
    """The start version in fp32, frozen, as its own policy: what a reference equal to it is computed with.

    An adapter is kept apart where the settings continue it; it is merged where they change its shape or train
    every weight.

    Args:
        start: the version, verified already.
        info: its version.json.
        settings: what it will be trained with.
        device: where it will run.
        quantized: False loads whole weights whatever the method: what is published is merged into those.
        load_on: where it is loaded, if that is another device.

    Raises:
        RefusedError: method 'qlora' where it cannot work.
    """
    directory = Path(start.path)
    options: dict[str, Any] = {"attention": attention_for(device)}
    merges = info.kind == "adapter" and not continues(directory, info, settings)
    if quantized and settings.method == "qlora":
        options["quantization"] = quantization.configuration(settings, device)
        if merges:
            raise RefusedError(
                f"method 'qlora' cannot merge the adapter of {directory.name} into weights of 4 bits; give the LoRA "
                "settings that adapter was trained with, or use method 'lora' for one round"
            )
    if info.kind == "adapter" and not merges:
        model = load_weights(directory, info, torch.float32, load_on or device, trainable_adapter=True, **options)
        model.requires_grad_(False)
        model.eval()
        return Policy(model, "adapter", info.base, directory)
    model = load_weights(directory, info, torch.float32, load_on or device, **options)
    model.requires_grad_(False)
    if merges:
        return Policy(merged(model, directory), "full", None, directory)
    base = Base(version=start.version, path=str(directory.resolve()), digest=start.digest)
    plain = settings.method in ADAPTER_METHODS and not settings.lora_dora
    return Policy(model, "adapter" if plain else "full", base if plain else None, directory)


def make_trainable(policy: Policy, settings: TrainingSettings, *, mapped: bool = False) -> Policy:
    """``policy`` with something to train: every weight, its own adapter, or a new one that changes nothing yet.

    Weights that will be trained on a CPU are copied out of the file they are mapped from: the first step would copy
    them page by page as it writes them, which takes six times as long. ``mapped`` leaves them, for those who will
    take parts of them elsewhere.

    Raises:
        RefusedError: its layers are to be computed again in the backward pass, and cannot be.
    """
    made = _with_gradients(policy, settings)
    if not mapped:
        for parameter in made.trainable.values():
            if parameter.device.type == "cpu":
                parameter.data = parameter.data.clone()
    if settings.gradient_checkpointing:
        recompute.use_in(made.model)
    return made


def _with_gradients(policy: Policy, settings: TrainingSettings) -> Policy:
    model = policy.model
    if settings.method == "full":
        model.requires_grad_(True)
        return replace(policy, base=None)
    if hasattr(model, "peft_config"):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".lora_" in name)
        _set_lora_dropout(model, settings.lora_dropout)
        return policy
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    targets = _targets(model, settings)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_dora=settings.lora_dora,
        use_rslora=settings.lora_rslora,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(m, Conv1D) and n.split(".")[-1] in targets for n, m in model.named_modules()),
    )
    with old_names_of_peft():
        wrapped = get_peft_model(model, config)
    wrapped.eval()
    return replace(policy, model=wrapped)


def continues(directory: Path, info: VersionInfo, settings: TrainingSettings) -> bool:
    """Whether the adapter in ``directory`` has the shape the settings ask for, so that training can go on in it.

    One that vLLM could not load is merged before training goes on, and published merged.
    """
    if settings.method not in ADAPTER_METHODS or settings.lora_dora:
        return False
    adapter = Adapter.read(directory)
    if not adapter.is_plain:
        return False
    names = ("lora_rank", "lora_alpha", "lora_rslora")
    if any(adapter.shape[name] != getattr(settings, name) for name in names):
        return False
    asked = info.spec.get("settings", {}).get("lora_targets")
    if asked is not None:
        return bool(asked == settings.lora_targets)
    return settings.lora_targets != ALL_LINEAR and adapter.modules == sorted(settings.lora_targets)


def _targets(model: Any, settings: TrainingSettings) -> list[str]:
    """Last names of the modules to adapt."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names = {
        name.split(".")[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    if settings.lora_targets == ALL_LINEAR:
        return sorted(names)
    unknown = sorted(set(settings.lora_targets) - names)
    if unknown:
        raise RefusedError(
            f"lora_targets names {', '.join(unknown)}, which this model has not; it has {', '.join(sorted(names))}"
        )
    return sorted(settings.lora_targets)


def _set_lora_dropout(model: Any, share: float) -> None:
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.lora_dropout:
                module.lora_dropout[name] = nn.Dropout(share) if share > 0 else nn.Identity()
    for config in model.peft_config.values():
        config.lora_dropout = share
    model.eval()


def _set_base_name(file: Path, base: Base | None) -> None:
    config = json.loads(file.read_text(encoding="utf-8"))
    source = _source(base)
    # Where the base lies, so that PEFT's Auto classes find it; Hone itself goes by version.json.
    config["base_model_name_or_path"] = None if base is None else source.get("hub") or base.path or base.version
    config["revision"] = source.get("revision")
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _source(base: Base | None) -> dict[str, Any]:
    """What the base was imported from, where it lies by its path."""
    if base is None or base.path is None or not (Path(base.path) / VERSION_FILE).is_file():
        return {}
    return VersionInfo.read(Path(base.path)).source
