"""A row in TRL's form as token ids: explicit or implicit prompt, plain or conversational, paired or labelled.

Which form a row has is told by its columns, row by row:

    prompt, chosen, rejected        a preference
    chosen, rejected                a preference whose prompt is what both answers begin with
    prompt, completion, label       one answer that is good (true) or bad (false)

Prompt and answer are tokenised together and cut where the prompt alone and both together part, as TRL does: usually
behind the prompt, earlier where its last token merges with the answer or the chat template renders it otherwise.
"""

import inspect
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from worker.trainer.audit import DECODE_SAMPLE
from worker.trainer.columns import (
    Message,
    Text,
    number,
    refuse_images,
    shared_length,
    split_prompt,
    take_prompt_off,
    template_arguments,
    text,
    tools,
)
from worker.trainer.reading import Reading

MERGED_TOKENS = 2
"""How many of a prompt's own last tokens may be others once an answer stands behind them."""
_SHOWN_IDS = 8
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion's ids, end token included, and its text."""

    ids: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What one row says."""

    prompt_ids: list[int]
    whole_prompt_ids: list[int]
    """Of the prompt alone: ``prompt_ids``, and an end of it that was cut off."""
    answers: list[Answer]
    """Chosen and rejected, or the labelled one alone."""
    desirable: bool | None
    """Of a labelled row; None for a preference."""
    margin: float
    weight: float


@dataclass(frozen=True, slots=True)
class _Rendering:
    """What the chat template is told beside the messages."""

    tools: list[Any] | None
    arguments: dict[str, Any]


class Reader:
    """Turns rows into ids with one tokenizer; what is worth telling goes to ``reading``."""

    def __init__(self, tokenizer: Any, eos_ids: frozenset[int], reading: Reading) -> None:
        self._tokenizer, self.eos_ids, self.reading = tokenizer, eos_ids, reading

    def read(self, row: dict[str, Any]) -> Judged | None:
        """What ``row`` says; None where its answers are the same. Raises ValueError, naming the field."""
        self.reading.rows += 1
        labelled = row.get("completion") is not None or row.get("label") is not None
        names = ("completion",) if labelled else ("chosen", "rejected")
        if labelled and (row.get("chosen") is not None or row.get("rejected") is not None):
            raise ValueError("has chosen or rejected beside completion and label; give it one form or the other")
        refuse_images(row)
        prompt, answers = self._prompt(row, {name: text(row, name) for name in names}, labelled=labelled)
        desirable = row.get("label") if labelled else None
        if labelled and not isinstance(desirable, bool):
            raise ValueError(f"label {desirable!r} is neither true nor false; true says that the answer is good")
        alone, cut, read = self._ids(row, prompt, answers)
        if len(read) == 2 and read[0].ids == read[1].ids:
            self.reading.note("identical", repr(read[0].text[:_SHOWN_CHARACTERS]))
            return None
        margin, weight = number(row, "margin", 0.0), number(row, "weight", 1.0)
        if weight < 0:
            raise ValueError(f"weight {weight:g} is negative; swap chosen and rejected, or use a weight from 0")
        return Judged(alone[:cut], alone, read, desirable, margin, weight)

    def _prompt(self, row: dict[str, Any], answers: dict[str, Text], *, labelled: bool) -> tuple[Text, dict[str, Text]]:
        """The prompt, and the answers without it."""
        if not labelled and row.get("prompt") in (None, "", []):
            prompt, chosen, rejected = split_prompt(answers["chosen"], answers["rejected"])
            return prompt, {"chosen": chosen, "rejected": rejected}
        given = text(row, "prompt")
        prompt, rest = take_prompt_off(given, answers)
        if rest is not answers:
            self.reading.note("taken off")
        for name, answer in rest.items():
            if isinstance(answer, str) != isinstance(prompt, str):
                kind = "a text" if isinstance(answer, str) else "a conversation"
                raise ValueError(f"{name} is {kind} and prompt is not; make both texts or both lists of messages")
        return prompt, rest

    def _ids(self, row: dict[str, Any], prompt: Text, answers: dict[str, Text]) -> tuple[list[int], int, list[Answer]]:
        """Ids of the prompt alone, how many of them the answers have before them, and the answers."""
        if not isinstance(prompt, str):
            messages = {name: answer for name, answer in answers.items() if not isinstance(answer, str)}
            return self._conversation(prompt, messages, _Rendering(tools(row), self._arguments(row)))
        for name in ("tools", "chat_template_kwargs"):
            if row.get(name):
                raise ValueError(f"{name} is for the chat template, which plain texts do not go through; remove it")
        if self._tokenizer.chat_template:
            self.reading.note("plain", repr(prompt[:_SHOWN_CHARACTERS]))
        return self._plain(prompt, {name: answer for name, answer in answers.items() if isinstance(answer, str)})

    def _plain(self, prompt: str, answers: dict[str, str]) -> tuple[list[int], int, list[Answer]]:
        alone = self._encoded(prompt)
        if not alone:
            raise ValueError("prompt has no tokens; give it some text")
        wholes = [self._encoded(prompt + answer) for answer in answers.values()]
        cut = min(shared_length(alone, whole) for whole in wholes)
        if not cut:  # a prompt of one token, which merges, and no BOS: without a prompt nothing could be predicted
            cut, wholes = len(alone), [[*alone, *self._bare(answer)] for answer in answers.values()]
        if cut < len(alone):
            self.reading.note("merged", self._tails(alone, wholes, cut))
        if all(answer.startswith(prompt) for answer in answers.values()):
            self.reading.note("repeated")
        read = []
        for answer, whole in zip(answers.values(), wholes, strict=True):
            ids = whole[cut:]
            if not ids or ids[-1] not in self.eos_ids:
                behind = _behind(ids, self.eos_ids)
                if behind is not None and not self._decoded(behind).strip():
                    self.reading.note("ended twice")
                ids = [*ids, self._tokenizer.eos_token_id]
            self._compare(prompt + answer, [*alone[:cut], *ids])
            read.append(Answer(ids, answer if cut == len(alone) else self._decoded(ids, skip=True)))
        return alone, cut, read

    def _encoded(self, plain: str) -> list[int]:
        """As the tokenizer begins a text: with BOS where it has one; without the end token that some put."""
        ids = list(self._tokenizer(plain)["input_ids"])
        return ids[: len(ids) - self._ends]

    def _bare(self, plain: str) -> list[int]:
        return list(self._tokenizer(plain, add_special_tokens=False)["input_ids"])

    @cached_property
    def _ends(self) -> int:
        """End tokens that the tokenizer puts behind every text by itself."""
        ids = self._tokenizer("x")["input_ids"]
        return next((count for count, token in enumerate(reversed(ids)) if token not in self.eos_ids), 0)

    def _compare(self, given: str, ids: list[int]) -> None:
        """Count a plain row whose ids, prompt and answer in one, read otherwise than its text."""
        if self.reading.compared >= DECODE_SAMPLE:
            return
        self.reading.compared += 1
        inner = ids[:-1] if ids[-1] in self.eos_ids else ids
        begun = inner[1:] if inner[:1] == [self._tokenizer.bos_token_id] else inner
        seen = {self._decoded(ids, skip=True), self._decoded(inner), self._decoded(begun)}
        texts = {given, given.removesuffix(self._tokenizer.eos_token or "")}
        if {_normalised(item) for item in seen}.isdisjoint(map(_normalised, texts)):
            self.reading.note("elsewhere", repr(self._decoded(begun)[-40:]))

    def _conversation(
        self, prompt: list[Message], answers: dict[str, list[Message]], how: _Rendering
    ) -> tuple[list[int], int, list[Answer]]:
        if not self._tokenizer.chat_template:
            raise ValueError(
                "prompt is a conversation, and the model has no chat template; write plain texts, or add "
                "chat_template.jinja to the model and import it again"
            )
        alone = self._render(prompt, how, ask=True)
        wholes = {name: self._render([*prompt, *answer], how) for name, answer in answers.items()}
        cut = min(shared_length(alone, whole) for whole in wholes.values())
        if cut < len(alone):
            name = min(wholes, key=lambda name: shared_length(alone, wholes[name]))
            self._check_cut(prompt, name, answers[name], shared_length(alone, self._render(prompt, how)) - cut)
            self.reading.note("template", self._tails(alone, list(wholes.values()), cut))
        self._find_unread(prompt, answers, how, alone, wholes)
        return alone, cut, [self._turn(name, whole[cut:]) for name, whole in wholes.items()]

    def _check_cut(self, prompt: list[Message], name: str, answer: list[Message], lost: int) -> None:
        """Raises ValueError unless prompt and answer differ in the template's own words alone.

        Args:
            prompt: the messages before the answer.
            name: of the answer.
            answer: its messages.
            lost: tokens cut off that belong to the prompt's messages, and not to what asks for an answer.
        """
        if lost <= MERGED_TOKENS and answer[0]["role"] == "assistant":
            return
        roles = ", ".join(dict.fromkeys(message["role"] for message in [*prompt, *answer]))
        raise ValueError(
            f"the chat template renders prompt + {name} other than prompt alone, so the answer cannot be told from "
            f"it; check the roles ({roles}), or give plain texts, or token ids in the group format"
        )

    def _turn(self, name: str, ids: list[int]) -> Answer:
        """An answer as the chat template renders it behind the prompt; it ends at its last end token.

        Of several with nothing between them that is the first, at which sampling stops: Phi-3's template puts the end
        of the text behind the end of the turn, and some answers bring an end token of their own.
        """
        ends = [place for place, token in enumerate(ids) if token in self.eos_ids]
        while len(ends) > 1 and not self._decoded(ids[ends[-2] + 1 : ends[-1]]).strip():
            ends.pop()
        ids = ids[: ends[-1] + 1] if ends else ids
        if not ids:
            raise ValueError(f"{name} is empty")
        return Answer(ids, self._decoded(ids, skip=True))

    def _find_unread(
        self,
        prompt: list[Message],
        answers: dict[str, list[Message]],
        how: _Rendering,
        alone: list[int],
        wholes: dict[str, list[int]],
    ) -> None:
        """Count what a row has and the template leaves out. Raises ValueError for an answer that it would empty."""
        unread = {name for name in how.arguments if name not in str(self._tokenizer.chat_template)}
        if how.tools and self._renders(alone, prompt, _Rendering(None, how.arguments), ask=True):
            unread.add("tools")
        for name, answer in answers.items():
            for extra in _extras(answer):
                if self._renders(wholes[name], [*prompt, *_without(answer, extra)], how):
                    if extra == "tool_calls":
                        raise ValueError(
                            f"{name} has tool_calls, which the chat template does not render, so the model would learn "
                            "to say nothing; use a template with tools, or write the call as the content"
                        )
                    unread.add(extra)
        unread |= {extra for extra in _extras(prompt) if self._renders(alone, _without(prompt, extra), how, ask=True)}
        self.reading.unread.update(unread)

    def _renders(self, ids: list[int], messages: list[Message], how: _Rendering, *, ask: bool = False) -> bool:
        """Whether ``messages`` are rendered as ``ids``; not where the template refuses them."""
        try:
            return self._render(messages, how, ask=ask) == ids
        except ValueError:
            return False

    def _arguments(self, row: dict[str, Any]) -> dict[str, Any]:
        given = template_arguments(row)
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters.keys() - {"documents"}
        if taken := given.keys() & own:
            raise ValueError(
                f"chat_template_kwargs names {min(taken)}, which is the tokenizer's and not the template's; remove it"
            )
        return given

    def _render(self, messages: list[Message], how: _Rendering, *, ask: bool = False) -> list[int]:
        from jinja2 import TemplateError

        try:
            ids = self._tokenizer.apply_chat_template(
                messages, tools=how.tools, add_generation_prompt=ask, return_dict=False, **how.arguments
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        return list(ids)

    def _tails(self, alone: list[int], wholes: list[list[int]], cut: int) -> str:
        """How the prompt alone goes on where it was cut, and how with an answer."""
        first = min(wholes, key=lambda whole: shared_length(alone, whole))
        ours, theirs = alone[cut:][:_SHOWN_IDS], first[cut:][:_SHOWN_IDS]
        return f"{self._decoded(ours)!r} alone and {self._decoded(theirs)!r} before an answer"

    def _decoded(self, ids: list[int], *, skip: bool = False) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False))


def _extras(messages: list[Message]) -> list[str]:
    """What messages have beside role and content."""
    return sorted({name for message in messages for name, value in message.items() if value} - {"role", "content"})


def _without(messages: list[Message], extra: str) -> list[Message]:
    """An answer of nothing but tool calls says nothing without them."""
    kept = [{name: value for name, value in message.items() if name != extra} for message in messages]
    return [message if "content" in message else message | {"content": ""} for message in kept]


def _behind(ids: list[int], eos_ids: frozenset[int]) -> list[int] | None:
    """What follows the last end token; None without one."""
    last = max((place for place, token in enumerate(ids) if token in eos_ids), default=None)
    return None if last is None else ids[last + 1 :]


def _normalised(given: str) -> str:
    return unicodedata.normalize("NFKC", given).strip()
