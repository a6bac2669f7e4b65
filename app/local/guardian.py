"""A small process beside the supervisor that outlives a ``kill -9`` of it and ends what it left behind.

``python -m app.local.guardian RUN``: its standard input is a pipe that only the supervisor holds. When that closes,
every process that carries ``HONE_STACK_RUN=RUN`` is asked to end and then killed.
"""

import signal
import sys

from app.local.process import RUN_MARK, sweep


def main() -> None:
    """Wait for the end of standard input, then sweep."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(RUN_MARK, sys.argv[1], grace_seconds=15.0)


if __name__ == "__main__":
    main()
