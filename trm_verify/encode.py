"""Numbers in the certificate's spelling: dyadics and vectors with one shared exponent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import reduce
from math import ceil, frexp
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np

from trm_verify.kernel.claims import Refuted
from trm_verify.kernel.norms import MetricNorm, Norm
from trm_verify.kernel.tensor import Tensor

if TYPE_CHECKING:
    from trm_verify.box import Box

Json = dict[str, Any]


def hexadecimal(value: int) -> str:
    return format(value, "x")


def dyadic(value: Fraction | int | float) -> Json:
    """The exact value of a binary fraction.

    Raises:
        ValueError: the value is not a binary fraction (round it first).
    """
    exact = Fraction(value)
    if exact.denominator & (exact.denominator - 1):
        raise ValueError(f"expected a binary fraction, found {exact}; round it outward first")
    exp = 1 - exact.denominator.bit_length()
    mantissa = exact.numerator
    return {"exp": exp, "int": hexadecimal(mantissa)}


def round_up(value: Fraction | float, bits: int = 64) -> Fraction:
    """A binary fraction ≥ value with about `bits` significant bits."""
    exact = Fraction(value)
    shift = _shift(exact, bits)
    return Fraction(ceil(exact * Fraction(2) ** shift)) / Fraction(2) ** shift


def round_down(value: Fraction | float, bits: int = 64) -> Fraction:
    """A binary fraction ≤ value with about `bits` significant bits."""
    return -round_up(-Fraction(value), bits)


def _shift(value: Fraction, bits: int) -> int:
    if value == 0:
        return 0
    return bits - (abs(value).numerator.bit_length() - value.denominator.bit_length())


def integers(values: Sequence[int], exp: int) -> Json:
    """A vector of the values `values[i] · 2^exp`, with common factors of two moved into the exponent."""
    shift = _twos(reduce(or_, map(abs, values), 0))
    return {"exp": exp + shift, "int": _spelled([v >> shift for v in values])}


def whole(values: np.ndarray, exp: int) -> Json:
    """The same for doubles that are whole numbers."""
    if not np.abs(values).max(initial=0.0) < 2.0**62:  # nor for NaN, which has no integer
        return integers([int(v) for v in values.tolist()], exp)
    ints = values.astype(np.int64)
    shift = _twos(int(np.bitwise_or.reduce(np.abs(ints))))
    return {"exp": exp + shift, "int": _spelled((ints >> shift).tolist())}


def _twos(value: int) -> int:
    """How often 2 divides it; never, for 0."""
    return (value & -value).bit_length() - 1 if value else 0


def _spelled(ints: Sequence[int]) -> str:
    return " ".join(["%x"] * len(ints)) % tuple(ints)


def vector(values: Iterable[float] | np.ndarray) -> Json:
    """A vector of exactly these doubles."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(flat).all():
        raise ValueError("expected finite numbers, found NaN or an infinity")
    nonzero = np.abs(flat[flat != 0])
    if not nonzero.size:
        return {"exp": 0, "int": " ".join(["0"] * flat.size)}
    exp = max(frexp(float(nonzero.min()))[1] - 53, -1074)
    return integers([_at(float(v), exp) for v in flat], exp)


def _at(value: float, exp: int) -> int:
    numerator, denominator = value.as_integer_ratio()
    shifted = numerator << -exp if exp <= 0 else numerator >> exp
    return shifted // denominator


def quantized(values: np.ndarray, exp: int) -> Json:
    """A vector of these doubles rounded to multiples of `2^exp` (for witnesses, where rounding is harmless)."""
    return whole(np.rint(np.ldexp(np.asarray(values, dtype=np.float64).ravel(), -exp)), exp)


def fractions(values: Sequence[Fraction]) -> Json:
    """A vector of exactly these binary fractions."""
    exp = min((1 - v.denominator.bit_length() for v in values), default=0)
    return integers([(v.numerator << -exp) // v.denominator for v in values], exp)


def box_json(space: str, box: Box) -> Json:
    """A box in the certificate's form, rounded outward where its ends are not binary fractions."""
    outer = box.outward(96)
    lo, hi = (vector(end) if end.dtype != object else fractions(list(end.flat)) for end in outer.ends)
    return {"space": space, "point": lo} if outer.is_point else {"space": space, "lo": lo, "hi": hi}


def state_json(box: Tensor) -> Json:
    """A kernel box of states in the certificate's form.

    Raises:
        CheckError: it is unbounded.
    """
    return _tensor_json("state", box)


def input_json(box: Tensor) -> Json:
    """A kernel box of inputs in the certificate's form.

    Raises:
        CheckError: it is unbounded.
    """
    return _tensor_json("input", box)


def _tensor_json(space: str, box: Tensor) -> Json:
    lo, hi = box.ends()
    if box.is_point:
        return {"space": space, "point": integers(lo, box.exp)}
    return {"space": space, "lo": integers(lo, box.exp), "hi": integers(hi, box.exp)}


def refutation_json(record: Refuted, answer: Json | None = None, operator: object = None) -> Json:
    """The fields of the claim that a refutation supports: the same sets, over all states where none are named."""
    region: Json | None = None
    if record.region is not None:
        region = state_json(record.region) if record.region.bounded else {"space": "state", "all": True}
    return {
        "of": record.of, "operator": operator, "norm": None, "rate": None, "domain": input_json(record.domain),
        "region": region, "answer": answer,
    }  # fmt: skip


def block_json(norm: Norm, size: int) -> Json:
    """A block norm of one group (ℓ2), or of single coordinates (weighted ℓ∞), in the certificate's form."""
    if isinstance(norm, MetricNorm):
        raise TypeError("expected a block norm")
    runs = [[1, size]] if len(norm.sizes) == 1 and size > 1 else [[size, 1]]
    return {"kind": "block", "runs": runs, "weights": integers(norm.weights, norm.exp)}
