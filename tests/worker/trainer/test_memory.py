"""The heap of a trainer: what is freed is kept for the next pass, and what no pass needs is given back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from app.rounds.spec import Spec
from app.versions.manifest import VersionInfo
from tests.factories.jobs import write_job
from tests.factories.models import copy_version, version_directory
from tests.worker.trainer.running import ROOT
from worker.trainer.memory import ENVIRONMENT, set_environment
from worker.trainer.policy import load_start, make_trainable

PASSES = """
import json
from worker.trainer.memory import _held, heap

def a_pass(tensors):
    made = [(b"x" * (4 << 20), b"x" * 100_000) for _ in range(tensors)]
    lasting.append([small for _, small in made])  # lies between what is freed

lasting, told = [], []
assert heap().keep_freed()
for tensors in (10, 10, 60, 20, 20, 20):
    a_pass(tensors)
    before = _held() >> 20
    told.append((tensors, before, heap().settle(), _held() >> 20))
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is the one that is asked")
def test_freed_memory_is_kept_for_the_next_pass_and_given_back_when_it_is_more_than_passes_need() -> None:
    command = [sys.executable, "-c", PASSES]
    run = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert [(tensors, gave_back) for tensors, _, gave_back, _ in told] == [
        (10, False),  # the first pass says what passes need,
        (10, False),  # and the second finds it kept
        (60, True),
        (20, False),  # as does the first after memory was given back
        (20, False),
        (20, False),
    ]
    held = [before for _, before, _, _ in told]
    assert all(h >= 4 * tensors for h, (tensors, *_) in zip(held, told, strict=True)), held
    assert told[2][3] < held[2] - 200
    assert max(held[3:]) < 150


@pytest.mark.parametrize("mapped", [False, True])
def test_weights_to_be_trained_leave_the_file_they_were_mapped_from(tmp_path: Path, mapped: bool) -> None:
    """Else what is written to the file would reach them, and the first step would copy them page by page."""
    start = copy_version(version_directory(), tmp_path / "start")
    spec = Spec.read(write_job(tmp_path / "job", start=start, method="full"))
    policy = load_start(spec.start, VersionInfo.read(start), spec.settings, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in policy.model.named_parameters()}
    after = make_trainable(policy, spec.settings, mapped=mapped).trainable
    with (start / "model.safetensors").open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(bytes(4096))
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items()) is not mapped


def test_what_the_environment_says_already_stays() -> None:
    with mock.patch.dict(os.environ, {"LRU_CACHE_CAPACITY": "7"}):
        for name in ENVIRONMENT.keys() - {"LRU_CACHE_CAPACITY"}:
            os.environ.pop(name, None)
        set_environment()
        assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT | {"LRU_CACHE_CAPACITY": "7"}
