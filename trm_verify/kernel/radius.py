"""R1, radius propagation: how far apart two evaluations of a function can be, node by node.

A `Radii` splits a tensor into groups and bounds the ℓ2 norm of the difference inside each group. Groups of one entry
make weighted ℓ∞; one group makes ℓ2. Every operation below is monotone and positively homogeneous in the radii.
Proof: proofs/radius_propagation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import mul

from trm_verify.kernel import enclosures
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import centred, mean_square, reciprocal, rows_of
from trm_verify.kernel.graph import ACTIVATIONS, ROW_NORMS, Function, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.numbers import ceil_at, dot, dyadic, rescale, shift_up, sqrt_up
from trm_verify.kernel.tensor import GRID, Tensor

Spectral = dict[int, Fraction]  # proved ‖W‖₂ of constant nodes


@dataclass(frozen=True)
class Radii:
    """`values[g] · 2^exp` bounds ‖Δ_g‖₂ for group g; `groups` gives each entry's group, None: entry i is group i."""

    groups: list[int] | None
    values: list[int]
    exp: int

    def of_entries(self) -> list[int]:
        """Per entry, a bound of |Δ|."""
        return self.values if self.groups is None else [self.values[g] for g in self.groups]


def _settle(groups: list[int] | None, values: list[int], exp: int) -> Radii:
    if exp >= GRID:
        return Radii(groups, values, exp)
    return Radii(groups, shift_up(values, GRID - exp), GRID)


def _compact(keys: Sequence[Hashable]) -> list[int]:
    """Any keys, renumbered 0, 1, … in order of appearance."""
    number: dict[Hashable, int] = {}
    return [number.setdefault(k, len(number)) for k in keys]


GUARD = 64  # extra bits for roots, so that rounding them up to the shared exponent costs nothing that matters


def _hypot(values: list[int]) -> int:
    """A bound of √Σ v², at an exponent finer by GUARD."""
    if len(values) == 1:
        return values[0] << GUARD
    return ceil_at(sqrt_up(Fraction(dot(values, values))), -GUARD)


def regroup(r: Radii, groups: list[int] | None) -> Radii:
    """The same bound over another partition: a piece of a group is at most the group, pieces add up in ℓ2."""
    if groups is None or groups == r.groups:
        return Radii(groups, r.of_entries() if groups is None else r.values, r.exp)
    sources: list[set[int]] = [set() for _ in range(max(groups) + 1)]
    for entry, target in enumerate(groups):
        sources[target].add(entry if r.groups is None else r.groups[entry])
    return _settle(groups, [_hypot([r.values[g] for g in s]) for s in sources], r.exp - GUARD)


def _rows(size: int, width: int) -> list[int]:
    return [i // width for i in range(size)]


def _by_row(r: Radii, width: int) -> Radii:
    """Singletons stay; any other partition becomes one group per last-axis row."""
    return r if r.groups is None else regroup(r, _rows(len(r.groups), width))


def _times(r: Radii, factors: list[int], exp: int) -> Radii:
    """Each group times the largest of its entries' factors (non-negative)."""
    if r.groups is None:
        return _settle(None, list(map(mul, r.values, factors)), r.exp + exp)
    largest = [0] * len(r.values)
    for g, f in zip(r.groups, factors, strict=True):
        largest[g] = max(largest[g], f)
    return _settle(r.groups, list(map(mul, r.values, largest)), r.exp + exp)


def _constant_times(r: Radii, factor: Fraction) -> Radii:
    scaled = ceil_at(factor, -enclosures.BITS) if factor.denominator & (factor.denominator - 1) else factor.numerator
    exp = -enclosures.BITS if factor.denominator & (factor.denominator - 1) else 1 - factor.denominator.bit_length()
    return _settle(r.groups, [v * scaled for v in r.values], r.exp + exp)


def _together(a: Radii, b: Radii) -> tuple[Radii, list[int], list[int], int]:
    """Two radii over one partition (the one with fewer groups) and one exponent."""
    target = a.groups if len(a.values) <= len(b.values) else b.groups
    a, b = regroup(a, target), regroup(b, target)
    exp = min(a.exp, b.exp)
    return a, rescale(a.values, a.exp, exp), rescale(b.values, b.exp, exp), exp


def _add(a: Radii | None, b: Radii | None) -> Radii | None:
    if a is None or b is None:
        return a or b
    first, x, y, exp = _together(a, b)
    return _settle(first.groups, [p + q for p, q in zip(x, y, strict=True)], exp)


def slopes(node: Node, given: Tensor) -> tuple[list[int], list[int], int]:
    """Per entry, the range of the activation's slope between any two points of `given`: (lo, hi, exponent)."""
    size, op, exp = node.size, node.op, -enclosures.BITS
    one = 1 << enclosures.BITS
    outer = {"relu": (0, one), "abs": (-one, one), "clamp": (0, one)}.get(op) or enclosures.GLOBAL_SLOPE.get(op)
    if op == "leaky_relu":
        outer = (ceil_at(node.attrs["slope"], exp) - 1, one)
    if outer is None:
        raise CheckError("UNSUPPORTED", "an activation with bounded slopes", op)
    if not given.bounded:
        return [outer[0]] * size, [outer[1]] * size, exp
    lo, hi = given.snapped(exp)
    if op in enclosures.SLOPE:
        bounds = [enclosures.SLOPE[op](p, q) for p, q in zip(lo, hi, strict=True)]
        return [b[0] for b in bounds], [b[1] for b in bounds], exp
    if op == "clamp":  # flat outside [floor, ceiling], slope 1 inside
        floor, ceiling = node.attrs["lo"], node.attrs["hi"]
        below = None if floor is None else ceil_at(floor, exp) - 1  # strictly conservative on both sides
        above = None if ceiling is None else ceil_at(ceiling, exp)
        pairs = [
            (0, 0) if (below is not None and q <= below) or (above is not None and p >= above)
            else (one, one) if (below is None or p > below) and (above is None or q < above)
            else (0, one)
            for p, q in zip(lo, hi, strict=True)
        ]  # fmt: skip
    else:
        left = 0 if op == "relu" else outer[0]
        pairs = [(left, left) if q <= 0 else (one, one) if p >= 0 else outer for p, q in zip(lo, hi, strict=True)]
        if op == "leaky_relu":  # `outer[0]` is the slope rounded down; its own upper bound is one unit above
            pairs = [(p, q + (q == p == outer[0])) for p, q in pairs]
    return [p for p, _ in pairs], [q for _, q in pairs], exp


class Propagation:
    """One pass over a function. `ranges` enclose every node over the region; `spectral` bounds constant matrices."""

    def __init__(self, function: Function, ranges: list[Tensor], spectral: Spectral) -> None:
        self.nodes, self.ranges, self.spectral = function.nodes, ranges, spectral

    def run(self, parts: list[Radii | None], given: Radii | None) -> list[Radii | None]:
        radii: list[Radii | None] = []
        for i, node in enumerate(self.nodes):
            if node.op == "state":
                radii.append(parts[node.attrs["part"]])
            elif node.op == "input":
                radii.append(given)
            elif all(radii[j] is None for j in node.args):
                radii.append(None)  # both evaluations agree here
            else:
                radii.append(self._node(i, node, [radii[j] for j in node.args]))
        return radii

    def _node(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        if node.op in ("mul", "div", "matmul", "concat", "add", "sub", "max", "min"):
            return self.SEVERAL[node.op](self, node, args)
        (r, *_) = args
        if r is None:
            raise CheckError("UNSUPPORTED", f"a first argument that varies in {node.op}", "a constant")
        if node.op in ACTIVATIONS:
            lo, hi, exp = slopes(node, self.ranges[node.args[0]])
            return _times(r, [max(-p, q) for p, q in zip(lo, hi, strict=True)], exp)
        if node.op in ROW_NORMS:
            return self._row_norm(node, r)
        if node.op not in self.SINGLE:
            raise CheckError("UNSUPPORTED", "an operation with a radius rule", node.op)
        return self.SINGLE[node.op](self, node, r)

    # operations with one varying argument

    def _layout(self, node: Node, r: Radii) -> Radii:
        if node.layout is None:
            return r
        seen: dict[int, int] = {}
        copies = []  # how often each entry's source was used before
        for source in node.layout:
            copies.append(seen.get(source, 0))
            seen[source] = copies[-1] + 1
        group = r.groups or range(len(r.values))
        if r.groups is not None and node.op == "unfold":  # overlapping patches stay one group, √multiplicity larger
            most = max((count for source, count in seen.items() if source >= 0), default=1)
            r = _constant_times(r, sqrt_up(Fraction(most)))
            copies = [0] * len(copies)
        keys = [(-1, 0) if s < 0 else (group[s], c) for s, c in zip(node.layout, copies, strict=True)]
        if r.groups is None:
            return Radii(None, [0 if s < 0 else r.values[s] for s in node.layout], r.exp)
        groups = _compact(keys)
        values = {g: 0 if key[0] < 0 else r.values[key[0]] for g, key in zip(groups, keys, strict=True)}
        return Radii(groups, [values[g] for g in range(len(values))], r.exp)

    def _linear(self, node: Node, r: Radii) -> Radii:
        weight = self.ranges[node.args[1]]
        return self._by_matrix(
            r, rows_of(weight.ends()[0], weight.shape[1]), weight.exp, self.spectral.get(node.args[1])
        )

    def _sum(self, node: Node, r: Radii) -> Radii:
        return self._by_matrix(r, [[1] * self.ranges[node.args[0]].shape[-1]], 0, None)

    @staticmethod
    def _by_matrix(r: Radii, matrix: list[list[int]], exp: int, bound: Fraction | None) -> Radii:
        """Every last-axis row times one matrix (out, in)."""
        width = len(matrix[0])
        if r.groups is None:
            rows = rows_of(r.values, width)
            totals = [dot(map(abs, w), row) for w in matrix for row in rows]  # each |row| of W is formed once per row
            count = len(rows)
            return _settle(None, [totals[o * count + t] for t in range(count) for o in range(len(matrix))], r.exp + exp)
        rows = rows_of(r.groups, width)
        component = list(range(len(r.values)))  # union-find over groups that meet in a row

        def find(g: int) -> int:
            while component[g] != g:
                component[g] = component[component[g]]
                g = component[g]
            return g

        for row in rows:
            for g in set(row):
                component[find(g)] = find(row[0])
        gains: dict[tuple[int, ...], Fraction] = {}

        def gain(columns: tuple[int, ...]) -> Fraction:
            """‖W restricted to the columns‖₂: the proved bound of the whole, or Frobenius."""
            if columns not in gains:
                square = sum(dot(part, part) for part in ([w[c] for c in columns] for w in matrix))
                frobenius = sqrt_up(square * dyadic(1, 2 * exp))
                gains[columns] = frobenius if bound is None else min(bound, frobenius)
            return gains[columns]

        largest: dict[int, Fraction] = {}
        for row in rows:
            members: dict[int, list[int]] = {}
            for column, g in enumerate(row):
                members.setdefault(g, []).append(column)
            for g, columns in members.items():
                largest[g] = max(largest.get(g, Fraction(0)), gain(tuple(columns)))
        out = _compact([find(row[0]) for row in rows for _ in matrix])
        number = {find(row[0]): out[t * len(matrix)] for t, row in enumerate(rows)}
        sums = [Fraction(0)] * len(number)
        squares = [0] * len(number)
        for g, value in largest.items():
            sums[number[find(g)]] += value * r.values[g]
            squares[number[find(g)]] += r.values[g] ** 2
        whole = gain(tuple(range(width)))  # all groups of a component together, as one vector
        bounds = [min(t, whole * sqrt_up(Fraction(s))) for t, s in zip(sums, squares, strict=True)]
        return _settle(out, [ceil_at(t, -enclosures.BITS) for t in bounds], r.exp - enclosures.BITS)

    def _scale(self, node: Node, r: Radii) -> Radii:
        return _constant_times(r, abs(node.attrs["factor"]))

    def _amax(self, node: Node, r: Radii) -> Radii:
        entries = rows_of(r.of_entries(), self.ranges[node.args[0]].shape[-1])
        return Radii(None, list(map(max, entries)), r.exp)

    def _row_norm(self, node: Node, r: Radii) -> Radii:
        m = node.shape[-1]
        if node.op == "softmax":
            if r.groups is not None:
                return _constant_times(_by_row(r, m), Fraction(1, 2))
            values = []
            for row in rows_of(r.values, m):
                first, second = sorted(row)[-1], (sorted(row)[-2] if m > 1 else 0)
                values += [v + (second if v == first else first) for v in row]
            return Radii(None, values, r.exp - 2)
        r, given = regroup(r, _rows(node.size, m)), self.ranges[node.args[0]]
        if not given.bounded:
            least = [node.attrs["eps"]] * (node.size // m)
        else:
            a, divisor = (centred(given), m**3) if node.op == "layer_norm" else (given, m)
            least = [small + node.attrs["eps"] for small, _ in mean_square(a, divisor)]
        factors = [ceil_at(sqrt_up(1 / v), -enclosures.BITS) for v in least]
        return _settle(r.groups, list(map(mul, r.values, factors)), r.exp - enclosures.BITS)

    # operations with several arguments

    def _sum_of(self, node: Node, args: list[Radii | None]) -> Radii | None:
        return _add(*args)

    def _concat(self, node: Node, args: list[Radii | None]) -> Radii:
        exp = min(r.exp for r in args if r is not None)
        single = all(r is None or r.groups is None for r in args)
        values: list[int] = []
        groups: list[int] = []
        for r, i in zip(args, node.args, strict=True):
            size, start = self.nodes[i].size, len(values)
            part = Radii(None if single else [0] * size, [0] * (size if single else 1), exp) if r is None else r
            groups += [start + g for g in (part.groups or range(size))]
            values += rescale(part.values, part.exp, exp)
        return self._layout(node, Radii(None if single else groups, values, exp))

    def _extremum(self, node: Node, args: list[Radii | None]) -> Radii | None:
        a, b = args
        if a is None or b is None:
            return a or b
        first, x, y, exp = _together(a, b)
        if first.groups is None:
            return Radii(None, list(map(max, x, y)), exp)
        return _settle(first.groups, [_hypot([p, q]) for p, q in zip(x, y, strict=True)], exp - GUARD)

    def _mul(self, node: Node, args: list[Radii | None]) -> Radii | None:
        terms = []
        for r, other in zip(args, reversed(node.args), strict=True):
            if r is not None:
                bound = self.ranges[other]
                terms.append(_times(r, bound.magnitude(), bound.exp))
        return _add(terms[0], terms[1] if len(terms) > 1 else None)

    def _div(self, node: Node, args: list[Radii | None]) -> Radii | None:
        if args[1] is not None or args[0] is None:
            raise CheckError("UNSUPPORTED", "a divisor that does not vary", node.op)
        inverse = reciprocal(self.ranges[node.args[1]])
        return _times(args[0], inverse.magnitude(), inverse.exp)

    def _matmul(self, node: Node, args: list[Radii | None]) -> Radii | None:
        """Δ(AB) = A ΔB + ΔA B′, each term bounded with the other factor's range."""
        left, right = (self.ranges[i] for i in node.args)
        count, inner = left.shape[-2:]
        columns = right.shape[-1]
        blocks = left.size // (count * inner)
        first = None if args[1] is None else self._mix(node, _by_row(args[1], columns), (blocks, count, inner, columns))
        if args[0] is None:
            return first
        r, magnitude = _by_row(args[0], inner), right.magnitude()
        if r.groups is None:
            values = []
            for block in range(blocks):
                part = magnitude[block * inner * columns : (block + 1) * inner * columns]
                for row in rows_of(r.values[block * count * inner : (block + 1) * count * inner], inner):
                    values += [dot(row, part[j::columns]) for j in range(columns)]
            return _add(first, _settle(None, values, r.exp + right.exp))
        roots = [_hypot(part) for part in rows_of(magnitude, inner * columns)]
        values = [v * roots[t // count] for t, v in enumerate(r.values)]
        return _add(first, _settle(_rows(node.size, columns), values, r.exp + right.exp - GUARD))

    def _is_stochastic(self, i: int) -> bool:
        """Whether every last-axis row is a softmax, moved about as a whole."""
        while self.nodes[i].op in LAYOUTS:
            node, i = self.nodes[i], self.nodes[i].args[0]
            width = node.shape[-1] if node.shape else 0
            if not width or self.nodes[i].shape[-1:] != (width,):
                return False
            rows = [] if node.layout is None else rows_of(node.layout, width)
            if any(r[0] < 0 or r[0] % width or r != list(range(r[0], r[0] + width)) for r in rows):
                return False
        return self.nodes[i].op == "softmax"

    def _mix(self, node: Node, r: Radii, sizes: tuple[int, int, int, int]) -> Radii:
        """A ΔB: tokens mixed by A, whose rows are non-negative and sum to one when A is a softmax."""
        blocks, count, inner, columns = sizes
        per_row = rows_of(r.values, columns) if r.groups is None else [[v] for v in r.values]
        stochastic, a = self._is_stochastic(node.args[0]), self.ranges[node.args[0]]
        weights = rows_of(a.magnitude(), inner)
        one = 1 << max(-a.exp, 0)
        values = []
        for block in range(blocks):
            tokens = list(zip(*per_row[block * inner : (block + 1) * inner], strict=True))
            for t in range(count):
                w = weights[block * count + t]
                for column in tokens:
                    weighted = dot(w, column)
                    values.append(min(max(column) * one, weighted) if stochastic and a.exp <= 0 else weighted)
        return _settle(None if r.groups is None else _rows(node.size, columns), values, r.exp + a.exp)

    SINGLE: dict[str, Callable[[Propagation, Node, Radii], Radii]] = {
        **dict.fromkeys(("reshape", "permute", "slice", "select", "expand", "pad", "unfold"), _layout),
        "linear": _linear, "sum": _sum, "scale": _scale, "amax": _amax,
    }  # fmt: skip
    SEVERAL: dict[str, Callable[[Propagation, Node, list[Radii | None]], Radii | None]] = {
        "add": _sum_of, "sub": _sum_of, "max": _extremum, "min": _extremum, "mul": _mul, "div": _div,
        "matmul": _matmul, "concat": _concat,
    }  # fmt: skip
