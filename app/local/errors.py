"""What can go wrong around running Hone, said in one line with the mend in it."""


class LocalError(Exception):
    """Something about this machine or data directory is in the way; the message says what to do about it."""


class PostgresError(LocalError):
    """The embedded Postgres cannot be made, started or reached."""


class RedisError(LocalError):
    """The embedded Redis cannot be started or reached."""


class LockedError(LocalError):
    """Another process works on this data directory."""


class StackError(LocalError):
    """A part of the stack did not come up, or keeps dying."""
