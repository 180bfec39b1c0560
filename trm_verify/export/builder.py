"""Builds one function of the exact graph: nodes with shapes, shared where equal, pruned where unused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

from trm_verify.export.errors import UnknownOperation

Shape = tuple[int, ...]

MAX_RANK = 16


def dyadic(value: Fraction) -> dict[str, Any]:
    """The format's dyadic, with the shortest integer (exponent 0 for integers)."""
    if value.denominator & (value.denominator - 1):
        raise UnknownOperation(f"expected a binary fraction, found {value}")
    exp = 1 - value.denominator.bit_length()
    return {"exp": exp, "int": hexadecimal(value.numerator)}


def hexadecimal(value: int) -> str:
    return f"{value:x}"


def vector(values: Sequence[Fraction]) -> dict[str, Any]:
    """The format's vector: one shared exponent, no larger than needed."""
    exp = min((1 - v.denominator.bit_length() for v in values), default=0)
    shift = -exp
    return {
        "exp": exp,
        "int": " ".join(hexadecimal((v.numerator << shift) // v.denominator) for v in values),
    }


class Builder:
    """Nodes in order of creation. Equal nodes are one node; layout operations that do nothing are dropped.

    Attributes:
        shapes: shape of every node.
        state, input: whether a node depends on the state, on the input.
    """

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.shapes: list[Shape] = []
        self.state: list[bool] = []
        self.input: list[bool] = []
        self._known: dict[str, int] = {}

    def emit(self, op: str, inputs: Sequence[int], shape: Shape, /, **attributes: Any) -> int:
        """Add a node whose shape the caller worked out."""
        if len(shape) > MAX_RANK or any(size < 1 for size in shape):
            raise UnknownOperation(f"expected at most {MAX_RANK} axes, none empty, found shape {tuple(shape)}", op)
        node = {"op": op, "in": list(inputs), **attributes}
        key = json.dumps(node, sort_keys=True)
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
            self.shapes.append(tuple(shape))
            self.state.append(op == "state" or any(self.state[i] for i in inputs))
            self.input.append(op == "input" or any(self.input[i] for i in inputs))
        return self._known[key]

    def is_constant(self, node: int) -> bool:
        return not (self.state[node] or self.input[node])

    def constant(self, shape: Shape, values: Sequence[Fraction]) -> int:
        """A literal; one value repeated becomes a scalar that is expanded."""
        if len(set(values)) == 1 and prod(shape) > 1:
            ones = (1,) * len(shape)
            return self.expand(self.emit("constant", [], ones, shape=list(ones), value=vector([values[0]])), shape)
        return self.emit("constant", [], shape, shape=list(shape), value=vector(values))

    def reshape(self, a: int, shape: Shape) -> int:
        shape = tuple(shape)
        if prod(shape) != prod(self.shapes[a]):
            raise UnknownOperation(f"expected a reshape of {self.shapes[a]} to keep its size, found {shape}")
        while self.nodes[a]["op"] == "reshape":
            (a,) = self.nodes[a]["in"]
        return a if shape == self.shapes[a] else self.emit("reshape", [a], shape, shape=list(shape))

    def permute(self, a: int, axes: Sequence[int]) -> int:
        axes = list(axes)
        if self.nodes[a]["op"] == "permute":
            inner = self.nodes[a]["axes"]
            (a,) = self.nodes[a]["in"]
            axes = [inner[axis] for axis in axes]
        if axes == sorted(axes):
            return a
        return self.emit("permute", [a], tuple(self.shapes[a][axis] for axis in axes), axes=axes)

    def move_last(self, a: int, axis: int) -> int:
        rank = len(self.shapes[a])
        return self.permute(a, [i for i in range(rank) if i != axis] + [axis])

    def move_from_last(self, a: int, axis: int) -> int:
        rank = len(self.shapes[a])
        order = list(range(rank - 1))
        order.insert(axis, rank - 1)
        return self.permute(a, order)

    def expand(self, a: int, shape: Shape) -> int:
        """Broadcast to `shape`, adding leading axes where needed."""
        shape = tuple(shape)
        if self.shapes[a] == shape:
            return a
        old = (1,) * (len(shape) - len(self.shapes[a])) + self.shapes[a]
        if len(old) != len(shape) or any(p not in (1, q) for p, q in zip(old, shape, strict=True)):
            raise UnknownOperation(f"expected a shape that broadcasts to {shape}, found {self.shapes[a]}")
        a = self.reshape(a, old)
        if self.nodes[a]["op"] == "expand":
            (source,) = self.nodes[a]["in"]
            return self.expand(source, shape)
        return a if old == shape else self.emit("expand", [a], shape, shape=list(shape))

    def slice(self, a: int, axis: int, start: int, stop: int, step: int = 1) -> int:
        size = self.shapes[a][axis]
        if not 0 <= start < stop <= size:
            raise UnknownOperation(
                f"expected a slice with an entry in it of an axis of size {size}, found {start}:{stop}"
            )
        if (start, stop, step) == (0, size, 1):
            return a
        shape = list(self.shapes[a])
        shape[axis] = len(range(start, stop, step))
        return self.emit("slice", [a], tuple(shape), axis=axis, start=start, stop=stop, step=step)

    def select(self, a: int, axis: int, indices: Sequence[int]) -> int:
        """Constant indices along an axis; consecutive ones become a slice."""
        indices = list(indices)
        size = self.shapes[a][axis]
        if any(not 0 <= i < size for i in indices):
            raise UnknownOperation(f"expected indices below {size}, found {indices}")
        if indices and indices == list(range(indices[0], indices[0] + len(indices))):
            return self.slice(a, axis, indices[0], indices[-1] + 1)
        shape = list(self.shapes[a])
        shape[axis] = len(indices)
        return self.emit("select", [a], tuple(shape), axis=axis, indices=indices)

    def pad(self, a: int, pads: Sequence[Sequence[int]]) -> int:
        if not any(before or after for before, after in pads):
            return a
        shape = tuple(n + p + q for n, (p, q) in zip(self.shapes[a], pads, strict=True))
        return self.emit("pad", [a], shape, pads=[list(p) for p in pads])

    def concat(self, items: Sequence[int], axis: int) -> int:
        if len(items) == 1:
            return items[0]
        shape = list(self.shapes[items[0]])
        shape[axis] = sum(self.shapes[i][axis] for i in items)
        return self.emit("concat", items, tuple(shape), axis=axis)

    def unfold(
        self, a: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> tuple[int, Shape]:
        """im2col of (C, *spatial); also the shape of the positions."""
        channels, *spatial = self.shapes[a]
        counts = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True)
        )
        node = self.emit(
            "unfold", [a], (prod(counts), channels * prod(kernel)),
            kernel=list(kernel), stride=list(stride), padding=list(padding), dilation=list(dilation),
        )  # fmt: skip
        return node, counts

    def linear(self, a: int, weight: int) -> int:
        """`a Wᵀ` on the last axis, W constant."""
        rows, columns = self.shapes[weight]
        if not self.is_constant(weight) or self.shapes[a][-1] != columns:
            raise UnknownOperation(f"expected a constant weight for {self.shapes[a]}, found {self.shapes[weight]}")
        return self.emit("linear", [a, weight], (*self.shapes[a][:-1], rows))

    def matmul(self, a: int, b: int) -> int:
        """Leading axes broadcast."""
        p, q = self.shapes[a], self.shapes[b]
        if p[-1] != q[-2]:
            raise UnknownOperation(f"expected matrices that fit, found {p} and {q}")
        lead = broadcast(p[:-2], q[:-2])
        a, b = self.expand(a, (*lead, *p[-2:])), self.expand(b, (*lead, *q[-2:]))
        return self.emit("matmul", [a, b], (*lead, p[-2], q[-1]))

    def scale(self, a: int, factor: Fraction) -> int:
        if self.nodes[a]["op"] == "scale":
            node = self.nodes[a]
            factor *= Fraction(int(node["num"], 16), int(node["den"], 16))
            (a,) = node["in"]
        if factor == 1:
            return a
        return self.emit(
            "scale", [a], self.shapes[a], num=hexadecimal(factor.numerator), den=hexadecimal(factor.denominator)
        )

    def binary(self, op: str, a: int, b: int) -> int:
        """add, sub, mul, div, max, min with broadcasting."""
        shape = broadcast(self.shapes[a], self.shapes[b])
        return self.emit(op, [self.expand(a, shape), self.expand(b, shape)], shape)

    def last(self, op: str, a: int, axes: Sequence[int]) -> int:
        """`sum` or `amax` over several axes, which disappear."""
        rank, shape = len(self.shapes[a]), self.shapes[a]
        axes = sorted(axes)
        kept = [i for i in range(rank) if i not in axes]
        a = self.permute(a, kept + axes)
        a = self.reshape(a, (*(shape[i] for i in kept), prod(shape[i] for i in axes)))
        return self.emit(op, [a], self.shapes[a][:-1])

    def unary(self, op: str, a: int, **attributes: Any) -> int:
        return self.emit(op, [a], self.shapes[a], **attributes)

    def reachable(self, outputs: Sequence[int]) -> list[int]:
        """The nodes that the outputs need, in order."""
        needed: set[int] = set()
        stack = list(outputs)
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(self.nodes[node]["in"])
        return sorted(needed)

    def function(self, outputs: Sequence[int]) -> dict[str, Any]:
        """The graph function with every node that no output needs left out."""
        order = self.reachable(outputs)
        number = {old: new for new, old in enumerate(order)}
        nodes = [{**self.nodes[old], "in": [number[i] for i in self.nodes[old]["in"]]} for old in order]
        return {"nodes": nodes, "outputs": [number[o] for o in outputs]}


def broadcast(a: Shape, b: Shape) -> Shape:
    """The common shape."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    if any(p != q and 1 not in (p, q) for p, q in zip(a, b, strict=True)):
        raise UnknownOperation(f"expected shapes that broadcast, found {a} and {b}")
    return tuple(max(p, q) for p, q in zip(a, b, strict=True))
