"""The figures of reviewers as a table, a row each: for a spreadsheet."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from app.reviewers.report import Line, Report
from app.reviewers.statistics import Estimate, Share, Side

_SHARES = ("with_others", "gold", "attention", "adjudicated", "with_self", "ties")
_SIDES = ("left", "longer")
_ESTIMATES = ("kappa", "alpha", "seconds")
_PERSON = ("email", "name", "role", "state", "qualification", "today", "set_aside")
COLUMNS = (
    *_PERSON,
    "judged",
    *(f"{name}{end}" for name in _SHARES for end in ("", "_low", "_high", "_hits", "_total")),
    *(f"{name}{end}" for name in _SIDES for end in ("", "_low", "_high", "_hits", "_total", "_p")),
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    *("skill", "weight", "suspicions"),
)


def lines(report: Report) -> Iterator[str]:
    """CSV with a head line; a cell is empty where nothing can be said."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="")
    writer.writeheader()
    yield buffer.getvalue()
    for line in report.lines:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow({name: _cell(value) for name, value in _row(line).items()})
        yield buffer.getvalue()


def _row(line: Line) -> dict[str, Any]:
    person, figures = line.person, line.figures
    row: dict[str, Any] = {name: getattr(person, name) for name in _PERSON if name != "state"}
    row["state"] = "quarantine" if person.paused_at else "active"
    row["suspicions"] = "; ".join(item.told for item, _ in line.suspicions)
    if figures is None:
        return row | {"judged": 0}
    row |= {"judged": figures.judged, "skill": figures.skill, "weight": figures.weight}
    for name in (*_SHARES, *_SIDES, *_ESTIMATES):
        found = getattr(figures, name)
        if isinstance(found, Side):
            row[f"{name}_p"] = found.p
            found = found.share
        if isinstance(found, Share | Estimate):
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        if isinstance(found, Share):
            row |= {f"{name}_hits": found.hits, f"{name}_total": found.total}
    return row


def _cell(value: Any) -> Any:
    """Numbers with six digits; a text that a spreadsheet would run as a formula is kept a text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
