"""Block norms and metric norms of the flattened state."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel.document import dyadic, fields, integer, items, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import dot, rows_of, sqrt_up
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.tensor import Tensor


@dataclass(frozen=True)
class BlockNorm:
    """N(z) = max_g ‖z_g‖₂ / d_g over contiguous groups g; `weights` are d at the exponent `exp`."""

    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    exp: int

    @property
    def family(self) -> str:
        if max(self.sizes) == 1:
            return "linf" if all(w == self.weights[0] for w in self.weights) else "weighted_linf"
        return "l2" if len(self.sizes) == 1 else "mixed"

    @property
    def groups(self) -> list[int]:
        """The group of each coordinate."""
        return [g for g, size in enumerate(self.sizes) for _ in range(size)]

    def weight(self, group: int) -> Fraction:
        return value_of(self.weights[group], self.exp)

    def _split(self, ints: list[int]) -> list[list[int]]:
        ends = [0]
        for size in self.sizes:
            ends.append(ends[-1] + size)
        return [ints[a:b] for a, b in zip(ends, ends[1:], strict=False)]

    def bound(self, v: Tensor) -> Fraction:
        """An upper bound of N over the enclosure v."""
        return self._largest(self._split(v.magnitude()), v.exp)

    def _largest(self, groups: list[list[int]], exp: int) -> Fraction:
        best = Fraction(0)
        for group, d in zip(groups, self.weights, strict=True):
            length = max(group) if len(group) == 1 else sqrt_up(Fraction(dot(group, group)))
            best = max(best, length * value_of(1, exp - self.exp) / d)
        return best

    def exceeds(self, v: Tensor, radius: Fraction) -> bool:
        """Whether N > radius ≥ 0 surely, for every v of the enclosure."""
        least = [max(a, -b, 0) for a, b in zip(*v.ends(), strict=True)]
        squares = [dot(group, group) * value_of(1, 2 * v.exp) for group in self._split(least)]
        return any(s > (radius * self.weight(g)) ** 2 for g, s in enumerate(squares))

    def spread(self, radius: Fraction) -> list[Fraction]:
        """Per coordinate, a bound of |v_i| over N(v) ≤ radius."""
        found: list[Fraction] = []
        for size, d in zip(self.sizes, self.weights, strict=True):
            found += [radius * value_of(d, self.exp)] * size
        return found

    def support(self, q: list[int], exp: int) -> Fraction:
        """A bound of |Σ q_i v_i| over N(v) ≤ 1."""
        total = Fraction(0)
        for group, d in zip(self._split(q), self.weights, strict=True):
            total += d * (abs(group[0]) if len(group) == 1 else sqrt_up(Fraction(dot(group, group))))
        return total * value_of(1, exp + self.exp)


@dataclass(frozen=True)
class MetricNorm:
    """N(z) = √(zᵀPz), P symmetric with P ⪰ floor · I > 0 (proved by the rule that introduces it)."""

    matrix: tuple[int, ...]
    exp: int
    floor: Fraction
    size: int

    family = "metric"

    @property
    def rows(self) -> list[list[int]]:
        return rows_of(list(self.matrix), self.size)

    def _quadratic(self, v: list[int], exp: int) -> Fraction:
        return dot(v, [dot(row, v) for row in self.rows]) * value_of(1, 2 * exp + self.exp)

    def bound(self, v: Tensor) -> Fraction:
        """N(midpoint) plus the norm of the half-widths under |P|, which dominates every deviation."""
        lo, hi = v.ends()
        middle = self._quadratic([a + b for a, b in zip(lo, hi, strict=True)], v.exp - 1)
        width = [b - a for a, b in zip(lo, hi, strict=True)]
        spread = dot(width, [dot(list(map(abs, row)), width) for row in self.rows]) if any(width) else 0
        return sqrt_up(middle) + sqrt_up(spread * value_of(1, 2 * (v.exp - 1) + self.exp))

    def spread(self, radius: Fraction) -> list[Fraction]:
        return [radius / self._root_floor()] * self.size

    def support(self, q: list[int], exp: int) -> Fraction:
        return sqrt_up(dot(q, q) * value_of(1, 2 * exp)) / self._root_floor()

    def _root_floor(self) -> Fraction:
        """A positive lower bound of √floor: floor / (upper bound of √floor)."""
        return self.floor / sqrt_up(self.floor)


Norm = BlockNorm | MetricNorm


def coordinate_scale(norm: Norm) -> Fraction:
    """c with |v|_∞ ≤ c · N(v)."""
    return max(norm.spread(Fraction(1)))


def parse_norm(raw: object, size: int) -> Norm:
    """A row of the `norms` table, for a flattened state of the given size."""
    if not isinstance(raw, dict):
        raise CheckError("FIELD", "an object for a norm", type(raw).__name__)
    if raw.get("kind") == "metric":
        _, matrix, floor = fields(raw, "kind", "matrix", "floor", where="norm")
        ints, exp = vector(matrix, size * size, "matrix of a norm")
        if any(ints[i * size + j] != ints[j * size + i] for i in range(size) for j in range(i)):
            raise CheckError("NORM", "a symmetric matrix", "an asymmetric one")
        least = value_of(*dyadic(floor, "floor of a norm"))
        if least <= 0:
            raise CheckError("NORM", "a strictly positive floor", least)
        return MetricNorm(tuple(ints), exp, least, size)
    kind, runs, weights = fields(raw, "kind", "runs", "weights", where="norm")
    if kind != "block":
        raise CheckError("NORM", "a block or metric norm", kind)
    sizes: list[int] = []
    covered = 0
    for run in items(runs, "runs"):
        pair = items(run, "run")
        if len(pair) != 2:
            raise CheckError("FIELD", "[count, size] in a run", pair)
        count, each = (integer(v, 1, size, "run") for v in pair)
        covered += count * each
        if covered > size:
            break
        sizes += [each] * count
    if covered != size:
        raise CheckError("NORM", f"groups that cover the {size} coordinates of the state", covered)
    ints, exp = vector(weights, len(sizes), "weights of a norm")
    if min(ints) <= 0:
        raise CheckError("NORM", "strictly positive weights", "a weight ≤ 0")
    return BlockNorm(tuple(sizes), tuple(ints), exp)
