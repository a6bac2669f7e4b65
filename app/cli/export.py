"""``hone export``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.common import BadInputError, DataOption, attached


def export(
    project: Annotated[str, typer.Option(metavar="SLUG", help="The project, by its name in addresses.")],
    format_: Annotated[
        Literal["trl", "arena", "groups"],
        typer.Option("--format", help="trl: prompt, chosen, rejected. arena: battles. groups: what the trainer reads."),
    ] = "trl",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; standard output if not given.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Write what people chose as JSON Lines, one object a line. What was voted is never locked in."""
    with attached(data, "hone export") as settings:
        from app.db.session import make_engine, make_session_factory
        from app.preferences import export as exports

        engine = make_engine(settings)
        try:
            with make_session_factory(engine)() as db:
                lines = exports.lines(db, project_slug=project, format=format_)
                if output is None:
                    sys.stdout.writelines(lines)
                    return
                try:
                    with output.open("x", encoding="utf-8") as file:
                        file.writelines(lines)
                except FileExistsError:
                    raise BadInputError(f"{output} exists already: choose another name") from None
                except OSError as error:
                    raise BadInputError(f"{output} cannot be written ({(error.strerror or '').lower()})") from error
        finally:
            engine.dispose()
