"""From key to next pair painted: a real Chromium on the compare page, against the server as its own process.

A reviewer presses a key whenever the next pair is ready; measured in the page, from the key's own time stamp to the
second animation frame after the new pair stands on it (so at least one frame with it was painted). Beside it the time
the server took to answer each vote. ``python bench/next_pair.py``; with ``--json`` the last line is for machines.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import NullPool, create_engine

from app.accounts.identity import SESSION_COOKIE
from app.accounts.service import start_session
from app.db import migrations
from app.db.session import make_engine, make_session_factory, transaction
from app.local.net import free_port
from app.local.postgres import EmbeddedPostgres
from app.settings import Settings
from tests.browser.ensure_chromium import installed
from tests.factories.rows import make_comparison, make_member, make_project, make_prompt, make_version

KEYS = "abtx"
PROSE = "Give it light and warmth, and water it from below; **never** from above, or the leaves get spots. "
CODE = "\n\n```python\ndef water(plant, litres=0.2):\n    return plant.soil + litres  # enough\n```\n\n$$e = mc^2$$\n\n"

WATCH = """
    window.swaps = [];
    let pressed = 0;
    addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
    addEventListener("DOMContentLoaded", () => {
      new MutationObserver((changes) => {
        if (!changes.some((change) => [...change.addedNodes].some((node) => node.id === "desk")) || !pressed) return;
        const from = pressed;
        pressed = 0;
        requestAnimationFrame(() => requestAnimationFrame(() => window.swaps.push(performance.now() - from)));
      }).observe(document.getElementById("main"), { childList: true });
    });
"""


def main() -> None:
    """Lay the pairs, drive the browser, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="pairs to judge (default 100)")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hone-next-pair-"))
    folder.chmod(0o711)  # as root Postgres runs under another account, which must pass through
    server = EmbeddedPostgres(folder / "data", throw_away=True, system_home=folder / "system")
    try:
        server.start()
        figures = measure(server.url("postgres"), folder, options.pairs)
    finally:
        server.stop()
        shutil.rmtree(folder)
    print(f"{'':24} {'p50':>8} {'p95':>8} {'max':>8}")
    for name, title in (("painted_ms", "key to next pair, ms"), ("answered_ms", "vote answered, ms")):
        row = figures[name]
        print(f"{title:24} {row['p50']:8.1f} {row['p95']:8.1f} {row['max']:8.1f}")
    print(f"{figures['pairs']} pairs, {figures['votes']} votes stored")
    if options.json:
        print(json.dumps(figures))


def measure(database_url: str, folder: Path, pairs: int) -> dict[str, Any]:
    """Judge ``pairs`` pairs; the times, in milliseconds."""
    migrating = create_engine(database_url, poolclass=NullPool)
    migrations.upgrade(migrating)
    migrating.dispose()
    engine = make_engine(Settings(database_url=database_url))
    factory = make_session_factory(engine)
    with transaction(factory) as db:
        project = make_project(db, slug="bench", buffer_size=1)
        version, reviewer = make_version(db, project, number=1), make_member(db, project)
        for number in range(pairs + 1):
            texts = (f"{number}. {PROSE * 10}{CODE}{PROSE * 4}", f"{number}. {PROSE * 16}")
            prompt = make_prompt(db, project, text=f"Question {number}: how do I keep basil alive?")
            make_comparison(db, project, version=version, prompt=prompt, texts=texts)
        _, key = start_session(db, reviewer, 1)
    port = free_port()
    program = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
    environment = os.environ | {
        "HONE_DATABASE_URL": database_url,
        "HONE_DATA": str(folder / "web"),
    }
    with (folder / "web.log").open("wb") as log:
        web = subprocess.Popen(program, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, web)
        painted, answered = judge(url, key, pairs)
    finally:
        web.terminate()
        web.wait(timeout=30)
    with engine.connect() as connection:
        votes = int(connection.exec_driver_sql("SELECT count(*) FROM votes").scalar_one())
    engine.dispose()
    return {"pairs": pairs, "votes": votes, "painted_ms": spread(painted), "answered_ms": spread(answered)}


def wait_for(url: str, web: "subprocess.Popen[bytes]") -> None:
    """Until the server answers. Raises RuntimeError when it does not within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until and web.poll() is None:
        try:
            httpx.get(f"{url}/healthz", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start within a minute")


def judge(url: str, key: str, pairs: int) -> tuple[list[float], list[float]]:
    """Press a key for each pair; when each next one was painted, and when each vote was answered, ms."""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=installed(), args=flags)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": SESSION_COOKIE, "value": key, "url": url, "httpOnly": True, "sameSite": "Lax"}])
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(f"{url}/p/bench/compare")
        page.evaluate("performance.setResourceTimingBufferSize(100000)")
        for number in range(pairs):
            on_pair(page, number, last=number == pairs - 1)
            page.keyboard.press(KEYS[number % len(KEYS)])
        expect(page.locator(".talk")).to_contain_text(f"Question {pairs}:", timeout=30_000)
        expect(page.locator("body[data-kept='0']")).to_be_attached(timeout=30_000)
        page.wait_for_timeout(300)
        painted = page.evaluate("window.swaps")
        answered = page.evaluate(
            "performance.getEntriesByType('resource').filter(e => e.name.endsWith('/compare') "
            "&& e.initiatorType === 'fetch').map(e => e.responseEnd - e.startTime)"
        )
        browser.close()
    if len(painted) != pairs:
        raise RuntimeError(f"{len(painted)} swaps were seen for {pairs} choices")
    return painted, answered


def on_pair(page: Page, number: int, *, last: bool) -> None:
    """Wait until that pair is shown, the choice before is stored, and the next pair waits in the page."""
    expect(page.locator(".talk")).to_contain_text(f"Question {number}:", timeout=30_000)
    expect(page.locator("body[data-kept='0']")).to_be_attached(timeout=30_000)
    if not last:
        expect(page.locator("#desk[data-ahead=ready]")).to_be_attached(timeout=30_000)
    page.wait_for_timeout(400)  # within 350 ms a second press is taken for a double click


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(statistics.median(values), 1), "p95": round(cuts[18], 1), "max": round(max(values), 1)}


if __name__ == "__main__":
    main()
