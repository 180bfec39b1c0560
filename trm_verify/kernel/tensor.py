"""Enclosures of tensors: closed intervals with dyadic endpoints, one shared exponent.

A `Tensor` stands for every real tensor between `lo` and `hi`. Boxes of states and inputs are flat tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from trm_verify.kernel.document import fields, text, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.layout import Shape
from trm_verify.kernel.numbers import MAX_SHIFT, ceil_at, dyadic, floor_at, rescale, shift_down, shift_up

MAX_BITS = 1 << 16  # of one value: a chain of products doubles the length of its numbers at every node
GRID = -256  # finer exponents are rounded outward to this one, which bounds the cost of deep graphs


@dataclass(frozen=True)
class Tensor:
    """All real tensors v with lo ≤ v/2^exp ≤ hi entrywise; `lo is hi` for one exact tensor, both None for all."""

    shape: Shape
    exp: int = 0
    lo: list[int] | None = None
    hi: list[int] | None = None

    @property
    def bounded(self) -> bool:
        return self.lo is not None

    @property
    def is_point(self) -> bool:
        return self.lo is not None and self.lo is self.hi

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bits(self) -> int:
        """Of its longest integer."""
        return max(max(self.hi), -min(self.lo)).bit_length() if self.lo and self.hi else 0

    def ends(self) -> tuple[list[int], list[int]]:
        """Lower and upper ends. Raises `UNSUPPORTED` when unbounded."""
        if self.lo is None or self.hi is None:
            raise CheckError("UNSUPPORTED", "a bounded value here (give a bounded domain or region)", "unbounded")
        return self.lo, self.hi

    def reshaped(self, shape: Shape) -> Tensor:
        return Tensor(shape, self.exp, self.lo, self.hi)

    def flat(self) -> Tensor:
        return self.reshaped((self.size,))

    def at(self, exp: int) -> tuple[list[int], list[int]]:
        """The ends at a finer exponent."""
        lo, hi = self.ends()
        low = rescale(lo, self.exp, exp)
        return low, (low if hi is lo else rescale(hi, self.exp, exp))

    def snapped(self, exp: int) -> tuple[list[int], list[int]]:
        """The ends at any exponent, rounded outward."""
        if exp <= self.exp:
            return self.at(exp)
        lo, hi = self.ends()
        _require_short(lo, hi)
        return shift_down(lo, exp - self.exp), shift_up(hi, exp - self.exp)

    def magnitude(self) -> list[int]:
        """Largest absolute value of each entry, at `exp`."""
        lo, hi = self.ends()
        return list(map(abs, lo)) if hi is lo else [max(-a, b) for a, b in zip(lo, hi, strict=True)]

    def fraction(self, i: int) -> tuple[Fraction, Fraction]:
        lo, hi = self.ends()
        return dyadic(lo[i], self.exp), dyadic(hi[i], self.exp)


def _require_short(lo: list[int], hi: list[int]) -> None:
    """A small file must not make large numbers: neither long ones, nor many that are fairly long."""
    bits = max(max(hi), -min(lo)).bit_length() if lo else 0
    if bits > MAX_BITS or bits * len(lo) > MAX_SHIFT:
        raise CheckError("LIMIT", f"values of at most {MAX_BITS} bits, {MAX_SHIFT} in all", bits)


def settle(shape: Shape, exp: int, lo: list[int], hi: list[int] | None = None) -> Tensor:
    """A tensor, rounded outward to the grid when its exponent is finer."""
    hi = lo if hi is None else hi
    if exp > MAX_BITS:
        raise CheckError("LIMIT", f"exponents of at most {MAX_BITS}", exp)
    _require_short(lo, hi)
    if exp >= GRID:
        return Tensor(shape, exp, lo, hi)
    low, high = shift_down(lo, GRID - exp), shift_up(hi, GRID - exp)
    return Tensor(shape, GRID, low, low if low == high else high)


def from_fractions(values: list[tuple[Fraction, Fraction]], exp: int = GRID) -> Tensor:
    """A flat tensor that encloses the given intervals."""
    return Tensor((len(values),), exp, [floor_at(a, exp) for a, _ in values], [ceil_at(b, exp) for _, b in values])


def shorter(box: Tensor, bits: int) -> Tensor:
    """A box that holds a bounded one, each end further out by less than 2^(1 − bits) of the smallest width."""
    lo, hi = box.ends()
    least = min([b - a for a, b in zip(lo, hi, strict=True)], default=0)
    exp = box.exp + least.bit_length() - bits
    return box if exp <= box.exp else Tensor(box.shape, exp, *box.snapped(exp))


def common(a: Tensor, b: Tensor) -> tuple[int, list[int], list[int], list[int], list[int]]:
    """Two tensors at one exponent: (exp, a.lo, a.hi, b.lo, b.hi)."""
    exp = min(a.exp, b.exp)
    return exp, *a.at(exp), *b.at(exp)


def contains(outer: Tensor, inner: Tensor) -> bool:
    """Whether inner ⊂ outer."""
    if outer.shape != inner.shape:
        return False
    if not (outer.bounded and inner.bounded):
        return not outer.bounded
    _, low, high, lo, hi = common(outer, inner)
    return all(a <= b for a, b in zip(low, lo, strict=True)) and all(a >= b for a, b in zip(high, hi, strict=True))


def parse_box(raw: object, sizes: dict[str, int]) -> tuple[str, Tensor]:
    """A row of the `boxes` table: its space and the box (unbounded for `all`)."""
    if not isinstance(raw, dict):
        raise CheckError("FIELD", "an object for a box", type(raw).__name__)
    space = text(raw.get("space"), "space of a box")
    if space not in sizes:
        raise CheckError("BOX", f"a space among {sorted(sizes)}", space)
    shape = (sizes[space],)
    if "all" in raw:
        if fields(raw, "space", "all", where="box")[1] is not True or not sizes[space]:
            raise CheckError("BOX", "all: true, for a space of dimension at least 1", raw["all"])
        return space, Tensor(shape)
    if "point" in raw:
        ints, exp = vector(fields(raw, "space", "point", where="box")[1], sizes[space], "box")
        return space, Tensor(shape, exp, ints, ints)
    _, low, high = fields(raw, "space", "lo", "hi", where="box")
    (lo, lo_exp), (hi, hi_exp) = vector(low, sizes[space], "box"), vector(high, sizes[space], "box")
    exp = min(lo_exp, hi_exp)
    lo, hi = rescale(lo, lo_exp, exp), rescale(hi, hi_exp, exp)
    if any(a > b for a, b in zip(lo, hi, strict=True)):
        raise CheckError("BOX", "lo ≤ hi in every coordinate", "an inverted box")
    return space, Tensor(shape, exp, lo, lo if lo == hi else hi)
