"""What ``hone up`` says on the terminal: one line per step, and one box with the address and the logins."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from app.local.first_run import FirstRun
from app.settings import Settings


class Report:
    """Lines for people. Nothing that is printed here is meant for programs: those read ``run/stack.json``."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, data: Path) -> None:
        """The first line."""
        self.line(f"Hone {version('hone')} on {data} (logs in {data / 'logs'})")

    def line(self, text: str) -> None:
        """Something happened. A terminal that has gone, or a full disk under ``hone up > FILE``, stops nothing."""
        with contextlib.suppress(OSError):
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim]  ", end="")
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, name: str, state: str) -> None:
        """A part reached a state."""
        with contextlib.suppress(OSError):
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim]  [green]✓[/green] {name:<9}", end="")
            self.console.print(state, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def timed(self, name: str, state: str) -> Iterator[None]:
        """A step with the time it took."""
        began = time.monotonic()
        yield
        self.step(name, f"{state} ({time.monotonic() - began:.1f} s)")

    def ready(self, settings: Settings, url: str, first: FirstRun) -> None:
        """The box: where to go, and as whom."""
        rows = Table.grid(padding=(0, 2))
        rows.add_row("Open", f"[bold cyan link={url}]{url}[/]")
        for login in first.logins:
            rows.add_row(login.role.capitalize(), f"[bold]{login.email}[/]  password  [bold]{login.password}[/]")
        notes = list(first.notes)
        if first.logins:
            notes.append("The passwords are shown this once: `hone users password` sets new ones.")
        notes.append("Ctrl-C stops everything and keeps the data.")
        grid = Table.grid()
        grid.add_row(rows)
        grid.add_row("")
        for note in notes:
            grid.add_row(note)
        self.console.print(Panel(grid, title="Hone is ready", border_style="green", expand=False, padding=(1, 3)))
        if settings.host not in {"127.0.0.1", "localhost", "::1"}:
            self.line(f"listening on {settings.host}: put TLS in front and set HONE_SECURE_COOKIES=true")
