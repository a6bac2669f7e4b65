"""One of two processes that tell each other what trainers do, where nothing can be unpickled: ``DIRECTORY`` gets it.

Run by ``test_distributed``, as ``python -m tests.worker.trainer.telling DIRECTORY``.
"""

import json
import os
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Never

import torch
from torch.distributed import distributed_c10d

from worker.trainer.distributed import joined
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import Tally


def _refuse(*_arguments: object, **_options: object) -> Never:
    raise AssertionError("something was unpickled")


def main() -> None:
    """Tell, and write down what was heard."""
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (distributed_c10d, "_unpickler")):
        setattr(module, name, _refuse)
    with joined(Stop()) as crew:
        tally = Tally({"loss": 0.1 + crew.rank, "kl": float("inf")}, {"loss": 2.0, "kl": 1.0}, 3 + crew.rank)
        found = {f"völlig-{crew.rank}": torch.arange(3.0) / 3 + crew.rank, "none": torch.empty(0)}
        heard: dict[str, Any] = {
            "tallies": crew.gather({"tally": asdict(tally), "tokens": 7}),
            "found": [_listed(tensors) for tensors in crew.gather_tensors(found if crew.main else {})],
            "flag": crew.first(crew.main),
            "nothing": crew.first(None if crew.main else "x"),
            "digest": crew.first("sha256:ü" if crew.main else None),
            "stored": _listed(crew.first_tensors(found if crew.main else {})),
            "turn": crew.in_turn(lambda: crew.rank),
        }
        (Path(sys.argv[1]) / f"{crew.rank}.json").write_text(json.dumps(heard), encoding="utf-8")
        crew.gather(None)
    sys.stdout.flush()
    os._exit(0)


def _listed(tensors: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in tensors.items()}


if __name__ == "__main__":
    main()
