"""``hone doctor``."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from app.cli.common import DataOption, console, settings_with

MARKS = {"ok": "[green]✓[/]", "note": "[yellow]·[/]", "wrong": "[red]✗[/]"}


def doctor(
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    expect_running: Annotated[
        bool, typer.Option("--expect-running", help="For monitoring: it is wrong when `hone up` does not run.")
    ] = False,
) -> None:
    """Say what is running, what is wrong, and how to mend it.

    Looks at the data directory and what runs on it, or at the configured
    servers: disk space, Postgres and its migrations, ticks of beat, late
    wake-ups, stuck rounds, current versions against their manifests, Redis,
    worker, engine, web. Changes nothing (a file that it writes to see whether
    the directory can be written is removed). The exit status is 1 when
    something is wrong; an installation that was stopped is not, unless it is
    expected to run.
    """
    from app.local.attach import with_stack
    from app.local.doctor import examine

    settings = settings_with(data=data)
    settings = with_stack(settings.model_copy(update={"data": settings.data.resolve()}))
    findings = list(examine(settings, expect_running=expect_running))
    healthy = all(finding.state != "wrong" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "findings": [asdict(one) for one in findings]}, ensure_ascii=False))
        raise typer.Exit(0 if healthy else 1)
    if not console.is_terminal:  # whoever reads a pipe wants whole lines
        for finding in findings:
            console.print(MARKS[finding.state], finding.part, escape(finding.seen), highlight=False, soft_wrap=True)
            if finding.mend:
                console.print(f"  → {escape(finding.mend)}", highlight=False, soft_wrap=True)
        raise typer.Exit(0 if healthy else 1)
    table = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 1))
    for finding in findings:
        table.add_row(MARKS[finding.state], finding.part, escape(finding.seen))
        if finding.mend:
            table.add_row("", "", f"[bold]→ {escape(finding.mend)}[/]")
    console.print(table, highlight=False)
    raise typer.Exit(0 if healthy else 1)
