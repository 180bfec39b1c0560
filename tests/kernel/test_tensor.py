"""Boxes that are made shorter or wider hold what they held before, and are not much larger."""

from __future__ import annotations

from fractions import Fraction as F

from hypothesis import given
from hypothesis import strategies as st

from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.rules.invariance import ball_box
from trm_verify.kernel.tensor import GRID, Tensor, contains, shorter

ENDS = st.integers(-(2**80), 2**80)


def box(pairs: list[tuple[int, int]], exp: int) -> Tensor:
    return Tensor((len(pairs),), exp, [min(pair) for pair in pairs], [max(pair) for pair in pairs])


@given(st.lists(st.tuples(ENDS, ENDS), max_size=4), st.integers(-90, 4), st.integers(1, 40))
def test_a_shorter_box_holds_the_box_and_little_more(pairs: list[tuple[int, int]], exp: int, bits: int) -> None:
    given_box = box(pairs, exp)
    found = shorter(given_box, bits)
    assert contains(found, given_box)
    before = [given_box.fraction(i) for i in range(len(pairs))]
    width = min((hi - lo for lo, hi in before), default=F(0))
    for (lo, hi), (low, high) in zip(before, [found.fraction(i) for i in range(len(pairs))], strict=True):
        assert lo - low <= width * F(2) ** (1 - bits) >= high - hi


def test_a_shorter_box_is_shorter() -> None:
    found = shorter(box([(1 << 60, (1 << 60) + (1 << 50) + 1)], -70), 8)
    assert (found.exp, *found.ends()) == (-27, [1 << 17], [(1 << 17) + 129])
    point = box([(5, 5), (1, 9)], -3)
    assert shorter(point, 1) is point, "a width of zero leaves nothing to round"


@given(
    st.lists(st.tuples(ENDS, ENDS), min_size=3, max_size=3), st.sampled_from([-300, -257, -256, -40, 0]),
    st.fractions(min_value=0, max_value=100),
)  # fmt: skip
def test_the_box_of_a_ball_holds_it(pairs: list[tuple[int, int]], exp: int, radius: F) -> None:
    norm = BlockNorm((2, 1), (3, 5), -1)
    centre = box(pairs, exp)
    found = ball_box(norm, centre, radius)
    for i, weight in enumerate((F(3, 2), F(3, 2), F(5, 2))):
        (lo, hi), (low, high) = centre.fraction(i), found.fraction(i)
        assert lo - radius * weight - F(2) ** (GRID + 1) <= low <= lo - radius * weight
        assert hi + radius * weight <= high <= hi + radius * weight + F(2) ** (GRID + 1)
