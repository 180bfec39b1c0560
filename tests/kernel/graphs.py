"""A reference evaluator and a random generator for graphs, written from docs/format.md alone.

Nothing here imports the kernel. Values are numpy arrays of objects: `Fraction` in the `EXACT` field, which knows the
piecewise-linear operations, and 400-bit mpmath numbers in the `HIGH` field, which knows all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from math import prod
from random import Random
from typing import Any

import mpmath
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Json = dict[str, Any]

REAL = mpmath.mp.clone()
REAL.prec = 400
mpf = REAL.mpf
# HIGH values carry a relative error of a few 2^-400 an operation. Comparisons with the kernel allow this much more:
# the finest step that the kernel rounds to is 2^-256, so nothing that it gets wrong hides below it.
REFERENCE_ERROR = mpf(2) ** -300

LAYOUT_OPS = ("reshape", "permute", "slice", "select", "expand", "pad", "unfold", "concat")
ALGEBRA = ("linear", "matmul", "sum", "scale", "add", "sub", "mul", "max", "min", "amax")
PIECEWISE = ("relu", "abs", "leaky_relu", "clamp")
SMOOTH = ("tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos")
ROW_NORMS = ("softmax", "rms_norm", "layer_norm")
ALL_OPS = {*LAYOUT_OPS, *ALGEBRA, *PIECEWISE, *SMOOTH, *ROW_NORMS, "div", "embedding", "state", "input", "tensor"} | {
    "constant"
}


def dyadic(value: Fraction | int | float) -> Json:
    """The dyadic of the format. Raises when the value is none."""
    q = Fraction(value)
    exp = 1 - q.denominator.bit_length()
    if q.denominator != 1 << -exp:
        raise ValueError(f"{q} is not dyadic")
    return {"exp": exp, "int": format(q.numerator, "x")}


def vector(values: Iterable[Any]) -> Json:
    """The vector of the format, at the coarsest exponent ≤ 0 that holds every entry."""
    entries = [Fraction(v) for v in np.asarray(values, dtype=object).ravel()]
    exp = 1 - max((q.denominator.bit_length() for q in entries), default=1)
    scaled = [q * (1 << -exp) for q in entries]
    if any(s.denominator != 1 for s in scaled):
        raise ValueError("not dyadic")
    return {"exp": exp, "int": " ".join(format(s.numerator, "x") for s in scaled)}


def read_dyadic(raw: Json) -> Fraction:
    return Fraction(int(raw["int"], 16)) * Fraction(2) ** raw["exp"]


def read_vector(raw: Json) -> list[Fraction]:
    return [Fraction(int(token, 16)) * Fraction(2) ** raw["exp"] for token in raw["int"].split()]


def to_real(value: Any) -> Any:
    return mpf(value.numerator) / value.denominator if isinstance(value, (int, Fraction)) else value


def array(values: Any, shape: Sequence[int]) -> Array:
    """An object array of that shape."""
    out = np.empty(prod(shape), dtype=object)
    out[:] = list(values)
    return out.reshape(tuple(shape))


@dataclass(frozen=True)
class Field:
    """How rationals become numbers, and the functions of one number that these numbers have."""

    of: Callable[[Fraction], Any]
    functions: dict[str, Callable[[Any], Any]]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + REAL.exp(-x))


EXACT = Field(Fraction, {})
HIGH = Field(
    to_real,
    {
        "tanh": REAL.tanh,
        "sigmoid": _sigmoid,
        "softplus": lambda x: max(x, mpf(0)) + REAL.log1p(REAL.exp(-abs(x))),
        "silu": lambda x: x * _sigmoid(x),
        "gelu": lambda x: x * REAL.erfc(-x / REAL.sqrt(2)) / 2,
        "sin": REAL.sin,
        "cos": REAL.cos,
        "exp": REAL.exp,
        "sqrt": REAL.sqrt,
    },
)


def _unfold(a: Array, node: Json, zero: Any) -> Array:
    kernel, stride, padding, dilation = (node[k] for k in ("kernel", "stride", "padding", "dilation"))
    padded = np.pad(a, [(0, 0), *((p, p) for p in padding)], constant_values=zero)
    counts = [
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(padded.shape[1:], dilation, kernel, stride, strict=True)
    ]
    rows = []
    for position in product(*map(range, counts)):
        row = []
        for channel in range(a.shape[0]):
            for tap in product(*map(range, kernel)):
                at = [p * s + t * d for p, s, t, d in zip(position, stride, tap, dilation, strict=True)]
                row.append(padded[(channel, *at)])
        rows.append(row)
    return array([v for row in rows for v in row], (len(rows), len(rows[0])))


def _rowwise(a: Array, f: Callable[[list[Any]], list[Any]]) -> Array:
    rows = a.reshape(-1, a.shape[-1])
    return array([v for row in rows for v in f(list(row))], a.shape)


def _softmax(row: list[Any]) -> list[Any]:
    powers = [REAL.exp(v - max(row)) for v in row]
    return [p / sum(powers) for p in powers]


def _rms_norm(row: list[Any], eps: Any) -> list[Any]:
    root = REAL.sqrt(sum(v * v for v in row) / len(row) + eps)
    return [v / root for v in row]


def _layer_norm(row: list[Any], eps: Any) -> list[Any]:
    mean = sum(row) / len(row)
    return _rms_norm([v - mean for v in row], eps)


def _elementwise(a: Array, f: Callable[[Any], Any]) -> Array:
    return array([f(v) for v in a.ravel()], a.shape)


def _clamp(v: Any, lo: Any, hi: Any) -> Any:
    v = v if lo is None else max(v, lo)
    return v if hi is None else min(v, hi)


def _apply(node: Json, args: list[Array], numbers: Field) -> Array:
    op = node["op"]
    a = args[0]
    if op == "reshape":
        return a.reshape(node["shape"])
    if op == "permute":
        return a.transpose(node["axes"])
    if op == "slice":
        cut = [slice(None)] * a.ndim
        cut[node["axis"]] = slice(node["start"], node["stop"], node["step"])
        return a[tuple(cut)]
    if op == "select":
        return np.take(a, node["indices"], axis=node["axis"])
    if op == "expand":
        return np.broadcast_to(a, node["shape"])
    if op == "pad":
        return np.pad(a, node["pads"], constant_values=numbers.of(Fraction(0)))
    if op == "concat":
        return np.concatenate(args, axis=node["axis"])
    if op == "unfold":
        return _unfold(a, node, numbers.of(Fraction(0)))
    if op == "linear":
        return a @ args[1].T
    if op == "matmul":
        return a @ args[1]
    if op == "sum":
        return array([sum(row) for row in a.reshape(-1, a.shape[-1])], a.shape[:-1])
    if op == "amax":
        return array([max(row) for row in a.reshape(-1, a.shape[-1])], a.shape[:-1])
    if op == "scale":
        factor = numbers.of(Fraction(int(node["num"], 16), int(node["den"], 16)))
        return _elementwise(a, lambda v: v * factor)
    if op in ("add", "sub", "mul", "div", "max", "min"):
        pairs = zip(a.ravel(), args[1].ravel(), strict=True)
        two: dict[str, Callable[[Any, Any], Any]] = {
            "add": lambda p, q: p + q, "sub": lambda p, q: p - q, "mul": lambda p, q: p * q,
            "div": lambda p, q: p / q, "max": max, "min": min,
        }  # fmt: skip
        return array([two[op](p, q) for p, q in pairs], a.shape)
    if op == "softmax":
        return _rowwise(a, _softmax)
    if op in ("rms_norm", "layer_norm"):
        eps = numbers.of(read_dyadic(node["eps"]))
        return _rowwise(a, lambda row: (_rms_norm if op == "rms_norm" else _layer_norm)(row, eps))
    if op == "embedding":
        index = np.array([int(v) for v in a.ravel()], dtype=int).reshape(a.shape)
        return args[1][index]
    if op == "relu":
        return _elementwise(a, lambda v: v if v > 0 else 0 * v)
    if op == "abs":
        return _elementwise(a, abs)
    if op == "leaky_relu":
        slope = numbers.of(read_dyadic(node["slope"]))
        return _elementwise(a, lambda v: v if v > 0 else slope * v)
    if op == "clamp":
        lo, hi = (None if node[k] is None else numbers.of(read_dyadic(node[k])) for k in ("lo", "hi"))
        return _elementwise(a, lambda v: _clamp(v, lo, hi))
    return _elementwise(a, numbers.functions[op])


def run(
    function: Json, state: Sequence[Array], given: Array | None, tensors: dict[str, Array], numbers: Field
) -> list[Array]:
    """The value of every node. State and input hold numbers of the field."""
    values: list[Array] = []
    for node in function["nodes"]:
        if node["op"] == "state":
            value = state[node["part"]]
        elif node["op"] == "input":
            if given is None:
                raise ValueError("the model has no input")
            value = given
        elif node["op"] == "tensor":
            stored = tensors[node["name"]]
            value = array([numbers.of(Fraction(v.item())) for v in stored.ravel()], stored.shape)
        elif node["op"] == "constant":
            value = array([numbers.of(v) for v in read_vector(node["value"])], node["shape"])
        else:
            value = _apply(node, [values[i] for i in node["in"]], numbers)
        values.append(value)
    return values


def split(flat: Sequence[Any], shapes: Sequence[Sequence[int]]) -> list[Array]:
    """A flattened state as its parts."""
    parts, start = [], 0
    for shape in shapes:
        parts.append(array(flat[start : start + prod(shape)], shape))
        start += prod(shape)
    return parts


def outputs(function: Json, values: Sequence[Array]) -> list[Any]:
    """The outputs, laid end to end."""
    return [v for i in function["outputs"] for v in values[i].ravel()]


class Nodes:
    """Collects nodes; each method returns the index of the new one."""

    def __init__(self) -> None:
        self.nodes: list[Json] = []

    def add(self, op: str, /, *args: int, **attrs: Any) -> int:
        self.nodes.append({"op": op, "in": list(args), **attrs})
        return len(self.nodes) - 1

    def state(self, part: int = 0) -> int:
        return self.add("state", part=part)

    def constant(self, values: Any) -> int:
        values = np.asarray(values, dtype=object)
        return self.add("constant", shape=list(values.shape), value=vector(values))

    def scale(self, a: int, num: int, den: int = 1) -> int:
        return self.add("scale", a, num=format(num, "x"), den=format(den, "x"))

    def clamp(self, a: int, lo: Any, hi: Any) -> int:
        return self.add("clamp", a, lo=None if lo is None else dyadic(lo), hi=None if hi is None else dyadic(hi))

    def function(self, *outputs: int) -> Json:
        return {"nodes": self.nodes, "outputs": list(outputs)}


@dataclass
class Sample:
    """A random model: its graph, the stored tensors and the random source that made it."""

    graph: Json
    tensors: dict[str, Array]
    rng: Random = field(repr=False)

    @property
    def shapes(self) -> list[list[int]]:
        return self.graph["state"]

    @property
    def size(self) -> int:
        return sum(map(prod, self.shapes))

    @property
    def input_size(self) -> int:
        return 0 if self.graph["input"] is None else prod(self.graph["input"]["shape"])

    @property
    def vocabulary(self) -> int | None:
        return None if self.graph["input"] is None else self.graph["input"].get("size")

    def given(self, flat: Sequence[Any]) -> Array | None:
        return None if self.graph["input"] is None else array(flat, self.graph["input"]["shape"])


STATES = ([[3]], [[2, 3]], [[4], [2, 2]], [[1, 2, 2]], [[2], [3], [1]], [[1]])
MOST = 18  # entries in a tensor of a random graph


class _Generator(Nodes):
    def __init__(self, rng: Random, ops: Sequence[str], state: list[list[int]], given: Json | None) -> None:
        super().__init__()
        self.rng, self.ops, self.given = rng, ops, given
        self.shapes: list[tuple[int, ...]] = []
        self.varies: list[bool] = []  # with the state or the input
        self.of_state: list[bool] = []
        self.tensors: dict[str, Array] = {}
        self.leaves = [self.place("state", (), tuple(shape), part=k) for k, shape in enumerate(state)]
        if given is not None:
            self.leaves.append(self.place("input", (), tuple(given["shape"])))

    def place(self, op: str, args: Sequence[int], shape: Sequence[int], /, **attrs: Any) -> int:
        self.shapes.append(tuple(shape))
        self.varies.append(op in ("state", "input") or any(self.varies[i] for i in args))
        self.of_state.append(op == "state" or any(self.of_state[i] for i in args))
        return self.add(op, *args, **attrs)

    def number(self, scale: int = 2) -> Fraction:
        return Fraction(self.rng.randint(-8 * scale, 8 * scale), 8)

    def values(self, shape: Sequence[int], scale: int = 1) -> Array:
        return array([self.number(scale) for _ in range(prod(shape))], shape)

    def fixed(self, shape: Sequence[int]) -> int:
        """A constant: a literal or a stored tensor."""
        values = self.values(shape)
        if self.rng.random() < 0.5:
            return self.place("constant", (), shape, shape=list(shape), value=vector(values))
        name = f"t{len(self.nodes)}"
        self.tensors[name] = np.array([float(v) for v in values.ravel()], dtype=np.float32).reshape(tuple(shape))
        return self.place("tensor", (), shape, name=name)

    def pick(self, good: Callable[[int], bool] = lambda i: True) -> int | None:
        """A varying node; recent ones are likelier, so that graphs grow deep."""
        found = [i for i in range(len(self.nodes)) if self.varies[i] and good(i) and prod(self.shapes[i]) <= MOST]
        return None if not found else found[max(self.rng.randrange(len(found)) for _ in range(2))]

    def grow(self, count: int) -> None:
        for _ in range(count):
            op = self.rng.choice(self.ops)
            getattr(self, f"_{op}", lambda op=op: self._unary(op))()

    def _unary(self, op: str) -> None:
        if (a := self.pick()) is not None:
            self.place(op, (a,), self.shapes[a])

    def _ranked(self, least: int) -> tuple[int, tuple[int, ...]] | None:
        a = self.pick(lambda i: len(self.shapes[i]) >= least)
        return None if a is None else (a, self.shapes[a])

    def _reshape(self) -> None:
        a = self.pick()
        if a is None:
            return
        size, shape = prod(self.shapes[a]), []
        for _ in range(self.rng.randint(0, 2)):
            shape.append(self.rng.choice([d for d in range(1, size + 1) if size % d == 0]))
            size //= shape[-1]
        shape.append(size)
        self.place("reshape", (a,), shape, shape=shape)

    def _permute(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axes = self.rng.sample(range(len(shape)), len(shape))
            self.place("permute", (a,), [shape[k] for k in axes], axes=axes)

    def _slice(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axis = self.rng.randrange(len(shape))
            start = self.rng.randrange(shape[axis])
            stop, step = self.rng.randint(start + 1, shape[axis]), self.rng.randint(1, 2)
            new = [*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :]]
            self.place("slice", (a,), new, axis=axis, start=start, stop=stop, step=step)

    def _select(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            axis = self.rng.randrange(len(shape))
            indices = [self.rng.randrange(shape[axis]) for _ in range(self.rng.randint(1, shape[axis] + 1))]
            self.place(
                "select", (a,), [*shape[:axis], len(indices), *shape[axis + 1 :]], axis=axis, indices=indices
            )  # fmt: skip

    def _expand(self) -> None:
        if found := self._ranked(0):
            a, shape = found
            source = [1, *shape]
            b = self.place("reshape", (a,), source, shape=source)
            new = [self.rng.randint(1, 3) if s == 1 else s for s in source]
            self.place("expand", (b,), new, shape=new)

    def _pad(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            pads = [[self.rng.randint(0, 1), self.rng.randint(0, 1)] for _ in shape]
            self.place("pad", (a,), [s + sum(p) for s, p in zip(shape, pads, strict=True)], pads=pads)

    def _concat(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            same = [i for i in range(len(self.nodes)) if self.shapes[i] == shape]
            args = [a, *(self.rng.choice(same) for _ in range(self.rng.randint(0, 2)))]
            if self.rng.random() < 0.3:
                args.append(self.fixed(shape))
            self.rng.shuffle(args)
            axis = self.rng.randrange(len(shape))
            new = [*shape[:axis], shape[axis] * len(args), *shape[axis + 1 :]]
            self.place("concat", args, new, axis=axis)

    def _unfold(self) -> None:
        if found := self._ranked(2):
            a, shape = found
            kernel = [self.rng.randint(1, min(s, 2)) for s in shape[1:]]
            stride = [self.rng.randint(1, 2) for _ in kernel]
            padding = [self.rng.randint(0, 1) for _ in kernel]
            dilation = [self.rng.randint(1, 2) if n >= 3 else 1 for n in shape[1:]]
            sizes = zip(shape[1:], padding, dilation, kernel, stride, strict=True)
            counts = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sizes]
            self.place(
                "unfold", (a,), (prod(counts), shape[0] * prod(kernel)),
                kernel=kernel, stride=stride, padding=padding, dilation=dilation,
            )  # fmt: skip

    def _linear(self) -> None:
        if found := self._ranked(1):
            a, shape = found
            out = self.rng.randint(1, 4)
            w = self.fixed((out, shape[-1]))
            if self.rng.random() < 0.3:  # a constant expression
                w = self.place("scale", (w,), self.shapes[w], num="-3", den="4")
            self.place("linear", (a, w), (*shape[:-1], out))

    def _matmul(self) -> None:
        if not (found := self._ranked(2)):
            return
        a, shape = found
        *lead, rows, columns = shape
        kind = self.rng.randrange(4)
        if kind == 0:  # a constant matrix from the left
            count = self.rng.randint(1, 3)
            self.place("matmul", (self.fixed((*lead, count, rows)), a), (*lead, count, columns))
        elif kind == 1:  # both factors vary
            axes = [*range(len(lead)), len(lead) + 1, len(lead)]
            b = self.place("permute", (a,), (*lead, columns, rows), axes=axes)
            self.place("matmul", (a, b), (*lead, rows, rows))
        else:  # attention
            count = rows if kind == 2 else self.rng.randint(1, 3)
            source = a
            if kind == 3 and (other := self.pick(lambda i: self.shapes[i] == shape)) is not None:
                source = other
            scores = self.place("linear", (source, self.fixed((rows, columns))), (*lead, rows, rows))
            weights = self.place("softmax", (scores,), (*lead, rows, rows)) if "softmax" in self.ops else scores
            if count != rows:
                axis = len(lead)
                chosen = [self.rng.randrange(rows) for _ in range(count)]
                weights = self.place("select", (weights,), (*lead, count, rows), axis=axis, indices=chosen)
            self.place("matmul", (weights, a), (*lead, count, columns))

    def _sum(self, op: str = "sum") -> None:
        if found := self._ranked(1):
            self.place(op, (found[0],), found[1][:-1])

    def _amax(self) -> None:
        self._sum("amax")

    def _scale(self) -> None:
        if (a := self.pick()) is not None:
            den = self.rng.choice([1, 2, 8] if "tanh" not in self.ops else [1, 2, 3, 7])
            self.place("scale", (a,), self.shapes[a], num=format(self.rng.randint(-5, 5), "x"), den=format(den, "x"))

    def _binary(self, op: str) -> None:
        if (a := self.pick()) is not None:
            same = [i for i in range(len(self.nodes)) if self.shapes[i] == self.shapes[a]]
            b = self.rng.choice(same) if self.rng.random() < 0.7 else self.fixed(self.shapes[a])
            self.place(op, (a, b) if self.rng.random() < 0.5 else (b, a), self.shapes[a])

    def _add(self) -> None:
        self._binary("add")

    def _sub(self) -> None:
        self._binary("sub")

    def _max(self) -> None:
        self._binary("max")

    def _min(self) -> None:
        self._binary("min")

    def _mul(self) -> None:
        if (a := self.pick()) is None:
            return
        bounded = self.rng.choice(["tanh", "sigmoid", "cos", None] if "tanh" in self.ops else [None])
        if bounded and self.rng.random() < 0.8:  # a gate
            gate = self.place(bounded, (self.pick(lambda i: self.shapes[i] == self.shapes[a]) or a,), self.shapes[a])
            self.place("mul", (a, gate), self.shapes[a])
        else:
            self._binary("mul")

    def _div(self) -> None:
        """By a constant that is not 0, or by a number computed from the input and clamped away from it."""
        if (a := self.pick()) is None:
            return
        shape = self.shapes[a]
        if self.given is not None and self.given["kind"] == "real" and self.rng.random() < 0.7:
            flat = self.place("reshape", (self.leaves[-1],), (prod(self.given["shape"]),), shape=[prod(self.given["shape"])])
            total = self.place("sum", (flat,), ())
            safe = self.place("clamp", (total,), (), lo=dyadic(Fraction(1, 2)), hi=dyadic(3))
            ones = [1] * len(shape)
            b = self.place("expand", (self.place("reshape", (safe,), ones, shape=ones),), shape, shape=list(shape))
        else:
            nonzero = [self.rng.choice([-1, 1]) * Fraction(self.rng.randint(2, 16), 8) for _ in range(prod(shape))]
            b = self.place("constant", (), shape, shape=list(shape), value=vector(nonzero))
        self.place("div", (a, b), shape)

    def _embedding(self) -> None:
        if self.given is None or self.given["kind"] != "integer":
            return
        width, shape = self.rng.randint(1, 3), self.given["shape"]
        self.place("embedding", (self.leaves[-1], self.fixed((self.given["size"], width))), (*shape, width))

    def _leaky_relu(self) -> None:
        if (a := self.pick()) is not None:
            self.place("leaky_relu", (a,), self.shapes[a], slope=dyadic(Fraction(self.rng.randint(0, 8), 8)))

    def _clamp(self) -> None:
        if (a := self.pick()) is not None:
            lo = self.number()
            hi = lo + Fraction(self.rng.randint(0, 16), 8)
            ends = [(lo, hi), (lo, None), (None, hi)][self.rng.randrange(3)]
            self.place(
                "clamp", (a,), self.shapes[a], **{k: None if v is None else dyadic(v) for k, v in zip(("lo", "hi"), ends, strict=True)}
            )

    def _row_norm(self, op: str) -> None:
        if found := self._ranked(1):
            eps = {} if op == "softmax" else {"eps": dyadic(Fraction(1, 2 ** self.rng.randint(0, 4)))}
            self.place(op, (found[0],), found[1], **eps)

    def _softmax(self) -> None:
        self._row_norm("softmax")

    def _rms_norm(self) -> None:
        self._row_norm("rms_norm")

    def _layer_norm(self) -> None:
        self._row_norm("layer_norm")

    def finish(self, shapes: Sequence[Sequence[int]]) -> Json:
        """One output a shape, which together use every node."""
        used = {i for node in self.nodes for i in node["in"]}
        sinks = [i for i in range(len(self.nodes)) if i not in used]
        found = []
        for k, shape in enumerate(shapes):
            total = None
            for sink in sinks[k :: len(shapes)] or sinks[:1]:
                size = prod(self.shapes[sink])
                flat = self.place("reshape", (sink,), (size,), shape=[size])
                if size == prod(shape) and self.rng.random() < 0.5:
                    mapped = flat
                else:
                    mapped = self.place("linear", (flat, self.fixed((prod(shape), size))), (prod(shape),))
                total = mapped if total is None else self.place("add", (total, mapped), (prod(shape),))
            if total is None:
                raise ValueError("a function without nodes")
            found.append(self.place("reshape", (total,), shape, shape=list(shape)))
        return self.function(*found)


def sample(seed: int, ops: Sequence[str], count: int = 9, given: str | None = "any") -> Sample:
    """A random model whose step uses the operations `ops`. `given` is real, integer, any or None."""
    rng = Random(seed)
    state = [list(s) for s in rng.choice(STATES)]
    kind = rng.choice(["real", "integer", None]) if given == "any" else given
    spec: Json | None = None
    if kind == "real":
        spec = {"shape": rng.choice([[2], [2, 3], [1]]), "kind": "real"}
    elif kind == "integer":
        spec = {"shape": rng.choice([[2], [3]]), "kind": "integer", "size": 4}
    generator = _Generator(rng, ops, state, spec)
    generator.grow(count)
    step = generator.finish(state)
    graph = {"state": state, "input": spec, "step": step, "init": None, "readout": None}
    return Sample(graph, generator.tensors, rng)
