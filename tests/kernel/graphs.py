"""A reference evaluator for graphs, written from docs/format.md alone.

Nothing here imports the kernel. Values are numpy arrays of objects: `Fraction` in the `EXACT` field, which knows the
piecewise-linear operations, and 400-bit mpmath numbers in the `HIGH` field, which knows all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
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
            "add": lambda p, q: p + q,
            "sub": lambda p, q: p - q,
            "mul": lambda p, q: p * q,
            "div": lambda p, q: p / q,
            "max": max,
            "min": min,
        }
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
