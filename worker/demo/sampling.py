"""Sampling in this process, for measuring and for benches; the product samples through the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.demo.corpus import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer."""

    prompt_ids: list[int]
    ids: list[int]
    """Completion tokens, the end marker included where it ended by itself."""
    text: str
    ended: bool
    """By its own end marker, not by the limit."""


@torch.no_grad()
def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[Message]],
    n: int,
    generator: torch.Generator,
    *,
    max_tokens: int = 256,
    temperature: float = 1.0,
    rows: int = 96,
) -> list[list[Answer]]:
    """``n`` answers to each prompt, from the whole distribution (no top_p, no top_k).

    Prompts of like length run together, padded on the left; finished rows leave the batch.
    """
    encoded = [
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) for messages in prompts
    ]
    jobs = sorted((index for index in range(len(prompts)) for _ in range(n)), key=lambda index: len(encoded[index]))
    answers: list[list[Answer]] = [[] for _ in prompts]
    for start in range(0, len(jobs), rows):
        chunk = jobs[start : start + rows]
        sampled = _sample_ids(
            model, [encoded[index] for index in chunk], tokenizer, generator, max_tokens=max_tokens, heat=temperature
        )
        for index, ids in zip(chunk, sampled, strict=True):
            ended = ids[-1] == tokenizer.eos_token_id
            text = tokenizer.decode(ids[:-1] if ended else ids)
            answers[index].append(Answer(encoded[index], ids, text, ended))
    return answers


def _sample_ids(
    model: Any, prompts: list[list[int]], tokenizer: Any, generator: torch.Generator, *, max_tokens: int, heat: float
) -> list[list[int]]:
    """Completion ids for each row of ``prompts``."""
    from transformers.cache_utils import DynamicCache

    length = max(len(ids) for ids in prompts)
    ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    sampled: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    for _ in range(max_tokens):
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        drawn = torch.multinomial((logits.float() / heat).softmax(-1), 1, generator=generator)
        for row, token in zip(going, drawn[:, 0].tolist(), strict=True):
            sampled[row].append(token)
        stay = (drawn[:, 0] != tokenizer.eos_token_id).nonzero()[:, 0]
        if len(stay) == 0:
            break
        if len(stay) < len(going):
            going = [going[row] for row in stay.tolist()]
            cache.batch_select_indices(stay)
        ids, mask, positions = drawn[stay], mask[stay], positions[stay, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(stay), 1)], dim=1)
    return sampled
