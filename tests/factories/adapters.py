"""LoRA adapters as PEFT writes them, over the tiny models of ``tests.factories.models``."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.factories.jobs import encode_prompt
from worker.models import old_names_of_peft


def make_adapter(directory: Path, base: Path, named: str | None = None, **changes: Any) -> Path:
    """What somebody's own training with PEFT leaves: no tokenizer, and weights that are not at their beginning."""
    settings = {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"} | changes
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with old_names_of_peft(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        adapter = get_peft_model(model, LoraConfig(**settings))
        with torch.no_grad():
            for name, parameter in adapter.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    adapter.save_pretrained(directory)
    change_config(directory, base_model_name_or_path=named or str(base))
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    """Change what adapter_config.json says."""
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def told(model: Any) -> torch.Tensor:
    """(1, tokens, vocabulary): the logits of a model on some prompt."""
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=torch.tensor([encode_prompt("tea boat")])).logits
    return output


def as_peft_loads_it(adapter: Path, base: Path) -> torch.Tensor:
    """The logits of an adapter on its base, both opened by the libraries they are for."""
    with old_names_of_peft():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return told(PeftModel.from_pretrained(model, str(adapter)).eval())
