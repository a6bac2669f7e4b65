"""Identifiers: UUIDv7, made by the program, so that a row's id is known before it is written."""

import time
from random import Random, SystemRandom
from uuid import UUID

from uuid_utils.compat import uuid7

_RNG = SystemRandom()
_BLOCK_BITS = 14
"""Of the milliseconds in a blurred id these are drawn: 2^14 ms, 16 seconds."""


def new_id() -> UUID:
    """A new UUIDv7; ids made later sort later."""
    return uuid7()


def blurred_id(like: UUID | None = None, rng: Random = _RNG) -> UUID:
    """A UUIDv7 that tells when it was made to half a minute, and beyond that nothing but chance.

    Those of ``new_id`` tell more: made within one millisecond they count up, so that some are seen to have been made
    together and others alone. Of these no two have more in common than any two made within the same 16 seconds.

    Args:
        like: the new one is of the same 16 seconds as this one; without it, of the latest that are over.
        rng: draws everything else.
    """
    block = like.int >> 80 + _BLOCK_BITS if like else (time.time_ns() // 1_000_000 >> _BLOCK_BITS) - 1
    value = block << 80 + _BLOCK_BITS | rng.getrandbits(80 + _BLOCK_BITS)
    value &= ~(0x1F << 75 | 0x3 << 62)  # places of version and variant, and the bit that uuid7 keeps free to count on
    return UUID(int=value | 0x7 << 76 | 0x2 << 62)
