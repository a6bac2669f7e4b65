"""What the processes of a job tell each other beside tensors: texts of JSON, and tensors by name.

What comes from another process is read as data and never unpickled: whoever can write to the network between the
machines could else run code in every trainer.
"""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor


def gather(value: Any) -> list[Any]:
    """Every process's ``value``, which JSON must be able to say, in the order of ranks."""
    return [json.loads(text) for text in _gathered(json.dumps(value).encode())]


def gather_tensors(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Every process's ``tensors``, on the CPU, in the order of ranks."""
    return [safetensors.torch.load(packed) for packed in _gathered(_packed(tensors))]


def first(value: Any) -> Any:
    """The ``value`` of process 0, which JSON must be able to say; those of the others are not looked at."""
    return json.loads(_first(json.dumps(value).encode() if dist.get_rank() == 0 else b""))


def first_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``tensors`` of process 0, on the CPU; those of the others are not looked at."""
    return safetensors.torch.load(_first(_packed(tensors) if dist.get_rank() == 0 else b""))


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})


def _gathered(data: bytes) -> list[bytes]:
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(data)]))
    longest = max(int(length) for length in lengths)
    own = torch.zeros(longest, dtype=torch.uint8)
    own[: len(data)] = _as_tensor(data)
    parts = [torch.empty_like(own) for _ in lengths]
    dist.all_gather(parts, own)
    return [_as_bytes(part[: int(length)]) for part, length in zip(parts, lengths, strict=True)]


def _first(data: bytes) -> bytes:
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0)
    told = _as_tensor(data) if dist.get_rank() == 0 else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(told, 0)
    return _as_bytes(told)


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.numpy().data)
