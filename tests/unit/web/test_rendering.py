"""Templates and what they are made of."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from starlette.requests import Request

from app.web import assets
from app.web.rendering import TEMPLATES, ago, attributes, environment, when

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "just now"), (44, "just now"), (60, "1 minute ago"), (59 * 60, "1 hour ago"), (7200, "2 hours ago"),
     (86_400, "1 day ago"), (29 * 86_400, "29 days ago"), (40 * 86_400, "1 month ago"), (800 * 86_400, "2 years ago"),
     (-90 * 86_400, "in 3 months")],
)  # fmt: skip
def test_how_long_ago(seconds: int, told: str) -> None:
    assert f">{told}</time>" in ago(NOW - timedelta(seconds=seconds), now=NOW)


def test_moments_without_a_value_are_said_in_words() -> None:
    assert ago(None) == "never"
    assert when(None) == "–"
    assert "23 Nov 2026, 12:00 UTC" in when(NOW)


def test_attributes_are_escaped_and_left_out() -> None:
    values = {"required": True, "hidden": False, "title": '"><script>', "max": 0, "x": None}
    assert attributes(values) == ' required title="&#34;&gt;&lt;script&gt;" max="0"'


def test_a_missing_name_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ missing }}").render()


def test_every_template_compiles_and_holds_no_inline_script_or_style() -> None:
    names = environment().list_templates()
    assert len(names) > 10
    for name in names:
        environment().get_template(name)
        text = (TEMPLATES / name).read_text().lower()
        for forbidden in (" style=", "<style", " onclick=", " onload=", " onsubmit=", "javascript:", "| safe", "|safe"):
            assert forbidden not in text, f"{name} has {forbidden}"
        for part in text.split("<script")[1:]:
            tag = part.split(">")[0]
            assert 'nonce="{{ csp_nonce }}"' in tag, f"{name}: a script without a nonce"
            data = 'type="application/json"' in tag  # which nothing runs
            assert data or "src=" in tag, f"{name}: a script in the page itself"


def test_fields_escape_and_tell_their_errors() -> None:
    html = environment().from_string("{{ ui.field('email', 'Email', value=v, error=e, hint='h') }}")
    shown = html.render(v='"><script>', e="<b>")
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert 'aria-describedby="email-hint email-error"' in shown
    assert 'aria-invalid="true"' in shown


def test_a_password_is_never_sent_back() -> None:
    assert (
        "hunter2"
        not in environment().from_string("{{ ui.field('p', 'P', type='password', value='hunter2') }}").render()
    )


def zipped(*paths: str) -> int:
    return sum(len(gzip.compress((assets.STATIC / path).read_bytes())) for path in paths)


def test_what_every_page_loads_is_small() -> None:
    assert zipped("css/base.css") <= 14_000
    assert zipped("vendor/htmx.min.js", "js/base.js", "js/forms.js", "js/stored.js", "js/words.js") <= 22_000
    reviewer_css = [f"css/{path.name}" for path in (assets.STATIC / "css").glob("*.css") if path.name != "api.css"]
    assert zipped(*reviewer_css) <= 20_000


def test_an_address_changes_with_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    (tmp_path / "a.css").write_text("a")
    first = assets.url("a.css")
    (tmp_path / "a.css").write_text("b2")
    assert first.startswith("/static/a.css?v=")
    assert assets.url("a.css") != first


def test_dark_differs_from_light_in_variables_only() -> None:
    css = (assets.STATIC / "css/base.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    names = {
        line.split(":")[0].strip() for line in dark.split("\n  }")[0].splitlines() if line.strip().startswith("--")
    }
    assert names <= {line.split(":")[0].strip() for line in light.splitlines()}
    assert len(names) > 20
    for query in ("prefers-reduced-motion", "forced-colors", ":focus-visible"):
        assert query in css


def _luminance(colour: str) -> float:
    colour = colour.lstrip("#")
    full = "".join(part * 2 for part in colour) if len(colour) == 3 else colour
    channels = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _variables(css: str) -> dict[str, str]:
    lines = (line.strip() for line in css.splitlines())
    return {
        name[2:]: value.rstrip(";") for name, _, value in (line.partition(": ") for line in lines) if name[:2] == "--"
    }


TEXT_PAIRS = [
    *((text, back) for text in ("text", "muted") for back in ("bg", "surface", "sunken")),
    *(("accent", back) for back in ("bg", "surface", "accent-soft")),
    *(("on-accent", back) for back in ("accent", "accent-strong")),
    *(("on-bad", back) for back in ("bad", "bad-strong")),
    *(("bad", back) for back in ("bg", "surface")),
    *((tone, f"{tone}-soft") for tone in ("good", "info", "warn", "bad")),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for the borders of fields."""
    light, dark = (assets.STATIC / "css/base.css").read_text().split("@media (prefers-color-scheme: dark)")
    colours = _variables(light.split("}")[0])
    if scheme == "dark":
        colours |= _variables(dark.split("}")[0])
    low = {}
    for front, back in [*TEXT_PAIRS, ("line-strong", "surface")]:
        one, other = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
        ratio = (one + 0.05) / (other + 0.05)
        if ratio < (3 if front == "line-strong" else 4.5):
            low[front, back] = round(ratio, 2)
    assert low == {}


def test_htmx_is_kept_on_a_short_leash() -> None:
    text = (TEMPLATES / "base.html").read_text()
    for setting in ('"selfRequestsOnly":true', '"allowEval":false', '"allowScriptTags":false',
                    '"includeIndicatorStyles":false', '"historyCacheSize":0'):  # fmt: skip
        assert setting in text
    assert (assets.STATIC / "vendor/htmx.min.js").read_text().find('version:"2.0.') > 0


def test_requests_know_whether_htmx_asks() -> None:
    from app.web.replies import is_htmx

    def asked(**headers: str) -> bool:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return is_htmx(Request({"type": "http", "headers": raw}))

    assert asked(hx_request="true")
    assert not asked()
    assert not asked(hx_request="true", hx_boosted="true")
    assert not asked(hx_request="true", hx_history_restore_request="true")
