"""R1, radius propagation, as terms: a bound per group on how far two evaluations differ.

Proof: proofs/radius_propagation.md.

Where the kernel takes the smaller of two bounds, the exporter takes the one that is smaller by its own arithmetic;
either is sound, and the solver sees that one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from trm_verify.kernel.graph import ACTIVATIONS, CONSTANT, ROW_NORMS, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.numbers import sqrt_up
from trm_verify.kernel.operations import centred, mean_square
from trm_verify.kernel.radius import Gains, Propagation
from trm_verify.obligations.forms import sector
from trm_verify.obligations.radii import Radii, compact, greatest, size_of
from trm_verify.obligations.terms import ONE, ZERO, NotExported, Term, absolute, add, at_most, larger, number
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import rows_of

ROUGH = "roots and rounded bounds are large enough"
Columns = tuple[int, ...]


class RadiusPass:
    """One pass over a function. `values` gives constants and ranges, `bounds` proved norms of constant nodes.

    `gains` are those of whole subgraphs, which the pass goes around.
    """

    def __init__(self, values: Values, bounds: dict[int, Fraction], gains: Gains | None = None) -> None:
        self.values, self.bounds, self.nodes = values, bounds, values.nodes
        self.script, self.gains = values.script, gains or {}
        self.structure = Propagation(values.function, list(values.ranges), {}, self.gains)

    def run(self, parts: Sequence[Radii | None]) -> list[Radii | None]:
        """The radii of every node, the input being the same in both evaluations."""
        radii: list[Radii | None] = []
        for i, node in enumerate(self.nodes):
            args = [radii[j] for j in node.args]
            if node.op == "state":
                radii.append(parts[node.attrs["part"]])
            elif i not in self.structure.needed:
                radii.append(None)
            elif i in self.gains:
                radii.append(self._named(i, self._by_gains(i, node, radii)))
            elif all(r is None for r in args):
                radii.append(None)
            else:
                radii.append(self._named(i, self._node(i, node, args)))
        return radii

    def _by_gains(self, i: int, node: Node, radii: list[Radii | None]) -> Radii | None:
        """√(Σ γ²‖Δa‖²) over the smallest sets of rows that no group leaves: the best of the proved inequalities."""
        found: Radii | None = None
        width = node.shape[-1]
        count = node.size // width
        for places, gains in self.gains[i]:
            args = [(r, gain) for r, gain in zip((radii[j] for j in places), gains, strict=True) if r is not None]
            if not args:
                return None
            sets: list[set[int]] = [{t} for t in range(count)]
            for r, _ in args:
                for g in set(r.groups or ()):
                    rows = {e * count // len(r.groups or ()) for e, own in enumerate(r.groups or ()) if own == g}
                    joined = set().union(*(sets[t] for t in rows))
                    for t in joined:
                        sets[t] = joined
            of_row = compact([min(own) for own in sets])
            values = []
            for c in range(max(of_row) + 1):
                terms = []
                for r, gain in args:
                    entries = r.groups if r.groups is not None else list(range(len(r.values)))
                    own = dict.fromkeys(g for e, g in enumerate(entries) if of_row[e * count // len(entries)] == c)
                    terms += [self.script.mul(number(gain), r.values[g]) for g in own]
                values.append(self.length(terms))
            new = Radii([t for t in of_row for _ in range(width)], values)
            found = new if found is None else self._tighter(found, new)
        return found

    def _tighter(self, a: Radii, b: Radii) -> Radii:
        if a.groups != b.groups:
            return a if len(a.values) >= len(b.values) else b
        return Radii(a.groups, [min(pair, key=size_of) for pair in zip(a.values, b.values, strict=True)])

    def outputs(self, radii: list[Radii | None], groups: list[int] | None) -> Radii:
        """The outputs of the function end to end, over the given groups."""
        flat: list[Term] = []
        own: list[int] = []
        for i in self.values.outputs:
            r, size, start = radii[i], self.nodes[i].size, len(flat)
            own += [start + g for g in (range(size) if r is None or r.groups is None else r.groups)]
            flat += [ZERO] * size if r is None else [*r.values, *[ZERO] * (size - len(r.values))]
        return self.regroup(Radii(own, flat), groups)

    def _named(self, i: int, r: Radii | None) -> Radii | None:
        if r is None:
            return None
        return Radii(r.groups, [self.script.define(f"r{i}.{g}", v) for g, v in enumerate(r.values)])

    def length(self, terms: Sequence[Term]) -> Term:
        return self.script.length(terms, ROUGH)

    def regroup(self, r: Radii, groups: list[int] | None) -> Radii:
        """The same bound over another partition: a piece is at most its group, pieces add up in ℓ2."""
        if groups is None or groups == r.groups:
            return Radii(groups, r.of_entries() if groups is None else r.values[: max(groups) + 1])
        sources: list[dict[int, None]] = [{} for _ in range(max(groups) + 1)]
        for entry, target in enumerate(groups):
            sources[target][entry if r.groups is None else r.groups[entry]] = None
        return Radii(groups, [self.length([r.values[g] for g in own]) for own in sources])

    def by_row(self, r: Radii, width: int) -> Radii:
        return r if r.groups is None else self.regroup(r, [i // width for i in range(len(r.groups))])

    def scaled(self, r: Radii, factors: Sequence[Term]) -> Radii:
        """Each group times the largest of its entries' factors."""
        if r.groups is None:
            return Radii(None, [self.script.mul(f, v) for f, v in zip(factors, r.values, strict=True)])
        own: list[list[Term]] = [[] for _ in r.values]
        for g, f in zip(r.groups, factors, strict=True):
            own[g].append(f)
        return Radii(r.groups, [self.script.mul(greatest(fs), v) for fs, v in zip(own, r.values, strict=True)])

    def together(self, a: Radii, b: Radii) -> tuple[list[int] | None, list[tuple[Term, Term]]]:
        """Two radii over the partition with fewer groups."""
        target = a.groups if len(a.values) <= len(b.values) else b.groups
        a, b = self.regroup(a, target), self.regroup(b, target)
        return target, list(zip(a.values, b.values, strict=True))

    def sum(self, a: Radii | None, b: Radii | None) -> Radii | None:
        if a is None or b is None:
            return a or b
        groups, pairs = self.together(a, b)
        return Radii(groups, [add(pair) for pair in pairs])

    def magnitude(self, i: int, entry: int) -> Term:
        """A literal that bounds one entry's absolute value."""
        term = self.values.of(i)[entry] if self.nodes[i].kind == CONSTANT else None
        if term is not None and term.value is not None:
            return self.script.define("size", absolute(term))
        low, high = self.values.interval(i, entry)
        if low is None or high is None:
            raise NotExported("a product with an unbounded factor")
        return number(max(-low, high))

    # operations

    def _node(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        if node.op in SEVERAL:
            return SEVERAL[node.op](self, i, node, args)
        r = args[0]
        if r is None:
            raise NotExported(f"a constant first argument in {node.op}")
        if node.op in ACTIVATIONS:
            ends = [sector(self.values, i, entry) for entry in range(node.size)]
            return self.scaled(r, [number(max(-low, high)) for low, high in ends])
        if node.op in LAYOUTS:
            return self._layout(node, r)
        if node.op == "scale":
            return Radii(r.groups, [self.script.mul(number(abs(node.attrs["factor"])), v) for v in r.values])
        if node.op == "sum":
            return self._by_matrix(r, [[ONE] * self.nodes[node.args[0]].shape[-1]], None)
        if node.op == "linear":
            weights = self.values.of(node.args[1])
            matrix = rows_of(weights, self.nodes[node.args[1]].shape[1])
            return self._by_matrix(r, matrix, self.bounds.get(node.args[1]))
        if node.op == "amax":
            rows = rows_of(r.of_entries(), self.nodes[node.args[0]].shape[-1])
            return Radii(None, [greatest(row) for row in rows])
        if node.op == "softmax":
            return self._softmax(node, r)
        if node.op in ROW_NORMS:
            return self._row_norm(node, r)
        raise NotExported(f"no radius of {node.op}")

    def _layout(self, node: Node, r: Radii) -> Radii:
        if node.layout is None:
            return r
        if r.groups is None:
            return Radii(None, [ZERO if s < 0 else r.values[s] for s in node.layout])
        counts: dict[int, int] = {}
        copies = []
        for source in node.layout:
            copies.append(counts.get(source, 0))
            counts[source] = copies[-1] + 1
        values = r.values
        if node.op == "unfold":  # overlapping patches stay one group
            most = max((count for source, count in counts.items() if source >= 0), default=1)
            root = self.length([ONE] * most)
            values, copies = [self.script.mul(root, v) for v in values], [0] * len(copies)
        keys = [(-1, 0) if s < 0 else (r.groups[s], c) for s, c in zip(node.layout, copies, strict=True)]
        groups = compact(keys)
        of_group = {g: ZERO if key[0] < 0 else values[key[0]] for g, key in zip(groups, keys, strict=True)}
        return Radii(groups, [of_group[g] for g in range(len(of_group))])

    def _by_matrix(self, r: Radii, matrix: list[list[Term]], bound: Fraction | None) -> Radii:
        """Every last-axis row times one matrix (out, in)."""
        width, script = len(matrix[0]), self.script
        sizes = [[script.define("size", absolute(w)) for w in row] for row in matrix]
        if r.groups is None:
            rows = rows_of(r.values, width)
            return Radii(
                None, [add([script.mul(w, v) for w, v in zip(ws, row, strict=True)]) for row in rows for ws in sizes]
            )
        parts_of = rows_of(r.groups, width)
        component = list(range(len(r.values)))

        def find(g: int) -> int:
            while component[g] != g:
                g = component[g]
            return g

        for row in parts_of:
            for g in set(row):
                component[find(g)] = find(row[0])
        gains: dict[Columns, Term] = {}

        def gain(columns: Columns) -> Term:
            """A literal ≥ the norm of some columns: the proved bound of them all, or Frobenius."""
            if columns not in gains:
                square = sum((size_of(ws[c]) ** 2 for ws in sizes for c in columns), Fraction(0))
                if bound is not None and bound <= sqrt_up(square):
                    gains[columns] = number(bound)
                else:
                    gains[columns] = self.length([ws[c] for ws in sizes for c in columns])
            return gains[columns]

        best: dict[int, Term] = {}
        for row in parts_of:
            members: dict[int, list[int]] = {}
            for column, g in enumerate(row):
                members.setdefault(g, []).append(column)
            for g, columns in members.items():
                own = gain(tuple(columns))
                best[g] = own if g not in best else max(best[g], own, key=size_of)
        out = compact([find(row[0]) for row in parts_of for _ in matrix])
        place = {find(row[0]): out[t * len(matrix)] for t, row in enumerate(parts_of)}
        parts: list[list[int]] = [[] for _ in place]
        for g in best:
            parts[place[find(g)]].append(g)
        return Radii(out, [self._gained(r, best, own, lambda: gain(tuple(range(width)))) for own in parts])

    def _gained(self, r: Radii, best: dict[int, Term], groups: list[int], whole: Callable[[], Term]) -> Term:
        """The groups of one component, each with its own gain, or all of them as one vector."""
        apart = add([self.script.mul(best[g], r.values[g]) for g in groups])
        square = sum((size_of(r.values[g]) ** 2 for g in groups), Fraction(0))
        if size_of(apart) <= size_of(whole()) * sqrt_up(square):
            return apart
        return self.script.mul(whole(), self.length([r.values[g] for g in groups]))

    def _softmax(self, node: Node, r: Radii) -> Radii:
        self.script.facts["softmax has slopes of at most 1/4, and norm 1/2 in ℓ2"] += 1
        if r.groups is not None:
            own = self.by_row(r, node.shape[-1])
            return Radii(own.groups, [self.script.mul(number(Fraction(1, 2)), v) for v in own.values])
        found = []
        for row in rows_of(r.values, node.shape[-1]):
            for j, v in enumerate(row):
                others = [w for k, w in enumerate(row) if k != j]
                widest = self.script.define("widest", greatest(others)) if others else ZERO
                found.append(self.script.mul(number(Fraction(1, 4)), self.script.define("two", add([v, widest]))))
        return Radii(None, found)

    def _row_norm(self, node: Node, r: Radii) -> Radii:
        self.script.facts[f"{node.op} has slopes of at most 1/√(mean square + eps)"] += 1
        width, eps = node.shape[-1], node.attrs["eps"]
        r = self.regroup(r, [i // width for i in range(node.size)])
        given = self.values.ranges[node.args[0]]
        squares = [Fraction(0)] * (node.size // width)
        if given.bounded:
            for entry in range(node.size):
                self.values.interval(node.args[0], entry)
            own, divisor = (centred(given), width**3) if node.op == "layer_norm" else (given, width)
            squares = [least for least, _ in mean_square(own, divisor)]
            self.script.facts["a least mean square over a box"] += 1
        factors = []
        for least in squares:
            factors.append(number(sqrt_up(1 / (least + eps))))
            square = self.script.mul(factors[-1], factors[-1], number(least + eps))
            self.script.show(at_most(ONE, square), ROUGH)
        return Radii(r.groups, [self.script.mul(f, v) for f, v in zip(factors, r.values, strict=True)])

    def _concat(self, i: int, node: Node, args: list[Radii | None]) -> Radii:
        single = all(r is None or r.groups is None for r in args)
        values: list[Term] = []
        groups: list[int] = []
        for r, j in zip(args, node.args, strict=True):
            size, start = self.nodes[j].size, len(values)
            part = Radii(None if single else [0] * size, [ZERO] * (size if single else 1)) if r is None else r
            groups += [start + g for g in (part.groups or range(size))]
            values += part.values
        return self._layout(node, Radii(None if single else groups, values))

    def _extremum(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        a, b = args
        if a is None or b is None:
            return a or b
        groups, pairs = self.together(a, b)
        return Radii(groups, [larger(*pair) if groups is None else self.length(pair) for pair in pairs])

    def _sum_of(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        return self.sum(*args)

    def _mul(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        terms: list[Radii | None] = []
        for r, other in zip(args, reversed(node.args), strict=True):
            if r is not None:
                terms.append(self.scaled(r, [self.magnitude(other, entry) for entry in range(node.size)]))
        return self.sum(terms[0], terms[1] if len(terms) > 1 else None)

    def _div(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        r = args[0]
        if args[1] is not None or r is None:
            raise NotExported("a divisor that varies")
        factors = []
        for entry in range(node.size):
            low, high = self.values.interval(node.args[1], entry)
            if low is None or high is None or low <= 0 <= high:
                raise NotExported("a divisor whose range is not known to exclude 0")
            factors.append(number(max(1 / abs(low), 1 / abs(high))))
        return self.scaled(r, factors)

    def _matmul(self, i: int, node: Node, args: list[Radii | None]) -> Radii | None:
        """Δ(AB) = A ΔB + ΔA B′."""
        left, right = node.args
        (count, inner), columns = self.nodes[left].shape[-2:], self.nodes[right].shape[-1]
        blocks = node.size // (count * columns)
        first = None
        if args[1] is not None:
            first = self._mix(node, self.by_row(args[1], columns), (blocks, count, inner, columns))
        if args[0] is None:
            return first
        r = self.by_row(args[0], inner)
        sizes = [self.magnitude(right, entry) for entry in range(self.nodes[right].size)]
        values = []
        for t in range(blocks * count):
            part = sizes[t // count * inner * columns :][: inner * columns]
            if r.groups is None:
                row = r.values[t * inner : (t + 1) * inner]
                values += [
                    add([self.script.mul(m, v) for m, v in zip(part[j::columns], row, strict=True)])
                    for j in range(columns)
                ]
            else:
                values.append(self.script.mul(self.length(part), r.values[t]))
        return self.sum(first, Radii(None if r.groups is None else _row_groups(node.size, columns), values))

    def _mix(self, node: Node, r: Radii, sizes: tuple[int, int, int, int]) -> Radii:
        """A ΔB: tokens mixed by A, whose rows are non-negative and sum to one when A is a softmax."""
        blocks, count, inner, columns = sizes
        per_row = rows_of(r.values, columns) if r.groups is None else [[v] for v in r.values]
        stochastic = self.structure._is_stochastic(node.args[0])
        if stochastic:
            self.script.facts["the rows of a softmax are non-negative and sum to one"] += 1
        values = []
        for row in range(blocks * count):
            tokens = list(zip(*per_row[row // count * inner :][:inner], strict=True))
            for column in tokens:
                if stochastic:
                    values.append(greatest(column))
                else:
                    weights = [self.magnitude(node.args[0], row * inner + k) for k in range(inner)]
                    values.append(add([self.script.mul(w, v) for w, v in zip(weights, column, strict=True)]))
        return Radii(None if r.groups is None else _row_groups(node.size, columns), values)


def _row_groups(size: int, width: int) -> list[int]:
    return [i // width for i in range(size)]


SEVERAL: dict[str, Callable[[RadiusPass, int, Node, list[Radii | None]], Radii | None]] = {
    "add": RadiusPass._sum_of, "sub": RadiusPass._sum_of, "max": RadiusPass._extremum, "min": RadiusPass._extremum,
    "mul": RadiusPass._mul, "div": RadiusPass._div, "matmul": RadiusPass._matmul, "concat": RadiusPass._concat,
}  # fmt: skip
