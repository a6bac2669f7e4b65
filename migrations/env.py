"""Alembic's environment: the URL comes from HONE_DATABASE_URL, or from the caller (``config.attributes``)."""

from alembic import context
from sqlalchemy import Connection

from app.db import tables  # noqa: F401 - registers every table
from app.db.base import Base
from app.db.session import make_engine
from app.settings import Settings


def run(connection: Connection) -> None:
    """Run the migrations in one transaction, one migrator at a time."""
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        # Two starting processes may both migrate: the second waits here and then finds nothing to do.
        connection.exec_driver_sql("select pg_advisory_xact_lock(7466354)")
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    settings = context.config.attributes.get("settings") or Settings()
    engine = make_engine(settings)
    with engine.connect() as fresh:
        run(fresh)
        fresh.commit()
    engine.dispose()
