"""Look at a version of the demo: ``python -m worker.demo.look [--model DIR] [--read 50] [--json]``.

Samples at temperature 1 with nothing cut off, prints some answers to read, and measures how they end, how long they
are, how often two answers to one prompt differ, and how often each manner shows.
"""

import argparse
import json
import random
import re
from pathlib import Path

import torch

from worker.demo.prompts import read
from worker.demo.sampling import Answer, sample
from worker.demo.tastes import TASTES
from worker.demo.train import MODEL
from worker.models import load_model


def figures(answers: list[list[Answer]]) -> dict[str, float]:
    """What the answers have in common: shares from 0 to 1, words per answer.

    Args:
        answers: per prompt, at least two.
    """
    texts = [answer.text for group in answers for answer in group]
    words = sorted(len(text.split()) for text in texts)
    pairs = [(group[i].text, group[i + 1].text) for group in answers for i in range(0, len(group) - 1, 2)]
    shares = {
        "ended": sum(answer.ended for group in answers for answer in group) / len(texts),
        "differ": sum(a != b for a, b in pairs) / len(pairs),
        "steps": sum(bool(re.search(r"^1\. ", text, re.MULTILINE)) for text in texts) / len(texts),
        "bullets": sum(bool(re.search(r"^- ", text, re.MULTILINE)) for text in texts) / len(texts),
        "warm": sum(TASTES["warm"](text) > 2.0 for text in texts) / len(texts),  # two warm expressions or more
        "up_to_20_words": sum(count <= 20 for count in words) / len(words),
        "over_80_words": sum(count > 80 for count in words) / len(words),
        "mean_words": sum(words) / len(words),
        "median_words": words[len(words) // 2],
    }
    return {name: round(share, 4) for name, share in shares.items()}


def main() -> None:
    """Sample, print, measure."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.look", description="Read and measure the demo model.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--read", type=int, default=50, help="answers to print")
    parser.add_argument("--samples", type=int, default=4, help="answers per prompt for the figures (even)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as one last line of JSON")
    arguments = parser.parse_args()
    model, tokenizer, _ = load_model(arguments.model, torch.float32, "cpu")
    prompts = read()
    generator = torch.Generator().manual_seed(arguments.seed)
    answers = sample(model, tokenizer, prompts, max(2, arguments.samples), generator, temperature=arguments.temperature)
    for index in random.Random(arguments.seed).sample(range(len(prompts)), min(arguments.read, len(prompts))):
        print(f"> {prompts[index][-1]['content']}\n{answers[index][0].text}\n")
    measured = figures(answers)
    if arguments.json:
        print(json.dumps(measured))
        return
    for name, value in measured.items():
        print(f"{name:>15}  {value:g}")


if __name__ == "__main__":
    main()
