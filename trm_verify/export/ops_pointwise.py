"""Arithmetic and activations, entry by entry."""

from __future__ import annotations

from fractions import Fraction
from math import isinf
from typing import Any

import torch

from trm_verify.export.axes import Axes
from trm_verify.export.builder import dyadic
from trm_verify.export.errors import BatchMixing, UnknownOperation
from trm_verify.export.roots import rms_from_root
from trm_verify.export.translate import Translator, Value, handles

Operand = Value | float


def _scaled(t: Translator, out: Axes, value: Operand, factor: Any) -> int:
    return t.b.scale(t.align(value, out), t.number(factor))


def _expanded(t: Translator, node: int, out: Axes) -> int:
    return t.b.expand(node, out.shape)


def _between(t: Translator, a: int, b: int, weight: int) -> int:
    """(1 − w) a + w b."""
    rest = t.b.binary("sub", t.b.constant((), [Fraction(1)]), weight)
    return t.b.binary("add", t.b.binary("mul", rest, a), t.b.binary("mul", weight, b))


@handles("add.Tensor", "add.Scalar")
def add(t: Translator, out: Axes, a: Operand, b: Operand, alpha: Any = 1) -> int:
    p, q = t.align(a, out), _scaled(t, out, b, alpha)
    for start, moved in ((p, q), (q, p)):
        gate = _gate(t, start, moved)
        if gate is not None:
            return _expanded(t, _between(t, start, *gate), out)
    return _expanded(t, t.b.binary("add", p, q), out)


def _gate(t: Translator, a: int, moved: int) -> tuple[int, int] | None:
    """b and w, where `moved` is w (b − a) with a gate w, and a or b the state, as in `nn.GRUCell`.

    The same number is (1 − w) a + w b, in which the state has a weight below 1: intervals of the loop can close. Other
    values are left as they are written: where both are large and close, how far apart they are says more.
    """
    nodes = t.b.nodes
    if nodes[moved]["op"] != "mul":
        return None
    for weight, change in (nodes[moved]["in"], nodes[moved]["in"][::-1]):
        if nodes[weight]["op"] == "sigmoid" and nodes[change]["op"] == "sub" and nodes[change]["in"][1] == a:
            b = nodes[change]["in"][0]
            return (b, weight) if "state" in (nodes[a]["op"], nodes[b]["op"]) else None
    return None


@handles("sub.Tensor", "sub.Scalar", "subtract.Tensor")
def sub(t: Translator, out: Axes, a: Operand, b: Operand, alpha: Any = 1) -> int:
    return _expanded(t, t.b.binary("sub", t.align(a, out), _scaled(t, out, b, alpha)), out)


@handles("rsub.Scalar", "rsub.Tensor")
def rsub(t: Translator, out: Axes, a: Operand, b: Operand, alpha: Any = 1) -> int:
    return sub(t, out, b, a, alpha)


@handles("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def mul(t: Translator, out: Axes, a: Operand, b: Operand) -> int:
    if not isinstance(a, Value):
        a, b = b, a
    if not isinstance(b, Value):
        return _scaled(t, out, a, b)
    p, q = t.align(a, out), t.align(b, out)
    for scaled, other in ((p, q), (q, p)):
        if t.b.nodes[scaled]["op"] == "rsqrt":  # kept by `rsqrt` below for this product alone
            return rms_from_root(t, other, *t.b.nodes[scaled]["in"])
    return _expanded(t, t.b.binary("mul", p, q), out)


@handles("div.Tensor", "div.Scalar", "divide.Tensor", "true_divide.Tensor")
def div(t: Translator, out: Axes, a: Operand, b: Operand) -> int:
    if not isinstance(b, Value):
        divisor = t.number(b)
        if divisor == 0:
            raise UnknownOperation("expected a divisor other than 0")
        return t.b.scale(t.align(a, out), 1 / divisor)
    below = t.align(b, out)
    if t.b.nodes[below]["op"] == "sqrt":  # kept by `root` below for this quotient alone
        return rms_from_root(t, t.align(a, out), *t.b.nodes[below]["in"])
    if t.b.state[below]:
        raise UnknownOperation("expected a divisor that does not depend on the state; use a normalization layer "
                               "(RMSNorm, LayerNorm, softmax) or divide by a function of x")  # fmt: skip
    return _expanded(t, t.b.binary("div", t.align(a, out), below), out)


@handles("reciprocal.default")
def reciprocal(t: Translator, out: Axes, a: Value) -> int:
    return div(t, out, 1.0, a)


@handles("neg.default", "negative.default")
def neg(t: Translator, out: Axes, a: Value) -> int:
    return t.b.scale(t.use(a), Fraction(-1))


@handles("square.default")
def square(t: Translator, out: Axes, a: Value) -> int:
    return t.b.binary("mul", t.use(a), t.use(a))


@handles("pow.Tensor_Scalar")
def power(t: Translator, out: Axes, a: Value, exponent: Any) -> int:
    if exponent not in (1, 2, 3, 4):
        raise UnknownOperation(f"expected an integer power from 1 to 4, found {exponent}")
    node = t.use(a)
    if exponent == 4:
        squared = t.b.binary("mul", node, node)
        return t.b.binary("mul", squared, squared)
    result = node
    for _ in range(int(exponent) - 1):
        result = t.b.binary("mul", result, node)
    return result


@handles("addcmul.default")
def addcmul(t: Translator, out: Axes, a: Value, b: Value, c: Value, *, value: Any = 1) -> int:
    product = t.b.scale(t.b.binary("mul", t.align(b, out), t.align(c, out)), t.number(value))
    return _expanded(t, t.b.binary("add", t.align(a, out), product), out)


@handles("lerp.Scalar", "lerp.Tensor")
def lerp(t: Translator, out: Axes, a: Value, b: Value, weight: Operand) -> int:
    """(1 − w) a + w b."""
    if not isinstance(weight, Value):
        w = t.number(weight)
        return t.b.binary("add", t.b.scale(t.align(a, out), 1 - w), t.b.scale(t.align(b, out), w))
    return _expanded(t, _between(t, t.align(a, out), t.align(b, out), t.align(weight, out)), out)


@handles("maximum.default", "max.other")
def maximum(t: Translator, out: Axes, a: Value, b: Value) -> int:
    return _expanded(t, t.b.binary("max", t.align(a, out), t.align(b, out)), out)


@handles("minimum.default", "min.other")
def minimum(t: Translator, out: Axes, a: Value, b: Value) -> int:
    return _expanded(t, t.b.binary("min", t.align(a, out), t.align(b, out)), out)


def _mask(t: Translator, mask: Value, out: Axes) -> tuple[int, int]:
    """0/1 constants: where the mask holds, and where not."""
    data = t.constant_data(mask, "mask")
    inside = t.b.constant(tuple(data.shape), [Fraction(int(v)) for v in data.reshape(-1).tolist()])
    outside = t.b.constant(tuple(data.shape), [Fraction(int(not v)) for v in data.reshape(-1).tolist()])
    if mask.axes.batch is None and out.batch is not None and not out.merged:
        position = out.batch - (out.rank - mask.axes.rank)
        if position >= 0:
            shape = data.shape[:position] + data.shape[position + 1 :]
            if data.shape[position] != 1:
                raise BatchMixing("expected one mask for all rows, found one per row")
            inside, outside = t.b.reshape(inside, shape), t.b.reshape(outside, shape)
    return inside, outside


@handles("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(t: Translator, out: Axes, mask: Value, a: Operand, b: Operand) -> int:
    """A constant choice: m a + (1 − m) b."""
    inside, outside = _mask(t, mask, out)
    chosen = t.b.binary("mul", inside, t.align(a, out))
    return _expanded(t, t.b.binary("add", chosen, t.b.binary("mul", outside, t.align(b, out))), out)


@handles("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(t: Translator, out: Axes, a: Value, mask: Value, value: Operand) -> int:
    return where(t, out, mask, value, a)


@handles("tril.default")
def tril(t: Translator, out: Axes, a: Value, diagonal: int = 0) -> int:
    return _triangle(t, a, torch.tril, diagonal)


@handles("triu.default")
def triu(t: Translator, out: Axes, a: Value, diagonal: int = 0) -> int:
    return _triangle(t, a, torch.triu, diagonal)


def _triangle(t: Translator, a: Value, cut: Any, diagonal: int) -> int:
    if a.axes.batch is not None and a.axes.batch >= a.axes.rank - 2:
        raise BatchMixing("expected the batch axis outside the matrix")
    shape = a.axes.shape[-2:]
    mask = cut(torch.ones(shape), diagonal).reshape(-1).tolist()
    return t.b.binary("mul", t.use(a), t.b.constant(shape, [Fraction(v) for v in mask]))


# --- activations -----------------------------------------------------------------------------------------------

PLAIN = ("relu", "abs", "tanh", "sigmoid", "silu", "sin", "cos")


def _plain(name: str) -> Any:
    return lambda t, out, a: t.b.unary(name, t.use(a))


for _name in PLAIN:
    handles(f"{_name}.default")(_plain(_name))


@handles("gelu.default")
def gelu(t: Translator, out: Axes, a: Value, *, approximate: str = "none") -> int:
    if approximate != "none":
        raise UnknownOperation(f'expected the exact form of GELU, found approximate={approximate!r}; use "none"')
    return t.b.unary("gelu", t.use(a))


@handles("softplus.default")
def softplus(t: Translator, out: Axes, a: Value, beta: Any = 1, threshold: Any = 20) -> int:
    """log(1 + exp(a)); torch's switch to the identity above 20 is a rounding of at most 2.1e-9."""
    if threshold < 20 or t.number(beta) <= 0:
        raise UnknownOperation(f"expected threshold >= 20 and beta > 0, found {threshold} and {beta}")
    scale = t.number(beta)
    return t.b.scale(t.b.unary("softplus", t.b.scale(t.use(a), scale)), 1 / scale)


@handles("log_sigmoid.default")
def log_sigmoid(t: Translator, out: Axes, a: Value) -> int:
    minus = Fraction(-1)
    return t.b.scale(t.b.unary("softplus", t.b.scale(t.use(a), minus)), minus)


@handles("leaky_relu.default")
def leaky_relu(t: Translator, out: Axes, a: Value, slope: Any = 0.01) -> int:
    if not 0 <= slope <= 1:
        raise UnknownOperation(f"expected a leaky ReLU with slope in [0, 1], found {slope}")
    return t.b.unary("leaky_relu", t.use(a), slope=dyadic(t.number(slope)))


@handles("prelu.default", "_prelu_kernel.default")
def prelu(t: Translator, out: Axes, a: Value, weight: Value) -> int:
    """ReLU(a) − w ReLU(−a); weights lie along torch's axis 1."""
    b, node, w = t.b, t.use(a), t.use(weight)
    if weight.axes.rank == 1 and weight.axes.shape[0] > 1:
        axis = a.axes.axis(1)
        w = b.reshape(w, (weight.axes.shape[0],) + (1,) * (len(out.shape) - axis - 1))
    elif weight.axes.rank > 1:
        w = t.align(weight, out)
    below = b.unary("relu", b.scale(node, Fraction(-1)))
    return b.binary("sub", b.unary("relu", node), b.binary("mul", b.reshape(w, b.shapes[w]), below))


def _clamped(t: Translator, node: int, lo: Any, hi: Any) -> int:
    lo = None if lo is None or (isinf(lo) and lo < 0) else t.number(lo)
    hi = None if hi is None or (isinf(hi) and hi > 0) else t.number(hi)
    if lo is not None and hi is not None and lo > hi:
        raise UnknownOperation(f"expected clamp bounds lo <= hi, found {lo} > {hi}")
    if lo is None and hi is None:
        return node
    bounds = {"lo": None if lo is None else dyadic(lo), "hi": None if hi is None else dyadic(hi)}
    return t.b.unary("clamp", node, **bounds)


@handles("clamp.default", "clip.default")
def clamp(t: Translator, out: Axes, a: Value, lo: Any = None, hi: Any = None, **kwargs: Any) -> int:
    return _clamped(t, t.use(a), kwargs.get("min", lo), kwargs.get("max", hi))


@handles("hardtanh.default")
def hardtanh(t: Translator, out: Axes, a: Value, lo: Any = -1, hi: Any = 1) -> int:
    return _clamped(t, t.use(a), lo, hi)


@handles("clamp_min.default")
def clamp_min(t: Translator, out: Axes, a: Value, lo: Any) -> int:
    return _clamped(t, t.use(a), lo, None)


@handles("clamp_max.default")
def clamp_max(t: Translator, out: Axes, a: Value, hi: Any) -> int:
    return _clamped(t, t.use(a), None, hi)


@handles("clamp.Tensor", "clip.Tensor")
def clamp_tensor(t: Translator, out: Axes, a: Value, lo: Value | None = None, hi: Value | None = None) -> int:
    node = t.align(a, out)
    node = node if lo is None else t.b.binary("max", node, t.align(lo, out))
    return _expanded(t, node if hi is None else t.b.binary("min", node, t.align(hi, out)), out)


@handles("relu6.default")
def relu6(t: Translator, out: Axes, a: Value) -> int:
    return _clamped(t, t.use(a), 0, 6)


def _hard(t: Translator, a: Value) -> int:
    """clamp(a + 3, 0, 6) / 6."""
    moved = t.b.binary("add", t.use(a), t.b.constant((), [Fraction(3)]))
    return t.b.scale(_clamped(t, moved, 0, 6), Fraction(1, 6))


@handles("hardsigmoid.default")
def hardsigmoid(t: Translator, out: Axes, a: Value) -> int:
    return _hard(t, a)


@handles("hardswish.default")
def hardswish(t: Translator, out: Axes, a: Value) -> int:
    return t.b.binary("mul", t.use(a), _hard(t, a))


@handles("glu.default")
def glu(t: Translator, out: Axes, a: Value, dim: int = -1) -> int:
    axis = a.axes.axis(dim)
    half = a.axes.shape[axis] // 2
    gate = t.b.unary("sigmoid", t.b.slice(t.use(a), axis, half, 2 * half))
    return t.b.binary("mul", t.b.slice(t.use(a), axis, 0, half), gate)
