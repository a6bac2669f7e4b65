"""How a trainer fails: exit code, last line, and what is left to go on with. Real limits on real processes."""

import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.rounds.spec import GROUPS_FILE, ExitCode
from app.versions.manifest import verify
from tests.factories.jobs import make_groups, write_job
from tests.factories.models import copy_version, version_directory
from tests.worker.trainer.running import ROOT, events, finish, start, wait_until
from worker.trainer.errors import NotFiniteError, RefusedError, StoppedError, explain
from worker.trainer.job import run
from worker.trainer.lifetime import Stop, lock


def quiet(_event: dict[str, Any]) -> None:
    """A listener with nothing to say."""


def stop_after(job: Path, step: int) -> None:
    """Run the job in this process up to a checkpoint after ``step``."""
    stop = Stop()

    def listen(event: dict[str, Any]) -> None:
        stop.asked |= event["kind"] == "train" and event["step"] == step

    with pytest.raises(StoppedError):
        run(job, "first", stop, listen)


@pytest.mark.chaos
def test_out_of_disk(tmp_path: Path) -> None:
    """Files may grow to 150 kB only: metrics fit, the next checkpoint does not. The one before is whole and used."""
    job = write_job(tmp_path / "job", method="full", learning_rate=1e-4, epochs=4, checkpoint_every_steps=1)
    stop_after(job, 2)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (150_000, 150_000))
    code, last = finish(start(job, "small", preexec_fn=limit))
    assert code == ExitCode.OUT_OF_DISK
    assert "out of disk" in last
    assert "free space" in last
    assert not (job / "attempt-small").exists()
    kept = sorted((job / "checkpoints").iterdir())
    assert [directory.name for directory in kept] == ["step-00000001", "step-00000002"]
    verify(kept[-1])
    run(job, "large", Stop(), quiet)
    assert [event["step"] for event in events(job, "resumed")] == [2, 2]


@pytest.mark.chaos
def test_out_of_memory(tmp_path: Path) -> None:
    """Once it has resumed, the process may have 16 MB of address space more than it has; a pass needs far more."""
    groups = make_groups(96, 0, completions=4, words=72)
    whole = {"groups": groups, "method": "full", "learning_rate": 1e-4, "pairs_per_step": 600, "epochs": 50}
    job = write_job(tmp_path / "job", tokens_per_row=512, **whole)
    stop_after(job, 1)
    write_job(job, tokens_per_row=1 << 20, **whole)
    process = start(job)
    wait_until(lambda: process.poll() is not None or bool(events(job, "resumed")), "going on")
    room = psutil.Process(process.pid).memory_info().vms + (16 << 20)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (room, room))
    code, last = finish(process)
    assert code == ExitCode.OUT_OF_MEMORY, last
    assert "out of memory in step" in last
    assert "tokens_per_row (now 1048576)" in last
    done = max(1, *(event["step"] for event in events(job, "train")))
    assert f"checkpoint after step {done} is kept" in last
    verify(job / "checkpoints" / f"step-{done:08d}")


def test_loss_that_is_not_finite(tmp_path: Path) -> None:
    """One margin is beyond fp32. Nothing is published; the checkpoint before it is whole, and a mended job goes on."""
    groups = make_groups(8, 0)
    groups[3]["preferences"][0]["margin"] = 1e39
    job = write_job(tmp_path / "job", groups=groups, pairs_per_step=1, epochs=1)
    with pytest.raises(NotFiniteError) as caught:
        run(job, "a", Stop(), quiet)
    code, last = explain(caught.value)
    done = len(events(job, "train"))
    assert 0 < done < 8, "the order of the seed puts it neither first nor last"
    assert code == ExitCode.NOT_FINITE
    assert f"step {done + 1} of 8: loss inf" in last
    assert "lower learning_rate (now 0.01)" in last
    assert f"the checkpoint after step {done} is kept" in last
    verify(job / "checkpoints" / f"step-{done:08d}")
    assert not (job / "attempt-a" / "version").exists()


def test_second_trainer_is_turned_away_before_it_loads_anything(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job")
    began = time.monotonic()
    with lock(job):
        code, last = finish(start(job))
    assert code == ExitCode.LOCKED
    assert f"process {os.getpid()}" in last
    assert time.monotonic() - began < 10
    assert not (job / "metrics.jsonl").exists()


@pytest.mark.chaos
def test_dies_with_the_pool_process_that_started_it(tmp_path: Path) -> None:
    """The parent is a child that billiard forked, as under Celery's prefork pool, and is killed outright."""
    job = write_job(tmp_path / "job", epochs=1000)
    script = tmp_path / "parent.py"
    script.write_text(
        "import subprocess, sys\n"
        "from billiard.context import ForkContext\n"
        "def child():\n"
        "    trainer = subprocess.Popen([sys.executable, '-m', 'worker.trainer', sys.argv[1]])\n"
        "    print('trainer', trainer.pid, flush=True)\n"
        "    trainer.wait()\n"
        "process = ForkContext().Process(target=child)\n"
        "process.start()\n"
        "print('pool', process.pid, flush=True)\n"
        "process.join()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script), str(job)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as top:
        assert top.stdout is not None
        pids = dict(top.stdout.readline().split() for _ in range(2))
        trainer, pool = int(pids["trainer"]), int(pids["pool"])
        wait_until(lambda: bool(events(job, "train")), "a first step")
        os.kill(pool, signal.SIGKILL)
        wait_until(lambda: not _runs(trainer), "the trainer's end")
        with lock(job):
            steps = len(events(job, "train"))
            time.sleep(0.2)
            assert len(events(job, "train")) == steps
        top.stdout.read()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ends_at_once_if_its_parent_was_gone_before_it_could_say_so(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job")
    ended = subprocess.run(
        [sys.executable, "-m", "worker.trainer", str(job), "--parent", "1"], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == 128 + signal.SIGKILL
    assert not (job / "lock").exists()


def test_bad_group_is_named_by_line_and_field(tmp_path: Path) -> None:
    """From the command line: exit code 2, and the last line says where."""
    groups = make_groups(3, 0)
    groups[1]["preferences"][0]["b"] = 7
    code, last = finish(start(write_job(tmp_path / "job", groups=groups)))
    assert code == ExitCode.REFUSED
    assert last == ("groups.jsonl line 2: preferences[0].b is 7, but the group has completions 0 to 1")


def test_changed_model_is_refused(tmp_path: Path) -> None:
    start_model = copy_version(version_directory("llama"), tmp_path / "model")
    job = write_job(tmp_path / "job", start=start_model)
    with (start_model / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(Exception, match="sha256") as caught:
        run(job, "a", Stop(), quiet)
    assert explain(caught.value)[0] == ExitCode.REFUSED


def test_another_model_than_the_job_names_is_refused(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job")
    spec = (job / "spec.json").read_text()
    path = str(version_directory("llama"))
    (job / "spec.json").write_text(spec.replace(path, str(version_directory("llama", 1))))
    with pytest.raises(RefusedError, match="the job names"):
        run(job, "a", Stop(), quiet)


@pytest.mark.parametrize(
    ("spec", "groups", "says"),
    [
        ("{", None, "spec.json cannot be read"),
        ('{"schema": 2}', None, "schema: 2, this program reads 1"),
        (None, "", "holds no groups"),
        (None, "{", "line 1"),
    ],
)
def test_unreadable_jobs(tmp_path: Path, spec: str | None, groups: str | None, says: str) -> None:
    job = write_job(tmp_path / "job")
    if spec is not None:
        (job / "spec.json").write_text(spec)
    if groups is not None:
        (job / GROUPS_FILE).write_text(groups)
    with pytest.raises(Exception, match=says) as caught:
        run(job, "a", Stop(), quiet)
    assert explain(caught.value)[0] == ExitCode.REFUSED


def test_token_is_no_path(tmp_path: Path) -> None:
    code, last = finish(start(write_job(tmp_path / "job"), attempt="../elsewhere"))
    assert code == ExitCode.REFUSED
    assert "plain name" in last


@pytest.mark.chaos
def test_a_killed_command_takes_its_trainer_along(tmp_path: Path) -> None:
    """kill -9 of `hone train` itself: the process that trains keeps a checkpoint and lets go of the folder."""
    rows = "".join(f'{{"prompt": "tea {n} ", "chosen": "boat {n}", "rejected": "rain"}}\n' for n in range(30))
    (tmp_path / "rows.jsonl").write_text(rows)
    asked = ["--model", str(version_directory("llama")), "--data", "rows.jsonl", "--output", "new", "--epochs", "900"]
    command = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "train", *asked],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    job = tmp_path / "new.job"
    wait_until(lambda: command.poll() is not None or bool(events(job, "train")), "training")
    trainer = psutil.Process(int((job / "lock").read_text()))
    command.kill()
    command.wait()
    wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, "the trainer's end")
    assert not (tmp_path / "new").exists()
    assert list((job / "checkpoints").glob("step-*"))
    with lock(job):
        pass
