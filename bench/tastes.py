"""Do the votes teach? For each hidden taste and seed: rounds of votes, DPO after each, then judged on held-out prompts.

    python bench/tastes.py [--tastes concise,warm] [--seeds 3] [--rounds 3] [--votes 100] [--json]

Every round samples pairs from the current version on training prompts, lets a simulated reviewer with 10 % noise
choose, and runs the project's trainer on all votes so far with the demo project's settings, as the product does. In the
end the last version meets version 1 on prompts that were never voted on: win rate by the hidden taste, with a 95 %
interval over prompts, and distinct-2 relative to version 1's (over as many word pairs of every answer). ``--json``
prints the same as one last line of JSON.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.rounds.spec import ModelRef, Spec, TrainingSettings
from app.versions.manifest import verify
from worker.demo import tastes
from worker.demo.corpus import Message
from worker.demo.prompts import read
from worker.demo.sampling import Answer, sample
from worker.demo.train import MODEL
from worker.demo.winrate import distinct_2_ratio, win_rate
from worker.models import load_model

SETTINGS = MODEL.parent / "settings.json"
NOISE = 0.1


@dataclass(frozen=True)
class Row:
    """One taste with one seed."""

    taste: str
    seed: int
    win_rate: float
    low: float
    high: float
    distinct2_ratio: float
    words: float
    """Per answer, mean."""
    ended: float
    """Share of answers that ended by themselves."""
    round_seconds: list[float]
    """Wall time of the trainer, process start included."""


def split(prompts: list[list[Message]]) -> tuple[list[list[Message]], list[list[Message]]]:
    """Prompts to vote on, and about a tenth held out, by hash."""

    def held_out(messages: list[Message]) -> bool:
        return hashlib.sha256(json.dumps(messages).encode()).digest()[0] % 10 == 0

    return [m for m in prompts if not held_out(m)], [m for m in prompts if held_out(m)]


def group(name: str, answers: list[Answer], outcome: str) -> dict[str, Any]:
    """A line of groups.jsonl: two answers to one prompt and what was said of them."""
    return {
        "id": name,
        "split": "train",
        "prompt_ids": answers[0].prompt_ids,
        "completions": [
            {"id": f"{name}-{side}", "ids": a.ids, "text": a.text, "end": "eos" if a.ended else "length"}
            for side, a in zip("ab", answers, strict=True)
        ],
        "preferences": [{"id": name, "a": 0, "b": 1, "outcome": outcome, "margin": 0.0, "weight": 1.0}],
        "labels": [],
        "rankings": [],
    }


def train(job: Path, start: Path, first: Path, settings: TrainingSettings, groups: list[dict[str, Any]]) -> Path:
    """Run the trainer on ``groups``, from version ``start``; returns the new version's directory."""
    job.mkdir(parents=True)
    reference = start if settings.reference == "parent" else first
    Spec(settings=settings, start=_model(start), reference=_model(reference)).write(job)
    (job / "groups.jsonl").write_text("".join(json.dumps(line) + "\n" for line in groups), encoding="utf-8")
    command = [sys.executable, "-m", "worker.trainer", str(job), "--attempt", "bench"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the trainer ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return job / "attempt-bench" / "version"


def _model(version: Path) -> ModelRef:
    return ModelRef(path=str(version), digest=verify(version), version=version.name)


def answers_of(
    version: Path, prompts: list[list[Message]], n: int, seed: int, sampling: dict[str, Any]
) -> list[list[Answer]]:
    """``n`` answers of a version to each prompt."""
    model, tokenizer, _ = load_model(version, torch.float32, "cpu")
    generator = torch.Generator().manual_seed(seed)
    return sample(
        model,
        tokenizer,
        prompts,
        n,
        generator,
        max_tokens=sampling["max_tokens"],
        temperature=sampling["temperature"],
    )


def run(taste: str, seed: int, arguments: argparse.Namespace, work: Path) -> Row:
    """All rounds of one taste with one seed, and the verdict."""
    settings = json.loads(arguments.settings.read_text(encoding="utf-8"))
    training, sampling = TrainingSettings.from_dict(settings["training"]), settings["sampling"]
    rng = random.Random(f"{taste}/{seed}")
    voted_on, held_out = split(read())
    versions = work / "versions"
    first = current = versions / "version-1"
    shutil.copytree(arguments.model, first)
    groups: list[dict[str, Any]] = []
    seconds = []
    for number in range(1, arguments.rounds + 1):
        chosen = [voted_on[i] for i in rng.sample(range(len(voted_on)), min(arguments.votes, len(voted_on)))]
        chosen += rng.choices(voted_on, k=arguments.votes - len(chosen))
        pairs = answers_of(current, chosen, 2, rng.randrange(2**31), sampling)
        for index, pair in enumerate(pairs):
            outcome = tastes.judge(taste, pair[0].text, pair[1].text, rng, NOISE)
            groups.append(group(f"round-{number}-{index}", pair, outcome))
        began = time.monotonic()
        made = train(work / f"job-{number}", current, first, training.with_changes(seed=seed), groups)
        seconds.append(round(time.monotonic() - began, 1))
        current = versions / f"version-{number + 1}"
        shutil.copytree(made, current)
        print(f"{taste} seed {seed}: round {number} trained in {seconds[-1]} s", file=sys.stderr, flush=True)
    mine = answers_of(current, held_out, arguments.samples, 2 * seed + 1, sampling)
    theirs = answers_of(first, held_out, arguments.samples, 2 * seed + 2, sampling)
    verdict = win_rate(
        [[answer.text for answer in answers] for answers in mine],
        [[answer.text for answer in answers] for answers in theirs],
        lambda text: tastes.score(taste, text),
        np.random.default_rng(seed),
    )
    texts = [answers[i].text for i in range(arguments.samples) for answers in mine]
    baseline = [answers[i].text for i in range(arguments.samples) for answers in theirs]
    return Row(
        taste=taste,
        seed=seed,
        **verdict.to_dict(),
        distinct2_ratio=round(distinct_2_ratio(texts, baseline, rng), 4),
        words=round(sum(len(text.split()) for text in texts) / len(texts), 1),
        ended=round(sum(answer.ended for answers in mine for answer in answers) / len(texts), 4),
        round_seconds=seconds,
    )


def show(rows: list[Row]) -> None:
    """The table, with the mean over seeds below each taste."""
    print(f"{'taste':<10}{'seed':>6}{'win rate':>10}{'95 %':>16}{'distinct-2':>12}{'words':>8}{'ended':>8}  round s")
    for taste in dict.fromkeys(row.taste for row in rows):
        mine = [row for row in rows if row.taste == taste]
        for row in mine:
            print(
                f"{taste:<10}{row.seed:>6}{row.win_rate:>10.3f}{f'{row.low:.3f}–{row.high:.3f}':>16}"
                f"{row.distinct2_ratio:>12.3f}{row.words:>8.1f}{row.ended:>8.3f}  {row.round_seconds}"
            )
        wins, pairs = np.mean([row.win_rate for row in mine]), np.mean([row.distinct2_ratio for row in mine])
        print(f"{taste:<10}{'mean':>6}{wins:>10.3f}{'':>16}{pairs:>12.3f}")


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(prog="python bench/tastes.py", description="Do the votes teach?")
    parser.add_argument("--tastes", default=",".join(tastes.TASTES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--votes", type=int, default=100, help="per round")
    parser.add_argument("--samples", type=int, default=6, help="answers per held-out prompt and version")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for taste in arguments.tastes.split(","):
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory(prefix="hone-tastes-") as folder:
                rows.append(run(taste, seed, arguments, Path(folder)))
    show(rows)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
