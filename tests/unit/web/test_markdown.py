"""Hostile text: whatever a model writes, nothing of it acts."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web import mathematics
from app.web.highlighting import CLASSES, Ink, highlight
from app.web.markdown import MAX_CHARS, TAGS, render_markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    '[a](https://x.example "onmouseover=alert(1)")',
    '<div hx-get="/logout" hx-trigger="load">',
    '<a data-hx-post="/p/demo/rounds" data-hx-trigger="load">x</a>',
    "<style>body{display:none}</style>",
    '<p style="position:fixed">',
    "<iframe src=//evil.example>",
    "<svg/onload=alert(1)>",
    "<form action=//evil.example><input name=password>",
    "</div></main><script>alert(1)</script>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<!--<script>alert(1)</script>-->",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    "```x onclick=alert(1)\ncode\n```",
    "<details open ontoggle=alert(1)>",
    "<base href=//evil.example>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "<http://evil.example/?onload=x>",
    "<a id=notices class=button>x</a>",
    r"$\text{<script>alert(1)</script>}$",
    r"$$\href{javascript:alert(1)}{x}$$",
    r"\\(\style{position:fixed}{x}\\)",
    r"$\class{button}{x} \cssId{notices}{y}$",
    r"$\text{<img src=x onerror=alert(1)>}\hspace{9999em}$",
    "```python\n'</code></pre><script>alert(1)</script>'\n```",
    "```html\n<a href='javascript:alert(1)' onclick=x>\n```",
]


class Reader(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(html: str) -> None:
    (outer, around), *inner = Reader(html).tags
    assert outer == "div"
    assert "hx-disable" in around
    assert html.endswith("</div>")
    for tag, attributes in inner:
        assert tag in TAGS, tag
        known = {"href", "title", "rel", "target", "start", "class", "display", "tabindex"} | mathematics.ATTRIBUTES
        assert set(attributes) <= known, attributes
        assert (attributes.get("class") or "hl-k") in CLASSES | {"formula"}, attributes
        if "href" in attributes:
            assert re.match(r"(https?:|mailto:|[^:]*$|[^:]*[/?#])", attributes["href"] or "", re.IGNORECASE), attributes
            assert attributes["rel"] == "noopener nofollow ugc"
            assert attributes["target"] == "_blank"


@pytest.mark.parametrize("text", HOSTILE)
def test_known_attacks_do_nothing(text: str) -> None:
    assert_harmless(render_markdown(text))


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=40), max_size=8).map("".join))
def test_mixtures_of_attacks_do_nothing(text: str) -> None:
    assert_harmless(render_markdown(text))


@given(st.text(alphabet="<>/=\"'`[]()!&#;:- \n\tabdhonxrefsctyljvp*_|~", max_size=120))
def test_markup_at_random_does_nothing(text: str) -> None:
    assert_harmless(render_markdown(text))


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=60))
def test_one_level_of_nesting_never_leaks_a_closing_tag(text: str) -> None:
    html = render_markdown(text)
    assert html.count("<div") == html.count("</div>") == 1


def test_what_people_write_is_shown() -> None:
    html = render_markdown(
        "# Title\n\nA *b* **c** `d`\ne\n\n1. x\n2. y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[l](https://x.example)"
    )
    assert "<h3>Title</h3>" in html
    assert "<em>b</em> <strong>c</strong> <code>d</code><br>" in html
    assert "<li>x</li>" in html
    assert "<td>2</td>" in html
    assert '<a href="https://x.example" target="_blank" rel="noopener nofollow ugc">l</a>' in html


def test_html_is_shown_as_the_text_it_is() -> None:
    assert Reader(render_markdown("<b>bold</b> & <i>")).text.strip() == "<b>bold</b> & <i>"


def test_very_long_text_is_shown_unformatted() -> None:
    html = render_markdown("<i>" + "a" * MAX_CHARS)
    assert 'class="prose plain"' in html
    assert "&lt;i&gt;" in html


def test_deep_nesting_is_no_bomb() -> None:
    assert_harmless(render_markdown(">" * 5000 + " x"))
    assert_harmless(render_markdown("[" * 5000))
    assert_harmless(render_markdown("*a_ " * 2000))


def test_headings_follow_each_other_without_leaving_a_level_out() -> None:
    html = render_markdown("### a\n# b\n## c\n#### d\n# e")
    assert re.findall(r"<h(\d)>(\w)</h\1>", html) == [("3", "a"), ("3", "b"), ("4", "c"), ("5", "d"), ("3", "e")]


def test_code_is_coloured_in_the_languages_we_know() -> None:
    html = render_markdown("```python\ndef f(x):\n    return 'a'  # why <b>\n```\n\n```klingon\nif (x) {}\n```")
    assert '<span class="hl-k">def</span>' in html
    assert "<span class=\"hl-s\">'a'</span>" in html
    assert '<span class="hl-c"># why &lt;b&gt;</span>' in html
    assert "<code>if (x) {}\n</code>" in html


def test_formulas_are_mathml_and_prices_are_not() -> None:
    html = render_markdown("So $e^{x}$ and \\(a<b\\) for $5 or $6.\n\n$$\\frac{1}{2}$$\n\n\\[\\sqrt{x}\\]")
    assert html.count("<math") == 4
    assert html.count('<math display="block"') == 2
    assert "<mfrac>" in html
    assert "<mo>&lt;</mo>" in html
    assert "for $5 or $6." in html


@pytest.mark.parametrize(
    ("written", "rows", "columns"),
    [
        ("$$\\begin{aligned}\na &= b \\\\[4pt]\nc &= d \\nonumber\n\\end{aligned}$$", 2, 2),
        ("Then\n\\begin{align}\na &= b \\\\\nc &= d \\label{eq:c}\n\\end{align}\nso", 2, 2),
        ("\\[\\begin{alignat*}{2}a &= b\\end{alignat*}\\]", 1, 2),
        ("$$\\begin{gathered}a \\\\ b \\\\ c\\end{gathered}$$", 3, 1),
        ("\\begin{eqnarray}a &=& b\\end{eqnarray}", 1, 3),
    ],
)
def test_formulas_of_several_lines_have_rows_and_columns(written: str, rows: int, columns: int) -> None:
    html = render_markdown(written)
    assert (html.count("<mtr>"), html.count("<mtd")) == (rows, rows * columns)
    assert "&amp;" not in html
    assert "\\" not in html
    assert "(1)" not in html
    assert_harmless(html)


def test_one_line_of_an_environment_is_a_formula() -> None:
    html = render_markdown("\\begin{equation} E = mc^2 \\end{equation}")
    assert '<math display="block">' in html
    assert "<msup>" in html
    assert "equation" not in html


def test_an_environment_in_the_midst_of_a_line_is_a_formula() -> None:
    html = render_markdown(
        "So \\begin{align} a &= b \\\\ c &= d \\end{align} and\n"
        "- with \\begin{pmatrix} 1 & 2 \\\\ 3 & \\begin{matrix} 4 \\end{matrix} \\end{pmatrix} inside."
    )
    assert html.count("<math") == html.count("</math>") == 2
    assert html.count('<math display="block"') == 1, "the aligned lines, and not the matrix"
    assert html.count("<mtr>") == 5
    assert "\\" not in html
    assert Reader(html).text.strip().startswith("So ")
    assert_harmless(html)


@pytest.mark.parametrize(
    "text",
    [
        "It is \\begin{align} a &= b",
        "It is \\begin{align} \\begin{cases} a \\end{align}",
        "It is \\begin{itemize} a \\end{itemize}",
        "It is \\end{align} \\begin{align}",
        "`\\begin{cases} a \\end{cases}`",
    ],
)
def test_what_only_looks_like_an_environment_stays_text(text: str) -> None:
    html = render_markdown(text)
    assert "<math" not in html
    assert Reader(html).text.strip() == text.strip("`")


def test_an_environment_that_is_not_known_is_shown_as_it_was_written() -> None:
    written = "\\begin{tikzpicture} a & b \\end{tikzpicture}"
    html = render_markdown(f"$${written}$$")
    assert "<math" not in html
    assert written in Reader(html).text


def test_formulas_that_may_be_too_wide_get_a_box_to_scroll_in() -> None:
    html = render_markdown("$$a=1$$\n\nand $b=2$ and\n\n$$" + "+".join(f"x_{{{n}}}" for n in range(9)) + "$$")
    assert html.count('<span class="formula">') == 1
    assert html.count('<span class="formula" tabindex="0">') == 1
    assert 'and <math display="inline"' in html or "and <math>" in html
    assert_harmless(html)


@pytest.mark.parametrize("latex", [r"\frac{", "{" * 400 + "x" + "}" * 400, r"\begin{pmatrix}1", "x" * 3000])
def test_a_formula_that_cannot_be_read_is_shown_as_it_was_written(latex: str) -> None:
    html = render_markdown(f"Look: ${latex}$ there")
    assert "<math" not in html or latex.startswith("{") is False
    assert_harmless(html)
    assert Reader(html).text.startswith("Look: ")


def test_no_formula_reaches_over_the_page() -> None:
    html = render_markdown(r"$\hspace{9999em} \kern{-50em} x$")
    assert "9999" not in "".join(value or "" for _, attributes in Reader(html).tags for value in attributes.values())
    assert "-50" not in "".join(value or "" for _, attributes in Reader(html).tags for value in attributes.values())


def test_text_finds_its_own_direction() -> None:
    assert render_markdown("שלום").startswith('<div class="prose" dir="auto" hx-disable>')


@pytest.mark.parametrize(
    "text",
    [
        "```c\n" + "\n" * 20_000 + "```",
        "```java\n" + "\n" * 19_000 + "int x;\n```",
        ("```c\n" + "//\n\n" * 500 + "```\n") * 40,
    ],
    ids=["one", "another language", "many"],
)
def test_code_that_takes_long_to_colour_is_shown_without(text: str) -> None:
    began = time.thread_time()
    html = render_markdown(text)
    assert time.thread_time() - began < 4, "seconds of the processor; it was 13 and more"
    assert html.count("\n") >= text.count("\n") - 80, "all of it is there"


def test_one_block_that_takes_long_leaves_its_text_no_colours() -> None:
    ink = Ink(0.01)
    slow = "\n" * 5_000
    assert highlight(slow, "c", ink) == slow
    assert highlight("int x;", "c", ink) == "int x;"
    assert highlight("int x;", "c", Ink()) != "int x;"
