"""One job: prepare, train, publish. ``JOB_DIR`` in, ``JOB_DIR/attempt-<token>/version`` out."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from app.rounds.spec import GROUPS_FILE, Spec, SpecError
from app.versions.manifest import VersionInfo, verify
from worker.trainer.audit import Finding
from worker.trainer.checkpoint import Checkpoints
from worker.trainer.distributed import ALONE, AgreedStop, Crew
from worker.trainer.errors import RefusedError
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.loop import Loop
from worker.trainer.metrics import Listener
from worker.trainer.moving import MovingReference
from worker.trainer.noise import dpop_noise
from worker.trainer.order import steps
from worker.trainer.outcome import outcome, summary
from worker.trainer.policy import make_trainable
from worker.trainer.prepare import Prepared, precision, prepare, reference_logps, step_work, verified
from worker.trainer.publish import VERSION_DIRECTORY, publish_version
from worker.trainer.report import Report
from worker.trainer.selfcheck import DELTA_SAMPLE, step_zero
from worker.trainer.split import Split
from worker.trainer.stopping import over_budget

log = logging.getLogger(__name__)

GROUPS_DIGEST = "groups_sha256"
"""Of the figures in version.json: the SHA-256 of the groups the version was trained on."""
FREE_SETTINGS = frozenset(
    {
        "tokens_per_row",
        "gradient_checkpointing",
        "compile",
        "eval_every_steps",
        "checkpoint_every_steps",
        "checkpoint_every_seconds",
        "displacement_alarm_nats",
        "processes",
        "nodes",
        "rendezvous",
    }
)
"""Settings that may change between attempts: a checkpoint stays good, for they do not change what is learned."""


def run(directory: Path, token: str, stop: Stop, listen: Listener, crew: Crew = ALONE) -> Path:
    """Run the job in ``directory``, or resume it; returns the version directory.

    The caller holds the lock; all of a crew run it together. What it raises, ``errors.explain`` turns into exit code
    and last line.
    """
    attempt = directory / f"attempt-{token}"
    if crew.first(crew.main and _is_finished(directory, attempt / VERSION_DIRECTORY)):
        return attempt / VERSION_DIRECTORY
    report = Report(directory, AgreedStop(stop, crew) if crew.size > 1 else stop, listen, speaks=crew.main)
    prepared = prepare(directory, report, crew)
    loop = _loop(directory, prepared, report)
    state = loop.run()
    report.phase("publishing", step=state.step, steps=loop.total_steps)
    trained = outcome(prepared, loop)
    digest = None
    if trained is not None:
        over = over_budget(state.evaluations, state.recent_kl, trained.step, prepared.spec.settings)
        if over is not None:
            report.emit({"kind": "over_budget", "step": trained.step, "message": over})
        found = {"over_kl_budget": over, GROUPS_DIGEST: _groups_digest(directory)}
        metrics = summary(prepared, loop, trained) | found
        context = prepared.info.context_length
        _, digest = publish_version(attempt, trained.policy, prepared.spec, context_length=context, metrics=metrics)
    digest = crew.first(digest)
    version = attempt / VERSION_DIRECTORY
    report.work.done = report.work.total
    done = {"version": str(version), "digest": digest, "step": state.step, "steps": loop.total_steps}
    report.emit({"kind": "done"} | done)
    return version


def _is_finished(directory: Path, version: Path) -> bool:
    """Whether the version lies there already that the job asks for; one that was trained otherwise is removed.

    Raises:
        ManifestError: what lies there is damaged.
    """
    if not version.is_dir():
        return False
    verify(version)
    made, spec = VersionInfo.read(version), Spec.read(directory)
    asked_for = _decisive(spec) | {"groups": _groups_digest(directory)}
    found = {"groups": made.metrics.get(GROUPS_DIGEST)}
    try:
        found |= _decisive(Spec.from_dict(made.spec))
    except SpecError as error:
        log.warning("%s was made by another release: %s", version, error)
    if found == asked_for:
        return True
    log.warning("%s was trained with other settings, models or examples; it is removed, and training starts", version)
    shutil.rmtree(version)
    return False


def _decisive(spec: Spec) -> dict[str, Any]:
    """What of a spec decides what is learned."""
    settings = {name: value for name, value in spec.settings.to_dict().items() if name not in FREE_SETTINGS}
    return {"settings": settings, "start": spec.start.digest, "reference": spec.reference.digest}


def _groups_digest(directory: Path) -> str:
    return hashlib.sha256((directory / GROUPS_FILE).read_bytes()).hexdigest()


def audit(directory: Path, stop: Stop, listen: Listener) -> None:
    """Only the audit of the job's data and model; writes no checkpoint and no version."""
    report = Report(directory, stop, listen)
    prepared = prepare(directory, report)
    everything = prepared.examples.all
    sample = everything[:: max(1, len(everything) // DELTA_SAMPLE)][:DELTA_SAMPLE]
    few = replace(prepared, examples=replace(prepared.examples, train=sample, eval=[]), mismatched=({}, {}))
    reference = reference_logps(directory, few, report)
    policy = make_trainable(prepared.policy, prepared.spec.settings)
    forward = Forward(policy.model, autocast=prepared.forward.autocast_dtype)
    try:
        prepared.audit.add(_step_zero(few, forward, reference))
    finally:
        report.audit(prepared.audit)


def _loop(directory: Path, prepared: Prepared, report: Report) -> Loop:
    """The training loop, at its first step or at the newest checkpoint's."""
    examples, settings = prepared.examples, prepared.spec.settings
    reference = reference_logps(directory, prepared, report)
    policy, forward, crew = prepared.policy, prepared.forward, prepared.crew
    if crew.size == 1:
        policy = make_trainable(policy, settings)
        forward = Forward(policy.model, autocast=forward.autocast_dtype)
    loop = Loop(
        policy,
        forward,
        settings,
        prepared.passes,
        train=Split(examples.train, reference, prepared.mismatched[0]),
        held_out=Split(examples.eval, reference, prepared.mismatched[1]),
        checkpoints=Checkpoints(directory, crew),
        fingerprint=_fingerprint(directory, prepared),
        stop=report.stop,
        emit=report.emit,
        on_tokens=_counter(report),
        moving=_moving(prepared),
        crew=crew,
    )
    try:
        prepared.audit.add(_step_zero(prepared, forward, reference))
    finally:
        report.audit(prepared.audit)
    resumed = loop.resume()
    if crew.main:
        report.metrics.rewind(resumed)
    if resumed:
        report.work.done += sum(step_work(prepared, step) for step in steps(examples.train, settings)[:resumed])
        report.emit({"kind": "resumed", "step": resumed, "steps": loop.total_steps})
    report.phase("training", step=resumed, steps=loop.total_steps)
    return loop


def _step_zero(prepared: Prepared, forward: Forward, reference: Mapping[str, Tensor]) -> list[Finding]:
    spec, examples, path = prepared.spec, prepared.examples.all, prepared.passes.path
    same = spec.reference.digest == spec.start.digest
    return [
        step_zero(forward, examples, reference, spec.settings, path, same_model=same),
        *dpop_noise(forward, examples, spec.settings, path),
    ]


def _fingerprint(directory: Path, prepared: Prepared) -> str:
    """Digest of everything that decides what is learned, step by step."""
    decisive = _decisive(prepared.spec) | {
        "groups": _groups_digest(directory),
        "forward": [prepared.passes.path, precision(prepared.forward), prepared.forward.device.type],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _moving(prepared: Prepared) -> MovingReference | None:
    """The reference of the loss, where the settings let it move."""
    spec, settings = prepared.spec, prepared.spec.settings
    if settings.reference_sync_steps is None:
        return None
    if prepared.crew.size > 1:
        raise RefusedError(
            f"a reference that moves trains in one process, and this is one of {prepared.crew.size}; start one, or "
            "remove reference_sync_steps"
        )
    return MovingReference.load(
        spec.reference,
        verified(spec.reference),
        prepared.forward,
        steps=settings.reference_sync_steps,
        alpha=settings.reference_sync_alpha,
    )


def _counter(report: Report) -> Callable[[int], None]:
    def count(tokens: int) -> None:
        report.work.done += tokens

    return count
