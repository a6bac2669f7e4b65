"""``hone train``: the trainer on a preference file, without server or database."""

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app.rounds.spec import GROUPS_FILE, LOSS_SETTINGS, METHODS, ExitCode, ModelRef, Spec, SpecError, TrainingSettings
from app.versions.manifest import MANIFEST_FILE, publish, verify
from worker.models import import_base, load_tokenizer
from worker.trainer.errors import RefusedError, TrainerError, explain
from worker.trainer.lifetime import Stop, lock

ATTEMPT = "cli"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="Version directory, model directory, or hub id to start from.")],
    data: Annotated[Path, typer.Option(help="JSONL or Parquet: prompt, chosen, rejected; or groups of token ids.")],
    output: Annotated[Path, typer.Option(help="The new version's directory; must not exist yet.")],
    loss: Annotated[str, typer.Option(help=f"One of {', '.join(LOSS_SETTINGS)}.")] = "sigmoid",
    loss_setting: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the loss; repeat.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Version directory; the start model by default.")] = None,
    method: Annotated[str, typer.Option(help=" or ".join(METHODS) + ".")] = "lora",
    lora_rank: Annotated[int | None, typer.Option()] = None,
    lora_alpha: Annotated[float | None, typer.Option()] = None,
    lora_dropout: Annotated[float | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    schedule: Annotated[str | None, typer.Option(help="linear, cosine or constant.")] = None,
    warmup_ratio: Annotated[float | None, typer.Option()] = None,
    weight_decay: Annotated[float | None, typer.Option()] = None,
    max_grad_norm: Annotated[float | None, typer.Option()] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimiser steps.")] = None,
    pairs_per_step: Annotated[int | None, typer.Option(help="Preferences per optimiser step.")] = None,
    tokens_per_row: Annotated[int | None, typer.Option(help="Tokens per forward pass; less needs less memory.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest prompt + completion, tokens.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    eval_fraction: Annotated[float, typer.Option(min=0, max=0.9, help="Share of prompts held out.")] = 0.1,
    eval_every_steps: Annotated[int | None, typer.Option()] = None,
    checkpoint_every_steps: Annotated[int | None, typer.Option()] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Audit data and model, train nothing.")] = False,
) -> None:
    """Train MODEL on the preferences in DATA and write a new version to OUTPUT.

    A run that was stopped goes on when the same command is given again.
    """
    chosen = {
        "lora_rank": lora_rank,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "epochs": epochs,
        "max_steps": max_steps,
        "pairs_per_step": pairs_per_step,
        "tokens_per_row": tokens_per_row,
        "max_length": max_length,
        "dtype": dtype,
        "seed": seed,
        "eval_every_steps": eval_every_steps,
        "checkpoint_every_steps": checkpoint_every_steps,
    }
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see worker.trainer.__main__
    console, stop = Console(), Stop()
    stop.install()
    try:
        settings = TrainingSettings.from_dict(
            {"loss": loss, "loss_settings": _loss_settings(loss_setting or []), "method": method}
            | {name: value for name, value in chosen.items() if value is not None}
        )
        _train(model, data, output, reference, settings, eval_fraction, dry_run=dry_run, stop=stop, console=console)
    except Exception as error:
        code, sentence = explain(error)
        if code is ExitCode.FAILED and not isinstance(error, TrainerError):
            console.print_exception()
        typer.echo(" ".join(sentence.split()), err=True)
        raise typer.Exit(int(code)) from error


def _train(
    model: str,
    data: Path,
    output: Path,
    reference: Path | None,
    settings: TrainingSettings,
    eval_fraction: float,
    *,
    dry_run: bool,
    stop: Stop,
    console: Console,
) -> None:
    if output.exists():
        raise RefusedError(f"{output} exists already; a version is never overwritten, so name another --output")
    job = output.with_name(f"{output.name}.job")
    job.mkdir(parents=True, exist_ok=True)
    with lock(job):
        start = _start(model, output)
        spec = Spec(
            settings=settings,
            start=start,
            reference=start if reference is None else ModelRef(str(reference.resolve()), verify(reference)),
        )
        spec.write(job)
        _write_groups(job, data, Path(start.path), eval_fraction)

        from worker.trainer.job import audit, run
        from worker.trainer.progress import bar

        with bar(console) as listen:
            if dry_run:
                audit(job, stop, listen)
                return
            version = run(job, ATTEMPT, stop, listen)
        publish(version, output)
        shutil.rmtree(job / "checkpoints", ignore_errors=True)
        shutil.rmtree(job / f"attempt-{ATTEMPT}", ignore_errors=True)
    console.print(f"[bold]{output}[/bold] is a version; its figures are in {job / 'metrics.jsonl'}")


def _start(model: str, output: Path) -> ModelRef:
    """The model to start from as a version; one that is none yet is imported beside the output."""
    directory = Path(model)
    if not (directory / MANIFEST_FILE).is_file():
        directory = output.with_name(f"{output.name}.base")
        if not directory.exists():
            staged = directory.with_name(f".{directory.name}.new")
            shutil.rmtree(staged, ignore_errors=True)
            import_base(Path(model) if Path(model).is_dir() else model, staged)
            publish(staged, directory)
    return ModelRef(str(directory.resolve()), verify(directory))


def _write_groups(job: Path, data: Path, start: Path, eval_fraction: float) -> None:
    from transformers import GenerationConfig

    from worker.trainer.data import group_to_dict
    from worker.trainer.dataset import load_groups

    tokenizer = load_tokenizer(start)
    eos = GenerationConfig.from_pretrained(start, local_files_only=True).eos_token_id
    eos_ids = frozenset(eos if isinstance(eos, list) else [tokenizer.eos_token_id if eos is None else eos])
    groups = load_groups(data, tokenizer, eos_ids, eval_fraction)
    lines = [json.dumps(group_to_dict(group)) + "\n" for group in groups]
    (job / GROUPS_FILE).write_text("".join(lines), encoding="utf-8")


def _loss_settings(given: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in given:
        name, _, value = item.partition("=")
        try:
            settings[name] = float(value)
        except ValueError as error:
            raise SpecError("loss_setting", f"{item!r} is not NAME=NUMBER") from error
    return settings


if __name__ == "__main__":
    app()
