"""Interval evaluation, operation by operation: enclosures of the arguments to an enclosure of the result.

Piecewise-linear operations on points are exact (up to the outward grid); transcendental ones are enclosed with
proved remainders. Proof: proofs/interval_evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from operator import mul

from trm_verify.kernel import enclosures
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ROW_NORMS, Node
from trm_verify.kernel.numbers import ceil_at, dot, dyadic, floor_at, rows_of
from trm_verify.kernel.tensor import Tensor, common, settle

BITS = enclosures.BITS
ONE = 1 << BITS


def _layout(node: Node, args: list[Tensor]) -> Tensor:
    if node.layout is None:
        return args[0].reshaped(node.shape)
    exp = min(a.exp for a in args)
    lows = [v for a in args for v in a.at(exp)[0]] + [0]  # source -1 is the appended zero
    lo = [lows[i] for i in node.layout]
    if all(a.is_point for a in args):
        return Tensor(node.shape, exp, lo, lo)
    highs = [v for a in args for v in a.at(exp)[1]] + [0]
    return Tensor(node.shape, exp, lo, [highs[i] for i in node.layout])


def _affine(shape: tuple[int, ...], a: Tensor, matrix: list[list[int]], exp: int) -> Tensor:
    """Each last-axis row of `a` times the matrix (out, in) of exponent `exp`."""
    width = len(matrix[0])
    lo, hi = a.ends()
    if a.is_point:
        return settle(shape, a.exp + exp, [dot(w, row) for row in rows_of(lo, width) for w in matrix])
    absolute = [list(map(abs, w)) for w in matrix]
    low, high = [], []
    for below, above in zip(rows_of(lo, width), rows_of(hi, width), strict=True):
        twice = [p + q for p, q in zip(below, above, strict=True)]
        spread = [q - p for p, q in zip(below, above, strict=True)]
        for w, w_abs in zip(matrix, absolute, strict=True):
            centre, radius = dot(w, twice), dot(w_abs, spread)
            low.append(centre - radius)
            high.append(centre + radius)
    return settle(shape, a.exp + exp - 1, low, high)


def _linear(node: Node, args: list[Tensor]) -> Tensor:
    a, w = args
    if not w.is_point:
        raise CheckError("UNSUPPORTED", "an exact weight matrix in linear", "an enclosed constant")
    if not a.bounded:
        return Tensor(node.shape)
    return _affine(node.shape, a, rows_of(w.ends()[0], w.shape[1]), w.exp)


def _sum(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    lo, hi = a.ends()
    low = [sum(row) for row in rows_of(lo, a.shape[-1])]
    return settle(node.shape, a.exp, low, None if hi is lo else [sum(row) for row in rows_of(hi, a.shape[-1])])


def _products(a: Tensor, b: Tensor) -> tuple[list[int], list[int]]:
    (al, ah), (bl, bh) = a.ends(), b.ends()
    if a.is_point and b.is_point:
        exact = list(map(mul, al, bl))
        return exact, exact
    corners = [(p * r, p * s, q * r, q * s) for p, q, r, s in zip(al, ah, bl, bh, strict=True)]
    return list(map(min, corners)), list(map(max, corners))


def _mul(node: Node, args: list[Tensor]) -> Tensor:
    a, b = args
    return settle(node.shape, a.exp + b.exp, *_products(a, b))


def reciprocal(b: Tensor) -> Tensor:
    """1/b. Raises `UNSUPPORTED` when b may vanish."""
    lo, hi = b.ends()
    if any(p <= 0 <= q for p, q in zip(lo, hi, strict=True)):
        raise CheckError("UNSUPPORTED", "a divisor whose enclosure excludes 0", "one that may vanish")
    if b.exp > BITS:
        raise CheckError("LIMIT", f"a divisor stored at an exponent of at most {BITS}", b.exp)
    one = 1 << (BITS - b.exp)
    return settle(b.shape, -BITS, [one // q for q in hi], [-(-one // p) for p in lo])


def _div(node: Node, args: list[Tensor]) -> Tensor:
    inverse = reciprocal(args[1])  # also when args[0] is unbounded: the step must exist
    return _mul(node, [args[0], inverse]) if args[0].bounded else Tensor(node.shape)


def _matmul(node: Node, args: list[Tensor]) -> Tensor:
    a, b = args
    inner, columns = b.shape[-2:]
    count = a.shape[-2]
    low: list[int] = []
    high: list[int] = []
    for block in range(a.size // (count * inner)):
        part = slice(block * inner * columns, (block + 1) * inner * columns)
        (lo, hi), (al, ah) = b.ends(), a.ends()
        lo_columns = [lo[part][j::columns] for j in range(columns)]
        hi_columns = [hi[part][j::columns] for j in range(columns)]
        for i in range(block * count, (block + 1) * count):
            row = slice(i * inner, (i + 1) * inner)
            for below, above in zip(lo_columns, hi_columns, strict=True):
                shape = (inner,)
                ends = _products(
                    Tensor(shape, 0, al[row], al[row] if a.is_point else ah[row]), Tensor(shape, 0, below, above)
                )
                low.append(sum(ends[0]))
                high.append(sum(ends[1]))
    return settle(node.shape, a.exp + b.exp, low, None if low == high else high)


def _scale(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    factor: Fraction = node.attrs["factor"]
    lo, hi = a.ends() if factor >= 0 else (a.ends()[1], a.ends()[0])
    low, exp = [v * factor.numerator for v in lo], a.exp
    high = low if hi is lo else [v * factor.numerator for v in hi]
    den = factor.denominator
    if den & (den - 1) == 0:
        return settle(a.shape, exp - den.bit_length() + 1, low, high)
    shift = BITS + den.bit_length()  # relative to the argument's own exponent: division by den loses no more than that
    return settle(a.shape, exp - shift, [(v << shift) // den for v in low], [-((-v << shift) // den) for v in high])


def _add(node: Node, args: list[Tensor]) -> Tensor:
    a, b = args
    exp, al, ah, bl, bh = common(a, b)
    if node.op == "sub":
        bl, bh = [-v for v in bh], [-v for v in bl]
    low = [p + q for p, q in zip(al, bl, strict=True)]
    exact = a.is_point and b.is_point
    return settle(node.shape, exp, low, None if exact else [p + q for p, q in zip(ah, bh, strict=True)])


def _extremum(node: Node, args: list[Tensor]) -> Tensor:
    exp, al, ah, bl, bh = common(*args)
    pick = max if node.op == "max" else min
    low, high = list(map(pick, al, bl)), list(map(pick, ah, bh))
    return Tensor(node.shape, exp, low, low if low == high else high)


def _amax(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    lo, hi = a.ends()
    low, high = (list(map(max, rows_of(v, a.shape[-1]))) for v in (lo, hi))
    return Tensor(node.shape, a.exp, low, low if low == high else high)


def _embedding(node: Node, args: list[Tensor]) -> Tensor:
    x, table = args
    if not table.is_point:
        raise CheckError("UNSUPPORTED", "an exact table in embedding", "an enclosed constant")
    rows = rows_of(table.ends()[0], table.shape[1])
    if not x.bounded:
        x = Tensor(x.shape, 0, [0] * x.size, [len(rows) - 1] * x.size)
    hulls: dict[tuple[Fraction, Fraction], tuple[list[int], list[int]]] = {}
    low: list[int] = []
    high: list[int] = []
    for i in range(x.size):
        first, last = x.fraction(i)
        if first.denominator != 1 or last.denominator != 1 or not 0 <= first <= last < len(rows):
            raise CheckError("BOX", f"integers from 0 to {len(rows) - 1} in embedding", f"[{first}, {last}]")
        if (first, last) not in hulls:
            chosen = list(zip(*rows[int(first) : int(last) + 1], strict=True))
            hulls[first, last] = list(map(min, chosen)), list(map(max, chosen))
        low += hulls[first, last][0]
        high += hulls[first, last][1]
    return Tensor(node.shape, table.exp, low, low if low == high else high)


def _inverse_root(total_lo: Fraction, total_hi: Fraction) -> tuple[int, int]:
    """1/√t over [total_lo, total_hi], t > 0, at the exponent -BITS."""
    root_lo = enclosures.sqrt(floor_at(total_lo, -BITS), ceil_at(total_lo, -BITS))[0]
    root_hi = enclosures.sqrt(floor_at(total_hi, -BITS), ceil_at(total_hi, -BITS))[1]
    if root_lo <= 0:
        raise CheckError("UNSUPPORTED", "a normalisation whose denominator is not tiny", total_lo)
    return ONE * ONE // root_hi, -(-ONE * ONE // root_lo)


def centred(a: Tensor) -> Tensor:
    """m · (a − mean a) over the last axis of size m (the factor m keeps it exact)."""
    m = a.shape[-1]
    lo, hi = a.ends()
    low: list[int] = []
    high: list[int] = []
    for below, above in zip(rows_of(lo, m), rows_of(hi, m), strict=True):
        total_lo, total_hi = sum(below), sum(above)
        low += [(m - 1) * p - (total_hi - q) for p, q in zip(below, above, strict=True)]
        high += [(m - 1) * q - (total_lo - p) for p, q in zip(below, above, strict=True)]
    return Tensor(a.shape, a.exp, low, low if low == high else high)


def mean_square(a: Tensor, divisor: int) -> list[tuple[Fraction, Fraction]]:
    """Bounds on (Σ a²)/divisor for each last-axis row."""
    lo, hi = a.ends()
    bounds = []
    for below, above in zip(rows_of(lo, a.shape[-1]), rows_of(hi, a.shape[-1]), strict=True):
        small = sum(max(p, -q, 0) ** 2 for p, q in zip(below, above, strict=True))
        large = sum(max(-p, q) ** 2 for p, q in zip(below, above, strict=True))
        bounds.append((dyadic(small, 2 * a.exp) / divisor, dyadic(large, 2 * a.exp) / divisor))
    return bounds


def _row_norm(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    m = node.shape[-1]
    if not a.bounded:  # |a_i| ≤ √m · √(mean a²), and likewise after centring
        bound = [m] * node.size
        return Tensor(node.shape, 0, [-v for v in bound], bound)
    if node.op == "layer_norm":
        a, divisor, scale = centred(a), m**3, m
    else:
        divisor, scale = m, 1
    eps: Fraction = node.attrs["eps"]
    low: list[int] = []
    high: list[int] = []
    for (small, large), below, above in zip(
        mean_square(a, divisor), *map(lambda v: rows_of(v, m), a.ends()), strict=True
    ):
        inverse = _inverse_root(small + eps, large + eps)
        for p, q in zip(below, above, strict=True):
            corners = (p * inverse[0], p * inverse[1], q * inverse[0], q * inverse[1])
            low.append((min(corners) << 8) // scale)
            high.append(-((-max(corners) << 8) // scale))
    return settle(node.shape, a.exp - BITS - 8, low, high)


def _softmax(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    if not a.bounded:
        return Tensor(node.shape, 0, [0] * node.size, [1] * node.size)
    m = node.shape[-1]
    low: list[int] = []
    high: list[int] = []
    lo, hi = a.snapped(-BITS)
    for below, above in zip(rows_of(lo, m), rows_of(hi, m), strict=True):
        top = max(above)
        small = [enclosures.exp(p - top, p - top)[0] for p in below]
        large = [enclosures.exp(q - top, q - top)[1] for q in above]
        least, most = sum(small), sum(large)
        for p, q in zip(small, large, strict=True):
            low.append(p * ONE // max(p + most - q, 1))
            high.append(min(ONE, -(-q * ONE // max(q + least - p, 1))))
    return Tensor(node.shape, -BITS, low, high)


def _clamp(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    ends: tuple[Fraction | None, Fraction | None] = (node.attrs["lo"], node.attrs["hi"])
    if not a.bounded and None in ends:
        return Tensor(node.shape)
    exp = min([a.exp, *(1 - e.denominator.bit_length() for e in ends if e is not None)])
    floor, ceiling = (None if e is None else floor_at(e, exp) for e in ends)  # exact, by the choice of the exponent
    if not a.bounded:
        return Tensor(node.shape, exp, [floor or 0] * node.size, [ceiling or 0] * node.size)

    def clip(ints: list[int]) -> list[int]:
        ints = ints if floor is None else [max(v, floor) for v in ints]
        return ints if ceiling is None else [min(v, ceiling) for v in ints]

    lo, hi = a.at(exp)
    low = clip(lo)
    return Tensor(node.shape, exp, low, low if hi is lo else clip(hi))


def _ramp(node: Node, args: list[Tensor]) -> Tensor:
    """relu, abs and leaky_relu, exactly."""
    (a,) = args
    lo, hi = a.ends()
    shift = 0
    if node.op == "relu":
        low, high = [max(v, 0) for v in lo], [max(v, 0) for v in hi]
    elif node.op == "abs":
        low = [max(p, -q, 0) for p, q in zip(lo, hi, strict=True)]
        high = [max(-p, q) for p, q in zip(lo, hi, strict=True)]
    else:
        slope: Fraction = node.attrs["slope"]
        shift = slope.denominator.bit_length() - 1
        low, high = ([v << shift if v >= 0 else v * slope.numerator for v in end] for end in (lo, hi))
    return settle(node.shape, a.exp - shift, low, None if a.is_point else high)


def _smooth(node: Node, args: list[Tensor]) -> Tensor:
    (a,) = args
    if not a.bounded:
        least, most = enclosures.GLOBAL_RANGE[node.op]
        if least is None or most is None:
            return Tensor(node.shape)
        return Tensor(node.shape, -BITS, [least] * node.size, [most] * node.size)
    value = enclosures.VALUE[node.op]
    bounds = [value(p, q) for p, q in zip(*a.snapped(-BITS), strict=True)]
    return Tensor(node.shape, -BITS, [b[0] for b in bounds], [b[1] for b in bounds])


EVALUATE: dict[str, Callable[[Node, list[Tensor]], Tensor]] = {
    **{op: _layout for op in ("reshape", "permute", "slice", "select", "expand", "pad", "unfold", "concat")},
    **{op: _smooth for op in enclosures.VALUE},
    "linear": _linear, "matmul": _matmul, "sum": _sum, "scale": _scale, "add": _add, "sub": _add, "mul": _mul,
    "div": _div, "max": _extremum, "min": _extremum, "amax": _amax, "softmax": _softmax, "rms_norm": _row_norm,
    "layer_norm": _row_norm, "embedding": _embedding, "relu": _ramp, "abs": _ramp, "leaky_relu": _ramp, "clamp": _clamp,
}  # fmt: skip


# Operations that say something, or have something to check, when an argument is unbounded.
OF_ANYTHING = {"linear", "div", "embedding", "clamp", *ROW_NORMS, *enclosures.VALUE}


def apply_operation(node: Node, args: list[Tensor]) -> Tensor:
    if node.op not in OF_ANYTHING and not all(a.bounded for a in args):
        return Tensor(node.shape)
    return EVALUATE[node.op](node, args)
