"""Every route against every kind of caller. What is expected is derived from what the route declares, so that a new
route is covered by being there; see ``route_examples`` for what it may need.

Each request runs in a savepoint that is rolled back, so that none changes what the next one finds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import sessionmaker

from app.accounts.scopes import SCOPES
from app.accounts.service import create_token
from app.main import create_app
from app.settings import Settings
from app.web.csrf import SAFE_METHODS
from app.web.guard import PublicGuard, Rule, guards_of
from tests.db.route_examples import BODIES, FORMS, PATH_PARAMS, WRITES_ON_GET, Person, World, build

GRANTED, LOGIN, NOBODY, FORBIDDEN, UNKNOWN = "granted", "to /login", "401", "403", "404"


@dataclass
class House:
    """The application in a transaction of the test's own."""

    client: TestClient
    connection: Connection
    world: World
    routes: list[RouteContext]
    written: list[str]

    def call(
        self,
        method: str,
        route: RouteContext,
        caller: Person | None,
        *,
        cookie: bool = False,
        csrf: bool = True,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        slug: str | None = None,
    ) -> Any:
        """One request, undone afterwards. With a ``cookie``, or the ``token`` given, or as nobody.

        Args:
            slug: the project in the path, in place of ``alpha``, whose things are named after it.
        """
        path = str(route.path_format)
        if slug is not None:
            path = path.replace("{slug}", slug)
        somebody = caller or self.world.people["reviewer"]
        for name in re.findall(r"{(\w+)}", path):
            assert name in PATH_PARAMS, f"{method} {path}: say in route_examples.PATH_PARAMS what {{{name}}} may be"
            path = path.replace(f"{{{name}}}", str(PATH_PARAMS[name](self.world, somebody, path)))
        sent = dict(headers or {})
        self.client.cookies.clear()
        if cookie and caller is not None:
            self.client.cookies.set("hone_session", caller.session_key)
            if csrf:
                sent["X-CSRF-Token"] = caller.csrf
        elif token is not None:
            sent["Authorization"] = f"Bearer {token}"
        self.written.clear()
        savepoint = self.connection.begin_nested()
        try:
            body = BODIES.get((method, str(route.path_format)))
            if callable(body):
                body = body(self.world, somebody)
            form = FORMS.get((method, str(route.path_format)))
            return self.client.request(method, path, headers=sent, json=body, data=form, follow_redirects=False)
        finally:
            savepoint.rollback()


@pytest.fixture(scope="module")
def house(engine: Engine, pg_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    app = create_app(
        Settings(database_url=pg_url, data=tmp_path_factory.mktemp("data"), engine_url="http://127.0.0.1:9")
    )
    app.state.after_commit = lambda: None
    written: list[str] = []
    with engine.connect() as connection:
        outer = connection.begin()
        factory = sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        with factory() as db:
            world = build(db)
            db.commit()
        app.state.session_factory = factory

        def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if re.match(r"\s*(insert|update|delete)\b", statement, re.IGNORECASE):
                written.append(statement)

        event.listen(connection, "before_cursor_execute", note)
        here = "http://127.0.0.1:8000"
        client = TestClient(app, base_url=here, raise_server_exceptions=False, client=("127.0.0.1", 50_000))
        yield House(client, connection, world, list(iter_route_contexts(app.routes)), written)
        client.close()
        outer.rollback()
        app.state.engine.dispose()


def rule_of(route: RouteContext) -> Rule:
    return next(guards_of(route.dependant)).rule


def calls(house: House) -> Iterator[tuple[str, RouteContext, Rule]]:
    for route in house.routes:
        for method in sorted(route.methods or ()):
            yield method, route, rule_of(route)


def outcome(response: Any) -> str:
    """What a request came to, seen from who may do what; anything else that is not an error of ours is granted."""
    if response.status_code == 303 and response.headers["location"].split("?")[0] == "/login":
        return LOGIN
    known = {401: NOBODY, 403: FORBIDDEN, 404: UNKNOWN}
    if response.status_code in known:
        return known[response.status_code]
    if response.status_code >= 500 and response.status_code != 503:
        return f"{response.status_code}"
    return GRANTED


def expected(rule: Rule, who: str) -> str:
    """What the declaration means for somebody who is signed in (or has a token of the right scope)."""
    if rule.who in ("anyone", "signed_in") or who == "site admin":
        return GRANTED
    if rule.who == "site_admin":
        return FORBIDDEN
    if who == "stranger":
        return UNKNOWN
    return FORBIDDEN if rule.who == "admin" and who == "reviewer" else GRANTED


def test_every_route_says_who_may_call_it(house: House) -> None:
    assert len(house.routes) > 50
    for route in house.routes:
        guards = list(guards_of(route.dependant)) if hasattr(route, "dependant") else []
        assert len(guards) == 1, f"{route.path}: {len(guards)} guards; it needs exactly one of app.accounts.access"
        rule = guards[0].rule
        assert (rule.project_by == "slug") == ("{slug}" in str(route.path)), f"{route.path} does not check its slug"
        unsafe = set(route.methods or ()) - SAFE_METHODS
        assert not (unsafe and isinstance(guards[0], PublicGuard)), f"{route.path}: {unsafe} without a CSRF check"
        api = str(route.path).startswith(("/api/v", "/v1/"))
        assert (rule.door == "api") == api, f"{route.path} has the door {rule.door!r}"


def wrong(house: House, who: str | None, want: Any, door: str | None = None, **options: Any) -> list[str]:
    """The calls whose outcome is another than ``want(rule)``."""
    caller = house.world.people[who] if who else None
    found = []
    for method, route, rule in calls(house):
        if door is None or rule.door == door:
            response = house.call(method, route, caller, **options)
            got = outcome(response)
            if got != want(rule) and not signed_out_by_design(route, response, want(rule)):
                found.append(
                    f"{method} {route.path}: {got} ({response.status_code}), not {want(rule)}: {response.text[-300:]}"
                )
    return found


def signed_out_by_design(route: RouteContext, response: Any, want: str) -> bool:
    """Signing in with nothing is answered 401, and signing out leads to the sign-in page."""
    if want != GRANTED:
        return False
    return (route.path == "/login" and "Sign in" in response.text) or (
        route.path == "/logout" and outcome(response) == LOGIN
    )


def test_nobody(house: House) -> None:
    def want(rule: Rule) -> str:
        return GRANTED if rule.who == "anyone" else NOBODY if rule.door == "api" else LOGIN

    found = [line for line in wrong(house, None, want) if "POST /login" not in line]
    assert found == []


@pytest.mark.parametrize("who", ["reviewer", "admin", "stranger", "site admin"])
def test_somebody_in_a_browser(house: House, who: str) -> None:
    assert wrong(house, who, lambda rule: expected(rule, who), cookie=True) == []


@pytest.mark.parametrize("who", ["reviewer", "admin", "stranger", "site admin"])
def test_somebody_with_a_token(house: House, who: str) -> None:
    token = house.world.people[who].token
    assert wrong(house, who, lambda rule: expected(rule, who), door="api", token=token) == []


def test_things_of_another_project_are_not_found_behind_ones_own(house: House) -> None:
    """As the admin of ``beta`` with ids of ``alpha``'s. What is not flagged is told like what is not there."""
    stranger, found, seen = house.world.people["stranger"], [], 0
    for method, route, rule in calls(house):
        if rule.project_by != "slug" or str(route.path).count("{") < 2:
            continue
        seen += 1
        ways = [{"cookie": True}, *([{"token": stranger.token}] if rule.door == "api" else [])]
        for way in ways:
            response = house.call(method, route, stranger, slug="beta", **way)  # type: ignore[arg-type]
            undecided = "/flagged/" in str(route.path) and response.status_code == 409
            if outcome(response) != UNKNOWN and not undecided:
                found.append(f"{method} {route.path}: {response.status_code} {response.text[-300:]}")
    assert seen > 30
    assert found == []


def test_a_token_opens_no_page(house: House) -> None:
    token = house.world.people["site admin"].token
    want = wrong(house, "site admin", lambda rule: GRANTED if rule.who == "anyone" else LOGIN, door="page", token=token)
    assert [line for line in want if "POST /login" not in line] == []


def test_a_token_without_the_scope(house: House) -> None:
    found = []
    for method, route, rule in calls(house):
        if rule.door == "api":
            assert rule.scope in SCOPES, f"{route.path} asks for no scope"
            with sessionmaker(house.connection, join_transaction_mode="create_savepoint")() as db:
                user = house.world.people["site admin"].user
                others = [scope for scope in SCOPES if scope != rule.scope]
                _, secret = create_token(db, user=user, name="others", scopes=others)
                db.commit()
            response = house.call(method, route, house.world.people["site admin"], token=secret)
            if (response.status_code, response.json()["code"]) != (403, "missing_scope"):
                found.append(f"{method} {route.path}: {response.status_code}")
    assert found == []


def test_a_token_that_is_not_one(house: House) -> None:
    token = house.world.people["site admin"].token
    for bad in (token[:-1] + ("a" if token[-1] != "a" else "b"), token.upper(), "hone_", ""):
        assert wrong(house, "site admin", lambda _: NOBODY, door="api", token=bad) == []


def test_nothing_is_changed_without_the_csrf_token(house: House) -> None:
    found = []
    for who, person in house.world.people.items():
        for method, route, _rule in calls(house):
            if method not in SAFE_METHODS:
                response = house.call(method, route, person, cookie=True, csrf=False)
                if response.status_code != 403 or house.written:
                    found.append(f"{who}: {method} {route.path}: {response.status_code} {house.written}")
    assert found == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://elsewhere.example"},
     {"Origin": "null"}],
)  # fmt: skip
def test_nothing_is_changed_from_another_site(house: House, headers: dict[str, str]) -> None:
    found = []
    for method, route, _rule in calls(house):
        if method not in SAFE_METHODS:
            response = house.call(method, route, house.world.people["site admin"], cookie=True, headers=headers)
            if response.status_code != 403 or house.written:
                found.append(f"{method} {route.path}: {response.status_code}")
    assert found == []


def test_looking_changes_nothing(house: House) -> None:
    found = {}
    for method, route, _rule in calls(house):
        if method == "GET":
            house.call(method, route, house.world.people["site admin"], cookie=True)
            if house.written and route.path not in WRITES_ON_GET:
                found[route.path] = house.written.copy()
    assert found == {}


def test_every_answer_has_its_headers(house: House) -> None:
    for method, route, _rule in calls(house):
        headers = house.call(method, route, house.world.people["reviewer"], cookie=True).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, route.path
        assert "frame-ancestors 'none'" in policy, route.path
        assert "unsafe" not in policy, route.path
        assert headers["x-content-type-options"] == "nosniff", route.path
        assert headers["x-request-id"], route.path
        assert headers["cache-control"] in ("no-store", "no-cache") or "/static/" in str(route.path), route.path
