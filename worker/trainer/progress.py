"""A job's events on a terminal: a progress bar, and a line for what is worth keeping."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from worker.trainer.console import describe
from worker.trainer.metrics import Event, Listener


@contextmanager
def bar(console: Console) -> Iterator[Listener]:
    """A listener that draws a bar while the block lasts; without a terminal it prints lines only."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=1.0, figures="")

        def listen(event: Event) -> None:
            progress.update(task, completed=event["progress"])
            if event["kind"] == "phase":
                progress.update(task, description=event["phase"])
            if event["kind"] == "train":
                figures = f"step {event['step']}/{event['steps']} loss {event['loss']:.4f}"
                if "accuracy" in event:
                    figures += f" acc {event['accuracy']:.2f}"
                progress.update(task, figures=figures)
            if event["kind"] not in ("phase", "train") or not console.is_terminal:
                line = describe(event)
                if line:
                    console.print(Text(line), soft_wrap=True)

        yield listen
