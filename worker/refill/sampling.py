"""Asking the engine for answers to one prompt, such that people could prefer one to another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from uuid import UUID

from app.comparisons.quality import fault_of, too_alike
from app.engine.client import Choice, EngineClient, EngineNonsense, EngineRefused, EngineUnavailable, Sampling
from app.engine.pushing import push
from app.errors import DomainError
from app.projects.schemas import SamplingSettings
from app.versions.files import directory, end_tokens
from worker.refill.answers import Answer
from worker.refill.plan import ToSample

PROMPT_CODES = frozenset({"context_length_exceeded", "template_error", "kv_memory_exceeded"})
"""Refusals that are the prompt's own; any other concerns the project as a whole."""

FEWEST_TOKENS = 16
"""A prompt that leaves less room than this for an answer is too long."""

HOTTER = 1.25
"""Factor on the temperature of the second try, when answers of the first were alike or of no use."""

_MOST_TEMPERATURE = 2.0
_LARGEST_SEED = 2**31 - 1


class PromptUnusableError(Exception):
    """The version cannot answer this prompt; the message says why and what to do."""


@dataclass(slots=True)
class Drawn:
    """What became of asking for answers."""

    answers: list[Answer] = field(default_factory=list)
    """Fit to be shown beside each other; new ones only."""
    counts: Counter[str] = field(default_factory=Counter)
    """By the kinds of ``app.comparisons.refill_counts``."""
    failure: DomainError | None = None
    """The engine failed after some answers had come; those are kept."""


class Sampler:
    """Samples from one version with one project's settings. Thread-safe."""

    def __init__(
        self, engine: EngineClient, version_id: UUID, sampling: SamplingSettings, versions_dir: Path, rng: Random
    ) -> None:
        """Raises ManifestError when the version does not say which tokens end an answer."""
        self._engine = engine
        self._version_id = version_id
        self._model = str(version_id)
        self._versions_dir = versions_dir
        self._ends = end_tokens(directory(versions_dir, version_id))
        self._rng = rng
        self._sampling = Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            stop=tuple(sampling.stop),
            min_p=sampling.min_p,
        )

    def draw(self, prompt: ToSample, count: int, beside: Sequence[Answer], similarity: float) -> Drawn:
        """Up to ``count`` answers that differ from each other and from those ``beside`` them.

        What is alike or of no use is asked for once more, hotter, and then left out.

        Raises:
            PromptUnusableError: the prompt is too long, or the model's template refuses it.
            EngineUnavailable, EngineRefused, EngineNonsense: nothing came; what fails later is in ``Drawn.failure``.
        """
        hotter = replace(
            self._sampling, temperature=min(_MOST_TEMPERATURE, max(self._sampling.temperature * HOTTER, 0.5))
        )
        drawn = Drawn()
        for turn, sampling in enumerate((self._sampling, hotter)):
            missing = count - len(drawn.answers)
            if missing <= 0:
                break
            try:
                answers = self._ask(prompt, sampling, missing)
            except (EngineUnavailable, EngineRefused, EngineNonsense) as error:
                if not turn:
                    raise
                drawn.failure = error
                break
            drawn.counts["sampled"] += len(answers)
            drawn.counts["resampled"] += len(answers) if turn else 0
            for answer in answers:
                fault = fault_of(answer) or too_alike(answer, [*beside, *drawn.answers], similarity)
                if fault is None:
                    drawn.answers.append(answer)
                else:
                    drawn.counts[fault] += 1
        return drawn

    def _ask(self, prompt: ToSample, sampling: Sampling, n: int) -> list[Answer]:
        seed = self._rng.randrange(_LARGEST_SEED)
        try:
            return self._sample(prompt, sampling, n, seed)
        except EngineRefused as refusal:
            if refusal.code == "model_not_found":  # an engine that does not look into the versions directory itself
                push(self._engine, self._versions_dir, self._version_id)
                return self._sample(prompt, sampling, n, seed)
            if refusal.code == "context_length_exceeded":
                return self._ask_shorter(prompt, sampling, n, seed)
            if refusal.code in PROMPT_CODES:
                raise PromptUnusableError(refusal.message) from refusal
            raise

    def _ask_shorter(self, prompt: ToSample, sampling: Sampling, n: int, seed: int) -> list[Answer]:
        """Ask for as many tokens as the prompt leaves room for."""
        count, context = self._engine.tokenize(self._model, prompt.messages)
        room = context - count
        if room < FEWEST_TOKENS:
            raise PromptUnusableError(
                f"The prompt has {count} tokens, the model's context {context}: no room for an answer. Shorten it."
            )
        try:
            return self._sample(prompt, replace(sampling, max_tokens=min(room, sampling.max_tokens)), n, seed)
        except EngineRefused as refusal:
            if refusal.code in PROMPT_CODES:
                raise PromptUnusableError(refusal.message) from refusal
            raise

    def _sample(self, prompt: ToSample, sampling: Sampling, n: int, seed: int) -> list[Answer]:
        sampled = self._engine.chat(self._model, prompt.messages, sampling, n=n, seed=seed)
        return [
            Answer(
                version_id=self._version_id,
                text=choice.text,
                prompt_ids=sampled.prompt_ids,
                ids=choice.token_ids,
                end=end_of(choice, self._ends),
                sampling={
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "top_k": sampling.top_k,
                    "min_p": sampling.min_p,
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
