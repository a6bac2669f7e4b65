"""What happens after a request's commit, beside the answer: the outbox is sent by a thread of its own."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("hone.web")


class AfterCommit:
    """Runs ``work`` soon after it was called, in one thread, once for any number of calls that came meanwhile.

    Calling never waits. What fails is logged and left: the worker's tick finds the rows that were not sent.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._condition = threading.Condition()
        self._wanted = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Ask for the work."""
        with self._condition:
            self._wanted = True
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="after-commit", daemon=True)
                self._thread.start()
            self._condition.notify()

    def close(self, wait_seconds: float = 3.0) -> None:
        """Finish what was asked for and stop."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._wanted or self._closed)
                if not self._wanted:
                    return
                self._wanted = False
            try:
                self._work()
            except Exception:
                log.exception("after a commit, the outbox could not be sent; the worker's tick will send it")
