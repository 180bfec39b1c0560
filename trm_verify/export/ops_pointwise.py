"""Arithmetic, activations, reductions and normalizations."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isinf, prod
from typing import Any

import torch

from trm_verify.export.axes import Axes
from trm_verify.export.builder import dyadic
from trm_verify.export.errors import BatchMixing, UnknownOperation
from trm_verify.export.translate import ROOTS, Translator, Value, handles

Operand = Value | float


def _scaled(t: Translator, out: Axes, value: Operand, factor: Any) -> int:
    return t.b.scale(t.align(value, out), t.number(factor))


def _expanded(t: Translator, node: int, out: Axes) -> int:
    return t.b.expand(node, out.shape)


@handles("add.Tensor", "add.Scalar")
def add(t: Translator, out: Axes, a: Operand, b: Operand, alpha: Any = 1) -> int:
    return _expanded(t, t.b.binary("add", t.align(a, out), _scaled(t, out, b, alpha)), out)


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
            return _rms(t, other, *t.b.nodes[scaled]["in"])
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
        return _rms(t, t.align(a, out), *t.b.nodes[below]["in"])
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
    w_node = t.align(weight, out)
    rest = t.b.binary("sub", t.b.constant((), [Fraction(1)]), w_node)
    kept = t.b.binary("mul", rest, t.align(a, out))
    return _expanded(t, t.b.binary("add", kept, t.b.binary("mul", w_node, t.align(b, out))), out)


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


@handles("clamp.default", "clip.default", "hardtanh.default")
def clamp(t: Translator, out: Axes, a: Value, lo: Any = None, hi: Any = None, **kwargs: Any) -> int:
    return _clamped(t, t.use(a), kwargs.get("min", lo), kwargs.get("max", hi))


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


# --- reductions ------------------------------------------------------------------------------------------------


def _dims(a: Value, dims: Any) -> list[int]:
    listed = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(a.axes.rank))
    return [a.axes.axis(d) for d in listed]


def _reduced(t: Translator, out: Axes, op: str, a: Value, dims: Any) -> tuple[int, int]:
    """The reduction in the shape of `out`, and the number of entries it runs over."""
    axes = _dims(a, dims)
    count = prod(a.axes.shape[i] for i in axes)
    node = t.b.last(op, t.use(a), axes) if axes else t.use(a)
    return t.b.reshape(node, out.shape), count


@handles("sum.dim_IntList", "sum.default")
def total(t: Translator, out: Axes, a: Value, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> int:
    return _reduced(t, out, "sum", a, dims)[0]


@handles("mean.dim", "mean.default")
def mean(t: Translator, out: Axes, a: Value, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> int:
    node, count = _reduced(t, out, "sum", a, dims)
    return t.b.scale(node, Fraction(1, count))


@handles("amax.default", "max.default")
def amax(t: Translator, out: Axes, a: Value, dims: Any = None, keepdim: bool = False) -> int:
    return _reduced(t, out, "amax", a, dims)[0]


@handles("amin.default", "min.default")
def amin(t: Translator, out: Axes, a: Value, dims: Any = None, keepdim: bool = False) -> int:
    axes = _dims(a, dims)
    node = t.b.last("amax", t.b.scale(t.use(a), Fraction(-1)), axes)
    return t.b.scale(t.b.reshape(node, out.shape), Fraction(-1))


@handles("max.dim")
def max_dim(t: Translator, out: list[Axes], a: Value, dim: int, keepdim: bool = False) -> list[Any]:
    return [amax(t, out[0], a, dim), None]


@handles("min.dim")
def min_dim(t: Translator, out: list[Axes], a: Value, dim: int, keepdim: bool = False) -> list[Any]:
    return [amin(t, out[0], a, dim), None]


@handles("softmax.int", "_softmax.default", "_safe_softmax.default")
def softmax(t: Translator, out: Axes, a: Value, dim: int, *_: Any, **__: Any) -> int:
    axis = a.axes.axis(dim)
    return t.b.move_from_last(t.b.unary("softmax", t.b.move_last(t.use(a), axis)), axis)


# --- normalizations --------------------------------------------------------------------------------------------


def _normalized(t: Translator, op: str, node: int, axes: int, eps: float) -> int:
    """Normalize over the last `axes` axes."""
    shape = t.b.shapes[node]
    flat = t.b.reshape(node, (*shape[: len(shape) - axes], prod(shape[len(shape) - axes :])))
    exact = t.number(eps)
    if exact <= 0:
        raise UnknownOperation(f"expected eps > 0 in a normalization, found {eps}")
    return t.b.reshape(t.b.unary(op, flat, eps=dyadic(exact)), shape)


def _affine(t: Translator, out: Axes, node: int, weight: Value | None, bias: Value | None) -> int:
    if weight is not None:
        node = t.b.binary("mul", node, t.align(weight, out))
    return node if bias is None else t.b.binary("add", node, t.align(bias, out))


def _outside(a: Value, count: int) -> None:
    if a.axes.batch is not None and a.axes.batch >= a.axes.rank - count:
        raise BatchMixing("expected a normalization of axes after the batch axis")


@handles("layer_norm.default")
def layer_norm(
    t: Translator, out: Axes, a: Value, shape: Sequence[int], weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, *_: Any,
) -> int:  # fmt: skip
    _outside(a, len(shape))
    return _affine(t, out, _normalized(t, "layer_norm", t.use(a), len(shape), eps), weight, bias)


@handles("rms_norm.default")
def rms_norm(
    t: Translator, out: Axes, a: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> int:
    _outside(a, len(shape))
    eps = torch.finfo(a.dtype).eps if eps is None else eps
    return _affine(t, out, _normalized(t, "rms_norm", t.use(a), len(shape), eps), weight, None)


@handles("group_norm.default")
def group_norm(
    t: Translator, out: Axes, a: Value, groups: int, weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, *_: Any,
) -> int:  # fmt: skip
    shape = out.shape
    if a.axes.batch != 0 or a.axes.merged:
        raise BatchMixing("expected (batch, channels, …), with the batch axis first")
    grouped = t.b.reshape(t.use(a), (groups, prod(shape) // groups))
    node = t.b.reshape(_normalized(t, "layer_norm", grouped, 1, eps), shape)
    columns = (shape[0],) + (1,) * (len(shape) - 1)
    if weight is not None:
        node = t.b.binary("mul", node, t.b.reshape(t.use(weight), columns))
    return node if bias is None else t.b.binary("add", node, t.b.reshape(t.use(bias), columns))


@handles("rsqrt.default", "sqrt.default")
def root(t: Translator, out: Axes, a: Value) -> int:
    """A marker that only `a · rsqrt(mean a² + eps)` and `a / sqrt(mean a² + eps)` consume: they are `rms_norm`."""
    node = t.use(a)
    return t.mark("rsqrt" if t.current.startswith("aten.rsqrt") else "sqrt", node)


def _rms(t: Translator, node: int, below: int) -> int:
    """Recognise a · rsqrt(mean(a², last axis) + eps)."""
    b = t.b

    def peel(at: int, *ops: str) -> int:
        while b.nodes[at]["op"] in ops:
            at = b.nodes[at]["in"][0]
        return at

    total = b.nodes[below]
    if total["op"] == "add":
        parts = [peel(i, "expand", "reshape") for i in total["in"]]
        for mean_node, eps in (parts, parts[::-1]):
            scaled, literal = b.nodes[mean_node], b.nodes[eps]
            if literal["op"] != "constant" or scaled["op"] not in ("scale", "sum"):
                continue
            inner = peel(scaled["in"][0], "reshape") if scaled["op"] == "scale" else mean_node
            factor = Fraction(int(scaled["num"], 16), int(scaled["den"], 16)) if scaled["op"] == "scale" else 1
            if b.nodes[inner]["op"] != "sum":
                continue
            (squares,) = b.nodes[inner]["in"]
            size = b.shapes[node][-1]
            plain = b.nodes[squares]["op"] == "mul" and b.nodes[squares]["in"] == [node, node]
            if plain and factor == Fraction(1, size):
                value = literal["value"]
                if " " in value["int"] or int(value["int"], 16) <= 0:
                    continue
                return b.unary("rms_norm", node, eps=dict(value))
    raise UnknownOperation(ROOTS)


@handles("batch_norm.default", "_native_batch_norm_legit_no_training.default",
         "_native_batch_norm_legit_functional.default", "cudnn_batch_norm.default", "native_batch_norm.default")  # fmt: skip
def batch_norm(
    t: Translator, out: Any, a: Value, weight: Value | None, bias: Value | None, mean_: Value, var: Value, *rest: Any
) -> Any:
    """In evaluation mode an affine map, whose scale and shift are evaluated in the model's dtype and stored."""
    eps = [v for v in rest if isinstance(v, float)][1]
    first = out[0] if isinstance(out, list) else out
    scale = torch.rsqrt(t.constant_data(var, "running variance") + eps)
    if weight is not None:
        scale = scale * t.constant_data(weight, "weight")
    shift = -t.constant_data(mean_, "running mean") * scale
    if bias is not None:
        shift = shift + t.constant_data(bias, "bias")
    if not t.fold:
        raise UnknownOperation("expected no batch normalization with fold=False: its scale is a square root, which has "
                               "no exact form; export with fold=True to store the rounded scale and shift")  # fmt: skip
    axis = a.axes.axis(1)
    columns = (scale.numel(),) + (1,) * (len(first.shape) - axis - 1)
    names = [t.tensors.bake(v.detach(), f"baked.{t.name}", True) for v in (scale, shift)]
    factors = [t.b.reshape(t.b.emit("tensor", [], (scale.numel(),), name=n), columns) for n in names]
    node = t.b.binary("add", t.b.binary("mul", t.use(a), factors[0]), factors[1])
    return [node] + [None] * (len(out) - 1) if isinstance(out, list) else node
