"""``hone merge``: a whole model out of an adapter and its base."""

from pathlib import Path
from typing import Annotated

import typer

from app.rounds.spec import ExitCode
from worker.trainer.errors import RefusedError, TrainerError, explain
from worker.trainer.memory import set_environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def merge(
    source: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="A version that is an adapter, or a directory with one of PEFT's.")
    ],
    output: Annotated[Path, typer.Option(help="The whole model's directory; must not exist yet.")],
    base: Annotated[
        str | None,
        typer.Option(help="Of PEFT's adapters: directory or hub id in place of the model that it names."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of the weights: float32, or bfloat16 and float16, which round them once.")
    ] = "float32",
) -> None:
    """Merge ADAPTER into its base and write the whole model to OUTPUT, as a version that any library opens.

    It is opened again and compared with the adapter on its base before it takes its place.
    """
    set_environment()
    from worker.trainer.merging import DTYPES
    from worker.trainer.merging import merge as merge_into

    try:
        if dtype not in DTYPES:
            raise RefusedError(f"--dtype {dtype!r} is unknown; known are {', '.join(DTYPES)}")  # noqa: TRY301
        made = merge_into(source, output, base=base, dtype=dtype)
    except Exception as error:
        code, sentence = explain(error)
        if code is ExitCode.FAILED and not isinstance(error, TrainerError):
            raise
        typer.echo(" ".join(sentence.split()), err=True)
        raise typer.Exit(int(code)) from error
    typer.echo(
        f"{output} is a whole model; its logits differ by at most {made.difference:.2g} (of {made.largest:.3g}) from "
        "those of the adapter on its base"
    )


if __name__ == "__main__":
    app()
