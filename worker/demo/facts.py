"""What the demo corpus knows: topics, and for each a few intents with advice, reasons and one plausible mistake.

The facts lie in ``topics/*.txt``, one line each, its kind told by the first characters:

    # topic                              a noun phrase that fits "about …"
    ? task | task | task                 bare infinitives, in the asker's words; the first line of an intent
    @ situation | situation              whole sentences an asker would say
    % question | question                ways of asking that the corpus never uses: prompts only
    = gist                               the answer in one clause          (=i: the same as an imperative)
    + advice : reason                    a bare imperative, and a clause that stands alone
    - advice : reason                    the same, subtly wrong
    ! mistake                            a gerund phrase
    ~ sign                               a clause that fits "you will know when …"
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TOPICS = Path(__file__).parent / "topics"


@dataclass(frozen=True, slots=True)
class Tip:
    """A piece of advice: a bare imperative, lower case, and the reason for it as a clause."""

    do: str
    why: str


@dataclass(slots=True)
class Intent:
    """One thing people ask about, and what there is to say."""

    topic: str
    tasks: list[str]
    situations: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    gist: str = ""
    gist_is_advice: bool = False
    tips: list[Tip] = field(default_factory=list)
    wrong: list[Tip] = field(default_factory=list)
    mistake: str = ""
    sign: str = ""


class FactsError(ValueError):
    """A line of the facts cannot be read; the message names file and line."""


def parse(text: str, source: str) -> list[Intent]:
    """The intents of one facts file.

    Raises:
        FactsError: a line of unknown kind, advice without a reason, or an intent without a topic.
    """
    intents: list[Intent] = []
    topic = ""
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.strip().partition(" ")
        where = f"{source}:{number}"
        if not kind:
            continue
        if kind == "#":
            topic = rest
        elif kind == "?":
            if not topic:
                raise FactsError(f"{where}: an intent before any '# topic'")
            intents.append(Intent(topic, rest.split(" | ")))
        elif not intents:
            raise FactsError(f"{where}: {kind!r} before any '? task'")
        else:
            _add(intents[-1], kind, rest, where)
    return intents


def _add(intent: Intent, kind: str, rest: str, where: str) -> None:
    if kind == "@":
        intent.situations = rest.split(" | ")
    elif kind == "%":
        intent.held_out = rest.split(" | ")
    elif kind in ("=", "=i"):
        intent.gist, intent.gist_is_advice = rest, kind == "=i"
    elif kind in ("+", "-"):
        do, colon, why = rest.partition(" : ")
        if not colon:
            raise FactsError(f"{where}: advice without ' : reason'")
        (intent.tips if kind == "+" else intent.wrong).append(Tip(do, why))
    elif kind == "!":
        intent.mistake = rest
    elif kind == "~":
        intent.sign = rest
    else:
        raise FactsError(f"{where}: unknown kind of line {kind!r}")


@cache
def intents() -> tuple[Intent, ...]:
    """Every intent of the demo, in the order of the files."""
    return tuple(
        intent for file in sorted(TOPICS.glob("*.txt")) for intent in parse(file.read_text(encoding="utf-8"), file.name)
    )
