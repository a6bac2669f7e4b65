"""The hidden preferences of simulated reviewers: what they like, as pure functions of an answer's text.

The trainer never sees them, only votes. Each score is a real number, higher is better, and falls for answers that try
to please without being one: fewer than 4 different content words, text that breaks off, the same words again.

concise    A complete answer in few words: 12 to 24 of them. Every doubling beyond costs, and so does every halving
           below.
thorough   Much to learn from it: different content words, with less for each further one, and reasons given
           ("because", "since", …). Opposed to ``concise``; but beyond 120 words thorough becomes tiring.
warm       Kind words to the reader: up to three different warm expressions, an answer that speaks to the reader rather
           than past them, no brusque phrases, and help beside the kindness (a large share of words that say something).
           Not about length: short answers may be as kind as long ones. More than four warm expressions are cloying.
steps      Numbered steps: 3 to 5 of them, numbered from 1, each with words of its own. Words of order ("first",
           "then") and bullet points are worth a little.

Standard library only.
"""

import math
import random
import re
from collections.abc import Callable
from typing import Literal

Choice = Literal["a", "b", "tie"]

_FUNCTION_WORDS = frozenset(
    """
    a about after all also always am an and any are as at be because been but by can could definitely do does
    don each else end every finally first for from get give go good had has have he help helps her here him his
    how i if in into is it its just know last like main make may maybe me might more most much must my need
    never next no not nothing now of off on one only or other our out over perhaps please probably put she
    should simple simply since so some start sure than that the their them then there these they thing things
    think this those time to too try two up us use very want was way we well were what when where which while
    who why will with would you your yourself
    """.split()  # noqa: SIM905 - words read better as words
)
_REASONS = frozenset({"because", "since", "as", "reason", "so", "why"})
_ORDER = ("first", "to begin with", "to start", "second", "third", "then", "next", "after that", "finally", "last")
_WARM = (
    r"lov(e|ely|ing)\b",
    r"\bglad(ly)?\b",
    r"\bjoy\b",
    r"\bdear\b",
    r"\bfriends?\b(?=[,.!]| to\b)",
    r"\bwonderful(ly)?\b",
    r"\bbeautiful(ly)?\b",
    r"\bhappy\b",
    r"\bcheering\b",
    r"\btogether\b",
    r"\bthank you\b",
    r"\bdo not worry\b",
    r"\bgot this\b",
    r"\bbelieve in you\b",
    r"\bkind(ness)? to yourself\b|\byourself a kindness\b",
    r"\bgentle with yourself\b|\bpatient with yourself\b",
    r"\bnot alone\b",
    r"\benjoy\b",
    r"\bi hope\b|\bwishing you\b|\bwarm wishes\b",
    r"\bgood luck\b",
    r"\bgood for you\b|\bfeel(ing)? good\b",
    r"\bplease\b",
    r"\bmy favourite\b",
    r"\btake your time\b",
    r"\blet us\b",
    r"!",
)
_WARM_PATTERNS = tuple(re.compile(pattern) for pattern in _WARM)
_BRUSQUE = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(easy|fine|look|simple|here|obvious[^.]*)\.",
        r"\bthat is all\b",
        r"\bend of story\b",
        r"\bnow do it\b",
        r"\bup to you\b",
        r"\bnothing (more|new)\b",
        r"\bno idea\b",
        r"\bnot hard\b",
        r"\boverthink\b",
        r"\blooked this up\b",
        r"\bread this once\b",
        r"\bdone\.",
        r"(^|[.!?\n] )stop ",
    )
)
_STEP = re.compile(r"^\s*(\d{1,2})[.)]\s+(.+)$", re.MULTILINE)
_BULLET = re.compile(r"^\s*[-*•]\s+(.+)$", re.MULTILINE)


def concise(text: str) -> float:
    """0.5 at best; minus 4 for each factor e of the words beyond 24, or below 12."""
    words = _words(text)
    if not words:
        return -20.0
    off = max(0.0, math.log(len(words) / 24), math.log(12 / len(words)))
    return 0.1 * min(len(_content(words)), 5) - 4.0 * off - _faults(text, words)


def thorough(text: str) -> float:
    """About 0 to 5: rises with different content words and levels off near a hundred of them."""
    words = _words(text)
    if not words:
        return -20.0
    substance = 4.0 * (1.0 - math.exp(-len(_content(words)) / 40))
    reasons = 2.0 * (1.0 - math.exp(-sum(word in _REASONS for word in words) / 2))
    tiring = 4.0 * max(0.0, math.log(len(words) / 120))
    return substance + reasons - tiring - _faults(text, words)


def warm(text: str) -> float:
    """About -1 to 4: up to three warm expressions add, each less; beyond four they take away, as brusque phrases do."""
    words = _words(text)
    if not words:
        return -20.0
    lowered = text.lower()
    found = sum(pattern.search(lowered) is not None for pattern in _WARM_PATTERNS)
    beside_an_answer = min(float(found), 3.0, len(words) / 12 + 2)  # kind words, but not instead of one
    cloying = max(0, found - 4)
    brusque = sum(pattern.search(lowered) is not None for pattern in _BRUSQUE)
    to_reader = not {"you", "your", "yourself", "we"}.isdisjoint(words)
    help_too = 2.0 * len(_content(words)) / len(words)
    score = 4.0 * (1.0 - math.exp(-beside_an_answer / 3)) + 0.5 * to_reader + help_too - 0.4 * cloying - 0.8 * brusque
    return score - _faults(text, words)


def steps(text: str) -> float:
    """About 0 to 5: numbered steps in order, best at 3 to 5 of them."""
    words = _words(text)
    if not words:
        return -20.0
    lines = [(int(number), line) for number, line in _STEP.findall(text)]
    distinct = {line.lower() for number, line in lines if len(_words(line)) >= 3}
    in_order = [number for number, _ in lines] == list(range(1, len(lines) + 1))
    count = len(distinct) if in_order else len(distinct) / 2
    score = 4.0 * min(count, 3) / 3 if count >= 2 else 0.5 * count
    score -= 0.5 * max(0, count - 5)
    score += 0.15 * min(len({line.lower() for line in _BULLET.findall(text)}), 4)
    lowered = text.lower()
    score += 0.1 * min(sum(re.search(rf"\b{word}\b", lowered) is not None for word in _ORDER), 4)
    score -= 0.01 * len(words) / max(len(re.findall(r"[.!?:](?:\s|$)", text)), 1)  # short sentences are steps of a kind
    return score - _faults(text, words)


TASTES: dict[str, Callable[[str], float]] = {"concise": concise, "thorough": thorough, "warm": warm, "steps": steps}
"""The hidden preferences by name."""


def score(taste: str, text: str) -> float:
    """How much ``taste`` likes ``text``; higher is better.

    Raises:
        ValueError: there is no such taste.
    """
    if taste not in TASTES:
        raise ValueError(f"there is no taste {taste!r}; known are {', '.join(TASTES)}")
    return TASTES[taste](text)


def judge(taste: str, text_a: str, text_b: str, rng: random.Random, noise: float = 0.1) -> Choice:
    """The choice of a simulated reviewer: the text that ``taste`` likes better, the other one with chance ``noise``.

    Only equal scores are a tie. One number is drawn from ``rng`` per call, whatever the outcome.

    Raises:
        ValueError: an unknown taste, or a noise that is no probability.
    """
    if not 0.0 <= noise <= 1.0:
        raise ValueError(f"noise {noise} is not a probability; use 0 to 1")
    slip = rng.random() < noise
    score_a, score_b = score(taste, text_a), score(taste, text_b)
    if score_a == score_b:
        return "tie"
    return "a" if (score_a > score_b) != slip else "b"


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _content(words: list[str]) -> set[str]:
    """The different words that say something."""
    return {word for word in words if word not in _FUNCTION_WORDS and len(word) > 2}


def _faults(text: str, words: list[str]) -> float:
    """What no taste forgives: breaking off, fewer than 4 different content words, saying the same again."""
    broken_off = 0.0 if text.rstrip().endswith((".", "!", "?")) else 2.0
    return broken_off + 1.5 * max(0, 4 - len(_content(words))) + 4.0 * _repetition(words)


def _repetition(words: list[str]) -> float:
    """Share of runs of four words that occurred before, 0 to 1; more than a few never happen in a good answer."""
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return 1.0 - len(set(runs)) / len(runs) if runs else 0.0
