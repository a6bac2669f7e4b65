"""``hone users`` and ``hone token``."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.cli.common import BadInputError, DataOption, attached, console, transaction_on

users = typer.Typer(no_args_is_help=True, help="Make accounts and set passwords.")
token = typer.Typer(no_args_is_help=True, help="Make keys for programs (API tokens).")

EmailOption = Annotated[str, typer.Option(metavar="EMAIL", help="The address they sign in with.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of making one up.")
]


@users.command("create")
def create_user(
    email: EmailOption,
    data: DataOption = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="A site admin: may make projects and see all of them.")
    ] = False,
    name: Annotated[str, typer.Option(help="What others see.")] = "",
    password_stdin: StdinOption = False,
) -> None:
    """Make an account. Prints a password once, unless it is given on standard input."""
    password, is_new = _password(password_stdin)
    with attached(data, "hone users create") as settings:
        from app.accounts import service

        with transaction_on(settings) as db:
            service.create_user(db, email=email, password=password, name=name, is_site_admin=admin)
    console.print(f"Made {'the admin' if admin else 'the account'} {email.strip().lower()}.", highlight=False)
    _show(password, is_new)


@users.command("password")
def set_password(email: EmailOption, data: DataOption = None, password_stdin: StdinOption = False) -> None:
    """Set a new password; sign-ins and API tokens of the account end. Prints the password once, unless it is given."""
    password, is_new = _password(password_stdin)
    with attached(data, "hone users password") as settings:
        from app.accounts import service
        from app.projects.service import person

        with transaction_on(settings) as db:
            service.set_password(db, person(db, email), password, with_tokens=True)
    told = "has a new password; sign-ins with the old one and API tokens have ended."
    console.print(f"{email.strip().lower()} {told}", highlight=False)
    _show(password, is_new)


@token.command("create")
def create_token(
    user: Annotated[str, typer.Option(metavar="EMAIL", help="Whose rights the token has.")],
    scope: Annotated[
        list[str], typer.Option(metavar="SCOPE", help="What it may do; once for each, for example votes:write.")
    ],
    data: DataOption = None,
    name: Annotated[str, typer.Option(help="What to recognise it by.")] = "command line",
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days it is valid; for good if not given.")
    ] = None,
    keeps: Annotated[
        str, typer.Option(metavar="WHAT", help="What is kept of its chats: nothing, prompts, or answers as well.")
    ] = "nothing",
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests under /v1/ a minute, in place of the installation's limit.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Tokens models read and write for it a day, in place of the quota.")
    ] = None,
) -> None:
    """Make an API token and print it, once, as the last line on standard output."""
    with attached(data, "hone token create") as settings:
        from app.accounts import service
        from app.projects.service import person

        expires_at = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
        with transaction_on(settings) as db:
            _, secret = service.create_token(
                db,
                user=person(db, user),
                name=name,
                scopes=scope,
                expires_at=expires_at,
                keeps=keeps,
                requests_per_minute=requests_per_minute,
                tokens_per_day=tokens_per_day,
            )
    typer.echo(secret)


def _password(from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was made up here."""
    if not from_stdin:
        from app.local.demo import new_password

        return new_password(), True
    given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise BadInputError("--password-stdin: nothing came on standard input; pipe the password in, on one line")
    return given, False


def _show(password: str, is_new: bool) -> None:
    if is_new:
        console.print("Password, shown this once:")
        typer.echo(password)
