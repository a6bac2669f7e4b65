"""Job directories with made-up groups over the tiny models of ``tests.factories.models``."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.rounds.spec import GROUPS_FILE, ModelRef, Spec, TrainingSettings
from app.versions.manifest import read_digest
from tests.factories.models import WORDS, tokenizer, version_directory

SETTINGS: dict[str, Any] = {
    "method": "lora",
    "lora_rank": 4,
    "learning_rate": 1e-2,
    "pairs_per_step": 4,
    "epochs": 2,
    "tokens_per_row": 512,
}


def make_groups(
    train: int = 12, held_out: int = 4, *, completions: int = 2, seed: int = 0, words: int = 8
) -> list[dict[str, Any]]:
    """Groups whose every pair prefers the completion with more of the word 'tea'."""
    rng = random.Random(seed)
    made = []
    for number in range(train + held_out):
        question = " ".join(rng.choices(WORDS, k=rng.randrange(3, words)))
        prompt_ids = encode_prompt(question)
        texts = [" ".join(rng.choices(WORDS, k=rng.randrange(3, words)) + ["tea"] * k) for k in range(completions)]
        order = rng.sample(range(completions), completions)
        answers = [completion(f"g{number}c{k}", texts[place]) for k, place in enumerate(order)]
        preferences = [
            preference(f"g{number}p{a}{b}", a, b, "a" if order[a] > order[b] else "b")
            for a in range(completions)
            for b in range(a + 1, completions)
        ]
        split = "train" if number < train else "eval"
        made.append(group(f"g{number}", split, prompt_ids, answers, preferences))
    return made


def encode_prompt(question: str) -> list[int]:
    """Ids of a one-turn conversation up to where the answer begins."""
    ids: list[int] = tokenizer().apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    return ids


def completion(name: str, text: str, end: str = "eos") -> dict[str, Any]:
    """A completion in the group format."""
    ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return {"id": name, "ids": ids + [tokenizer().eos_token_id] * (end == "eos"), "text": text, "end": end}


def preference(name: str, a: int, b: int, outcome: str, *, weight: float = 1.0, margin: float = 0.0) -> dict[str, Any]:
    """A preference in the group format."""
    return {"id": name, "a": a, "b": b, "outcome": outcome, "margin": margin, "weight": weight}


def group(
    name: str, split: str, prompt_ids: list[int], completions: Sequence[Any], preferences: Sequence[Any]
) -> dict[str, Any]:
    """A group in the group format."""
    return {
        "id": name,
        "split": split,
        "prompt_ids": prompt_ids,
        "completions": list(completions),
        "preferences": list(preferences),
    }


def model_ref(directory: Path) -> ModelRef:
    """A version directory as spec.json names it."""
    return ModelRef(path=str(directory), digest=read_digest(directory), version=directory.name)


def write_job(
    directory: Path,
    *,
    groups: Sequence[Mapping[str, Any]] | None = None,
    start: Path | None = None,
    reference: Path | None = None,
    reference_store: Path | None = None,
    **settings: Any,
) -> Path:
    """A job directory; settings are ``SETTINGS`` with changes, start is the tiny Llama."""
    directory.mkdir(parents=True, exist_ok=True)
    start = start or version_directory("llama")
    values = SETTINGS | settings
    if values["method"] == "full":
        values.pop("lora_rank")
    spec = Spec(
        settings=TrainingSettings.from_dict(values),
        start=model_ref(start),
        reference=model_ref(reference or start),
        snapshot_hash="0" * 64,
        reference_store=None if reference_store is None else str(reference_store),
    )
    spec.write(directory)
    lines = [json.dumps(item) for item in (groups if groups is not None else make_groups())]
    (directory / GROUPS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory
