"""Charts: marks are where the numbers are, on axes whose ticks are inside."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.test_markup import Read
from trm_verify.report.charts import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, Chart, Scale, number, span


def chart(log: bool = False) -> Chart:
    return Chart("c", "a title", "x", "y", (0, 10), (1e-4, 1) if log else (-1, 1), log)


def points(made: Chart) -> list[tuple[float, float]]:
    read = Read(made.figure("in words"))
    lines = [a["points"] for name, a in read.tags if name == "polyline"]
    return [(float(x), float(y)) for line in lines for x, y in (p.split(",") for p in str(line).split())]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    scale = Scale(low, low + width, 0, 100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in ticks)


@given(st.integers(-12, 3), st.integers(1, 14))
def test_powers_of_ten(first: int, decades: int) -> None:
    scale = Scale(10.0**first, 10.0 ** (first + decades), 100, 0, log=True)
    assert all(abs(math.log10(t) - round(math.log10(t))) < 1e-9 for t in scale.ticks())
    places = [scale(10.0 ** (first + k)) for k in range(decades + 1)]
    assert places == sorted(places, reverse=True) and places[0] == pytest.approx(100) and places[-1] == pytest.approx(0)


def test_a_line_goes_through_its_points() -> None:
    made = chart()
    made.line([0, 5, 10], [-1, 0, 1], "proved")
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    assert points(made) == [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)]


def test_what_cannot_be_drawn_leaves_a_gap() -> None:
    made = chart(log=True)
    made.line(range(6), [1, 0.1, 0.0, math.nan, 0.01, 1e-9], "measured")
    assert len(points(made)) == 3
    assert str(made.figure("")).count("<polyline") == 2


def test_long_lines_are_thinned_but_keep_their_ends() -> None:
    made = Chart("c", "t", "x", "y", (0, 9999), (0, 9999))
    made.line(np.arange(10_000), np.arange(10_000), "proved")
    found = points(made)
    assert len(found) == MOST_POINTS
    assert found[0] == (LEFT, HEIGHT - BOTTOM) and found[-1] == (WIDTH - RIGHT, TOP)


def test_a_figure_says_what_it_shows() -> None:
    made = chart()
    made.dots([1], [0], "final", "a <dot>")
    read = Read(made.figure("in words"))
    assert read.text.count("in words") == 2, "for the eye, and for the screen reader"
    assert "a <dot>" in read.text and "a title" in read.text


def test_numbers_and_ranges() -> None:
    assert [number(v) for v in (0.0, -2.5, 1e-13, 100000)] == ["0", "−2.5", "0", "100000"]
    assert [number(10.0**k, True) for k in (-3, 0, 1, 12)] == ["10⁻³", "1", "10", "10¹²"]
    assert span([]) and span([2.0, 2.0])[0] < 2 < span([2.0, 2.0])[1]
    assert span([math.nan, 1, 3]) == pytest.approx((0.88, 3.12))
