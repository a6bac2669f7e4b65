"""Cursors of lists whose rows have no number that only rises: where the last row of a page stood, packed into a text.

It says the place itself and not whose it was, so that the next page follows even if that row has moved or is gone.
"""

import base64
import json
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidError
from app.language import _

T = TypeVar("T")

Cursor = Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before.")]
Offset = Annotated[
    int, Query(ge=0, le=1_000_000, description="How many to pass over, in place of `cursor`; rows that move shift it.")
]


def pack(place: tuple[Any, ...]) -> str:
    """For the caller to send back as it is."""
    packed = json.dumps(place, default=str, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def unpack(cursor: str | None, shape: TypeAdapter[T], *, offset: int = 0) -> T | None:
    """The place that was packed; None without a cursor.

    Raises:
        InvalidError: it is none that this list gave, or came with an ``offset``.
    """
    if cursor is None:
        return None
    if offset:
        raise InvalidError(
            _("There are a cursor and an offset, %(offset)s.", offset=offset),
            mend=_("Give one of them."),
            field="offset",
        )
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return shape.validate_json(packed)
    except (ValueError, ValidationError):
        raise InvalidError(
            _("%(cursor)s is no cursor of this list.", cursor=repr(cursor)),
            mend=_("Send `next_cursor` of the page before as it is, or none for the first page."),
            field="cursor",
        ) from None
