"""What routes ask for: the database, the settings, rendering, forms.

A request is one transaction. ``Db`` is committed after the route has returned and before the first byte of the answer
leaves (``scope="function"``); when the commit fails, so does the request. After it, what the request put in the outbox
is sent by a thread of its own, so that no answer waits for the broker.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.db.session import transaction
from app.journal.outbox import enqueued
from app.settings import Settings
from app.web.rendering import Renderer
from app.web.replies import is_htmx, see_other

__all__ = ["AppSettings", "Db", "Fields", "Render", "is_htmx", "see_other"]


def _session(request: Request) -> Iterator[Session]:
    state = request.app.state
    with transaction(state.session_factory) as db:
        yield db
    if enqueued(db):
        state.after_commit()


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Db = Annotated[Session, Depends(_session, scope="function")]
"""The request's session: services flush, this commits."""

AppSettings = Annotated[Settings, Depends(_settings)]


async def _fields(request: Request) -> FormData:
    return await request.form()


Fields = Annotated[FormData, Depends(_fields)]
"""The posted form, for routes whose fields are not known beforehand. Otherwise declare ``Annotated[str, Form()]``."""


def _renderer(request: Request, db: Db) -> Renderer:
    return Renderer(request, db)


Render = Annotated[Renderer, Depends(_renderer)]
"""``render("compare/page.html", block="pair", **context)``: the page, or for HTMX only the block."""
