"""Signing in, the account, and the list of people, as a browser sees them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.accounts import devices, throttle
from app.accounts.service import MAX_TOKENS, create_token, create_user, revoke_tokens
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import ApiToken, AuditEntry, LoginFailure, User, UserSession
from app.errors import InvalidError
from tests.fixtures.portal import Caller, Portal

PASSWORD = "correct horse battery"


@pytest.fixture
def ada(portal: Portal) -> User:
    with transaction(portal.factory) as db:
        return create_user(db, email="ada@example.org", password=PASSWORD, name="Ada")


@pytest.fixture
def browser(portal: Portal) -> Iterator[TestClient]:
    with TestClient(portal.app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.fixture
def boss(portal: Portal) -> Caller:
    return portal.browser(portal.user("boss@example.org", is_site_admin=True))


def csrf(page: Any) -> str:
    return str(re.findall(r'name="csrf_token" value="([^"]+)"', page.text)[-1])


def sign_in(browser: TestClient, password: str = PASSWORD, **fields: str) -> Any:
    data = {"csrf_token": csrf(browser.get("/login")), "email": "ada@example.org", "password": password}
    return browser.post("/login", data=data | fields)


def secret_of(answer: Any) -> str:
    return str(re.findall(r'readonly value="([^"]+)"', answer.text)[0])


def test_signing_in_and_out(browser: TestClient, ada: User) -> None:
    answer = sign_in(browser, next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    cookie = answer.headers["set-cookie"]
    assert "hone_session=" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    page = browser.get("/account")
    assert "ada@example.org" in page.text
    assert page.headers["cache-control"] == "no-store"
    out = browser.post("/logout", data={"csrf_token": csrf(page)})
    assert out.headers["location"] == "/login"
    assert "You are signed out." in browser.get("/login").text
    assert "You are signed out." not in browser.get("/login").text, "a message is shown once"
    assert browser.get("/account").status_code == 303


def test_a_key_that_was_signed_out_is_dead(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)
    key = browser.cookies["hone_session"]
    browser.post("/logout", data={"csrf_token": csrf(browser.get("/account"))})
    browser.cookies.set("hone_session", key)
    assert browser.get("/account").status_code == 303


def test_a_wrong_password_is_counted_although_it_is_refused(portal: Portal, browser: TestClient, ada: User) -> None:
    answer = sign_in(browser, "wrong", next="/account")
    assert answer.status_code == 401
    assert "No active user has this email and this password." in answer.text
    assert 'value="ada@example.org"' in answer.text
    assert 'name="next" value="/account"' in answer.text
    assert "wrong" not in answer.text.split("<form")[1]
    with portal.db() as db:
        assert len(db.scalars(select(LoginFailure)).all()) == 1


def test_after_too_many_the_page_says_how_long(browser: TestClient, ada: User) -> None:
    for _ in range(5):
        assert sign_in(browser, "wrong").status_code == 401
    answer = sign_in(browser)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "Wait 15 minutes" in answer.text


def test_a_browser_that_signed_in_before_is_let_in_while_somebody_guesses_elsewhere(
    portal: Portal, browser: TestClient, ada: User
) -> None:
    cookies = sign_in(browser).headers.get_list("set-cookie")
    device = next(cookie for cookie in cookies if cookie.startswith("hone_device="))
    assert "HttpOnly; SameSite=Lax" in device
    assert "Max-Age=34560000;" in device
    known = browser.cookies["hone_device"]
    browser.post("/logout", data={"csrf_token": csrf(browser.get("/account"))})
    assert browser.cookies["hone_device"] == known, "signing out does not make a browser unknown"
    assert browser.get("/account").status_code == 303, "the cookie signs nobody in"
    with transaction(portal.factory) as db:
        for number in range(throttle.ACCOUNT_LIMIT):
            throttle.Attempts(db, account="ada@example.org", address=f"10.1.0.{number}").failed()
    with TestClient(portal.app, follow_redirects=False) as stranger:
        answer = sign_in(stranger)
        assert answer.status_code == 429
        assert "use a browser in which you have signed in before" in answer.text
    assert sign_in(browser).status_code == 303
    assert browser.cookies["hone_device"] != known


def test_signing_in_changes_the_key(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)
    first = browser.cookies["hone_session"]
    browser.cookies.delete("hone_form")
    page = browser.get("/account")
    again = browser.post("/login", data={"csrf_token": csrf(page), "email": "ada@example.org", "password": PASSWORD})
    assert again.status_code == 303
    assert browser.cookies["hone_session"] != first
    with portal.db() as db:
        assert len(db.scalars(select(UserSession)).all()) == 1


def test_nobody_is_signed_in_as_somebody_else_from_another_site(browser: TestClient, ada: User) -> None:
    """Sign-in CSRF: an attacker's page posts the attacker's own password."""
    known = {"email": "ada@example.org", "password": PASSWORD}
    assert browser.post("/login", data=known).status_code == 403
    theirs = csrf(browser.get("/login"))
    browser.cookies.clear()
    assert browser.post("/login", data={**known, "csrf_token": theirs}).status_code == 403
    browser.get("/login")
    assert browser.post("/login", data={**known, "csrf_token": theirs}).status_code == 403
    mine = csrf(browser.get("/login"))
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post("/login", data={**known, "csrf_token": mine}, headers=elsewhere).status_code == 403


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_signing_in_leads_nowhere_else(browser: TestClient, ada: User, target: str) -> None:
    assert "evil" not in browser.get("/login", params={"next": target}).text
    assert sign_in(browser, next=target).headers["location"] == "/"


def test_signing_in_leads_to_an_address_in_any_script(browser: TestClient, ada: User) -> None:
    asked = "/p/tone/prompts?search=漢字&show=all"
    assert 'value="/p/tone/prompts?search=漢字' in browser.get("/login", params={"next": asked}).text
    answer = sign_in(browser, next=asked)
    there = "/p/tone/prompts?search=%E6%BC%A2%E5%AD%97&show=all"
    assert (answer.status_code, answer.headers["location"]) == (303, there)
    assert browser.get("/login", params={"next": there}).headers["location"] == there


def test_somebody_signed_in_does_not_see_the_form(browser: TestClient, ada: User) -> None:
    sign_in(browser)
    assert browser.get("/login?next=/account").headers["location"] == "/account"


def test_a_session_slides_while_it_is_used_and_ends_when_not(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)

    def expires_in(days: float) -> None:
        with transaction(portal.factory) as db:
            db.execute(update(UserSession).values(expires_at=utcnow() + timedelta(days=days)))

    expires_in(1)
    assert "hone_session=" in browser.get("/account").headers["set-cookie"]
    with portal.db() as db:
        left = db.scalars(select(UserSession)).one().expires_at - utcnow()
    assert left > timedelta(days=portal.settings.session_days - 1)
    assert "set-cookie" not in browser.get("/account").headers, "not with every request"
    expires_in(-0.001)
    assert browser.get("/account").status_code == 303


def test_a_session_ends_for_good_however_much_it_is_used(portal: Portal, browser: TestClient, ada: User) -> None:
    """The last day: used, it slides to its absolute end and no further, and the browser is told that end."""
    longest = timedelta(days=portal.settings.session_max_days)
    sign_in(browser)

    def began(ago: timedelta, expires_in: timedelta) -> None:
        with transaction(portal.factory) as db:
            db.execute(update(UserSession).values(created_at=utcnow() - ago, expires_at=utcnow() + expires_in))

    began(longest - timedelta(days=1), timedelta(hours=2))
    cookie = browser.get("/account").headers["set-cookie"]
    assert 86_300 < int(re.findall(r"hone_session=[^;]+; Max-Age=(\d+)", cookie)[0]) <= 86_400
    with portal.db() as db:
        session = db.scalars(select(UserSession)).one()
        assert session.expires_at == session.created_at + longest
    assert "set-cookie" not in browser.get("/account").headers, "there is nothing more to slide"

    began(longest + timedelta(seconds=1), timedelta(days=10))
    assert browser.get("/account").headers["location"].startswith("/login"), "a shorter setting ends older ones, too"


def test_a_session_in_a_project_ends_for_good(portal: Portal) -> None:
    """Pages of projects find session, project and role by a statement of their own."""
    lead = portal.user("lead@example.org")
    here, project = portal.browser(lead), portal.project("Tone", lead)
    assert here.get(f"/p/{project.slug}").status_code == 200
    with transaction(portal.factory) as db:
        ago = timedelta(days=portal.settings.session_max_days)
        db.execute(update(UserSession).values(created_at=utcnow() - ago, expires_at=utcnow() + ago))
    assert here.get(f"/p/{project.slug}").headers["location"].startswith("/login")


def test_a_sign_in_never_outlasts_the_longest_there_is(portal: Portal, browser: TestClient, ada: User) -> None:
    portal.settings.session_max_days = 2
    cookie = sign_in(browser).headers["set-cookie"]
    assert re.findall(r"hone_session=[^;]+; Max-Age=(\d+)", cookie) == ["172800"]


def test_a_deactivated_person_is_out_at_once(portal: Portal, ada: User, boss: Caller) -> None:
    here, program = portal.browser(ada), portal.token(ada)
    assert here.get("/account").status_code == 200
    assert program.get("/api/v1/projects").status_code == 200
    assert boss.post(f"/admin/users/{ada.id}/active", {"active": "0"}).status_code == 303
    assert here.get("/account").status_code == 303
    assert program.get("/api/v1/projects").status_code == 401
    assert boss.post(f"/admin/users/{ada.id}/active", {"active": "1"}).status_code == 303
    assert program.get("/api/v1/projects").status_code == 401, "who comes back makes new tokens"


def test_changing_the_password(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)
    elsewhere = portal.browser(ada)
    new = "another horse battery"

    def change(**fields: str) -> Any:
        data = {"current": PASSWORD, "password": new, "repeat": new, "csrf_token": csrf(browser.get("/account"))}
        return browser.post("/account/password", data=data | fields)

    assert "The two new passwords differ." in change(repeat="x" * 12).text
    assert "This is not your current password." in change(current="wrong").text
    assert "between 10 and 1024" in change(password="short", repeat="short").text
    key = browser.cookies["hone_session"]
    assert change().status_code == 303
    assert browser.cookies["hone_session"] != key
    with portal.db() as db:
        assert devices.known_device(db, key=browser.cookies["hone_device"], account=ada.email)
    assert "Your password is changed." in browser.get("/account").text
    assert elsewhere.get("/account").status_code == 303
    with portal.db() as db:
        assert db.scalars(select(AuditEntry.action)).all() == ["user.sign_in", "user.password"]


def test_with_a_new_password_tokens_end_if_that_is_asked_for(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)
    program = portal.token(ada)
    for new, tokens, status in (("another horse battery", {}, 200), ("a third horse battery", {"tokens": "1"}, 401)):
        old = PASSWORD if not tokens else "another horse battery"
        data = {"current": old, "password": new, "repeat": new, "csrf_token": csrf(browser.get("/account"))}
        assert browser.post("/account/password", data=data | tokens).status_code == 303
        assert program.get("/api/v1/projects").status_code == status


def test_somebody_elses_tokens_are_counted_and_revoked(portal: Portal, ada: User, boss: Caller) -> None:
    first, second = portal.token(ada), portal.token(ada)
    assert "one of the 2 tokens of ada@example.org" in boss.get("/admin/users").text
    assert boss.post(f"/admin/users/{ada.id}/tokens").status_code == 303
    assert "2 tokens of ada@example.org are revoked." in boss.get("/admin/users").text
    assert {program.get("/api/v1/projects").status_code for program in (first, second)} == {401}
    assert portal.browser(ada).post(f"/admin/users/{ada.id}/tokens").status_code in (303, 403), "site admins alone"
    with portal.db() as db:
        entry = db.scalars(select(AuditEntry)).one()
        assert (entry.action, entry.data) == ("user.revoke_tokens", {"count": 2})


def test_nobody_makes_tokens_without_end(portal: Portal, ada: User) -> None:
    with transaction(portal.factory) as db:
        user = db.get_one(User, ada.id)
        for number in range(MAX_TOKENS):
            create_token(db, user=user, name=f"token {number}", scopes=["chat"])
        with pytest.raises(InvalidError, match="100 tokens, which is the most"):
            create_token(db, user=user, name="one more", scopes=["chat"])
        revoke_tokens(db, user)
        create_token(db, user=user, name="one more", scopes=["chat"])


def test_a_token_from_making_to_revoking(portal: Portal, browser: TestClient, ada: User) -> None:
    sign_in(browser)
    token = csrf(browser.get("/account"))
    data = {"name": "Nightly <b>", "scopes": ["projects:read", "chat"], "days": "30", "csrf_token": token}
    made = browser.post("/account/tokens", data=data)
    assert made.status_code == 200
    assert "Nightly &lt;b&gt;" in made.text
    secret = secret_of(made)
    assert secret not in browser.get("/account").text, "shown once"
    headers = {"Authorization": f"Bearer {secret}"}
    assert browser.get("/api/v1/projects", headers=headers).status_code == 200
    with portal.db() as db:
        stored = db.scalars(select(ApiToken)).one()
        assert stored.last_used_at is not None
        assert timedelta(days=29) < stored.expires_at - utcnow() < timedelta(days=31)  # type: ignore[operator]
    assert browser.post(f"/account/tokens/{stored.id}/revoke", data={"csrf_token": token}).status_code == 303
    assert browser.get("/api/v1/projects", headers=headers).status_code == 401
    assert stored.prefix not in browser.get("/account").text


def test_a_token_that_has_expired_opens_nothing(portal: Portal, ada: User) -> None:
    program = portal.token(ada)
    with transaction(portal.factory) as db:
        db.execute(update(ApiToken).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert program.get("/api/v1/projects").json()["code"] == "not_signed_in"


def test_a_token_form_with_errors_keeps_what_was_typed(browser: TestClient, ada: User) -> None:
    sign_in(browser)
    token = csrf(browser.get("/account"))
    answer = browser.post("/account/tokens", data={"name": "Nightly", "days": "30", "csrf_token": token})
    assert answer.status_code == 422
    assert "The token has no scope." in answer.text
    assert 'value="Nightly"' in answer.text
    assert '<option value="30" selected>' in answer.text
    odd = browser.post("/account/tokens", data={"name": "N", "scopes": "chat", "days": "9999", "csrf_token": token})
    assert odd.status_code == 422


def test_a_new_person_signs_in_with_the_password_that_was_shown(browser: TestClient, boss: Caller) -> None:
    made = boss.post("/admin/users", {"email": "Ada@Example.org", "name": "Ada"})
    assert made.status_code == 200
    password = secret_of(made)
    assert len(password) == 20
    assert password not in boss.get("/admin/users").text
    assert sign_in(browser, password).status_code == 303
    taken = boss.post("/admin/users", {"email": "ada@example.org"})
    assert taken.status_code == 409
    assert "There is a user ada@example.org already." in taken.text


def test_a_new_password_for_somebody(portal: Portal, browser: TestClient, ada: User, boss: Caller) -> None:
    here, program = portal.browser(ada), portal.token(ada)
    password = secret_of(boss.post(f"/admin/users/{ada.id}/password"))
    assert here.get("/account").status_code == 303
    assert program.get("/api/v1/projects").status_code == 401, "whoever knew the old one may have made tokens"
    assert sign_in(browser).status_code == 401
    assert sign_in(browser, password).status_code == 303


def test_making_site_admins(portal: Portal, ada: User, boss: Caller) -> None:
    here = portal.browser(ada)
    assert here.get("/admin/users").status_code == 403
    boss.post(f"/admin/users/{ada.id}/site-admin", {"site_admin": "1"})
    assert here.get("/admin/users").status_code == 200
    here.post(f"/admin/users/{boss.user_id}/site-admin", {"site_admin": "0"})
    last = here.post(f"/admin/users/{ada.id}/active", {"active": "0"})
    assert last.status_code == 409
    assert "is the only site admin" in last.text
    with portal.db() as db:
        actions = db.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["user.site_admin", "user.no_site_admin"]


def test_many_people_come_in_pages(portal: Portal, boss: Caller) -> None:
    for number in range(60):
        portal.user(f"p{number:02}@example.org")
    first, second = boss.get("/admin/users").text, boss.get("/admin/users?page=2").text
    assert "p00@example.org" in first
    assert "p59@example.org" not in first
    assert "p59@example.org" in second
    assert "Page 2 of 2" in second
    assert boss.get("/admin/users?page=0").status_code == 422


def test_the_header_shows_only_ones_own_projects(portal: Portal, ada: User, boss: Caller) -> None:
    portal.project("Secret plans")
    portal.project("Kitchen", ada)
    mine = portal.browser(ada).get("/account").text
    assert "Kitchen" in mine
    assert "Secret plans" not in mine
    assert "/admin/users" not in mine
    everybody = boss.get("/account").text
    assert "Secret plans" in everybody
    assert "/admin/users" in everybody


def test_a_token_keeps_what_its_owner_chose_and_says_so(portal: Portal, boss: Caller) -> None:
    made = boss.post("/account/tokens", {"name": "app", "scopes": "chat", "days": "90", "keeps": "prompts"})
    assert made.status_code == 200
    with portal.db() as db:
        token = db.scalars(select(ApiToken)).one()
    assert token.keeps == "prompts"
    assert '<option value="prompts" selected>' in boss.get("/account").text
    assert boss.post(f"/account/tokens/{token.id}/keeps", {"keeps": "answers"}).status_code == 303
    assert "From now on: conversations become prompts, answers can be compared" in boss.get("/account").text
    refused = boss.post(f"/account/tokens/{token.id}/keeps", {"keeps": "everything"})
    assert (refused.status_code, "cannot keep" in refused.text) == (422, True)
    other = portal.browser(portal.user("other@example.org"))
    assert other.post(f"/account/tokens/{token.id}/keeps", {"keeps": "nothing"}).status_code == 404
    with portal.db() as db:
        assert db.scalars(select(ApiToken.keeps)).all() == ["answers"]
        assert "token.keeps" in db.scalars(select(AuditEntry.action)).all()
