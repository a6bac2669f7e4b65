"""Environment variables that look like settings and are none: a typo would otherwise be ignored without a word."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from app.local.process import RUN_MARK, STACK_MARK
from app.settings import Settings

PREFIX = "HONE_"
OTHERS = frozenset(
    {STACK_MARK, RUN_MARK, "HONE_POSTGRES_PASSWORD", "HONE_REDIS_PASSWORD", "HONE_PUBLISH", "HONE_TOKEN", "HONE_URL"}
)
"""Marks of our own processes, what docker-compose.yml reads from .env, and what the examples for the API use."""


def unknown_settings(environment: Mapping[str, str]) -> Iterator[str]:
    """One line for each, with the nearest name: "HONE_PROT is no setting and is ignored: did you mean HONE_PORT?"."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in {*OTHERS, *known}:
            near = get_close_matches(name.upper(), known, n=1)
            yield f"{name} is no setting and is ignored" + (f": did you mean {near[0]}?" if near else "")
