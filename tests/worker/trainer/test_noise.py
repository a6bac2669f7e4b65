"""DPOP in bf16: the noise is measured before the first step, and too much of it is refused with the mend."""

from pathlib import Path
from typing import Any

import pytest

from tests.factories.jobs import write_job
from tests.factories.models import version_directory
from worker.trainer.errors import RefusedError
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.metrics import Event

NOISE = "rounding that DPOP would pay for"


def audited(tmp_path: Path, **settings: Any) -> dict[str, dict[str, str]]:
    """The audit's findings by name, of a job that may be refused after it."""
    events: list[Event] = []
    try:
        run(write_job(tmp_path / "job", epochs=1, max_steps=1, **settings), "t", Stop(), events.append)
    finally:
        (event,) = (event for event in events if event["kind"] == "audit")
        found = {finding["name"]: finding for finding in event["findings"]}
        if NOISE in found and found[NOISE]["level"] == "refuse":
            assert not any(event["kind"] == "train" for event in events)
    return found


@pytest.mark.parametrize("reference_seed", [0, 1])
def test_a_penalty_below_the_noise_is_refused(tmp_path: Path, reference_seed: int) -> None:
    """Against the start itself and against another version alike: it is the policy's own noise."""
    settings = {"loss": "dpop", "dtype": "bfloat16", "reference": version_directory("llama", reference_seed)}
    with pytest.raises(RefusedError, match=rf"{NOISE}: .* in the penalty; at most 0.1.*use dtype float32"):
        audited(tmp_path / "steep", loss_settings={"dpop_lambda": 500.0}, **settings)
    finding = audited(tmp_path / "flat", loss_settings={"dpop_lambda": 1.0}, **settings)[NOISE]
    assert finding["level"] == "ok"
    assert "nats" in finding["value"]


def test_other_losses_and_fp32_have_nothing_to_measure(tmp_path: Path) -> None:
    assert NOISE not in audited(tmp_path / "fp32", loss="dpop", dtype="float32", loss_settings={"dpop_lambda": 500.0})
    assert NOISE not in audited(tmp_path / "dpo", loss="sigmoid", dtype="bfloat16")
