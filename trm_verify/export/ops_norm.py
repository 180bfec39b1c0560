"""Reductions and normalizations."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

import torch

from trm_verify.export.axes import Axes
from trm_verify.export.builder import dyadic
from trm_verify.export.errors import BatchMixing, UnknownOperation
from trm_verify.export.translate import Translator, Value, handles


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


@handles(
    "batch_norm.default", "_native_batch_norm_legit_no_training.default",
         "_native_batch_norm_legit_functional.default", "cudnn_batch_norm.default", "native_batch_norm.default",
)  # fmt: skip
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
