"""A request of an API client, from its first look to what is kept of it: each step a short transaction of its own."""

import logging
import secrets
import time
from dataclasses import dataclass
from random import Random
from uuid import UUID

from sqlalchemy.orm import Session

from app.accounts import usage
from app.accounts.principal import Principal
from app.chat import keeping, service
from app.chat.asking import Question, sampling_of
from app.chat.events import Shape, Told
from app.chat.schemas import ChatRequest, Kept
from app.comparisons.in_hand import refuse_in_hand
from app.db.ids import new_id
from app.db.session import SessionFactory, transaction
from app.engine.client import Sampled, Sampling
from app.errors import DomainError, InvalidError
from app.prompts.conversations import Conversation, ConversationError, digest, normalise
from app.settings import Settings

log = logging.getLogger("hone.chat")
CHARS_PER_TOKEN = 4
"""A rough guess, for what a conversation may take of the day's quota before the engine has counted its tokens."""


class TextBrokenError(InvalidError):
    """Something that is no text."""

    code = "text_broken"
    title = "Not a text"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let through."""

    id: UUID
    principal: Principal
    target: service.Target
    question: Question
    taken: usage.Taken
    shape: Shape
    keeps: str
    conversation: Conversation | None
    """What may become a prompt; null where ``why_not`` says why it may not."""
    why_not: str | None


def begin(db: Session, me: Principal, body: ChatRequest, settings: Settings) -> Asked:
    """Count the request, find out who answers, and commit: no connection is held while a model writes.

    Raises:
        RateLimitedError, QuotaUsedUpError, ModelNotFoundError, ForbiddenError: refusals count as requests, too.
        InvalidError: too long, or no text.
        PromptInHandError: the caller has answers to it to judge blind.
    """
    allowed = usage.allowances(db, me, settings)
    try:
        target = service.resolve(db, body.model, user_id=me.user_id, is_site_admin=me.is_site_admin)
        messages, conversation, why_not = _messages(body, settings.max_prompt_chars)
        if target.blind and conversation is not None:
            told = digest(conversation)
            refuse_in_hand(db, project_id=target.project_id, reviewer_id=me.user_id, digest=told)
    except DomainError as error:
        error.headers = error.headers | usage.take(db, allowed).headers()
        db.commit()
        raise
    sampling = sampling_of(
        target.sampling,
        temperature=body.temperature,
        top_p=body.top_p or None,
        top_k=1 if body.top_p == 0 else body.top_k,
        min_p=body.min_p,
        max_tokens=body.longest,
        stop=body.stop,
    )
    chars = sum(len(message["content"]) for message in messages)
    most = body.n * sampling.max_tokens + chars // CHARS_PER_TOKEN
    taken = usage.take(db, allowed, tokens=most)
    keeps = keeping.keeps_of(db, me.token_id)
    if body.store is False:
        conversation, why_not = None, "The request said `store: false`."
    db.commit()
    chat_id = new_id()
    return Asked(
        id=chat_id,
        principal=me,
        target=target,
        question=Question(
            version_id=target.version_id,
            messages=messages,
            sampling=sampling,
            n=body.n,
            seed=secrets.randbits(31) if body.seed is None else abs(body.seed) % 2**63,
            may_shorten=body.longest is None,
        ),
        taken=taken,
        shape=Shape(f"chatcmpl-{chat_id.hex}", int(time.time()), target.name),
        keeps=keeps,
        conversation=conversation,
        why_not=why_not,
    )


def finish(
    factory: SessionFactory, settings: Settings, asked: Asked, sampled: Sampled | None, sampling: Sampling, told: Told
) -> tuple[Kept, bool]:
    """Settle the quota and keep what may be kept; and whether the outbox got something.

    The client has its answer in any case: what cannot be kept is logged, and said in ``why``.
    """
    told.settled = True
    try:
        with transaction(factory) as db:
            usage.settle(db, asked.taken, told.usage.total_tokens)
            if asked.keeps == "nothing" or asked.conversation is None or asked.principal.token_id is None:
                return Kept(kept="nothing", why=asked.why_not if asked.keeps != "nothing" else None), False
            stored = keeping.keep(
                db,
                keeping.Chatted(
                    id=asked.id,
                    project_id=asked.target.project_id,
                    version_id=asked.target.version_id,
                    user_id=asked.principal.user_id,
                    token_id=asked.principal.token_id,
                    conversation=asked.conversation,
                    sampled=sampled,
                    sampling=sampling,
                    seed=asked.question.seed,
                ),
                with_answers=asked.keeps == "answers",
                versions_dir=settings.versions_dir,
                rng=Random(secrets.randbits(64)),  # noqa: S311 - which answer stands on the left, no secret
            )
    except Exception:
        log.exception("the chat %s was answered and could not be kept", asked.id)
        return Kept(kept="nothing", why="It could not be stored; the log says why."), False
    missing = asked.keeps == "answers" and not stored.answers
    return Kept(
        kept="answers" if stored.answers else "prompt",
        why="The engine did not say which tokens it sampled, or no answer holds text." if missing else None,
        prompt_id=str(stored.prompt_id),
        comparison_id=str(stored.comparison_id) if stored.comparison_id else None,
    ), True


def settle(factory: SessionFactory, asked: Asked, told: Told) -> None:
    """Settle the quota of a request that was not answered to its end."""
    if told.settled:
        return
    with transaction(factory) as db:
        usage.settle(db, asked.taken, told.usage.total_tokens)


def _messages(body: ChatRequest, max_chars: int) -> tuple[list[dict[str, str]], Conversation | None, str | None]:
    """What the model is asked, and the same as a prompt if it is one. The model sees the canonical form: what is
    trained on later is what was asked."""
    messages = [message.plain() for message in body.messages]
    chars = sum(len(message["content"]) for message in messages)
    if chars > max_chars:
        raise InvalidError(
            f"The conversation has {chars:,} characters, at most {max_chars:,} are allowed.", mend="Shorten it."
        )
    for number, message in enumerate(messages, start=1):
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise TextBrokenError(
                f"Message {number} holds half a character (a lone surrogate).", mend="Write it as UTF-8 again."
            ) from error
    try:
        conversation = normalise(messages, max_chars=max_chars)
    except ConversationError as error:
        return messages, None, f"It is not a prompt: {error.message}."
    return conversation, conversation, None
