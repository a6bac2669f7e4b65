"""Templates into answers: a page, or for HTMX a named block of it.

Every macro of ``templates/components/`` is in the namespace ``ui``, in pages and blocks alike, without an import (a
block is rendered without the top of its template, where an import would stand).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2_fragments import render_block
from markupsafe import Markup
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse

from app.db.waiting import aside
from app.language import LANGUAGES, _, current, direction, figures, say
from app.language.texts import separator
from app.web import assets, words
from app.web.csrf import FIELD, token_for_forms
from app.web.markdown import render_markdown
from app.web.replies import Tone, is_htmx, take_flash

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "templates"

LONG_CHARS = 10_000
"""Formatting more takes so long that nobody else should have to wait for it."""

PageContext = Callable[[Request, Session], Mapping[str, Any]]
"""What every full page needs to know from a noun (the navigation); ``app.state.page_context`` is a list of them."""


class Renderer:
    """Renders for one request. Called with a template's name and what it shows."""

    def __init__(self, request: Request, db: Session | None) -> None:
        self._request = request
        self._db = db

    def __call__(
        self,
        template: str,
        *,
        block: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        notice: str | None = None,
        tone: Tone = "good",
        **context: Any,
    ) -> HTMLResponse:
        """The answer.

        Args:
            template: for example ``rounds/page.html``.
            block: what HTMX gets instead of the whole page.
            status: HTTP status; a form with errors is sent again with 422.
            headers: further headers (``HX-Push-Url`` …).
            notice: for HTMX, a message for the page's live region; on a full page it is shown at the top.
            tone: how the notice is meant.
            **context: what the template reads. ``errors`` (field → message) may be left out or hold few of the fields.
        """
        context["errors"] = defaultdict(str, context.get("errors") or {})
        answer_headers = {"Vary": "HX-Request, Accept-Language", **(headers or {})}
        if block is not None and is_htmx(self._request):
            if notice is not None:
                answer_headers["HX-Trigger"] = json.dumps({"hone:notice": {"text": say(notice), "tone": tone}})
            html = render_block(environment(), template, block, {**self._base(), **context})
        else:
            flash = {"text": notice, "tone": tone} if notice is not None else take_flash(self._request)
            page = {**self._base(), "flash": flash, **self._from_nouns(), **context}
            answer_headers["Content-Language"] = current()
            html = environment().get_template(template).render(page)
        return HTMLResponse(html, status_code=status, headers=answer_headers)

    def _base(self) -> dict[str, Any]:
        state = self._request.state
        token = token_for_forms(self._request)
        return {
            "request": self._request,
            "path": self._request.url.path,
            "principal": getattr(state, "principal", None),
            "project_context": getattr(state, "project_context", None),
            "csp_nonce": getattr(state, "csp_nonce", ""),
            "csrf_token": token,
            "csrf_field": Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, token),
            "nav": SimpleNamespace(projects=[], current=None, role=None),
        }

    def _from_nouns(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._db is not None:
            for provide in self._request.app.state.page_context:
                found.update(provide(self._request, self._db))
        return found


@lru_cache
def environment() -> Environment:
    """The one environment: everything is escaped, a missing name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=say,
    )
    made.globals.update(
        _=words.say_text, _n=words.say_number, language=current, direction=direction, script_words=words.for_scripts
    )
    made.globals["static"] = assets.url
    made.filters["markdown"] = markdown
    made.filters["attributes"] = attributes
    made.filters["ago"] = ago
    made.filters["when"] = when
    made.filters["day"] = figures.day
    made.filters["thousands"] = figures.thousands
    made.filters["percent"] = figures.percent
    made.filters["decimal"] = figures.decimal
    made.filters["significant"] = figures.significant
    made.filters["signed"] = figures.signed
    made.filters["plain"] = figures.plain
    made.filters["joined"] = joined
    made.filters["said"] = words.said
    made.globals["LANGUAGES"] = LANGUAGES
    macros: dict[str, Any] = {}
    made.globals["ui"] = SimpleNamespace()
    for name in sorted(made.list_templates(filter_func=lambda name: name.startswith("components/"))):
        module = made.get_template(name).module
        macros.update({key: value for key, value in vars(module).items() if not key.startswith("_")})
        made.globals["ui"] = SimpleNamespace(**macros)
    return made


def markdown(text: str, *, breaks: bool = True) -> Markup:
    """Hostile text as harmless HTML."""
    html = (
        aside(render_markdown, text, breaks=breaks) if len(text) > LONG_CHARS else render_markdown(text, breaks=breaks)
    )
    return Markup(html)  # noqa: S704 - sanitised by render_markdown


def attributes(values: Mapping[str, Any]) -> Markup:
    """HTML attributes, each with a space before it: True is the bare name, False and None are left out."""
    shown = [(name, say(value)) for name, value in values.items() if value is not None and value is not False]
    return Markup("").join(
        Markup(" {}").format(name) if value is True else Markup(' {}="{}"').format(name, value) for name, value in shown
    )


def when(moment: datetime | None) -> Markup:
    """A ``<time>`` that says the moment in UTC; ``base.js`` turns it into the reader's own time zone."""
    if moment is None:
        return Markup("–")
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" data-local>{}</time>').format(utc.isoformat(), figures.moment(utc))


def ago(moment: datetime | None, now: datetime | None = None) -> Markup:
    """A ``<time>`` that says how long ago it was, with the moment itself as its title."""
    if moment is None:
        return Markup(say(_("never")))  # noqa: S704 - of our own catalogues
    utc = moment.astimezone(UTC)
    seconds = ((now or datetime.now(UTC)) - utc).total_seconds()
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(), figures.moment(utc), say(figures.distance(seconds))
    )


def joined(values: Iterable[Any], between: str = ", ") -> str:
    """``join`` for texts, each of which is said in the reader's language."""
    return separator(between, current()).join(str(say(value)) for value in values)
