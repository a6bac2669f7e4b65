"""``hone export``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from sqlalchemy import select

from app.cli.common import BadInputError, DataOption, attached, transaction_on
from app.db.tables import Project


def export(
    project: Annotated[str, typer.Option(metavar="SLUG", help="The project, by its name in addresses.")],
    format_: Annotated[
        Literal["trl", "arena", "groups", "votes"],
        typer.Option(
            "--format",
            help="trl: prompt, chosen, rejected. arena: battles. groups: what the trainer reads. votes: every vote "
            "as it was cast.",
        ),
    ] = "trl",
    split: Annotated[
        Literal["all", "train", "eval"], typer.Option(help="train leaves held-out votes out; eval is only those.")
    ] = "all",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; standard output if not given.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Write what people chose as JSON Lines, one object a line. What was voted is never locked in."""
    with attached(data, "hone export") as settings:
        from app.preferences.export import export_rows, note

        with transaction_on(settings) as db:
            row = db.scalar(select(Project).where(Project.slug == project))
            if row is None:
                known = ", ".join(db.scalars(select(Project.slug).order_by(Project.slug))) or "none yet"
                raise BadInputError(f"there is no project {project!r}; there are: {known}")
            note(db, row, None, format_, split)
            found = export_rows(db, row, format_, split=None if split == "all" else split)
            lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in found)
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
