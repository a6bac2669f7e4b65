"""``hone node``: a further machine for jobs that ask for more than one.

It watches a directory of jobs that it shares with the machine that starts rounds, and joins those whose settings say
``nodes`` above its rank. The shared directory and the models must lie at the same paths on all machines.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from app.rounds.spec import ExitCode
from worker.trainer.launch import LAUNCH_FILE, Launch, start
from worker.trainer.lifetime import Stop
from worker.trainer.memory import set_environment

LOOK_SECONDS = 2.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def node(
    jobs: Annotated[Path, typer.Option(help="The shared directory of jobs: <data>/jobs, or where --output lies.")],
    rank: Annotated[int, typer.Option(min=1, help="Number of this machine; the one that starts rounds is 0.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="End after one job, with its exit code.")] = False,
) -> None:
    """Take part in the training of jobs that ask for more machines, until stopped."""
    if not jobs.is_dir():
        typer.echo(
            f"{jobs} is no directory; name the one that the machine which starts rounds writes its jobs to", err=True
        )
        raise typer.Exit(int(ExitCode.REFUSED))
    set_environment()
    typer.echo(f"waiting for jobs in {jobs} as machine {rank}")
    stop = Stop()
    stop.install()
    done: set[str] = set()
    while not stop.asked:
        for job, made in sorted(under_way(jobs), key=lambda found: found[1].started):
            if made.nodes <= rank or made.run in done or stop.asked:
                continue
            typer.echo(f"joins {job.name}, attempt {made.attempt}, with {made.processes} processes")
            done.add(made.run)
            code, sentence = start(job, made, stop, node_rank=rank)
            typer.echo(f"{job.name}: {sentence or 'done'}")
            if once:
                raise typer.Exit(int(code))
        time.sleep(LOOK_SECONDS)


def under_way(jobs: Path) -> list[tuple[Path, Launch]]:
    """The launches under way, with their job directories."""
    found = [(file.parent, Launch.read(file.parent)) for file in jobs.glob(f"*/{LAUNCH_FILE}")]
    return [(job, made) for job, made in found if made is not None and _plain(made.attempt)]


def _plain(attempt: str) -> bool:
    return bool(attempt) and all(character.isalnum() or character in "-_" for character in attempt)


if __name__ == "__main__":
    app()
