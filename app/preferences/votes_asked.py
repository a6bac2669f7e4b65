"""How addresses say which votes are asked for: the same for the page, its export and the API."""

from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BeforeValidator, StringConstraints

from app.preferences.contradictions import Age
from app.preferences.records import Split
from app.preferences.votes import Filter, Origin, Said, With

Blank = BeforeValidator(lambda value: value.strip() or None)  # a field in which nothing was typed or chosen
MAX_WORDS = 200
Words = Annotated[str, StringConstraints(max_length=MAX_WORDS)]


def _wanted(
    mentions: Annotated[Words | None, Blank, Query(description="In the prompt or in the comment, in any case.")] = None,
    reviewer: Annotated[UUID | None, Blank, Query(description="Whose votes.")] = None,
    said: Annotated[
        Said | None, Blank, Query(description="`preferred`: one of two answers; or what else was said.")
    ] = None,
    origin: Annotated[
        Origin | None,
        Blank,
        Query(description="`reviewers`: handed out; `clients`: feedback; `playground`: asked there."),
    ] = None,
    said_with: Annotated[
        With | None, Blank, Query(alias="with", description="What came with it: a comment, ticked reasons, an edit.")
    ] = None,
    split: Annotated[
        Split | None, Blank, Query(description="`train` leaves held-out prompts out, `eval` is only those.")
    ] = None,
    age: Annotated[
        Age | None, Blank, Query(description="Within 7 days (`week`), 30 days (`month`), or before that (`older`).")
    ] = None,
) -> Filter:
    return Filter(mentions, reviewer, said, origin, said_with, split, age)


Wanted = Annotated[Filter, Depends(_wanted)]


def as_query(wanted: Filter) -> str:
    """The filter as the end of an address, without what it leaves open."""
    given: dict[str, Any] = {
        "mentions": wanted.mentions, "reviewer": wanted.reviewer, "said": wanted.said, "origin": wanted.origin,
        "with": wanted.said_with, "split": wanted.split, "age": wanted.age,
    }  # fmt: skip
    return urlencode({name: value for name, value in given.items() if value is not None})
