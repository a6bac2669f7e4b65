"""Keeping vLLM or SGLang up to date: adapters pushed, old ones drained and unloaded, and who serves what written down.

Hone's own engine finds versions by their names and forgets the least recently used ones itself: it is left alone.
A version's name in the engine is its id, so that a promotion never changes what a name means; what is asked for before
it was pushed is pushed then (``app.engine.pushing``). Full models change hands by address: see ``docs/engine.md``.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app import logs
from app.db.session import transaction
from app.db.tables import Project, Round, Version
from app.engine.client import EngineClient
from app.engine.places import Card
from app.engine.pushing import push
from app.errors import DomainError
from app.journal import audit
from app.projects.refilling import refilling_of
from app.versions.queries import predecessor
from worker.context import Context

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Silence after which the engine is left alone until the next tick."""

_READ_REWARDS = ("uncertainty", "information")
"""Strategies that need log-probs under what the current version was trained against."""

_LOCK = 0x686F6E65
Serving = dict[UUID, tuple[str, Card]]
"""The address that serves a version, and what it says of it."""


def serve(context: Context) -> None:
    """Look once at what the engine serves, and change what has to be changed. One process at a time does so."""
    if not context.settings.engine_url:
        return
    with _alone(context) as first:
        if not first:
            return
        try:
            with context.engine(at_most_seconds=LOOK_SECONDS) as quick:
                serving = _serving(quick)
            if any(card.owner == "hone" for _, card in serving.values()):
                return
            with context.engine() as engine:
                changed = _push(context, engine, serving) + _unload(context, engine, serving)
            if changed:
                with context.engine(at_most_seconds=LOOK_SECONDS) as quick:
                    serving = _serving(quick)
        except DomainError as error:
            logger.info("what the engine serves cannot be seen now: %s", error)
            return
        with transaction(context.factory) as db:
            note(db, {version: url for version, (url, _) in serving.items()})


def wanted(db: Session) -> set[UUID]:
    """Versions that are sampled or measured: current ones, and what projects set against them."""
    found: set[UUID] = set()
    for project in db.scalars(select(Project).where(Project.archived_at.is_(None))):
        settings = refilling_of(project.refilling)
        ready = Version.state.in_(["current", "candidate"] if settings.candidate_percent else ["current"])
        found |= set(
            db.scalars(
                select(Version.id).where(Version.project_id == project.id, ready | (Version.gate_state == "open"))
            )
        )
        before = predecessor(db, project) if settings.previous_percent else None
        if before is not None:
            found.add(before.id)
        if settings.strategy in _READ_REWARDS:
            references = select(Round.reference_id).where(
                Round.version_id.in_(found), Round.project_id == project.id, Round.reference_id.is_not(None)
            )
            found |= {id_ for id_ in db.scalars(references) if id_ is not None}
    return found


def note(db: Session, serving: dict[UUID, str]) -> None:
    """Write down which address serves which version, and what changed about that."""
    for version in db.scalars(select(Version).where(Version.served_by.is_not(None) | Version.id.in_(serving))):
        now = serving.get(version.id)
        if now == version.served_by:
            continue
        db.execute(update(Version).where(Version.id == version.id).values(served_by=now))
        audit.record(
            db,
            actor_id=None,
            project_id=version.project_id,
            action="version.serve" if now else "version.unload",
            subject=f"version:{version.id}",
            number=version.number,
            address=now or version.served_by,
        )


def _serving(engine: EngineClient) -> Serving:
    found: Serving = {}
    for name, seen in engine.serving().items():
        try:
            found[UUID(name)] = seen
        except ValueError:
            continue  # a model of somebody else's
    return found


def _push(context: Context, engine: EngineClient, serving: Serving) -> int:
    with transaction(context.factory) as db:
        missing = db.execute(
            select(Version.id, Version.project_id, Project.slug)
            .join(Project, Project.id == Version.project_id)
            .where(Version.id.in_(wanted(db)), Version.id.not_in(set(serving)), Version.kind == "adapter")
        ).all()
    done = 0
    for version_id, project_id, slug in missing:
        try:
            push(engine, context.settings.versions_dir, version_id)
            done += 1
        except DomainError as error:  # the refill, which needs it, shows admins the same
            with logs.about(project=str(project_id), slug=slug):
                logger.warning("version %s cannot be pushed: %s", version_id, error)
    return done


def _unload(context: Context, engine: EngineClient, serving: Serving) -> int:
    """Adapters of ours that nobody samples any more, once the last of their requests is done."""
    adapters = {version_id for version_id, (_, card) in serving.items() if card.parent is not None}
    left = timedelta(seconds=context.settings.engine_timeout_seconds)
    with transaction(context.factory) as db:
        keep = wanted(db)
        at_rest = func.coalesce(Version.retired_at, Version.created_at) < func.clock_timestamp() - left
        old = db.execute(
            select(Version.id, Version.project_id, Project.slug, at_rest)
            .join(Project, Project.id == Version.project_id)
            .where(Version.id.in_(adapters - keep))
        ).all()
    done = 0
    for version_id, project_id, slug, rested in old:
        name = str(version_id)
        try:
            # SGLang waits for them itself; a vLLM that does not tell is given as long as an answer may take.
            busy = False if context.settings.engine_kind == "sglang" else engine.busy(name)
            if busy or (busy is None and not rested):
                continue
            engine.unload(name)
            done += 1
        except DomainError as error:
            with logs.about(project=str(project_id), slug=slug):
                logger.warning("version %s cannot be unloaded: %s", version_id, error)
    return done


@contextmanager
def _alone(context: Context) -> Iterator[bool]:
    """Whether no other process is at it. Held by the connection, not by a transaction."""
    bound = context.factory.kw["bind"]
    with bound.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": _LOCK}):
            yield False
            return
        try:
            yield True
        finally:
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": _LOCK})
