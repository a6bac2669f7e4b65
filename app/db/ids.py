"""Identifiers: UUIDv7, made by the program, so that a row's id is known before it is written."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A new UUIDv7; ids made later sort later."""
    return uuid7()
