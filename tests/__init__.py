"""The suite. ``fixtures`` holds real servers: no part of it stands in for Postgres or Redis."""
