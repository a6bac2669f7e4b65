"""How fast the trainer trains: against a plain loop, on the same pairs, weights and seed, in one process.

The plain loop is DPO as it is usually written: chosen and rejected in a padded batch each, the prompt computed for
every side of every pair, logits of every position. Both compute the reference once, then one epoch; both runs are
timed from the first reference pass to the last optimiser step, in turns, and the losses of every step are compared.

    python bench/training.py [--case pairs|groups] [--method lora|full] [--repeats 3] [--json]
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as worker.trainer.__main__ does

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.rounds.spec import TrainingSettings
from tests.factories.models import write_version
from worker.trainer.checkpoint import Checkpoints
from worker.trainer.data import parse_group
from worker.trainer.examples import Example, select
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.loop import Loop, Passes, Split, make_optimizer
from worker.trainer.order import learning_rate, steps
from worker.trainer.policy import Policy, load_start, make_trainable
from worker.trainer.prepare import verified
from worker.trainer.reference import ReferenceStore, compute


@dataclass(frozen=True)
class Case:
    """What is trained on; lengths in tokens, drawn evenly from the two bounds."""

    groups: int
    completions: int
    pairs: int
    """Preferences of each group."""
    prompt: tuple[int, int]
    completion: tuple[int, int]


CASES = {
    # A round of the demo project: a hundred votes on short requests.
    "pairs": Case(100, 2, 1, (20, 40), (60, 100)),
    # Long prompts, four answers each, three of their pairs judged.
    "groups": Case(12, 4, 3, (160, 200), (100, 140)),
}
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 1024,
}
SETTINGS = {"pairs_per_step": 16, "learning_rate": 1e-4, "warmup_ratio": 0.0, "schedule": "constant", "seed": 0}


@dataclass(frozen=True)
class Result:
    """One comparison; seconds are medians. CPU seconds count every thread, and say more where others work beside."""

    case: str
    method: str
    threads: int
    pairs: int
    plain_seconds: float
    ours_seconds: float
    plain_pairs_per_second: float
    ours_pairs_per_second: float
    ratio: float
    cpu_ratio: float
    largest_loss_difference: float


Clock = tuple[float, float]
"""Wall seconds, CPU seconds."""


def _clock() -> Clock:
    return time.perf_counter(), time.process_time()


def _since(began: Clock) -> Clock:
    wall, cpu = _clock()
    return wall - began[0], cpu - began[1]


def make_examples(case: Case) -> list[Example]:
    """Random tokens in the shape of the case."""
    rng = random.Random(0)

    def ids(bounds: tuple[int, int]) -> list[int]:
        return [rng.randrange(6, SHAPE["vocab_size"]) for _ in range(rng.randint(*bounds))]

    groups = []
    for g in range(case.groups):
        answers = [
            {"id": f"{g}.{k}", "ids": ids(case.completion), "text": None, "end": "length"}
            for k in range(case.completions)
        ]
        votes = [{"id": f"{g}.{p}", "a": p, "b": (p + 1) % case.completions, "outcome": "a"} for p in range(case.pairs)]
        groups.append(
            {"id": str(g), "split": "train", "prompt_ids": ids(case.prompt), "completions": answers}
            | {"preferences": votes}
        )
    return select([parse_group(group) for group in groups], "sigmoid", SHAPE["max_position_embeddings"]).train


def start_policy(model: Path, settings: TrainingSettings) -> Policy:
    """The model as a round starts with it."""
    from app.rounds.spec import ModelRef
    from app.versions.manifest import read_digest

    start = ModelRef(str(model), read_digest(model), "start")
    return load_start(start, verified(start), settings, torch.device("cpu"))


def ours(model: Path, examples: Sequence[Example], settings: TrainingSettings) -> tuple[Clock, list[float]]:
    """Seconds of reference and training by the trainer's own loop, and the loss of every step."""
    policy = start_policy(model, settings)
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        forward = Forward(policy.model)
        passes = Passes("shared", settings.tokens_per_row, None)
        units = [example.unit for example in examples]
        began = _clock()
        reference = compute(
            forward,
            units,
            passes.plan(examples, range(len(examples))),
            "shared",
            store=ReferenceStore(Path(folder), "start", "float32", "shared"),
            stored={},
            on_pass=lambda _tokens: None,
        )
        torch.manual_seed(settings.seed)
        policy = make_trainable(policy, settings)
        loop = Loop(
            policy,
            Forward(policy.model),
            settings,
            passes,
            train=Split(examples, reference),
            held_out=Split([], reference),
            checkpoints=Checkpoints(Path(folder)),
            fingerprint="bench",
            stop=Stop(),
            emit=lambda event: losses.append(event["loss"]) if event["kind"] == "train" else None,
            on_tokens=lambda _tokens: None,
        )
        loop.run()
        return _since(began), losses


def plain(model: Path, examples: Sequence[Example], settings: TrainingSettings) -> tuple[Clock, list[float]]:
    """The same by the plain loop."""
    policy = start_policy(model, settings)
    pairs = [
        [
            (example.unit.prompt_ids, example.unit.completions[p.chosen], example.unit.completions[p.rejected])
            for p in example.pairs
        ]
        for example in examples
    ]
    began = _clock()
    with torch.no_grad():
        reference = [[_sums(policy.model, [pair]) for pair in group] for group in pairs]
    torch.manual_seed(settings.seed)
    policy = make_trainable(policy, settings)
    parameters = list(policy.trainable.values())
    optimizer = make_optimizer(parameters, settings)
    losses = []
    order = steps(examples, settings)
    for number, chosen in enumerate(order):
        batch = [pair for index in chosen for pair in pairs[index]]
        held = [values for index in chosen for values in reference[index]]
        won, lost = _sums(policy.model, batch)
        held_won, held_lost = (torch.cat([values[side] for values in held]) for side in (0, 1))
        loss = -torch.nn.functional.logsigmoid(0.1 * ((won - held_won) - (lost - held_lost))).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, len(order), settings)
        optimizer.step()
        losses.append(loss.item())
    return _since(began), losses


_Pair = tuple[list[int], list[int], list[int]]


def _texts(example: Example) -> list[_Pair]:
    """Prompt, chosen and rejected ids of every pair."""
    unit = example.unit
    return [(unit.prompt_ids, unit.completions[p.chosen], unit.completions[p.rejected]) for p in example.pairs]


def _sums(model: Any, batch: Sequence[_Pair]) -> tuple[Tensor, Tensor]:
    """Two times (batch,), nats: chosen and rejected, each in a padded batch with all its logits."""
    sides = []
    for side in (1, 2):
        rows = [pair[0] + pair[side] for pair in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        there = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        said = torch.zeros(len(rows), width)
        for place, (row, pair) in enumerate(zip(rows, batch, strict=True)):
            said[place, len(pair[0]) : len(row)] = 1
        logits = model(input_ids=ids, attention_mask=there, use_cache=False).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
        sides.append((logps * said[:, 1:]).sum(1))
    return sides[0], sides[1]


def compare(name: str, method: str, repeats: int, model: Path) -> Result:
    """Both ways in turns; medians."""
    settings = TrainingSettings.from_dict(SETTINGS | {"method": method})
    examples = make_examples(CASES[name])
    seconds: dict[str, list[Clock]] = {"plain": [], "ours": []}
    losses: dict[str, list[float]] = {}
    ways: dict[str, Callable[..., tuple[Clock, list[float]]]] = {"plain": plain, "ours": ours}
    for _ in range(repeats):
        for way, run in ways.items():
            taken, losses[way] = run(model, examples, settings)
            seconds[way].append(taken)
    pairs = sum(len(example.pairs) for example in examples)
    slow, fast = (statistics.median(wall for wall, _ in seconds[way]) for way in ("plain", "ours"))
    slow_cpu, fast_cpu = (statistics.median(cpu for _, cpu in seconds[way]) for way in ("plain", "ours"))
    return Result(
        case=name,
        method=method,
        threads=torch.get_num_threads(),
        pairs=pairs,
        plain_seconds=round(slow, 3),
        ours_seconds=round(fast, 3),
        plain_pairs_per_second=round(pairs / slow, 2),
        ours_pairs_per_second=round(pairs / fast, 2),
        ratio=round(slow / fast, 2),
        cpu_ratio=round(slow_cpu / fast_cpu, 2),
        largest_loss_difference=max(abs(a - b) for a, b in zip(losses["plain"], losses["ours"], strict=True)),
    )


def main() -> None:
    """Run the comparisons asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--method", choices=["lora", "full"], action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one line for machines, last")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_version(model, "llama", tie_word_embeddings=True, **SHAPE)
        for name in arguments.case or CASES:
            for method in arguments.method or ["lora", "full"]:
                results.append(compare(name, method, arguments.repeats, model))
                r = results[-1]
                print(
                    f"{r.case:<7} {r.method:<5} {r.pairs:>4} pairs  plain {r.plain_seconds:7.2f} s "
                    f"({r.plain_pairs_per_second:6.1f}/s)  ours {r.ours_seconds:7.2f} s "
                    f"({r.ours_pairs_per_second:6.1f}/s)  {r.ratio:5.2f}x  "
                    f"(CPU time {r.cpu_ratio:.2f}x)  losses within {r.largest_loss_difference:.1e}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps([asdict(result) for result in results]))


if __name__ == "__main__":
    main()
