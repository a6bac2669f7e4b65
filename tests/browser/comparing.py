"""What the tests of the compare page share: a project with pairs, and the words of what was stored."""

from dataclasses import dataclass, field
from uuid import UUID

from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db.tables import Project, User, Vote
from tests.browser.server import LiveServer
from tests.factories.rows import make_comparison, make_member, make_project, make_prompt, make_version

LEFT = "Give it **light** and warmth.\n\n1. A south window.\n2. Water from below.\n"
RIGHT = "Basil is a herb that many people enjoy growing, and there are a number of things to consider. " * 6


@dataclass
class Shop:
    """A project with reviewers and pairs, laid in the server's database."""

    server: LiveServer
    project: Project
    reviewer: User
    url: str
    comparisons: list[UUID] = field(default_factory=list)

    def votes(self) -> list[tuple[str, str]]:
        """(what was meant, what was seen) of every vote, in order."""
        with self.server.db() as db:
            return [tuple(row) for row in db.execute(select(Vote.choice, Vote.shown_choice).order_by(Vote.id))]

    def column(self, name: str) -> list[object]:
        """One column of every vote, in order."""
        with self.server.db() as db:
            return list(db.execute(select(getattr(Vote, name)).order_by(Vote.id)).scalars())


def open_shop(server: LiveServer, *, pairs: int = 3, slots: int = 1, **project: object) -> Shop:
    """A project with one reviewer and ``pairs`` numbered pairs; the first reviewer sees them as they are."""
    with server.db() as db:
        made = make_project(db, slug="kitchen", guidelines="Right comes before *pretty*.", buffer_size=1, **project)
        version = make_version(db, made, number=1)
        reviewer = make_member(db, made)
        shop = Shop(server, made, reviewer, f"{server.url}/p/kitchen/compare")
        for number in range(1, pairs + 1):
            prompt = make_prompt(db, made, text=f"Question {number}: how do I keep basil alive?")
            texts = (f"Left of {number}. {LEFT}", f"Right of {number}. {RIGHT}")
            comparison = make_comparison(db, made, version=version, prompt=prompt, texts=texts, slots=slots)
            shop.comparisons.append(comparison.id)
    return shop


def on_pair(page: Page, number: int, *, settled: bool = True) -> None:
    """Wait until that pair is on the page, and a new choice is taken for meant.

    Args:
        settled: also wait until every choice made before is acknowledged; a pair is on the page before that.
    """
    expect(page.locator(".talk")).to_contain_text(f"Question {number}:")
    if settled:
        acknowledged(page)
    page.wait_for_timeout(400)


def acknowledged(page: Page, *, seconds: float = 5) -> None:
    """Wait until the server has said of every choice that it has it."""
    expect(page.locator("body[data-kept='0']")).to_be_attached(timeout=seconds * 1000)


def ready_ahead(page: Page) -> None:
    """Wait until the next pair waits in the page."""
    expect(page.locator("#desk[data-ahead=ready]")).to_be_attached()
