"""What is wrong with an answer, alone or beside another: empty, looping, or too alike for anybody to prefer one.

Pairs that are nearly the same teach a model to lower what both have in common (arXiv:2402.13228, section 3), and
people can only guess at them.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from rapidfuzz.distance import Indel

Fault = Literal["empty", "unreadable", "looping", "identical", "near_identical"]


class Answer(Protocol):
    """A completion, stored or not."""

    @property
    def text(self) -> str:
        """What is read."""

    @property
    def ids(self) -> list[int]:
        """Its tokens, the end's included."""


_LOOP_TURNS = 4
_LOOP_TOKENS = 24
_LONGEST_LOOP = 256
_REPEATED_TOKENS = 64
_FEWEST_DISTINCT = 0.35
_GRAM = 4


def fault_of(answer: Answer) -> Fault | None:
    """Why nobody should be shown ``answer``, whatever it is compared with; None when nothing is wrong."""
    try:
        answer.text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no database and no browser takes it
        return "unreadable"
    if "\x00" in answer.text:
        return "unreadable"
    if not answer.text.strip() or not answer.ids:
        return "empty"
    return "looping" if loops(answer.ids) else None


def loops(ids: Sequence[int]) -> bool:
    """Whether tokens go round: the end says one thing four times and more (24 tokens and more of it), or, in a text of
    at least 64 tokens, two in three runs of four tokens have been there before.

    Tokens rather than words, so that it holds for scripts without spaces. A last token, which may be the end's, is
    left out. Takes time in proportion to the tokens and, for an end that goes round, its period.
    """
    body = ids[:-1]
    if len(body) >= _REPEATED_TOKENS:
        grams = [tuple(body[at : at + _GRAM]) for at in range(len(body) - _GRAM + 1)]
        if len(set(grams)) < _FEWEST_DISTINCT * len(grams):
            return True
    for period in range(1, min(len(body) // _LOOP_TURNS, _LONGEST_LOOP) + 1):
        needed = max(_LOOP_TURNS * period, _LOOP_TOKENS)
        if needed <= len(body) and _goes_round(body, period, needed):
            return True
    return False


def _goes_round(ids: Sequence[int], period: int, needed: int) -> bool:
    """Whether the last ``needed`` ids repeat with ``period``."""
    return all(ids[at] == ids[at - period] for at in range(len(ids) - 1, len(ids) - 1 - needed + period, -1))


def alike(a: Answer, b: Answer, similarity: float) -> Fault | None:
    """'identical' or 'near_identical' when two answers are too much the same to be compared.

    Args:
        similarity: share of words, in order, from which they are: 2 x (longest common subsequence) / (all words).
            1 finds only answers that read the same, spaces and capitals aside.
    """
    mine, theirs = a.text.casefold().split(), b.text.casefold().split()
    if mine == theirs or a.ids == b.ids:
        return "identical"
    if similarity < 1 and Indel.normalized_similarity(mine, theirs, score_cutoff=similarity) >= similarity:
        return "near_identical"
    return None


def too_alike(answer: Answer, others: Iterable[Answer], similarity: float) -> Fault | None:
    """The first reason for which ``answer`` cannot stand beside ``others``; None when there is none."""
    return next((fault for other in others if (fault := alike(answer, other, similarity))), None)
