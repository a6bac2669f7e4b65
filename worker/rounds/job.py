"""One round in a worker's hands, from whatever state it is in to its end."""

import logging
import shutil
import sys
import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.db.session import transaction
from app.db.tables import Project, Round, Version
from app.preferences.groups import snapshot_lines
from app.rounds import service
from app.rounds.leases import Claimed
from app.rounds.spec import ExitCode, ModelRef, Spec, TrainingSettings
from app.rounds.states import State
from worker.context import Context
from worker.rounds.corrections import tokenise_corrections
from worker.rounds.errors import RoundFailedError
from worker.rounds.failures import explain
from worker.rounds.folder import Folder
from worker.rounds.keeper import Keeper
from worker.rounds.metrics import MetricsTail
from worker.rounds.process import end_survivor, run_process
from worker.rounds.publish import Found, adoptable, publish_and_register, remove_unregistered
from worker.rounds.quiet import engine_asleep

logger = logging.getLogger(__name__)

RESTARTS = 3
"""How often a subprocess that was killed from outside is started again by the same worker."""

_LOCKED_PAUSE_SECONDS = 2.0
_PROGRESS_SECONDS = 1.0


class Job:
    """A claimed round. ``run`` moves it on to 'done'; whatever it raises says how else it ends."""

    def __init__(self, context: Context, claimed: Claimed, keeper: Keeper) -> None:
        self.context = context
        self.round = claimed.round
        self.token = claimed.token
        self.earlier = claimed.earlier
        self.keeper = keeper
        self.folder = Folder.of(context.settings, claimed.round.id)
        self.state = cast("State", claimed.round.state)
        self.deadline = time.monotonic() + context.settings.round_limit_seconds

    def run(self) -> Version:
        """Do what is left to do.

        Raises:
            RoundFailedError, RoundCancelledError, WorkerStoppingError, LeaseLostError: how it ends instead.
        """
        self.keeper.check()
        if end_survivor(self.folder.process):
            self._note("ended the trainer of a worker that lost the round")
        if self.state == "queued":
            self._prepare()
        found = adoptable(self.folder, [*self.earlier, self.token], self.round.snapshot_hash)
        if found is None:
            self._to("training")
            self._work()
            found = Found(self.token, published=False)
        else:
            logger.info("round %s: attempt %s had finished its version already", self.round.id, found.token)
        self._to("training", "publishing")
        self.keeper.check()
        version = publish_and_register(self.context, self.round, self.token, self.folder, found)
        remove_unregistered(self.context, self.folder, [*self.earlier, self.token])
        self.folder.tidy()
        return version

    def _prepare(self) -> None:
        """Freeze the snapshot, if that was not done before a retry."""
        if self.round.kind == "dpo" and self.round.snapshot_hash is None and self.round.parent_id is not None:
            tokenise_corrections(self.context, self.round.project_id, self.folder.published(self.round.parent_id))
        with transaction(self.context.factory) as db:
            self.round = db.get_one(Round, self.round.id)
            if self.round.kind == "dpo" and self.round.snapshot_hash is None:
                service.prepare(db, self.round, self.token)
            else:
                service.advance(db, self.round.id, self.token, "queued", "preparing")
            db.refresh(self.round)
        self.state = "preparing"

    def _to(self, *states: State) -> None:
        """Advance through ``states``, from the first one not reached yet."""
        order: list[State] = ["preparing", "training", "publishing"]
        for state in states:
            back = self.state == "publishing" and state == "training" and len(states) == 1
            if order.index(state) > order.index(self.state) or back:
                with transaction(self.context.factory) as db:
                    service.advance(db, self.round.id, self.token, self.state, state)
                self.state = state

    def _work(self) -> None:
        """Run the subprocess that makes the version."""
        if self.round.kind == "import":
            self._import()  # on the CPU, a tensor at a time: the engine goes on answering
        else:
            with engine_asleep(self.context):
                self._train()
        if not self.folder.staged(self.token).is_dir():
            raise RoundFailedError(
                "trainer_failed",
                "The trainer said that it was done, but left no version. Look at the end of its log.",
                self.folder.log_tail(),
            )

    def _train(self) -> None:
        settings = self.context.settings
        with transaction(self.context.factory) as db:
            spec = self._spec(db.get_one(Version, self.round.parent_id), db.get_one(Version, self.round.reference_id))
            self.folder.write(spec, snapshot_lines(db, self.round.id))
        settings.reference_dir.mkdir(parents=True, exist_ok=True)
        metrics = MetricsTail(self.folder.metrics)
        command = [*(settings.trainer_command or [sys.executable, "-m", "worker.trainer"])]
        command += [str(self.folder.path), "--attempt", str(self.token)]
        self._run_until_done(command, self._recorder(metrics), settings.trainer_silence_seconds, "The trainer")

    def _import(self) -> None:
        with transaction(self.context.factory) as db:
            source = db.get_one(Project, self.round.project_id).base_model
        staged = self.folder.staged(self.token)
        partial = staged.with_name(".version")
        shutil.rmtree(partial, ignore_errors=True)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "worker.importing", source, str(partial)]
        limit = self.context.settings.round_limit_seconds
        self._run_until_done(command, lambda: False, limit, "The import")
        partial.rename(staged)

    def _spec(self, start: Version, reference: Version) -> Spec:
        return Spec(
            settings=TrainingSettings.from_dict(self.round.settings),
            start=self._model(start),
            reference=self._model(reference),
            snapshot_hash=self.round.snapshot_hash,
            reference_store=str(self.context.settings.reference_dir.absolute()),
        )

    def _model(self, version: Version) -> ModelRef:
        return ModelRef(str(self.folder.published(version.id)), version.digest, str(version.id))

    def _run_until_done(self, command: list[str], follow: Callable[[], bool], silence: float, what: str) -> None:
        """Run ``command`` until it exits 0; one that was killed from outside, or waits for a lock, is started again."""
        killed = 0
        waited_until = time.monotonic() + self.context.settings.round_lease_seconds
        while True:
            status = run_process(
                command,
                log=self.folder.log,
                record=self.folder.process,
                keeper=self.keeper,
                follow=follow,
                silence_seconds=silence,
                deadline=self.deadline,
            )
            if status == ExitCode.DONE:
                return
            self.keeper.check()
            if status == ExitCode.LOCKED and time.monotonic() < waited_until:
                time.sleep(_LOCKED_PAUSE_SECONDS)
            elif (status < 0 or status == ExitCode.STOPPED) and killed < RESTARTS:
                killed += 1
                self._note(f"{what} was ended from outside (status {status}); it goes on from its last checkpoint")
            else:
                raise explain(status, self.folder.log, what=what)

    def _recorder(self, metrics: MetricsTail) -> Callable[[], bool]:
        """Follow the metrics and show them on the round, about once a second."""
        shown = 0.0
        stale = False

        def follow() -> bool:
            nonlocal shown, stale
            fresh = metrics.read()
            stale = stale or fresh
            if stale and time.monotonic() - shown >= _PROGRESS_SECONDS:
                shown, stale = time.monotonic(), False
                try:
                    with transaction(self.context.factory) as db:
                        service.record_progress(db, self.round.id, self.token, metrics.progress)
                except SQLAlchemyError as error:  # hours of training do not end for it; the keeper knows when to stop
                    logger.warning("round %s: progress is not shown: %s", self.round.id, error)
            return fresh

        return follow

    def _note(self, text: str) -> None:
        with transaction(self.context.factory) as db:
            service.note(db, self.round.id, self.token, text)


def forget(context: Context, round_id: UUID, tokens: list[UUID]) -> None:
    """A round was cancelled: nothing of it shall be left but its record."""
    folder = Folder.of(context.settings, round_id)
    remove_unregistered(context, folder, tokens)
    folder.tidy()
