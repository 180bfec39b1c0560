"""Every operation of the exact graph in ONNX, one function each. What ONNX lacks is built from what it has.

Written for opset 18: the oldest in which all reductions take their axes as an input, and every activation but GELU is
an operation of its own or two.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod, sqrt
from typing import Any

import numpy as np

from trm_verify.deploy.onnx.emitter import Emitter, Value
from trm_verify.lowering import number

Node = dict[str, Any]
Rule = Callable[[Emitter, Node, list[Value]], Value]


def _same(name: str, a: Value) -> Value:
    return Value(name, a.shape, a.batched)


def _moved(name: str, a: Value, shape: tuple[int, ...]) -> Value:
    return Value(name, shape, a.batched, a.integer)


def _reshape(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    shape = tuple(node["shape"])
    return _moved(e.add("Reshape", [a.name, e.integers([-1, *shape] if a.batched else shape)]), a, shape)


def _permute(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    axes = [0] * a.first + [axis + a.first for axis in node["axes"]]
    return _moved(e.add("Transpose", [a.name], perm=axes), a, tuple(a.shape[axis] for axis in node["axes"]))


def _slice(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    start, stop, step, axis = node["start"], node["stop"], node["step"], node["axis"]
    bounds = [e.integers([v]) for v in (start, stop, axis + a.first, step)]
    shape = (*a.shape[:axis], len(range(start, stop, step)), *a.shape[axis + 1 :])
    return _moved(e.add("Slice", [a.name, *bounds]), a, shape)


def _select(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    axis, indices = node["axis"], node["indices"]
    shape = (*a.shape[:axis], len(indices), *a.shape[axis + 1 :])
    return _moved(e.add("Gather", [a.name, e.integers(indices)], axis=axis + a.first), a, shape)


def _expand(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    shape = tuple(node["shape"])
    return _moved(e.add("Expand", [a.name, e.integers([1] * a.first + list(shape))]), a, shape)


def _pad(e: Emitter, node: Node, args: list[Value]) -> Value:
    (a,) = args
    before, after = ([0] * a.first + [pair[side] for pair in node["pads"]] for side in (0, 1))
    shape = tuple(size + sum(pair) for size, pair in zip(a.shape, node["pads"], strict=True))
    return _moved(e.add("Pad", [a.name, e.integers([*before, *after])]), a, shape)


def _unfold(e: Emitter, node: Node, args: list[Value]) -> Value:
    """im2col as one Gather from the padded, flattened argument."""
    (a,) = args
    kernel, stride, dilation = node["kernel"], node["stride"], node["dilation"]
    padded = _pad(e, {"pads": [[0, 0], *([p, p] for p in node["padding"])]}, args)
    flat = _reshape(e, {"shape": [prod(padded.shape)]}, [padded])
    source = np.arange(prod(padded.shape)).reshape(padded.shape)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    axes = tuple(range(1, source.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(source, spans, axis=axes)  # (C, *positions, *spans)
    steps = [slice(None)] + [slice(None, None, s) for s in stride] + [slice(None, None, d) for d in dilation]
    taken = np.moveaxis(windows[tuple(steps)], 0, len(axes))  # (*positions, C, *kernel)
    positions = prod(taken.shape[: len(axes)])
    table = np.ascontiguousarray(taken.reshape(positions, -1)).astype(np.int64)
    return _moved(e.add("Gather", [flat.name, e.literal(table)], axis=a.first), a, (positions, table.shape[1]))


def _concat(e: Emitter, node: Node, args: list[Value]) -> Value:
    if any(a.batched for a in args):
        args = [e.with_batch(a) for a in args]
    axis, first = node["axis"], args[0]
    shape = (*first.shape[:axis], sum(a.shape[axis] for a in args), *first.shape[axis + 1 :])
    return _moved(e.add("Concat", [a.name for a in args], axis=axis + first.first), first, shape)


def _linear(e: Emitter, node: Node, args: list[Value]) -> Value:
    a, weight = args
    shape = (*a.shape[:-1], weight.shape[0])
    if a.batched and len(a.shape) == 1:  # what every reader of ONNX knows best
        return Value(e.add("Gemm", [a.name, weight.name], transB=1), shape, True)
    transposed = e.add("Transpose", [weight.name], perm=[1, 0])
    return Value(e.add("MatMul", [a.name, transposed]), shape, a.batched)


def _matmul(e: Emitter, node: Node, args: list[Value]) -> Value:
    a, b = args
    return Value(e.add("MatMul", [a.name, b.name]), (*a.shape[:-1], b.shape[-1]), a.batched or b.batched)


def _last(op: str) -> Rule:
    """A reduction of the last axis, which disappears."""

    def rule(e: Emitter, node: Node, args: list[Value]) -> Value:
        (a,) = args
        return Value(e.add(op, [a.name, e.integers([-1])], keepdims=0), a.shape[:-1], a.batched)

    return rule


def _pair(op: str) -> Rule:
    """An entrywise operation on two values of one shape; a batch axis broadcasts."""

    def rule(e: Emitter, node: Node, args: list[Value]) -> Value:
        a, b = args
        return Value(e.add(op, [a.name, b.name]), a.shape, a.batched or b.batched)

    return rule


def _each(op: str) -> Rule:
    """An entrywise operation on one value."""

    def rule(e: Emitter, node: Node, args: list[Value]) -> Value:
        return _same(e.add(op, [args[0].name]), args[0])

    return rule


def _scale(e: Emitter, node: Node, args: list[Value]) -> Value:
    factor = e.number(float(Fraction(int(node["num"], 16), int(node["den"], 16))))
    return _same(e.add("Mul", [args[0].name, factor]), args[0])


def _softmax(e: Emitter, node: Node, args: list[Value]) -> Value:
    return _same(e.add("Softmax", [args[0].name], axis=-1), args[0])


def _mean(e: Emitter, name: str) -> str:
    return e.add("ReduceMean", [name, e.integers([-1])], keepdims=1)


def _normalized(e: Emitter, node: Node, name: str) -> str:
    """`a / √(mean a² + eps)`."""
    square = _mean(e, e.add("Mul", [name, name]))
    return e.add("Div", [name, e.add("Sqrt", [e.add("Add", [square, e.number(float(number(node["eps"])))])])])


def _rms_norm(e: Emitter, node: Node, args: list[Value]) -> Value:
    return _same(_normalized(e, node, args[0].name), args[0])


def _layer_norm(e: Emitter, node: Node, args: list[Value]) -> Value:
    centred = e.add("Sub", [args[0].name, _mean(e, args[0].name)])
    return _same(_normalized(e, node, centred), args[0])


def _embedding(e: Emitter, node: Node, args: list[Value]) -> Value:
    x, table = args
    return Value(e.add("Gather", [table.name, x.name], axis=0), (*x.shape, table.shape[1]), x.batched)


def _silu(e: Emitter, node: Node, args: list[Value]) -> Value:
    return _same(e.add("Mul", [args[0].name, e.add("Sigmoid", [args[0].name])]), args[0])


def _gelu(e: Emitter, node: Node, args: list[Value]) -> Value:
    """x (1 + erf(x/√2)) / 2; an operation of its own only from opset 20 on."""
    (a,) = args
    erf = e.add("Erf", [e.add("Mul", [a.name, e.number(sqrt(0.5))])])
    half = e.add("Mul", [a.name, e.number(0.5)])
    return _same(e.add("Mul", [half, e.add("Add", [erf, e.number(1.0)])]), a)


def _leaky_relu(e: Emitter, node: Node, args: list[Value]) -> Value:
    return _same(e.add("LeakyRelu", [args[0].name], alpha=float(number(node["slope"]))), args[0])


def _clamp(e: Emitter, node: Node, args: list[Value]) -> Value:
    ends = ["" if node[end] is None else e.number(float(number(node[end]))) for end in ("lo", "hi")]
    return args[0] if ends == ["", ""] else _same(e.add("Clip", [args[0].name, *ends]), args[0])


RULES: dict[str, Rule] = {
    "reshape": _reshape, "permute": _permute, "slice": _slice, "select": _select, "expand": _expand, "pad": _pad,
    "unfold": _unfold, "concat": _concat, "linear": _linear, "matmul": _matmul, "sum": _last("ReduceSum"),
    "scale": _scale, "add": _pair("Add"), "sub": _pair("Sub"), "mul": _pair("Mul"), "div": _pair("Div"),
    "max": _pair("Max"), "min": _pair("Min"), "amax": _last("ReduceMax"), "softmax": _softmax, "rms_norm": _rms_norm,
    "layer_norm": _layer_norm, "embedding": _embedding, "relu": _each("Relu"), "abs": _each("Abs"),
    "tanh": _each("Tanh"), "sigmoid": _each("Sigmoid"), "softplus": _each("Softplus"), "silu": _silu, "gelu": _gelu,
    "sin": _each("Sin"), "cos": _each("Cos"), "leaky_relu": _leaky_relu, "clamp": _clamp,
}  # fmt: skip

KEEP_INTEGERS = {"reshape", "permute", "slice", "select", "expand", "pad", "unfold", "embedding"}
