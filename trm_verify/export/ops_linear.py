"""Products with matrices, convolutions, attention."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod, sqrt
from typing import Any

import torch

from trm_verify.export.axes import Axes
from trm_verify.export.errors import BatchMixing, UnknownOperation
from trm_verify.export.translate import Translator, Value, handles


def _weight(t: Translator, weight: Value) -> int:
    """A batch-free constant matrix."""
    node = t.use(weight)
    if not t.b.is_constant(node) or weight.axes.batch is not None or len(t.b.shapes[node]) != 2:
        raise UnknownOperation(
            "expected a weight matrix that depends on neither the state nor the input; use torch.matmul for "
            "products of computed matrices"
        )
    return node


def _not_last(a: Value) -> None:
    if a.axes.batch == a.axes.rank - 1:
        raise BatchMixing("expected the batch axis first, found a product along it")


@handles("linear.default")
def linear(t: Translator, out: Axes, a: Value, weight: Value, bias: Value | None = None) -> int:
    _not_last(a)
    if len(weight.axes.shape) == 1:
        node = t.b.linear(t.use(a), t.b.reshape(t.use(weight), (1, weight.axes.shape[0])))
        node = t.b.reshape(node, out.shape)
    else:
        node = t.b.linear(t.use(a), _weight(t, weight))
    return node if bias is None else t.b.binary("add", node, t.align(bias, out))


@handles("matmul.default", "mm.default", "bmm.default", "mv.default", "__matmul__.Tensor", "linalg_matmul.default")
def matmul(t: Translator, out: Axes, a: Value, b: Value) -> int:
    """Products of matrices; one with a constant matrix on the right is `linear`.

    The batch axis may be a row axis of a, a column axis of b, or a leading axis of both.
    """
    p, q = t.use(a), t.use(b)
    if a.axes.rank == 1 or b.axes.rank == 1:
        return _vectors(t, out, a, b)
    rank = max(a.axes.rank, b.axes.rank)
    place_a = None if a.axes.batch is None else a.axes.batch + rank - a.axes.rank
    place_b = None if b.axes.batch is None else b.axes.batch + rank - b.axes.rank
    if place_a == rank - 1 or place_b == rank - 2 or (place_a is not None and place_b not in (None, place_a)):
        raise BatchMixing("expected rows of a batch not to interact, found a matrix product across them")
    if None not in (place_a, place_b) and a.axes.place[1:] != b.axes.place[1:]:
        raise BatchMixing("expected both matrices to carry the batch alike, found it merged with an axis of one only")
    drop = None
    if place_a == rank - 2 and not a.axes.merged:  # rows of a are the batch: one row each
        p = t.b.reshape(p, (*t.b.shapes[p][:-1], 1, t.b.shapes[p][-1]))
        drop = -2
    if place_b == rank - 1 and not b.axes.merged:
        q = t.b.reshape(q, (*t.b.shapes[q], 1))
        drop = -1
    for value, place, other in ((a, place_a, b), (b, place_b, a)):
        if place is not None and place < rank - 2 and other.axes.batch is None:
            position = place - (rank - other.axes.rank)
            if position >= 0 and not value.axes.merged:
                if other.axes.shape[position] != 1:
                    raise BatchMixing("expected one matrix for all rows, found a matrix per row")
                shape = t.b.shapes[p if other is a else q]
                node = t.b.reshape(p if other is a else q, shape[:position] + shape[position + 1 :])
                p, q = (node, q) if other is a else (p, node)
    return t.b.reshape(_product(t, p, q, drop), out.shape)


def _product(t: Translator, p: int, q: int, drop: int | None) -> int:
    b = t.b
    if b.is_constant(q) and all(size == 1 for size in b.shapes[q][:-2]):
        lead = max(len(b.shapes[q]), len(b.shapes[p])) - len(b.shapes[p])
        weight = b.permute(b.reshape(q, b.shapes[q][-2:]), (1, 0))
        node = b.linear(p, weight)
        return b.reshape(node, (1,) * lead + b.shapes[node])
    if drop == -1 and b.is_constant(p) and len(b.shapes[p]) == 2 and len(b.shapes[q]) == 2:
        return b.linear(b.reshape(q, (b.shapes[q][0],)), p)  # W @ z.T with the batch last
    return b.matmul(p, q)


def _vectors(t: Translator, out: Axes, a: Value, b: Value) -> int:
    """A product with a 1-D argument, which carries no batch axis."""
    if a.axes.rank == 1 and a.axes.batch is not None or b.axes.rank == 1 and b.axes.batch is not None:
        raise BatchMixing("expected rows of a batch not to interact, found a scalar product across them")
    if b.axes.rank == 1:
        _not_last(a)
        column = t.b.reshape(t.use(b), (b.axes.shape[0], 1))
        return t.b.reshape(_product(t, _matrix(t, t.use(a)), column, None), out.shape)
    if b.axes.batch is not None and b.axes.batch == b.axes.rank - 2:
        raise BatchMixing("expected rows of a batch not to interact, found a product along the batch axis")
    flipped = t.b.permute(t.use(b), _swapped(len(t.b.shapes[t.use(b)])))
    if b.axes.batch == b.axes.rank - 1 and not b.axes.merged:
        flipped = t.use(b)
    column = t.b.reshape(t.use(a), (a.axes.shape[0], 1))
    return t.b.reshape(_product(t, _matrix(t, flipped), column, None), out.shape)


def _matrix(t: Translator, node: int) -> int:
    shape = t.b.shapes[node]
    return t.b.reshape(node, (1, *shape)) if len(shape) == 1 else node


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


@handles("addmm.default", "baddbmm.default", "addmv.default", "addbmm.default")
def addmm(t: Translator, out: Axes, c: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> int:
    product = t.b.scale(matmul(t, out, a, b), t.number(alpha))
    return t.b.binary("add", product, t.b.scale(t.align(c, out), t.number(beta)))


@handles("dot.default", "vdot.default")
def dot(t: Translator, out: Axes, a: Value, b: Value) -> int:
    if a.axes.batch is not None or b.axes.batch is not None:
        raise BatchMixing("expected rows of a batch not to interact, found a scalar product across them")
    return t.b.emit("sum", [t.b.binary("mul", t.use(a), t.use(b))], ())


def _list(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(n % 2 for n in total):
        raise UnknownOperation('expected an odd kernel for padding="same"; pad the input explicitly')
    return [n // 2 for n in total]


CONVOLUTIONS = ("conv1d.default", "conv2d.default", "conv3d.default")


@handles(*CONVOLUTIONS, *(name.replace("default", "padding") for name in CONVOLUTIONS))
def convolution(
    t: Translator, out: Axes, a: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> int:  # fmt: skip
    """unfold, linear, move the channels back to the front; groups by slices."""
    _first(a)
    b, w = t.b, t.use(weight)
    if not b.is_constant(w):
        raise UnknownOperation("expected convolution weights that depend on neither the state nor the input")
    outputs, inputs, *kernel = b.shapes[w]
    count = len(kernel)
    dilation, stride = _list(dilation, count), _list(stride, count)
    if isinstance(padding, str):
        padding = _same_padding(kernel, dilation) if padding == "same" else [0] * count
    padding = _list(padding, count)
    rows, share = b.reshape(w, (outputs, inputs * prod(kernel))), outputs // groups
    pieces: list[int] = []
    counts: tuple[int, ...] = ()
    for group in range(groups):
        channels = b.slice(t.use(a), 0, group * inputs, (group + 1) * inputs)
        columns, counts = b.unfold(channels, kernel, stride, padding, dilation)
        pieces.append(b.linear(columns, b.slice(rows, 0, group * share, (group + 1) * share)))
    node = b.concat(pieces, 1)
    if bias is not None:
        node = b.binary("add", node, t.use(bias))
    return b.reshape(b.permute(node, (1, 0)), (outputs, *counts))


def _first(a: Value) -> None:
    if a.axes.batch != 0 or a.axes.merged:
        raise BatchMixing("expected (batch, channels, *spatial), with the batch axis first")


def _pooled(
    t: Translator, a: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, spatial: int
) -> tuple[int, Any]:
    """(channels, positions, taps) and the shape of the positions."""
    _first(a)
    kernel = _list(kernel, spatial)
    stride = _list(stride, spatial) if stride else kernel
    columns, counts = t.b.unfold(t.use(a), kernel, stride, _list(padding, spatial), _list(dilation, spatial))
    channels = a.axes.shape[0]
    columns = t.b.reshape(columns, (prod(counts), channels, prod(kernel)))
    return t.b.permute(columns, (1, 0, 2)), counts


@handles("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(
    t: Translator, out: Axes, a: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> int:  # fmt: skip
    if ceil_mode or any(_list(padding, 1)):
        raise UnknownOperation("expected max-pooling without padding and ceil_mode; pad and slice explicitly")
    columns, _ = _pooled(t, a, kernel, stride, 0, dilation, len(a.axes.shape) - 1)
    return t.b.reshape(t.b.last("amax", columns, [2]), out.shape)


@handles("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(
    t: Translator, out: Axes, a: Value, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor: int | None = None,
) -> int:  # fmt: skip
    if ceil_mode or (any(_list(padding, 1)) and not count_include_pad):
        raise UnknownOperation("expected average pooling without ceil_mode and with count_include_pad")
    columns, _ = _pooled(t, a, kernel, stride, padding, 1, len(a.axes.shape) - 1)
    mean = t.b.scale(t.b.last("sum", columns, [2]), Fraction(1, divisor or t.b.shapes[columns][2]))
    return t.b.reshape(mean, out.shape)


@handles("scaled_dot_product_attention.default")
def attention(
    t: Translator, out: Axes, query: Value, key: Value, value: Value, mask: Value | None = None, dropout: float = 0.0,
    causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> int:  # fmt: skip
    """softmax(q kᵀ · scale + mask) v."""
    if causal or enable_gqa or dropout or (mask is not None and mask.dtype == torch.bool):
        raise UnknownOperation("expected attention without causal or boolean masks, grouped heads and dropout; "
                               "write the masked weights out, or add a finite float mask")  # fmt: skip
    if any(v.axes.place != out.place or v.axes.rank != out.rank for v in (query, key, value)) or out.batch not in (
        0,
        None,
    ):
        raise BatchMixing("expected (batch, …, tokens, features) for query, key and value; expand constants")
    b, q, k = t.b, t.use(query), t.use(key)
    factor = Fraction(scale) if scale is not None else Fraction(1 / sqrt(b.shapes[q][-1]))
    scores = b.scale(b.matmul(q, b.permute(k, _swapped(len(b.shapes[k])))), factor)
    if mask is not None:
        lead = Axes(b.shapes[scores], out.batch, out.merged)
        scores = b.binary("add", scores, t.align(mask, lead))
    return b.matmul(b.unary("softmax", scores), t.use(value))
