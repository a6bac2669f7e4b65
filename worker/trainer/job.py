"""One job: prepare, train, publish. ``JOB_DIR`` in, ``JOB_DIR/attempt-<token>/version`` out."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.rounds.spec import GROUPS_FILE
from app.versions.manifest import verify
from worker.trainer.checkpoint import Checkpoints, State
from worker.trainer.forward import Forward
from worker.trainer.lifetime import Stop
from worker.trainer.loop import Loop
from worker.trainer.metrics import Listener
from worker.trainer.moving import MovingReference
from worker.trainer.order import steps
from worker.trainer.policy import make_trainable
from worker.trainer.prepare import Prepared, precision, prepare, reference_logps, step_work, verified
from worker.trainer.publish import VERSION_DIRECTORY, publish_version
from worker.trainer.report import Report
from worker.trainer.selfcheck import step_zero
from worker.trainer.split import Split

FREE_SETTINGS = frozenset(
    {
        "tokens_per_row",
        "eval_every_steps",
        "checkpoint_every_steps",
        "checkpoint_every_seconds",
        "displacement_alarm_nats",
    }
)
"""Settings that may change between attempts: a checkpoint stays good, for they do not change what is learned."""


def run(directory: Path, token: str, stop: Stop, listen: Listener) -> Path:
    """Run the job in ``directory``, or resume it; returns the version directory.

    The caller holds the lock. What it raises, ``errors.explain`` turns into exit code and last line.
    """
    attempt = directory / f"attempt-{token}"
    if (attempt / VERSION_DIRECTORY).is_dir():
        verify(attempt / VERSION_DIRECTORY)
        return attempt / VERSION_DIRECTORY
    report = Report(directory, stop, listen)
    prepared = prepare(directory, report)
    loop = _loop(directory, prepared, report)
    state = loop.run()
    report.phase("publishing", step=state.step, steps=loop.total_steps)
    version, digest = publish_version(
        attempt,
        loop.policy,
        prepared.spec,
        context_length=prepared.info.context_length,
        metrics=_summary(prepared, loop, state),
    )
    report.work.done = report.work.total
    done = {"version": str(version), "digest": digest, "step": state.step, "steps": loop.total_steps}
    report.emit({"kind": "done"} | done)
    return version


def audit(directory: Path, stop: Stop, listen: Listener) -> None:
    """Only the audit of the job's data and model; writes no checkpoint and no version."""
    report = Report(directory, stop, listen)
    report.audit(prepare(directory, report).audit)


def _loop(directory: Path, prepared: Prepared, report: Report) -> Loop:
    """The training loop, at its first step or at the newest checkpoint's."""
    spec, examples, settings = prepared.spec, prepared.examples, prepared.spec.settings
    reference = reference_logps(directory, prepared, report)
    policy = make_trainable(prepared.policy, settings)
    forward = Forward(policy.model, autocast=prepared.forward.autocast_dtype)
    loop = Loop(
        policy,
        forward,
        settings,
        prepared.passes,
        train=Split(examples.train, reference, prepared.mismatched[0]),
        held_out=Split(examples.eval, reference, prepared.mismatched[1]),
        checkpoints=Checkpoints(directory),
        fingerprint=_fingerprint(directory, prepared),
        stop=report.stop,
        emit=report.emit,
        on_tokens=_counter(report),
        moving=_moving(prepared),
    )
    same = spec.reference.digest == spec.start.digest
    finding = step_zero(forward, examples.all, reference, settings, prepared.passes.path, same_model=same)
    try:
        prepared.audit.add([finding])
    finally:
        report.audit(prepared.audit)
    resumed = loop.resume()
    report.metrics.rewind(resumed)
    if resumed:
        report.work.done += sum(step_work(prepared, step) for step in steps(examples.train, settings)[:resumed])
        report.emit({"kind": "resumed", "step": resumed, "steps": loop.total_steps})
    report.phase("training", step=resumed, steps=loop.total_steps)
    return loop


def _fingerprint(directory: Path, prepared: Prepared) -> str:
    """Digest of everything that decides what is learned, step by step."""
    spec = prepared.spec
    decisive = {
        "settings": {k: v for k, v in spec.settings.to_dict().items() if k not in FREE_SETTINGS},
        "start": spec.start.digest,
        "reference": spec.reference.digest,
        "groups": hashlib.sha256((directory / GROUPS_FILE).read_bytes()).hexdigest(),
        "forward": [prepared.passes.path, precision(prepared.forward), prepared.forward.device.type],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _summary(prepared: Prepared, loop: Loop, state: State) -> dict[str, Any]:
    """The figures version.json keeps."""
    examples = prepared.examples
    trained = {
        "steps": state.step,
        "groups": len(examples.train),
        "preferences": sum(example.size for example in examples.train),
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
    }
    held_out = {"start": state.evaluations[0], "end": state.evaluations[-1]} if state.evaluations else None
    return {
        "train": loop.last | trained,
        "eval": held_out,
        "evaluations": state.evaluations,
        "learned_from": dict(examples.used),
        "left_out": dict(examples.unused),
        "displacement_alarm": state.alarm,
        "audit": prepared.audit.to_list(),
        "forward": prepared.passes.path,
        "dtype": precision(prepared.forward),
        "device": prepared.forward.device.type,
    }


def _moving(prepared: Prepared) -> MovingReference | None:
    """The reference of the loss, where the settings let it move."""
    spec, settings = prepared.spec, prepared.spec.settings
    if settings.reference_sync_steps is None:
        return None
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
