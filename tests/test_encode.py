"""Numbers in the certificate's spelling: exact, or rounded to the side that was asked for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_verify import Box
from trm_verify.encode import (
    block_json,
    box_json,
    dyadic,
    fractions,
    integers,
    quantized,
    round_down,
    round_up,
    state_json,
    vector,
    whole,
)
from trm_verify.kernel.document import dyadic as read_dyadic
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm, MetricNorm, parse_norm
from trm_verify.kernel.tensor import Tensor, contains, from_fractions, parse_box

FINITE = st.floats(allow_nan=False, allow_infinity=False)
RATIONAL = st.fractions()


def values(raw: dict[str, object]) -> list[Fraction]:
    ints, exp = read_vector(raw, None, "test")
    return [v * Fraction(2) ** exp for v in ints]


@given(FINITE)
def test_a_double_is_written_exactly(value: float) -> None:
    mantissa, exp = read_dyadic(dyadic(value), "test")
    assert mantissa * Fraction(2) ** exp == Fraction(value)


@given(st.lists(FINITE, max_size=6))
def test_a_vector_of_doubles_is_written_exactly(numbers: list[float]) -> None:
    assert values(vector(numbers)) == [Fraction(v) for v in numbers]
    assert values(fractions([Fraction(v) for v in numbers])) == [Fraction(v) for v in numbers]


@pytest.mark.parametrize("extreme", [5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0**1000])
def test_extreme_doubles_are_written_exactly(extreme: float) -> None:
    assert values(vector([extreme, 1.0, 0.0])) == [Fraction(extreme), 1, 0]


@given(RATIONAL, st.integers(1, 200))
def test_rounding_goes_to_the_side_asked_for(value: Fraction, bits: int) -> None:
    low, high = round_down(value, bits), round_up(value, bits)
    assert low <= value <= high
    assert high - low <= abs(value) * Fraction(4, 1 << bits)
    dyadic(low), dyadic(high)  # both are binary fractions


def test_other_fractions_are_refused() -> None:
    with pytest.raises(ValueError, match="round it outward"):
        dyadic(Fraction(1, 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        vector([1.0, bad])


def test_common_factors_of_two_move_into_the_exponent() -> None:
    assert integers([4, -8, 12], -3) == {"exp": -1, "int": "1 -2 3"}
    assert integers([], 0) == {"exp": 0, "int": ""}
    assert vector([0.0, -0.0]) == {"exp": 0, "int": "0 0"}


def test_quantized_rounds_to_the_grid() -> None:
    assert values(quantized(np.array([0.3, -1.25, 2.0]), -2)) == [Fraction(1, 4), Fraction(-5, 4), 2]


@given(st.lists(st.one_of(st.integers(-(2**61), 2**61), st.integers(-(2**70), 2**70)).map(float), max_size=6))
def test_whole_doubles_are_written_as_integers_are(numbers: list[float]) -> None:
    assert whole(np.array(numbers), -30) == integers([int(v) for v in numbers], -30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_whole_number(bad: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        whole(np.array([1.0, bad]), 0)


@given(st.lists(st.tuples(RATIONAL, RATIONAL), min_size=1, max_size=4))
def test_a_box_is_written_so_that_it_holds_the_original(pairs: list[tuple[Fraction, Fraction]]) -> None:
    lo, hi = [min(p) for p in pairs], [max(p) for p in pairs]
    space, read = parse_box(box_json("input", Box(lo, hi)), {"input": len(pairs)})
    assert space == "input"
    for i, (low, high) in enumerate(zip(lo, hi, strict=True)):
        a, b = read.fraction(i)
        assert low - Fraction(1, 1 << 96) <= a <= low and high <= b <= high + Fraction(1, 1 << 96)


@given(st.lists(FINITE, min_size=1, max_size=4), FINITE.map(abs))
def test_a_ball_of_doubles_is_exact_and_is_written_as_any_other_box(centre: list[float], radius: float) -> None:
    lo, hi = ([Fraction(v) + sign * Fraction(radius) for v in centre] for sign in (-1, 1))
    ball = Box.ball(centre, radius)
    assert (ball.lo, ball.hi) == (lo, hi)
    if all(value.denominator <= 1 << 96 for value in (*lo, *hi)) and radius:
        assert box_json("input", ball) == {"space": "input", "lo": fractions(lo), "hi": fractions(hi)}


def test_a_point_is_written_as_a_point() -> None:
    assert box_json("state", Box.point([0.5, -2.0])) == {"space": "state", "point": {"exp": -1, "int": "1 -4"}}
    assert "lo" in box_json("state", Box.point(["1/3"])), "one third is no binary fraction: a small box holds it"


def test_kernel_boxes_are_written_as_they_are() -> None:
    box = from_fractions([(Fraction(-1), Fraction(1, 4)), (Fraction(3), Fraction(3))], -4)
    _, read = parse_box(state_json(box), {"state": 2})
    assert contains(read, box) and contains(box, read)
    point = Tensor((2,), -1, *([[3, 5]] * 2))
    assert "point" in state_json(point)
    with pytest.raises(CheckError, match="UNSUPPORTED"):
        state_json(Tensor((2,)))


@pytest.mark.parametrize(
    "norm", [BlockNorm((3,), (1,), 0), BlockNorm((1, 1, 1), (5, 2, 3), -1), BlockNorm((1,), (3,), 0)]
)
def test_block_norms_are_written_as_they_are(norm: BlockNorm) -> None:
    size = sum(norm.sizes)
    read = parse_norm(block_json(norm, size), size)
    assert isinstance(read, BlockNorm) and read.sizes == norm.sizes
    assert [read.weight(g) for g in range(len(read.sizes))] == [norm.weight(g) for g in range(len(norm.sizes))]


def test_a_metric_is_no_block_norm() -> None:
    with pytest.raises(TypeError):
        block_json(MetricNorm((1,), 0, Fraction(1), 1), 1)
