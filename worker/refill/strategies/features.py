"""Numbers that a simple reward model can read off an answer and a prompt, without a model of language.

Words are hashed into a fixed number of places with a sign each (Weinberger et al. 2009), so that no vocabulary has to
be kept; CRC-32 gives the same place on every machine and in every process.
"""

import itertools
import math
import re
import zlib

import numpy as np
from numpy.typing import NDArray

from worker.refill.answers import Answer

WORD_PLACES = 96
SHAPE_PLACES = 6
ANSWER_PLACES = SHAPE_PLACES + WORD_PLACES
PROMPT_PLACES = 512

Vector = NDArray[np.float64]

_WORD = re.compile(r"\w+")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)


def answer_features(answer: Answer) -> Vector:
    """(ANSWER_PLACES,): implicit reward, length, how it ended, its shape, and hashed words; each of size about 1."""
    words = _WORD.findall(answer.text.casefold())
    shape = np.array(
        [
            math.tanh((answer.reward or 0.0) / 2.0),
            math.log1p(len(words)) / 3.0,
            1.0 if answer.end == "eos" else 0.0,
            min(len(_ITEM.findall(answer.text)), 8) / 4.0,
            min(answer.text.count("!") + answer.text.count("?"), 6) / 3.0,
            len(set(words)) / len(words) if words else 0.0,
        ]
    )
    return np.concatenate([shape, 1.5 * hashed(words, WORD_PLACES)])


def prompt_features(text: str) -> Vector:
    """(PROMPT_PLACES,): hashed words and word pairs, of length 1 (0 for a text without words)."""
    words = _WORD.findall(text.casefold())
    return hashed([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))], PROMPT_PLACES)


def hashed(words: list[str], places: int) -> Vector:
    """(places,): signed counts, damped by a square root, scaled to length 1."""
    counts = np.zeros(places)
    for word in words:
        code = zlib.crc32(word.encode("utf-8", "replace"))
        counts[(code >> 1) % places] += 1.0 if code & 1 else -1.0
    damped: Vector = np.sign(counts) * np.sqrt(np.abs(counts))
    length = float(np.linalg.norm(damped))
    return damped / length if length else damped
