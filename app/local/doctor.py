"""``hone doctor``: looks at every part of an installation, says what is wrong and how to mend it; changes nothing."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import redis
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from app.db import migrations
from app.db.base import utcnow
from app.db.session import make_engine
from app.db.tables import OutboxMessage, Project, Round, Tick, Version
from app.engine.places import addresses
from app.local import net, ping, stack
from app.local.lock import holder, is_locked, require_writable
from app.local.names import unknown_settings
from app.local.postgres_files import abandoned
from app.settings import Settings
from app.versions import manifest

State = Literal["ok", "note", "wrong"]
LOW_DISK_BYTES = 2 * 2**30
OUTBOX_LATE = timedelta(minutes=2)
LATE_TICKS = 3
"""So many intervals without a tick are too many."""
LEAST_TICK_SECONDS = 10.0
"""However short the intervals are."""


@dataclass(frozen=True)
class Finding:
    """What is known of one part: its state, what was seen, and what to do about it (empty when nothing)."""

    part: str
    state: State
    seen: str
    mend: str = ""


def examine(settings: Settings, *, expect_running: bool = False) -> Iterator[Finding]:
    """Every finding, in the order in which the parts depend on each other.

    Args:
        settings: with a database URL, where there is a database to ask.
        expect_running: no ``hone up`` on the data directory is wrong.
    """
    for line in unknown_settings(os.environ):
        yield Finding("settings", "note", line)
    yield from _data_directory(settings)
    yield _stack(settings, expect_running=expect_running)
    engine = make_engine(settings) if settings.database_url else None
    if engine is None:
        yield Finding("postgres", "note", "not running", "`hone up` starts it")
        return
    try:
        yield from _database(settings, engine)
    finally:
        engine.dispose()
    yield _redis(settings)
    yield from _programs(settings)


def _data_directory(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if not data.is_dir():
        yield Finding("data", "wrong", f"{data} does not exist", "`hone up` makes it; or name another with --data")
        return
    try:
        require_writable(data)
        yield Finding("data", "ok", str(data))
    except OSError as error:
        seen = f"{data} cannot be written ({(error.strerror or str(error)).lower()})"
        yield Finding("data", "wrong", seen, "make room, mount it for writing, or run Hone as its owner")
    free = shutil.disk_usage(data).free
    seen = f"{free / 2**30:.1f} GiB free"
    if free < LOW_DISK_BYTES:
        mend = "make room (`hone prune --dry-run`): a round needs space for a checkpoint and a version"
        yield Finding("disk", "wrong", seen, mend)
    else:
        yield Finding("disk", "ok", seen)
    gone = abandoned()
    if gone:
        seen = ", ".join(f"{home} (of {owner})" for home, owner in gone.items())
        yield Finding(
            "leftover",
            "note",
            f"databases of data directories that are gone, or not mounted: {seen}",
            f"only if nobody wants them back: rm -r {' '.join(map(str, gone))}",
        )


def _stack(settings: Settings, *, expect_running: bool) -> Finding:
    data = settings.data
    start = f"hone up --data {data}"
    absent: State = "wrong" if expect_running else "note"
    running = stack.running(data)
    if running is not None:
        seen = f"`hone up` (pid {running.pid}) on {running.url} since {running.started_at}"
        return Finding("stack", "ok", seen if running.ready else f"{seen}, not ready yet")
    if is_locked(data):
        by = holder(data)
        if by.startswith("`hone up`"):
            return Finding("stack", "note", f"{by} is starting or stopping")
        return Finding("stack", absent, f"not running; {by} works on the data directory", f"when that is done: {start}")
    left = stack.left_behind(data)
    if left is not None:
        seen = f"not running: `hone up` (pid {left.pid}, since {left.started_at}) ended without being told to"
        return Finding("stack", "wrong", seen, f"{start} (nothing that was saved is lost)")
    if settings.database_url:
        seen = "no `hone up` on this data directory; looking at the configured servers"
        return Finding("stack", absent, seen, start if expect_running else "")
    return Finding("stack", absent, "not running", start)


def _database(settings: Settings, engine: Engine) -> Iterator[Finding]:
    try:
        with engine.connect() as connection:
            number = connection.scalar(text("show server_version"))
        revision = migrations.current(engine)
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        yield Finding("postgres", "wrong", f"does not answer ({reason})", "check HONE_DATABASE_URL, and that it runs")
        return
    yield Finding("postgres", "ok", f"PostgreSQL {number}")
    if revision != migrations.head():
        seen = f"revision {revision or 'none'}, this Hone needs {migrations.head()}"
        yield Finding("migrations", "wrong", seen, "hone migrate")
        return
    yield Finding("migrations", "ok", f"at revision {revision}")
    yield _tick(settings, engine)
    yield _outbox(engine)
    yield from _rounds(engine)
    yield from _versions(settings, engine)


def _tick(settings: Settings, engine: Engine) -> Finding:
    """A tick that does not come: beat has died, or Redis or the worker, or the worker has no hand free."""
    with engine.connect() as connection:
        at = connection.scalar(select(Tick.at))
    if at is None:
        return Finding("beat", "note", "no tick yet; the first comes when the worker starts")
    patience = timedelta(seconds=max(LATE_TICKS * settings.reconcile_seconds, LEAST_TICK_SECONDS))
    running = stack.running(settings.data)
    expected = max(at, datetime.fromisoformat(running.started_at)) if running is not None else at
    silent = (utcnow() - at).total_seconds()
    if utcnow() - expected <= patience:
        return Finding("beat", "ok", f"last tick {max(0.0, silent):.0f} s ago")
    return Finding(
        "beat",
        "wrong",
        f"no tick for {silent:.0f} s; one should come every {settings.reconcile_seconds:g} s",
        "start beat and the worker (`hone up`; logs/beat.log, logs/worker.log); a worker whose processes are all "
        "busy ticks late, too",
    )


def _outbox(engine: Engine) -> Finding:
    """What is due and not sent says whether the worker has reached Redis lately."""
    late = select(OutboxMessage.due_at).where(OutboxMessage.sent_at.is_(None)).order_by(OutboxMessage.due_at).limit(1)
    with engine.connect() as connection:
        oldest = connection.scalar(late)
    if oldest is None or utcnow() - oldest < OUTBOX_LATE:
        return Finding("wake-ups", "ok", "none is late")
    minutes = (utcnow() - oldest).total_seconds() / 60
    return Finding("wake-ups", "wrong", f"one has waited for {minutes:.0f} min", "start the worker and beat: `hone up`")


def _rounds(engine: Engine) -> Iterator[Finding]:
    """A round whose lease ran out and that nobody took over is stuck; so is one that nobody claims."""
    active = (
        select(Project.slug, Round.number, Round.state, Round.lease_expires_at, Round.created_at)
        .join(Project, Project.id == Round.project_id)
        .where(Round.state.in_(("queued", "preparing", "training", "publishing")))
    )
    with engine.connect() as connection:
        rows = connection.execute(active).all()
    stuck = 0
    for row in rows:
        silent = utcnow() - (row.lease_expires_at or row.created_at)
        if silent > OUTBOX_LATE:
            stuck += 1
            seen = f"{row.slug}, round {row.number}: {row.state}, and nobody has worked on it for {silent}"
            yield Finding(
                "rounds", "wrong", seen.split(".", maxsplit=1)[0], "start the worker (`hone up`), or cancel it"
            )
    if not stuck:
        yield Finding("rounds", "ok", f"{len(rows)} at work" if rows else "none at work")


def _versions(settings: Settings, engine: Engine) -> Iterator[Finding]:
    """Every current version against its manifest and the digest that the database has."""
    current = (
        select(Project.slug, Version.id, Version.number, Version.digest)
        .join(Project, Project.id == Version.project_id)
        .where(Version.state == "current", Project.archived_at.is_(None))
    )
    with engine.connect() as connection:
        rows = connection.execute(current).all()
    for row in rows:
        name = f"{row.slug}, version {row.number}"
        mend = "put it back with `hone restore BACKUP --versions-only`, or roll back to another version"
        try:
            digest = manifest.verify(settings.versions_dir / str(row.id))
        except (manifest.ManifestError, OSError) as error:
            yield Finding("versions", "wrong", f"{name}: {error}", mend)
            continue
        if digest != row.digest:
            yield Finding("versions", "wrong", f"{name} has digest {digest[:12]}…, not {row.digest[:12]}…", mend)
        else:
            yield Finding("versions", "ok", f"{name} verifies ({digest[:12]}…)")


def _redis(settings: Settings) -> Finding:
    if not settings.redis_url:
        return Finding("redis", "note", "not running", "`hone up` starts it")
    problem = ping.redis_problem(settings.redis_url)
    if problem:
        return Finding("redis", "wrong", f"does not answer ({problem})", "start it, or check HONE_REDIS_URL")
    try:
        with ping.client(settings.redis_url) as client:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
            durable = client.config_get("appendonly").get("appendonly")
    except redis.RedisError as error:  # hosted ones refuse CONFIG
        seen = f"answers; its settings cannot be read ({error})"
        return Finding("redis", "note", seen, "see to it that it has maxmemory-policy noeviction and appendonly yes")
    if policy != "noeviction" or durable != "yes":
        seen = f"maxmemory-policy {policy}, appendonly {durable}"
        return Finding("redis", "note", seen, "set noeviction and appendonly yes, or wake-ups may arrive late")
    return Finding("redis", "ok", "answers; keeps what it is told")


def _programs(settings: Settings) -> Iterator[Finding]:
    running = stack.running(settings.data)
    if settings.redis_url:
        yield _worker(settings.redis_url)
    if settings.engine_url:
        secret = settings.engine_secret.get_secret_value()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        for url in addresses(settings.engine_url):
            yield _answers("engine", url, "/health", headers, settings.data / "logs" / "engine.log")
    if running is not None:
        yield _answers("web", running.url, "/readyz", {}, settings.data / "logs" / "web.log")


def _worker(redis_url: str) -> Finding:
    try:
        names = ping.workers(redis_url, timeout_seconds=2.0)
    except OSError as error:
        return Finding("worker", "wrong", f"cannot be asked ({error})", "mend Redis first")
    if not names:
        return Finding("worker", "wrong", "no worker answers", "start it: `hone up` (its log: DATA/logs/worker.log)")
    return Finding("worker", "ok", f"{', '.join(names)} answers")


def _answers(part: str, url: str, path: str, headers: dict[str, str], log: Path) -> Finding:
    status, body = net.get(url, path, headers=headers)
    if status == 200:
        return Finding(part, "ok", f"{url} answers")
    said = body.decode(errors="replace").strip().splitlines()
    seen = f"{url}{path} says {status}: {said[0][:300] if said else ''}" if status else f"{url} does not answer"
    return Finding(part, "wrong", seen, f"see {log}")
