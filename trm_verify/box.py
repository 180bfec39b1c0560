"""Closed boxes with exact endpoints: input domains, balls around an input, regions of the state space."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

Number = int | float | str | Fraction | Decimal

_EXACT_INT = 1 << 53
_DIGITS = 5000
_LARGEST = Fraction(sys.float_info.max)


def exact_number(value: Any, what: str) -> Fraction:
    """The exact value of one number; a float means its binary value, a string its decimal or rational one.

    Raises:
        ValueError: NaN, an infinity, or something that is no number.
    """
    if isinstance(value, (str, Decimal)) and _is_extreme(value):
        raise ValueError(f"expected at most {_DIGITS} digits before or after the point in {what}, found {value!r:.99}")
    try:
        if isinstance(value, (int, str, float, Fraction, Decimal)):
            return Fraction(value)
        return Fraction(*value.as_integer_ratio())
    except (AttributeError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(
            f"expected finite numbers in {what}, found {value!r:.99}; they are written 0.01, or exactly '1/100'"
        ) from None


def _is_extreme(value: str | Decimal) -> bool:
    """Whether writing the number out would take for ever: an exponent is a short way to ask for many digits."""
    try:
        return abs(Decimal(str(value).partition("/")[0].strip()).adjusted()) > _DIGITS
    except ArithmeticError:  # no number
        return False


def _canonical(values: np.ndarray) -> np.ndarray:
    """Fractions that are all doubles become doubles, so that equal boxes are stored equally."""
    if values.dtype == object:
        doubles = np.empty(values.shape, dtype=np.float64)
        for index, value in np.ndenumerate(values):
            d = value.denominator
            if d & (d - 1) or abs(value.numerator) > _EXACT_INT or d > 1 << 900:
                return values
            doubles[index] = float(value)
        values = doubles
    return values + 0.0  # no negative zero


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor; a process that has not imported torch holds none, and need not import it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def exact_array(value: Any, what: str) -> np.ndarray:
    """An array of the exact values: float64 where every value is a double, else `Fraction` objects.

    Raises:
        ValueError: NaN, an infinity, or something that is no array of numbers.
    """
    if is_tensor(value):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
            array = array.astype(np.float64)
            if not np.isfinite(array).all():
                bad = array[~np.isfinite(array)].flat[0]
                raise ValueError(f"expected finite numbers in {what}, found {bad}")
            return array + 0.0
        if array.dtype.kind not in "iubf":
            raise ValueError(f"expected an array of real numbers in {what}, found dtype {array.dtype}")
        value = array.astype(object)
    elif not isinstance(value, np.ndarray):
        nested = value
        if isinstance(value, (str, Fraction, Decimal)):
            value = np.empty((), dtype=object)
            value[()] = nested
        else:
            value = np.array(_plain(nested), dtype=object)
    exact = np.empty(value.shape, dtype=object)
    for index, entry in np.ndenumerate(value):
        if isinstance(entry, (list, tuple)):
            raise ValueError(f"expected numbers of one shape in {what}, found a ragged list")
        exact[index] = exact_number(entry, what)
    return _canonical(exact)


def _plain(value: Any) -> Any:
    """Lists of tensors or arrays as nested lists."""
    if is_tensor(value) or isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _fractions(values: np.ndarray) -> list[Fraction]:
    flat = values.ravel().tolist()
    return flat if values.dtype == object else [Fraction(v) for v in flat]


def _objects(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return values
    result = np.empty(values.size, dtype=object)
    result[:] = _fractions(values)
    return result.reshape(values.shape)


def _moved(centre: np.ndarray, radius: Fraction) -> tuple[np.ndarray, np.ndarray] | None:
    """centre − radius and centre + radius, if both are doubles everywhere and no double was rounded.

    The error of a sum is itself a double, which two subtractions give (Knuth's two-sum).
    """
    if radius > _LARGEST or Fraction(r := float(radius)) != radius:
        return None
    ends = []
    for shift in (-r, r):
        end = centre + shift
        moved = end - centre
        if not np.isfinite(end).all() or np.any((centre - (end - moved)) + (shift - moved)):
            return None
        ends.append(end + 0.0)  # no negative zero
    return ends[0], ends[1]


def _pairwise(choose: Callable[..., Any], exact: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`choose` on doubles, `exact` entry by entry once an operand holds fractions."""
    if a.dtype != object and b.dtype != object:
        return np.asarray(choose(a, b))
    a, b = np.broadcast_arrays(_objects(a), _objects(b))
    result = np.empty(a.shape, dtype=object)
    for index, left in np.ndenumerate(a):
        result[index] = exact(left, b[index])
    return result


def _dyadic(value: Fraction) -> bool:
    return value.denominator & (value.denominator - 1) == 0


class Box:
    """The closed box `lo ≤ v ≤ hi`, endpoints exact. A value: immutable, comparable, hashable.

    Endpoints are scalars, nested lists, NumPy arrays or torch tensors of numbers, or `str`, `Fraction`,
    `Decimal`. A float means its exact binary value. Endpoints of different shapes broadcast; a box of
    shape `()` stands for the same interval in every coordinate once `expand` gives it a shape.

    Raises:
        ValueError: NaN, infinite, empty or inverted (`lo > hi` somewhere).
    """

    __slots__ = ("_hi", "_lo")
    _lo: np.ndarray
    _hi: np.ndarray

    def __init__(self, lo: Any, hi: Any) -> None:
        low, high = exact_array(lo, "the box's lower ends"), exact_array(hi, "the box's upper ends")
        try:
            shape = np.broadcast_shapes(low.shape, high.shape)
        except ValueError:
            raise ValueError(f"expected ends of one shape, found {low.shape} and {high.shape}") from None
        low, high = np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy()
        if low.size == 0:
            raise ValueError(f"expected a box with at least one coordinate, found shape {shape}")
        inverted = np.argwhere(_pairwise(np.greater, lambda a, b: a > b, low, high).astype(bool))
        if len(inverted):
            where = tuple(int(i) for i in inverted[0])
            raise ValueError(f"expected lo <= hi, found lo = {low[where]} > hi = {high[where]} at {where}")
        for name, array in (("_lo", low), ("_hi", high)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Box is immutable; make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Box is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return Box, (self._lo, self._hi)

    @classmethod
    def point(cls, x: Any) -> Box:
        """The box that holds exactly `x`."""
        exact = exact_array(x, "the point")
        return cls(exact, exact)

    @classmethod
    def ball(cls, x: Any, eps: Number) -> Box:
        """All points within `eps` of `x` in plain ℓ∞, exactly.

        Raises:
            ValueError: `eps` negative or not finite.
        """
        radius = exact_number(eps, "eps")
        if radius < 0:
            raise ValueError(f"expected eps >= 0, found {eps!r}")
        exact = exact_array(x, "the centre")
        if radius == 0:
            return cls(exact, exact)
        if exact.dtype != object and (ends := _moved(exact, radius)) is not None:
            return cls(*ends)
        centre = _objects(exact)
        return cls(_canonical(np.asarray(centre - radius, object)), _canonical(np.asarray(centre + radius, object)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._lo.shape

    @property
    def size(self) -> int:
        return self._lo.size

    @property
    def lo(self) -> list[Fraction]:
        """Exact lower ends, row-major."""
        return _fractions(self._lo)

    @property
    def hi(self) -> list[Fraction]:
        """Exact upper ends, row-major."""
        return _fractions(self._hi)

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Both ends as they are kept: doubles, or `Fraction` objects where some end is no double. Read only."""
        return self._lo, self._hi

    @property
    def is_point(self) -> bool:
        return bool(np.all(_pairwise(np.equal, lambda a, b: a == b, self._lo, self._hi)))

    @property
    def is_dyadic(self) -> bool:
        """Whether a certificate can store the ends as they are."""
        return all(a.dtype != object or all(map(_dyadic, a.flat)) for a in (self._lo, self._hi))

    def floats(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64 ends of a box that contains this one (equal to it where the ends are doubles).

        Raises:
            ValueError: an end beyond the range of doubles.
        """

        def outward(array: np.ndarray, direction: float, sign: int) -> np.ndarray:
            if array.dtype != object:
                return array.copy()
            result = np.empty(array.shape)
            for index, value in np.ndenumerate(array):
                try:
                    nearest = float(value)
                except OverflowError:
                    raise ValueError(f"expected ends within the range of doubles, found {value}") from None
                late = (Fraction(nearest) - value) * sign < 0
                result[index] = np.nextafter(nearest, direction) if late else nearest
            if not np.isfinite(result).all():
                raise ValueError("expected ends within the range of doubles")
            return result

        return outward(self._lo, -np.inf, -1), outward(self._hi, np.inf, 1)

    def center(self) -> np.ndarray:
        """The midpoint, rounded to doubles (a starting point for searches, not a bound)."""
        lo, hi = self.floats()
        return lo / 2 + hi / 2 if not self.is_point else lo

    def expand(self, shape: Sequence[int]) -> Box:
        """The same box broadcast to `shape`.

        Raises:
            ValueError: this box has another, incompatible shape.
        """
        try:
            lo, hi = np.broadcast_to(self._lo, tuple(shape)), np.broadcast_to(self._hi, tuple(shape))
        except ValueError:
            raise ValueError(f"expected a box of shape {tuple(shape)}, found {self.shape}") from None
        return self if self.shape == tuple(shape) else Box(lo, hi)

    def intersect(self, other: Box) -> Box:
        """The intersection, never empty.

        Raises:
            ValueError: the boxes do not meet or have other shapes.
        """
        self._same_shape(other)
        try:
            return Box(
                _pairwise(np.maximum, max, self._lo, other._lo),
                _pairwise(np.minimum, min, self._hi, other._hi),
            )
        except ValueError as error:
            raise ValueError(f"the boxes do not meet: {error}") from None

    def contains(self, other: Any) -> bool:
        """Whether the other box (or point) lies inside this one, ends included."""
        inner = other if isinstance(other, Box) else Box.point(other)
        self._same_shape(inner)
        above = _pairwise(np.less_equal, lambda a, b: a <= b, self._lo, inner._lo)
        below = _pairwise(np.less_equal, lambda a, b: a <= b, inner._hi, self._hi)
        return bool(np.all(above)) and bool(np.all(below))

    def outward(self, bits: int = 64) -> Box:
        """A box with dyadic ends that contains this one; ends that are dyadic already stay, others move
        outward to the next multiple of `2**-bits`.

        Raises:
            ValueError: `bits` outside 0 … 10000.
        """
        if not 0 <= bits <= 10000:
            raise ValueError(f"expected bits between 0 and 10000, found {bits}")

        def moved(values: Iterable[Fraction], up: bool) -> np.ndarray:
            array = np.empty(self.size, dtype=object)
            for i, v in enumerate(values):
                scaled = v.numerator << bits
                floor = -(-scaled // v.denominator) if up else scaled // v.denominator
                array[i] = v if _dyadic(v) else Fraction(floor, 1 << bits)
            return array.reshape(self.shape)

        return self if self.is_dyadic else Box(moved(self.lo, False), moved(self.hi, True))

    def _same_shape(self, other: Box) -> None:
        if self.shape != other.shape:
            raise ValueError(f"expected boxes of one shape, found {self.shape} and {other.shape}; use expand()")

    def _key(self) -> tuple[Any, ...]:
        return self.shape, *(a.tobytes() if a.dtype != object else tuple(a.flat) for a in (self._lo, self._hi))

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Box) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        if self.size <= 4:
            return f"Box(lo={_show(self._lo)}, hi={_show(self._hi)})"
        return f"Box(shape={self.shape}, lo[0]={self.lo[0]}, hi[0]={self.hi[0]}, …)"


def _show(array: np.ndarray) -> Any:
    return array.tolist() if array.dtype != object else np.vectorize(str, otypes=[object])(array).tolist()
