"""The ceiling of ``bench/voting.py``: a bare FastAPI application that reads a pair and writes a vote, and no more.

No accounts, no leases, no rules, no pages. Run as ``uvicorn voting_floor:app``; FLOOR_DATABASE_URL names its database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from pydantic import BaseModel

SCHEMA = """
    CREATE TABLE pairs (id int PRIMARY KEY, a text NOT NULL, b text NOT NULL);
    CREATE TABLE votes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pair int NOT NULL REFERENCES pairs,
                        choice text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
    INSERT INTO pairs SELECT n, repeat('Give it light. ', 60), repeat('Water it from below. ', 60)
    FROM generate_series(1, 1000) n;
"""


@asynccontextmanager
async def _pool(application: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["FLOOR_DATABASE_URL"], min_size=4, max_size=10) as pool:
        application.state.pool = pool
        yield


app = FastAPI(lifespan=_pool)


class Vote(BaseModel):
    """What is sent."""

    pair: int
    choice: str


@app.post("/vote")
async def vote(body: Vote, request: Request) -> dict[str, Any]:
    """Write the vote, answer with a pair; two statements, of which the first is a transaction of its own."""
    async with request.app.state.pool.acquire() as connection:
        await connection.execute("INSERT INTO votes (pair, choice) VALUES ($1, $2)", body.pair, body.choice)
        row = await connection.fetchrow("SELECT id, a, b FROM pairs WHERE id = $1", body.pair % 1000 + 1)
    return dict(row)
