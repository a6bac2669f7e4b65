"""Opening a stream of answers at the engine, whatever it needs first: a version loaded, a shorter answer."""

import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from app.engine.asynchronous import AsyncAnswer, AsyncEngineClient
from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable, Messages, Sampling
from app.engine.pushing import NOT_SERVED, push
from app.errors import DomainError, InvalidError

log = logging.getLogger("hone.chat")
_RETRY_SECONDS = 2.0
"""How long clients are told to wait where the engine does not say."""
_ASLEEP_SECONDS = 30.0
"""The same while a round trains: that takes minutes or hours."""
_SAMPLING_FIELDS = frozenset(field.name for field in fields(Sampling))


class ConversationTooLongError(InvalidError):
    """Conversation and answer do not fit in the model's context."""

    code = "context_length_exceeded"
    title = "Too long for the model"


@dataclass(frozen=True, slots=True)
class Engines:
    """The engine, with and without an event loop, and where its versions lie."""

    streaming: AsyncEngineClient
    plain: EngineClient
    versions_dir: Path


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a version."""

    version_id: UUID
    messages: Messages
    sampling: Sampling
    n: int
    seed: int
    may_shorten: bool = True
    """Whether fewer tokens than ``sampling.max_tokens`` will do where the context has no room for more."""


def sampling_of(stored: Mapping[str, Any], **given: Any) -> Sampling:
    """A project's settings, with what was given in their place; what is None was not given."""
    values = {name: value for name, value in stored.items() if name in _SAMPLING_FIELDS}
    values |= {name: value for name, value in given.items() if value is not None}
    stop = values.get("stop", ())
    values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return Sampling(**values)


@asynccontextmanager
async def ask(engines: Engines, question: Question) -> AsyncIterator[tuple[AsyncAnswer, Sampling]]:
    """The stream, and the settings that are really used. Leaving the block early ends the sampling.

    Raises:
        ConversationTooLongError: there is no room for an answer.
        EngineUnavailable, EngineRefused, EngineNonsense: it cannot be sampled.
    """
    async with AsyncExitStack() as held:
        try:
            opened = await _open(held, engines, question)
        except EngineRefused as refusal:
            if refusal.code == "model_not_found":  # an engine that does not look into the versions directory itself
                await run_in_threadpool(push, engines.plain, engines.versions_dir, question.version_id)
                opened = await _open(held, engines, question)
            elif refusal.code == "context_length_exceeded":
                question = await _shortened(engines, question, refusal)
                opened = await _open(held, engines, question)
            else:
                raise
        yield opened, question.sampling


async def _open(held: AsyncExitStack, engines: Engines, question: Question) -> AsyncAnswer:
    return await held.enter_async_context(
        engines.streaming.stream(
            str(question.version_id), question.messages, question.sampling, question.n, question.seed
        )
    )


async def _shortened(engines: Engines, question: Question, refusal: EngineRefused) -> Question:
    count, context = await run_in_threadpool(engines.plain.tokenize, str(question.version_id), question.messages)
    room = context - count
    if room < 1 or not question.may_shorten or room >= question.sampling.max_tokens:
        raise ConversationTooLongError(
            f"The conversation has {count} tokens and the answer may have {question.sampling.max_tokens}; the model's "
            f"context has {context}.",
            mend="Shorten the conversation, or ask for fewer tokens with max_tokens.",
        ) from refusal
    return replace(question, sampling=replace(question.sampling, max_tokens=room))


class ModelAwayError(DomainError):
    """The engine does not answer, or not now."""

    code = "engine_unavailable"
    status = 503
    title = "The model does not answer"


class ModelAsleepError(ModelAwayError):
    """A round trains on the device that the model is sampled on."""

    code = "model_training"
    title = "A round trains"


class ModelRefusedError(InvalidError):
    """The engine understood and said no, because of the conversation."""

    code = "template_error"
    title = "The model cannot read this conversation"


def for_clients(error: DomainError) -> DomainError:
    """The error in words for somebody outside: the engine's address and the version's id stay inside, in the log."""
    if isinstance(error, EngineUnavailable) and error.asleep:
        asleep = ModelAsleepError(
            "A round trains on the model's device; until it is over, the model does not answer.",
            mend="Wait as long as Retry-After says, and longer if need be.",
        )
        asleep.headers = {"Retry-After": str(math.ceil(_ASLEEP_SECONDS))}
        return asleep
    if isinstance(error, EngineUnavailable):
        log.warning("a chat could not be answered: %s", error)
        away = ModelAwayError("The model does not answer at present.", mend="Wait as long as Retry-After says.")
        away.headers = {"Retry-After": str(math.ceil(error.retry_after_seconds or _RETRY_SECONDS))}
        return away
    if isinstance(error, EngineNonsense):
        log.error("a chat could not be answered: %s", error)
        return ModelAwayError("The model's answer could not be read.", mend="Tell whoever runs this installation.")
    if isinstance(error, EngineRefused) and error.code in (NOT_SERVED, "version_damaged", "model_not_found"):
        log.error("a chat could not be answered: %s", error)
        return ModelAwayError("The model is not being served.", mend="Tell whoever runs this installation.")
    if isinstance(error, EngineRefused) and error.code == "template_error":
        return ModelRefusedError(
            "The model's chat template refuses this conversation.",
            mend="Let user and assistant take turns, and end with a user's turn.",
        )
    return error
