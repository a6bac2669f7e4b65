"""See to it that there is a Chromium for the browser tests: an installed one, one from apt (as root), or Playwright's.

Prints what it will be. Ends with status 1, and says so loudly, when there is none to be had: the browser tests are
part of the suite, and a suite without them must not pass.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def installed() -> Path | None:
    """A Chromium that starts: HONE_TEST_CHROMIUM, one on the PATH, or the one Playwright downloaded."""
    for candidate in _candidates():
        if candidate.exists() and _starts(candidate):
            return candidate
    return None


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("HONE_TEST_CHROMIUM"):
        yield Path(chosen)
    for name in NAMES:
        if found := shutil.which(name):
            yield Path(found)
    yield MAC
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield Path(playwright.chromium.executable_path)


def _starts(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], check=False, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def fetch() -> list[str]:
    """Try the ways to get one; what went wrong with each."""
    problems = []
    for name, command, possible in (
        ("apt-get", ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
         os.geteuid() == 0 and shutil.which("apt-get") is not None),
        ("playwright install chromium", [sys.executable, "-m", "playwright", "install", "chromium"], True),
    ):  # fmt: skip
        if not possible:
            continue
        print(f"no Chromium found; trying {name} …", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        if name == "apt-get":
            subprocess.run(["apt-get", "update", "--quiet"], check=False, capture_output=True, env=environment)
        try:
            result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=environment)
        except subprocess.TimeoutExpired:
            problems.append(f"{name}: nothing came within 10 minutes")
            continue
        if result.returncode == 0 and installed() is not None:
            return []
        said = (result.stderr or result.stdout).strip().splitlines()
        problems.append(f"{name}: {said[-1] if said else f'status {result.returncode}'}")
    return problems


def main() -> int:
    """Print the browser, getting one if needed; 0 if there is one."""
    problems = [] if installed() is not None else fetch()
    browser = installed()
    if browser is not None:
        print(f"browser: {browser}")
        return 0
    bar = "=" * 78
    print(f"{bar}\nTHERE IS NO CHROMIUM, AND NONE COULD BE HAD: the browser tests cannot run.", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print(
        f"Install one (for example `apt install chromium`), or name it in HONE_TEST_CHROMIUM.\n{bar}", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
