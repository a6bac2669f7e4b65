"""QLoRA: the frozen weights in 4 bits under an adapter that trains in full precision. CUDA only, and an extra.

Source: arXiv:2305.14314 (NF4, double quantisation).
"""

from importlib.util import find_spec
from typing import Any

import torch

from app.rounds.spec import TrainingSettings
from worker.trainer.errors import RefusedError


def configuration(settings: TrainingSettings, device: torch.device) -> Any:
    """What transformers loads the weights with.

    Raises:
        RefusedError: no CUDA device, or no bitsandbytes.
    """
    if device.type != "cuda":
        raise RefusedError(
            f"method 'qlora' keeps weights in 4 bits on an NVIDIA GPU, and this machine trains on {device.type}; "
            "use method 'lora'"
        )
    if find_spec("bitsandbytes") is None:
        raise RefusedError("method 'qlora' needs bitsandbytes, which is not installed; run: pip install 'hone[qlora]'")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if settings.dtype == "float32" else torch.bfloat16,
    )
