"""What the log says of requests: who asked, and of which project, by id and slug, on every line of a request."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from app import logs
from app.accounts import queries
from app.db.tables import Project, User
from tests.fixtures.portal import Portal


class Lines:
    """The log as JSON, as a process writes it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._seen = 0

    def new(self, logger: str = "hone.request") -> list[dict[str, Any]]:
        """Those since the last look."""
        records = self._caplog.records[self._seen :]
        self._seen += len(records)
        return [json.loads(logs.JsonLines().format(record)) for record in records if record.name == logger]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    about = logs.About()
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(about)
    yield Lines(caplog)
    caplog.handler.removeFilter(about)


@pytest.fixture
def lead(portal: Portal) -> User:
    return portal.user("lead@example.org")


@pytest.fixture
def project(portal: Portal, lead: User) -> Project:
    return portal.project("Tone of voice", lead)


def about(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["status"], line.get("user"), line.get("project"), line.get("slug")


def test_requests_name_user_and_project(portal: Portal, project: Project, lead: User, lines: Lines) -> None:
    mine = (str(lead.id), str(project.id), project.slug)
    here, program = portal.browser(lead), portal.token(lead)
    for caller, path in (
        (here, f"/p/{project.slug}"),
        (program, f"/api/v1/projects/{project.slug}"),
        (program, f"/v1/models/{project.slug}"),
    ):
        status = caller.get(path).status_code
        assert [about(line) for line in lines.new()] == [(status, *mine)], path
    here.get("/account")
    assert [about(line) for line in lines.new()] == [(200, str(lead.id), None, None)], "nothing of the request before"
    reviewer = portal.member(project, "reviewer@example.org")
    portal.browser(reviewer).get(f"/p/{project.slug}/settings")
    assert [about(line) for line in lines.new()] == [(403, str(reviewer.id), *mine[1:])]


def test_what_strangers_ask_for_is_not_in_the_log(portal: Portal, project: Project, lines: Lines) -> None:
    stranger = portal.user("stranger@example.org")
    portal.browser(stranger).get(f"/p/{project.slug}")
    portal.token(stranger).get(f"/v1/models/{project.slug}")
    assert [about(line) for line in lines.new()] == [(404, str(stranger.id), None, None)] * 2


def test_a_line_in_the_midst_of_a_request_names_them_too(
    portal: Portal, project: Project, lead: User, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a route that runs in a thread of its own, and fails there."""

    def fails(*_: Any, **__: Any) -> None:
        logging.getLogger("some.room").warning("about to fail")
        raise RuntimeError("of ours")

    monkeypatch.setattr(queries, "tokens_of", fails)
    portal.browser(lead).get("/account")
    (line,) = lines.new("some.room")
    assert line["user"] == str(lead.id)
    text = logs.TextLines().format(logging.makeLogRecord({"msg": "x", "user": "u", "slug": "tone", "project": "p"}))
    assert text.endswith("x [project=p slug=tone user=u]")
