"""Evaluates a graph on batches of states and inputs, in doubles or with 240 bits. Written from docs/format.md alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import mpmath
import numpy as np
from scipy import special

from tests.oracle.files import Array, Json, Model, read_number, read_vector

REAL = mpmath.mp.clone()
REAL.prec = 240
ERROR = REAL.mpf(2) ** -180  # relative error granted to 240-bit evaluations; far below anything that a kernel rounds
ACTIVATIONS = {
    "relu", "abs", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos", "leaky_relu", "clamp",
}  # fmt: skip


Operation = Callable[..., Array]


def to_real(value: Any) -> Any:
    return REAL.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else REAL.mpf(value)


@dataclass(frozen=True)
class Numbers:
    """How exact numbers become numbers of one kind, and the functions of one variable that these have."""

    of: Callable[[Any], Any]
    dtype: Any
    functions: dict[str, Callable[[Array], Array]]

    def array(self, values: Sequence[Any], shape: Sequence[int]) -> Array:
        out = np.empty(len(values), dtype=self.dtype)
        out[:] = [self.of(v) for v in values]
        return out.reshape(tuple(shape))


def _each(f: Callable[[Any], Any]) -> Callable[[Array], Array]:
    return np.frompyfunc(f, 1, 1)


def _sigmoid(v: Any) -> Any:
    return 1 / (1 + REAL.exp(-v))


FLOAT = Numbers(
    float, np.float64,
    {
        "tanh": np.tanh, "sigmoid": special.expit, "softplus": lambda a: np.logaddexp(0.0, a),
        "silu": lambda a: a * special.expit(a), "gelu": lambda a: a * special.ndtr(a), "sin": np.sin, "cos": np.cos,
        "exp": np.exp, "sqrt": np.sqrt,
    },
)  # fmt: skip
HIGH = Numbers(
    to_real, object,
    {
        "tanh": _each(REAL.tanh), "sigmoid": _each(_sigmoid),
        "softplus": _each(lambda v: max(v, REAL.mpf(0)) + REAL.log1p(REAL.exp(-abs(v)))),
        "silu": _each(lambda v: v * _sigmoid(v)), "gelu": _each(lambda v: v * REAL.erfc(-v / REAL.sqrt(2)) / 2),
        "sin": _each(REAL.sin), "cos": _each(REAL.cos), "exp": _each(REAL.exp), "sqrt": _each(REAL.sqrt),
    },
)  # fmt: skip


def _unfold(a: Array, node: Json, zero: Any) -> Array:
    """im2col. Shape: (batch, C, *spatial) to (batch, positions, C·∏kernel)."""
    kernel, stride, padding, dilation = (node[k] for k in ("kernel", "stride", "padding", "dilation"))
    padded = np.pad(a, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=zero)
    spatial = zip(padded.shape[2:], dilation, kernel, stride, strict=True)
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in spatial]
    columns = []
    for tap in product(*map(range, kernel)):
        cut = [
            slice(t * d, t * d + s * (c - 1) + 1, s) for t, d, s, c in zip(tap, dilation, stride, counts, strict=True)
        ]
        columns.append(padded[(slice(None), slice(None), *cut)].reshape(*a.shape[:2], -1))
    stacked = np.stack(columns, axis=-1)  # (batch, channel, position, tap)
    return np.moveaxis(stacked, 1, 2).reshape(a.shape[0], prod(counts), -1)


def activation(node: Json, numbers: Numbers) -> Operation:
    op = node["op"]
    if op == "relu":
        zero = numbers.of(0)
        return lambda a: np.maximum(a, zero)
    if op == "abs":
        return np.abs
    if op == "leaky_relu":
        zero, slope = numbers.of(0), numbers.of(read_number(node["slope"]))
        return lambda a: np.where(a > zero, a, slope * a)
    if op == "clamp":
        lo, hi = (None if node[end] is None else numbers.of(read_number(node[end])) for end in ("lo", "hi"))

        def clamp(a: Array) -> Array:
            a = a if lo is None else np.maximum(a, lo)
            return a if hi is None else np.minimum(a, hi)

        return clamp
    return numbers.functions[op]


def _normalised(node: Json, numbers: Numbers) -> Operation:
    if node["op"] == "softmax":
        exp = numbers.functions["exp"]

        def softmax(a: Array) -> Array:
            powers = exp(a - a.max(axis=-1, keepdims=True))
            return powers / powers.sum(axis=-1, keepdims=True)

        return softmax
    eps, centred, root = numbers.of(read_number(node["eps"])), node["op"] == "layer_norm", numbers.functions["sqrt"]

    def normalised(a: Array) -> Array:
        width = numbers.of(Fraction(a.shape[-1]))
        if centred:
            a = a - a.sum(axis=-1, keepdims=True) / width
        square = (a * a).sum(axis=-1, keepdims=True) / width
        return a / root(square + eps)

    return normalised


BINARY: dict[str, Operation] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _concatenated(axis: int) -> Operation:
    def concatenated(*args: Array) -> Array:
        batch = max(len(p) for p in args)
        full = [p if len(p) == batch else np.broadcast_to(p, (batch, *p.shape[1:])) for p in args]
        return np.concatenate(full, axis=axis + 1)

    return concatenated


def _layout(node: Json, numbers: Numbers) -> Operation:
    """Layout operations; every array has a batch axis in front."""
    op = node["op"]
    if op == "reshape":
        return lambda a: a.reshape(len(a), *node["shape"])
    if op == "permute":
        axes = (0, *(axis + 1 for axis in node["axes"]))
        return lambda a: a.transpose(axes)
    if op == "slice":
        cut = (*[slice(None)] * (node["axis"] + 1), slice(node["start"], node["stop"], node["step"]))
        return lambda a: a[cut]
    if op == "select":
        return lambda a: np.take(a, node["indices"], axis=node["axis"] + 1)
    if op == "expand":
        return lambda a: np.broadcast_to(a, (len(a), *node["shape"]))
    if op == "pad":
        return lambda a: np.pad(a, [(0, 0), *map(tuple, node["pads"])], constant_values=numbers.of(0))
    if op == "unfold":
        return lambda a: _unfold(a, node, numbers.of(0))
    return _concatenated(node["axis"])


def operation(node: Json, numbers: Numbers) -> Operation:
    """What a node does to the values before it. Its own numbers are converted here, once for all evaluations."""
    op = node["op"]
    if op in ACTIVATIONS:
        return activation(node, numbers)
    if op in BINARY:
        return BINARY[op]
    if op in ("softmax", "rms_norm", "layer_norm"):
        return _normalised(node, numbers)
    if op == "linear":
        return lambda a, matrix: np.matmul(a, matrix[0].T)  # the matrix is constant: its batch axis has one entry
    if op == "matmul":
        return np.matmul
    if op == "sum":
        return lambda a: a.sum(axis=-1)
    if op == "amax":
        return lambda a: a.max(axis=-1)
    if op == "scale":
        factor = numbers.of(Fraction(int(node["num"], 16), int(node["den"], 16)))
        return lambda a: a * factor
    if op == "embedding":
        return lambda a, table: table[0][np.rint(a.astype(np.float64)).astype(int)]
    return _layout(node, numbers)


def ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where parts of these sizes begin and end when laid end to end."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return list(zip(ends, ends[1:], strict=False))


class Evaluator:
    """One model in one kind of numbers. States and inputs are flat: (batch, n) and (batch, m)."""

    def __init__(self, model: Model, numbers: Numbers) -> None:
        self.model, self.numbers = model, numbers

    @cached_property
    def _plans(self) -> dict[str, list[Any]]:
        """By function, what gives the value of each node: the value itself where neither state nor input enters, else
        the operation and the nodes that it takes, which are none for states and inputs.
        """
        return {name: self._plan(f) for name in ("step", "init", "readout") if (f := self.model.graph[name])}

    def _plan(self, function: Json) -> list[Any]:
        plan: list[Any] = []
        for node in function["nodes"]:
            if node["op"] in ("state", "input"):
                plan.append((None, ()))
            elif node["op"] == "tensor":
                stored = self.model.tensors[node["name"]]
                plan.append(self.numbers.array(list(stored.ravel()), (1, *stored.shape)))
            elif node["op"] == "constant":
                plan.append(self.numbers.array(read_vector(node["value"]), (1, *node["shape"])))
            else:
                args = [plan[i] for i in node["in"]]
                apply = operation(node, self.numbers)
                known = not any(isinstance(arg, tuple) for arg in args)
                plan.append(apply(*args) if known else (apply, tuple(node["in"])))
        return plan

    @cached_property
    def _parts(self) -> list[tuple[int, int, tuple[int, ...]]]:
        shapes = self.model.shapes
        return [(a, b, s) for (a, b), s in zip(ranges([prod(s) for s in shapes]), shapes, strict=True)]

    def split(self, z: Array) -> list[Array]:
        return [z[:, a:b].reshape(len(z), *s) for a, b, s in self._parts]

    def values(self, name: str, z: Array | None, x: Array | None) -> list[Array]:
        """Every node of a function."""
        parts = None if z is None else self.split(z)
        values: list[Array] = []
        for node, planned in zip(self.model.graph[name]["nodes"], self._plans[name], strict=True):
            if not isinstance(planned, tuple):
                values.append(planned)
            elif node["op"] == "state":
                values.append(parts[node["part"]])  # type: ignore[index]
            elif node["op"] == "input":
                values.append(x.reshape(x.shape[0], *self.model.graph["input"]["shape"]))  # type: ignore[union-attr]
            else:
                apply, args = planned
                values.append(apply(*[values[i] for i in args]))
        return values

    def _flat(self, function: Json, values: list[Array], batch: int) -> Array:
        outputs = [values[i].reshape(values[i].shape[0], -1) for i in function["outputs"]]
        full = [v if v.shape[0] == batch else np.broadcast_to(v, (batch, v.shape[1])) for v in outputs]
        return full[0] if len(full) == 1 else np.concatenate(full, axis=1)

    def step(self, z: Array, x: Array) -> Array:
        return self._flat(self.model.graph["step"], self.values("step", z, x), z.shape[0])

    def init(self, x: Array) -> Array:
        function = self.model.graph["init"]
        if function is None:
            return self.numbers.array([0] * (len(x) * self.model.n), (len(x), self.model.n))
        return self._flat(function, self.values("init", None, x), len(x))

    def readout(self, z: Array) -> Array:
        """Shape: (batch, positions, classes)."""
        function = self.model.graph["readout"]
        logits = self.values("readout", z, None)[function["outputs"][0]]
        return np.broadcast_to(logits, (len(z), *logits.shape[1:])).reshape(len(z), -1, logits.shape[-1])

    def inner(self, z: Array, x: Array, alpha: Any) -> Array:
        """φ((1 − α)z + α a(z, x)) for a step φ(a); φ is the identity when the step has no activation."""
        function = self.model.graph["step"]
        values = self.values("step", z, x)
        index = function["outputs"][0]
        while function["nodes"][index]["op"] == "reshape":
            index = function["nodes"][index]["in"][0]
        node = function["nodes"][index]
        if len(function["outputs"]) != 1:
            raise NotImplementedError("inner damping of several parts")
        found = node["op"] in ACTIVATIONS
        argument = np.broadcast_to(
            values[node["in"][0]] if found else values[index], (len(z), *values[index].shape[1:])
        )
        mixed = (1 - alpha) * z + alpha * argument.reshape(len(z), -1)
        return activation(node, self.numbers)(mixed) if found else mixed

    def apply(self, operator: Any, z: Array, x: Array) -> Array:
        """One application of the named operator."""
        if operator == "picard":
            return self.step(z, x)
        if isinstance(operator, dict) and "outer_damped" in operator:
            alpha = self.numbers.array(read_vector(operator["outer_damped"]), (1, -1))
            return (1 - alpha) * z + alpha * self.step(z, x)
        if isinstance(operator, dict) and "inner_damped" in operator:
            return self.inner(z, x, self.numbers.of(read_number(operator["inner_damped"])))
        raise NotImplementedError(f"no loop is named: {operator}")


def to_high(values: Array) -> Array:
    """Doubles as 240-bit numbers, exactly."""
    out = np.empty(values.shape, dtype=object)
    out.ravel()[:] = [REAL.mpf(float(v)) for v in values.ravel()]
    return out


def norm_of(norm: Json, numbers: Numbers) -> Callable[[Array], Array]:
    """N on flat differences. Shape: (batch, n) to (batch,)."""
    root = numbers.functions["sqrt"]
    if norm["kind"] == "metric":
        entries = read_vector(norm["matrix"])
        n = round(len(entries) ** 0.5)
        matrix = numbers.array(entries, (n, n))
        return lambda v: root(np.maximum((v * (v @ matrix)).sum(axis=-1), numbers.of(0)))
    sizes = [each for count, each in norm["runs"] for _ in range(count)]
    weights = numbers.array(read_vector(norm["weights"]), (1, -1))
    if max(sizes) == 1:
        return lambda v: (np.abs(v) / weights).max(axis=-1)
    ends = ranges(sizes)

    def block(v: Array) -> Array:
        lengths = [root((v[:, a:b] * v[:, a:b]).sum(axis=-1)) for a, b in ends]
        return (np.stack(lengths, axis=-1) / weights).max(axis=-1)

    return block
