"""Statements that the driver runs as they are, on the session's connection and in its transaction.

For the few that every review runs: the general way from a ``text()`` to its rows took the server longer than the
database took to answer. Listeners see them, and errors are SQLAlchemy's, as with any other statement.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import ClauseElement, Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.orm import Session

Row = dict[str, Any]

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Direct:
    """A statement, compiled once.

    Values go to the driver as they are: a UUID, a moment, a list of one kind; JSON as ``psycopg.types.json.Jsonb``.
    """

    def __init__(self, clause: ClauseElement) -> None:
        """``clause``: ``text()``, with the types of those parameters whose places do not say them; or a ``select()``
        of columns that need no types of SQLAlchemy's own."""
        self.sql = str(clause.compile(dialect=_DIALECT))

    def all(self, db: Session, values: Mapping[str, Any]) -> list[Row]:
        """Every row.

        Raises:
            sqlalchemy.exc.DBAPIError: what the database said, as its subclass.
        """
        connection = db.connection()
        driver = connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"the driver is {type(driver).__qualname__}, not psycopg's")
        try:
            cursor = driver.cursor(row_factory=dict_row)
            for listener in connection.dispatch.before_cursor_execute:
                listener(connection, cursor, self.sql, values, None, False)
            return cursor.execute(self.sql, values).fetchall()
        except psycopg.Error as error:
            raise _as_sqlalchemy_says(error, self.sql, values, connection, driver) from error
        except asyncio.CancelledError:  # given up in the middle of the wait, and the connection with it
            connection.invalidate()
            raise

    def first(self, db: Session, values: Mapping[str, Any]) -> Row | None:
        """The only row, or null. Raises as ``all``, and MultipleResultsFound."""
        rows = self.all(db, values)
        if len(rows) > 1:
            raise MultipleResultsFound("more than one row")
        return rows[0] if rows else None

    def one(self, db: Session, values: Mapping[str, Any]) -> Row:
        """The only row. Raises as ``first``, and NoResultFound."""
        row = self.first(db, values)
        if row is None:
            raise NoResultFound("no row")
        return row

    def value(self, db: Session, values: Mapping[str, Any]) -> Any:
        """The first column of the only row. Raises as ``one``."""
        return next(iter(self.one(db, values).values()))


def _as_sqlalchemy_says(
    error: psycopg.Error, sql: str, values: Mapping[str, Any], connection: Connection, driver: Any
) -> BaseException:
    lost = bool(driver.closed or driver.broken)
    if lost:
        connection.invalidate(error)
    return DBAPIError.instance(
        sql,
        values,
        error,
        psycopg.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=connection.dialect,
    )
