"""The compare page for everybody: no accessibility violation in any state, light, dark and on a phone; small; blind."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from app.db.tables import User
from app.web.assets import STATIC
from tests.browser.comparing import on_pair, open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.factories.rows import make_comparison, make_prompt, make_version

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
LOOKS: list[dict[str, Any]] = [
    {"viewport": DESKTOP},
    {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
]


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_no_state_of_the_page_locks_anybody_out(
    server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck, expected_errors: list[str]
) -> None:
    expected_errors.append("net::ERR_")
    shop = open_shop(server, pairs=2)
    with server.db() as db:
        conversation = [
            {"role": "system", "content": "You are a gardener."},
            {"role": "user", "content": "What grows on a sill?"},
            {"role": "assistant", "content": "Chives."},
            {"role": "user", "content": "Question 3: and in the dark?"},
        ]
        prompt = make_prompt(db, shop.project, messages=conversation)
        make_comparison(
            db,
            shop.project,
            prompt=prompt,
            texts=("# Nothing\n\n| plant | light |\n|---|---|\n| fern | little |\n", "```\n" + "wide " * 80 + "\n```"),
        )
    sign_in(shop.reviewer)

    def cut(route: Route) -> None:
        route.abort() if route.request.method == "POST" else route.continue_()

    page.route("**/compare", cut)
    page.goto(shop.url)
    on_pair(page, 1)
    axe(page)
    paler = "[...document.querySelectorAll('kbd')].filter(key => getComputedStyle(key).opacity !== '1').length"
    assert page.evaluate(paler) == 0, "axe passes over single letters: those on the keys are as dark as their words"
    page.keyboard.press("f")
    axe(page)
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    axe(page)
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('keys').showModal()")
    axe(page)
    keys = page.locator("#keys").bounding_box()
    assert keys is not None
    assert keys["y"] >= 16, "the list of keys stands clear of the window's edge"
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator("#connection")).to_be_visible()
    axe(page)
    page.unroute("**/compare")
    on_pair(page, 2)
    page.keyboard.press("u")
    on_pair(page, 1)
    axe(page)
    page.keyboard.press("s")
    on_pair(page, 2)
    page.keyboard.press("x")
    on_pair(page, 3)
    page.get_by_text("Earlier in this conversation").click()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("b")
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    axe(page)
    page.goto(f"{server.url}/p/kitchen/answers")
    page.get_by_text("Show the pair").first.click()
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("context_options", LOOKS, ids=["light desk", "dark phone"])
def test_a_wide_formula_is_read_to_its_end(server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck) -> None:
    shop = open_shop(server, pairs=0)
    wide = "+".join(rf"\frac{{x^{{{n}}}}}{{{n}!}}" for n in range(1, 26)) + "=42"
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: and now?")
        make_comparison(db, shop.project, prompt=prompt, texts=(f"$$\n{wide}\n$$", f"In a line ${wide}$ of text."))
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)

    def read_on(side: int) -> None:
        box, body = page.locator(".answer .formula:visible").nth(side), page.locator(".answer .body:visible").nth(side)
        box.focus()
        for _ in range(40):
            if box.evaluate("n => n.scrollLeft + n.clientWidth >= n.scrollWidth - 1"):
                break
            page.keyboard.press("ArrowRight")  # of the page, not the choice of B
            page.wait_for_timeout(150)  # until it has scrolled: what is too much would turn to B
        places = [place.bounding_box() for place in (box.locator("mn", has_text="42"), body)]
        end, around = (place["x"] + place["width"] for place in places if place)
        assert end <= around + 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    read_on(0)
    read_on(1)
    axe(page)
    page.keyboard.press("a")
    expect(page.get_by_role("heading", level=1)).to_have_text("New pairs are on their way")
    page.goto(f"{server.url}/p/kitchen/answers")
    page.get_by_text("Show the pair").first.click()
    read_on(0)
    axe(page)


@pytest.mark.parametrize(
    ("context_options", "most"),
    [
        ({"viewport": PHONE, "has_touch": True, "is_mobile": True, "locale": "de"}, 0.3),
        ({"viewport": {"width": 740, "height": 360}, "has_touch": True, "is_mobile": True, "locale": "de"}, 0.4),
        ({"viewport": PHONE, "locale": "ar"}, 0.3),
    ],
    ids=["German, upright", "German, sideways", "Arabic, narrow window"],
)
def test_the_bar_leaves_a_small_screen_to_the_answers(
    server: LiveServer, page: Page, sign_in: SignIn, most: float
) -> None:
    shop = open_shop(server, reviewing={"scale": "strength", "skip_reason": "optional", "comment": "optional"})
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.locator(".choice[data-key=both_bad]").click()
    on_pair(page, 2)
    bar = page.locator(".bar").bounding_box()
    assert bar is not None
    assert bar["height"] < most * page.evaluate("innerHeight")
    seen = page.locator(".bar :is(button, summary):visible")
    boxes = seen.evaluate_all(
        """nodes => nodes.map(node => {
            const { left, right, width, height } = node.getBoundingClientRect();
            const least = node.matches(".choice") ? 44 : 24;
            const fits = node.scrollWidth <= node.clientWidth && left >= 0 && right <= innerWidth;
            return [node.textContent.trim(), fits && width >= 24 && height >= least];
        })"""
    )
    assert len(boxes) == 8 + 5
    assert [text for text, fine in boxes if not fine] == []


def test_each_reason_for_waiting_says_what_it_is(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    from app.db.tables import Project, Round, Version

    shop = open_shop(server, pairs=0)
    with server.db() as db:
        db.query(Version).delete()
    sign_in(shop.reviewer)

    def heading() -> str:
        page.goto(shop.url)
        return page.get_by_role("heading", level=1).inner_text()

    assert heading() == "There is no model yet"
    with server.db() as db:
        db.add(Round(project_id=shop.project.id, number=0, kind="import", trigger="setup", state="queued"))
    assert heading() == "The model is being set up"
    with server.db() as db:
        db.query(Round).update({"state": "failed"})
    assert heading() == "The model could not be set up"
    with server.db() as db:
        make_version(db, shop.project, number=1)
    assert heading() == "There is nothing to answer yet"
    with server.db() as db:
        make_prompt(db, shop.project)
    assert heading() == "New pairs are on their way"
    with server.db() as db:
        db.query(Project).update({"refill_problem": "connection refused"})
    assert heading() == "New pairs cannot be made at present"
    assert "connection refused" not in page.content(), "the reason is for admins"


def test_hostile_answers_are_harmless(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=0)
    hostile = (
        '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
        '<form action="/logout" method="post"><button name="choice" value="a" data-key="a">A is better</button></form>'
        '<div id="desk" hx-get="/logout" data-hx-get="/logout" hx-trigger="load">x</div>[go](javascript:alert(1))'
    )
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text=f"Question 1: {hostile}")
        make_comparison(db, shop.project, prompt=prompt, texts=(hostile, f"safe {hostile}"))
    sign_in(shop.reviewer)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shop.url)
    on_pair(page, 1)
    assert page.title().startswith("Compare")
    assert page.locator("[id=desk]").count() == 1
    assert (
        page.locator(".answer :is(form, button, img, script, [hx-get], [data-hx-get], [href^=javascript])").count() == 0
    )
    assert all(url.startswith(server.url) and "logout" not in url for url in asked)


def test_what_a_reviewer_downloads_is_small() -> None:
    def weight(*names: str) -> int:
        return sum(len(gzip.compress((STATIC / name).read_bytes())) for name in names)

    modules = [f"js/compare/{path.name}" for path in (STATIC / "js/compare").iterdir()]
    assert len(modules) > 5
    assert weight("vendor/htmx.min.js", "js/base.js", "js/forms.js", "js/stored.js", "js/words.js", *modules) < 40_000
    assert weight("css/base.css", "css/reading.css", "css/compare.css") < 20_000
