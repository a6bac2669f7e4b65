"""``hone simulate``: the loop closes without a click.

Simulated reviewers with a hidden preference (``worker.demo.tastes``) vote over the HTTP API, rounds run in the real
worker, and every version's answers to held-out prompts are judged against version 1's by that hidden preference.
The trainer sees nothing but the votes.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker.demo import tastes
from worker.demo.client import ApiError, Client
from worker.demo.throwaway import StackError, throwaway_stack
from worker.demo.winrate import WinRate, win_rate

PATIENCE_SECONDS = 180.0
"""Longest wait for the next comparison or for a round to move on before the simulation gives up."""

HELP = (
    "Close the loop without a click, and show that votes teach.\n\n"
    "Simulated reviewers with a hidden preference vote over the HTTP API, rounds run in the real worker, and every "
    "version's answers to held-out prompts are judged against version 1's by that hidden preference. The trainer sees "
    "nothing but the votes. Without --url a throw-away installation is started, and deleted in the end."
)

app = typer.Typer(add_completion=False)


class SimulationError(RuntimeError):
    """The loop did not close; the message says where it stopped."""


@dataclass(frozen=True)
class Run:
    """What one simulation works with."""

    admin: Client
    reviewers: list[Client]
    slug: str
    taste: str
    noise: float
    rng: random.Random


def vote(run: Run, count: int, progress: Progress) -> None:
    """Cast ``count`` votes, the reviewers taking turns."""
    task = progress.add_task("votes", total=count)
    last = time.monotonic()
    done = 0
    while done < count:
        reviewer = run.reviewers[done % len(run.reviewers)]
        pair = reviewer.next_pair(run.slug)
        if pair is None:
            if time.monotonic() - last > PATIENCE_SECONDS:
                raise SimulationError(f"no comparison was ready for {PATIENCE_SECONDS:.0f} s; `hone doctor` says why")
            time.sleep(0.2)
            continue
        reviewer.vote(pair, tastes.judge(run.taste, pair.a, pair.b, run.rng, run.noise))
        done, last = done + 1, time.monotonic()
        progress.advance(task)
    progress.remove_task(task)


def train(run: Run, number: int, progress: Progress) -> None:
    """Run a round to its end and make its version the current one."""
    round_id = run.admin.start_round(run.slug)
    task = progress.add_task(f"round {number}", total=100)
    last, seen = time.monotonic(), ""
    while True:
        state = run.admin.round(round_id)
        progress.update(task, completed=100 * float(state["progress"].get("progress") or 0.0))
        if state["state"] == "done":
            break
        if state["state"] in {"failed", "cancelled"}:
            raise SimulationError(f"round {number} {state['state']}: {state['error']}")
        if (now := json.dumps([state["state"], state["progress"]])) != seen:
            last, seen = time.monotonic(), now
        elif time.monotonic() - last > PATIENCE_SECONDS:
            raise SimulationError(
                f"round {number} has not moved for {PATIENCE_SECONDS:.0f} s in state {state['state']}"
            )
        time.sleep(0.25)
    made = next(version for version in run.admin.versions(run.slug) if version["id"] == state["version_id"])
    if made["state"] != "current":
        run.admin.promote(made["id"])
    progress.remove_task(task)


def sample(run: Run, number: int, prompts: list[list[dict[str, str]]], n: int, seed: int) -> list[list[str]]:
    """``n`` answers of a version to each prompt."""
    with ThreadPoolExecutor(8) as pool:
        return list(
            pool.map(
                lambda item: run.admin.chat(f"{run.slug}@{number}", item[1], n, seed + item[0]), enumerate(prompts)
            )
        )


def simulate(run: Run, *, votes: int, rounds: int, samples: int, console: Console) -> list[tuple[int, WinRate]]:
    """Votes and rounds in turn, then each version against version 1; (version, win rate) in order."""
    before = {version["number"] for version in run.admin.versions(run.slug)}
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        for index in range(rounds):
            share = votes * (index + 1) // rounds - votes * index // rounds
            started = time.monotonic()
            vote(run, share, progress)
            voted = time.monotonic()
            train(run, index + 1, progress)
            console.print(
                f"round {index + 1} of {rounds}: {share} votes in {voted - started:.0f} s, "
                f"round in {time.monotonic() - voted:.0f} s"
            )
        numbers = [1, *sorted({version["number"] for version in run.admin.versions(run.slug)} - before)]
        prompts = list(run.admin.held_out_prompts(run.slug))
        if not prompts:
            raise SimulationError(f"project {run.slug} has no held-out prompts to judge by")
        task = progress.add_task("judging held-out prompts", total=len(numbers) + 1)
        baseline = sample(run, 1, prompts, samples, seed=1_000_000)
        progress.advance(task)
        results = []
        for number in numbers:
            answers = sample(run, number, prompts, samples, seed=2_000_000 * (number + 1))
            rng = np.random.default_rng(number)
            results.append((number, win_rate(answers, baseline, lambda text: tastes.score(run.taste, text), rng)))
            progress.advance(task)
    return results


@contextmanager
def connect(url: str | None, tokens: list[str], console: Console) -> Iterator[tuple[Client, list[Client]]]:
    """Clients for the given server, or for a throw-away one started here: the admin's, and the reviewers'."""
    if url is None:
        with throwaway_stack(console) as (own_url, own_tokens), connect(own_url, own_tokens, console) as own:
            yield own
        return
    clients = [Client(url, token) for token in tokens]
    try:
        yield clients[0], clients[1:] or clients
    finally:
        for client in clients:
            client.close()


@app.command(help=HELP)
def main(
    votes: Annotated[int, typer.Option(min=2, help="Votes in all, shared out evenly over the rounds.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="Training rounds.")] = 3,
    taste: Annotated[str, typer.Option(help=f"Hidden preference: {', '.join(tastes.TASTES)}.")] = next(
        iter(tastes.TASTES)
    ),
    noise: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of votes that go the wrong way.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the reviewers' noise.")] = 0,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Answers per held-out prompt and version.")] = 4,
    url: Annotated[str | None, typer.Option(help="A running Hone; without it a throw-away one is started.")] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(help="API token of a project admin for --url; give it again for further reviewers."),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Slug of the project; default: the only one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, last.")] = False,
) -> None:
    """The command; HELP says what it does."""
    console = Console(stderr=as_json)
    if taste not in tastes.TASTES:
        _refuse(console, f"there is no taste {taste!r}: choose one of {', '.join(tastes.TASTES)}")
    if (url is None) != (not token):
        _refuse(console, "--url and --token go together: the address of a running Hone and a token of its admin")
    started = time.monotonic()
    try:
        with connect(url, token or [], console) as (admin, reviewers):
            slugs = [found["slug"] for found in admin.projects()]
            slug = project or (slugs[0] if len(slugs) == 1 else "")
            if slug not in slugs:
                _refuse(console, f"name the project with --project: the token sees {', '.join(slugs) or 'none'}")
            run = Run(admin, reviewers, slug, taste, noise, random.Random(seed))
            results = simulate(run, votes=votes, rounds=rounds, samples=samples, console=console)
    except (SimulationError, StackError, ApiError, httpx.TransportError) as error:
        _refuse(console, str(error), code=1)
    seconds = time.monotonic() - started
    _report(console, taste, votes, seconds, results)
    if as_json:
        versions = [{"version": number} | rate.to_dict() for number, rate in results]
        print(json.dumps({"seconds": round(seconds, 1), "votes": votes, "versions": versions}))


def _report(console: Console, taste: str, votes: int, seconds: float, results: list[tuple[int, WinRate]]) -> None:
    table = Table(title=f"Win rate against version 1, held-out prompts, taste “{taste}”")
    for heading in ("version", "win rate", "95 % interval"):
        table.add_column(heading, justify="right")
    for number, rate in results:
        table.add_row(str(number), f"{rate.win_rate:.1%}", f"{rate.low:.1%} – {rate.high:.1%}")
    console.print(table)
    console.print(f"{votes} votes, {seconds:.0f} s in all.")


def _refuse(console: Console, message: str, code: int = 2) -> None:
    console.print(f"[bold red]hone simulate:[/] {message}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    app()
