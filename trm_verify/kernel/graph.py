"""The exact graph: parsed, shape-checked, every node classified by what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any, TypeVar

from trm_verify.kernel import numbers
from trm_verify.kernel.document import digest, dyadic, fields, integer, items, text, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.layout import LAYOUTS, Shape, concat, shape_of
from trm_verify.kernel.weights import Weights

T = TypeVar("T")
MAX_TOTAL = 1 << 26  # entries of all nodes that are not stored tensors
MAX_WORK = 1 << 37
CONSTANT, INPUT, STATE = 0, 1, 2  # what a node depends on; the larger includes the smaller

ACTIVATIONS = {"relu", "abs", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos", "leaky_relu", "clamp"}
BINARY = {"add", "sub", "mul", "div", "max", "min"}
ROW_NORMS = {"softmax", "rms_norm", "layer_norm"}


@dataclass(frozen=True)
class Node:
    """One operation. `layout` holds the source positions of a layout operation (None: identity or not a layout)."""

    op: str
    args: tuple[int, ...]
    attrs: dict[str, Any]
    shape: Shape
    kind: int
    layout: list[int] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Function:
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Multiplications of one evaluation, roughly."""
        return sum(self.costs)

    @property
    def costs(self) -> list[int]:
        """Those of each node."""
        inner = {i: self.nodes[n.args[0]].shape[-1] for i, n in enumerate(self.nodes) if n.op in ("linear", "matmul")}
        slow = ACTIVATIONS - {"relu", "abs", "leaky_relu", "clamp"} | ROW_NORMS  # a hundred multiplications an entry
        return [128 + node.size * inner.get(i, 100 if node.op in slow else 1) for i, node in enumerate(self.nodes)]


@dataclass(frozen=True)
class Graph:
    """The model: `step`, `init`, `readout`, and the shapes they share."""

    state: tuple[Shape, ...]
    input: Shape | None
    vocabulary: int | None
    step: Function
    init: Function | None
    readout: Function | None
    digest: str
    tensors: frozenset[str]
    weights: Weights
    spent: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    cache: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)  # see `once`

    @property
    def size(self) -> int:
        return sum(map(prod, self.state))

    def once(self, function: Function, what: str, make: Callable[[], T]) -> T:
        """What follows from a function of this graph alone, made once.

        It is kept with the function itself: another function may come to have the id of one that is gone.
        """
        key = what, id(function)
        held = self.cache.get(key)
        if held is None or held[0] is not function:
            held = self.cache[key] = function, make()
        found: T = held[1]
        return found

    def charge(self, cost: int) -> None:
        """Count work; a certificate is not checked for days."""
        self.spent["work"] = self.spent.get("work", 0) + cost
        if self.spent["work"] > MAX_WORK:
            raise CheckError("LIMIT", f"at most {MAX_WORK} multiplications in all evaluations", self.spent["work"])

    @property
    def input_size(self) -> int:
        return 0 if self.input is None else prod(self.input)


def same(shapes: list[Shape], op: str) -> Shape:
    if any(s != shapes[0] for s in shapes):
        raise CheckError("SHAPE", f"equal shapes in {op}", shapes)
    return shapes[0]


def _last(shapes: list[Shape], op: str) -> Shape:
    if not shapes[0]:
        raise CheckError("SHAPE", f"a last axis in {op}", shapes[0])
    return shapes[0]


def _linear(shapes: list[Shape], op: str) -> Shape:
    a, w = shapes
    if not a or len(w) != 2 or a[-1] != w[1]:
        raise CheckError("SHAPE", "(…, in) and (out, in) in linear", shapes)
    return (*a[:-1], w[0])


def _matmul(shapes: list[Shape], op: str) -> Shape:
    a, b = shapes
    if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
        raise CheckError("SHAPE", "(…, i, k) and (…, k, j) in matmul", shapes)
    return (*a[:-1], b[-1])


def _embedding(shapes: list[Shape], op: str) -> Shape:
    if len(shapes[1]) != 2:
        raise CheckError("SHAPE", "a table (V, d) in embedding", shapes[1])
    return (*shapes[0], shapes[1][1])


SHAPES: dict[str, tuple[int, Callable[[list[Shape], str], Shape]]] = {
    **{op: (1, same) for op in ACTIVATIONS | {"scale"}},
    **{op: (2, same) for op in BINARY},
    **{op: (1, _last) for op in ROW_NORMS},
    **{op: (1, lambda shapes, op: _last(shapes, op)[:-1]) for op in ("sum", "amax")},
    "linear": (2, _linear),
    "matmul": (2, _matmul),
    "embedding": (2, _embedding),
}  # fmt: skip


def _attributes(op: str, attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the operations that have numbers in them, as exact values."""
    if op == "scale":
        num, den = (dyadic({"exp": 0, "int": v}, "scale")[0] for v in fields(attrs, "num", "den", where="scale"))
        if den <= 0:
            raise CheckError("FIELD", "a positive denominator in scale", den)
        return {"factor": Fraction(num, den)}
    if op == "leaky_relu":
        slope = numbers.dyadic(*dyadic(fields(attrs, "slope", where=op)[0], "slope"))
        if not 0 <= slope <= 1:
            raise CheckError("FIELD", "a slope between 0 and 1 in leaky_relu", slope)
        return {"slope": slope}
    if op == "clamp":
        lo, hi = (
            None if v is None else numbers.dyadic(*dyadic(v, "clamp")) for v in fields(attrs, "lo", "hi", where=op)
        )
        if lo is not None and hi is not None and lo > hi:
            raise CheckError("FIELD", "lo ≤ hi in clamp", (lo, hi))
        return {"lo": lo, "hi": hi}
    if op in ("rms_norm", "layer_norm"):
        eps = numbers.dyadic(*dyadic(fields(attrs, "eps", where=op)[0], "eps"))
        if eps <= 0:
            raise CheckError("FIELD", f"eps > 0 in {op}", eps)
        return {"eps": eps}
    fields(attrs, where=op)
    return {}


class _Parser:
    """Parses one function; `allowed` names the leaves that it may read."""

    def __init__(self, state: tuple[Shape, ...], given: Shape | None, vocabulary: int | None, weights: Weights) -> None:
        self.state, self.input, self.vocabulary, self.weights = state, given, vocabulary, weights
        self.used: set[str] = set()
        self.total = 0

    def leaf(self, op: str, attrs: dict[str, Any], allowed: set[str]) -> tuple[Shape, int, dict[str, Any]]:
        if op in ("state", "input") and op not in allowed:
            raise CheckError("GRAPH", f"a function that reads {sorted(allowed) or 'no leaf'}", op)
        if op == "state":
            part = integer(fields(attrs, "part", where="state")[0], 0, len(self.state) - 1, "part")
            return self.state[part], STATE, {"part": part}
        if op == "input":
            fields(attrs, where="input")
            if self.input is None:
                raise CheckError("GRAPH", "a model with an input", "input: null")
            return self.input, INPUT, {}
        if op == "tensor":
            name = text(fields(attrs, "name", where="tensor")[0], "tensor name")
            self.total += prod(self.weights.shape(name)) if name in self.used else 0  # decoded once a node
            self.used.add(name)
            return shape_of(list(self.weights.shape(name)), f"tensor {name}"), CONSTANT, {"name": name}
        given, value = fields(attrs, "shape", "value", where="constant")
        shape = shape_of(given, "constant")
        return shape, CONSTANT, {"value": vector(value, prod(shape), "constant")}

    def node(self, raw: object, nodes: list[Node], allowed: set[str]) -> Node:
        if not isinstance(raw, dict) or "op" not in raw or "in" not in raw:
            raise CheckError("FIELD", "a node with op and in", type(raw).__name__)
        attrs = {k: v for k, v in raw.items() if k not in ("op", "in")}
        op = text(raw["op"], "op")
        args = tuple(items(raw["in"], "in"))
        if any(type(i) is not int or not 0 <= i < len(nodes) for i in args):
            raise CheckError("GRAPH", f"indices of earlier nodes as arguments of {op}", args)
        shapes = [nodes[i].shape for i in args]
        kind = max((nodes[i].kind for i in args), default=CONSTANT)
        if op in ("state", "input", "tensor", "constant"):
            if args:
                raise CheckError("GRAPH", f"no arguments in {op}", args)
            shape, kind, attrs = self.leaf(op, attrs, allowed)
            return Node(op, args, attrs, shape, kind)
        if op == "concat":
            return Node(op, args, {}, *self._laid(concat(attrs, shapes), kind))
        if op not in LAYOUTS and op not in SHAPES:
            raise CheckError("OPERATION", "an operation of the format", op)
        arity = 1 if op in LAYOUTS else SHAPES[op][0]
        if len(args) != arity:
            raise CheckError("GRAPH", f"{arity} argument(s) in {op}", len(args))
        if op in LAYOUTS:
            return Node(op, args, {}, *self._laid(LAYOUTS[op](attrs, shapes[0]), kind))
        if op == "embedding":
            self.require_index(nodes, args)
        if op in ("linear", "embedding") and nodes[args[1]].kind != CONSTANT:
            raise CheckError("GRAPH", f"a constant second argument in {op}", nodes[args[1]].op)
        if op == "div" and nodes[args[1]].kind == STATE:
            raise CheckError("GRAPH", "a divisor that does not depend on the state", nodes[args[1]].op)
        return Node(op, args, _attributes(op, attrs), shape_of(list(SHAPES[op][1](shapes, op)), op), kind)

    def require_index(self, nodes: list[Node], args: tuple[int, ...]) -> None:
        """An embedding reads the integer input itself, moved about but not computed with, in a table long enough."""
        if args[0] not in self.moved or self.vocabulary is None or nodes[args[1]].shape[:1] < (self.vocabulary,):
            found = nodes[args[0]].op
            raise CheckError("GRAPH", f"an integer input and a table of at least {self.vocabulary} rows", found)

    @staticmethod
    def _laid(layout: tuple[Shape, list[int] | None], kind: int) -> tuple[Shape, int, list[int] | None]:
        return layout[0], kind, layout[1]

    def function(self, raw: object, allowed: set[str], shapes: list[Shape] | None, where: str) -> Function:
        raw_nodes, raw_outputs = fields(raw, "nodes", "outputs", where=where)
        nodes: list[Node] = []
        self.moved: set[int] = set()  # nodes that are the input, moved about but not computed with
        for item in items(raw_nodes, "nodes"):
            nodes.append(self.node(item, nodes, allowed))
            last = nodes[-1]
            if last.op == "input" or last.op in ("reshape", "slice", "select") and last.args[0] in self.moved:
                self.moved.add(len(nodes) - 1)
            self.total += nodes[-1].size if nodes[-1].op != "tensor" else 0
            if self.total > MAX_TOTAL:
                raise CheckError("LIMIT", f"at most {MAX_TOTAL} entries in all nodes together", self.total)
        outputs = tuple(integer(i, 0, len(nodes) - 1, "output") for i in items(raw_outputs, "outputs"))
        reached = set(outputs)
        for i in range(len(nodes) - 1, -1, -1):
            if i not in reached:
                raise CheckError("GRAPH", f"every node of {where} to be used", f"node {i} ({nodes[i].op}) is not")
            reached.update(nodes[i].args)
        got = [nodes[i].shape for i in outputs]
        if (shapes is not None and got != shapes) or (shapes is None and (len(got) != 1 or not got[0])):
            raise CheckError("SHAPE", f"outputs of {where}: {shapes or 'one, with a class axis'}", got)
        return Function(tuple(nodes), outputs)


def parse(raw: object, weights: Weights) -> Graph:
    """The graph of a certificate, over the tensors of the weights file."""
    state, given, step, init, readout = fields(raw, "state", "input", "step", "init", "readout", where="graph")
    shapes = tuple(shape_of(s, "state") for s in items(state, "state"))
    if not shapes:
        raise CheckError("SHAPE", "a state with at least one part", "none")
    shape, vocabulary = None, None
    if given is not None:
        if isinstance(given, dict) and given.get("kind") == "integer":
            raw_shape, _, size = fields(given, "shape", "kind", "size", where="input")
            vocabulary = integer(size, 1, 1 << 40, "vocabulary")
        else:
            raw_shape, kind = fields(given, "shape", "kind", where="input")
            if kind != "real":
                raise CheckError("FIELD", "an input of kind real or integer", kind)
        shape = shape_of(raw_shape, "input")
    parser = _Parser(shapes, shape, vocabulary, weights)
    return Graph(
        shapes, shape, vocabulary,
        parser.function(step, {"state", "input"}, list(shapes), "step"),
        None if init is None else parser.function(init, {"input"}, list(shapes), "init"),
        None if readout is None else parser.function(readout, {"state"}, None, "readout"),
        digest(raw), frozenset(parser.used), weights,
    )  # fmt: skip
