"""What the jobs of one worker process share: settings, the database, and whether the worker is being stopped."""

import math
import mmap
from dataclasses import dataclass, field
from random import Random, SystemRandom

from app.db.session import SessionFactory, make_engine, make_session_factory
from app.engine.client import EngineClient
from app.settings import Settings

FROZEN_LEASES = 10
"""A worker's transaction that has done nothing for so many leases of a round is that of a frozen process, which would
keep the round that it has locked from everybody else."""


class StopFlag:
    """A byte of memory that the worker's parent process shares with its children.

    Celery tells a pool's processes nothing of a warm shutdown; a job of hours looks here to know that it must end.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)  # anonymous and shared: it survives the fork

    def set(self) -> None:
        """Ask all jobs to come to an end that can be taken up again."""
        self._byte[0] = 1

    def __bool__(self) -> bool:
        """Whether that was asked."""
        return self._byte[0] == 1


@dataclass(frozen=True, slots=True)
class Context:
    """Built once in every process that runs jobs, after the fork."""

    settings: Settings
    factory: SessionFactory
    stopping: StopFlag = field(default_factory=StopFlag)
    rng: Random = field(default_factory=SystemRandom)
    """Seeds of sampling, sides and jitter come from here."""

    @classmethod
    def build(cls, settings: Settings, stopping: StopFlag | None = None) -> "Context":
        """A context with connections of its own."""
        engine = make_engine(settings, idle_transaction_seconds=FROZEN_LEASES * settings.round_lease_seconds)
        return cls(settings, make_session_factory(engine), StopFlag() if stopping is None else stopping)

    def close(self) -> None:
        """Close the connections to the database."""
        bound = self.factory.kw["bind"]
        bound.dispose()

    def engine(self, *, at_most_seconds: float = math.inf) -> EngineClient:
        """A client of the sampling engine, for a ``with``; ``at_most_seconds`` of silence, if that is shorter."""
        settings = self.settings
        return EngineClient(
            settings.engine_url,
            settings.engine_secret.get_secret_value(),
            min(settings.engine_timeout_seconds, at_most_seconds),
            kind=settings.engine_kind,
        )
