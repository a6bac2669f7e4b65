"""A request as a whole: one transaction, errors that say what to do, probes, and a database that goes away."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Form
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, event, exists, select, text
from starlette.responses import Response, StreamingResponse

from app.accounts import access
from app.accounts.identity import SESSION_COOKIE
from app.db.session import make_session_factory, transaction
from app.db.tables import OutboxMessage, User
from app.errors import ConflictError
from app.journal.outbox import enqueue
from app.main import create_app
from app.settings import Settings
from app.web.deps import Db, Render
from tests import aside
from tests.browser.server import serving
from tests.factories.rows import make_project, make_user, make_version
from tests.fixtures.portal import Portal

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/p/demo/compare?x=1"}
probe = APIRouter(dependencies=[access.optional()])


@probe.get("/try/write")
def write(db: Db) -> dict[str, str]:
    make_user(db, email="written@example.org")
    return {"status": "written"}


@probe.get("/try/stream")
def stream(db: Db) -> Response:
    make_user(db, email="streamed@example.org")
    return StreamingResponse(iter(["a", "b"]))


@probe.get("/try/enqueue")
def wake(db: Db) -> dict[str, str]:
    enqueue(db, "hone.run_rounds")
    return {}


@probe.get("/try/conflict")
def conflict(db: Db) -> None:
    make_user(db, email="lost@example.org")
    raise ConflictError("It is <b>closed</b>.", mend="Open it first.", number=3)


@probe.get("/api/v1/try/conflict")
def api_conflict() -> None:
    raise ConflictError("It is closed.", mend="Open it first.", number=3)


@probe.get("/try/defect")
def defect() -> None:
    raise RuntimeError("a secret detail")


@probe.get("/api/v1/try/number/{number}")
def number(number: int) -> int:
    return number


@probe.get("/try/form")
def form(render: Render) -> Response:
    return render("accounts/login.html", next="/", email="", error=None)


@probe.post("/try/fields")
def fields(count: Annotated[int, Form()]) -> int:
    return count


@pytest.fixture
def client(portal: Portal) -> Iterator[TestClient]:
    portal.app.include_router(probe)
    with TestClient(portal.app, raise_server_exceptions=False) as made:
        yield made


def is_there(portal: Portal, email: str) -> bool:
    with portal.db() as db:
        return bool(db.scalar(select(exists().where(User.email == email))))


def test_a_request_is_committed_before_its_answer(portal: Portal, client: TestClient) -> None:
    assert client.get("/try/write").status_code == 200
    assert is_there(portal, "written@example.org")


@pytest.mark.parametrize("path", ["/try/write", "/try/stream"])
def test_a_commit_that_fails_is_never_answered_as_done(portal: Portal, client: TestClient, path: str) -> None:
    """The server loses its connection at the very COMMIT: nobody may see a 2xx."""

    def cut(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        admin = create_engine(portal.app.state.engine.url)
        with admin.begin() as other:
            other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        admin.dispose()

    event.listen(portal.app.state.engine, "commit", cut)
    answer = client.get(path)
    event.remove(portal.app.state.engine, "commit", cut)
    assert answer.status_code == 503
    assert not is_there(portal, "written@example.org")
    assert not is_there(portal, "streamed@example.org")
    assert client.get(path).status_code == 200


def test_an_error_undoes_the_whole_request(portal: Portal, client: TestClient) -> None:
    assert client.get("/try/conflict").status_code == 409
    assert not is_there(portal, "lost@example.org")


def test_the_outbox_is_tried_after_the_commit_and_only_if_something_is_in_it(
    portal: Portal, client: TestClient
) -> None:
    tried: list[int] = []

    def count() -> None:
        with portal.db() as db:
            tried.append(len(db.scalars(select(OutboxMessage)).all()))

    portal.app.state.after_commit = count
    client.get("/try/write")
    assert tried == []
    client.get("/try/enqueue")
    assert tried == [1]


def test_a_body_that_is_no_json_is_told_where(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    api = portal.token(ann)
    headers = {"content-type": "application/json"}
    broken = api.client.patch("/api/v1/projects/tone", content=b'{"name": nope}', headers=headers)
    assert broken.status_code == 422
    assert "JSON decode error at character 9: Expecting value" in broken.json()["detail"]
    deep = api.client.patch("/api/v1/projects/tone", content=b"[" * 100_000, headers=headers)
    assert deep.status_code == 400
    assert deep.json()["mend"]


def test_half_a_character_is_told_of_and_breaks_nothing(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    api = portal.token(ann)
    sent = b'{"training": {"\\udc00": 1}}'
    for method, path in (("PATCH", "/tone"), ("POST", "/tone/rounds")):
        headers = {"content-type": "application/json"}
        refused = api.client.request(method, f"/api/v1/projects{path}", content=sent, headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
        assert refused.json()["mend"]


def test_a_body_of_another_type_is_told_which_one_is_read(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    api = portal.token(ann)
    for headers in ({}, {"content-type": "text/plain"}):
        refused = api.client.patch("/api/v1/projects/tone", content=b'{"name": "Tone"}', headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
        assert "application/json" in refused.json()["mend"]


def test_a_method_that_is_not_there_is_told_those_that_are(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    refused = portal.token(ann).client.put("/api/v1/projects", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "Allow" in refused.json()["mend"]


def test_a_head_is_answered_as_the_get_it_asks_about(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    for client, path in ((portal.token(ann).client, "/api/v1/projects"), (portal.token(ann).client, "/healthz")):
        assert (client.head(path).status_code, client.head(path).headers["content-type"]) == (200, "application/json")


def test_programs_get_a_problem_with_a_code_and_a_mend(client: TestClient) -> None:
    answer = client.get("/api/v1/try/conflict")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["request_id"] == answer.headers["x-request-id"]
    del told["request_id"]
    assert told == {
        "type": "urn:hone:problem:conflict",
        "title": "Not possible now",
        "status": 409,
        "code": "conflict",
        "detail": "It is closed.",
        "mend": "Open it first.",
        "number": 3,
    }


def test_people_get_a_page_and_htmx_a_notice(client: TestClient) -> None:
    page = client.get("/try/conflict")
    assert "<!doctype html>" in page.text
    assert "It is &lt;b&gt;closed&lt;/b&gt;." in page.text
    assert "Open it first." in page.text
    fragment = client.get("/try/conflict", headers=HTMX)
    assert fragment.status_code == 409
    assert "<html" not in fragment.text
    assert 'class="notice bad"' in fragment.text
    assert fragment.headers["hx-retarget"] == "#notices"
    assert fragment.headers["hx-reswap"] == "innerHTML"


def test_invalid_input_is_named_and_not_repeated(client: TestClient) -> None:
    answer = client.get("/api/v1/try/number/my-password")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "path.number"
    assert "my-password" not in answer.text.replace(str(answer.url), "")


def test_a_defect_of_ours_tells_no_detail(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.get("/try/defect")
    assert answer.status_code == 500
    assert "a secret detail" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "a secret detail" in caplog.text


def test_unknown_addresses_and_methods(client: TestClient) -> None:
    assert client.get("/nothing").status_code == 404
    assert "There is nothing at this address." in client.get("/nothing").text
    assert client.get("/api/v1/nothing").json()["code"] == "not_found"
    refused = client.delete("/login")
    assert refused.status_code == 405
    assert "GET" in refused.headers["allow"] or "POST" in refused.headers["allow"]


def test_a_body_that_is_too_large(portal: Portal, client: TestClient) -> None:
    limit = portal.settings.max_body_bytes
    declared = client.post("/api/v1/projects", content=b"x" * (limit + 1))
    assert (declared.status_code, declared.json()["code"]) == (413, "body_too_large")
    streamed = client.post("/try/fields", content=iter([b"count=" + b"1" * 2**16] * (limit // 2**16 + 2)),
                           headers={"Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert streamed.status_code == 413
    assert "is the limit" in streamed.text


def test_large_bodies_are_read_of_those_who_are_known_alone(portal: Portal) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", ann)
    url, body = "/api/v1/projects/tone/prompts", {"prompts": [{"prompt": "x" * 1000 + str(n)} for n in range(100)]}
    assert portal.token(ann).post(url, json=body).status_code == 201
    for headers in ({}, {"Authorization": "Bearer hone_nobody"}, {"Cookie": f"{SESSION_COOKIE}=nobody"}):
        refused = TestClient(portal.app).post(url, json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert "Sign in first" in refused.json()["mend"]


def test_whoever_sends_slowly_keeps_nobody_waiting(portal: Portal) -> None:
    """More of them than there are connections, none of them signed in."""
    url = portal.settings.database_url
    with serving(url, portal.settings.data, database_pool_size=2) as server, contextlib.ExitStack() as held:
        for path in ("/logout", "/p/x/versions/roll-back", "/api/v1/projects/x/comparisons/next", "/login") * 2:
            slow = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            slow.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\na=".encode())
        time.sleep(0.5)
        assert httpx.get(f"{server.url}/login", timeout=5).status_code == 200


def test_whoever_must_sign_in_comes_back(client: TestClient) -> None:
    page = client.get("/account?tab=tokens", follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/account%3Ftab%3Dtokens")
    fragment = client.get("/account", headers=HTMX)
    assert fragment.status_code == 401
    assert fragment.headers["hx-redirect"] == "/login?next=/p/demo/compare%3Fx%3D1"
    posted = client.post("/logout", headers={"Referer": "https://evil.example//x/p"}, follow_redirects=False)
    assert (posted.status_code, posted.headers["location"]) == (303, "/login")
    program = client.get("/api/v1/projects")
    assert (program.status_code, program.headers["www-authenticate"]) == (401, "Bearer")


def test_cookies_are_bound_to_the_host_with_tls(fresh_database: str, tmp_path: Path) -> None:
    app = create_app(Settings(database_url=fresh_database, data=tmp_path, secure_cookies=True))
    with TestClient(app, base_url="https://hone.example") as client:
        answer = client.get("/login")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-hone_form=")
    for flag in ("; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"):
        assert flag in cookie
    assert "domain" not in cookie.lower()
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


def test_static_files_are_kept_by_content_and_nothing_else_is_served(client: TestClient) -> None:
    address = client.get("/login").text.split('rel="stylesheet" href="')[1].split('"')[0]
    assert "immutable" in client.get(address).headers["cache-control"]
    assert client.get("/static/css/base.css").headers["cache-control"] == "no-cache"
    for path in ("/static/../main.py", "/static/%2e%2e/main.py", "/static/css", "/static/", "/static//etc/passwd"):
        assert client.get(path).status_code == 404, path


def test_healthz_touches_nothing_and_readyz_says_what_is_missing(
    portal: Portal, client: TestClient, fresh_engine: Engine
) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"]["engine"]["ok"] is False
    with transaction(make_session_factory(fresh_engine)) as db:
        make_version(db, make_project(db), state="retired")
    assert client.get("/readyz").json()["checks"]["versions"]["ok"] is False
    assert ready.json()["checks"]["files"]["ok"] is True
    with transaction(make_session_factory(fresh_engine)) as db:
        make_version(db, make_project(db), state="current")
    without_files = client.get("/readyz").json()["checks"]["files"]
    assert without_files["ok"] is False
    assert "current versions whose files are not there: 1" in without_files["found"]
    with fresh_engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    behind = client.get("/readyz")
    assert (behind.status_code, behind.json()["checks"]["migrations"]["ok"]) == (503, False)
    assert "run `hone migrate`" in behind.json()["checks"]["migrations"]["found"]


@pytest.fixture
def silent_server() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port where somebody accepts connections and says nothing, as a Postgres that was stopped; and who came."""
    came: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    came.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1], came
        over.set()
        thread.join()
        for connection in came:
            connection.close()


def test_probes_of_a_database_that_says_nothing_end_in_time_and_cost_one_connection(
    silent_server: tuple[int, list[socket.socket]], tmp_path: Path
) -> None:
    port, came = silent_server
    app = create_app(Settings(database_url=f"postgresql://hone:sesame@127.0.0.1:{port}/hone", data=tmp_path))

    async def probe_often() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hone", timeout=30) as client:
            return await asyncio.gather(*(client.get("/readyz") for _ in range(45)))

    began = time.monotonic()
    answers = aside.run(probe_often())
    assert time.monotonic() - began < 4
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["checks"]["database"]["found"] == "no answer within 2 s"
    assert "sesame" not in answers[0].text
    assert len(came) == 1


@pytest.fixture
def without_postgres(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=f"postgresql://nobody@/none?host={tmp_path}", data=tmp_path))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_without_postgres_people_read_what_to_do(without_postgres: TestClient) -> None:
    assert without_postgres.get("/healthz").status_code == 200
    assert without_postgres.get("/readyz").status_code == 503
    without_postgres.cookies.set("hone_session", "some-key")
    page = without_postgres.get("/account")
    assert page.status_code == 503
    assert page.headers["retry-after"] == "5"
    assert "Wait a few seconds and try again" in page.text
    fragment = without_postgres.get("/account", headers=HTMX)
    assert (fragment.status_code, fragment.headers["hx-retarget"]) == (503, "#notices")
    problem = without_postgres.get("/api/v1/projects", headers={"Authorization": "Bearer hone_x"})
    assert (problem.status_code, problem.json()["code"]) == (503, "database_unavailable")


def test_the_first_admin_comes_from_the_settings_once(
    fresh_database: str, fresh_engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    given: dict[str, Any] = {"admin_email": "Boss@Example.org", "admin_password": "correct horse battery"}
    for _ in range(2):
        with TestClient(create_app(Settings(database_url=fresh_database, data=tmp_path, **given))) as client:
            client.get("/healthz")
    with transaction(make_session_factory(fresh_engine)) as db:
        (user,) = db.scalars(select(User)).all()
    assert (user.email, user.is_site_admin) == ("boss@example.org", True)
    assert "boss@example.org" not in caplog.text.lower()


def test_the_api_is_described(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, operations in described["paths"].items():
        assert path.startswith(("/api/v1/", "/v1/"))
        for method, operation in operations.items():
            if not path.startswith("/api/v1/try"):
                told = f"{method} {path}"
                assert operation["security"] == [{"token": []}], told
                assert operation["x-scope"], told
                assert operation["summary"], told
                assert operation["description"], told
                assert operation["tags"], told
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert page.text.count("curl ") >= 20
    assert "https://" not in page.text.replace("https://x", "")
    json.dumps(described)


@pytest.mark.parametrize(
    ("asked", "there"), [("/login/?next=/account", "/login?next=/account"), ("/api/v1/projects/", "/api/v1/projects")]
)
def test_a_slash_too_many_leads_to_no_other_scheme_or_host(client: TestClient, asked: str, there: str) -> None:
    """Behind a proxy with TLS this server is asked over plain HTTP, and must not send anybody there."""
    answer = client.post(asked, headers={"Host": "elsewhere.example"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, there)
