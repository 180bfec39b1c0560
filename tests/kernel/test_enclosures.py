"""The enclosures against mpmath at 700 bits: soundness, tightness, every bound of proofs/enclosures.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import mpmath
import pytest

from trm_verify.kernel import enclosures as enc
from trm_verify.kernel.errors import CheckError

UNIT = enc.UNIT
SMOOTH = sorted(enc.SLOPE)
TOTAL = sorted(enc.GLOBAL_RANGE)
CONTEXT = mpmath.mp.clone()
CONTEXT.prec = 700
mpf = CONTEXT.mpf
Real = Callable[[mpmath.mpf], mpmath.mpf]


def _sigma(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + CONTEXT.exp(-x))


def _softplus(x: mpmath.mpf) -> mpmath.mpf:
    return max(x, mpf(0)) + CONTEXT.log1p(CONTEXT.exp(-abs(x)))


def _cdf(x: mpmath.mpf) -> mpmath.mpf:
    return CONTEXT.erfc(-x / CONTEXT.sqrt(2)) / 2


def _pdf(x: mpmath.mpf) -> mpmath.mpf:
    return CONTEXT.exp(-x * x / 2) / CONTEXT.sqrt(2 * CONTEXT.pi)


TRUE_VALUE: dict[str, Real] = {
    "exp": CONTEXT.exp,
    "log": CONTEXT.log,
    "sqrt": CONTEXT.sqrt,
    "tanh": CONTEXT.tanh,
    "sigmoid": _sigma,
    "softplus": _softplus,
    "silu": lambda x: x * _sigma(x),
    "gelu": lambda x: x * _cdf(x),
    "sin": CONTEXT.sin,
    "cos": CONTEXT.cos,
}
TRUE_SLOPE: dict[str, Real] = {
    "tanh": lambda x: CONTEXT.sech(x) ** 2,
    "sigmoid": lambda x: _sigma(x) * _sigma(-x),
    "softplus": _sigma,
    "silu": lambda x: _sigma(x) * (1 + x * _sigma(-x)),
    "gelu": lambda x: _cdf(x) + x * _pdf(x),
    "sin": CONTEXT.cos,
    "cos": lambda x: -CONTEXT.sin(x),
}
EXTREMA = [0, 1.2784645427610738, 0.7517915246935645, 2.3993572805154668, 2**0.5, 1.5707963267948966]
NEAR_EXTREMA = [round(e * 2**60) * sign << 68 for e in EXTREMA for sign in (1, -1)]


def _real(x: int) -> mpmath.mpf:
    return mpf(x) / UNIT


def _random_point(rng: Random, positive: bool = False) -> int:
    """Any size: ordinary, tiny, large, near an extremum or near a cut of the implementation."""
    kind = rng.randrange(6)
    if kind == 0:
        x = rng.randrange(1, 4 * UNIT)
    elif kind == 1:
        x = rng.randrange(1, 1 << rng.randrange(1, 129))
    elif kind == 2:
        x = rng.randrange(1, 1 << rng.randrange(128, 136))
    elif kind == 3:
        radius = 1 << rng.randrange(1, 80)
        x = rng.choice(NEAR_EXTREMA) + rng.randrange(-radius, radius)
    elif kind == 4:
        x = rng.choice([enc.LOGISTIC_CUT, enc.LOGISTIC_CUT // 2, enc.NORMAL_CUT]) + rng.randrange(-2, 3)
    else:
        x = rng.randrange(0, 64) * UNIT
    x = max(abs(x), 1) if positive else x
    return x if positive or rng.random() < 0.5 else -x


def _points(name: str, count: int, seed: int) -> Iterator[int]:
    rng = Random(f"{name} {seed}")
    for _ in range(count):
        yield _random_point(rng, positive=name in ("log", "sqrt"))


def _intervals(name: str, count: int, seed: int) -> Iterator[tuple[int, int]]:
    rng = Random(f"{name} {seed} intervals")
    for a in _points(name, count, seed):
        other = _random_point(rng, positive=name in ("log", "sqrt"))
        b = a + rng.randrange(1 << rng.randrange(1, 131)) if rng.random() < 0.7 else other
        yield min(a, b), max(a, b)


def _holds(interval: tuple[int, int], value: mpmath.mpf) -> bool:
    return interval[0] <= value * UNIT <= interval[1]


@pytest.mark.parametrize("name", sorted(enc.VALUE))
def test_points_are_enclosed_and_tight(name: str) -> None:
    for x in _points(name, 700, 1):
        lo, hi = enc.VALUE[name](x, x)
        assert _holds((lo, hi), TRUE_VALUE[name](_real(x))), x
        # exp is tight relative to its value; at 64 that still is an absolute 2^-110.
        allowed = 2 + (hi >> 210 if name == "exp" else 0)
        assert hi - lo <= allowed, (x, hi - lo)


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_at_points_are_enclosed_and_tight(name: str) -> None:
    for x in _points(name, 700, 2):
        lo, hi = enc.SLOPE[name](x, x)
        assert _holds((lo, hi), TRUE_SLOPE[name](_real(x))), x
        assert hi - lo <= 4, (x, hi - lo)


@pytest.mark.parametrize("name", sorted(enc.VALUE))
def test_values_inside_intervals_are_enclosed(name: str) -> None:
    rng = Random(3)
    for lo, hi in _intervals(name, 300, 3):
        bounds = enc.VALUE[name](lo, hi)
        inside = [lo, hi, *(rng.randint(lo, hi) for _ in range(3))]
        inside += [x for x in NEAR_EXTREMA if lo <= x <= hi]
        for x in inside:
            assert _holds(bounds, TRUE_VALUE[name](_real(x))), (lo, hi, x)


@pytest.mark.parametrize("name", SMOOTH)
def test_difference_quotients_are_within_the_slope_range(name: str) -> None:
    rng = Random(4)
    f = TRUE_VALUE[name]
    for lo, hi in _intervals(name, 250, 4):
        bounds = enc.SLOPE[name](lo, hi)
        for _ in range(3):
            a, b = rng.randint(lo, hi), rng.randint(lo, hi)
            if a != b:
                quotient = UNIT * (f(_real(a)) - f(_real(b))) / (_real(a) - _real(b))
                noise = mpf(2) ** -300  # of the oracle: 700 bits, less what the subtractions cancel
                assert bounds[0] - noise <= quotient <= bounds[1] + noise, (lo, hi, a, b)


@pytest.mark.parametrize("name", SMOOTH)
def test_ranges_shrink_with_the_interval(name: str) -> None:
    """An interval of width w has a range and a slope range of width O(w): no blow-up near extrema."""
    for x in _points(name, 200, 5):
        width = UNIT >> 60
        for table in (enc.VALUE, enc.SLOPE):
            lo, hi = table[name](x, x + width)
            assert hi - lo <= 2 * width + 8


@pytest.mark.parametrize("name", SMOOTH)
def test_globals_hold_everything_and_are_attained(name: str) -> None:
    low, high = enc.GLOBAL_RANGE[name]
    steepest = enc.GLOBAL_SLOPE[name]
    for x in [*_points(name, 300, 6), 2**2000, -(2**2000)]:
        lo, hi = enc.VALUE[name](x, x)
        assert low is None or low <= lo
        assert high is None or hi <= high
        lo, hi = enc.SLOPE[name](x, x)
        assert steepest[0] <= lo and hi <= steepest[1]
    places = {"silu": 2.3993572805154668, "gelu": 2**0.5}
    if name in places:
        top = TRUE_SLOPE[name](mpf(places[name]))
        assert abs(_real(steepest[1]) - top) < 1e-15
        assert abs(_real(steepest[0]) - (1 - top)) < 1e-15
        bottom = {"silu": -1.2784645427610738, "gelu": -0.7517915246935645}[name]
        assert low is not None and abs(_real(low) - TRUE_VALUE[name](mpf(bottom))) < 1e-15


def test_exact_globals() -> None:
    assert enc.GLOBAL_RANGE["tanh"] == enc.GLOBAL_RANGE["sin"] == enc.GLOBAL_RANGE["cos"] == (-UNIT, UNIT)
    assert enc.GLOBAL_RANGE["sigmoid"] == (0, UNIT)
    assert enc.GLOBAL_RANGE["softplus"] == enc.GLOBAL_RANGE["exp"] == (0, None)
    assert enc.GLOBAL_RANGE["silu"][1] is enc.GLOBAL_RANGE["gelu"][1] is None
    assert enc.GLOBAL_SLOPE["tanh"] == enc.GLOBAL_SLOPE["softplus"] == (0, UNIT)
    assert enc.GLOBAL_SLOPE["sigmoid"] == (0, UNIT // 4)
    assert enc.GLOBAL_SLOPE["sin"] == enc.GLOBAL_SLOPE["cos"] == (-UNIT, UNIT)
    assert set(enc.GLOBAL_SLOPE) == set(enc.SLOPE) == set(enc.GLOBAL_RANGE) - {"exp"}


def test_huge_arguments() -> None:
    huge = 2**2000
    for name in ("sigmoid", "softplus", "silu", "gelu"):
        lo, hi = enc.VALUE[name](-huge, -huge)
        assert -1 <= lo <= 0 <= hi <= 1, name
    for name in ("softplus", "silu", "gelu"):
        lo, hi = enc.VALUE[name](huge, huge)
        assert huge - 1 <= lo <= huge <= hi <= huge + 1, name
        lo, hi = enc.SLOPE[name](huge, huge)
        assert UNIT - 1 <= lo <= UNIT <= hi <= UNIT + 1
        lo, hi = enc.SLOPE[name](-huge, -huge)
        assert -1 <= lo <= 0 <= hi <= 1
    assert enc.tanh(huge, huge) == (UNIT - 1, UNIT)
    assert enc.tanh(-huge, huge) == (-UNIT, UNIT)
    assert enc.sigmoid(-huge, huge) == (0, UNIT)
    assert enc.sin(huge, huge) == enc.cos(-huge, -huge) == enc.cos_slope(huge, huge) == (-UNIT, UNIT)
    assert enc.exp(-huge, 0)[0] == 0
    lo, hi = enc.log(huge, huge)
    assert _holds((lo, hi), CONTEXT.log(_real(huge)))
    assert enc.sqrt(huge, huge) == (2**1064, 2**1064)


def test_exact_points() -> None:
    for name in ("tanh", "silu", "gelu", "sqrt"):
        assert enc.VALUE[name](0, 0) == (0, 0)
    assert enc.sigmoid(0, 0) == (UNIT // 2, UNIT // 2)
    assert enc.tanh_slope(0, 0) == (UNIT, UNIT)
    assert enc.sqrt(4 * UNIT, 4 * UNIT) == (2 * UNIT, 2 * UNIT)
    assert enc.tanh_slope(-UNIT, 2 * UNIT)[1] == UNIT
    assert enc.sin(UNIT, 2 * UNIT)[1] == UNIT
    assert enc.sin(UNIT, 2 * UNIT)[0] > UNIT * 8 // 10
    assert enc.cos(-UNIT, 4 * UNIT) == (-UNIT, UNIT)


@pytest.mark.parametrize("name", sorted(enc.VALUE))
def test_inverted_interval_is_refused(name: str) -> None:
    for table in (enc.VALUE, enc.SLOPE):
        if name in table:
            for lo, hi in ((UNIT + 1, UNIT), (2**20000, 1)):
                with pytest.raises(CheckError) as caught:
                    table[name](lo, hi)
                assert caught.value.code == "BOX"


@pytest.mark.parametrize(
    ("f", "x", "code"),
    [
        (enc.exp, enc.EXP_LIMIT + 1, "LIMIT"),
        (enc.exp, 2**2000, "LIMIT"),
        (enc.log, 0, "INEQUALITY"),
        (enc.log, -(2**2000), "INEQUALITY"),
        (enc.sqrt, -1, "INEQUALITY"),
    ],
)
def test_outside_the_domain(f: enc.Enclosure, x: int, code: str) -> None:
    for lo in (x, min(x, 1)):
        with pytest.raises(CheckError) as caught:
            f(lo, max(x, lo))
        assert caught.value.code == code and str(caught.value)


# --- the error bounds of the core routines, as proofs/enclosures.md states them ---


def _units(value: mpmath.mpf, bits: int = enc.WORK) -> mpmath.mpf:
    return value * (mpf(2) ** bits)


def test_constants() -> None:
    bits = enc.WORK + enc.EXTRA
    assert enc.LN2_LO <= _units(CONTEXT.log(2), bits) <= enc.LN2_HI
    assert abs(_units(CONTEXT.pi / 2, bits) - enc.HALF_PI) < 1010
    assert 0 <= _units(1 / CONTEXT.sqrt(2 * CONTEXT.pi)) - enc.INV_SQRT_2PI < 2


def test_exp_error() -> None:
    rng = Random(7)
    worst = mpf(0)
    for i in range(1500):
        a = rng.randrange(1 << rng.choice([230, 224, 200, 232, 238])) * (-1) ** i
        s, k = enc._exp(a)
        error = CONTEXT.exp(mpf(a) / enc.ONE) * mpf(2) ** (enc.WORK - k) - s
        assert 0 <= error <= enc.EXP_ERROR
        assert a > 0 or k <= 0
        worst = max(worst, error)
    assert worst > 64  # the bound is not idle: squaring does amplify the error


def test_decay_error() -> None:
    for a in [0, *(abs(x) for x in _points("decay", 700, 8))]:
        error = _units(CONTEXT.exp(-_real(a))) - enc._decay(a)
        assert 0 <= error <= enc.EXP_ERROR + 1
    assert enc._decay(0) == enc.ONE
    assert enc._decay(enc.LOGISTIC_CUT) == 0


def test_log_error() -> None:
    rng = Random(9)
    for t in [0, enc.ONE // 3, *(rng.randrange(enc.ONE // 3) >> rng.randrange(60) for _ in range(700))]:
        error = _units(2 * CONTEXT.atanh(mpf(t) / enc.ONE)) - enc._log_ratio(t)
        assert 0 <= error < 11


@pytest.mark.parametrize("name", ["logistic", "normal"])
def test_tails_and_densities(name: str) -> None:
    tail = enc._logistic if name == "logistic" else enc._normal
    cdf, pdf = (_sigma, TRUE_SLOPE["sigmoid"]) if name == "logistic" else (_cdf, _pdf)
    cut = enc.LOGISTIC_CUT if name == "logistic" else enc.NORMAL_CUT
    for a in [0, cut - 1, cut, 2 * cut, *(abs(x) for x in _points(name, 500, 10))]:
        q_lo, q_hi, d_lo, d_hi = tail(a)
        assert 0 <= q_lo <= _units(cdf(-_real(a))) <= q_hi <= enc.HALF
        assert 0 <= d_lo <= _units(pdf(_real(a))) <= d_hi
        if a < cut:
            assert q_hi - q_lo <= enc.SLACK and d_hi - d_lo <= 2 * enc.SLACK


def test_truncation_of_the_series() -> None:
    """The first omitted term of every series, at the largest argument."""
    degree = len(enc.EXP)
    assert (mpf("0.6932") / 2**enc.HALVINGS) ** degree / CONTEXT.factorial(degree) < mpf(2) ** -240
    assert 2 * mpf(1) / 3 * mpf(9) ** -len(enc.ATANH) / (2 * len(enc.ATANH) + 1) < mpf(2) ** -228
    for terms, odd in ((len(enc.SIN), 1), (len(enc.COS), 0)):
        degree = 2 * terms + odd
        assert mpf("0.7854") ** degree / CONTEXT.factorial(degree) < mpf(2) ** -240
    degree = 2 * enc.NORMAL_TERMS + 1
    a = mpf(enc.NORMAL_CUT) / UNIT
    assert a**degree / CONTEXT.fac2(degree) * CONTEXT.npdf(a) < mpf(2) ** -230
    assert CONTEXT.npdf(a) * UNIT * 2**12 < 1 and _units(CONTEXT.npdf(a)) < enc.NORMAL_REST
    assert CONTEXT.exp(-160) < mpf(2) ** -enc.WORK


def test_trigonometric_core_near_its_worst_places() -> None:
    rng = Random(11)
    for _ in range(800):
        quarter = CONTEXT.pi / 4 * rng.randrange(-(1 << 33), 1 << 33)
        x = int(quarter * UNIT) + rng.randrange(-3, 4)
        for name in ("sin", "cos"):
            lo, hi = enc.VALUE[name](x, x)
            if abs(x) < enc.TRIG_LIMIT:
                assert hi - lo <= 2
            assert _holds((lo, hi), TRUE_VALUE[name](_real(x)))


def _sign(interval: tuple[int, int]) -> int:
    return (interval[0] > 0) - (interval[1] < 0)


def test_brackets_of_the_extrema() -> None:
    """The derivative changes sign within [at, at + 1] · 2^-64, by interval evaluation alone."""
    step = enc.BITS - 64
    for slope, at in ((enc.silu_slope, enc.SILU_MIN), (enc.gelu_slope, enc.GELU_MIN)):
        left, right = at << step, at + 1 << step
        assert _sign(slope(left, left)) == -1 and _sign(slope(right, right)) == 1
    # silu'' has the sign of 2 - x tanh(x / 2), and gelu'' that of 2 - x²; both are even.
    for x, sign in ((enc.SILU_STEEPEST << step, 1), (enc.SILU_STEEPEST + 1 << step, -1)):
        product = tuple(x * t for t in enc.tanh(x // 2, x // 2))
        assert x % 2 == 0 and _sign((2 * UNIT**2 - product[1], 2 * UNIT**2 - product[0])) == sign
    assert enc.GELU_STEEPEST**2 < 2 << 128 < (enc.GELU_STEEPEST + 1) ** 2


def test_second_derivatives_near_the_extrema() -> None:
    """`_peak` needs at most 2; the proof has bounds over all reals, this samples them."""
    for i in range(-40, 41):
        x = mpf(i) / 4
        for slope in (TRUE_SLOPE["silu"], TRUE_SLOPE["gelu"]):
            assert abs(CONTEXT.diff(slope, x)) < 1 and abs(CONTEXT.diff(slope, x, 2)) < 1.2


@pytest.mark.parametrize(
    ("table", "truth", "name", "at", "side"),
    [
        (enc.VALUE, TRUE_VALUE, "silu", enc.SILU_MIN, 0),
        (enc.VALUE, TRUE_VALUE, "gelu", enc.GELU_MIN, 0),
        (enc.SLOPE, TRUE_SLOPE, "silu", enc.SILU_STEEPEST, 1),
        (enc.SLOPE, TRUE_SLOPE, "silu", ~enc.SILU_STEEPEST, 0),
        (enc.SLOPE, TRUE_SLOPE, "gelu", enc.GELU_STEEPEST, 1),
        (enc.SLOPE, TRUE_SLOPE, "gelu", ~enc.GELU_STEEPEST, 0),
    ],
)
def test_an_extremum_strictly_inside(
    table: dict[str, enc.Enclosure], truth: dict[str, Real], name: str, at: int, side: int
) -> None:
    """Only the bracket can supply the bound here, and it is right to the last unit or two."""
    place = at << enc.BITS - 64
    bounds = table[name](place - UNIT // 4, place + UNIT // 4)
    for x in (place, place + (UNIT >> 65), place + (UNIT >> 64)):
        value = truth[name](_real(x))
        assert _holds(bounds, value)
        assert abs(bounds[side] - value * UNIT) <= 3
