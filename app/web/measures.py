"""What this process counts of itself, for ``/metrics``: requests by route template, and connections to Postgres.

Several web processes on one port count together, in files below ``PROMETHEUS_MULTIPROC_DIR``: whichever of them is
asked tells of all. ``hone up`` names that folder (``HONE_WEB_PROCESSES``); the library reads it when it is imported.
"""

import os
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, QueuePool

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measures:
    """The counters of a process, or of all that share a folder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._folder = os.environ.get(SHARED_FOLDER)
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hone_http_requests",
            "Requests that were answered, by route template and class of status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "hone_http_request_duration_seconds",
            "From the first byte of a request to the last one of its answer; streams count to their end.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_use = Gauge(
            "hone_database_connections_in_use",
            "Connections to Postgres that requests hold.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        limit = Gauge(
            "hone_database_connections_limit",
            "Connections to Postgres that the web server may hold.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        pool = engine.pool
        limit.set(pool.size() + max(0, pool._max_overflow) if isinstance(pool, QueuePool) else 0)  # noqa: SLF001

    def saw(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered. ``route`` is a template: there are only so many."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, f"{status // 100}xx").inc()
        self._durations.labels(method, route).observe(seconds)
        self._look_at_pool()

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        self._look_at_pool()
        if self._folder is None:
            return generate_latest(self._registry)
        for file in Path(self._folder).glob("gauge_live*.db"):
            number = int(file.stem.rpartition("_")[2])
            if not psutil.pid_exists(number):
                mark_process_dead(number, self._folder)  # type: ignore[no-untyped-call]
        together = CollectorRegistry()
        MultiProcessCollector(together, self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _look_at_pool(self) -> None:
        pool = self._engine.pool
        self._in_use.set(pool.checkedout() if isinstance(pool, QueuePool) else 0)
