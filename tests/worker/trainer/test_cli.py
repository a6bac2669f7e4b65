"""``hone train`` from the command line: files in, a version out; in this process, as typer runs it."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.versions.manifest import VersionInfo, verify
from tests.factories.models import copy_version, version_directory
from worker.trainer.cli import app


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """The command takes over SIGTERM and SIGINT of its process, which is ours here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"tea {number} ", "chosen": f"boat {number} tea", "rejected": f"rain {number}"}
        for number in range(30)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def train(data: Path, output: Path, *more: str, model: Path | None = None) -> Result:
    chosen = str(model or version_directory("llama"))
    return CliRunner().invoke(app, ["--model", chosen, "--data", str(data), "--output", str(output), *more])


def test_a_file_becomes_a_version(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "new"
    settings = ("--loss", "dpop", "--loss-setting", "beta=0.2", "--learning-rate", "0.01", "--epochs", "2")
    result = train(data, output, "--eval-fraction", "0.2", "--lora-rank", "4", *settings)
    assert result.exit_code == 0, result.output
    verify(output)
    info = VersionInfo.read(output)
    assert info.spec["settings"]["loss_settings"] == {"beta": 0.2, "dpop_lambda": 50.0}
    assert info.metrics["eval"]["end"]["margin"] > 0
    assert "held-out preferences" in result.output
    assert (tmp_path / "new.job" / "metrics.jsonl").is_file()
    assert not (tmp_path / "new.job" / "checkpoints").exists()


def test_dry_run_audits_and_trains_nothing(tmp_path: Path, data: Path) -> None:
    result = train(data, tmp_path / "new", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "end tokens" in result.output
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "new.job").glob("attempt-*"))


def test_a_plain_model_directory_is_imported_first(tmp_path: Path, data: Path) -> None:
    model = copy_version(version_directory("llama"), tmp_path / "model")
    (model / "manifest.json").unlink()
    (model / "version.json").unlink()
    (model / "pytorch_model.bin").write_bytes(b"never taken")
    result = train(data, tmp_path / "new", "--max-steps", "1", model=model)
    assert result.exit_code == 0, result.output
    base = VersionInfo.read(tmp_path / "new").base_directory(tmp_path / "new")
    verify(base)
    assert base == tmp_path / "new.base"
    assert not (base / "pytorch_model.bin").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--loss", "unheard"), "known are sigmoid, dpop"),
        (("--loss-setting", "dpop_lambda=3"), "loss 'sigmoid' does not read it"),
        (("--loss-setting", "beta=much"), "NAME=NUMBER"),
        (("--method", "full", "--lora-rank", "4"), "means nothing for method 'full'"),
        (("--max-length", "999"), "above the model's context of 256 tokens"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, data: Path, more: tuple[str, ...], says: str) -> None:
    result = train(data, tmp_path / "new", *more)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]


def test_existing_output_is_never_overwritten(tmp_path: Path, data: Path) -> None:
    result = train(data, tmp_path)
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_bad_row_is_the_last_line(tmp_path: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write('{"prompt": "x"}\n')
    result = train(data, tmp_path / "new")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("rows.jsonl line 31: no 'chosen'")


def test_a_model_that_is_none(tmp_path: Path, data: Path) -> None:
    (tmp_path / "nothing").mkdir()
    result = train(data, tmp_path / "new", model=tmp_path / "nothing")
    assert result.exit_code == 2
    assert "no config.json; is it a model directory?" in result.stderr
