"""Enclosures of transcendental functions: integers in, integers out, every remainder proved.

A point is an integer x that stands for x · 2^-BITS. A function `f(lo, hi)` encloses its range over [lo, hi]
at that exponent; `f_slope(lo, hi)` encloses its derivative there, and so every difference quotient of two
points of [lo, hi]. Work is done at WORK bits and rounded outward once, at the end. Sums of non-negative
floored terms give *lower* bounds, less than SLACK below the truth; only sin and cos err on both sides.

Sound if: the error of each routine is bounded, and each function monotone, as in proofs/enclosures.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, isqrt

from trm_verify.kernel.errors import CheckError

Interval = tuple[int, int]
Enclosure = Callable[[int, int], Interval]
Point = Callable[[int], Interval]
Peak = tuple[int, int, Interval]  # two ends with an extremum of a function between them, and its value

BITS = 128  # of the interface
WORK = 224  # of the computation
EXTRA = 64  # more bits for the constants, so that multiples of them stay below one unit of WORK
GUARD = WORK - BITS
UNIT, ONE, HALF = 1 << BITS, 1 << WORK, 1 << WORK - 1
EXP_ERROR, SLACK = 2560, 4096  # units of 2^-WORK
HALVINGS = 8  # e^r = (e^(r / 2^HALVINGS))^(2^HALVINGS)
NORMAL_TERMS = 320
EXP_LIMIT = 1 << BITS + 14  # e^x is refused above
TRIG_LIMIT = 1 << BITS + 32  # sin and cos say [-1, 1] from here on
LOGISTIC_CUT = 160 << BITS  # e^-160 < 2^-WORK
NORMAL_CUT = 14 << BITS  # from here on the normal tail and density are below NORMAL_REST
NORMAL_REST = 1 << WORK - 140
FAR = 1 << BITS + 40  # beyond every limit above but that of exp


def _arc(n: int, sign: int) -> int:
    """atanh(1/n) for sign 1, atan(1/n) for sign -1, n ≥ 3, at WORK + EXTRA bits: off by less than 101."""
    return sum(sign**i * ((ONE << EXTRA) // ((2 * i + 1) * n ** (2 * i + 1))) for i in range(100))


LN2_LO = 2 * _arc(3, 1)
LN2_HI = LN2_LO + 202
HALF_PI = 8 * _arc(5, -1) - 2 * _arc(239, -1)  # Machin; off by less than 1010
INV_SQRT_2PI = isqrt((ONE * ONE << WORK + EXTRA) // (4 * (HALF_PI + 1010)))  # lower bound, less than 2 below

# Taylor coefficients, last first.
EXP = tuple(ONE // factorial(i) for i in reversed(range(21)))
SIN = tuple(ONE // factorial(2 * i + 1) for i in reversed(range(26)))
COS = tuple(ONE // factorial(2 * i) for i in reversed(range(26)))
ATANH = tuple(ONE // (2 * i + 1) for i in reversed(range(70)))


def _series(coefficients: tuple[int, ...], x: int, shift: int) -> int:
    """Σ coefficient_i (x · 2^-shift)^i by Horner, floored at each step."""
    total = 0
    for coefficient in coefficients:
        total = coefficient + (total * x >> shift)
    return total


def _round(lo: int, hi: int, shift: int = GUARD) -> Interval:
    """Outward to `shift` fewer bits; a negative shift is exact."""
    return (lo >> shift, -(-hi >> shift)) if shift >= 0 else (lo << -shift, hi << -shift)


def _exp(a: int) -> Interval:
    """(s, k) with e^a in 2^(k - WORK) · [s, s + EXP_ERROR], a at WORK bits, |a| ≤ 2^14; k ≤ 0 if a ≤ 0."""
    k, r = divmod(a << EXTRA, LN2_HI if a > 0 else LN2_LO)
    s = _series(EXP, r >> EXTRA, WORK + HALVINGS)
    for _ in range(HALVINGS):
        s = s * s >> WORK
    return s, k


def _decay(a: int) -> int:
    """e^-a at WORK bits, for a ≥ 0 at BITS: a lower bound, at most EXP_ERROR + 1 below; 0 from the cut on."""
    s, k = _exp(-min(a, LOGISTIC_CUT) << GUARD)
    return s >> -k


def _log_ratio(t: int) -> int:
    """log((1 + t) / (1 - t)) at WORK bits, for 0 ≤ t ≤ 1/3: a lower bound, less than 11 below."""
    return t * _series(ATANH, t * t >> WORK, WORK) >> WORK - 1


def _logistic(a: int) -> tuple[int, int, int, int]:
    """Tail 1/(1 + e^a) and density e^a/(1 + e^a)² for a ≥ 0 at BITS: lower, upper, lower, upper, at WORK."""
    u = _decay(a)
    lo = (u << WORK) // (ONE + u)
    hi = min(lo + SLACK, HALF)
    return lo, hi, lo * (ONE - lo) >> WORK, -(-hi * (ONE - hi) >> WORK)


def _normal(a: int) -> tuple[int, int, int, int]:
    """Tail and density of the standard normal distribution at a ≥ 0, likewise."""
    if a >= NORMAL_CUT:
        return 0, NORMAL_REST, 0, NORMAL_REST
    s, k = _exp(-(a * a) >> 2 * BITS + 1 - WORK)
    density = s * INV_SQRT_2PI >> WORK
    term = total = a << GUARD
    for odd in range(3, 2 * NORMAL_TERMS + 1, 2):  # Σ a^(2i+1) / (2i+1)!!
        term = (term * a * a >> 2 * BITS) // odd
        if not term:
            break
        total += term
    tail, density = HALF - (density * total >> WORK - k), density >> -k
    return max(tail - SLACK, 0), tail, density, density + SLACK


def _gate(tail: Callable[[int], tuple[int, int, int, int]], cut: int) -> tuple[Point, Point]:
    """x · F(x) and its slope F(x) + x · density(x), for a symmetric distribution F given by its tail."""

    def value(x: int) -> Interval:
        a = min(abs(x), cut)  # what the products below enclose at the cut, they enclose beyond it
        q_lo, q_hi, _, _ = tail(a)
        lo, hi = _round(a * q_lo, a * q_hi, WORK)
        return max(x, 0) - hi, max(x, 0) - lo

    def slope(x: int) -> Interval:
        a = min(abs(x), cut)
        q_lo, q_hi, d_lo, d_hi = tail(a)
        lo, hi = _round((a * d_lo >> BITS) - q_hi, -(-a * d_hi >> BITS) - q_lo)
        return (UNIT + lo, UNIT + hi) if x >= 0 else (-hi, -lo)

    return value, slope


def _exp_point(x: int) -> Interval:
    if x > EXP_LIMIT:
        raise CheckError("LIMIT", "an argument of exp of at most 2^14", f"{x.bit_length() - BITS} bits")
    if x <= -LOGISTIC_CUT:
        return 0, 1
    s, k = _exp(x << GUARD)
    return _round(s, s + EXP_ERROR, GUARD - k)


def _log_point(x: int) -> Interval:
    if x <= 0:
        raise CheckError("INEQUALITY", "a strictly positive number under a logarithm", f"{x:x}")
    top = 1 << x.bit_length() - 1
    rest, k = _log_ratio((x - top << WORK) // (x + top)), x.bit_length() - 1 - BITS
    low, high = (LN2_LO, LN2_HI) if k >= 0 else (LN2_HI, LN2_LO)
    return _round((k * low >> EXTRA) + rest, -(-k * high >> EXTRA) + rest + SLACK)


def _sqrt_point(x: int) -> Interval:
    if x < 0:
        raise CheckError("INEQUALITY", "a non-negative number under a square root", f"{x:x}")
    root = isqrt(x << BITS)
    return root, root + (root * root < x << BITS)


def _sigmoid_point(x: int) -> Interval:
    lo, hi, _, _ = _logistic(abs(x))
    return _round(lo, hi) if x < 0 else _round(ONE - hi, ONE - lo)


def _tanh_point(x: int) -> Interval:
    q_lo, q_hi, _, _ = _logistic(2 * abs(x))
    lo, hi = _round(ONE - 2 * q_hi, ONE - 2 * q_lo)
    return (lo, hi) if x >= 0 else (-hi, -lo)


def _softplus_point(x: int) -> Interval:
    u = _decay(abs(x))
    rest = _log_ratio((u << WORK) // (2 * ONE + u))
    lo, hi = _round(rest, rest + SLACK)
    return max(x, 0) + lo, max(x, 0) + hi


def _over(point: Point, *peaks: Peak) -> Enclosure:
    """The range over an interval of a function with these extrema and no others, monotone between them."""

    def enclose(lo: int, hi: int) -> Interval:
        if lo > hi:
            raise CheckError("BOX", "an interval with lo <= hi", f"{lo:x} > {hi:x}")
        values = [point(lo)] if lo == hi else [point(lo), point(hi)]
        values += [value for left, right, value in peaks if lo <= right and left <= hi]
        return min(v[0] for v in values), max(v[1] for v in values)

    return enclose


def _peak(point: Point, at: int) -> Peak:
    """The extremum in [at, at + 1] · 2^-64; as |f''| ≤ 2 there, it differs from f(at) by at most 2^-BITS."""
    lo, hi = point(at << BITS - 64)
    return at << BITS - 64, at + 1 << BITS - 64, (lo - 1, hi + 1)


def _trig(shift: int) -> Enclosure:
    """sin(x + shift · π/2)."""

    def point(x: int) -> Interval:
        if abs(x) >= TRIG_LIMIT:
            return -UNIT, UNIT
        wide = x << GUARD + EXTRA
        k = (2 * wide + HALF_PI) // (2 * HALF_PI)
        r = wide - k * HALF_PI >> EXTRA  # |r| is at most π/4 and a little
        square, k = r * r >> WORK, k + shift
        value = _series(COS, -square, WORK) if k & 1 else r * _series(SIN, -square, WORK) >> WORK
        lo, hi = _round(value - SLACK, value + SLACK)
        return (max(-hi, -UNIT), min(-lo, UNIT)) if k & 2 else (max(lo, -UNIT), min(hi, UNIT))

    def enclose(lo: int, hi: int) -> Interval:
        low, high = _over(point)(lo, hi)
        turn = 1 << 66  # in quarter turns of 2^64 units, a maximum is at 1 and a minimum at 3, modulo 4
        first = (lo << GUARD + EXTRA + 64) // HALF_PI - 1 + shift * turn // 4
        last = (hi << GUARD + EXTRA + 64) // HALF_PI + 2 + shift * turn // 4
        top, bottom = ((last - at) // turn > (first - 1 - at) // turn for at in (turn // 4, 3 * turn // 4))
        return -UNIT if bottom else low, UNIT if top else high

    return enclose


_silu_point, _silu_slope_point = _gate(_logistic, LOGISTIC_CUT)
_gelu_point, _gelu_slope_point = _gate(_normal, NORMAL_CUT)
# Floors at 64 bits of the places of minima, -1.27846… and -0.75179…, and of steepest slope, 2.39935… and √2.
SILU_MIN, SILU_STEEPEST = -0x1474973C84120B7E4, 0x2663C475B3BC22D4E
GELU_MIN, GELU_STEEPEST = -0xC07568CBF8059EED, isqrt(2 << 128)

exp, log, sqrt = _over(_exp_point), _over(_log_point), _over(_sqrt_point)
tanh, sigmoid, softplus = _over(_tanh_point), _over(_sigmoid_point), _over(_softplus_point)
silu = _over(_silu_point, _peak(_silu_point, SILU_MIN))
gelu = _over(_gelu_point, _peak(_gelu_point, GELU_MIN))
sin, cos = _trig(0), _trig(1)

tanh_slope = _over(lambda x: _round(*_logistic(2 * abs(x))[2:], GUARD - 2), (0, 0, (UNIT, UNIT)))
sigmoid_slope = _over(lambda x: _round(*_logistic(abs(x))[2:]), (0, 0, (UNIT // 4, UNIT // 4)))
softplus_slope, sin_slope, cos_slope = sigmoid, cos, _trig(2)
_silu_peaks = (_peak(_silu_slope_point, at) for at in (SILU_STEEPEST, ~SILU_STEEPEST))  # ~n = -n - 1
_gelu_peaks = (_peak(_gelu_slope_point, at) for at in (GELU_STEEPEST, ~GELU_STEEPEST))
silu_slope, gelu_slope = _over(_silu_slope_point, *_silu_peaks), _over(_gelu_slope_point, *_gelu_peaks)

VALUE: dict[str, Enclosure] = {
    "exp": exp, "log": log, "sqrt": sqrt, "tanh": tanh, "sigmoid": sigmoid, "softplus": softplus,
    "silu": silu, "gelu": gelu, "sin": sin, "cos": cos,
}  # fmt: skip
SLOPE: dict[str, Enclosure] = {
    "tanh": tanh_slope, "sigmoid": sigmoid_slope, "softplus": softplus_slope, "silu": silu_slope,
    "gelu": gelu_slope, "sin": sin_slope, "cos": cos_slope,
}  # fmt: skip
# Over all reals; None is unbounded. A point enclosure at ±FAR holds beyond, too (proof, section 8).
GLOBAL_RANGE: dict[str, tuple[int | None, int | None]] = {
    name: (f(-FAR, 0)[0], None if name in ("exp", "softplus", "silu", "gelu") else f(0, FAR)[1])
    for name, f in VALUE.items() if name not in ("log", "sqrt")
}  # fmt: skip
GLOBAL_SLOPE: dict[str, Interval] = {name: f(-FAR, FAR) for name, f in SLOPE.items()}
