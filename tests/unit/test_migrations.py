"""The migrations make exactly the tables that the code declares, and can be taken back and made again."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from app.db import (
    migrations,
    tables,  # noqa: F401 - registers every table
)
from app.db.base import Base


def test_the_tables_are_what_the_code_declares(fresh_database: str) -> None:
    engine = create_engine(fresh_database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": Base.metadata}
        )
        assert compare_metadata(context, Base.metadata) == []
    assert migrations.current(engine) == migrations.head()
    engine.dispose()


def test_down_to_nothing_and_up_again(fresh_database: str) -> None:
    engine = create_engine(fresh_database)
    config = migrations.configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    assert migrations.current(engine) is None
    migrations.upgrade(engine)
    assert migrations.current(engine) == migrations.head()
    assert set(inspect(engine).get_table_names()) == {"alembic_version", *Base.metadata.tables}
    engine.dispose()
