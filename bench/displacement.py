"""Likelihood displacement: on pairs that differ in one token DPO makes the chosen answers less likely, DPOP does not.

The demo model's greedy answers to prompts of the demo project are the chosen ones; it is first fitted to them, as a
model is before preference training. The rejected answer is the same with one token, in its first half, replaced at
random. Both losses train the same weights on the same pairs, in the same order, with the same β and learning rate,
through the trainer itself; every few steps the log-probability of the chosen answers of held-out prompts is measured
against the fitted model. Source of the claim: sections 3 and 4, arXiv:2402.13228.

    python bench/displacement.py [--pairs 48] [--epochs 6] [--plot displacement.png] [--json]
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as worker.trainer.__main__ does

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.rounds.spec import GROUPS_FILE, ModelRef, Spec, TrainingSettings
from app.versions.manifest import read_digest, write_manifest
from worker.models import load_model
from worker.trainer.job import run
from worker.trainer.lifetime import Stop

SHORTEST, LONGEST = 8, 80
"""Tokens of a chosen answer."""
FIT_EPOCHS, FIT_BATCH = 6, 8
DEMO = Path(__file__).resolve().parents[1] / "worker" / "demo"
LOSSES = {
    "DPO": {"loss": "sigmoid", "loss_settings": {"beta": 0.3}},
    "DPOP": {"loss": "dpop", "loss_settings": {"beta": 0.3, "dpop_lambda": 50.0}},
}


SETTINGS = {"method": "full", "learning_rate": 1e-4, "warmup_ratio": 0.1, "pairs_per_step": 8, "dtype": "float32"}


def make_groups(model: Any, tokenizer: Any, pairs: int, held_out: int, rng: random.Random) -> list[dict[str, Any]]:
    """Groups of two answers that differ in one token."""
    lines = (DEMO / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["messages"] for line in lines]
    rng.shuffle(prompts)
    words = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    groups: list[dict[str, Any]] = []
    for messages in prompts:
        if len(groups) == pairs + held_out:
            return groups
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        with torch.no_grad():
            rows = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=LONGEST, do_sample=False
            )
        chosen = rows[0, len(ids) :].tolist()
        if len(chosen) < SHORTEST or chosen[-1] != tokenizer.eos_token_id:
            continue
        rejected, place = [*chosen], rng.randrange(1, len(chosen) // 2)
        rejected[place] = rng.choice([word for word in words if word != chosen[place]])
        groups.append(_group(len(groups), "train" if len(groups) < pairs else "eval", ids, chosen, rejected))
    raise SystemExit(f"only {len(groups)} prompts have an answer of that length; ask for fewer --pairs")


def fit(model: Any, groups: list[dict[str, Any]], epochs: int, rng: random.Random, target: Path) -> float:
    """Fit the model to the chosen answers and write it as a version; returns their mean log-probability, nats."""
    optimizer = torch.optim.AdamW(model.requires_grad_(True).parameters(), lr=1e-3)
    total = 0.0
    for _ in range(epochs):
        order, total = rng.sample(groups, len(groups)), 0.0
        for first in range(0, len(order), FIT_BATCH):
            optimizer.zero_grad()
            for group in order[first : first + FIT_BATCH]:
                prompt, answer = group["prompt_ids"], group["completions"][0]["ids"]
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
                logps = logits.log_softmax(-1)[range(len(answer)), answer]
                (-logps.mean() / FIT_BATCH).backward()
                total += float(logps.detach().sum())
            optimizer.step()
    shutil.copytree(DEMO / "model", target, ignore=shutil.ignore_patterns("manifest.json"))
    model.save_pretrained(target)
    shutil.copyfile(DEMO / "model" / "generation_config.json", target / "generation_config.json")
    write_manifest(target)
    return total / len(groups)


def _group(number: int, split: str, prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, Any]:
    answers = {"w": chosen, "l": rejected}
    return {
        "id": str(number),
        "split": split,
        "prompt_ids": prompt,
        "completions": [{"id": name, "ids": ids, "text": None, "end": "eos"} for name, ids in answers.items()],
        "preferences": [{"id": "p", "a": 0, "b": 1, "outcome": "a"}],
    }


def train(folder: Path, model: Path, groups: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The held-out figures of a run, evaluation by evaluation."""
    folder.mkdir()
    start = ModelRef(str(model), read_digest(model), "fitted")
    Spec(TrainingSettings.from_dict(settings), start, start).write(folder)
    (folder / GROUPS_FILE).write_text("".join(json.dumps(group) + "\n" for group in groups), encoding="utf-8")
    figures: list[dict[str, Any]] = []
    run(folder, "bench", Stop(), lambda event: figures.append(event) if event["kind"] == "eval" else None)
    return figures


def plot(runs: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Log-ratios over the steps: a panel for chosen and one for rejected answers, each of a scale of its own."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sides, colours = ("chosen", "rejected"), ("#b3261e", "#0b6e5b")
    figure, panels = plt.subplots(1, len(sides), figsize=(9, 3.6), layout="constrained")
    for panel, side in zip(panels, sides, strict=True):
        for (name, figures), colour in zip(runs.items(), colours, strict=True):
            ratios = [line[f"{side}_log_ratio"] for line in figures]
            panel.plot([line["step"] for line in figures], ratios, label=name, color=colour)
        panel.axhline(0, color="#888888", linewidth=0.8, linestyle="--")
        panel.set(title=f"{side} answers", xlabel="optimiser step")
        panel.legend(frameon=False)
    panels[0].set_ylabel("log-ratio to the reference, nats")
    figure.suptitle("Held-out answers that differ in one token")
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train with both losses and say what became of the chosen answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=SETTINGS["learning_rate"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="write the curves to this PNG, SVG or PDF")
    parser.add_argument("--json", action="store_true", help="one line for machines, last")
    arguments = parser.parse_args()
    settings = SETTINGS | {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate, "seed": arguments.seed}
    settings |= {"eval_every_steps": 4}
    runs: dict[str, list[dict[str, Any]]] = {}
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer, _ = load_model(DEMO / "model", torch.float32, "cpu")
        groups = make_groups(model, tokenizer, arguments.pairs, arguments.held_out, rng)
        fitted = Path(folder) / "fitted"
        likely = fit(model, groups, FIT_EPOCHS, rng, fitted)
        print(f"fitted: the chosen answers have a log-probability of {likely:.2f} nats in the mean")
        for name, loss in LOSSES.items():
            runs[name] = train(Path(folder) / name, fitted, groups, settings | loss)
    print(f"{arguments.pairs} pairs, {arguments.held_out} held out, one token apart; nats against the reference")
    print(f"{'':<6}{'step':>6}{'chosen':>10}{'rejected':>10}{'margin':>10}{'accuracy':>10}")
    for name, figures in runs.items():
        for line in (figures[len(figures) // 2], figures[-1]):
            columns = ("chosen_log_ratio", "rejected_log_ratio", "margin", "accuracy")
            print(f"{name:<6}{line['step']:>6}" + "".join(f"{line[column]:>10.3f}" for column in columns))
    ends = {name: figures[-1]["chosen_log_ratio"] for name, figures in runs.items()}
    verdict = ends["DPO"] < 0 <= ends["DPOP"]
    print(f"DPO lowers the chosen answers and DPOP does not: {'yes' if verdict else 'no'}")
    if arguments.plot is not None:
        plot(runs, arguments.plot)
        print(f"plot: {arguments.plot}")
    if arguments.json:
        print(json.dumps({"displaced": verdict, "chosen_log_ratio": ends, "runs": runs}))


if __name__ == "__main__":
    main()
