"""A trainer that was stopped or killed goes on as if nothing had happened, bit for bit."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.factories.jobs import make_groups, write_job
from tests.worker.trainer.running import events, finish, start, wait_until
from worker.trainer.errors import StoppedError
from worker.trainer.job import run
from worker.trainer.lifetime import Stop

STEPS = 60
SETTINGS = {
    "epochs": STEPS // 3,
    "lora_dropout": 0.1,
    "learning_rate": 1e-3,
    "checkpoint_every_steps": 7,
    "eval_every_steps": 5,
}


def make_job(directory: Path) -> Path:
    """60 steps of some ten milliseconds, with dropout, so that the random state matters."""
    return write_job(directory, groups=make_groups(12, 2), **SETTINGS)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job run through in one go, in this process."""
    torch.set_num_threads(1)
    job = make_job(tmp_path_factory.mktemp("whole") / "job")
    run(job, "a", Stop(), lambda _event: None)
    return job


def killed_at(job: Path, step: int, number: signal.Signals) -> subprocess.Popen[str]:
    """A trainer that got signal ``number`` right after ``step``."""
    process = start(job)
    wait_until(
        lambda: process.poll() is not None or any(e["step"] >= step for e in events(job, "train")), f"step {step}"
    )
    process.send_signal(number)
    return process


def assert_same(job: Path, whole: Path, attempt: str) -> None:
    """Equal weights to the last bit, and metrics that tell of every step once."""
    ours, theirs = (
        load_file(place / "version" / "adapter_model.safetensors") for place in (job / attempt, whole / "attempt-a")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert [e["step"] for e in events(job, "train")] == list(range(1, STEPS + 1))
    timeless = [
        [{k: v for k, v in e.items() if k not in ("at", "progress")} for e in events(place, "eval")]
        for place in (job, whole)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.chaos
def test_killed_at_any_moment(tmp_path: Path, uninterrupted: Path) -> None:
    job = make_job(tmp_path / "job")
    assert finish(killed_at(job, 25, signal.SIGKILL))[0] == -signal.SIGKILL
    assert finish(start(job, "b")) == (0, "")
    resumed = events(job, "resumed")
    assert len(resumed) == 1
    assert resumed[0]["step"] % 7 == 0
    assert_same(job, uninterrupted, "attempt-b")


@pytest.mark.chaos
def test_stopped_by_sigterm(tmp_path: Path, uninterrupted: Path) -> None:
    """It says where it stands, and no finished step is done again."""
    job = make_job(tmp_path / "job")
    code, last = finish(killed_at(job, 20, signal.SIGTERM))
    assert code == 143
    done = events(job, "train")[-1]["step"]
    assert f"checkpoint after step {done}" in last
    run(job, "b", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [done]
    assert_same(job, uninterrupted, "attempt-b")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, uninterrupted: Path) -> None:
    job = make_job(tmp_path / "job")
    stop = Stop()

    def stop_at(event: dict[str, Any]) -> None:
        stop.asked |= event["kind"] == "train" and event["step"] == 30

    with pytest.raises(Exception, match="checkpoint after step 30"):
        run(job, "a", stop, stop_at)
    newest, older = sorted((job / "checkpoints").glob("step-*"), reverse=True)
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    run(job, "b", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [int(older.name[5:])] == [28]
    assert_same(job, uninterrupted, "attempt-b")


def test_other_settings_start_over_but_a_smaller_pass_goes_on(tmp_path: Path) -> None:
    groups = make_groups(8, 0)
    stop = Stop()

    def stop_at(event: dict[str, Any]) -> None:
        stop.asked |= event["kind"] == "train" and event["step"] == 3

    job = write_job(tmp_path / "job", groups=groups, epochs=4)
    with pytest.raises(Exception, match="checkpoint after step 3"):
        run(job, "a", stop, stop_at)
    write_job(job, groups=groups, epochs=4, tokens_per_row=32)
    run(job, "b", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [3]
    write_job(job, groups=groups, epochs=4, learning_rate=1e-5)
    run(job, "c", Stop(), lambda _event: None)
    assert len(events(job, "resumed")) == 0
    assert len(events(job, "train")) == 8


def test_a_finished_attempt_is_not_done_again(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", groups=make_groups(4, 0))
    version = run(job, "a", Stop(), lambda _event: None)
    before = (job / "metrics.jsonl").read_text()
    assert run(job, "a", Stop(), lambda _event: None) == version
    assert (job / "metrics.jsonl").read_text() == before


def test_checkpoints_of_other_settings_do_not_crowd_out_new_ones(tmp_path: Path) -> None:
    """Stopped at step 12, begun anew with another rate, stopped at step 4: the third start goes on from there."""
    groups, stop = make_groups(8, 0), Stop()

    def stopped_at(step: int, attempt: str) -> None:
        stop.asked = False
        with pytest.raises(Exception, match=f"checkpoint after step {step} is kept"):
            run(job, attempt, stop, lambda event: setattr(stop, "asked", event.get("step") == step))

    job = write_job(tmp_path / "job", groups=groups, epochs=8, checkpoint_every_steps=4)
    stopped_at(12, "a")
    write_job(job, groups=groups, epochs=8, checkpoint_every_steps=4, learning_rate=1e-5)
    stopped_at(4, "b")
    run(job, "c", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [4]


def test_an_optimiser_with_settings_of_its_own_goes_on_with_them(tmp_path: Path) -> None:
    """Stopped twice; and a job with another of these settings does not go on from the checkpoint, but begins anew."""
    settings = SETTINGS | {"schedule": "cosine", "warmup_steps": 9, "lr_min_ratio": 0.2, "epochs": 4}
    settings |= {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6}

    def stopped_at(job: Path, step: int) -> None:
        stop = Stop()

        def listen(event: dict[str, Any]) -> None:
            stop.asked = event["kind"] == "train" and event["step"] == step

        with pytest.raises(StoppedError):
            run(job, "a", stop, listen)

    whole, job = (write_job(tmp_path / name, groups=make_groups(12, 2), **settings) for name in ("whole", "job"))
    run(whole, "a", Stop(), lambda _event: None)
    stopped_at(job, 4)
    stopped_at(job, 10)
    run(job, "a", Stop(), lambda _event: None)
    assert [event["step"] for event in events(job, "resumed")] == [4, 10]
    ours, theirs = (load_file(place / "attempt-a" / "version" / "adapter_model.safetensors") for place in (job, whole))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    for name in ("warmup_steps", "lr_min_ratio", "adam_beta1", "adam_beta2", "adam_epsilon"):
        other = tmp_path / name
        stopped_at(write_job(other, groups=make_groups(12, 2), **settings), 4)
        write_job(
            other, groups=make_groups(12, 2), **settings | {name: 3 if name == "warmup_steps" else settings[name] / 2}
        )
        stopped_at(other, 1)
        assert events(other, "resumed") == [], name
