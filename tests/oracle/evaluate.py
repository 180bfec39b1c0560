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


def activation(node: Json, a: Array, numbers: Numbers) -> Array:
    op = node["op"]
    if op == "relu":
        return np.maximum(a, numbers.of(0))
    if op == "abs":
        return np.abs(a)
    if op == "leaky_relu":
        return np.where(a > numbers.of(0), a, numbers.of(read_number(node["slope"])) * a)
    if op == "clamp":
        a = a if node["lo"] is None else np.maximum(a, numbers.of(read_number(node["lo"])))
        return a if node["hi"] is None else np.minimum(a, numbers.of(read_number(node["hi"])))
    return numbers.functions[op](a)


def _normalised(node: Json, a: Array, numbers: Numbers) -> Array:
    width = numbers.of(Fraction(a.shape[-1]))
    if node["op"] == "softmax":
        powers = numbers.functions["exp"](a - a.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
    if node["op"] == "layer_norm":
        a = a - a.sum(axis=-1, keepdims=True) / width
    square = (a * a).sum(axis=-1, keepdims=True) / width
    return a / numbers.functions["sqrt"](square + numbers.of(read_number(node["eps"])))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _layout(node: Json, args: list[Array], numbers: Numbers) -> Array:
    """Layout operations; every array has a batch axis in front."""
    op, a = node["op"], args[0]
    if op == "reshape":
        return a.reshape(a.shape[0], *node["shape"])
    if op == "permute":
        return a.transpose(0, *(axis + 1 for axis in node["axes"]))
    if op == "slice":
        cut = [slice(None)] * a.ndim
        cut[node["axis"] + 1] = slice(node["start"], node["stop"], node["step"])
        return a[tuple(cut)]
    if op == "select":
        return np.take(a, node["indices"], axis=node["axis"] + 1)
    if op == "expand":
        return np.broadcast_to(a, (a.shape[0], *node["shape"]))
    if op == "pad":
        return np.pad(a, [(0, 0), *map(tuple, node["pads"])], constant_values=numbers.of(0))
    if op == "unfold":
        return _unfold(a, node, numbers.of(0))
    batch = max(p.shape[0] for p in args)
    return np.concatenate([np.broadcast_to(p, (batch, *p.shape[1:])) for p in args], axis=node["axis"] + 1)


def _apply(node: Json, args: list[Array], numbers: Numbers) -> Array:
    op, a = node["op"], args[0]
    if op in ACTIVATIONS:
        return activation(node, a, numbers)
    if op in BINARY:
        return BINARY[op](a, args[1])
    if op in ("softmax", "rms_norm", "layer_norm"):
        return _normalised(node, a, numbers)
    if op == "linear":
        return np.matmul(a, args[1][0].T)  # the matrix is constant: its batch axis has one entry
    if op == "matmul":
        return np.matmul(a, args[1])
    if op == "sum":
        return a.sum(axis=-1)
    if op == "amax":
        return a.max(axis=-1)
    if op == "scale":
        return a * numbers.of(Fraction(int(node["num"], 16), int(node["den"], 16)))
    if op == "embedding":
        return args[1][0][np.rint(a.astype(np.float64)).astype(int)]
    return _layout(node, args, numbers)


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
    def _stored(self) -> dict[str, Array]:
        used = {
            node["name"]
            for f in (self.model.graph[k] for k in ("step", "init", "readout"))
            if f is not None
            for node in f["nodes"]
            if node["op"] == "tensor"
        }
        return {
            k: self.numbers.array(list(self.model.tensors[k].ravel()), (1, *self.model.tensors[k].shape)) for k in used
        }

    @cached_property
    def _literals(self) -> dict[int, Array]:
        functions = [f for f in (self.model.graph[k] for k in ("step", "init", "readout")) if f is not None]
        literals = [node for f in functions for node in f["nodes"] if node["op"] == "constant"]
        return {id(c): self.numbers.array(read_vector(c["value"]), (1, *c["shape"])) for c in literals}

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        return ranges([prod(s) for s in self.model.shapes])

    def split(self, z: Array) -> list[Array]:
        return [z[:, a:b].reshape(z.shape[0], *s) for (a, b), s in zip(self._ends, self.model.shapes, strict=True)]

    def values(self, function: Json, z: Array | None, x: Array | None) -> list[Array]:
        """Every node of a function."""
        parts = None if z is None else self.split(z)
        values: list[Array] = []
        for node in function["nodes"]:
            if node["op"] == "state":
                values.append(parts[node["part"]])  # type: ignore[index]
            elif node["op"] == "input":
                values.append(x.reshape(x.shape[0], *self.model.graph["input"]["shape"]))  # type: ignore[union-attr]
            elif node["op"] == "tensor":
                values.append(self._stored[node["name"]])
            elif node["op"] == "constant":
                values.append(self._literals[id(node)])
            else:
                values.append(_apply(node, [values[i] for i in node["in"]], self.numbers))
        return values

    def _flat(self, function: Json, values: list[Array], batch: int) -> Array:
        outputs = [values[i].reshape(values[i].shape[0], -1) for i in function["outputs"]]
        full = [v if v.shape[0] == batch else np.broadcast_to(v, (batch, v.shape[1])) for v in outputs]
        return full[0] if len(full) == 1 else np.concatenate(full, axis=1)

    def step(self, z: Array, x: Array) -> Array:
        function = self.model.graph["step"]
        return self._flat(function, self.values(function, z, x), z.shape[0])

    def init(self, x: Array) -> Array:
        function = self.model.graph["init"]
        if function is None:
            return self.numbers.array([0] * (len(x) * self.model.n), (len(x), self.model.n))
        return self._flat(function, self.values(function, None, x), len(x))

    def readout(self, z: Array) -> Array:
        """Shape: (batch, positions, classes)."""
        function = self.model.graph["readout"]
        logits = self.values(function, z, None)[function["outputs"][0]]
        return np.broadcast_to(logits, (len(z), *logits.shape[1:])).reshape(len(z), -1, logits.shape[-1])

    def inner(self, z: Array, x: Array, alpha: Any) -> Array:
        """φ((1 − α)z + α a(z, x)) for a step φ(a); φ is the identity when the step has no activation."""
        function = self.model.graph["step"]
        values = self.values(function, z, x)
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
        return activation(node, mixed, self.numbers) if found else mixed

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
