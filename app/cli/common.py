"""What the commands share: options, settings, and how an error becomes one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from sqlalchemy.orm import Session

from app.settings import Settings

console = Console()
"""For people. What programs read (tokens, JSON) goes to standard output by ``typer.echo``, unwrapped."""

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data directory: everything Hone keeps is in it. \\[default: $HONE_DATA, or ./hone-data]",
        show_default=False,
    ),
]


class BadInputError(Exception):
    """Something the caller gave cannot be used; the message says what to do. Exit status 2."""


def settings_with(**given: Any) -> Settings:
    """Settings from the environment, less what was given on the command line.

    Raises:
        pydantic.ValidationError: an environment variable or option has a value that means nothing.
    """
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def attached(data: Path | None, purpose: str, *, may_create: bool = False) -> Iterator[Settings]:
    """Settings whose database answers: see ``app.local.attach``."""
    from app.local.attach import attach

    with attach(settings_with(data=data), purpose, may_create=may_create) as settings:
        yield settings


@contextmanager
def transaction_on(settings: Settings) -> Iterator[Session]:
    """One transaction on the database of ``settings``, committed at the end."""
    from app.db.session import make_engine, make_session_factory, transaction

    engine = make_engine(settings)
    try:
        with transaction(make_session_factory(engine)) as db:
            yield db
    finally:
        engine.dispose()


def fail(message: str, status: int) -> None:
    """Say it on standard error and end."""
    typer.echo(f"hone: {message}", err=True)
    sys.exit(status)
