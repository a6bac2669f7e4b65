"""Where a redirect may lead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.replies import path_of, safe_next


@pytest.mark.parametrize("path", ["/", "/p/demo/compare", "/account?x=1&y=%2F", "/p/demo/rounds/3#log"])
def test_our_own_paths_are_kept(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "elsewhere",
    ["//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example/", "javascript:alert(1)", "",
     None, "evil.example", "/\t/evil.example", "/\n/evil.example", " //evil.example", "/a\\b",
     "///evil.example", "/a\r\nX: y",
     "/" + "a" * 3000],
)  # fmt: skip
def test_everything_else_leads_to_the_first_page(elsewhere: str | None) -> None:
    assert safe_next(elsewhere) == "/"


@given(st.text(alphabet="/\\:.?#@ \t\nabh\x00", max_size=20))
def test_no_text_leads_to_another_host(text: str) -> None:
    target = safe_next(text)
    assert target.startswith("/")
    assert not target.startswith(("//", "/\\"))
    assert "\\" not in target
    assert target.isprintable()


def test_the_path_of_a_referer() -> None:
    assert path_of("https://hone.example/p/demo?x=1#y") == "/p/demo?x=1"
    assert path_of("https://[bad") is None
    assert path_of("") is None
