"""Operations that only move entries: each is a list of source positions, -1 standing for a zero.

One description serves the evaluator, the radius propagation and the linear forms, so that they cannot disagree.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from trm_verify.kernel.document import fields, integer, items
from trm_verify.kernel.errors import CheckError

Shape = tuple[int, ...]
Layout = tuple[Shape, list[int] | None]  # shape of the result; sources, None for the identity
NOWHERE = -(1 << 60)  # added to an offset, it stays negative whatever else is added
MAX_ELEMENTS = 1 << 26
MAX_MOVED = 1 << 24  # a layout holds an index for every entry


def shape_of(value: object, where: str) -> Shape:
    shape = tuple(integer(v, 1, MAX_ELEMENTS, where) for v in items(value, where))
    if len(shape) > 16 or prod(shape) > MAX_ELEMENTS:
        raise CheckError("LIMIT", f"at most 16 axes and {MAX_ELEMENTS} elements in {where}", shape)
    return shape


def strides(shape: Shape) -> list[int]:
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _combine(offsets: list[list[int]]) -> list[int]:
    """Row-major sums of one offset per axis."""
    if prod(map(len, offsets)) > MAX_MOVED:
        raise CheckError("LIMIT", f"at most {MAX_MOVED} elements moved at once", prod(map(len, offsets)))
    index = [0]
    for axis in offsets:
        index = [i + o for i in index for o in axis]
    return [max(i, -1) for i in index]


def _per_axis(shape: Shape, offsets: list[list[int]]) -> Layout:
    return tuple(map(len, offsets)), _combine(offsets)


def _plain(shape: Shape) -> list[list[int]]:
    return [[stride * i for i in range(size)] for size, stride in zip(shape, strides(shape), strict=True)]


def _reshape(attrs: dict[str, Any], shape: Shape) -> Layout:
    (target,) = fields(attrs, "shape", where="reshape")
    new = shape_of(target, "reshape")
    if prod(new) != prod(shape):
        raise CheckError("SHAPE", f"a reshape of {shape} to keep its size", new)
    return new, None


def _permute(attrs: dict[str, Any], shape: Shape) -> Layout:
    (given,) = fields(attrs, "axes", where="permute")
    axes = [integer(a, 0, 15, "axes") for a in items(given, "axes")]
    if sorted(axes) != list(range(len(shape))):
        raise CheckError("SHAPE", f"a permutation of the axes of {shape}", axes)
    plain = _plain(shape)
    return _per_axis(shape, [plain[a] for a in axes])


def _along(shape: Shape, axis: object, where: str) -> tuple[int, list[list[int]]]:
    if not shape:
        raise CheckError("SHAPE", f"a tensor with an axis to {where}", shape)
    return integer(axis, 0, len(shape) - 1, f"{where} axis"), _plain(shape)


def _slice(attrs: dict[str, Any], shape: Shape) -> Layout:
    given, start, stop, step = fields(attrs, "axis", "start", "stop", "step", where="slice")
    axis, offsets = _along(shape, given, "slice")
    stop = integer(stop, 1, shape[axis], "slice stop")
    start, step = integer(start, 0, stop - 1, "slice start"), integer(step, 1, MAX_ELEMENTS, "slice step")
    offsets[axis] = offsets[axis][start:stop:step]
    return _per_axis(shape, offsets)


def _select(attrs: dict[str, Any], shape: Shape) -> Layout:
    given, indices = fields(attrs, "axis", "indices", where="select")
    axis, offsets = _along(shape, given, "select")
    chosen = [integer(i, 0, shape[axis] - 1, "select index") for i in items(indices, "indices")]
    if not chosen:
        raise CheckError("SHAPE", "at least one index to select", "none")
    offsets[axis] = [offsets[axis][i] for i in chosen]
    return _per_axis(shape, offsets)


def _expand(attrs: dict[str, Any], shape: Shape) -> Layout:
    (target,) = fields(attrs, "shape", where="expand")
    new, offsets = shape_of(target, "expand"), _plain(shape)
    if len(new) != len(shape) or any(a not in (1, b) for a, b in zip(shape, new, strict=True)):
        raise CheckError("SHAPE", f"an expansion of the axes of size 1 in {shape}", new)
    return _per_axis(shape, [o if a == b else o * b for o, a, b in zip(offsets, shape, new, strict=True)])


def _pad(attrs: dict[str, Any], shape: Shape) -> Layout:
    (pads,) = fields(attrs, "pads", where="pad")
    pairs = [[integer(v, 0, 1 << 20, "pad") for v in items(p, "pads")] for p in items(pads, "pads")]
    if len(pairs) != len(shape) or any(len(p) != 2 for p in pairs):
        raise CheckError("SHAPE", f"a pair of pads for each axis of {shape}", pairs)
    offsets = [
        [NOWHERE] * before + o + [NOWHERE] * after for o, (before, after) in zip(_plain(shape), pairs, strict=True)
    ]
    return _per_axis(shape, offsets)


def _unfold(attrs: dict[str, Any], shape: Shape) -> Layout:
    given = fields(attrs, "kernel", "stride", "padding", "dilation", where="unfold")
    kernel, stride, padding, dilation = (
        [integer(v, least, 1 << 20, "unfold") for v in items(g, "unfold")]
        for g, least in zip(given, (1, 1, 0, 1), strict=True)
    )
    spatial = shape[1:]
    if not spatial or any(len(v) != len(spatial) for v in (kernel, stride, padding, dilation)):
        raise CheckError("SHAPE", f"one entry per spatial axis of {shape} in unfold", kernel)
    spans = [n + 2 * p - d * (k - 1) for n, p, d, k in zip(spatial, padding, dilation, kernel, strict=True)]
    if min(spans) < 1:
        raise CheckError("SHAPE", f"a kernel that fits into {shape}", kernel)
    counts = [(span - 1) // s + 1 for span, s in zip(spans, stride, strict=True)]
    columns = shape[0] * prod(kernel)
    if prod(counts) * columns > MAX_MOVED:
        raise CheckError("LIMIT", f"at most {MAX_MOVED} elements moved at once", prod(counts) * columns)
    steps = strides(shape)
    channel = [steps[0] * c for c in range(shape[0])]

    def taps(axis: int, position: int) -> list[int]:
        at = [position * stride[axis] - padding[axis] + k * dilation[axis] for k in range(kernel[axis])]
        return [steps[axis + 1] * a if 0 <= a < spatial[axis] else NOWHERE for a in at]

    index: list[int] = []
    for position in product(*map(range, counts)):
        index += _combine([channel, *(taps(axis, p) for axis, p in enumerate(position))])
    return (prod(counts), columns), index


LAYOUTS = {
    "reshape": _reshape, "permute": _permute, "slice": _slice, "select": _select,
    "expand": _expand, "pad": _pad, "unfold": _unfold,
}  # fmt: skip


def concat(attrs: dict[str, Any], shapes: list[Shape]) -> Layout:
    """The sources index the arguments' entries laid end to end."""
    (given,) = fields(attrs, "axis", where="concat")
    if not shapes:
        raise CheckError("SHAPE", "something to concatenate", "nothing")
    axis = _along(shapes[0], given, "concat")[0]
    rank, rest = len(shapes[0]), shapes[0][:axis] + shapes[0][axis + 1 :]
    if any(len(s) != rank or s[:axis] + s[axis + 1 :] != rest for s in shapes):
        raise CheckError("SHAPE", "shapes that agree outside the concatenated axis", shapes)
    shape = shapes[0][:axis] + (sum(s[axis] for s in shapes),) + shapes[0][axis + 1 :]
    if prod(shape) > MAX_MOVED:
        raise CheckError("LIMIT", f"at most {MAX_MOVED} elements moved at once", prod(shape))
    starts = [sum(map(prod, shapes[:k])) for k in range(len(shapes))]
    blocks = [prod(s[axis:]) for s in shapes]
    index: list[int] = []
    for outer in range(prod(shape[:axis])):
        for start, block in zip(starts, blocks, strict=True):
            index += range(start + outer * block, start + (outer + 1) * block)
    return shape, index
