"""The log of every process: lines of one shape, as text or JSON, that say which request, task and round they are about.

Standard library only: the engine logs by it too.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

LogFormat = Literal["text", "json"]

SENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
"""A request id that somebody else may choose: nothing that could be taken for another part of a line."""

_ABOUT = ("request_id", "task", "round", "project", "slug", "user")
_FIELDS = (*_ABOUT, "method", "route", "status", "ms")
_QUIET = ("httpx", "httpcore", "app.db.waiting")
"""Their INFO is a line for every request to the engine, and for every pool of connections that is let go."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


def start(**fields: str | None) -> None:
    """What the lines of this request or task are about, from here on: these, and nothing that was said before."""
    _about.set({name: value for name, value in fields.items() if value is not None})


def also(**fields: str) -> None:
    """What else the lines of this request or task are about, as soon as that is known: those that other threads of
    the request log as well, and the one that the server writes at its end. Without ``start`` it is about nothing."""
    here = _about.get()
    if isinstance(here, dict):
        here.update(fields)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Lines of the block are about these as well."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def request_id() -> str | None:
    """Of the request that is answered here, or that asked for the task that is done here."""
    return _about.get().get("request_id")


class About(logging.Filter):
    """Puts on each record what it is about. Belongs to the handler: loggers' filters do not see their children's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        for name, value in tuple(_about.get().items()):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class TextLines(logging.Formatter):
    """For people: what it is about stands at the end of the message, as ``[request_id=… round=…]``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The first line, before a traceback."""
        told = " ".join(f"{name}={getattr(record, name)}" for name in _ABOUT if getattr(record, name, None))
        return super().formatMessage(record) + (f" [{told}]" if told else "")


class JsonLines(logging.Formatter):
    """A JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, with its fields where it has them."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) is not None})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(log_format: str | None = None, level: int = logging.INFO) -> None:
    """Send everything to stderr in one shape. For a process of its own, not for tests.

    Args:
        log_format: 'text' or 'json'; None reads HONE_LOG_FORMAT, for programs that know no settings.
    """
    log_format = log_format or os.environ.get("HONE_LOG_FORMAT", "text")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    handler.addFilter(About())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True
