"""The composition root: settings in, an application out. Run as ``uvicorn app.main:create_app --factory``."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool

from app import api_docs, logs, metrics, readiness
from app.accounts import identity, navigation
from app.accounts import pages as accounts_pages
from app.accounts.service import ensure_first_admin
from app.accounts.turns import Turns
from app.chat import api as chat_api
from app.comparisons import answers_pages, flagged_pages
from app.comparisons import api as comparisons_api
from app.comparisons import pages as comparisons_pages
from app.db.session import SessionFactory, make_engine, make_session_factory, transaction
from app.engine.asynchronous import AsyncEngineClient
from app.engine.client import EngineClient
from app.errors import DomainError
from app.insights import api as insights_api
from app.insights import audit_pages
from app.journal.outbox import send_pending
from app.playground import pages as playground_pages
from app.preferences import api as preferences_api
from app.preferences import contradictions_api, contradictions_pages
from app.preferences import pages as preferences_pages
from app.preferences import votes_pages as cast_votes_pages
from app.projects import api as projects_api
from app.projects import members_pages, reviewing_pages, settings_pages, votes_pages
from app.projects import pages as projects_pages
from app.prompts import api as prompts_api
from app.prompts import pages as prompts_pages
from app.reviewers import api as reviewers_api
from app.reviewers import pages as reviewers_pages
from app.rounds import api as rounds_api
from app.rounds import pages as rounds_pages
from app.settings import Settings
from app.versions import api as versions_api
from app.versions import pages as versions_pages
from app.web import assets, errors, health, openapi
from app.web.after_commit import AfterCommit
from app.web.head import HeadAsGet
from app.web.language import SpokenLanguage
from app.web.limits import BodyCap, Caps, SameOrigin
from app.web.logs import RequestLog
from app.web.measures import Measures
from app.web.security import SecurityHeaders
from app.web.slashes import SlashRedirects

ROOMS = (
    *(health, assets, comparisons_pages, comparisons_api),  # those that are asked most
    *(openapi, api_docs, metrics, accounts_pages, chat_api),
    *(projects_pages, settings_pages, reviewing_pages, votes_pages, members_pages),
    *(answers_pages, flagged_pages, playground_pages),
    *(prompts_pages, rounds_pages, versions_pages),
    *(reviewers_pages, reviewers_api, preferences_pages, contradictions_pages, cast_votes_pages, audit_pages),
    *(projects_api, prompts_api, preferences_api, contradictions_api, rounds_api, versions_api, insights_api),
)
"""Modules with a ``router``; where two routes match, the first one answers."""

YOUNG_OBJECTS = 20_000
"""After so many new ones the collector looks for cycles. Python's 700 are two requests, which leave hardly any."""

STATEMENT_SECONDS = 120.0
"""No statement of a request takes so long unless it waits for a lock that nobody gives back."""

log = logging.getLogger("hone.web")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, without having touched the database yet.

    Args:
        settings: None reads the environment, as the server process does, and sets up its log.
    """
    if settings is None:
        settings = Settings()
        logs.configure(settings.log_format)
    engine = make_engine(settings, plan_once=True, statement_seconds=STATEMENT_SECONDS)
    factory = make_session_factory(engine)
    after_commit = AfterCommit(lambda: send_pending(factory, settings))

    engine_at = (settings.engine_url, settings.engine_secret.get_secret_value(), settings.engine_timeout_seconds)
    engine_client = EngineClient(*engine_at, kind=settings.engine_kind)
    async_engine_client = AsyncEngineClient(*engine_at, kind=settings.engine_kind)

    measures = Measures(engine)
    figures = metrics.Figures(factory, settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(_first_admin, factory, settings)
        gc.collect()
        gc.freeze()  # what was made up to here stays: the collector need not look through it again and again
        gc.set_threshold(YOUNG_OBJECTS)
        yield
        after_commit.close()
        engine_client.close()
        figures.close()
        await async_engine_client.aclose()
        engine.dispose()

    app = FastAPI(lifespan=lifespan, generate_unique_id_function=openapi.operation_id, **openapi.DESCRIPTION)
    app.state.settings = settings
    app.state.engine = engine
    app.state.session_factory = factory
    app.state.database_places = asyncio.Semaphore(settings.database_pool_size)
    app.state.sign_in_turns = Turns()
    app.state.after_commit = after_commit
    app.state.engine_client = engine_client
    app.state.async_engine_client = async_engine_client
    app.state.page_context = [navigation.page_context]
    app.state.lost_context = [navigation.lost_context]
    app.state.measures = measures
    app.state.figures = figures
    app.state.probe = health.Probe(readiness.checks(engine, factory, engine_client, settings.versions_dir))

    for room in ROOMS:
        app.include_router(room.router)
    errors.install(app)
    openapi.install(app)

    # The last one added is the outermost: log, headers, answers to errors, then what refuses.
    app.add_middleware(HeadAsGet)
    app.add_middleware(SlashRedirects)
    app.add_middleware(SameOrigin, trusted_origins=settings.trusted_origins, secure=settings.secure_cookies)
    caps = Caps(files=settings.max_body_bytes, chat=settings.chat_max_body_bytes)
    app.add_middleware(BodyCap, caps=caps, knows=identity.is_known)
    app.add_middleware(errors.ErrorBoundary)
    app.add_middleware(SpokenLanguage)
    app.add_middleware(SecurityHeaders, secure=settings.secure_cookies)
    app.add_middleware(RequestLog, saw=measures.saw)
    return app


def _first_admin(factory: SessionFactory, settings: Settings) -> None:
    """Make HONE_ADMIN_EMAIL an admin of a new installation. Without a database yet the server starts all the same."""
    try:
        with transaction(factory) as db:
            made = ensure_first_admin(db, settings)
    except (DBAPIError, DomainError) as error:
        log.warning("the first admin could not be made: %s", error)
    else:
        if made is not None:
            log.info("the first admin is user %s, with HONE_ADMIN_PASSWORD", made.id)
