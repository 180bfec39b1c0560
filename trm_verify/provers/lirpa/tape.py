"""A graph as auto_LiRPA is shown it: flat vectors, and affine maps between units such as ReLU or a product.

Folding a graph into affine maps takes no new rules. An affine form is kept as a batch of values, its constant in the
first row and the coefficient of one coordinate in each other row; the graph's linear operations treat rows alike, so
the rules of `trm_verify.lowering` compute the coefficients of their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from trm_verify.encode import Json
from trm_verify.lowering import RULES, LoweredGraph, Node, number
from trm_verify.provers.problem import Problem, floats

MOST = 1 << 25  # coefficients of one affine map, 8 bytes each
JOINTLY = {"reshape", "permute", "slice", "select", "expand", "pad", "concat", "unfold", "sum", "scale", "add", "sub"}
PRODUCTS = {"linear", "matmul", "mul", "div"}  # linear in each argument when the other is constant; `div` in the first
UNITS: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "abs": torch.abs,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "square": lambda a: a * a,
    "product": lambda a, b: a * b,
}


class Unsupported(Exception):
    """auto_LiRPA gives no bounds for this, and why; other provers may go on."""


@dataclass(frozen=True)
class Box:
    """A batch of boxes. Shape: lo, hi (batch, size)."""

    lo: Tensor
    hi: Tensor

    @classmethod
    def of(cls, problem: Problem, boxes: Sequence[Json]) -> Box:
        found = [problem.box(raw) for raw in boxes]
        if not all(box.bounded for box in found):
            raise Unsupported("expected a bounded domain and region, found an unbounded one")
        lo, hi = (np.array([floats(box.ends()[end], box.exp) for box in found]) for end in (0, 1))
        return cls(torch.from_numpy(lo), torch.from_numpy(hi))

    @property
    def varies(self) -> bool:
        """Whether it may be more than one point. A point is folded into the constants."""
        return len(self.lo) > 1 or bool((self.lo != self.hi).any())


class Tape:
    """The units of a function as they are met, and forms of its variables and of the units so far.

    Attributes:
        sizes: coordinates of each variable, then of each unit.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.units: list[tuple[str, tuple[Tensor, ...]]] = []

    def variable(self, shape: Sequence[int]) -> Tensor:
        """The form of new coordinates."""
        rows, size = 1 + sum(self.sizes), prod(shape)
        if (rows + size) * size > MOST:
            raise Unsupported(f"expected affine maps of at most {MOST} coefficients, found {rows + size} × {size}")
        self.sizes.append(size)
        eye = torch.eye(size, dtype=torch.float64)
        return torch.cat([eye.new_zeros(rows, size), eye]).reshape(-1, *shape)

    def unit(self, op: str, *forms: Tensor) -> Tensor:
        self.units.append((op, forms))
        return self.variable(forms[0].shape[1:])

    def aligned(self, *forms: Tensor) -> list[Tensor]:
        """The forms with zero rows for the units that came after them."""
        rows = 1 + sum(self.sizes)
        return [torch.cat([a, a.new_zeros(rows - len(a), *a.shape[1:])]) for a in forms]

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.aligned(a, b)
        return a + b

    def record(self, graph: LoweredGraph, function: str, z: Box | None, x: Box | None) -> list[Tensor]:
        """The forms of all nodes of a function, in which z and x are variables if they vary."""
        shapes = [] if z is None else graph.state_shapes

        def parts(flat: Tensor) -> list[Tensor]:
            split = torch.split(flat, [prod(shape) for shape in shapes], 1)
            return [part.reshape(-1, *shape) for part, shape in zip(split, shapes, strict=True)]

        given = None if x is None or graph.input_shape is None else x.lo[:1].reshape(1, *graph.input_shape)
        fixed = [] if z is None else parts(z.lo[:1])
        values = graph.values(function, fixed, given)  # where they do not vary; and of all constants
        state = parts(self.variable([prod(z.lo.shape[1:])])) if z is not None and z.varies else fixed
        if given is not None and x is not None and x.varies:
            given = self.variable(given.shape[1:])
        forms: list[Tensor] = []
        for node, value in zip(graph.graph[function]["nodes"], values, strict=True):
            args = [forms[i] for i in node["in"]]
            if node["op"] == "state":
                forms.append(state[node["part"]])
            elif node["op"] == "input" and given is not None:
                forms.append(given)
            elif all(len(a) == 1 for a in args):
                forms.append(value.to(torch.float64))
            else:
                forms.append(self.apply(node, args))
        return forms

    def apply(self, node: Node, args: list[Tensor]) -> Tensor:
        """The form of a node that depends on a variable."""
        op, varying = node["op"], [len(a) > 1 for a in args]
        if op in JOINTLY:
            return RULES[op](node, self.aligned(*args))
        if op in PRODUCTS and (varying == [True, False] or (varying == [False, True] and op != "div")):
            return RULES[op](node, args)
        if op == "mul" and node["in"][0] == node["in"][1]:
            return self.unit("square", args[0])
        if op in UNITS:
            return self.unit(op, *args)
        if op in COMPOSED:
            return COMPOSED[op](self, node, *self.aligned(*args))
        raise Unsupported(f"expected operations that auto_LiRPA bounds, found {op!r}")


# Operations composed of the units that auto_LiRPA bounds soundly.


def _shifted(a: Tensor, by: float) -> Tensor:
    return torch.cat([a[:1] + by, a[1:]])


def _max(tape: Tape, node: Node, a: Tensor, b: Tensor) -> Tensor:
    return tape.add(b, tape.unit("relu", a - b))


def _amax(tape: Tape, node: Node, a: Tensor) -> Tensor:
    while (half := a.shape[-1] // 2) > 0:
        larger = _max(tape, node, a[..., :half], a[..., half : 2 * half])
        a = torch.cat(tape.aligned(larger, a[..., 2 * half :]), -1)
    return a[..., 0]


def _clamp(tape: Tape, node: Node, a: Tensor) -> Tensor:
    """One ReLU inside the other: IBP bounds that exactly, and the difference of two not."""
    lo, hi = (None if node[key] is None else float(number(node[key])) for key in ("lo", "hi"))
    if lo is not None:
        a = _shifted(tape.unit("relu", _shifted(a, -lo)), lo)
    if hi is not None:
        a = _shifted(-tape.unit("relu", _shifted(-a, hi)), hi)
    return a


def _leaky_relu(tape: Tape, node: Node, a: Tensor) -> Tensor:
    slope = float(number(node["slope"]))
    return tape.add(slope * a, (1 - slope) * tape.unit("relu", a))


def _matmul(tape: Tape, node: Node, a: Tensor, b: Tensor) -> Tensor:
    left, right = a.unsqueeze(-2), b.transpose(-1, -2).unsqueeze(-3)
    shape = (*a.shape[:-1], *right.shape[-2:])
    return tape.unit("product", left.expand(shape), right.expand(shape)).sum(-1)


def _softmax(tape: Tape, node: Node, a: Tensor) -> Tensor:
    """exp(−log Σⱼ exp(aⱼ − aᵢ)): no division, and a logarithm of 1 or more."""
    total = tape.unit("exp", a.unsqueeze(-2) - a.unsqueeze(-1)).sum(-1)
    return tape.unit("exp", -tape.unit("log", total))


COMPOSED: dict[str, Callable[..., Tensor]] = {
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
    "silu": lambda tape, node, a: tape.unit("product", a, tape.unit("sigmoid", a)),
    "softplus": lambda tape, node, a: tape.unit("log", _shifted(tape.unit("exp", a), 1.0)),
    "softmax": _softmax,
    "max": _max,
    "min": lambda tape, node, a, b: -_max(tape, node, -a, -b),
    "amax": _amax,
    "mul": lambda tape, node, a, b: tape.unit("product", a, b),
    "matmul": _matmul,
}
