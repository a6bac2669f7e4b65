"""``/v1/chat/completions`` and ``/v1/models`` of the web app, for any client of OpenAI's API."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from app.accounts import access, usage
from app.accounts.principal import Principal
from app.chat import service
from app.chat.asked import Asked, begin, finish, settle
from app.chat.asking import Engines, ask, for_clients
from app.chat.events import DONE, Told, error_event
from app.chat.feedback import find, record
from app.chat.schemas import ChatCompletion, ChatRequest, FeedbackIn, FeedbackOut, Kept, Model, ModelList
from app.comparisons.records import MAX_KEY_CHARS
from app.engine.asynchronous import AsyncAnswer
from app.engine.client import EngineNonsense, Sampled, Sampling
from app.errors import DomainError
from app.web.departure import ClientGoneError, HeldStream, unless_gone
from app.web.deps import AppSettings, Db, leave
from app.web.errors import CLIENT_CLOSED, as_domain_error
from app.web.problems import problem

router = APIRouter(prefix="/v1", tags=["chat"])

log = logging.getLogger("hone.chat")
Member = Annotated[Principal, access.api_by_id("chat", "reviewer")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    413: problem("`body_too_large`: over HONE_CHAT_MAX_BODY_BYTES."),
    429: problem("`rate_limit_exceeded` or `quota_exceeded`: wait as long as `Retry-After` says."),
    503: problem("`engine_unavailable`: the model does not answer now."),
}


@router.post(
    "/chat/completions",
    summary="Talk to a project's current version",
    response_model=ChatCompletion,
    responses=REFUSALS | {200: {"content": {"text/event-stream": {}}}},
)
async def chat_completions(body: ChatRequest, me: Member, db: Db, settings: AppSettings, request: Request) -> Response:
    """Continues a conversation, in the shape of OpenAI's API; with `stream`, as server-sent events.

    `model` is a project's slug; its current version answers. Admins of the project may name a version, `demo@2`.
    Sampling settings that are left out are the project's own. What is kept of the chat is a setting of the token;
    `hone` in the answer (with `stream`, in the last chunk of each answer) says what became of it. Whoever hangs up
    ends the sampling.
    """
    asked = await run_in_threadpool(begin, db, me, body, settings)
    leave(request, db)  # a model may take minutes
    held, told = AsyncExitStack(), Told(body.n)
    try:
        stream, sampling = await unless_gone(request, _enter(held, request, asked))
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return HeldStream(
                _events(request, asked, stream, sampling, told, with_usage=with_usage), held, asked.taken.headers()
            )
        answer = await unless_gone(request, _whole(request, asked, stream, sampling, told))
        await held.aclose()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await held.aclose()
            await run_in_threadpool(settle, request.app.state.session_factory, asked, told)
        if isinstance(error, ClientGoneError):
            return Response(status_code=CLIENT_CLOSED)
        if isinstance(error, DomainError):
            raise for_clients(error) from error
        raise
    return Response(answer.model_dump_json(), media_type="application/json", headers=asked.taken.headers())


@router.get("/models")
def models(me: Annotated[Principal, access.api("chat")], db: Db) -> ModelList:
    """What you may name as `model`: your projects, and each version of those you are an admin of."""
    named = service.names(db, user_id=me.user_id, is_site_admin=me.is_site_admin)
    return ModelList(data=[Model(id=item.name, created=int(item.since.timestamp())) for item in named])


@router.get("/models/{model}")
def model(model: str, me: Member, db: Db) -> Model:
    """One of the names that you may use."""
    service.resolve(db, model, user_id=me.user_id, is_site_admin=me.is_site_admin)
    named = service.names(db, user_id=me.user_id, is_site_admin=me.is_site_admin)
    found = next(item for item in named if item.name == model)
    return Model(id=found.name, created=int(found.since.timestamp()))


@router.post(
    "/feedback",
    status_code=201,
    responses=REFUSALS
    | {
        409: problem(
            "`vote_frozen`: a round has learned from it. `idempotency_key_reused`: sent before with something else. "
            "`pair_in_review`: you have this pair as a reviewer."
        )
    },
)
def feedback(
    body: FeedbackIn,
    me: Member,
    db: Db,
    settings: AppSettings,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=MAX_KEY_CHARS,
            description="A random value of your own for this feedback. Sent again with the same, it is stored once.",
        ),
    ] = None,
) -> FeedbackOut:
    """Say which of two answers is better, or give one a thumb up or down.

    The answers are ones that a key of yours was given and that were kept. Saying it again changes it, until a round
    has learned from it. Feedback is not blind, so it takes no place among reviewers' votes unless the project says so.
    """
    counted = usage.take(db, usage.allowances(db, me, settings)).headers()
    db.commit()  # a refusal counts, too
    try:
        given = find(db, me.user_id, body)
        here = access.require_role(db, me, given.project_id, "reviewer")
        stored = record(db, here.project, me.user_id, body, given, idempotency_key)
    except DomainError as error:
        error.headers = error.headers | counted
        raise
    response.headers.update(counted)
    if stored.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return stored


async def _enter(held: AsyncExitStack, request: Request, asked: Asked) -> tuple[AsyncAnswer, Sampling]:
    state = request.app.state
    engines = Engines(state.async_engine_client, state.engine_client, state.settings.versions_dir)
    return await held.enter_async_context(ask(engines, asked.question))


async def _whole(request: Request, asked: Asked, stream: AsyncAnswer, sampling: Sampling, told: Told) -> ChatCompletion:
    async for piece in stream:
        told.add(piece, len(stream.prompt_ids))
    kept = await _finish(request, asked, stream, sampling, told)
    return asked.shape.whole(told, kept)


async def _events(
    request: Request, asked: Asked, stream: AsyncAnswer, sampling: Sampling, told: Told, *, with_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events. The ends of the answers come last, when what may be kept is kept and can be referred to."""
    finished = False
    try:
        for index in range(asked.question.n):
            yield asked.shape.opening(index)
        async for piece in stream:
            told.add(piece, len(stream.prompt_ids))
            if piece.text:
                yield asked.shape.text(piece)
        kept = await _finish(request, asked, stream, sampling, told)
        finished = True
        for index, reason in enumerate(told.reasons):
            yield asked.shape.closing(index, reason, kept)
        if with_usage:
            yield asked.shape.usage(told.usage)
        yield DONE
    except Exception as error:
        known = as_domain_error(error)
        if not isinstance(error, DomainError):
            log.exception("a stream broke off")
        yield error_event(for_clients(known))
    finally:
        if not finished:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(settle, request.app.state.session_factory, asked, told)


async def _finish(request: Request, asked: Asked, stream: AsyncAnswer, sampling: Sampling, told: Told) -> Kept:
    state = request.app.state
    try:
        sampled: Sampled | None = stream.sampled()
    except EngineNonsense:
        sampled = None  # an engine that does not return token ids: answers, but nothing to train on
    kept, woken = await run_in_threadpool(finish, state.session_factory, state.settings, asked, sampled, sampling, told)
    if woken:
        state.after_commit()
    return kept
