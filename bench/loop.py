"""How many labels does choosing pairs save? The whole loop with each strategy of the refill, against random pairs.

    python bench/loop.py [--size small|medium|large] [--strategies …] [--seeds N] [--plot FILE.svg] [--json]

For each seed and strategy, rounds of: sample a pool of prompts twice each from the current version, let the strategy
choose pairs (with the product's own code, exploration and propensities), let a simulated reviewer with 10 % noise vote,
run the project's trainer on all votes so far with the demo project's settings (but for the learning rate). After every
round the version meets version 1 on prompts that nobody voted on: win rate by the reviewer's hidden taste. The taste
changes with the seed; all strategies of a seed share taste, prompts and first pool, so they differ within the seed.

The table has the win rate at every number of votes with a 95 % interval over seeds (Student's t), the difference to
random within seeds with its own, and the votes that random would have needed for the strategy's last win rate
("savings", on its curve, which never falls). ``--plot`` draws the curves. ``--json`` prints one last line.

    small    2 seeds, 2 rounds of 16 votes; a few minutes on two cores, and too little to tell strategies apart
    medium   4 seeds, 3 rounds of 24 votes
    large    8 seeds, 4 rounds of 32 votes
"""

import argparse
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from scipy import stats
from tastes import NOISE, SETTINGS, answers_of, group, split

from app.comparisons.quality import alike, fault_of
from app.projects.refilling import DEFAULT_EXPLORATION, DEFAULT_POOL_FACTOR, STRATEGIES
from app.rounds.spec import ModelRef, Spec, TrainingSettings
from app.versions.manifest import verify
from worker.demo import tastes
from worker.demo.corpus import Message
from worker.demo.prompts import read
from worker.demo.sampling import Answer as Sampled
from worker.demo.train import MODEL
from worker.demo.winrate import win_rate
from worker.models import load_model
from worker.refill.answers import Answer
from worker.refill.strategies import Chance, Diversity, Information, Option, Strategy, Uncertainty, choose
from worker.refill.strategies.history import Judged
from worker.trainer.job import run as run_job
from worker.trainer.lifetime import Stop

SIZES = {"small": (2, 2, 16), "medium": (4, 3, 24), "large": (8, 4, 32)}
"""Seeds, rounds, votes a round."""

BETA = 0.1
SIMILARITY = 0.9
LEARNING_RATE = 3e-4
"""Below the demo project's 7e-4, which is meant for a hundred votes a round: with a quarter of that, versions go astray
so often that no strategy can be told from another."""
MAX_TOKENS = 128
"""Nearly all answers of the demo model are shorter, and the few that are not would take most of the time."""


@dataclass(frozen=True)
class Point:
    """One strategy with one seed after one round."""

    strategy: str
    seed: int
    taste: str
    votes: int
    win_rate: float
    agreement: float
    """Share of the votes of this round that sided with the hidden taste; noise and ties take the rest."""


@dataclass(frozen=True)
class Row:
    """One strategy at one number of votes, over seeds."""

    strategy: str
    votes: int
    win_rate: float
    low: float
    high: float
    difference: float
    """To random, mean over seeds of the difference within the seed."""
    difference_low: float
    difference_high: float
    seeds: int


def run(strategy: str, seed: int, rounds: int, votes: int, samples: int, learning_rate: float) -> list[Point]:
    """One loop, from version 1 on."""
    torch.set_num_threads(1)
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    training, sampling = (
        TrainingSettings.from_dict(settings["training"]),
        settings["sampling"] | {"max_tokens": MAX_TOKENS},
    )
    training, sampling = training.with_changes(learning_rate=learning_rate), sampling | {"max_tokens": MAX_TOKENS}
    taste = list(tastes.TASTES)[seed % len(tastes.TASTES)]
    voted_on, held_out = split(read())
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="hone-loop-") as folder:
        versions = Path(folder) / "versions"
        shutil.copytree(MODEL, versions / "version-1")
        current = parent = versions / "version-1"
        baseline = answers_of(current, held_out, samples, 2 * seed + 2, sampling)
        groups: list[dict[str, Any]] = []
        judged: list[Judged] = []
        compared: list[str] = []
        for number in range(1, rounds + 1):
            rng = random.Random(f"{seed}/{number}")  # prompts and tokens are the same for all strategies of a seed
            pool = rng.sample(range(len(voted_on)), min(len(voted_on), votes * DEFAULT_POOL_FACTOR + votes // 2))
            if strategy == "random":
                pool = pool[: votes + votes // 4]  # a few more, for those whose answers do not differ
            prompts = [voted_on[index] for index in pool]
            sampled = answers_of(current, prompts, 2, rng.randrange(2**31), sampling)
            rewards = implicit_rewards(current, parent, sampled) if current != parent else None
            options, by_pair = _options(prompts, pool, sampled, rewards)
            chosen = choose(
                _strategy(strategy, judged, compared),
                options,
                votes,
                per_prompt=1,
                exploration=1.0 if strategy == "random" else DEFAULT_EXPLORATION,
                rng=rng,
            )
            right = 0
            for index, item in enumerate(chosen):
                a, b = item.option.answers
                outcome = tastes.judge(taste, a.text, b.text, rng, NOISE)
                right += outcome == tastes.judge(taste, a.text, b.text, rng, 0.0)
                groups.append(group(f"round-{number}-{index}", by_pair[item.option.prompt_id], outcome))
                judged.append(Judged(a, b, {"a": 1.0, "b": 0.0}.get(outcome, 0.5)))
                compared.append(item.option.prompt)
            made = train(Path(folder) / f"job-{number}", current, training.with_changes(seed=seed), groups)
            parent, current = current, versions / f"version-{number + 1}"
            shutil.copytree(made, current)
            mine = answers_of(current, held_out, samples, 2 * seed + 1, sampling)
            verdict = win_rate(
                [[answer.text for answer in answers] for answers in mine],
                [[answer.text for answer in answers] for answers in baseline],
                lambda text: tastes.score(taste, text),
                np.random.default_rng(seed),
            )
            points.append(
                Point(strategy, seed, taste, len(groups), round(verdict.win_rate, 4), round(right / len(chosen), 3))
            )
    return points


def train(job: Path, start: Path, settings: TrainingSettings, groups: list[dict[str, Any]]) -> Path:
    """Run the trainer on ``groups`` in this process; returns the new version's directory."""
    job.mkdir(parents=True)
    version = ModelRef(path=str(start), digest=verify(start), version=start.name)
    Spec(settings=settings, start=version, reference=version).write(job)
    (job / "groups.jsonl").write_text("".join(json.dumps(line) + "\n" for line in groups), encoding="utf-8")
    return run_job(job, "bench", Stop(), lambda _event: None)


def _strategy(name: str, judged: Sequence[Judged], compared: Sequence[str]) -> Strategy:
    if name == "information":
        return Information(judged)
    if name == "diversity":
        return Diversity(compared)
    return Uncertainty() if name == "uncertainty" else Chance()


def _options(
    prompts: Sequence[list[Message]],
    pool: Sequence[int],
    sampled: Sequence[list[Sampled]],
    rewards: list[list[float]] | None,
) -> tuple[list[Option], dict[UUID, list[Sampled]]]:
    """A pair for each prompt whose answers people could tell apart."""
    options, by_pair = [], {}
    for place, (messages, index, pair) in enumerate(zip(prompts, pool, sampled, strict=True)):
        id_ = UUID(int=index)
        answers = tuple(
            Answer(
                id_,
                item.text,
                item.prompt_ids,
                item.ids,
                "eos" if item.ended else "length",
                {},
                {} if rewards is None else {"reward": rewards[place][side]},
            )
            for side, item in enumerate(pair)
        )
        if any(fault_of(answer) for answer in answers) or alike(answers[0], answers[1], SIMILARITY):
            continue
        options.append(Option(id_, messages[-1]["content"], answers))
        by_pair[id_] = pair
    return options, by_pair


@torch.no_grad()
def implicit_rewards(version: Path, reference: Path, sampled: Sequence[list[Sampled]]) -> list[list[float]]:
    """β (log π − log ref) of every answer, nats."""
    flat = [answer for answers in sampled for answer in answers]
    ratios = np.zeros(len(flat))
    for sign, folder in ((1.0, version), (-1.0, reference)):
        model, _, _ = load_model(folder, torch.float32, "cpu")
        for start in range(0, len(flat), 32):
            block = flat[start : start + 32]
            rows = [answer.prompt_ids + answer.ids for answer in block]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(-1)
            logps = logits.gather(-1, ids[:, 1:, None])[..., 0]
            for place, answer in enumerate(block):
                first = len(answer.prompt_ids) - 1
                ratios[start + place] += sign * float(logps[place, first : first + len(answer.ids)].sum())
    ends = list(itertools.accumulate((len(answers) for answers in sampled), initial=0))
    return [[BETA * float(value) for value in ratios[a:b]] for a, b in itertools.pairwise(ends)]


def summarise(points: Sequence[Point]) -> list[Row]:
    """A row for each strategy and number of votes, random first."""
    found = {(point.strategy, point.votes, point.seed): point.win_rate for point in points}
    rows = []
    for strategy in dict.fromkeys(point.strategy for point in points):
        for votes in sorted({point.votes for point in points if point.strategy == strategy}):
            rates = {seed: rate for (name, count, seed), rate in found.items() if (name, count) == (strategy, votes)}
            differences = [
                rate - found["random", votes, seed] for seed, rate in rates.items() if ("random", votes, seed) in found
            ]
            rate, low, high = _interval(list(rates.values()))
            difference, below, above = _interval(differences)
            rows.append(Row(strategy, votes, rate, low, high, difference, below, above, len(rates)))
    return rows


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with the ends of its 95 % interval; without one where there are fewer than two values."""
    if not values:
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if len(values) < 2:
        return round(mean, 4), float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return round(mean, 4), round(mean - half, 4), round(mean + half, 4)


def savings(points: Sequence[Point], strategy: str, draws: int = 2000) -> tuple[float, float, float] | None:
    """Votes random needs for the strategy's last win rate, over the votes the strategy took: ratio with its interval.

    Interpolated on random's mean curve from (0, one half) on; at random's last point where the strategy is above all of
    it, so that the ratio says "at least". The interval resamples seeds (bootstrap, 95 %).
    """
    seeds = sorted({point.seed for point in points if point.strategy == strategy})
    rates = {(point.strategy, point.seed, point.votes): point.win_rate for point in points}
    counts = sorted({point.votes for point in points})
    if any(("random", seed, counts[-1]) not in rates or (strategy, seed, counts[-1]) not in rates for seed in seeds):
        return None
    rng = np.random.default_rng(0)

    def ratio(chosen: Sequence[int]) -> float:
        curve = [0.5, *(float(np.mean([rates["random", seed, votes] for seed in chosen])) for votes in counts)]
        reached = float(np.mean([rates[strategy, seed, counts[-1]] for seed in chosen]))
        rising = np.maximum.accumulate(curve)
        return float(np.interp(reached, rising, [0, *counts])) / counts[-1]

    middle = ratio(seeds)
    if len(seeds) < 2:
        return middle, float("nan"), float("nan")
    drawn = [ratio(rng.choice(seeds, len(seeds)).tolist()) for _ in range(draws)]
    return middle, float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def supported(rows: Sequence[Row]) -> str:
    """The default that the curve supports: the best strategy whose last difference to random is surely above 0."""
    last = max(row.votes for row in rows)
    better = [row for row in rows if row.votes == last and row.strategy != "random" and row.difference_low > 0]
    return max(better, key=lambda row: row.difference).strategy if better else "random"


def show(rows: Sequence[Row], points: Sequence[Point]) -> None:
    """The table."""
    print(f"{'strategy':<13}{'votes':>6}{'win rate':>10}{'95 %':>16}{'vs random':>11}{'95 %':>18}{'savings':>22}")
    for row in rows:
        last = row.votes == max(other.votes for other in rows if other.strategy == row.strategy)
        saved = savings(points, row.strategy) if last and row.strategy != "random" else None
        told = "" if saved is None else f"{saved[0]:.2f}x ({saved[1]:.2f}–{saved[2]:.2f})"
        apart = "" if row.strategy == "random" else f"{row.difference:+.3f}"
        between = "" if row.strategy == "random" else f"{row.difference_low:+.3f} … {row.difference_high:+.3f}"
        print(
            f"{row.strategy:<13}{row.votes:>6}{row.win_rate:>10.3f}{f'{row.low:.3f}–{row.high:.3f}':>16}"
            f"{apart:>11}{between:>18}{told:>22}"
        )
    print(f"\nthe curve supports: {supported(rows)}")


def plot(rows: Sequence[Row], target: Path) -> None:
    """The curves with their intervals, into an SVG, PNG or PDF file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for strategy in dict.fromkeys(row.strategy for row in rows):
        mine = [row for row in rows if row.strategy == strategy]
        votes = [0, *(row.votes for row in mine)]
        (line,) = axes.plot(votes, [0.5, *(row.win_rate for row in mine)], marker="o", label=strategy)
        low, high = [0.5, *(row.low for row in mine)], [0.5, *(row.high for row in mine)]
        axes.fill_between(votes, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel("votes")
    axes.set_ylabel("win rate against version 1")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(target)
    plt.close(figure)


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(
        prog="python bench/loop.py", description="How many labels does choosing pairs save?"
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="separated by commas; random is added")
    parser.add_argument("--seeds", type=int, help="in place of the size's")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, help="in place of the size's")
    parser.add_argument("--votes", type=int, help="a round, in place of the size's")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--samples", type=int, default=3, help="answers per held-out prompt and version")
    parser.add_argument("--processes", type=int, default=1, help="loops that run at the same time")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file (.svg, .png, .pdf)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seeds, rounds, votes = SIZES[arguments.size]
    seeds, rounds = arguments.seeds or seeds, arguments.rounds or rounds
    votes = arguments.votes or votes
    names = list(dict.fromkeys(["random", *arguments.strategies.split(",")]))
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        parser.error(f"there is no strategy {', '.join(unknown)}: choose of {', '.join(STRATEGIES)}")
    began = time.monotonic()
    points: list[Point] = []
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        runs = {
            pool.submit(run, name, seed, rounds, votes, arguments.samples, arguments.learning_rate): (name, seed)
            for seed in range(arguments.first_seed, arguments.first_seed + seeds)
            for name in names
        }
        for future, (name, seed) in runs.items():
            points += future.result()
            told = f"{name} seed {seed}: {[point.win_rate for point in points[-rounds:]]}"
            print(f"{told}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    points.sort(key=lambda point: (names.index(point.strategy), point.seed, point.votes))
    rows = summarise(points)
    show(rows, points)
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.json:
        saved = {name: savings(points, name) for name in names if name != "random"}
        print(
            json.dumps(
                {
                    "rows": [asdict(row) for row in rows],
                    "points": [asdict(point) for point in points],
                    "savings": saved,
                    "supported": supported(rows),
                    "seconds": round(time.monotonic() - began, 1),
                }
            ).replace("NaN", "null")
        )


if __name__ == "__main__":
    main()
