"""Line charts of a round's figures, laid out here and drawn by a template as SVG: no script, no style of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.language import _, listed
from app.language.figures import written

Point = tuple[float, float]

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 22
_MOST_POINTS = 160
_TICKS = 4
_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its place in the palette (1, 2, …), and its points in order of x."""

    label: str
    colour: int
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis, in the chart's own pixels."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series ready to be drawn."""

    label: str
    colour: int
    path: str
    """The ``d`` of an SVG path."""
    end: Point
    """Where its last point lies, pixels."""
    last: str
    """Its last value, written out."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to be drawn."""

    title: str
    unit: str
    width: int
    height: int
    left: int
    right: float
    bottom: float
    lines: list[Line]
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    zero: float | None
    """Where y = 0 lies, pixels, if it lies inside."""
    summary: str
    """What the chart shows, for who cannot see it."""


def line_chart(title: str, series: Sequence[Series], *, unit: str = "") -> Chart | None:
    """A chart of one or more lines over the same steps; None while there is nothing to draw.

    Points that are not finite are left out.
    """
    kept = [Series(one.label, one.colour, _thin(_finite(one.points))) for one in series]
    kept = [one for one in kept if one.points]
    if not kept:
        return None
    xs = [x for one in kept for x, _y in one.points]
    ys = [y for one in kept for _x, y in one.points]
    y_values = _nice(min(ys), max(ys))
    x_low, x_high = min(xs), max(*xs, min(xs) + 1)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def place(point: Point) -> Point:
        x, y = point
        return (
            round(_LEFT + (x - x_low) / (x_high - x_low) * (right - _LEFT), 1),
            round(bottom - (y - y_values[0]) / (y_values[-1] - y_values[0]) * (bottom - _TOP), 1),
        )

    return Chart(
        title=title,
        unit=unit,
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=right,
        bottom=bottom,
        lines=[_line(one, [place(point) for point in one.points]) for one in kept],
        y_ticks=[Tick(place((x_low, y))[1], text) for y, text in zip(y_values, _texts(y_values), strict=True)],
        x_ticks=[Tick(place((x, y_values[0]))[0], number(x)) for x in (x_low, max(xs)) if x != x_low or x == min(xs)],
        zero=place((x_low, 0.0))[1] if y_values[0] < 0 < y_values[-1] else None,
        summary=listed((_told(one, unit) for one in kept), " "),
    )


def number(value: float) -> str:
    """A figure with about three significant digits, as people write it."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return written(f"{value:,.0f}")
    if abs(value) < 0.001:
        return written(f"{value:.1e}".replace("e-0", "e-"))
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return written(text.rstrip("0").rstrip(".") if "." in text else text)


def _texts(ticks: Sequence[float]) -> list[str]:
    """Evenly spaced values with as many digits as tell one from the next."""
    places = -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-6)
    small = max(abs(value) for value in ticks) < 0.001

    def text(value: float) -> str:
        if abs(value) < _FLAT * (ticks[1] - ticks[0]):
            return "0"
        if not small:
            return written(f"{value:,.{max(0, places)}f}")
        digits = max(0, math.floor(math.log10(abs(value)) + 1e-6) + places)
        return written(f"{value:.{digits}e}".replace("e-0", "e-"))

    return [text(value) for value in ticks]


def _line(series: Series, places: list[Point]) -> Line:
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in places)
    return Line(series.label, series.colour, path, places[-1], number(series.points[-1][1]))


def _told(series: Series, unit: str) -> str:
    (first_x, first_y), (last_x, last_y) = series.points[0], series.points[-1]

    def value(y: float) -> str:
        return listed((number(y), unit), " ") if unit else number(y)

    if len(series.points) == 1:
        return _("%(name)s: %(value)s at step %(step)s.", name=series.label, value=value(first_y), step=number(first_x))
    return _(
        "%(name)s: from %(first)s at step %(first_step)s to %(last)s at step %(last_step)s.",
        name=series.label,
        first=value(first_y),
        first_step=number(first_x),
        last=value(last_y),
        last_step=number(last_x),
    )


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thin(points: list[Point]) -> list[Point]:
    """At most ``_MOST_POINTS`` of them, means of equal runs; the first and the last stay as they are."""
    if len(points) <= _MOST_POINTS:
        return points
    inner, size = points[1:-1], math.ceil((len(points) - 2) / (_MOST_POINTS - 2))
    runs = [inner[start : start + size] for start in range(0, len(inner), size)]
    means = [(sum(x for x, _y in run) / len(run), sum(y for _x, y in run) / len(run)) for run in runs]
    return [points[0], *means, points[-1]]


def _nice(low: float, high: float) -> list[float]:
    """Round values that span ``low`` to ``high``, at least two, steps of 1, 2 or 5 times a power of ten."""
    if high - low < _FLAT * max(1.0, abs(low)):
        margin = abs(low) * 0.1 if abs(low) > _FLAT else 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]
