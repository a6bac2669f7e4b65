"""Postgres: the only truth. Engine and session here, tables in ``app.db.tables``."""
