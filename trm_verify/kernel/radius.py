"""R1, radius propagation: how far apart two evaluations of a function can be, node by node.

Every operation below is monotone and positively homogeneous in the radii. Proof: proofs/radius_propagation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from operator import mul

from trm_verify.kernel import enclosures
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, ROW_NORMS, Function, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.numbers import ceil_at, dot, dyadic, rescale, rows_of, sqrt_up
from trm_verify.kernel.operations import centred, mean_square, reciprocal
from trm_verify.kernel.radii import (
    GUARD,
    Radii,
    add,
    by_gains,
    by_row,
    compact,
    constant_times,
    hypot,
    regroup,
    row_groups,
    settle_radii,
    tighter,
    times,
    together,
)  # fmt: skip
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor

Spectral = dict[int, Fraction]  # proved ‖W‖₂ of constant nodes
Gains = dict[int, list[tuple[tuple[int, ...], tuple[Fraction, ...]]]]  # of a node: (arguments, gains) that are proved


class Propagation:
    """One pass over a function. `ranges` enclose every node over the region; `spectral` bounds constant matrices.

    `gains` bound whole subgraphs: a node that has some takes its radii from them instead of from its arguments.
    """

    def __init__(
        self, function: Function, ranges: list[Tensor], spectral: Spectral, gains: Gains | None = None
    ) -> None:
        self.nodes, self.ranges, self.spectral = function.nodes, ranges, spectral
        self.gains: Gains = gains or {}
        self.needed = self._needed(function.outputs)
        self.stochastic: dict[int, bool] = {}  # see `_is_stochastic`

    def _needed(self, outputs: Sequence[int]) -> set[int]:
        """Nodes whose radii the outputs need: not those inside a subgraph with proved gains."""
        found: set[int] = set()
        stack = list(outputs)
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += [j for args, _ in self.gains[i] for j in args] if i in self.gains else self.nodes[i].args
        return found

    def run(self, parts: list[Radii | None], given: Radii | None) -> list[Radii | None]:
        """The radii of every needed node; None also where both evaluations agree."""
        if self.gains and given is not None:
            raise CheckError("PREMISE", "no row gains where the input varies: they compare states at one input", "some")
        radii: list[Radii | None] = []
        for i, node in enumerate(self.nodes):
            if node.op == "state":
                radii.append(parts[node.attrs["part"]])
            elif node.op == "input":
                radii.append(given)
            elif i not in self.needed:
                radii.append(None)
            elif i in self.gains:
                radii.append(self._gained(i, node, radii))
            elif all(radii[j] is None for j in node.args):
                radii.append(None)  # both evaluations agree here
            else:
                radii.append(self._node(i, node, [radii[j] for j in node.args]))
        return radii

    def _gained(self, i: int, node: Node, radii: list[Radii | None]) -> Radii | None:
        """By the proved gains of the subgraph that ends here."""
        found: Radii | None = None
        for places, gains in self.gains[i]:
            args = [(r, gain) for r, gain in zip((radii[j] for j in places), gains, strict=True) if r is not None]
            if not args:
                return None
            new = by_gains(args, node.size // node.shape[-1], node.shape[-1])
            found = new if found is None else tighter(found, new)
        return found

    def _node(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        if node.op in ("mul", "div", "matmul", "concat", "add", "sub", "max", "min"):
            return self.SEVERAL[node.op](self, node, args)
        (r, *_) = args
        if r is None:
            raise CheckError("UNSUPPORTED", f"a first argument that varies in {node.op}", "a constant")
        if node.op in ACTIVATIONS:
            lo, hi, exp = slopes(node, self.ranges[node.args[0]])
            return times(r, [max(-p, q) for p, q in zip(lo, hi, strict=True)], exp)
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
            r = constant_times(r, sqrt_up(Fraction(most)))
            copies = [0] * len(copies)
        keys = [(-1, 0) if s < 0 else (group[s], c) for s, c in zip(node.layout, copies, strict=True)]
        if r.groups is None:
            return Radii(None, [0 if s < 0 else r.values[s] for s in node.layout], r.exp)
        groups = compact(keys)
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
            return settle_radii(
                None, [totals[o * count + t] for t in range(count) for o in range(len(matrix))], r.exp + exp
            )
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
        out = compact([find(row[0]) for row in rows for _ in matrix])
        number = {find(row[0]): out[t * len(matrix)] for t, row in enumerate(rows)}
        sums = [Fraction(0)] * len(number)
        squares = [0] * len(number)
        for g, value in largest.items():
            sums[number[find(g)]] += value * r.values[g]
            squares[number[find(g)]] += r.values[g] ** 2
        whole = gain(tuple(range(width)))  # all groups of a component together, as one vector
        bounds = [min(t, whole * sqrt_up(Fraction(s))) for t, s in zip(sums, squares, strict=True)]
        return settle_radii(out, [ceil_at(t, -enclosures.BITS) for t in bounds], r.exp - enclosures.BITS)

    def _scale(self, node: Node, r: Radii) -> Radii:
        return constant_times(r, abs(node.attrs["factor"]))

    def _amax(self, node: Node, r: Radii) -> Radii:
        entries = rows_of(r.of_entries(), self.ranges[node.args[0]].shape[-1])
        return Radii(None, list(map(max, entries)), r.exp)

    def _row_norm(self, node: Node, r: Radii) -> Radii:
        m = node.shape[-1]
        if node.op == "softmax":
            if r.groups is not None:
                return constant_times(by_row(r, m), Fraction(1, 2))
            values = []
            for row in rows_of(r.values, m):
                first, second = sorted(row)[-1], (sorted(row)[-2] if m > 1 else 0)
                values += [v + (second if v == first else first) for v in row]
            return Radii(None, values, r.exp - 2)
        r, given = regroup(r, row_groups(node.size, m)), self.ranges[node.args[0]]
        if not given.bounded:
            least = [node.attrs["eps"]] * (node.size // m)
        else:
            a, divisor = (centred(given), m**3) if node.op == "layer_norm" else (given, m)
            least = [small + node.attrs["eps"] for small, _ in mean_square(a, divisor)]
        factors = [ceil_at(sqrt_up(1 / v), -enclosures.BITS) for v in least]
        return settle_radii(r.groups, list(map(mul, r.values, factors)), r.exp - enclosures.BITS)

    # operations with several arguments

    def _sum_of(self, node: Node, args: list[Radii | None]) -> Radii | None:
        return add(*args)

    def _concat(self, node: Node, args: list[Radii | None]) -> Radii:
        exp = min(r.exp for r in args if r is not None)
        single = all(r is None or r.groups is None for r in args)
        values: list[int] = []
        groups: list[int] = []
        for r, i in zip(args, node.args, strict=True):
            size, start = self.nodes[i].size, len(values)
            # entries that do not vary: a group of their own each, since one group would join the rows that it is in
            part = Radii(None, [0] * size, exp) if r is None else r
            groups += [start + g for g in (part.groups or range(size))]
            values += rescale(part.values, part.exp, exp)
        return self._layout(node, Radii(None if single else groups, values, exp))

    def _extremum(self, node: Node, args: list[Radii | None]) -> Radii | None:
        a, b = args
        if a is None or b is None:
            return a or b
        first, x, y, exp = together(a, b)
        if first.groups is None:
            return Radii(None, list(map(max, x, y)), exp)
        return settle_radii(first.groups, [hypot([p, q]) for p, q in zip(x, y, strict=True)], exp - GUARD)

    def _mul(self, node: Node, args: list[Radii | None]) -> Radii | None:
        terms = []
        for r, other in zip(args, reversed(node.args), strict=True):
            if r is not None:
                bound = self.ranges[other]
                terms.append(times(r, bound.magnitude(), bound.exp))
        return add(terms[0], terms[1] if len(terms) > 1 else None)

    def _div(self, node: Node, args: list[Radii | None]) -> Radii | None:
        if args[1] is not None or args[0] is None:
            raise CheckError("UNSUPPORTED", "a divisor that does not vary", node.op)
        inverse = reciprocal(self.ranges[node.args[1]])
        return times(args[0], inverse.magnitude(), inverse.exp)

    def _matmul(self, node: Node, args: list[Radii | None]) -> Radii | None:
        """Δ(AB) = A ΔB + ΔA B′, each term bounded with the other factor's range."""
        left, right = (self.ranges[i] for i in node.args)
        count, inner = left.shape[-2:]
        columns = right.shape[-1]
        blocks = left.size // (count * inner)
        first = None if args[1] is None else self._mix(node, by_row(args[1], columns), (blocks, count, inner, columns))
        if args[0] is None:
            return first
        r, magnitude = by_row(args[0], inner), right.magnitude()
        if r.groups is None:
            values = []
            for block in range(blocks):
                part = magnitude[block * inner * columns : (block + 1) * inner * columns]
                for row in rows_of(r.values[block * count * inner : (block + 1) * count * inner], inner):
                    values += [dot(row, part[j::columns]) for j in range(columns)]
            return add(first, settle_radii(None, values, r.exp + right.exp))
        roots = [hypot(part) for part in rows_of(magnitude, inner * columns)]
        values = [v * roots[t // count] for t, v in enumerate(r.values)]
        return add(first, settle_radii(row_groups(node.size, columns), values, r.exp + right.exp - GUARD))

    def _is_stochastic(self, i: int) -> bool:
        """Whether every last-axis row is a softmax, moved about as a whole."""
        passed = []
        while i not in self.stochastic and self.nodes[i].op in LAYOUTS and self._moves_rows(self.nodes[i]):
            passed.append(i)
            (i,) = self.nodes[i].args
        found = self.stochastic.setdefault(i, self.nodes[i].op == "softmax")
        self.stochastic.update(dict.fromkeys(passed, found))
        return found

    def _moves_rows(self, node: Node) -> bool:
        """Whether a change of layout leaves every last-axis row whole."""
        width = node.shape[-1] if node.shape else 0
        if not width or self.nodes[node.args[0]].shape[-1:] != (width,):
            return False
        rows = [] if node.layout is None else rows_of(node.layout, width)
        return all(r[0] >= 0 and r[0] % width == 0 and r == list(range(r[0], r[0] + width)) for r in rows)

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
        return settle_radii(None if r.groups is None else row_groups(node.size, columns), values, r.exp + a.exp)

    SINGLE: dict[str, Callable[[Propagation, Node, Radii], Radii]] = {
        **dict.fromkeys(("reshape", "permute", "slice", "select", "expand", "pad", "unfold"), _layout),
        "linear": _linear, "sum": _sum, "scale": _scale, "amax": _amax,
    }  # fmt: skip
    SEVERAL: dict[str, Callable[[Propagation, Node, list[Radii | None]], Radii | None]] = {
        "add": _sum_of, "sub": _sum_of, "max": _extremum, "min": _extremum, "mul": _mul, "div": _div,
        "matmul": _matmul, "concat": _concat,
    }  # fmt: skip
