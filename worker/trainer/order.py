"""Which examples make up which optimiser step, and how large that step is. Functions of the seed and nothing else."""

import math
import random
from collections.abc import Sequence

from app.rounds.spec import TrainingSettings
from worker.trainer.examples import Example


def steps(examples: Sequence[Example], settings: TrainingSettings) -> list[list[int]]:
    """Indices of the examples of every optimiser step, over all epochs.

    Every epoch is shuffled anew from (seed, epoch). All judgements of an example, and of the pieces that continue it,
    are in one step, so that its prompt is computed once; a step is closed when the next would take it beyond
    ``pairs_per_step``. How examples are cut into pieces changes no step.
    """
    whole = _whole(examples)
    sizes = [sum(examples[index].size for index in pieces) for pieces in whole]
    made: list[list[int]] = []
    for epoch in range(settings.epochs):
        order = list(range(len(whole)))
        random.Random(f"{settings.seed}:{epoch}").shuffle(order)  # noqa: S311 - an order of examples, not a secret
        step: list[int] = []
        judgements = 0
        for number in order:
            if step and judgements + sizes[number] > settings.pairs_per_step:
                made.append(step)
                step, judgements = [], 0
            step += whole[number]
            judgements += sizes[number]
        if step:
            made.append(step)
        if settings.max_steps is not None and len(made) >= settings.max_steps:
            return made[: settings.max_steps]
    return made


def _whole(examples: Sequence[Example]) -> list[list[int]]:
    """Indices of the examples, each together with the pieces that continue it."""
    whole: list[list[int]] = []
    for index, example in enumerate(examples):
        if example.continued and whole:
            whole[-1].append(index)
        else:
            whole.append([index])
    return whole


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """The learning rate of optimiser step ``step`` (from 0) of ``total``: linear warm-up, then the schedule.

    Linear and cosine reach 0, or ``lr_min_ratio`` of the peak, one step after the last.
    """
    warmup = math.ceil(settings.warmup_ratio * total) if settings.warmup_steps is None else settings.warmup_steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup) / max(1, total - warmup)
    left = 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (settings.lr_min_ratio + (1 - settings.lr_min_ratio) * left)
