"""``hone train``: the trainer on a preference file, without server or database."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from app.rounds.spec import ADAPTER_METHODS, ExitCode, SpecError, TrainingSettings, with_one_warmup
from worker.adapters import shape_of
from worker.trainer.dataset import DEFAULT_EVAL_FRACTION
from worker.trainer.errors import BadRowsError, RefusedError, TrainerError, explain
from worker.trainer.lifetime import Stop
from worker.trainer.memory import heap, set_environment
from worker.trainer.options import (
    loss_settings,
    losses_help,
    read_by,
    read_configuration,
    targets,
    with_settings,
)
from worker.trainer.othernames import misnamed
from worker.trainer.renaming import columns_of
from worker.trainer.standalone import Request, train_file
from worker.trainer.tracking import checked

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

OTHERS = frozenset(
    {"model", "data", "eval_data", "columns", "output", "reference", "eval_fraction", "report_to", "merge", "dry_run"}
)


class _Command(TyperCommand):
    """Answers options by the names that other trainers give them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for argument in args:
            if (meant := misnamed(argument)) is not None:
                raise typer.BadParameter(meant, ctx=ctx)
        return super().parse_args(ctx, args)


@app.command(cls=_Command, epilog=losses_help())
@with_settings
def train(
    model: Annotated[
        str | None, typer.Option(help="Version, model directory, hub id, or adapter of PEFT's to start from.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="JSONL or Parquet: TRL's rows, or groups of token ids; repeat, or give a pattern in quotes."),
    ] = None,
    eval_data: Annotated[
        list[Path] | None, typer.Option(help="The same for what is held out; in place of --eval-fraction.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="What the data calls the columns that are read: prompt=THEIRS,chosen=THEIRS, …"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The new version's directory; must not exist yet.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with any of these options; the command line wins.")] = None,
    loss_setting: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the loss, such as beta=0.2; repeat.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Version directory, model directory, or hub id, with the start's tokenizer; the start by default."
        ),
    ] = None,
    eval_fraction: Annotated[
        float | None,
        typer.Option(help=f"Share of prompts held out, 0 to 0.9; {DEFAULT_EVAL_FRACTION} by default."),
    ] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="tensorboard, mlflow, wandb or trackio; repeat, or none.")
    ] = None,
    merge: Annotated[
        bool | None,
        typer.Option("--merge/--no-merge", help="Write the whole model, too, to OUTPUT.merged, as hone merge does."),
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run/--no-dry-run", help="Audit data and model, train nothing.")
    ] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train MODEL on the preferences in DATA and write a new version to OUTPUT.

    A run that was stopped goes on when the same command is given again.
    """
    set_environment()
    heap().keep_freed()
    console, stop = Console(), Stop()
    stop.install()
    typed = {
        "model": model,
        "data": data,
        "eval_data": eval_data,
        "columns": columns,
        "output": output,
        "reference": reference,
        "eval_fraction": eval_fraction,
        "report_to": report_to,
        "merge": merge,
        "dry_run": dry_run,
    }
    try:
        given = {} if config is None else read_configuration(config, OTHERS)
        if given and "loss" in settings:
            given, dropped = read_by(settings["loss"], given)
            if dropped:
                typer.echo(f"{config}: {', '.join(dropped)} left out, for --loss {settings['loss']} does not read it")
        given = with_one_warmup(given, settings)
        given |= {name: value for name, value in (typed | settings).items() if value is not None}
        given["loss_settings"] = given.get("loss_settings", {}) | loss_settings(loss_setting or [])
        train_file(request(given), stop, console)
    except Exception as error:
        code, sentence = explain(error)
        if code is ExitCode.FAILED and not isinstance(error, TrainerError):
            console.print_exception()
        for row in error.rows if isinstance(error, BadRowsError) and len(error.rows) > 1 else []:
            typer.echo(" ".join(row.split()), err=True)
        typer.echo(" ".join(sentence.split()), err=True)
        raise typer.Exit(int(code)) from error


def request(given: dict[str, Any]) -> Request:
    """What was asked for, checked. Raises RefusedError or SpecError, naming the option."""
    for name in ("model", "data", "output"):
        if not given.get(name):
            raise RefusedError(f"no {name} was given; name it with --{name}, or as '{name}' in the --config file")
    for name in ("model", "output", "reference"):
        if not isinstance(given.get(name), str | Path | None):
            raise SpecError(name, f"{given[name]!r} is no path; write a text")
    trackers = checked(_listed(given.get("report_to", [])))
    merge, dry_run = _flag("merge", given), _flag("dry_run", given)
    settings = _settings(given)
    if merge and (settings.method not in ADAPTER_METHODS or settings.lora_dora):
        raise SpecError("merge", "means nothing where a full model is published; leave it out")
    reference, eval_data = given.get("reference"), _files("eval_data", given.get("eval_data", []))
    eval_fraction = _share(given.get("eval_fraction"))
    if eval_data and eval_fraction:
        raise SpecError("eval_fraction", "means nothing beside eval_data, which says what is held out; leave one out")
    return Request(
        model=str(given["model"]),
        data=_files("data", given["data"]),
        output=Path(given["output"]),
        reference=None if reference is None else str(reference),
        settings=settings,
        eval_fraction=eval_fraction,
        eval_data=eval_data,
        columns=columns_of(given.get("columns", {})),
        report_to=[] if dry_run else trackers,
        merge=merge,
        dry_run=dry_run,
    )


def _settings(given: dict[str, Any]) -> TrainingSettings:
    """The settings among what was given; those of LoRA that were not are those of the adapter it starts from."""
    settings = {name: value for name, value in given.items() if name not in OTHERS}
    if "lora_targets" in settings:
        settings["lora_targets"] = targets(settings["lora_targets"])
    if settings.get("method", "lora") in ADAPTER_METHODS and not settings.get("lora_dora"):
        settings = shape_of(Path(given["model"])) | settings
    return TrainingSettings.from_dict(settings)


def _flag(name: str, given: dict[str, Any]) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise SpecError(name, f"{value!r} is neither true nor false")
    return value


def _files(name: str, given: Any) -> list[Path]:
    files = given if isinstance(given, list) else [given]
    for file in files:
        if not isinstance(file, str | Path) or not str(file):
            raise SpecError(name, f"{file!r} is no path; write a text, or a list of them")
    return [Path(file) for file in files]


def _listed(report_to: Any) -> list[str]:
    names = [report_to] if isinstance(report_to, str) else report_to
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SpecError("report_to", f"{report_to!r} is neither a tracker's name nor a list of them")
    return names


def _share(fraction: Any) -> float | None:
    if fraction is None:
        return None
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 0.9:
        raise SpecError("eval_fraction", f"{fraction!r} is no share of the prompts; use a number from 0 to 0.9")
    return float(fraction)


if __name__ == "__main__":
    app()
