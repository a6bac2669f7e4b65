"""``hone train`` from the command line: files in, a version out; in this process, as typer runs it."""

import errno
import json
import os
import re
import signal
import warnings
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.main import get_command
from typer.testing import CliRunner, Result

from app.rounds.spec import LOSSES, TrainingSettings
from app.versions.manifest import VersionInfo, publish, verify
from tests.factories.models import copy_version, version_directory
from tests.worker.trainer.running import ROOT, events
from worker.trainer import standalone
from worker.trainer.cli import OTHERS, app, request
from worker.trainer.errors import explain
from worker.trainer.options import ELSEWHERE, HELP, read_configuration
from worker.trainer.othernames import OF_OTHER_TRAINERS
from worker.trainer.tracking import TRACKERS, make


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


def test_weights_that_are_worse_than_the_start_are_told(tmp_path: Path, data: Path) -> None:
    """Held out are the same prompts with the preferences turned about: what is learned is wrong there."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[20:]]
    for name, some in (("train", rows[:20]), ("other", turned), ("same", rows[20:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    said = {}
    for name in ("other", "same"):
        more = ("--eval-data", str(tmp_path / f"{name}.jsonl"), "--learning-rate", "0.01", "--epochs", "4")
        result = train(tmp_path / "train.jsonl", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
        said[name] = "worse than before" in result.output
    assert said == {"other": True, "same": False}


def test_dry_run_audits_and_trains_nothing(tmp_path: Path, data: Path) -> None:
    result = train(data, tmp_path / "new", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "end tokens" in result.output
    assert "|Δ| before step 1" in result.output
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


def test_runs_of_one_folder_compute_the_reference_once(tmp_path: Path, data: Path) -> None:
    """A sweep from a model directory: each output has a base of its own, of the same digest."""
    model = copy_version(version_directory("llama"), tmp_path / "model")
    (model / "manifest.json").unlink()
    (model / "version.json").unlink()
    for name, loss in (("one", "sigmoid"), ("two", "ipo")):
        result = train(data, tmp_path / "sweep" / name, "--max-steps", "1", "--loss", loss, model=model)
        assert result.exit_code == 0, result.output
    phases = [
        {event["phase"] for event in events(tmp_path / "sweep" / f"{name}.job", "phase")} for name in ("one", "two")
    ]
    assert ["reference" in names for names in phases] == [True, False]


def test_every_setting_is_an_option_with_help() -> None:
    names = {field.name for field in fields(TrainingSettings)}
    assert names == set(HELP) | ELSEWHERE
    options = {name for parameter in get_command(app).params for name in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in HELP} <= options


def test_help_names_defaults_and_losses() -> None:
    """Each option with its default, and each loss with its settings and when to use it."""
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for text in (
        "Rank of the adapter. Default 16.",
        "optimiser step, however few fit",
        "Default 0.1.",
        "Default linear.",
    ):
        assert text in said
    for name, loss in LOSSES.items():
        (rest,) = re.findall(rf"\b{name} \((.*?)\): {re.escape(str(loss.use))}", said)
        assert rest == ", ".join(f"{setting} {rule.default:g}" for setting, rule in loss.settings.items())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--beta", "0.2"), "--beta is a setting of the loss: give --loss-setting beta=NUMBER"),
        (("--lr=1e-5",), "no option --lr=1e-5; here that is --learning-rate"),
        (("--discopop-tau", "0.1"), "--discopop_tau is a setting of the loss: give --loss-setting discopop_tau=NUMBER"),
        (("--f-divergence-type", "js_divergence"), "here that is --f-divergence (js and alpha for js_divergence and"),
        (("--loss-weights", "1"), "here that is --loss mpo or dpo_nll (with weights among their settings"),
        (("--gradient_accumulation_steps", "4"), "here that is --pairs-per-step (of all devices and passes together)"),
    ],
)
def test_options_of_other_trainers_are_told(tmp_path: Path, data: Path, given: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(app, ["--data", str(data), *given], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 2
    assert says in result.stderr


def test_names_of_other_trainers_are_told_by_options_that_are_there() -> None:
    known = {*HELP, *OTHERS, "loss_settings"}
    for name, here in OF_OTHER_TRAINERS.items():
        assert name not in known
        assert re.split("[ ,:]", here)[0] in known


def test_a_configuration_file_and_the_command_line_that_wins(tmp_path: Path, data: Path) -> None:
    """Hyphens or underscores, 1e-3 as people write it, flags and lists; then the trackers read what was logged."""
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: {version_directory('llama')}\ndata: {data}\noutput: {tmp_path / 'unused'}\n"
        "loss: dpop\nloss_settings: {beta: 0.2, dpop_lambda: 5}\nlearning-rate: 1e-3\nlora_rank: 4\n"
        "lora-targets: [q_proj, v_proj]\nlora_rslora: true\nmax_steps: 2\npairs_per_step: 6\neval_every_steps: 1\n"
        "report_to: tensorboard\neval_fraction: 0.2\n"
    )
    output = tmp_path / "new"
    more = ["--loss-setting", "beta=0.3", "--max-steps", "3", "--report-to", "tensorboard"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own affairs
        result = CliRunner().invoke(app, ["--config", str(config), "--output", str(output), *more])
        assert result.exit_code == 0, result.output
        logged = EventAccumulator(str(tmp_path / "new.job" / "trackers" / "new")).Reload()
    settings = VersionInfo.read(output).spec["settings"]
    assert settings["loss_settings"] == {"beta": 0.3, "dpop_lambda": 5.0}
    assert (settings["learning_rate"], settings["lora_targets"]) == (1e-3, ["q_proj", "v_proj"])
    assert (settings["lora_rslora"], settings["max_steps"]) == (True, 3)
    assert [event.step for event in logged.Scalars("train/chosen_log_ratio")] == [1, 2, 3]
    assert [event.step for event in logged.Scalars("held_out/loss")] == [0, 1, 2, 3]
    for said in ("rejected log-ratio, nats", "weights published", "3 of 3", "held out, before"):
        assert said in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nose: 1\n", "'nose' is no option; known are"),
        ("lr: 1\n", "'lr' is no option; here that is learning_rate"),
        ("beta: 1\n", "'beta' is no option; it is a setting of the loss: write loss_settings: {beta: …}"),
        ("- 1\n", "holds list"),
        ("a: [\n", "cannot be read as YAML"),
        ("epochs: many\n", "epochs: 'many' must be a number, not a text"),
        ("loss_settings: [beta]\n", "loss_settings: ['beta'] is no mapping; write it as {beta: 0.2}"),
        ("loss_settings: beta=0.2\n", "loss_settings: 'beta=0.2' is no mapping"),
        ("reference: 5\n", "reference: 5 is no path; write a text"),
        ("report_to: 5\n", "report_to: 5 is neither a tracker's name nor a list of them"),
        ("report_to: [5]\n", "report_to: [5] is neither"),
        ('dry_run: "no"\n', "dry_run: 'no' is neither true nor false"),
        ("seed: 1\nseed: 2\n", "the key 'seed' is there twice; keep one of them"),
        ("loss_settings: {beta: 1, beta: 2}\n", "the key 'beta' is there twice"),
        ("lora-rank: 1\nlora_rank: 2\n", "'lora_rank' is there twice, with hyphens and without"),
        ("loss_settings: {dpop_lambda: 5}\n", "loss 'sigmoid' does not read it"),
        ("report_to: paper\n", "--report-to 'paper' is unknown; known are tensorboard"),
        ("eval_fraction: 2\n", "eval_fraction: 2 is no share"),
        ("eval_data: 5\n", "eval_data: 5 is no path; write a text, or a list of them"),
        ("eval_data: [a.jsonl, {}]\n", "eval_data: {} is no path"),
        ("eval_data: a.jsonl\neval_fraction: 0.1\n", "eval_fraction: means nothing beside eval_data"),
        ("eval_data: no-*.jsonl\n", "no file is named like no-*.jsonl"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, data: Path, text: str, says: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(text)
    result = train(data, tmp_path / "new", "--config", str(config))
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]


def test_shards_and_a_held_out_file_by_option_and_by_configuration(tmp_path: Path, data: Path) -> None:
    """What the file names is replaced as a whole by what the command line names."""
    lines = data.read_text().splitlines(keepends=True)
    for name, part in (("train-0", lines[:10]), ("train-1", lines[10:20]), ("test", lines[20:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    config = tmp_path / "run.yaml"
    config.write_text(f"max_steps: 1\ndata: [{data}]\neval_data: [{tmp_path}/test.jsonl]\n")
    given = ["--model", str(version_directory("llama")), "--config", str(config), "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(app, [*given, "--data", f"{tmp_path}/train-*.jsonl"])
    assert result.exit_code == 0, result.output
    metrics = VersionInfo.read(tmp_path / "new").metrics
    assert (metrics["train"]["preferences"], metrics["eval"]["end"]["pairs"]) == (20, 10)
    given[-1] = str(tmp_path / "other")
    result = CliRunner().invoke(app, [*given, "--dry-run"])
    assert re.search("rows of prompts that eval_data holds out +10 ", result.output)
    result = CliRunner().invoke(app, [*given, "--dry-run", "--data", str(tmp_path / "test.jsonl")])
    assert result.exit_code == 2
    assert "test.jsonl holds 10 rows, all of prompts that eval_data holds out" in result.stderr


def test_a_warm_up_on_the_command_line_is_in_place_of_the_files(tmp_path: Path, data: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("warmup_ratio: 0.5\nmax_steps: 2\nschedule: constant\nadam_beta2: 0.95\n")
    result = train(data, tmp_path / "new", "--config", str(config), "--warmup-steps", "1")
    assert result.exit_code == 0, result.output
    settings = VersionInfo.read(tmp_path / "new").spec["settings"]
    assert (settings["warmup_steps"], settings["adam_beta2"]) == (1, 0.95)
    rates = [event["learning_rate"] for event in events(tmp_path / "new.job", "train")]
    assert rates == [1e-4, 1e-4]
    result = train(data, tmp_path / "other", "--warmup-steps", "1", "--warmup-ratio", "0.1")
    assert result.exit_code == 2
    assert "warmup_ratio: means nothing beside warmup_steps; keep one of the two" in result.stderr


def test_null_is_the_default_everywhere(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "run.yaml"
    nothing = (
        "eval_data",
        "eval_fraction",
        "report_to",
        "dry_run",
        "reference",
        "learning_rate",
        "reference_sync_steps",
    )
    settings = "loss: tr_dpo\nloss_settings: {beta: }\n" + "".join(f"{name}:\n" for name in nothing)
    file.write_text(f"model: m\ndata: {data}\noutput: o\n{settings}")
    made = request(read_configuration(file, OTHERS))
    assert made.settings == TrainingSettings.from_dict({"loss": "tr_dpo"})
    assert (made.eval_fraction, made.report_to, made.dry_run, made.reference) == (None, [], False, None)


def test_another_loss_on_the_command_line_leaves_out_what_it_does_not_read(tmp_path: Path, data: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("loss: dpop\nloss_settings: {dpop_lambda: 5, beta: 0.2}\nreference_sync_steps: 1\n")
    result = train(data, tmp_path / "new", "--config", str(config), "--loss", "simpo", "--max-steps", "1")
    assert result.exit_code == 0, result.output
    said = f"{config}: dpop_lambda, reference_sync_steps left out, for --loss simpo does not read it"
    assert said in result.output.splitlines()
    assert VersionInfo.read(tmp_path / "new").spec["settings"]["loss_settings"] == {"beta": 0.2, "gamma": 1.0}


def test_a_dry_run_of_the_file_can_be_undone_and_opens_no_tracker(tmp_path: Path, data: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("dry_run: true\nreport_to: tensorboard\nmax_steps: 1\n")
    result = train(data, tmp_path / "new", "--config", str(config))
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "new.job" / "trackers").exists()
    result = train(data, tmp_path / "new", "--config", str(config), "--no-dry-run", "--report-to", "none")
    assert result.exit_code == 0, result.output
    verify(tmp_path / "new")
    assert not (tmp_path / "new.job" / "trackers").exists()


def test_a_model_without_a_chat_template_trains_on_plain_texts(tmp_path: Path, data: Path) -> None:
    model = copy_version(version_directory("llama"), tmp_path / "model")
    for name in ("manifest.json", "version.json", "chat_template.jinja"):
        (model / name).unlink()
    result = train(data, tmp_path / "new", "--max-steps", "1", model=model)
    assert result.exit_code == 0, result.output
    assert "prompts cut where they merge with an answer" in result.output
    talk = {name: [{"role": "user", "content": name}] for name in ("prompt", "chosen", "rejected")}
    data.write_text(json.dumps(talk))
    result = train(data, tmp_path / "other", model=model)
    assert result.exit_code == 2
    assert "rows.jsonl line 1: prompt is a conversation, and the model has no chat template" in result.stderr


def test_the_documented_configuration_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "trainer.md").read_text(), re.DOTALL)
    file = tmp_path / "run.yaml"
    file.write_text(text)
    made = request(read_configuration(file, OTHERS))
    assert (made.settings.loss, made.settings.learning_rate) == ("dpop", 5e-6)
    assert made.report_to == ["tensorboard"]


def test_what_is_missing_is_asked_for(data: Path) -> None:
    result = CliRunner().invoke(app, ["--data", str(data)])
    assert result.exit_code == 2
    assert "no model was given; name it with --model" in result.stderr


def test_every_tracker_is_one_of_accelerates(tmp_path: Path) -> None:
    """None of them imports its library before it is started."""
    for name in TRACKERS:
        assert make(name, tmp_path, "a run").name == name


def test_a_tracker_that_is_not_installed_says_how_to_get_it(tmp_path: Path, data: Path) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    result = train(data, tmp_path / "new", "--report-to", "wandb")
    assert result.exit_code == 2
    assert "pip install 'hone[wandb]'" in result.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--loss", "unheard"), "known are sigmoid, dpop"),
        (("--loss-setting", "dpop_lambda=3"), "loss 'sigmoid' does not read it"),
        (("--loss-setting", "beta=much"), "NAME=NUMBER"),
        (("--method", "full", "--lora-rank", "4"), "means nothing for method 'full'"),
        (("--max-length", "999"), "above the model's context of 256 tokens"),
        (("--lora-targets", "nose"), "lora_targets names nose, which this model has not; it has down_proj"),
        (("--eval-fraction", "2"), "2.0 is no share of the prompts; use a number from 0 to 0.9"),
        (("--reference", "nowhere"), "--reference nowhere: no such directory, and not a hub id like 'owner/name'"),
        (("--config", "nowhere.yaml"), "nowhere.yaml cannot be read: No such file or directory"),
        (("--eval-fraction", "0.9", "--max-steps", "1", "--data", "no.jsonl"), "no.jsonl cannot be read"),
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


def test_a_finished_attempt_is_published_only_for_the_command_that_made_it(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder came to be at the output while it was trained; then the same command, and in its place another one."""
    output, version = tmp_path / "new", tmp_path / "new.job" / "attempt-cli" / "version"
    settings = ("--max-steps", "1", "--lora-rank", "4", "--checkpoint-every-seconds", "1000")

    def late(staged: Path, final: Path) -> None:
        final.mkdir()
        publish(staged, final)

    with monkeypatch.context() as patched:
        patched.setattr(standalone, "publish", late)
        result = train(data, output, *settings)
    assert result.exit_code == 2, result.output
    assert f"the finished one lies in {version}" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    output.rmdir()
    made = tmp_path / "made"
    copy_version(tmp_path / "new.job", made)
    assert train(data, output, *settings, "--checkpoint-every-seconds", "500").exit_code == 0
    assert verify(output) == verify(made / "attempt-cli" / "version"), "trained once"
    for change in (("--loss", "ipo"), ("--eval-fraction", "0.3"), ("--learning-rate", "0.01")):
        name = tmp_path / change[0].strip("-")
        copy_version(made, tmp_path / f"{name}.job")
        assert train(data, name, *settings, *change).exit_code == 0
        assert verify(name) != verify(output)
        assert not version.exists()
    assert VersionInfo.read(tmp_path / "loss").spec["settings"]["loss"] == "ipo"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("rows.jsonl/new", "rows.jsonl/new.job cannot be made: Not a directory; name an --output in a folder"),
        ("/proc/new", "/proc/new.job cannot be made: No such file or directory"),
    ],
)
def test_an_output_that_cannot_be_made(tmp_path: Path, data: Path, output: str, says: str) -> None:
    result = train(data, tmp_path / output)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_without_permission_is_named(code: int) -> None:
    """Not tried on a real one: the account that the tests run under may be allowed everything."""
    exit_code, sentence = explain(OSError(code, os.strerror(code), "/somewhere/new.job/lock"))
    assert exit_code == 2
    assert sentence.startswith(f"/somewhere/new.job/lock cannot be used: {os.strerror(code)}; see to it")


def test_one_module_is_a_target_by_its_name_alone(tmp_path: Path, data: Path) -> None:
    result = train(data, tmp_path / "new", "--lora-targets", "q_proj", "--max-steps", "1")
    assert result.exit_code == 0, result.output
    assert VersionInfo.read(tmp_path / "new").spec["settings"]["lora_targets"] == ["q_proj"]


def test_bad_row_is_the_last_line(tmp_path: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write('{"prompt": "x"}\n')
    result = train(data, tmp_path / "new")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("rows.jsonl line 31: no 'chosen' among the columns prompt;")


def test_all_bad_rows_are_told_at_once(tmp_path: Path, data: Path) -> None:
    """Of every file, whatever is wrong with them: the first twenty by their place, and how many there are."""
    lines = data.read_text().splitlines()
    lines[1] = "{"
    lines[3] = '{"prompt": "x"}'
    data.write_text("\n".join(lines) + "\n")
    (tmp_path / "held.jsonl").write_text('{"prompt": "x", "chosen": "a", "rejected": "b", "weight": -1}\n[1]\n')
    more = ("--eval-data", str(tmp_path / "held.jsonl"))
    result = train(data, tmp_path / "new", *more)
    assert result.exit_code == 2
    *rows, last = result.stderr.splitlines()
    assert [row.split(":")[0] for row in rows] == [
        "held.jsonl line 1",
        "held.jsonl line 2",
        "rows.jsonl line 2",
        "rows.jsonl line 4",
    ]
    assert "weight -1 is negative" in rows[0]
    assert last.startswith("4 rows cannot be used, and each is named above; mend them, or remove them. The first: held")
    data.write_text('{"prompt": "x"}\n' * 25 + lines[0] + "\n")
    result = train(data, tmp_path / "new")
    *rows, last = result.stderr.splitlines()
    assert [row.split(":")[0] for row in rows] == [f"rows.jsonl line {number}" for number in range(1, 21)]
    assert last.startswith("25 rows cannot be used, and the first 20 are named above;")


def test_a_model_that_is_none(tmp_path: Path, data: Path) -> None:
    (tmp_path / "nothing").mkdir()
    result = train(data, tmp_path / "new", model=tmp_path / "nothing")
    assert result.exit_code == 2
    assert "no config.json; is it a model directory?" in result.stderr
