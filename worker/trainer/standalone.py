"""From a preference file to a version: the job directory beside the output, the run, and what is told of it."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from app.rounds.spec import GROUPS_FILE, METRICS_FILE, ExitCode, ModelRef, Spec, TrainingSettings
from app.versions.manifest import VersionInfo, publish, verify
from worker.models import ModelError, load_tokenizer
from worker.trainer.base import reference_of, start_of
from worker.trainer.errors import EndedError, RefusedError, is_out_of_disk
from worker.trainer.launch import launch
from worker.trainer.lifetime import Stop, lock
from worker.trainer.metrics import Listener

ATTEMPT = "cli"
REFERENCE_STORE = "hone-reference"
"""Beside the outputs: the reference log-probs that all of a folder's runs read and add to."""
_FOLLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """What ``hone train`` was asked for."""

    model: str
    data: list[Path]
    output: Path
    reference: str | None
    settings: TrainingSettings
    eval_fraction: float | None = None
    eval_data: list[Path] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """The data's names of columns by those that are read."""
    report_to: list[str] = field(default_factory=list)
    merge: bool = False
    dry_run: bool = False


def train_file(asked: Request, stop: Stop, console: Console) -> None:
    """Train, and publish the version at the output. What it raises, ``errors.explain`` turns into the last line."""
    from worker.trainer.progress import bar
    from worker.trainer.summary import table
    from worker.trainer.tracking import Trackers

    settings, output = asked.settings, asked.output
    if "WORLD_SIZE" in os.environ:
        raise RefusedError(
            "hone train starts its own processes: give --processes instead of torchrun, or run a job directory with "
            "torchrun -m worker.trainer JOB_DIR"
        )
    _refuse_to_overwrite(output, *([_whole(output)] if asked.merge else []))
    job = _job_directory(output)
    trackers = Trackers(asked.report_to, job / "trackers", output.name, settings.to_dict())
    several = settings.processes * settings.nodes > 1 and not asked.dry_run
    try:
        with bar(console) as shown:

            def listen(event: dict[str, object]) -> None:
                shown(event)
                trackers.listen(event)

            with lock(job):
                _write_job(job, asked)
                if not several:
                    _run_here(job, stop, listen, dry_run=asked.dry_run)
            if several:
                _run_processes(job, settings, stop, listen)
    finally:
        trackers.finish()
    if asked.dry_run:
        return
    made = job / f"attempt-{ATTEMPT}" / "version"
    try:
        publish(made, output)
    except FileExistsError as error:
        raise RefusedError(
            f"{output} came to be while this was training, and a version is never overwritten; the finished one lies "
            f"in {made}: move {output} away and give the same command again, which trains nothing twice"
        ) from error
    shutil.rmtree(job / "checkpoints", ignore_errors=True)
    shutil.rmtree(job / f"attempt-{ATTEMPT}", ignore_errors=True)
    console.print(table(VersionInfo.read(output)))
    console.print(f"[bold]{output}[/bold] is a version; its figures are in {job / METRICS_FILE}", soft_wrap=True)
    if asked.merge:
        _merge(output, console)


def _refuse_to_overwrite(*places: Path) -> None:
    for place in places:
        if place.exists():
            raise RefusedError(f"{place} exists already; a version is never overwritten, so name another --output")


def _whole(output: Path) -> Path:
    return output.with_name(f"{output.name}.merged")


def _merge(version: Path, console: Console) -> None:
    """Write the whole model beside the adapter that was published."""
    from worker.trainer.merging import merge

    if VersionInfo.read(version).kind == "full":  # what it started from was merged
        console.print(f"{version} is a whole model already, and nothing is merged", soft_wrap=True)
        return
    merge(version, _whole(version))
    console.print(f"[bold]{_whole(version)}[/bold] is the whole model, merged", soft_wrap=True)


def _job_directory(output: Path) -> Path:
    """Where the run works, beside what it makes; made if it is not there yet."""
    job = output.with_name(f"{output.name}.job")
    try:
        job.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_out_of_disk(error):
            raise
        raise RefusedError(
            f"{job} cannot be made: {error.strerror}; name an --output in a folder that you may write to"
        ) from error
    return job


def _run_here(job: Path, stop: Stop, listen: Listener, *, dry_run: bool) -> None:
    from worker.trainer.job import audit, run

    if dry_run:
        audit(job, stop, listen)
    else:
        run(job, ATTEMPT, stop, listen)


def _run_processes(job: Path, settings: TrainingSettings, stop: Stop, listen: Listener) -> None:
    with _followed(job / METRICS_FILE, listen):
        code, sentence = launch(job, ATTEMPT, settings, stop, quiet=True)
    if code is not ExitCode.DONE:
        raise EndedError(code, sentence)


@contextmanager
def _followed(file: Path, listen: Listener) -> Iterator[None]:
    """``listen`` hears what the processes write to metrics.jsonl while the block lasts."""
    over = threading.Event()
    start = file.stat().st_size if file.is_file() else 0

    def follow() -> None:
        place = start
        while True:
            last = over.wait(_FOLLOW_SECONDS)
            if file.is_file():
                if file.stat().st_size < place:  # a resumed job rewrote it
                    place = file.stat().st_size
                with file.open("rb") as lines:
                    lines.seek(place)
                    text = lines.read()
                text = text[: text.rfind(b"\n") + 1]
                place += len(text)
                for line in text.splitlines():
                    listen(json.loads(line))
            if last:
                return

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write_job(job: Path, asked: Request) -> None:
    start = _as_ref(start_of(asked.model, asked.output, job))
    reference = start if asked.reference is None else _as_ref(_reference(asked.reference, asked.output))
    store = asked.output.resolve().with_name(REFERENCE_STORE)
    Spec(asked.settings, start, reference, reference_store=str(store)).write(job)
    _write_groups(job, asked, Path(start.path))


def _reference(model: str, output: Path) -> Path:
    try:
        return reference_of(model, output)
    except ModelError as error:
        raise ModelError(f"--reference {error}") from error


def _as_ref(directory: Path) -> ModelRef:
    return ModelRef(str(directory.resolve()), verify(directory))


def _write_groups(job: Path, asked: Request, start: Path) -> None:
    from transformers import GenerationConfig

    from worker.trainer.data import group_to_dict
    from worker.trainer.dataset import load_groups
    from worker.trainer.reading import write_findings

    tokenizer = load_tokenizer(start, converses=False)
    eos = GenerationConfig.from_pretrained(start, local_files_only=True).eos_token_id
    eos_ids = frozenset(eos if isinstance(eos, list) else [tokenizer.eos_token_id if eos is None else eos])
    groups, findings = load_groups(asked.data, tokenizer, eos_ids, asked.eval_fraction, asked.eval_data, asked.columns)
    write_findings(job, findings)
    lines = [json.dumps(group_to_dict(group)) + "\n" for group in groups]
    (job / GROUPS_FILE).write_text("".join(lines), encoding="utf-8")
