"""What the operator chose, resolved for this machine."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_SHARE_OF_RAM = 0.5
_SHARE_OF_DEVICE = 0.85


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the engine needs to know; ``memory_budget_bytes`` covers weights and KV of all versions together."""

    versions: Path
    dtype: torch.dtype
    device: torch.device
    memory_budget_bytes: int
    max_batch: int = 64
    """Completions of one version that run at once."""
    max_queue: int = 1024
    """Completions running and waiting, over all versions, before the engine answers 429."""


def resolve_device(name: str) -> torch.device:
    """``auto`` is the first accelerator if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on an accelerator and fp32 on a CPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def resolve_budget(megabytes: int | None, device: torch.device) -> int:
    """Bytes for weights and KV: what was asked for, else half of the free RAM or 85 % of the device's free memory."""
    if megabytes is not None:
        return megabytes * 2**20
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _SHARE_OF_DEVICE)
    return int(psutil.virtual_memory().available * _SHARE_OF_RAM)
