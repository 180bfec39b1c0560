"""An oracle for tiny piecewise-linear models: every activation pattern, one by one, in rationals.

Nothing here knows the kernel or the provers. A pattern makes the step affine; its fixed points are a polyhedron, which
Gauss elimination and Fourier-Motzkin elimination decide. Exponential in everything, and meant to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from tests.kernel.graphs import dyadic, vector

Json = dict[str, Any]
Row = tuple[Fraction, ...]  # coefficients of the variables, then the constant
ZERO, ONE = Fraction(0), Fraction(1)


def add(a: Row, b: Row, times: Fraction = ONE) -> Row:
    return tuple(p + times * q for p, q in zip(a, b, strict=True))


def scaled(a: Row, times: Fraction) -> Row:
    return tuple(times * p for p in a)


@dataclass(frozen=True)
class Layer:
    """`affine` (matrix, bias), `add` (the rows of an earlier layer), or an activation with its parameter.

    Attributes:
        source: the layer read by `add`, besides the one before; 0 is the state, 1 the first layer.
    """

    kind: str
    matrix: tuple[Row, ...] = ()
    bias: Row = ()
    source: int = 0
    ends: tuple[Fraction | None, Fraction | None] = (None, None)
    slope: Fraction = ZERO


Branch = tuple[Row, list[Row]]  # the value of a unit, and what has to be ≥ 0 for it


def branches(layer: Layer, a: Row) -> list[Branch]:
    """The pieces of an activation."""
    zero = scaled(a, ZERO)
    if layer.kind == "relu":
        return [(a, [a]), (zero, [scaled(a, -ONE)])]
    if layer.kind == "abs":
        return [(a, [a]), (scaled(a, -ONE), [scaled(a, -ONE)])]
    if layer.kind == "leaky_relu":
        return [(a, [a]), (scaled(a, layer.slope), [scaled(a, -ONE)])]
    if layer.kind == "clamp":
        lo, hi = layer.ends
        inside: list[Row] = []
        found: list[Branch] = []
        if lo is not None:
            end = (*zero[:-1], lo)
            inside.append(add(a, end, -ONE))
            found.append((end, [add(end, a, -ONE)]))
        if hi is not None:
            end = (*zero[:-1], hi)
            inside.append(add(end, a, -ONE))
            found.append((end, [add(a, end, -ONE)]))
        return [*found, (a, inside)]
    raise ValueError(layer.kind)


def widest(rows: Sequence[Row], sign: int) -> list[Branch]:
    """Which of the rows is the largest (sign 1) or the least."""
    return [(top, [scaled(add(top, other, -ONE), Fraction(sign)) for other in rows]) for top in rows]


def patterns(layers: Sequence[Layer], start: list[Row], given: list[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """(outputs, conditions ≥ 0) for every pattern, as rows over the variables; `given` are the rows of the input."""
    stack: list[tuple[int, list[list[Row]], list[Row]]] = [(0, [start], [])]
    while stack:
        place, values, conditions = stack.pop()
        if place == len(layers):
            yield values[-1], conditions
            continue
        layer, last = layers[place], values[-1]
        if layer.kind in ("affine", "drive"):
            read = last if layer.kind == "affine" else given
            rows = []
            for weights, bias in zip(layer.matrix, layer.bias, strict=True):
                row = (*[ZERO] * (len(start[0]) - 1), bias)
                for weight, each in zip(weights, read, strict=True):
                    row = add(row, each, weight)
                rows.append(row)
            if layer.kind == "drive":
                rows = [add(p, q) for p, q in zip(last, rows, strict=True)]
            stack.append((place + 1, [*values, rows], conditions))
        elif layer.kind == "add":
            rows = [add(p, q) for p, q in zip(last, values[layer.source], strict=True)]
            stack.append((place + 1, [*values, rows], conditions))
        else:
            if layer.kind in ("max", "min"):
                pairs = zip(last, values[layer.source], strict=True)
                options = [widest(pair, 1 if layer.kind == "max" else -1) for pair in pairs]
            elif layer.kind == "amax":
                width = int(layer.slope)
                options = [widest(last[i : i + width], 1) for i in range(0, len(last), width)]
            else:
                options = [branches(layer, a) for a in last]
            for choice in product(*options):
                more = [row for _, rows in choice for row in rows]
                stack.append((place + 1, [*values, [value for value, _ in choice]], conditions + more))


def reduce(equations: Sequence[Row], variables: int) -> list[Row] | None:
    """The variables as rows over free parameters (and a constant); None when the equations contradict each other."""
    rows = [list(row) for row in equations]
    pivots: list[int] = []
    for column in range(variables):
        place = next((r for r in range(len(pivots), len(rows)) if rows[r][column]), None)
        if place is None:
            continue
        here = len(pivots)
        rows[here], rows[place] = rows[place], rows[here]
        rows[here] = [v / rows[here][column] for v in rows[here]]
        for r in range(len(rows)):
            if r != here and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [v - factor * w for v, w in zip(rows[r], rows[here], strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return None
    free = [c for c in range(variables) if c not in pivots]
    found: list[Row] = []
    for column in range(variables):
        if column in pivots:
            row = rows[pivots.index(column)]
            found.append((*[-row[c] for c in free], -row[-1]))
        else:
            found.append((*[Fraction(int(c == column)) for c in free], ZERO))
    return found


def substitute(row: Row, variables: Sequence[Row]) -> Row:
    total = (*[ZERO] * (len(variables[0]) - 1), row[-1])
    for factor, each in zip(row[:-1], variables, strict=True):
        total = add(total, each, factor)
    return total


def feasible(conditions: Sequence[Row]) -> bool:
    """Whether all rows can be ≥ 0 at once (Fourier-Motzkin)."""
    rows = {_primitive(row) for row in conditions}
    width = len(next(iter(rows))) - 1 if rows else 0
    for column in range(width):
        above = [row for row in rows if row[column] > 0]
        below = [row for row in rows if row[column] < 0]
        rows = {row for row in rows if not row[column]}
        for p, q in product(above, below):
            rows.add(_primitive(add(scaled(p, -q[column]), q, p[column])))
    return all(row[-1] >= 0 for row in rows)


def _primitive(row: Row) -> Row:
    largest = max(map(abs, row), default=ZERO)
    return scaled(row, 1 / largest) if largest else row


@dataclass(frozen=True)
class Tiny:
    """A step on n states (perhaps driven by m inputs), an affine readout, and where to look for fixed points.

    Attributes:
        region: ends of every state, or None for all states; `domain` the ends of every input.
    """

    n: int
    layers: tuple[Layer, ...]
    readout: Layer | None = None
    region: tuple[tuple[Fraction, Fraction], ...] | None = None
    domain: tuple[tuple[Fraction, Fraction], ...] = ()

    def graph(self) -> Json:
        """The same model as a graph of the format."""
        nodes: list[Json] = [{"op": "state", "in": [], "part": 0}]
        driven = any(layer.kind == "drive" for layer in self.layers)
        nodes += [{"op": "input", "in": []}] if driven else []

        def put(**node: Any) -> int:
            nodes.append(node)
            return len(nodes) - 1

        places, sizes = [0], [self.n]
        for layer in self.layers:
            last, size = places[-1], sizes[-1]
            if layer.kind in ("affine", "drive"):
                size = len(layer.bias)
                place = _affine_nodes(layer, last if layer.kind == "affine" else 1, put)
                place = place if layer.kind == "affine" else put(op="add", **{"in": [last, place]})
            elif layer.kind in ("add", "max", "min"):
                place = put(op=layer.kind, **{"in": [last, places[layer.source]]})
            elif layer.kind == "amax":
                width = int(layer.slope)
                size //= width
                place = put(op="amax", **{"in": [put(op="reshape", shape=[size, width], **{"in": [last]})]})
            else:
                attrs: Json = {}
                if layer.kind == "leaky_relu":
                    attrs = {"slope": dyadic(layer.slope)}
                if layer.kind == "clamp":
                    attrs = {k: None if e is None else dyadic(e) for k, e in zip(("lo", "hi"), layer.ends, strict=True)}
                place = put(op=layer.kind, **{"in": [last]}, **attrs)
            places.append(place)
            sizes.append(size)
        step = {"nodes": list(nodes), "outputs": [places[-1]]}
        readout = None
        if self.readout is not None:
            nodes[:] = nodes[:1]
            readout = {"outputs": [_affine_nodes(self.readout, 0, put)], "nodes": list(nodes)}
        given = {"shape": [len(self.domain)], "kind": "real"} if driven else None
        return {"state": [[self.n]], "input": given, "step": step, "init": None, "readout": readout}

    def boxes(self) -> tuple[Json, Json]:
        """(domain, region) in the form of the format."""
        return _box("input", self.domain, {"space": "input", "point": vector([])}), _box(
            "state", self.region or (), {"space": "state", "all": True}
        )

    def _variables(self, copies: int = 1) -> tuple[list[list[Row]], list[Row], int]:
        m = len(self.domain)
        count = copies * self.n + m
        unit = [tuple(Fraction(int(i == j)) for j in range(count + 1)) for i in range(count)]
        states = [unit[c * self.n : (c + 1) * self.n] for c in range(copies)]
        return states, unit[copies * self.n :], count

    def _bounds(self, states: Sequence[Row], given: Sequence[Row]) -> list[Row]:
        found = []
        boxes = [(states, self.region or ()), (given, self.domain)]
        for rows, box in boxes:
            for row, (lo, hi) in zip(rows, box, strict=False):
                found.append((*row[:-1], row[-1] - lo))
                found.append((*(-v for v in row[:-1]), hi - row[-1]))
        return found

    def polyhedra(self) -> Iterator[tuple[list[Row], list[Row]]]:
        """Of each pattern that has fixed points: the variables over its parameters, and the conditions on these."""
        (states,), given, count = self._variables()
        for outputs, conditions in patterns(self.layers, states, given):
            solved = reduce([add(f, z, -ONE) for f, z in zip(outputs, states, strict=True)], count)
            if solved is None:
                continue
            where = [substitute(row, solved) for row in [*conditions, *self._bounds(states, given)]]
            if feasible(where):
                yield solved, where

    def count(self) -> int:
        """Fixed points at a single input: 0, 1, or 2 for more."""
        points: set[Row] = set()
        for solved, where in self.polyhedra():
            point = []
            for row in solved[: self.n]:
                least, most = _range(row, where)
                if least is None or least != most:
                    return 2
                point.append(least)
            points.add(tuple(point))
        return min(len(points), 2)

    def tight(self) -> bool:
        """Whether a unit, or an end of the region, is met exactly at some fixed point: where patterns or regions touch.

        Of fixed points that are isolated in their pattern only.
        """
        return any(not any(row) for _, where in self.polyhedra() for row in where)

    def pairs(self) -> bool:
        """Whether some input has two fixed points."""
        (one, two), given, count = self._variables(2)
        for (f, p), (g, q) in product(patterns(self.layers, one, given), patterns(self.layers, two, given)):
            solved = reduce([add(a, z, -ONE) for a, z in zip([*f, *g], [*one, *two], strict=True)], count)
            if solved is None:
                continue
            bounds = [*self._bounds(one, given), *self._bounds(two, given)]
            where = [substitute(row, solved) for row in [*p, *q, *bounds]]
            if not feasible(where):
                continue
            for a, b in zip(one, two, strict=True):
                if _range(substitute(add(a, b, -ONE), solved), where) != (ZERO, ZERO):
                    return True
        return False

    def everywhere(self) -> bool:
        """Whether every input of a single-input model has a fixed point."""
        ((lo, hi),) = self.domain
        parts = []
        for solved, where in self.polyhedra():
            least, most = _range(solved[self.n], where)
            assert least is not None and most is not None  # the domain is bounded
            parts.append((least, most))
        for least, most in sorted(parts):
            if least > lo:
                return False
            lo = max(lo, most)
        return bool(parts) and lo >= hi

    def answers(self, answer: int) -> bool:
        """Whether every fixed point strictly answers so (true of none)."""
        assert self.readout is not None
        for solved, where in self.polyhedra():
            logits = []
            for weights, bias in zip(self.readout.matrix, self.readout.bias, strict=True):
                row = (*[ZERO] * (len(solved[0]) - 1), bias)
                for weight, z in zip(weights, solved[: self.n], strict=True):
                    row = add(row, z, weight)
                logits.append(row)
            for other, row in enumerate(logits):
                if other != answer and feasible([*where, add(row, logits[answer], -ONE)]):
                    return False
        return True


def _affine_nodes(layer: Layer, source: int, put: Callable[..., int]) -> int:
    matrix = [v for row in layer.matrix for v in row]
    weight = put(op="constant", shape=[len(layer.matrix), len(layer.matrix[0])], value=vector(matrix), **{"in": []})
    bias = put(op="constant", shape=[len(layer.bias)], value=vector(layer.bias), **{"in": []})
    return put(op="add", **{"in": [put(op="linear", **{"in": [source, weight]}), bias]})


def _box(space: str, ends: Sequence[tuple[Fraction, Fraction]], otherwise: Json) -> Json:
    lo, hi = [a for a, _ in ends], [b for _, b in ends]
    if not ends:
        return otherwise
    if lo == hi:
        return {"space": space, "point": vector(lo)}
    return {"space": space, "lo": vector(lo), "hi": vector(hi)}


def _range(row: Row, where: Sequence[Row]) -> tuple[Fraction | None, Fraction | None]:
    """The least and the largest value of a row under conditions that can be met; None where there is none."""
    if not any(row[:-1]):
        return row[-1], row[-1]
    tie = (*row[:-1], -ONE, row[-1])
    rows = _project([*[(*r[:-1], ZERO, r[-1]) for r in where], tie, scaled(tie, -ONE)], len(row) - 1)
    least = max((-r[-1] / r[0] for r in rows if r[0] > 0), default=None)
    return least, min((-r[-1] / r[0] for r in rows if r[0] < 0), default=None)


def _project(rows: Sequence[Row], eliminate: int) -> list[Row]:
    """The conditions on what follows the first variables."""
    found = {_primitive(row) for row in rows}
    for column in range(eliminate):
        above = [row for row in found if row[column] > 0]
        below = [row for row in found if row[column] < 0]
        found = {row for row in found if not row[column]}
        for p, q in product(above, below):
            found.add(_primitive(add(scaled(p, -q[column]), q, p[column])))
    return [row[eliminate:] for row in found]
