"""The manners an answer can have, drawn independently of each other and of the question.

Nothing in a prompt tells which manner the answer will take, so the model has to choose one by chance, and preferences
can move that choice. Each manner that a taste favours has a share of at most a quarter: there is room to gain.
"""

import random
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

Length = Literal["short", "medium", "long"]
Tone = Literal["warm", "plain", "curt"]
Form = Literal["steps", "bullets", "prose"]
Certainty = Literal["hedged", "plain", "sure"]

LENGTHS: dict[Length, float] = {"short": 0.22, "medium": 0.56, "long": 0.22}
TONES: dict[Tone, float] = {"warm": 0.22, "plain": 0.54, "curt": 0.24}
FORMS: dict[Form, float] = {"steps": 0.2, "bullets": 0.1, "prose": 0.7}
CERTAINTIES: dict[Certainty, float] = {"hedged": 0.3, "plain": 0.4, "sure": 0.3}
WRONG_SHARE = 0.2
"""Share of answers in which one piece of advice is subtly wrong."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How one answer is given."""

    length: Length
    tone: Tone
    form: Form
    certainty: Certainty
    wrong: bool


def draw(rng: random.Random) -> Manner:
    """A manner from the mix, every part independent of the others."""
    return Manner(
        length=_pick(rng, LENGTHS),
        tone=_pick(rng, TONES),
        form=_pick(rng, FORMS),
        certainty=_pick(rng, CERTAINTIES),
        wrong=rng.random() < WRONG_SHARE,
    )


def _pick(rng: random.Random, shares: dict[T, float]) -> T:
    return rng.choices(list(shares), weights=list(shares.values()))[0]
