"""``/metrics`` for Prometheus: what this web server counts of itself, and how the installation stands.

How it stands is read when it is asked for: from Postgres, the engine and the disk, in bounded time. What does not
answer is left out, and ``hone_database_up`` or ``hone_engine_up`` says so. No label names a person or a project.
"""

import asyncio
import hmac
import ipaddress
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException

from app.db.session import SessionFactory, transaction
from app.db.tables import ComparisonSlot, OutboxMessage, Project, RefillCount, Round, Tick
from app.engine.client import EngineClient
from app.errors import DomainError
from app.readiness import missing_files
from app.settings import Settings
from app.web.bounded import Bounded
from app.web.guard import public
from app.web.measures import Measures

log = logging.getLogger("hone.web")
router = APIRouter(include_in_schema=False)

SCRAPE_SECONDS = 2.0
"""How long Postgres has to answer everything, and the engine beside it."""

_STATEMENT_MILLISECONDS = 1500
_ROUND_STATES = ("queued", "preparing", "training", "publishing", "done", "failed", "cancelled")
_ACTIVE = ("queued", "preparing", "training", "publishing")
_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers by which a proxy shows that it stands between."""


Look = Callable[[Session, Settings], Iterable[Metric]]


class Figures:
    """How the installation stands, read at most once at a time."""

    def __init__(self, factory: SessionFactory, settings: Settings) -> None:
        self._settings = settings
        self._factory = factory
        secret = settings.engine_secret.get_secret_value()
        self._engine = EngineClient(settings.engine_url, secret, SCRAPE_SECONDS, kind=settings.engine_kind)
        self._database = Bounded([partial(self._ask, look) for look in LOOKS], SCRAPE_SECONDS)
        self._others = Bounded([self._disk, self._ask_engine], SCRAPE_SECONDS)

    async def read(self) -> list[Metric]:
        """What was answered in time."""
        answered, others = await asyncio.gather(self._database.found(), self._others.found())
        up = len(answered) == len(LOOKS) and None not in answered
        found = [metric for metrics in (*answered, *others) for metric in metrics or ()]
        if len(others) < 2:
            found.append(_gauge("hone_engine_up", "Whether the sampling engine answers.", 0))
        return [_gauge("hone_database_up", "Whether Postgres answered all that is asked here.", int(up)), *found]

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()

    def _ask(self, look: Look) -> list[Metric] | None:
        try:
            with transaction(self._factory) as db:
                db.execute(text(f"SET LOCAL statement_timeout = {_STATEMENT_MILLISECONDS}"))
                return list(look(db, self._settings))
        except SQLAlchemyError as error:
            log.warning("/metrics: %s", error)
            return None

    def _disk(self) -> list[Metric] | None:
        try:
            usage = shutil.disk_usage(self._settings.data)
        except OSError:
            return None
        return [
            _gauge("hone_data_free_bytes", "Free on the disk of the data directory.", usage.free),
            _gauge("hone_data_size_bytes", "Size of the disk of the data directory.", usage.total),
        ]

    def _ask_engine(self) -> list[Metric] | None:
        up = bool(self._settings.engine_url) and self._engine.health()
        found: list[Metric] = [_gauge("hone_engine_up", "Whether the sampling engine answers.", int(up))]
        if up:
            try:
                asleep = self._engine.is_sleeping()
            except DomainError:  # it does not tell
                return found
            found.append(_gauge("hone_engine_asleep", "Whether the engine sleeps, as in rounds.", int(asleep)))
        return found


def _tick(db: Session, _settings: Settings) -> Iterable[Metric]:
    age = db.scalar(select(_seconds_since(Tick.at)))
    if age is not None:
        yield _gauge("hone_tick_age_seconds", "Since the worker last looked for what is due.", age)


def _rounds(db: Session, settings: Settings) -> Iterable[Metric]:
    counts = dict(db.execute(select(Round.state, func.count()).group_by(Round.state)).all())
    rounds = GaugeMetricFamily("hone_rounds", "Rounds by state.", labels=["state"])
    for state in _ROUND_STATES:
        rounds.add_metric([state], counts.get(state, 0))
    yield rounds
    silence = db.scalar(
        select(func.max(_seconds_since(Round.lease_expires_at))).where(
            Round.state.in_(_ACTIVE), Round.lease_expires_at.is_not(None)
        )
    )
    if silence is not None:
        age = max(0.0, float(silence) + settings.round_lease_seconds)
        yield _gauge("hone_round_silence_seconds", "Since the running round's worker last gave a sign of life.", age)


def _outbox(db: Session, _settings: Settings) -> Iterable[Metric]:
    waiting = select(func.count(), func.max(_seconds_since(OutboxMessage.created_at)))
    count, age = db.execute(waiting.where(OutboxMessage.sent_at.is_(None))).one()
    yield _gauge("hone_outbox_messages", "Wake-ups that wait to be sent.", count)
    yield _gauge("hone_outbox_oldest_age_seconds", "Since the oldest of them was written.", age or 0)


def _leases(db: Session, _settings: Settings) -> Iterable[Metric]:
    now = func.clock_timestamp()
    over = {
        "comparison": (ComparisonSlot.state == "leased", ComparisonSlot.lease_expires_at < now),
        "round": (Round.state.in_(_ACTIVE), Round.lease_expires_at < now),
        "refill": (Project.archived_at.is_(None), Project.refill_lease_until < now),
    }
    expired = GaugeMetricFamily(
        "hone_expired_leases", "Leases that ran out and that nobody has taken back yet.", labels=["of"]
    )
    for name, conditions in over.items():
        expired.add_metric([name], db.scalar(select(func.count()).where(*conditions)) or 0)
    yield expired


def _stock(db: Session, _settings: Settings) -> Iterable[Metric]:
    query = (
        select(ComparisonSlot.state, func.count())
        .where(ComparisonSlot.state.in_(("free", "leased")))
        .group_by(ComparisonSlot.state)
    )
    counts = dict(db.execute(query).all())
    slots = GaugeMetricFamily("hone_vote_slots", "Votes that comparisons still ask for, by state.", labels=["state"])
    for state in ("free", "leased"):
        slots.add_metric([state], counts.get(state, 0))
    yield slots


def _files(db: Session, settings: Settings) -> Iterable[Metric]:
    missing = missing_files(db, settings.versions_dir)
    yield _gauge("hone_missing_versions", "Current versions whose files are not in the data directory.", missing)


def _refill(db: Session, _settings: Settings) -> Iterable[Metric]:
    failing = select(func.count(), func.max(Project.refill_failures)).where(
        Project.archived_at.is_(None), Project.refill_failures > 0
    )
    count, most = db.execute(failing).one()
    yield _gauge("hone_refill_failing_projects", "Projects whose last refill failed.", count)
    yield _gauge("hone_refill_failures_in_a_row", "Of the project where it failed most often in a row.", most or 0)
    sums = dict(db.execute(select(RefillCount.what, func.sum(RefillCount.count)).group_by(RefillCount.what)).all())
    yield CounterMetricFamily(
        "hone_refill_sampling_seconds", "Time spent sampling.", value=float(sums.pop("seconds", 0))
    )
    met = CounterMetricFamily("hone_refill_events", "What the refill met, as the overview names it.", labels=["what"])
    for what, number in sorted(sums.items()):
        met.add_metric([what], float(number))
    yield met


def _seconds_since(moment: Any) -> Any:
    return func.extract("epoch", func.clock_timestamp() - moment)


LOOKS: Sequence[Look] = (_tick, _rounds, _outbox, _leases, _stock, _refill, _files)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=float(value))


class _Read(Collector):
    """What was read, for the library to write."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All of it."""
        return self._metrics


@router.get("/metrics", dependencies=[public()])
async def metrics(request: Request) -> Response:
    """For Prometheus, with the token of HONE_METRICS_TOKEN; without one, for this machine alone."""
    settings: Settings = request.app.state.settings
    measures: Measures = request.app.state.measures
    figures: Figures = request.app.state.figures
    if not may_read(request, settings.metrics_token.get_secret_value()):
        if settings.metrics_token.get_secret_value():
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        raise HTTPException(404)  # as if there were nothing
    registry = CollectorRegistry()
    registry.register(_Read(await figures.read()))
    return Response(measures.text() + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def may_read(request: Request, token: str) -> bool:
    """With the token, where there is one; else from an address of this machine that no proxy speaks for.

    It must have been asked for at such an address, too: behind a proxy that says nothing of itself, and to a browser
    on this machine that a foreign page has made take us for its own site, the server has another name.
    """
    if token:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
    if request.client is None or any(name in request.headers for name in _PROXIED):
        return False
    return _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
