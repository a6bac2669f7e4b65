"""How many reviews a second, and how long each request takes: closed-loop reviewers against the server of ``hone up``.

    python bench/voting.py [--reviewers 1,8,16,32,128] [--seconds 6] [--paths html,api] [--json]

Starts ``hone up`` on an empty data directory (embedded Postgres with all its durability, Redis, engine, worker, web),
lays pairs in the queue, signs reviewers in through the sign-in form, and lets them review without a pause: over HTML
as the page's script does (a vote is answered with the pair after the next: one request) and over the API (take a pair,
vote: two requests). Beside it a bare FastAPI application with asyncpg does one SELECT and one INSERT for each request
on the same Postgres, with as many processes as the web server has: the ceiling.

Postgres, servers and load share the machine. The table says what a review costs each of them (``web``, ``postgres``
and ``client``: milliseconds of one core), so the load's own share is known. ``p95`` is over single requests. Every
fiftieth vote is sent twice. Afterwards the database is asked: each acknowledged vote is there, once, and no comparison
counts more votes than it asked for; whatever is not so is an error, and the program ends with status 1.

``--json`` prints one last line: {"rows": [{"path", "reviewers", "per_s", "p95_ms", "errors", "ceiling_share", …}], …}.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
from sqlalchemy import create_engine, make_url, text
from voting_floor import SCHEMA
from voting_pairs import PASSWORD, faults, lay, make_people, put_away

from app.db.session import make_engine, make_session_factory, transaction
from app.local import commands, net, stack
from app.local.postgres_files import remove_files
from app.settings import Settings

HERE = Path(__file__).resolve().parent
OVERLAP = 3
"""Votes that each comparison asks for, where there are that many reviewers."""
MOST_PER_SECOND = 900
"""Pairs are laid for so many reviews a second; more are not to be expected of two cores."""


LAID = "prompts, completions, comparisons, comparison_slots"
"""Tables that the pairs filled. Those that are empty are left to Postgres, as on any server: told that a table has no
rows, it would plan for that."""


@dataclass(frozen=True)
class Row:
    """One path with one number of reviewers."""

    path: str
    reviewers: int
    per_s: float
    p50_ms: float
    p95_ms: float
    errors: int
    ceiling_share: float | None
    """Reviews a second as a share of what the bare application does with as many clients; its own row has none."""
    reviews: int
    web_ms: float
    postgres_ms: float
    client_ms: float
    """Of one core, for each review."""


class Load:
    """The process with the reviewers in it."""

    def __init__(self) -> None:
        program = [sys.executable, str(HERE / "voting_client.py")]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **job: Any) -> dict[str, Any]:
        """What came of a job."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the load has no pipes")
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the load ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(30)


def main() -> None:
    """Start everything, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviewers", default="1,8,16,32,128", help="how many at once (default 1,8,16,32,128)")
    parser.add_argument("--paths", default="html,api", help="html, api or both")
    parser.add_argument("--seconds", type=float, default=6.0, help="of measuring, for each row (default 6)")
    parser.add_argument("--no-floor", action="store_true", help="leave the bare application out")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    options = parser.parse_args()
    counts = [int(count) for count in options.reviewers.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="hone-voting-"))
    load = Load()
    try:
        with hone_up(folder / "data") as running:
            rows, problems = measure(
                running, load, counts, options.paths.split(","), options.seconds, with_floor=not options.no_floor
            )
    finally:
        load.close()
        remove_files(folder / "data")
        shutil.rmtree(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.json:
        machine = {"cores": os.cpu_count()}
        print(json.dumps({"rows": [asdict(row) for row in rows if row.path != "floor"],
                          "ceiling": [asdict(row) for row in rows if row.path == "floor"], **machine}))  # fmt: skip
    sys.exit(1 if any(row.errors for row in rows) else 0)


@contextmanager
def hone_up(data: Path) -> Iterator[stack.Stack]:
    """The whole stack, as the command starts it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HONE_")}
    if "HONE_WEB_PROCESSES" in os.environ:
        environment["HONE_WEB_PROCESSES"] = os.environ["HONE_WEB_PROCESSES"]
    command = [sys.executable, "-m", "app.cli", "up", "--data", str(data), "--port", "0"]
    with (data.parent / "up.log").open("wb") as log:
        up = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=HERE.parent)
    try:
        until = time.monotonic() + 180
        while not ((found := stack.running(data)) and found.ready):
            if up.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"hone up does not start:\n{(data.parent / 'up.log').read_text()}")
            time.sleep(0.2)
        yield found
    finally:
        up.terminate()
        up.wait(timeout=90)


@contextmanager
def floor(database_url: str, processes: int) -> Iterator[tuple[int, int]]:
    """The bare application: its port and process id."""
    url = make_url(database_url)
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE floor"))
    server.dispose()
    own = create_engine(url.set(database="floor"))
    with own.begin() as connection:
        connection.exec_driver_sql(SCHEMA)
    own.dispose()
    port = net.free_port()
    command = [commands.PYTHON, "-m", "uvicorn", "voting_floor:app", "--port", str(port), "--no-access-log",
               "--log-level", "warning", "--workers", str(processes)]  # fmt: skip
    address = url.set(drivername="postgresql", database="floor").render_as_string(hide_password=False)
    environment = os.environ | {"FLOOR_DATABASE_URL": address}
    process = subprocess.Popen(command, env=environment, cwd=HERE)
    try:
        until = time.monotonic() + 60
        while net.status_of(f"http://127.0.0.1:{port}", "/openapi.json") != 200:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the bare application does not start")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def measure(
    running: stack.Stack, load: Load, counts: list[int], paths: list[str], seconds: float, *, with_floor: bool
) -> tuple[list[Row], list[str]]:
    """All rows, and what was wrong."""
    engine = make_engine(Settings(database_url=running.database_url))
    factory = make_session_factory(engine)
    rows: list[Row] = []
    problems: list[str] = []
    with transaction(factory) as db:
        people = make_people(db, max(counts))
    host, _, port = running.url.removeprefix("http://").partition(":")
    server = {"host": host, "port": int(port)}
    emails = [person.email for person in people]
    signed_in = load.ask(path="sign_in", emails=emails, password=PASSWORD, **server)
    web_pid, postgres_pid = running.children["web"], running.children["postgres"]
    processes = max(1, len(workers_of(web_pid)))
    print(f"{os.cpu_count()} cores, {processes} web process{'' if processes == 1 else 'es'}; "
          f"{len(people)} reviewers signed in within {signed_in['seconds']:.1f} s\n")  # fmt: skip
    print(f"{'path':6} {'reviewers':>9} {'reviews/s':>10} {'p50 ms':>8} {'p95 ms':>8} {'errors':>7} {'ceiling':>8} "
          f"{'web':>7} {'postgres':>9} {'client':>7}")  # fmt: skip
    ceiling: dict[int, float] = {}

    def run(path: str, count: int, slug: str, pid: int, at: dict[str, Any]) -> tuple[dict[str, Any], Row]:
        before = cpu_seconds(pid), cpu_seconds(postgres_pid)
        found = load.ask(path=path, reviewers=count, slug=slug, seconds=seconds, **at)
        used = cpu_seconds(pid) - before[0], cpu_seconds(postgres_pid) - before[1]
        times = sorted(found["milliseconds"]) or [math.nan]
        # What was used is of the whole run, warm-up included; so are the votes it is divided by.
        done = max(1, len(found["keys"]) or round(found["reviews"] * found["wall_seconds"] / seconds))
        per_s = found["reviews"] / seconds
        return found, Row(
            path=path,
            reviewers=count,
            per_s=round(per_s, 1),
            p50_ms=round(statistics.median(times), 1),
            p95_ms=round(times[max(0, math.ceil(0.95 * len(times)) - 1)], 1),
            errors=len(found["errors"]),
            ceiling_share=round(per_s / ceiling[count], 3) if count in ceiling and path != "floor" else None,
            reviews=len(found["keys"]) or found["reviews"],
            web_ms=round(1000 * used[0] / done, 2),
            postgres_ms=round(1000 * used[1] / done, 2),
            client_ms=round(1000 * found["cpu_seconds"] / done, 3),
        )

    if with_floor:
        with floor(running.database_url, processes) as (floor_port, floor_pid):
            for count in counts:
                found, row = run("floor", count, "", floor_pid, {"host": "127.0.0.1", "port": floor_port})
                ceiling[count] = row.per_s
                problems += found["errors"]
                rows.append(row)
                show(row)
    for path in paths:
        for count in counts:
            slug = f"{path}-{count}"
            slots = min(OVERLAP, count)
            pairs = math.ceil(MOST_PER_SECOND * (seconds + 2) / slots)
            with transaction(factory) as db:
                laid = lay(db, slug, people, pairs=pairs, slots=slots)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"VACUUM (ANALYZE) {LAID}"))
            found, row = run(path, count, slug, web_pid, server)
            with transaction(factory) as db:
                wrong = found["errors"] + faults(db, laid, found["keys"])
                put_away(db, laid)
            if found["dry"]:
                wrong.append(f"the queue ran dry: {pairs} pairs are too few for {row.per_s}/s")
            problems += [f"{slug}: {error}" for error in wrong[:20]]
            row = Row(**(asdict(row) | {"errors": len(wrong)}))
            rows.append(row)
            show(row)
    engine.dispose()
    return rows, problems


def workers_of(web_pid: int) -> list[psutil.Process]:
    """The processes among which uvicorn divides the work; none when it does all by itself."""
    children = psutil.Process(web_pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def cpu_seconds(pid: int) -> float:
    """That a process and its living descendants have used so far."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:  # a backend that ended meanwhile
            continue
        total += used.user + used.system
    return total


def show(row: Row) -> None:
    """A line of the table."""
    share = "" if row.ceiling_share is None else f"{row.ceiling_share:.0%}"
    print(f"{row.path:6} {row.reviewers:9} {row.per_s:10.1f} {row.p50_ms:8.1f} {row.p95_ms:8.1f} {row.errors:7} "
          f"{share:>8} {row.web_ms:7.2f} {row.postgres_ms:9.2f} {row.client_ms:7.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
