"""Radius propagation (R1) over single coordinates in doubles, for many radius vectors at once.

The kernel's own propagation decides; this one is fast enough to search with. Where a maximum is taken, one column (the
last) selects the branch for all: the others are then images under one matrix, the propagation's derivative there.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from trm_verify.kernel.graph import ACTIVATIONS, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.operations import reciprocal
from trm_verify.kernel.radius import Propagation
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Problem, floats

Floats = NDArray[np.float64]


class NotCovered(Exception):
    """The step has an operation whose radii do not stay with single coordinates."""


class Gains:
    """Output radii from state radii, coordinate by coordinate.

    Args:
        ranges: enclosures of the step's nodes over the region and domain in question.
    """

    def __init__(self, problem: Problem, ranges: list[Tensor]) -> None:
        self.nodes, self.outputs = problem.graph.step.nodes, problem.graph.step.outputs
        self.ranges = ranges
        ends = np.cumsum([prod(shape) for shape in problem.graph.state])
        self.parts = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
        self.factors: dict[int, Floats] = {}
        self.magnitudes: dict[int, Floats] = {}
        self.kernel = Propagation(problem.graph.step, ranges, {})

    def __call__(self, columns: Floats) -> Floats:
        """Images of the columns. Shape: (n, k) to (n, k).

        Raises:
            NotCovered: see there.
            CheckError: the kernel's propagation refuses the step too.
        """
        values: list[Floats | None] = []
        for i, node in enumerate(self.nodes):
            if node.op == "state":
                start, end = self.parts[node.attrs["part"]]
                values.append(columns[start:end])
                continue
            args = [values[j] for j in node.args]
            with np.errstate(over="ignore", invalid="ignore"):  # what doubles cannot hold bounds nothing
                values.append(None if all(a is None for a in args) else self._node(i, node, args))
        zero = np.zeros((0, columns.shape[1]))
        found = [values[i] for i in self.outputs]
        sizes = [end - start for start, end in self.parts]
        filled = [np.zeros((n, columns.shape[1])) if v is None else v for v, n in zip(found, sizes, strict=True)]
        joined: Floats = np.concatenate([zero, *filled])
        return joined

    def _node(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        if node.op in ACTIVATIONS:
            return self._once(i, lambda: self._slopes(node)) * _given(args[0])
        if node.op in LAYOUTS or node.op == "concat":
            return self._layout(node, args)
        if node.op not in self.OPERATIONS:
            raise NotCovered(node.op)
        return self.OPERATIONS[node.op](self, i, node, args)

    def _once(self, i: int, make: Callable[[], Floats]) -> Floats:
        if i not in self.factors:
            self.factors[i] = make()
        return self.factors[i]

    def _slopes(self, node: Node) -> Floats:
        lo, hi, exp = slopes(node, self.ranges[node.args[0]])
        return floats([max(-p, q) for p, q in zip(lo, hi, strict=True)], exp)[:, None]

    def magnitude(self, i: int) -> Floats:
        """Largest absolute value of each entry of node i, in the node's shape."""
        if i not in self.magnitudes:
            value = self.ranges[i]
            self.magnitudes[i] = floats(value.magnitude(), value.exp).reshape(value.shape)
        return self.magnitudes[i]

    def _layout(self, node: Node, args: list[Floats | None]) -> Floats:
        width = next(a.shape[1] for a in args if a is not None)
        parts = [
            np.zeros((self.nodes[j].size, width)) if a is None else a for a, j in zip(args, node.args, strict=True)
        ]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if node.layout is None:
            return joined
        source = np.array(node.layout)
        return np.where((source < 0)[:, None], 0.0, joined[source])

    def _linear(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        given, weight = _given(args[0]), self.magnitude(node.args[1])
        rows = given.reshape(-1, weight.shape[1], given.shape[1])
        return np.asarray(np.matmul(weight, rows)).reshape(-1, given.shape[1])

    def _rows(self, node: Node, args: list[Floats | None]) -> Floats:
        """Last-axis rows. Shape: (rows, entries, k)."""
        given = _given(args[0])
        return given.reshape(-1, self.nodes[node.args[0]].shape[-1], given.shape[1])

    def _sum(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        return np.asarray(self._rows(node, args).sum(axis=1))

    def _scale(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        return _given(args[0]) * float(abs(node.attrs["factor"]))

    def _add(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        present = [a for a in args if a is not None]
        return present[0] if len(present) == 1 else present[0] + present[1]

    def _mul(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        terms = [
            a * self.magnitude(other).reshape(-1, 1)
            for a, other in zip(args, reversed(node.args), strict=True)
            if a is not None
        ]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _div(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        def inverse() -> Floats:
            found = reciprocal(self.ranges[node.args[1]])
            return floats(found.magnitude(), found.exp)[:, None]

        return self._once(i, inverse) * _given(args[0])

    def _extremum(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        a, b = args
        if a is None or b is None:
            return _given(b if a is None else a)
        return np.where((a[:, -1] >= b[:, -1])[:, None], a, b)

    def _amax(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        rows = self._rows(node, args)
        return np.asarray(rows[np.arange(len(rows)), rows[:, :, -1].argmax(axis=1)])

    def _softmax(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        rows = self._rows(node, args)
        if rows.shape[1] == 1:
            return np.asarray(rows / 4).reshape(-1, rows.shape[2])
        order = np.argsort(-rows[:, :, -1], axis=1, kind="stable")
        other = np.repeat(order[:, :1], rows.shape[1], axis=1)  # the largest radius among the other entries
        np.put_along_axis(other, order[:, :1], order[:, 1:2], axis=1)
        return np.asarray((rows + np.take_along_axis(rows, other[:, :, None], axis=1)) / 4).reshape(-1, rows.shape[2])

    def _matmul(self, i: int, node: Node, args: list[Floats | None]) -> Floats:
        left, right = args
        count, inner = self.nodes[node.args[0]].shape[-2:]
        columns = node.shape[-1]
        total: Floats | None = None
        if right is not None:
            k = right.shape[1]
            weights = self.magnitude(node.args[0]).reshape(-1, count, inner)
            rows = right.reshape(-1, inner, columns * k)
            total = np.matmul(weights, rows).reshape(-1, columns, k)
            if self.kernel._is_stochastic(node.args[0]):  # the largest radius, where that is less
                tall = rows.reshape(-1, inner, columns, k)
                pick = tall[..., -1].argmax(axis=1)
                largest = np.take_along_axis(tall, pick[:, None, :, None], axis=1)
                largest = np.broadcast_to(largest, (len(tall), count, columns, k)).reshape(-1, columns, k)
                total = np.where((largest[..., -1] < total[..., -1])[..., None], largest, total)
            total = total.reshape(-1, k)
        if left is not None:
            k = left.shape[1]
            factor = self.magnitude(node.args[1]).reshape(-1, inner, columns)
            term = np.einsum("bcik,bij->bcjk", left.reshape(-1, count, inner, k), factor).reshape(-1, k)
            total = term if total is None else total + term
        return _given(total)

    OPERATIONS: dict[str, Callable[[Gains, int, Node, list[Floats | None]], Floats]] = {
        "linear": _linear, "sum": _sum, "scale": _scale, "add": _add, "sub": _add, "mul": _mul, "div": _div,
        "max": _extremum, "min": _extremum, "amax": _amax, "softmax": _softmax, "matmul": _matmul,
    }  # fmt: skip


def _given(value: Floats | None) -> Floats:
    if value is None:
        raise NotCovered("a first argument that does not vary")
    return value
