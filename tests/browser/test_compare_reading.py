"""Reading two answers: as written, where they differ, whole or folded, in any script; keys of one's own; speed."""

from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from app.db.tables import User
from tests.browser.comparing import acknowledged, on_pair, open_shop, ready_ahead
from tests.browser.server import LiveServer
from tests.factories.rows import make_comparison, make_prompt

SignIn = Callable[[User], None]
AxeCheck = Callable[[Page], None]
LONG = "A sentence that says nothing new about basil. " * 90
FORMATTED = "Water **often**: $x^2$.\n\n```python\ndef water(): pass\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


def test_answers_are_read_as_formatted_as_written_and_by_their_differences(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        for number, texts in enumerate(
            [(FORMATTED, "Water *seldom*."), ("It grows in the light of day.", "It grows in the dark of night.")], 1
        ):
            prompt = make_prompt(db, shop.project, text=f"Question {number}: and now?")
            make_comparison(db, shop.project, prompt=prompt, texts=texts)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    left = page.locator(".answer").first
    for part in ("math msup", "pre .hl-k", "table td", "strong"):
        expect(left.locator(f".rendered {part}").first).to_be_visible()
    page.keyboard.press("r")
    expect(left.locator(".raw")).to_be_visible()
    expect(left.locator(".rendered")).to_be_hidden()
    assert left.locator(".raw").inner_text().strip() == FORMATTED.strip()
    page.keyboard.press("t")
    on_pair(page, 2)
    expect(left.locator(".raw")).to_be_visible()  # as the reviewer likes to read, from pair to pair
    page.keyboard.press("r")
    page.keyboard.press("d")
    marked = [page.locator(f"#answer-{side} mark").all_inner_texts() for side in (0, 1)]
    assert marked == [["light", "day"], ["dark", "night"]]
    expect(page.locator("#announce")).to_contain_text("Differences marked: 2 in A, 2 in B.")
    page.keyboard.press("d")
    expect(page.locator("mark")).to_have_count(0)
    assert page.locator("#answer-0 .rendered").inner_text() == "It grows in the light of day."


def test_a_formula_that_differs_is_marked_as_a_whole(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: and now?")
        texts = ("So $x^2$ and $y$.\n\n$$a=1$$", "So $x_2$ and $y$.\n\n$$a=2$$")
        make_comparison(db, shop.project, prompt=prompt, texts=texts)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    before = page.locator(".answers").inner_html()
    page.keyboard.press("d")
    expect(page.locator("#announce")).to_contain_text("Differences marked: 2 in A, 2 in B.")
    expect(page.locator("#answer-0 mark > math")).to_have_count(2)
    expect(page.locator("#answer-1 mark > math")).to_have_count(2)
    page.keyboard.press("d")
    assert page.locator(".answers").inner_html() == before


def test_formulas_of_several_lines_are_set_in_columns(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    """Signs of equality below each other and next to what stands before them, with dollars around and without."""
    lines = "a &= b + c \\\\\na + b + c &= d"
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: and now?")
        texts = (
            f"$$\\begin{{aligned}}\n{lines}\n\\end{{aligned}}$$",
            f"So\n\\begin{{align}}\n{lines}\n\\end{{align}}\n",
        )
        make_comparison(db, shop.project, prompt=prompt, texts=texts)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    for side in (0, 1):
        signs = page.locator(f"#answer-{side} mo", has_text="=").all()
        assert len(signs) == 2
        assert len({round(sign.bounding_box()["x"]) for sign in signs}) == 1
        ends = [cell.bounding_box() for cell in page.locator(f"#answer-{side} mtd:first-child > :last-child").all()]
        assert len(ends) == 2
        assert abs((ends[0]["x"] + ends[0]["width"]) - (ends[1]["x"] + ends[1]["width"])) < 2
        assert "&" not in page.locator(f"#answer-{side} .rendered").inner_text()


def test_a_long_question_can_be_put_away(server: LiveServer, page: Page, sign_in: SignIn, axe: AxeCheck) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        for number, text in ((1, "and now?"), (2, LONG)):
            make_comparison(db, shop.project, prompt=make_prompt(db, shop.project, text=f"Question {number}: {text}"))
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    expect(page.locator(".asked")).to_have_count(0)
    page.keyboard.press("a")
    on_pair(page, 2)
    expect(page.locator("#announce")).to_contain_text("Next pair: Question 2: A sentence")
    top = page.locator(".answers").bounding_box()["y"]
    axe(page)
    page.get_by_text("What was asked").click()
    expect(page.locator(".asked .prose")).to_be_hidden()
    assert page.locator(".answers").bounding_box()["y"] < top - 300


def test_long_answers_are_folded_at_one_height_and_their_lengths_stay_in_sight(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: how?")
        make_comparison(db, shop.project, prompt=prompt, texts=(LONG, LONG * 2))
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    bodies = page.locator(".answer .body").all()
    assert len({round(body.bounding_box()["height"]) for body in bodies}) == 1
    assert page.locator(".length").all_inner_texts() == ["720 words", "1,440 words"]
    assert [meter.get_attribute("value") for meter in page.locator(".length meter").all()] == ["50", "100"]
    page.keyboard.press("m")
    heights = [body.bounding_box()["height"] for body in bodies]
    assert heights[1] > 1.7 * heights[0] > 900


def test_each_paragraph_reads_in_its_own_direction(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server, pairs=0)
    with server.db() as db:
        prompt = make_prompt(db, shop.project, text="Question 1: שלום?")
        make_comparison(db, shop.project, prompt=prompt, texts=("שלום עולם.\n\n- פריט\n", "English.\n\nשלום עולם.\n"))
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    assert page.locator("#answer-0 .prose").evaluate("node => getComputedStyle(node).direction") == "rtl"
    side = """node => {
        const text = document.createRange();
        text.selectNodeContents(node);
        const [inner, outer] = [text.getBoundingClientRect(), node.getBoundingClientRect()];
        return outer.right - inner.right < inner.left - outer.left ? "right" : "left";
    }"""
    assert [p.evaluate(side) for p in page.locator("#answer-1 .prose p").all()] == ["left", "right"]


def test_keys_are_changed_shown_and_given_back(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    shop = open_shop(server)
    sign_in(shop.reviewer)
    page.goto(shop.url)
    on_pair(page, 1)
    page.keyboard.press("?")
    page.get_by_role("button", name="Change the key for: A is better.").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    expect(page.locator("[data-keys-told]")).to_have_text("J is set.")
    page.get_by_role("button", name="Change the key for: Undo").click()
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    page.reload()
    on_pair(page, 1)
    expect(page.locator("button[value=a] kbd")).to_have_text("J")
    expect(page.locator("button[value=b] kbd")).to_have_text("2")
    page.keyboard.press("a")
    page.keyboard.press("1")
    page.wait_for_timeout(200)
    assert shop.votes() == []
    page.keyboard.press("j")
    on_pair(page, 2)
    page.keyboard.press("b")  # undo now
    on_pair(page, 1)
    page.keyboard.press("?")
    page.get_by_role("button", name="Keys as they were").click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    on_pair(page, 2)
    assert [shown for _, shown in shop.votes()] == ["left", "undone", "right"]


def test_the_next_pair_is_on_the_page_before_the_server_has_answered(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    shop = open_shop(server, pairs=4)
    sign_in(shop.reviewer)
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held or route.request.method != "POST":
            route.continue_()
        else:
            held.append(route)

    page.route("**/p/kitchen/compare", hold)
    page.goto(shop.url)
    on_pair(page, 1)
    ready_ahead(page)
    page.keyboard.press("a")
    expect(page.locator(".talk")).to_contain_text("Question 2:")
    expect(page.locator(".pair-title")).to_be_focused()
    assert shop.votes() == []
    page.wait_for_timeout(400)
    page.keyboard.press("b")  # judged before the first was acknowledged: it waits its turn
    page.wait_for_timeout(100)
    assert len(held) == 1
    held[0].continue_()
    on_pair(page, 3)
    assert [shown for _, shown in shop.votes()] == ["left", "right"]
    page.keyboard.press("u")
    on_pair(page, 2)
    page.keyboard.press("t")
    on_pair(page, 3)
    page.keyboard.press("x")
    on_pair(page, 4)
    acknowledged(page)
    assert [shown for _, shown in shop.votes()] == ["left", "right", "undone", "tie", "both_bad"]


def test_a_pair_kept_ready_too_long_is_not_shown(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    from app.comparisons.service import expire_leases, lease_next
    from app.db.base import utcnow
    from tests.factories.rows import make_user

    shop = open_shop(server, lease_seconds=10)
    sign_in(shop.reviewer)
    page.clock.install()
    page.goto(shop.url)
    expect(page.locator(".talk")).to_contain_text("Question 1:")
    ready_ahead(page)
    page.clock.fast_forward(8_000)
    with server.db() as db:  # what it waited with is another's by now
        from datetime import timedelta

        later = utcnow() + timedelta(seconds=11)
        expire_leases(db, now=later)
        taken = lease_next(db, project=db.merge(shop.project), reviewer_id=make_user(db).id, now=later)
        again = lease_next(db, project=db.merge(shop.project), reviewer_id=make_user(db).id, now=later)
        assert taken is not None
        assert again is not None
    page.keyboard.press("a")
    expect(page.locator(".talk")).to_contain_text("Question 3:")
