"""The list of commands, and the one place where an error becomes a line on standard error and an exit status."""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import OperationalError
from typer.core import TyperGroup

from app.cli import doctor, export, people, programs, storage, up
from app.cli.common import BadInputError, fail
from app.errors import DomainError
from app.local.errors import LocalError, StackError

BAD_INPUT = 2
OPTIONS = frozenset({"data", "host", "port"})
"""Settings that an option of the command line gives, too."""

app = typer.Typer(
    name="hone",
    cls=TyperGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Align a language model with what people prefer.

    Hone closes the loop of Direct Preference Optimization: it samples pairs of
    answers, lets people choose in a browser, trains on their choices, and
    samples from the better model.

    [bold]hone up --demo[/] starts all of it here, with a small model to try it on.
    [bold]hone up[/] starts your own installation.
    [bold]hone doctor[/] says what is wrong with it, and how to mend that.

    Everything is kept in one data directory. HONE_DATABASE_URL, HONE_REDIS_URL
    and HONE_ENGINE_URL point at servers of your own in place of the embedded
    ones. All settings are in docs/operators.md.
    """,
)
app.command("up", rich_help_panel="Run")(up.up)
app.command("doctor", rich_help_panel="Run")(doctor.doctor)
app.command("migrate", rich_help_panel="Run")(storage.migrate)
app.add_typer(people.users, name="users", rich_help_panel="People")
app.add_typer(people.token, name="token", rich_help_panel="People")
app.command("export", rich_help_panel="Data")(export.export)
app.command("backup", rich_help_panel="Data")(storage.backup)
app.command("restore", rich_help_panel="Data")(storage.restore)
app.command("prune", rich_help_panel="Data")(storage.prune)
app.command("train", rich_help_panel="Models", context_settings=programs.PASS_THROUGH)(programs.train)
app.command("merge", rich_help_panel="Models", context_settings=programs.PASS_THROUGH)(programs.merge)
app.command("node", rich_help_panel="Models", context_settings=programs.PASS_THROUGH)(programs.node)
app.command("simulate", rich_help_panel="Models", context_settings=programs.PASS_THROUGH)(programs.simulate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it did not work, 2 something given or found is in the way."""
    try:
        sys.exit(app(args=arguments, prog_name="hone", standalone_mode=False))
    except typer.TyperException as error:
        if not error.format_message():  # the help was shown: nothing more to say
            sys.exit(BAD_INPUT)
        fail(usage_line(error), BAD_INPUT)
    except typer.Abort:
        fail("stopped", 130)
    except ValidationError as error:
        fail(settings_line(error), BAD_INPUT)
    except SettingsError as error:
        fail(first_line(error), BAD_INPUT)
    except StackError as error:
        fail(str(error), 1)
    except (LocalError, BadInputError) as error:
        fail(str(error), BAD_INPUT)
    except DomainError as error:
        fail(f"{error.message.rstrip('.')}. {error.mend}".rstrip(), BAD_INPUT)
    except OperationalError as error:
        fail(f"the database does not answer ({first_line(error.orig)}): is HONE_DATABASE_URL right?", BAD_INPUT)


def usage_line(error: typer.TyperException) -> str:
    """A wrong option or argument, with where to read more."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "hone"
    return f"{error.format_message().rstrip('.').replace(chr(10), ' ')} (see `{where} --help`)"


def settings_line(error: ValidationError) -> str:
    """A setting with a value that means nothing, by the name of its environment variable."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    shown = f"HONE_{name.upper()}" + (f" (or --{name})" if name in OPTIONS else "")
    if first["type"] == "value_error":  # ours; what was given may hold a password
        return f"{shown}: {first['ctx']['error']}"
    return f"{shown}: {first['msg'].lower()}, not {first.get('input')!r}"


def first_line(error: object) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
