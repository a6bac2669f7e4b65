"""Answers and options that tests of the refill make up."""

from uuid import UUID

from worker.refill.answers import Answer
from worker.refill.strategies import Option

NOBODY = UUID(int=0)


def answer(text: str = "yes", *, reward: float | None = None, ids: list[int] | None = None) -> Answer:
    """An answer of some version; its ids stand for its words unless they are given."""
    words = [sum(map(ord, word)) + 10 for word in text.split()]
    scores = {} if reward is None else {"reward": reward}
    return Answer(NOBODY, text, [1], [*words, 2] if ids is None else ids, "eos", {}, scores)


def pair(number: int, a: Answer, b: Answer, prompt: str = "") -> Option:
    """Two answers to prompt ``number``."""
    return Option(UUID(int=number), prompt or f"prompt {number}", (a, b))
