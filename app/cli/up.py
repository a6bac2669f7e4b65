"""``hone up``."""

import sys
from typing import Annotated

import typer

from app.cli.common import DataOption, console, settings_with


def up(
    data: DataOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; 127.0.0.1 is this machine only. \\[default: $HONE_HOST, or 127.0.0.1]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port; 0 takes any free one. \\[default: $HONE_PORT, or 8000]", show_default=False
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make a demo project with a small model, prompts, an admin and a reviewer.")
    ] = False,
) -> None:
    """Start everything on one data directory, and keep it running until Ctrl-C.

    Needs nothing installed but Python: Postgres and Redis come along and listen
    on unix sockets only. Then come the sampling engine, the worker (it refills
    pairs and trains) and the web server on http://127.0.0.1:8000. A part that
    dies is started again. The log of each is in DIR/logs.

    The first start makes the database and, with --demo, a project to try, whose
    logins are shown once. Without --demo, make the first admin with
    `hone users create --admin --email …`, or set HONE_ADMIN_EMAIL and
    HONE_ADMIN_PASSWORD.

    Ctrl-C stops every part and keeps the data; the next `hone up` goes on.
    """
    from app.local.console import Report
    from app.local.supervisor import Supervisor

    settings = settings_with(data=data, host=host, port=port)
    sys.exit(Supervisor(settings, Report(console), with_demo=demo).main())
