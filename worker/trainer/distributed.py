"""The processes that train together: who they are, what each does of a step, and the model sharded over them (FSDP2).

Every process plans the whole step and takes its part, so that a step learns from the same examples however many there
are. Collective calls must be made by all of them in the same order: decisions that depend on a clock or a signal are
agreed upon first. Without torchrun there is one process, and everything here does nothing.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from worker.trainer import meeting, messages
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.packing import Batch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Crew:
    """One process among those that train together."""

    rank: int
    size: int
    device: torch.device
    local_rank: int = 0
    local_size: int = 1
    mesh: Any = None

    @property
    def main(self) -> bool:
        """Whether this is the one that reports, saves and publishes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, which JSON must be able to say, in the order of ranks."""
        return [value] if self.size == 1 else messages.gather(value)

    def gather_tensors(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Every process's ``tensors``, in the order of ranks."""
        return [tensors] if self.size == 1 else messages.gather_tensors(tensors)

    def first(self, value: T) -> T:
        """The main process's ``value``, which JSON must be able to say."""
        return value if self.size == 1 else cast("T", messages.first(value))

    def first_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The main process's ``tensors``."""
        return tensors if self.size == 1 else messages.first_tensors(tensors)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        if self.size == 1:
            return flag
        told = torch.tensor(int(flag))
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def in_turn(self, load: Callable[[], T]) -> T:
        """``load`` in one process of a machine after the other, so that a machine holds one whole model at a time."""
        made: list[T] = []
        for turn in range(self.local_size):
            if turn == self.local_rank:
                made.append(load())
            self.gather(None)
        return made[0]

    def share(self, chosen: Sequence[int], cost: Callable[[int], int]) -> list[list[int]]:
        """The ``chosen`` indices in a part for each process, of about equal ``cost``; the same in every process."""
        parts: list[list[int]] = [[] for _ in range(self.size)]
        if self.size == 1:
            return [list(chosen)]
        load = [0] * self.size
        for index in sorted(chosen, key=lambda index: (-cost(index), index)):
            lightest = load.index(min(load))
            parts[lightest].append(index)
            load[lightest] += cost(index)
        return parts

    def every(self, plans: Sequence[T]) -> Sequence[T]:
        """Of ``plans`` this process's part; all have as many, the last ones may be done twice."""
        if self.size == 1 or not plans:
            return plans
        rounds = -(-len(plans) // self.size)
        return [plans[min(turn * self.size + self.rank, len(plans) - 1)] for turn in range(rounds)]

    def deal(
        self, plan: Callable[[Sequence[int]], Sequence[T]], parts: Sequence[Sequence[int]]
    ) -> list[tuple[T, bool]]:
        """This process's passes, each with whether it counts.

        All processes make as many passes as the one that has most, for a sharded model needs every one of them in
        every pass; those beyond a process's own repeat a pass of somebody's and count for nothing.
        """
        plans = [list(plan(part)) if part else [] for part in parts]
        most = max(map(len, plans))
        own = [(made, True) for made in plans[self.rank]]
        filler = next((made for made in [*plans[self.rank], *(made for part in plans for made in part)]), None)
        return own + [(filler, False)] * (most - len(own)) if filler is not None else own


ALONE = Crew(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
"""One process, on the GPU if there is one."""


@contextmanager
def joined(stop: Stop) -> Iterator[Crew]:
    """The crew that this process was started in, by ``launch``, torchrun or accelerate; alone where there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    place = os.environ.get(meeting.VARIABLE)
    store = None if place is None else meeting.meet(place, rank, size, stop)
    own = (-1, -1) if store is None else (rank, size)  # torchrun says by its own variables where to meet
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=own[0], world_size=own[1])
    try:
        mesh = init_device_mesh(device.type, (size,))
        yield Crew(rank, size, device, local, int(os.environ.get("LOCAL_WORLD_SIZE", size)), mesh)
    finally:
        dist.destroy_process_group()


class AgreedStop(Stop):
    """A stop that all processes of a crew come to at the same point; they ask together."""

    def __init__(self, own: Stop, crew: Crew) -> None:
        super().__init__()
        self._own, self._crew = own, crew

    def check(self, done: str) -> None:
        """Raise StoppedError in every process if a stop was asked for in any."""
        self.asked = self._crew.any(self._own.asked)
        super().check(done)


class _Root(nn.Module):
    """Makes any computation on the model FSDP's forward pass: what it shards itself is whole meanwhile."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], dict[str, Tensor | None]]) -> dict[str, Tensor | None]:
        """What ``compute`` gives; copies, for FSDP hangs its backward hooks on them."""
        return {name: None if value is None else value.clone() for name, value in compute().items()}


class ShardedForward(Forward):
    """The same passes over a model whose parameters are sharded over the crew, block by block."""

    def __init__(self, model: Any, crew: Crew, *, autocast: torch.dtype | None = None) -> None:
        """Shards ``model`` in place and moves this process's part to its device."""
        from torch.distributed.fsdp import fully_shard

        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        blocks = {str(name) for name in causal._no_split_modules or ()}  # noqa: SLF001 - transformers' own word for it
        for module in list(model.modules()):
            if type(module).__name__ in blocks:
                fully_shard(module, mesh=crew.mesh)
        self._root: Any = fully_shard(_Root(model), mesh=crew.mesh)
        super().__init__(model, autocast=autocast)
        self.device = crew.device

    def _make_recorder(self) -> None:
        """None: passes talk to the other processes."""

    def compile_layers(self) -> None:
        """Nothing: layers are sharded as they are."""

    def _by_token(self, batch: Batch, *, collisions: bool) -> tuple[Tensor, Tensor | None]:
        """As ``Forward``; all of the crew call it together."""

        def compute() -> dict[str, Tensor | None]:
            logps, found = super(ShardedForward, self)._by_token(batch, collisions=collisions)
            return {"logps": logps, "collisions": found}

        made = self._whole(compute)
        return made["logps"], made["collisions"]

    def from_full_logits(self, prompt_ids: list[int], completion_ids: list[int]) -> Tensor:
        """As ``Forward``; all of the crew call it together."""

        def compute() -> dict[str, Tensor | None]:
            return {"logps": super(ShardedForward, self).from_full_logits(prompt_ids, completion_ids)}

        with torch.no_grad():
            logps: Tensor = self._whole(compute)["logps"]
        return logps

    def _whole(self, compute: Callable[[], dict[str, Tensor | None]]) -> dict[str, Any]:
        made: dict[str, Any] = self._root(compute)
        if not torch.is_grad_enabled():  # no backward pass will do it, and a step would leave them behind
            for module in self._root.modules():
                if hasattr(module, "reshard"):
                    module.reshard()
        return made


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, sharded or not; of a sharded one all of the crew ask together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def place(value: Tensor, like: Tensor) -> Tensor:
    """``value`` where and sharded as ``like`` is; every process has all of it."""
    if not hasattr(like, "full_tensor"):
        return value.to(like.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    sharded: DTensor = like  # type: ignore[assignment]
    return distribute_tensor(value.to(sharded.device), sharded.device_mesh, sharded.placements, src_data_rank=None)


def whole_weights(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """All of every parameter, on the CPU; all of the crew ask together."""
    return {name: whole(parameter.detach()).cpu() for name, parameter in parameters.items()}
