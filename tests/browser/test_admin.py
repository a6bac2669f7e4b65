"""Admins at work, by keyboard alone: making a project, uploading a file with bad rows, following a round."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db.tables import Project, Prompt, Round, RoundEvent, User
from app.projects.service import create_project
from tests.browser.admin_scene import life
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.server import LiveServer
from tests.factories import rows

SignIn = Callable[[User], None]


def to(page: Page, name: str, *, most: int = 60) -> None:
    """Press Tab until what is focused has this accessible name (its label, or its text)."""
    for _ in range(most):
        page.keyboard.press("Tab")
        told = page.evaluate(
            "() => { const e = document.activeElement;"
            " return (e.labels?.[0]?.textContent || e.getAttribute('aria-label') || e.textContent || '').trim(); }"
        )
        if told.startswith(name):
            return
    raise AssertionError(f"{name!r} cannot be reached with {most} times Tab")


def admin(server: LiveServer, *, project: bool) -> User:
    with server.db() as db:
        ann = rows.make_user(db, email="ann@example.org", name="Ann", is_site_admin=True)
        if project:
            create_project(db, name="Tone", base_model="owner/model", created_by=ann.id)
        return ann


def test_a_project_is_made_by_keyboard(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("422")  # the browser's console says so of the refused form
    sign_in(admin(server, project=False))
    page.goto(server.url)
    to(page, "Create the first project")
    page.keyboard.press("Enter")
    expect(page).to_have_title("New project · Hone")
    to(page, "Name")
    page.keyboard.type("Kind answers")
    to(page, "Base model")
    page.keyboard.type("/no/such/model")
    to(page, "Training")
    page.keyboard.press("Space")
    expect(page.get_by_label("λ (lambda)")).to_be_hidden()
    to(page, "Loss")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("λ (lambda)")).to_be_visible()
    to(page, "β (beta)")
    page.keyboard.type("much")
    page.keyboard.press("Enter")

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Nothing was saved")
    expect(alert).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("Kind answers")
    expect(page.get_by_label("λ (lambda)")).to_be_visible()
    to(page, "Base model")  # the link in the list of errors
    page.keyboard.press("Enter")
    expect(page.get_by_label("Base model")).to_be_focused()
    expect(page.get_by_label("Base model")).to_have_accessible_description(
        "A directory on the server with safetensors weights, or a hub id such as owner/name. Version 1 is made of it. "
        "/no/such/model does not exist on the server; check the path, or copy the model there"
    )
    page.keyboard.press("Control+a")
    page.keyboard.type("owner/model")
    to(page, "β (beta)")
    page.keyboard.press("Control+a")
    page.keyboard.type("0.2")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Kind answers")).to_be_visible()
    expect(page.get_by_role("heading", name="The base model is being imported")).to_be_visible()
    with server.db() as db:
        project = db.scalars(select(Project)).one()
        assert project.training["loss_settings"] == {"beta": 0.2, "dpop_lambda": 50.0}


def test_a_file_with_bad_rows_is_uploaded_by_keyboard(
    server: LiveServer, page: Page, sign_in: SignIn, tmp_path: Path, axe: Callable[[Page], None]
) -> None:
    sign_in(admin(server, project=True))
    file = tmp_path / "questions.jsonl"
    file.write_text('{"prompt": "How?"}\n{broken\n{"prompt": "Why?"}\n')
    page.on("filechooser", lambda chooser: chooser.set_files(file))  # before it is needed: it takes the browser a while
    page.goto(f"{server.url}/p/tone/prompts")
    to(page, "Add prompts")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Add prompts · Tone · Hone")
    to(page, "File")
    page.keyboard.press("Enter")
    expect(page.get_by_label("File")).to_have_value(re.compile(r"questions\.jsonl$"))
    to(page, "Keep the good rows")
    to(page, "Upload")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 3 rows of questions.jsonl could not be kept")
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("2")
    expect(row).to_contain_text("this is not JSON")
    axe(page)
    to(page, "Download the bad rows")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert Path(download.value.path()).read_text().splitlines()[1].startswith("2,this is not JSON")
    to(page, "To the prompts")
    with server.db() as db:
        said = sorted(prompt.messages[0]["content"] for prompt in db.scalars(select(Prompt)))
    assert said == ["How?", "Why?"]


def test_the_table_of_prompts_is_searched_without_leaving_the_page(
    server: LiveServer, page: Page, sign_in: SignIn
) -> None:
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    page.goto(f"{server.url}/p/{scene.slug}/prompts")
    table = page.locator("#table")
    expect(table).to_contain_text("red wine stain")
    to(page, "Search")
    page.keyboard.type("sourdough")
    expect(table).not_to_contain_text("red wine stain")
    expect(table).to_contain_text("sourdough")
    expect(page).to_have_url(f"{server.url}/p/{scene.slug}/prompts?search=sourdough&show=active")
    expect(page.get_by_label("Search")).to_be_focused()


def test_a_rounds_page_follows_it_and_stops_when_it_ends(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
        round_ = db.scalars(select(Round).where(Round.number == 4)).one()
    sign_in(scene.admin)
    page.goto(f"{server.url}/p/{scene.slug}/rounds/4")
    expect(page.get_by_text("Step 17 of 26")).to_be_visible()
    expect(page.get_by_role("img", name="Loss.")).to_be_visible()
    expect(page.get_by_text("after step 16")).to_be_visible()
    to(page, "Checks before training")
    page.keyboard.press("Enter")
    expect(page.get_by_text("more than a fifth was cut off")).to_be_visible()
    to(page, "Settings it uses")
    page.keyboard.press("Enter")
    expect(page.get_by_text("dpop lambda")).to_be_visible()

    line = {"kind": "train", "step": 18, "steps": 26, "loss": 0.5, "accuracy": 0.8, "margin": 1.0}
    with (server.settings.jobs_dir / str(round_.id) / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(line) + "\n")
    expect(page.get_by_text("Step 18 of 26")).to_be_visible()
    expect(page.get_by_text("dpop lambda")).to_be_visible()  # what was opened stays open
    expect(page.get_by_text("more than a fifth was cut off")).to_be_visible()

    with server.db() as db:
        row = db.scalars(select(Round).where(Round.number == 4)).one()
        row.state, row.error, row.log_tail = "failed", "The disk is full; free 2 GB and try again.", "No space left"
        db.add(RoundEvent(round_id=row.id, kind="state", from_state="training", to_state="failed"))
    expect(page.get_by_role("alert")).to_contain_text("The disk is full; free 2 GB and try again.")
    expect(page.get_by_text("training: failed")).to_be_visible()
    expect(page.get_by_text("No space left")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    asked = [url for url in asked if "/icons/" not in url]  # the browser asks for it in its own time
    assert asked == []

    to(page, "Try again")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The round starts again")).to_be_visible()
    to(page, "Cancel")
    page.keyboard.press("Enter")
    to(page, "Stop the round")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The round was cancelled")).to_be_visible()


def test_a_version_is_promoted_after_a_question(
    server: LiveServer, page: Page, sign_in: SignIn, expected_errors: list[str]
) -> None:
    expected_errors.append("409")
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    page.goto(f"{server.url}/p/{scene.slug}/versions")
    to(page, "Promote")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Make version 3 the current one?")).to_be_visible()
    to(page, "Promote version 3")
    page.keyboard.press("Enter")
    # There is no directory behind these rows: what does not verify never becomes current.
    expect(page.get_by_role("heading", name="The version's files are damaged")).to_be_visible()


PAGES = [
    "/?all=1",
    "/projects/new",
    "",
    "/settings",
    "/members",
    "/prompts",
    "/prompts?show=problem&search=zzz",
    "/prompts/new",
    "/rounds",
    "/rounds/0",
    "/rounds/2",
    "/rounds/3",
    "/rounds/4",
    "/versions",
]
DARK_PAGES = ["", "/settings", "/prompts", "/rounds/2", "/rounds/4", "/versions"]
"""Between them they have every colour."""


@pytest.mark.parametrize(
    "context_options",
    [{"viewport": DESKTOP}, {"viewport": PHONE, "color_scheme": "dark"}],
    ids=["desktop, light", "phone, dark"],
)
def test_every_page_is_accessible_and_fits(
    server: LiveServer, page: Page, sign_in: SignIn, axe: Callable[[Page], None]
) -> None:
    with server.db() as db:
        scene = life(db, server.settings.jobs_dir)
    sign_in(scene.admin)
    for path in [*PAGES, f"/prompts/uploads/{scene.upload_id}"]:
        whole = path if path.startswith(("/?", "/projects")) else f"/p/{scene.slug}{path}"
        page.goto(server.url + whole)
        page.evaluate("document.querySelectorAll('main details:not(.confirm)').forEach(e => { e.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], f"{whole} is {width} px wide"  # type: ignore[index]
        if page.viewport_size == DESKTOP or path in DARK_PAGES:
            axe(page)
    sign_in(scene.reviewer)
    page.goto(f"{server.url}/p/{scene.slug}")
    axe(page)


@pytest.mark.parametrize("context_options", [{"viewport": DESKTOP, "java_script_enabled": False}])
def test_forms_work_without_javascript(server: LiveServer, page: Page, sign_in: SignIn) -> None:
    sign_in(admin(server, project=True))
    page.goto(f"{server.url}/p/tone/prompts/new")
    page.get_by_label("Prompt", exact=True).fill("How do I boil an egg?")
    page.get_by_role("button", name="Add prompt").click()
    expect(page.get_by_text("How do I boil an egg?")).to_be_visible()
    page.goto(f"{server.url}/p/tone/settings")
    page.get_by_label("Name").fill("Voice")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")
    with server.db() as db:
        assert db.scalars(select(Project.name)).all() == ["Voice"]
