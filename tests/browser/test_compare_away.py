"""What happens to a choice when something is away: the connection, the server, the sign-in, the lease, the pair."""

from collections.abc import Callable
from datetime import timedelta

from playwright.sync_api import BrowserContext, Page, Route, expect
from sqlalchemy import delete, select, update

from app.comparisons.service import expire_leases, lease_next, record_vote, withdraw_unvoted
from app.db.base import utcnow
from app.db.tables import Project, User, UserSession
from tests.browser.comparing import on_pair, open_shop, ready_ahead
from tests.browser.server import LiveServer
from tests.factories.rows import make_user, make_version

SignIn = Callable[[User], None]
LOST = "**/p/kitchen/compare"
"""Routed before the page is opened: on a page that is there already, the very next request can slip past a route."""
CUT = ("net::ERR_",)
"""What the browser writes to the console when a connection is cut."""


def test_a_choice_without_a_connection_is_kept_and_sent_once_when_it_is_back(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.extend(CUT)
    shop = open_shop(server)
    sign_in(shop.reviewer)
    tries: list[str] = []

    def cut(route: Route) -> None:
        if route.request.method == "POST":
            tries.append(route.request.post_data or "")
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(LOST, cut)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("b")
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#connection")).to_contain_text("Your choice is kept on this device")
    page.keyboard.press("a")  # a second opinion while the first is on its way is not taken
    page.wait_for_timeout(1500)
    assert shop.votes() == []
    page.unroute(LOST)
    on_pair(page, 2)
    expect(page.locator("#connection")).to_be_hidden()
    assert [shown for _, shown in shop.votes()] == ["right"]
    assert len(tries) >= 2
    keys = {part for data in tries for part in data.split("&") if part.startswith("key=")}
    assert len(keys) == 1, "every try names the same submission"
    page.keyboard.press("a")
    on_pair(page, 3)
    assert [shown for _, shown in shop.votes()] == ["right", "left"]


def test_an_answer_lost_on_the_way_back_does_not_double_the_vote(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.extend(CUT)
    shop = open_shop(server)
    sign_in(shop.reviewer)
    reached = []

    def swallow(route: Route) -> None:
        if route.request.method == "POST" and not reached:
            reached.append(route.fetch().status)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(LOST, swallow)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("a")
    on_pair(page, 2)
    assert reached == [200]
    assert [shown for _, shown in shop.votes()] == ["left"]


def test_a_choice_outlives_the_page_it_was_made_on(
    server: LiveServer, context: BrowserContext, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.extend(CUT)
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.route(LOST, lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("b")
    expect(page.locator("#connection")).to_be_visible()
    page.close()
    assert shop.votes() == []
    later = context.new_page()
    later.goto(shop.url)
    on_pair(later, 2)
    assert [shown for _, shown in shop.votes()] == ["right"]


def test_a_server_in_trouble_is_asked_again(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("503")
    shop = open_shop(server)
    sign_in(shop.reviewer)
    tries: list[str] = []
    in_trouble = True

    def trouble(route: Route) -> None:
        if route.request.method == "POST" and in_trouble:
            tries.append(route.request.post_data or "")
            route.fulfill(status=503, body="<p>Back in a moment</p>", content_type="text/html")
        else:
            route.continue_()

    page.route(LOST, trouble)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("t")
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator(".talk")).to_contain_text("Question 2:")
    expect(page.get_by_role("button", name="A is better")).to_have_attribute("aria-disabled", "true")
    while len(tries) < 2:  # asked again by itself
        page.wait_for_timeout(100)
    in_trouble = False
    expect(page.locator("#connection")).to_be_hidden()
    expect(page.get_by_role("button", name="A is better")).not_to_have_attribute("aria-disabled", "true")
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["tie"]


def test_a_choice_after_the_sign_in_expired_is_saved_once_signed_in_again(
    server: LiveServer, page: Page, expected_errors: list[str]
) -> None:
    expected_errors.append("401")
    shop = open_shop(server)
    with server.db() as db:
        from app.accounts.service import create_user
        from tests.factories.rows import make_member

        reviewer = create_user(db, email="late@example.org", password="the tide comes in twice")
        make_member(db, shop.project, user=reviewer)

    def through_the_door() -> None:
        page.get_by_label("Email").fill("late@example.org")
        page.get_by_label("Password").fill("the tide comes in twice")
        page.get_by_label("Password").press("Enter")

    page.goto(shop.url)
    through_the_door()
    on_pair(page, 1)
    with server.db() as db:
        db.execute(delete(UserSession))
    page.keyboard.press("b")
    expect(page).to_have_url(f"{server.url}/login?next=/p/kitchen/compare")
    expect(page.locator("#notices")).to_contain_text("Your choice is kept here")
    assert shop.votes() == []
    through_the_door()
    on_pair(page, 2)
    expect(page.locator("#notices")).to_contain_text("The choice you made before signing in is saved.")
    assert [shown for _, shown in shop.votes()] == ["right"]


def test_somebody_else_at_the_same_machine_does_not_send_it(
    server: LiveServer, context: BrowserContext, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("401")
    shop = open_shop(server, slots=2)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    with server.db() as db:
        db.execute(delete(UserSession))
        from tests.factories.rows import make_member

        other = make_member(db, shop.project)
    page.keyboard.press("b")
    expect(page).to_have_url(f"{server.url}/login?next=/p/kitchen/compare")
    sign_in(other)
    page.goto(shop.url)
    on_pair(page, 1)
    page.wait_for_timeout(300)
    assert shop.votes() == []
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["right"]


def test_a_form_from_before_another_sign_in_is_mended_by_itself(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("403")
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    sign_in(shop.reviewer)  # as another tab does: a new session, whose token this page does not know
    page.keyboard.press("a")
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["left"]


def test_a_late_choice_on_a_pair_that_others_filled_is_kept_and_says_so(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    with server.db() as db:
        expire_leases(db, now=utcnow() + timedelta(days=2))
        quick = make_user(db)
        project = db.merge(shop.project)
        lease_next(db, project=project, reviewer_id=quick.id)
        record_vote(db, reviewer_id=quick.id, comparison_id=shop.comparisons[0], choice="a", source="web")
    page.keyboard.press("b")
    on_pair(page, 2)
    expect(page.locator("#notices")).to_contain_text("Your choice is kept. It does not count")
    assert shop.column("surplus") == [False, True]


def test_a_pair_withdrawn_while_it_was_read_still_takes_the_choice(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    ready_ahead(page)
    with server.db() as db:
        project = db.execute(select(Project)).scalar_one()
        assert withdraw_unvoted(db, project=project, sampled_by_other_than=make_version(db, project).id) == 3
    page.keyboard.press("a")
    on_pair(page, 2)  # it was in the reviewer's hands too, ready in the page
    page.keyboard.press("b")
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    assert shop.column("surplus") == [False, False]


def test_a_pair_whose_time_runs_out_says_so_and_can_still_be_judged(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    with server.db() as db:
        db.execute(update(Project).values(lease_seconds=10))
        lease_next(
            db,
            project=db.execute(select(Project)).scalar_one(),
            reviewer_id=shop.reviewer.id,
            now=utcnow() - timedelta(seconds=7),
        )
    page.goto(shop.url)
    on_pair(page, 1)
    expect(page.locator("[data-late]")).to_be_hidden()
    expect(page.locator("[data-late]")).to_be_visible()
    page.keyboard.press("a")
    on_pair(page, 2)
    assert shop.column("surplus") == [False]
