"""Statements that go to the driver directly: in the session's transaction, heard by listeners, failing as others do."""

from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import ARRAY, Engine, Integer, bindparam, event, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound, OperationalError
from sqlalchemy.orm import Session

from app.db.direct import Direct
from app.db.session import make_session_factory
from tests.factories.rows import make_user

ECHO = Direct(
    text("SELECT :id AS id, :numbers AS numbers, :said AS said, '100%' AS all").bindparams(
        bindparam("id", type_=UUID), bindparam("numbers", type_=ARRAY(Integer))
    )
)
BY_EMAIL = Direct(text("SELECT name FROM users WHERE email LIKE :email"))
ADD = Direct(text("INSERT INTO users (id, email, name, password_hash) VALUES (:id, :email, 'x', 'x') RETURNING id"))


def test_values_arrive_and_return_as_what_they_are(db: Session) -> None:
    values = {"id": uuid4(), "numbers": [3, 1], "said": Jsonb({"ä": None})}
    assert ECHO.one(db, values) == {"id": values["id"], "numbers": [3, 1], "said": {"ä": None}, "all": "100%"}


def test_they_see_what_the_session_wrote_and_go_with_it(db: Session) -> None:
    with db.begin_nested() as savepoint:
        person = make_user(db, email="one@example.org")
        assert BY_EMAIL.value(db, {"email": "one@%"}) == person.name
        savepoint.rollback()
    assert BY_EMAIL.first(db, {"email": "one@%"}) is None
    with pytest.raises(NoResultFound):
        BY_EMAIL.one(db, {"email": "one@%"})
    make_user(db, email="one@example.org")
    make_user(db, email="one@example.com")
    with pytest.raises(MultipleResultsFound):
        BY_EMAIL.first(db, {"email": "one@%"})


def test_listeners_hear_them(db: Session) -> None:
    heard: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        heard.append(statement)

    connection = db.connection()
    event.listen(connection, "before_cursor_execute", note)
    BY_EMAIL.all(db, {"email": "x"})
    event.remove(connection, "before_cursor_execute", note)
    assert [statement for statement in heard if "LIKE" in statement] == [BY_EMAIL.sql]


def test_what_the_database_refuses_is_said_as_by_any_statement(db: Session) -> None:
    make_user(db, email="taken@example.org")
    with pytest.raises(IntegrityError) as refused, db.begin_nested():
        ADD.all(db, {"id": uuid4(), "email": "taken@example.org"})
    assert "taken@example.org" not in str(refused.value).partition("\n[SQL")[2], "values stay out of logs"


def test_a_connection_that_is_lost_is_not_used_again(engine: Engine) -> None:
    factory = make_session_factory(engine)
    with factory() as victim, factory() as other:
        pid = victim.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid}).scalar_one()
        with pytest.raises(OperationalError) as lost:
            BY_EMAIL.all(victim, {"email": "x"})
        assert lost.value.connection_invalidated
        victim.rollback()
        assert BY_EMAIL.all(victim, {"email": "x"}) == []
