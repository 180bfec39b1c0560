"""Unit bounds: the least value of w·φ(a) − v·a over an interval, against dense samples and exact values."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as F
from random import Random
from typing import Any

import pytest

from tests.kernel.graphs import HIGH, mpf, to_real
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS
from trm_verify.kernel.units import PIECEWISE, Interval, Ranged, kinks, table, value

PIECES: dict[str, tuple[Unit, Callable[[F], F]]] = {
    "relu": (Unit("relu"), lambda a: max(a, F(0))),
    "abs": (Unit("abs"), abs),
    "leaky": (Unit("leaky_relu", {"slope": F(1, 4)}), lambda a: a if a > 0 else a / 4),
    "leaky_flat": (Unit("leaky_relu", {"slope": F(0)}), lambda a: max(a, F(0))),
    "leaky_line": (Unit("leaky_relu", {"slope": F(1)}), lambda a: a),
    "clamp": (Unit("clamp", {"lo": F(-1, 2), "hi": F(3, 4)}), lambda a: min(max(a, F(-1, 2)), F(3, 4))),
    "clamp_below": (Unit("clamp", {"lo": F(1), "hi": None}), lambda a: max(a, F(1))),
    "clamp_above": (Unit("clamp", {"lo": None, "hi": F(-1)}), lambda a: min(a, F(-1))),
    "clamp_point": (Unit("clamp", {"lo": F(1), "hi": F(1)}), lambda a: F(1)),
    "clamp_line": (Unit("clamp", {"lo": None, "hi": None}), lambda a: a),
    "scale": (Unit("scale", {"factor": F(-2, 3)}), lambda a: a * F(-2, 3)),
}
SMOOTH = sorted(ACTIVATIONS - PIECEWISE)
SLACK = mpf(2) ** -120  # kernel values are rounded outward to 2^-128


def random_interval(rng: Random) -> Interval:
    lo = F(rng.randint(-64, 48), 16)
    hi = lo + F(rng.choice([0, 1, rng.randint(0, 96)]), 16)
    return rng.choice([(lo, hi), (lo, hi), (lo, hi), (None, hi), (lo, None), (None, None)])


def grid(interval: Interval, count: int = 40, reach: int = 1000) -> list[F]:
    """Points of an interval, with its ends; of a ray, points that go far."""
    lo, hi = interval
    first = lo if lo is not None else (F(0) if hi is None else min(hi, F(0))) - reach
    last = hi if hi is not None else (F(0) if lo is None else max(lo, F(0))) + reach
    return [first + (last - first) * F(k, count) for k in range(count + 1)]


@pytest.mark.parametrize("name", PIECES)
def test_piecewise_linear_units_are_exact(name: str) -> None:
    """The bound is attained at an end or a kink, and None exactly when the function falls for ever."""
    unit, phi = PIECES[name]
    rng = Random(f"units {name}")
    for _ in range(200):
        interval = random_interval(rng)
        w, v = (F(rng.randint(-6, 6), rng.choice([1, 3, 4])) for _ in range(2))
        lo, hi = interval
        corners = [F(-1, 2), F(3, 4), F(0), F(1), F(-1)]
        inside = [c for c in corners if (lo is None or c >= lo) and (hi is None or c <= hi)]
        points = [*grid(interval), *inside]
        least = table(unit, interval).least(w, v)
        found = min(w * phi(a) - v * a for a in points)
        far = [w * phi(a) - v * a for a in grid(interval, 2, 10**6)]
        if least is None:
            assert None in interval and min(far) < found
        else:
            assert found == least and min(far) >= least


@pytest.mark.parametrize("name", PIECES)
def test_the_range_of_a_piecewise_linear_unit(name: str) -> None:
    unit, phi = PIECES[name]
    rng = Random(f"ends {name}")
    for _ in range(100):
        interval = random_interval(rng)
        inside = [
            k for k in kinks(unit) if all(e is None or s * (k - e) >= 0 for e, s in zip(interval, (1, -1), strict=True))
        ]
        values = [phi(a) for a in [*grid(interval), *inside]]
        low, high = table(unit, interval).ends()
        far = [phi(a) for a in grid(interval, 2, 10**6)]
        assert (min(values) == low and min(far) >= low) if low is not None else min(far) < min(values)
        assert (max(values) == high and max(far) <= high) if high is not None else max(far) > max(values)


@pytest.mark.parametrize("name", PIECES)
def test_values_of_piecewise_linear_units(name: str) -> None:
    unit, phi = PIECES[name]
    for a in [*grid((F(-3), F(3)), 97), *kinks(unit), F(1, 3)]:
        assert value(unit, a) == (phi(a), phi(a))


def true(op: str, a: F) -> Any:
    return HIGH.functions[op](to_real(a))


@pytest.mark.parametrize("op", SMOOTH)
def test_smooth_units_are_bounded_from_below_and_nearly_so(op: str) -> None:
    rng = Random(f"smooth {op}")
    for turn in range(25):
        lo = F(rng.randint(-96, 64), 16)
        hi = lo + F(rng.choice([0, 1, rng.randint(1, 64)]), 16)
        known = table(Unit(op), (lo, hi))
        points = [(a, true(op, a)) for a in grid((lo, hi), 48)]
        for _ in range(6):
            w, v = (F(rng.randint(-8, 8), 4) for _ in range(2))
            least = known.least(w, v)
            assert least is not None
            found = min(to_real(w) * phi - to_real(v) * to_real(a) for a, phi in points)
            assert to_real(least) <= found + SLACK, (op, lo, hi, w, v)
            # 16 pieces: what a piece can dip below its ends is a quarter of its width times the change of the slope
            width = to_real(hi - lo) / 16
            assert to_real(least) >= found - abs(to_real(w)) * width**2 - SLACK, (op, lo, hi, w, v, turn)


@pytest.mark.parametrize("op", SMOOTH)
def test_the_range_of_a_smooth_unit(op: str) -> None:
    rng = Random(f"smooth ends {op}")
    for _ in range(20):
        lo = F(rng.randint(-96, 64), 16)
        hi = lo + F(rng.randint(0, 64), 16)
        low, high = table(Unit(op), (lo, hi)).ends()
        values = [true(op, a) for a in grid((lo, hi), 64)]
        assert low is not None and to_real(low) <= min(values) + SLACK
        assert high is not None and to_real(high) >= max(values) - SLACK


@pytest.mark.parametrize("op", SMOOTH)
def test_values_of_smooth_units_are_enclosed(op: str) -> None:
    for a in (F(1, 3), F(-7, 5), F(0), F(11, 4)):
        low, high = value(Unit(op), a)
        assert to_real(low) - SLACK <= true(op, a) <= to_real(high) + SLACK
        assert high - low < F(1, 1 << 120)


def test_smooth_bounds_see_a_minimum_between_two_samples() -> None:
    """sin on [−4, 4] with both ends far from −1: the least value is that of an inner point."""
    least = table(Unit("sin"), (F(-4), F(4))).least(F(1), F(0))
    assert least is not None and F(-11, 10) < least <= -1
    bump = table(Unit("cos"), (F(-1), F(1))).least(F(-1), F(0))
    assert bump is not None and F(-101, 100) < bump <= -1


@pytest.mark.parametrize("op", SMOOTH)
@pytest.mark.parametrize("interval", [(None, F(0)), (F(0), None), (None, None)])
def test_smooth_units_need_bounded_arguments(op: str, interval: Interval) -> None:
    with pytest.raises(CheckError) as caught:
        table(Unit(op), interval)
    assert caught.value.code == "UNSUPPORTED"


def test_units_without_an_argument_have_their_range() -> None:
    known = table(Unit(None, {}, (F(-1), F(3))), (None, None))
    assert isinstance(known, Ranged) and known.ends() == (F(-1), F(3))
    assert known.least(F(2), F(0)) == -2 and known.least(F(-2), F(0)) == -6 and known.least(F(0), F(0)) == 0
    with pytest.raises(CheckError) as caught:
        table(Unit(None), (F(0), F(1)))
    assert caught.value.code == "UNSUPPORTED"


def test_every_activation_is_known() -> None:
    assert {unit.op for unit, _ in PIECES.values()} == PIECEWISE
    assert set(SMOOTH) | PIECEWISE == ACTIVATIONS | {"scale"}
