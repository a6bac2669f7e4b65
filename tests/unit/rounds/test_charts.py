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
    assert [tick.text for tick in chart.y_ticks] == ["\N{MINUS SIGN}2", "\N{MINUS SIGN}1", "0", "1"]
    assert [tick.text for tick in chart.x_ticks] == ["0", "10"]
    assert chart.zero == chart.y_ticks[2].at
    assert chart.summary == "chosen: from 0 at step 0 to 0.9 at step 10. rejected: \N{MINUS SIGN}1.7 at step 10."
    assert [line.last for line in chart.lines] == ["0.9", "\N{MINUS SIGN}1.7"]


@given(st.lists(st.tuples(st.integers(0, 10**6), numbers), min_size=1, max_size=500))
def test_every_point_lies_inside_the_frame(points: list[tuple[int, float]]) -> None:
    chart = line_chart("Loss", [Series("loss", 1, sorted(points))])
    assert chart is not None
    drawn = [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", chart.lines[0].path)]
    assert all(0 <= x <= WIDTH for x in drawn[::2])
    assert all(0 <= y <= HEIGHT for y in drawn[1::2])
    assert 2 <= len(chart.y_ticks) <= 8


@given(st.lists(numbers, min_size=1, max_size=5), st.integers(-9, 5), st.sampled_from([0.0, 0.6931, -12.0, 350.0]))
def test_no_two_ticks_read_the_same(values: list[float], power: int, around: float) -> None:
    points = [(float(step), around + value * 10.0 ** (power - 6)) for step, value in enumerate(values)]
    chart = line_chart("Loss", [Series("loss", 1, points)])
    assert chart is not None
    texts = [tick.text for tick in chart.y_ticks]
    assert len(set(texts)) == len(texts)


def test_ticks_have_as_many_digits_as_they_need() -> None:
    def ticks(*values: float) -> list[str]:
        chart = line_chart("Loss", [Series("loss", 1, [(float(n), value) for n, value in enumerate(values)])])
        assert chart is not None
        return [tick.text.replace("\N{MINUS SIGN}", "-") for tick in chart.y_ticks]

    assert ticks(0.6931, 0.6946) == ["0.6930", "0.6935", "0.6940", "0.6945", "0.6950"]
    assert ticks(0, 40) == ["0", "10", "20", "30", "40"]
    assert ticks(0.00001, 0.00005) == ["1e-5", "2e-5", "3e-5", "4e-5", "5e-5"]
    assert ticks(-1200, 600) == ["-1,500", "-1,000", "-500", "0", "500", "1,000"]


def test_long_runs_are_thinned_but_keep_their_ends() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(5000)]
    chart = line_chart("Loss", [Series("loss", 1, points)])
    assert chart is not None
    assert chart.lines[0].path.count("L") < 200
    assert "step 0 " in chart.summary
    assert "step 4,999." in chart.summary


def test_numbers_read_well() -> None:
    values = [0, 0.693147, 12.3456, 123.456, 12345.6, -0.05, 1.0, 100.0, 0.00005, -0.0004]
    assert [number(value).replace("\N{MINUS SIGN}", "-") for value in values] == [
        "0", "0.693", "12.3", "123", "12,346", "-0.05", "1", "100", "5.0e-5", "-4.0e-4",
    ]  # fmt: skip
