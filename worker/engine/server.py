"""The HTTP door of the engine."""

import asyncio
import hmac
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from app import logs
from app.versions.manifest import ManifestError
from worker.engine.answers import Answer, sse
from worker.engine.engine import Engine, Run, log_request
from worker.engine.errors import EngineError
from worker.engine.loading import Loaded
from worker.engine.params import SamplingParams
from worker.engine.protocol import (
    ChatRequest,
    CompletionRequest,
    LoadAdapter,
    TokenizeChat,
    TokenizeText,
    UnloadAdapter,
)

log = logging.getLogger(__name__)
_CLIENT_CLOSED = 499  # nobody reads it; it names the outcome in logs, as other servers do


class SecretMiddleware:
    """Asks for ``Authorization: Bearer <secret>`` on everything but /health."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                error = EngineError(
                    "This engine asks for its secret: send Authorization: Bearer <HONE_ENGINE_SECRET>.",
                    status=401,
                    code="invalid_api_key",
                    kind="authentication_error",
                )
                await _error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RequestIds:
    """Has the log name the request of Hone's web server, or worker, for whose sake this one came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"x-hone-request-id", b"").decode("latin-1")
            logs.start(request_id=given if logs.SENT_ID.fullmatch(given) else None)
        await self._app(scope, receive, send)


def create_app(engine: Engine, secret: str = "") -> FastAPI:
    """The application around ``engine``, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await run_in_threadpool(engine.stop)

    app = FastAPI(title="Hone engine", lifespan=lifespan)
    if secret:
        app.add_middleware(SecretMiddleware, secret=secret)
    app.add_middleware(RequestIds)
    _add_error_handlers(app)
    _add_sampling(app, engine)
    _add_versions(app, engine)
    _add_memory(app, engine)
    return app


def _add_sampling(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, http: Request) -> Response:
        """Complete a conversation."""
        return await _complete(engine, body, http)

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, http: Request) -> Response:
        """Continue texts or token ids."""
        return await _complete(engine, body, http)

    @app.post("/tokenize")
    async def tokenize(body: TokenizeChat | TokenizeText) -> dict[str, Any]:
        """Token ids of a conversation or a text, as sampling would see them."""
        async with engine.version(body.model) as loaded:
            if isinstance(body, TokenizeChat):
                ids = await run_in_threadpool(body.prompt_ids, loaded.tokenizer)
            else:
                ids = await run_in_threadpool(
                    loaded.tokenizer.encode, body.prompt, add_special_tokens=body.add_special_tokens
                )
            return {"count": len(ids), "max_model_len": loaded.context_length, "tokens": ids}


def _add_versions(app: FastAPI, engine: Engine) -> None:
    store = engine.store

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Every version that can be named as model, and whether it is in memory."""
        return {"object": "list", "data": await run_in_threadpool(_models, engine)}

    @app.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapter) -> PlainTextResponse:
        """Load a version before it is first used; ``lora_path`` may lie outside the versions directory."""
        if body.lora_path is not None:
            await run_in_threadpool(store.register, body.lora_name, Path(body.lora_path))
        try:
            async with engine.version(body.lora_name):
                pass
        except EngineError as error:
            if body.lora_path is not None and error.code in ("version_damaged", "version_unusable", "load_failed"):
                await run_in_threadpool(store.unload, body.lora_name)
            raise
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapter) -> PlainTextResponse:
        """Drop a version from memory once its running requests are done."""
        if not await run_in_threadpool(store.unload, body.lora_name):
            raise EngineError(
                f"The version {body.lora_name!r} is not loaded.", status=404, code="model_not_found", param="lora_name"
            )
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _add_memory(app: FastAPI, engine: Engine) -> None:
    @app.get("/health")
    async def health() -> Response:
        """200 as soon as requests can be taken; asleep counts as healthy."""
        return Response(status_code=200)

    @app.post("/sleep")
    async def sleep(level: int = Query(1, ge=1, le=2)) -> Response:  # noqa: ARG001 - vLLM's; both free everything here
        """Take no more requests, finish those that run, then free weights and KV memory."""
        await run_in_threadpool(engine.store.sleep)
        return Response(status_code=200)

    @app.post("/wake_up")
    async def wake_up() -> Response:
        """Take requests again."""
        await run_in_threadpool(engine.store.wake)
        return Response(status_code=200)

    @app.get("/is_sleeping")
    async def is_sleeping() -> dict[str, bool]:
        """Whether requests are refused because the memory was put away."""
        return {"is_sleeping": engine.store.is_asleep}


async def _complete(engine: Engine, body: ChatRequest | CompletionRequest, http: Request) -> Response:
    if body.n > engine.options.max_batch:
        raise EngineError(
            f"n is {body.n}; this engine runs at most {engine.options.max_batch} completions at once", param="n"
        )
    async with AsyncExitStack() as held:
        held.enter_context(engine.place(body.n * body.prompt_count))
        loaded = await held.enter_async_context(engine.version(body.model))
        prompts, params = await run_in_threadpool(_prepare, body, loaded)
        run = await held.enter_async_context(engine.run(loaded, params, prompts, stream=bool(body.stream)))
        answer = Answer(body, loaded, run.request)
        held.callback(lambda: log_request(answer.id, body.model, run.request, _outcome(run)))
        if body.stream:
            return _HeldStream(_stream(answer, run), held.pop_all())
        if not await _unless_disconnected(http, run.finish()):
            return Response(status_code=_CLIENT_CLOSED)
        return JSONResponse(await run_in_threadpool(answer.whole))


def _prepare(body: ChatRequest | CompletionRequest, loaded: Loaded) -> tuple[list[list[int]], SamplingParams]:
    """Token ids and settings of a request.

    Raises:
        EngineError: too long, empty, or ids outside the vocabulary.
    """
    prompts = [body.prompt_ids(loaded.tokenizer)] if isinstance(body, ChatRequest) else body.prompts(loaded.tokenizer)
    largest = max(max(ids) for ids in prompts)
    if largest >= loaded.vocabulary:
        raise EngineError(f"token id {largest} is outside the vocabulary of {loaded.vocabulary}", param="prompt")
    return prompts, body.params(max(map(len, prompts)), loaded.context_length)


class _HeldStream(StreamingResponse):
    """Server-sent events; whoever stops reading cancels the request, for the end of the response leaves ``held``."""

    def __init__(self, events: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def _stream(answer: Answer, run: Run) -> AsyncIterator[str]:
    try:
        for chunk in answer.first_chunks():
            yield sse(chunk)
        async for deltas in run.deltas():
            for delta in deltas:
                chunk_of_it = answer.chunk(delta)
                if chunk_of_it is not None:
                    yield sse(chunk_of_it)
        for chunk in answer.last_chunks():
            yield sse(chunk)
    except EngineError as error:
        yield sse(error.body())
    yield "data: [DONE]\n\n"


async def _unless_disconnected(http: Request, work: Awaitable[None]) -> bool:
    """Wait for ``work``; False, and ``work`` cancelled, if the client goes away first."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
            return True
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcome(run: Run) -> str:
    if run.request.cancelled.is_set() or not run.request.closed:
        return "cancelled"
    return "done" if run.request.unfinished == 0 else "failed"


def _models(engine: Engine) -> list[dict[str, Any]]:
    found = []
    for name, loaded in engine.store.names().items():
        try:
            info = engine.store.info(name)
        except ManifestError as error:
            log.warning("engine.version_unreadable model=%s error=%r", name, str(error))
            continue
        parent = info.base.version if info.base is not None else None
        found.append({
            "id": name, "object": "model", "created": 0, "owned_by": "hone", "root": str(engine.store.path(name)),
            "parent": parent, "max_model_len": info.context_length, "loaded": loaded,
        })  # fmt: skip
    return found


def _add_error_handlers(app: FastAPI) -> None:
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        EngineError: _on_engine_error,
        RequestValidationError: _on_invalid,
        HTTPException: _on_http,
        Exception: _on_bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _on_engine_error(_http: Request, error: EngineError) -> Response:
    return _error_response(error)


async def _on_invalid(_http: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(where) or None
    if first["type"] == "extra_forbidden":
        message = f"Unknown field {name!r}: this engine would ignore it, so it refuses it."
    else:
        message = f"{name or 'The body'}: {first['msg']}"
    return _error_response(EngineError(message, param=name, code="invalid_value"))


async def _on_http(_http: Request, error: HTTPException) -> Response:
    return _error_response(EngineError(str(error.detail), status=error.status_code))


async def _on_bug(http: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex[:12]
    log.error("engine.bug id=%s path=%s", incident, http.url.path, exc_info=error)
    return _error_response(
        EngineError(f"The engine failed; its log says why under {incident}.", status=500, kind="server_error")
    )


def _error_response(error: EngineError) -> JSONResponse:
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body(), status_code=error.status, headers=headers)
