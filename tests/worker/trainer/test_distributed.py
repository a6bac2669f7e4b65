"""Several processes train as one does: on one machine, and as two machines that meet."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from app.rounds.spec import ExitCode
from app.versions.manifest import VersionInfo, verify
from tests.factories.jobs import make_groups, write_job
from tests.worker.trainer.running import ROOT, events, finish, start, wait_until
from worker.trainer.distributed import Crew
from worker.trainer.job import run
from worker.trainer.launch import LAUNCH_FILE, Launch, failure, record_failure
from worker.trainer.launch import start as start_ranks
from worker.trainer.lifetime import Stop
from worker.trainer.meeting import VARIABLE, in_file, loopback
from worker.trainer.node import under_way
from worker.trainer.ranks import environments
from worker.trainer.ranks import run as run_ranks

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "pairs_per_step": 6,
    "epochs": 4,
    "tokens_per_row": 128,
    "eval_every_steps": 3,
    "lora_rank": 4,
}


def alone(job: Path, **settings: Any) -> Path:
    """The version one process makes of it, in this process."""
    groups = make_groups(14, 4)
    return run(write_job(job, groups=groups, **settings), "a", Stop(), lambda _event: None)


def assert_followed(job: Path, single: Path, steps: int) -> None:
    """Every step's figures, and every evaluation's, are those of one process up to rounding."""
    for kind, count in (("train", steps), ("eval", 1)):
        ours, theirs = events(job, kind), events(single, kind)
        assert len(ours) >= count
        for one, other in zip(ours[:steps], theirs, strict=False):
            for name in (
                "loss",
                "margin",
                "chosen_log_ratio",
                "kl",
                "pairs",
                *(("grad_norm",) if kind == "train" else ()),
                *(("shift", "pair_log_ratio") if "shift" in other else ()),
            ):
                assert one[name] == pytest.approx(other[name], abs=2e-4), f"{kind} step {one['step']}: {name}"


@pytest.mark.parametrize("loss", [{}, {"loss": "mpo", "loss_settings": {"beta": 0.5}}], ids=["dpo", "mpo"])
def test_two_processes_follow_one_and_one_goes_on_from_their_checkpoint(tmp_path: Path, loss: dict[str, Any]) -> None:
    """Full training, sharded over two processes, stopped by SIGTERM; one process ends it as if it had done it all.

    MPO's shift is the mean of what both have counted, and goes over to the one.
    """
    full = SETTINGS | {"method": "full", "learning_rate": 1e-3} | loss
    version = alone(tmp_path / "single", **full)
    groups = make_groups(14, 4)
    job = write_job(tmp_path / "job", groups=groups, processes=2, **full)
    process = start(job)
    wait_until(lambda: process.poll() is not None or len(events(job, "train")) >= 4, "four steps")
    process.send_signal(signal.SIGTERM)
    code, last = finish(process)
    assert code == ExitCode.STOPPED, last
    done = events(job, "train")[-1]["step"]
    assert f"checkpoint after step {done} is kept" in last
    assert_followed(job, tmp_path / "single", done)
    assert not (job / "launch.json").exists()
    write_job(job, groups=groups, **full)
    run(job, "b", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [done]
    ours, theirs = (load_file(place / "model.safetensors") for place in (job / "attempt-b" / "version", version))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-4)
    if loss:
        assert abs(events(job, "train")[-1]["shift"]) > 0.01


def test_processes_of_one_machine_listen_nowhere_else_and_end_with_the_first_that_is_killed(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", groups=make_groups(14, 4), processes=2, **SETTINGS | {"epochs": 500})
    launcher = start(job)
    wait_until(lambda: launcher.poll() is not None or len(events(job, "train")) >= 1, "a step")
    process = psutil.Process(launcher.pid)
    ranks = process.children(recursive=True)
    assert len(ranks) == 2
    heard = [[at.laddr for at in one.net_connections("inet") if at.status == "LISTEN"] for one in [process, *ranks]]
    assert heard[0] == []
    assert all(ip_address(address.ip).is_loopback for addresses in heard for address in addresses), heard
    made = json.loads((job / LAUNCH_FILE).read_text())
    assert len(made["run"]) == 32
    assert stat.S_IMODE((job / LAUNCH_FILE).stat().st_mode) == 0o600
    ranks[1].kill()
    code, last = finish(launcher)
    assert (code, last[:45]) == (ExitCode.STOPPED, "a trainer process was ended by SIGKILL, as a ")
    assert not any(one.is_running() for one in ranks)
    assert not list(job.glob(".meeting-*"))
    assert not (job / LAUNCH_FILE).exists()


def test_processes_end_with_their_launcher(tmp_path: Path) -> None:
    """Also while they still wait for another machine; the next launch removes what a killed one left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = write_job(tmp_path / "job", groups=make_groups(2, 0), nodes=2, rendezvous=address, **SETTINGS)
    (job / ".meeting-left").touch()
    launcher = start(job)
    process = psutil.Process(launcher.pid)
    wait_until(lambda: launcher.poll() is not None or _listening(process), "the first machine at the meeting point")
    (rank,) = process.children()
    assert [at.laddr.ip for at in rank.net_connections("inet") if at.status == "LISTEN"] == ["127.0.0.1"]
    assert not (job / ".meeting-left").exists()
    process.kill()
    finish(launcher)
    wait_until(lambda: not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE, "its process ended")


def _listening(process: psutil.Process) -> bool:
    return any(at.status == "LISTEN" for child in process.children() for at in child.net_connections("inet"))


def test_another_machine_ends_with_the_launch_that_it_joined(tmp_path: Path) -> None:
    """The first machine has given up before they met: nobody waits for it for a quarter of an hour."""
    job = write_job(tmp_path / "job", groups=make_groups(2, 0), nodes=2, rendezvous="127.0.0.1:1", **SETTINGS)
    made = Launch("a", 2, 1, "127.0.0.1:1", 0.0, "c0ffee")
    code, sentence = start_ranks(job, made, Stop(), node_rank=1)
    assert code == ExitCode.STOPPED
    assert sentence.startswith(("another machine", "stopped by a signal; it had not begun"))


def test_processes_tell_each_other_without_pickle(tmp_path: Path) -> None:
    with in_file(tmp_path) as place:
        common = {VARIABLE: place, "OMP_NUM_THREADS": "1"} | loopback()
        ended = run_ranks(
            ["-m", "tests.worker.trainer.telling", str(tmp_path)], environments(2, 1, 0, common), over=lambda: False
        )
    assert ended.well
    heard = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [told.pop("turn") for told in heard] == [0, 1]
    assert heard[0] == heard[1]
    own = {"none": [], "völlig-0": pytest.approx([0, 1 / 3, 2 / 3])}
    assert heard[0]["found"] == [own, {}]
    assert heard[0]["stored"] == own
    assert [heard[0][name] for name in ("flag", "nothing", "digest")] == [True, None, "sha256:ü"]
    told = [(one["tally"]["sums"], one["tally"]["judgements"], one["tokens"]) for one in heard[0]["tallies"]]
    assert told == [({"loss": 0.1, "kl": float("inf")}, 3, 7), ({"loss": 1.1, "kl": float("inf")}, 4, 7)]


def test_two_machines_meet_and_follow_one(tmp_path: Path) -> None:
    """An adapter on a parent adapter; the second machine is a ``hone node`` that watches the directory of jobs."""
    parent = alone(tmp_path / "first", **SETTINGS)
    groups = make_groups(14, 4)
    single = write_job(tmp_path / "single", groups=groups, start=parent, **SETTINGS)
    version = run(single, "a", Stop(), lambda _event: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    jobs = tmp_path / "jobs"
    job = write_job(jobs / "job", groups=groups, start=parent, nodes=2, rendezvous=address, **SETTINGS)
    with subprocess.Popen(
        [sys.executable, "-m", "worker.trainer.node", "--jobs", str(jobs), "--once"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as node:
        try:
            assert finish(start(job)) == (0, "")
            assert node.wait(timeout=60) == 0
        finally:
            node.kill()
        assert node.stdout is not None
        assert "joins job, attempt a, with 1 processes" in node.stdout.read()
    assert_followed(job, single, len(events(single, "train")))
    made = job / "attempt-a" / "version"
    verify(made)
    info = VersionInfo.read(made)
    assert (info.kind, info.metrics["processes"]) == ("adapter", 2)
    ours, theirs = (load_file(place / "adapter_model.safetensors") for place in (made, version))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-4)


def test_the_first_process_that_fails_says_why_the_job_did(tmp_path: Path) -> None:
    """The others fail because it did; the launcher takes its code and sentence, and keeps nothing of them."""
    job = write_job(tmp_path / "job", groups=make_groups(2, 0), processes=2)
    assert record_failure(job, "a", ExitCode.OUT_OF_MEMORY, "out of memory: lower tokens_per_row")
    assert not record_failure(job, "a", ExitCode.FAILED, "connection closed by peer")
    assert failure(job, "a", "a process ended") == (ExitCode.OUT_OF_MEMORY, "out of memory: lower tokens_per_row")
    assert failure(job, "a", "a process  ended\nby SIGKILL") == (ExitCode.FAILED, "a process ended by SIGKILL")


def test_a_launch_whose_launcher_is_gone_is_none(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "job"
    job.mkdir(parents=True)
    made = Launch("a", 2, 1, "127.0.0.1:1", 0.0, "c0ffee")
    (job / LAUNCH_FILE).write_text(json.dumps(asdict(made)))
    assert under_way(tmp_path / "jobs") == [(job, made)]
    os.utime(job / LAUNCH_FILE, (0, 0))
    assert under_way(tmp_path / "jobs") == []
    (job / LAUNCH_FILE).write_text(json.dumps(asdict(made) | {"attempt": "../elsewhere"}))
    assert under_way(tmp_path / "jobs") == []


def test_parts_are_balanced_and_every_process_makes_as_many_passes() -> None:
    cost = [100, 90, 30, 20, 10, 5]
    crews = [Crew(rank, 2, torch.device("cpu")) for rank in range(2)]
    shared = [crew.share(range(6), cost.__getitem__) for crew in crews]
    assert shared[0] == shared[1]
    assert sorted(index for part in shared[0] for index in part) == list(range(6))
    loads = [sum(cost[index] for index in part) for part in shared[0]]
    assert max(loads) - min(loads) <= 15
    parts = [[0, 1, 2], [3]]
    dealt = [crew.deal(lambda part: [[index] for index in part], parts) for crew in crews]
    assert dealt == [[([0], True), ([1], True), ([2], True)], [([3], True), ([3], False), ([3], False)]]
    nothing = [crew.deal(lambda part: [[index] for index in part], [[0], []]) for crew in crews]
    assert nothing == [[([0], True)], [([0], False)]]
