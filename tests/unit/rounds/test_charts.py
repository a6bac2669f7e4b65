"""Charts of a round: drawn inside their frame, with round numbers, and told in words."""

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from app.rounds.charts import HEIGHT, WIDTH, Series, line_chart, number

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart("Loss", []) is None
    assert line_chart("Loss", [Series("loss", 1, [])]) is None
    assert line_chart("Loss", [Series("loss", 1, [(0, math.nan)])]) is None


def test_a_chart_has_round_ticks_a_zero_line_and_a_summary() -> None:
    chart = line_chart("Log-ratios", [Series("chosen", 1, [(0, 0.0), (10, 0.9)]), Series("rejected", 2, [(10, -1.7)])])
    assert chart is not None
    assert [tick.text for tick in chart.y_ticks] == ["-2", "-1", "0", "1"]
    assert [tick.text for tick in chart.x_ticks] == ["0", "10"]
    assert chart.zero == chart.y_ticks[2].at
    assert chart.summary == "chosen: from 0 at step 0 to 0.9 at step 10. rejected: -1.7 at step 10."
    assert [line.last for line in chart.lines] == ["0.9", "-1.7"]


@given(st.lists(st.tuples(st.integers(0, 10**6), numbers), min_size=1, max_size=500))
def test_every_point_lies_inside_the_frame(points: list[tuple[int, float]]) -> None:
    chart = line_chart("Loss", [Series("loss", 1, sorted(points))])
    assert chart is not None
    drawn = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", chart.lines[0].path)]
    assert all(0 <= x <= WIDTH for x in drawn[::2])
    assert all(0 <= y <= HEIGHT for y in drawn[1::2])
    assert 2 <= len(chart.y_ticks) <= 8


def test_long_runs_are_thinned_but_keep_their_ends() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(5000)]
    chart = line_chart("Loss", [Series("loss", 1, points)])
    assert chart is not None
    assert chart.lines[0].path.count("L") < 200
    assert "step 0 " in chart.summary
    assert "step 4,999." in chart.summary


def test_numbers_read_well() -> None:
    values = [0, 0.693147, 12.3456, 123.456, 12345.6, -0.05, 1.0, 100.0, 0.00005, -0.0004]
    assert [number(value) for value in values] == [
        "0", "0.693", "12.3", "123", "12,346", "-0.05", "1", "100", "5.0e-5", "-4.0e-4",
    ]  # fmt: skip
