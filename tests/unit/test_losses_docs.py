"""docs/losses is a contract: a page for every loss, with every setting and the default the code has."""

import re
from pathlib import Path

import pytest

from app.rounds.spec import LOSS_ALIASES, LOSSES, OPTIONS_OF_LOSSES, loss_options

DOCS = Path(__file__).parents[2] / "docs" / "losses"
OPTIONS = {"odpo", "wpo", "f_dpo", "tr_dpo"}


@pytest.mark.parametrize("loss", list(LOSSES))
def test_page_of_a_loss(loss: str) -> None:
    page = (DOCS / f"{loss}.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE))
    assert {name: float(value) for name, value in rows.items()} == {
        name: rule.default for name, rule in LOSSES[loss].settings.items()
    }
    (options,) = re.findall(r"^\*\*Options of losses it reads\*\* beside these: (.*)$", page, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", options)) == loss_options(loss)
    for heading in ("**Learns from**", "**At the start**", "## When to use it", "## When not to", "## What goes wrong"):
        assert heading in page
    assert ("**A margin**" in page) == ("margin" in LOSSES[loss].signals)
    for alias in (alias for alias, name in LOSS_ALIASES.items() if name == loss and alias not in OPTIONS):
        assert f"`{alias}`" in page


def test_the_index_leads_to_every_page_and_options_are_documented() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {page.stem for page in DOCS.glob("*.md")} - {"README"}
    assert pages == set(LOSSES) | OPTIONS
    assert all(f"({name}.md)" in index for name in pages)
    text = "".join((DOCS / f"{name}.md").read_text() for name in OPTIONS)
    assert all(f"| `{option}` |" in text for option in OPTIONS_OF_LOSSES)


def test_links_between_the_pages_hold() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((\w+\.md)\)", page.read_text()):
            assert (DOCS / target).is_file(), f"{page.name} → {target}"
