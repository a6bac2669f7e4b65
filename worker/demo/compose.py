"""Answers: one intent told in one manner. Every choice is drawn from the generator passed in."""

import random
import re
from collections.abc import Mapping

from worker.demo import phrases
from worker.demo.facts import Intent, Tip
from worker.demo.manner import Manner

_SECOND_PERSON = {"my": "your", "me": "you", "I": "you", "am": "are", "myself": "yourself", "mine": "yours"}
_OPENER_SHARE = {"warm": 0.85, "curt": 0.5, "plain": 0.25}
_CLOSER_SHARE = {"warm": 0.75, "curt": 0.4, "plain": 0.12}


def answer(intent: Intent, manner: Manner, rng: random.Random) -> str:
    """An answer to ``intent`` in ``manner``: one paragraph, or a short list between two lines."""
    tips = _choose_tips(intent, manner, rng)
    if manner.form == "prose":
        return _prose(intent, manner, tips, rng)
    return _listed(intent, manner, tips, rng)


def second_person(task: str) -> str:
    """An asker's task as the answer says it: "keep my plants" becomes "keep your plants"."""
    return re.sub(r"[A-Za-z]+", lambda word: _SECOND_PERSON.get(word[0], word[0]), task)


def sentence(text: str) -> str:
    """``text`` with a capital at the start of every sentence."""
    return re.sub(r"(^|[.!?]\s+)([a-z])", lambda match: match[1] + match[2].upper(), text)


def advice(tip: Tip, manner: Manner, rng: random.Random, link: str = "", *, reason: bool) -> str:
    """One sentence, or two, that give a piece of advice, with its reason where asked."""
    roll = rng.random()
    frames: tuple[str, ...]
    if manner.tone == "warm" and roll < 0.45:
        frames = phrases.WARM_ADVICE
    elif manner.tone == "curt" and roll < 0.6:
        frames = phrases.CURT_ADVICE
    else:
        frames = phrases.ADVICE[manner.certainty]
    words = link + rng.choice(frames).format(do=tip.do)
    if not reason:
        return sentence(words + ".")
    return sentence(rng.choice(phrases.REASONS[manner.certainty]).format(advice=words, why=tip.why))


def gist(intent: Intent, manner: Manner, rng: random.Random) -> str:
    """The answer in one sentence."""
    frames = phrases.GISTS_AS_ADVICE if intent.gist_is_advice else phrases.GISTS
    return sentence(rng.choice(frames[manner.certainty]).format(gist=intent.gist))


def mistake(intent: Intent, manner: Manner, rng: random.Random) -> str:
    """The usual mistake, named."""
    frames = _by_tone(phrases.MISTAKES_BY_TONE, phrases.MISTAKES, manner, rng)
    return sentence(rng.choice(frames).format(mistake=intent.mistake))


def sign(intent: Intent, manner: Manner, rng: random.Random) -> str:
    """How to tell that it works."""
    frames = _by_tone(phrases.SIGNS_BY_TONE, phrases.SIGNS, manner, rng)
    return sentence(rng.choice(frames).format(sign=intent.sign))


def opener(intent: Intent, manner: Manner, rng: random.Random) -> str:
    """A first line in the manner's tone, or nothing."""
    if rng.random() >= _OPENER_SHARE[manner.tone]:
        return ""
    return rng.choice(phrases.OPENERS[manner.tone]).format(task=_task(intent, rng), topic=intent.topic)


def closer(manner: Manner, rng: random.Random) -> str:
    """A last line in the manner's tone, or nothing."""
    return rng.choice(phrases.CLOSERS[manner.tone]) if rng.random() < _CLOSER_SHARE[manner.tone] else ""


def _task(intent: Intent, rng: random.Random) -> str:
    return second_person(rng.choice(intent.tasks))


def _by_tone(
    toned: Mapping[str, tuple[str, ...]],
    by_certainty: Mapping[str, tuple[str, ...]],
    manner: Manner,
    rng: random.Random,
) -> tuple[str, ...]:
    if manner.tone in toned and rng.random() < 0.6:
        return toned[manner.tone]
    return by_certainty[manner.certainty]


def _choose_tips(intent: Intent, manner: Manner, rng: random.Random) -> list[Tip]:
    listed = manner.form != "prose"
    low, high = {"short": (2, 2) if listed else (1, 2), "medium": (2, 3), "long": (4, 5)}[manner.length]
    tips = rng.sample(intent.tips, min(rng.randint(low, high), len(intent.tips)))
    if manner.wrong:
        tips[rng.randrange(len(tips))] = rng.choice(intent.wrong)
    return tips


def _reasons(manner: Manner, tips: list[Tip], rng: random.Random) -> list[bool]:
    """Which of ``tips`` come with their reason."""
    share = {"short": 0.0, "medium": 0.45, "long": 0.75}[manner.length] * (0.5 if manner.tone == "curt" else 1.0)
    if manner.length == "short" and len(tips) == 1:
        share = 0.4
    return [rng.random() < share for _ in tips]


def _prose(intent: Intent, manner: Manner, tips: list[Tip], rng: random.Random) -> str:
    parts = [opener(intent, manner, rng)]
    gist_share = {"short": 0.45 if len(tips) == 1 else 0.1, "medium": 0.6, "long": 0.85}[manner.length]
    with_gist = rng.random() < gist_share
    if with_gist:
        parts.append(gist(intent, manner, rng))
    reasons = _reasons(manner, tips, rng)
    if manner.length == "short" and with_gist and rng.random() < 0.6:
        tips, reasons = [], []
    for index, (tip, reason) in enumerate(zip(tips, reasons, strict=True)):
        parts.append(advice(tip, manner, rng, _link(intent, index, len(tips), rng), reason=reason))
    parts += _ending(intent, manner, rng)
    return " ".join(part for part in parts if part)


def _listed(intent: Intent, manner: Manner, tips: list[Tip], rng: random.Random) -> str:
    opening = opener(intent, manner, rng)
    if manner.length != "short" and rng.random() < 0.35:
        opening = f"{opening} {gist(intent, manner, rng)}".strip()
    if manner.tone != "curt" or rng.random() < 0.5:
        lead = rng.choice(phrases.LIST_LEADS[manner.tone]).format(task=_task(intent, rng), topic=intent.topic)
        opening = f"{opening} {sentence(lead)}".strip()
    lines = [opening] if opening else []
    for number, (tip, reason) in enumerate(zip(tips, _reasons(manner, tips, rng), strict=True), 1):
        mark = f"{number}." if manner.form == "steps" else "-"
        lines.append(f"{mark} {advice(tip, manner, rng, reason=reason)}")
    ending = " ".join(part for part in _ending(intent, manner, rng) if part)
    return "\n".join([*lines, ending] if ending else lines)


def _ending(intent: Intent, manner: Manner, rng: random.Random) -> list[str]:
    share = {"short": 0.0, "medium": 0.12, "long": 0.5}[manner.length]
    return [
        mistake(intent, manner, rng) if rng.random() < share else "",
        sign(intent, manner, rng) if rng.random() < share else "",
        closer(manner, rng),
    ]


def _link(intent: Intent, index: int, count: int, rng: random.Random) -> str:
    """What ties a piece of advice to the one before: a word of order, the task itself, or mostly nothing."""
    if index == 0:
        roll = rng.random()
        if roll < 0.3:
            return f"to {_task(intent, rng)}, "
        return rng.choice(phrases.LINKS[0]) if count > 1 and roll < 0.6 else ""
    if rng.random() < 0.45:
        return ""
    return rng.choice(phrases.LAST_LINKS if index == count - 1 > 1 else phrases.LINKS[min(index, 2)])
