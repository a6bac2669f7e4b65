"""German, and Arabic, which runs from right to left: pages fit, are accessible, and keys go where the answers are."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from app.db.tables import Comparison, User
from app.language.negotiation import LANGUAGES
from app.preferences.adjudication import decide
from tests.browser.admin_scene import life
from tests.browser.comparing import acknowledged, on_pair, open_shop
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.factories.rows import make_member, make_user, make_vote

SignIn = Callable[[User], None]
PAGES = ("", "/settings", "/rounds/2", "/versions", "/reviewers", "/compare")
EVERY_PAGE = (
    "", "/compare", "/answers", "/playground", "/prompts", "/prompts/new", "/rounds", "/rounds/new", "/rounds/2",
    "/rounds/3", "/rounds/4", "/versions", "/preferences", "/preferences/votes", "/preferences/thumbs",
    "/preferences/contradictions", "/reviewers", "/reviewers/work", "/checks", "/flagged", "/members", "/settings",
    "/settings/reviewing", "/settings/queue", "/settings/preferences", "/audit", "/nowhere",
)  # fmt: skip
EVERY_OTHER_PAGE = ("/?all=1", "/account", "/admin/users", "/admin/audit", "/projects/new", "/api/docs")
DARK_PHONE = {"viewport": PHONE, "color_scheme": "dark"}


@pytest.mark.parametrize(
    ("context_options", "begins"),
    [
        ({"locale": "ar", "viewport": DESKTOP}, ("ar", "rtl")),
        ({"locale": "ar-EG", **DARK_PHONE}, ("ar", "rtl")),
        ({"locale": "de-AT", **DARK_PHONE}, ("de", "ltr")),
    ],
    ids=["Arabic, desktop", "Arabic, dark phone", "German, dark phone"],
)
def test_pages_are_accessible_and_fit_in_other_languages(
    server: LiveServer, page: Page, sign_in: SignIn, axe: Callable[[Page], None], begins: tuple[str, str]
) -> None:
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    for path in PAGES:
        page.goto(f"{server.url}/p/{scene.slug}{path}")
        assert (page.get_attribute("html", "lang"), page.get_attribute("html", "dir")) == begins
        page.evaluate("document.querySelectorAll('main details:not(.confirm)').forEach(e => { e.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], f"{path} is {width} px wide"  # type: ignore[index]
        axe(page)


@pytest.mark.parametrize(
    "context_options", [{"locale": tag, "viewport": DESKTOP} for tag in LANGUAGES], ids=list(LANGUAGES)
)
def test_no_page_is_wider_than_a_phone_no_table_than_a_tablet_and_the_tabs_stand_on_one_line(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("404")  # of the page that is not there
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    here, person = f"/p/{scene.slug}", f"/reviewers/{scene.reviewer.id}"
    page.goto(f"{server.url}{here}")
    places = page.locator(".tabs a").evaluate_all("tabs => tabs.map(tab => tab.getBoundingClientRect())")
    assert len(places) == 12
    assert len({round(place["top"]) for place in places}) == 1, "the tabs take more than one line"
    assert all(place["left"] >= 0 and place["right"] <= DESKTOP["width"] for place in places), "a tab is out of sight"
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    inside = (*EVERY_PAGE, person, f"{person}/answers", f"/prompts/uploads/{scene.upload_id}")
    for path in (*(f"{here}{path}" for path in inside), *EVERY_OTHER_PAGE):
        page.goto(f"{server.url}{path}")
        page.evaluate("document.querySelectorAll('main details:not(.pop)').forEach(e => { e.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{path} is {width} px wide"
    page.set_viewport_size({"width": 768, "height": 1024})
    for path in (f"{here}/reviewers", f"{here}/rounds", f"{here}/prompts", f"{here}/audit", "/admin/users"):
        page.goto(f"{server.url}{path}")
        beyond = page.locator(".table-wrap").evaluate("table => table.scrollWidth - table.clientWidth")
        assert beyond <= 0, f"columns of {path} are out of sight on a tablet"


@pytest.mark.parametrize("context_options", [{"locale": "ar", "viewport": DESKTOP}])
def test_paths_and_addresses_in_fields_read_from_left_to_right(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """The first slash of a path would else stand at its end."""
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    page.goto(f"{server.url}/projects/new")
    field = page.locator("#base_model")
    field.fill("/models/small")
    assert field.evaluate("node => getComputedStyle(node).direction") == "ltr"
    page.locator("#name").fill("مساعد يومي")
    assert page.locator("#name").evaluate("node => getComputedStyle(node).direction") == "rtl"


def place(answer: Locator) -> float:
    box = answer.bounding_box()
    assert box is not None
    return box["x"]


@pytest.mark.parametrize("context_options", [{"locale": "ar", "viewport": DESKTOP}])
def test_names_of_another_direction_keep_their_own(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """Punctuation at the end of English in an Arabic page would else come before it."""
    criteria = [{"key": "right", "label": "Is it right?"}]
    shop = open_shop(server, name="Ask me!", reviewing={"tags": ["Wrong fact!", "Too long…"], "criteria": criteria})
    sign_in(shop.reviewer)
    misplaced = """nodes => nodes.filter(node => {
        const place = (start, end) => {
            const range = document.createRange();
            range.setStart(node.firstChild, start);
            range.setEnd(node.firstChild, end);
            return range.getBoundingClientRect().left;
        };
        const length = node.textContent.length;
        return place(length - 1, length) < place(0, 1);
    }).map(node => node.textContent)"""

    def in_order(*texts: str) -> None:
        for text in texts:
            place = page.get_by_text(text, exact=True)
            expect(place.first).to_be_visible()
            assert place.evaluate_all(misplaced) == []

    page.goto(shop.url)
    on_pair(page, 1)
    in_order("Ask me!", "Wrong fact!", "Is it right?")
    page.get_by_text("Wrong fact!").click()
    page.get_by_text("Too long…").click()
    page.get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    page.locator(".choice[value=a]").click()
    on_pair(page, 2)
    page.goto(f"{server.url}/p/kitchen/answers")
    in_order("Ask me!", "Wrong fact!", "Too long…", "Is it right?")
    page.goto(f"{server.url}/p/kitchen")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ask me!")
    in_order("Ask me!")


@pytest.mark.parametrize("context_options", [{"locale": "ar", "viewport": DESKTOP}])
def test_a_date_beside_a_name_stays_whole_from_right_to_left(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """Its digits would else go to both sides of a name in Latin letters."""
    shop = open_shop(server, pairs=1, slots=2)
    with server.db() as db:
        admin = make_member(db, db.merge(shop.project), role="admin", user=make_user(db, name="Ann Lindqvist"))
        pair = db.get_one(Comparison, shop.comparisons[0])
        make_vote(db, pair, choice="a")
        make_vote(db, pair, choice="b", slot=1)
        project = db.merge(shop.project)
        decide(db, project, pair.id, choice="a", strength=None, note="", saw_votes=False, actor=admin.id)
    sign_in(admin)
    page.goto(f"{server.url}/p/kitchen/preferences/contradictions/decided")
    said = page.locator("li.judged time").first
    expect(said).to_contain_text("202")
    name_within = """time => {
        const name = document.createRange();
        name.selectNodeContents(time.previousSibling);
        const [at, around] = [name.getBoundingClientRect(), time.getBoundingClientRect()];
        return at.left < around.right - 1 && around.left < at.right - 1;
    }"""
    assert "Ann Lindqvist" in said.evaluate("time => time.previousSibling.textContent")
    assert not said.evaluate(name_within)


@pytest.mark.parametrize("context_options", [{"locale": "ar", "viewport": DESKTOP}])
def test_pairs_are_judged_by_keyboard_from_right_to_left(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """A is the first answer in reading order, and 'left' in what is stored is its place, in every language."""
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    expect(page.get_by_role("heading", level=1)).to_have_text("أي الإجابتين أفضل؟")
    assert place(page.locator("#answer-0")) > place(page.locator("#answer-1")), "A stands on the right"
    assert place(page.locator(".choice[value=a]")) > place(page.locator(".choice[value=b]"))
    page.keyboard.press("ArrowRight")
    on_pair(page, 2)
    expect(page.locator("[data-last]")).to_have_text("A أفضل")
    page.keyboard.press("ArrowLeft")
    on_pair(page, 3)
    expect(page.locator("[data-last]")).to_have_text("B أفضل")
    page.keyboard.press("u")
    on_pair(page, 2)
    expect(page.locator(".aside").first).to_have_text("تم التراجع. اختر من جديد.")
    page.keyboard.press("ArrowRight")
    on_pair(page, 3)
    acknowledged(page)
    assert [vote for vote in shop.votes() if vote[1] != "undone"] == [("a", "left"), ("b", "right"), ("a", "left")]
    assert shop.column("mirrored") == [True] * 4
