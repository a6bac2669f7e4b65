"""Asking the engine for a pair of answers to one prompt, such that two people could prefer one or the other."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

from app.engine.client import Choice, EngineClient, EngineRefused, Sampling
from app.projects.schemas import SamplingSettings
from app.versions.files import directory, end_tokens
from worker.refill.buffer import Answer, ToSample

PROMPT_CODES = frozenset({"context_length_exceeded", "template_error", "kv_memory_exceeded"})
"""Refusals that are the prompt's own; any other concerns the project as a whole."""

FEWEST_TOKENS = 16
"""A prompt that leaves less room than this for an answer is too long."""

HOTTER = 1.25
"""Factor on the temperature of the second try, when the first two answers were the same."""

_MOST_TEMPERATURE = 2.0
_LARGEST_SEED = 2**31 - 1


class PromptUnusableError(Exception):
    """The current version cannot answer this prompt; the message says why and what to do."""


class Sampler:
    """Samples from one version with one project's settings. Thread-safe."""

    def __init__(
        self, engine: EngineClient, version_id: UUID, sampling: SamplingSettings, versions_dir: Path, rng: Random
    ) -> None:
        """Raises ManifestError when the version does not say which tokens end an answer."""
        self._engine = engine
        self._model = str(version_id)
        self._folder = directory(versions_dir, version_id)
        self._ends = end_tokens(self._folder)
        self._rng = rng
        self._sampling = Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            stop=tuple(sampling.stop),
        )

    def pair(self, prompt: ToSample) -> tuple[Answer, Answer] | None:
        """Two answers that differ; None when two tries, the second one hotter, gave none.

        Raises:
            PromptUnusableError: the prompt is too long, or the model's template refuses it.
            EngineUnavailable, EngineRefused, EngineNonsense: nothing can be sampled now.
        """
        hotter = replace(
            self._sampling, temperature=min(_MOST_TEMPERATURE, max(self._sampling.temperature * HOTTER, 0.5))
        )
        for sampling in (self._sampling, hotter):
            answers = [answer for answer in self._ask(prompt, sampling) if _usable(answer)]
            if len(answers) == 2 and _differ(*answers):
                return answers[0], answers[1]
        return None

    def _ask(self, prompt: ToSample, sampling: Sampling) -> list[Answer]:
        seed = self._rng.randrange(_LARGEST_SEED)
        try:
            return self._sample(prompt, sampling, seed)
        except EngineRefused as refusal:
            if refusal.code == "model_not_found":  # an engine that does not look into the versions directory itself
                self._engine.load(self._model, self._folder.absolute())
                return self._sample(prompt, sampling, seed)
            if refusal.code == "context_length_exceeded":
                return self._ask_shorter(prompt, sampling, seed)
            if refusal.code in PROMPT_CODES:
                raise PromptUnusableError(refusal.message) from refusal
            raise

    def _ask_shorter(self, prompt: ToSample, sampling: Sampling, seed: int) -> list[Answer]:
        """Ask for as many tokens as the prompt leaves room for."""
        count, context = self._engine.tokenize(self._model, prompt.messages)
        room = context - count
        if room < FEWEST_TOKENS:
            raise PromptUnusableError(
                f"The prompt has {count} tokens, the model's context {context}: no room for an answer. Shorten it."
            )
        try:
            return self._sample(prompt, replace(sampling, max_tokens=min(room, sampling.max_tokens)), seed)
        except EngineRefused as refusal:
            if refusal.code in PROMPT_CODES:
                raise PromptUnusableError(refusal.message) from refusal
            raise

    def _sample(self, prompt: ToSample, sampling: Sampling, seed: int) -> list[Answer]:
        sampled = self._engine.chat(self._model, prompt.messages, sampling, n=2, seed=seed)
        return [
            Answer(
                text=choice.text,
                prompt_ids=sampled.prompt_ids,
                ids=choice.token_ids,
                end=end_of(choice, self._ends),
                sampling={
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "top_k": sampling.top_k,
                    "max_tokens": sampling.max_tokens,
                    "stop": list(sampling.stop),
                    "seed": seed,
                    "n": len(sampled.choices),
                    "index": index,
                },
            )
            for index, choice in enumerate(sampled.choices)
        ]


def end_of(choice: Choice, ends: Sequence[int] | frozenset[int]) -> str:
    """How a completion ended: 'eos' if and only if its last sampled id is an end token, whatever the server says."""
    if choice.token_ids and choice.token_ids[-1] in ends:
        return "eos"
    return "length" if choice.finish_reason == "length" else "stop"


def _usable(answer: Answer) -> bool:
    """Whether there is something to read, and Postgres can hold it."""
    try:
        answer.text.encode()
    except UnicodeEncodeError:
        return False
    return bool(answer.text.strip()) and "\x00" not in answer.text and bool(answer.ids)


def _differ(a: Answer, b: Answer) -> bool:
    return a.text.strip() != b.text.strip() and a.ids != b.ids
