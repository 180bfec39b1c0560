"""Operations that move, repeat or join entries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import torch

from trm_verify.export.axes import Axes, BatchSize
from trm_verify.export.errors import BatchMixing, DataDependent, UnknownOperation
from trm_verify.export.translate import Translator, Value, handles

SAME = (
    "clone.default", "alias.default", "detach.default", "contiguous.default", "lift_fresh_copy.default",
    "lift_fresh.default", "detach_copy.default", "alias_copy.default", "dropout.default",
    "feature_dropout.default", "alpha_dropout.default",
)  # fmt: skip


@handles(*SAME, layout_only=True)
def same(t: Translator, out: Axes, a: Value, *_: Any, **__: Any) -> int:
    return t.use(a)


@handles("_to_copy.default", "to.dtype", "to.dtype_layout", "type_as.default", "to.device", "to.other", "float.default")
def cast(t: Translator, out: Axes, a: Value, *_: Any, **kwargs: Any) -> Value:
    """Exact casts only: the same type, a wider float, or an integer input to floats."""
    target = kwargs.get("dtype") or next((v for v in _ if isinstance(v, torch.dtype)), None)
    target = target or next((v.dtype for v in _ if isinstance(v, Value)), a.dtype)
    if target != a.dtype:
        exact = (
            a.dtype.is_floating_point
            and target.is_floating_point
            and torch.finfo(target).bits > torch.finfo(a.dtype).bits
            and {a.dtype, target} != {torch.float16, torch.bfloat16}
        )
        widened = not a.dtype.is_floating_point and target not in (torch.bool, torch.int8, torch.uint8, torch.int16)
        if not exact and not widened:
            raise UnknownOperation(
                f"expected a cast that changes no value, found {a.dtype} to {target}; keep one dtype inside the step"
            )
    return Value(out, target, t.use(a))


@handles(
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", "squeeze.default",
    "squeeze.dim", "squeeze.dims", "unsqueeze.default", "view_copy.default", "reshape_as.default", "view_as.default",
    "_reshape_copy.default", layout_only=True,
)  # fmt: skip
def reshape(t: Translator, out: Axes, a: Value, *_: Any, **__: Any) -> Value:
    """Row-major reshapes: as many entries must come before the batch axis as did."""
    node = t.b.reshape(t.use(a), out.shape)
    if a.axes.batch is None and out.batch is None:
        return Value(out, a.dtype, node)
    forms = [replace(out, minor=minor) for minor in ([False, True] if out.merged else [False])]
    for form in forms:
        if a.axes.batch is not None and form.batch is not None and form.before == a.axes.before:
            return Value(form, a.dtype, node)
    raise BatchMixing("expected the batch axis to keep its place, found a reshape that splits or interleaves rows; "
                      "keep it first and give its size explicitly: z.reshape(z.shape[0], …)")  # fmt: skip


def _permuted(t: Translator, a: Value, dims: Sequence[int]) -> int:
    batch, merged = a.axes.batch, a.axes.merged
    dims = [d % max(a.axes.rank, 1) for d in dims]
    if batch is not None and not merged:
        dims = [a.axes.axis(d) for d in dims if d != batch]
    return t.b.permute(t.use(a), dims)


@handles("permute.default", "permute_copy.default", layout_only=True)
def permute(t: Translator, out: Axes, a: Value, dims: Sequence[int]) -> int:
    return _permuted(t, a, dims)


@handles("transpose.int", "swapaxes.default", "swapdims.default", "transpose_copy.int", layout_only=True)
def transpose(t: Translator, out: Axes, a: Value, p: int, q: int) -> int:
    dims = list(range(a.axes.rank))
    dims[p], dims[q] = dims[q], dims[p]
    return _permuted(t, a, dims)


@handles("t.default", "numpy_T.default", "mT.default", "matrix_H.default", "t_copy.default", layout_only=True)
def swap_last(t: Translator, out: Axes, a: Value) -> int:
    return transpose(t, out, a, -1, -2) if a.axes.rank > 1 else t.use(a)


@handles("movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist", layout_only=True)
def movedim(t: Translator, out: Axes, a: Value, source: Any, target: Any) -> int:
    rank = a.axes.rank
    moved = [source] if isinstance(source, int) else source
    places = [target] if isinstance(target, int) else target
    given = {p % rank: s % rank for s, p in zip(moved, places, strict=True)}
    rest = iter(d for d in range(rank) if d not in given.values())
    return _permuted(t, a, [given[i] if i in given else next(rest) for i in range(rank)])


@handles("expand.default", "broadcast_to.default", "expand_as.default", "expand_copy.default", layout_only=True)
def expand(t: Translator, out: Axes, a: Value, *_: Any, **__: Any) -> int:
    return t.b.expand(t.align(a, out), out.shape)


@handles("repeat.default", "tile.default", layout_only=True)
def repeat(t: Translator, out: Axes, a: Value, counts: Sequence[Any]) -> int:
    counts = [1] * (a.axes.rank - len(counts)) + list(counts)
    lead = len(counts) - a.axes.rank
    node = t.use(a)
    if a.axes.batch is not None and (a.axes.merged or counts[lead + a.axes.batch] != 1):
        raise BatchMixing("expected the batch axis not to be repeated")
    if a.axes.batch is None and out.batch is not None:
        position = out.batch - lead
        if not isinstance(counts[out.batch], BatchSize) or (position >= 0 and a.axes.shape[position] != 1):
            raise BatchMixing("expected one value per row, found a constant repeated across rows")
    shape = list(a.axes.shape)
    if a.axes.batch is not None:
        shape.insert(a.axes.batch, 1)
    shape = [1] * lead + shape
    sizes: list[int] = []
    for c in counts:
        size = c.factor if isinstance(c, BatchSize) else c
        if not isinstance(size, int):
            raise BatchMixing("expected repetitions that do not depend on the batch size")
        sizes.append(size)
    node = t.b.reshape(node, tuple(v for n in shape for v in (1, n)))
    node = t.b.expand(node, tuple(v for c, n in zip(sizes, shape, strict=True) for v in (c, n)))
    return t.b.reshape(node, out.shape)


def _whole(start: Any, end: Any, step: Any) -> bool:
    to_the_end = end is None or isinstance(end, BatchSize) or end >= sys.maxsize
    return start in (None, 0) and to_the_end and step == 1


@handles("slice.Tensor", "slice_copy.Tensor", layout_only=True)
def slice_(t: Translator, out: Axes, a: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> int:
    if dim % a.axes.rank == a.axes.batch and _whole(start, end, step) and a.axes == out:
        return t.use(a)
    axis = a.axes.axis(dim)
    start, stop, step = slice(start, end, step).indices(a.axes.shape[axis])
    return t.b.slice(t.use(a), axis, start, stop, step)


@handles("narrow.default", layout_only=True)
def narrow(t: Translator, out: Axes, a: Value, dim: int, start: int, length: int) -> int:
    return t.b.slice(t.use(a), a.axes.axis(dim), start, start + length)


@handles("select.int", "select_copy.int", layout_only=True)
def select(t: Translator, out: Axes, a: Value, dim: int, index: int) -> int:
    axis = a.axes.axis(dim)
    index %= a.axes.shape[axis]
    return t.b.reshape(t.b.slice(t.use(a), axis, index, index + 1), out.shape)


@handles("slice_scatter.default")
def slice_scatter(
    t: Translator, out: Axes, a: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> int:
    """`a` with a slice replaced: the pieces are selected from both, laid end to end."""
    if dim % a.axes.rank == a.axes.batch and _whole(start, end, step):
        return expand(t, out, source)
    axis = a.axes.axis(dim)
    size = a.axes.shape[axis]
    replaced = list(range(*slice(start, end, step).indices(size)))
    order = [size + replaced.index(i) if i in replaced else i for i in range(size)]
    return t.b.select(t.b.concat([t.use(a), t.use(source)], axis), axis, order)


@handles("select_scatter.default")
def select_scatter(t: Translator, out: Axes, a: Value, source: Value, dim: int, index: int) -> int:
    axis = a.axes.axis(dim)
    size = a.axes.shape[axis]
    piece = t.b.reshape(t.use(source), out.shape[:axis] + (1,) + out.shape[axis + 1 :])
    order = [size if i == index % size else i for i in range(size)]
    return t.b.select(t.b.concat([t.use(a), piece], axis), axis, order)


@handles("copy.default")
def copy(t: Translator, out: Axes, _: Value, source: Value, non_blocking: bool = False) -> int:
    return expand(t, out, source)


@handles("split.Tensor", "split_with_sizes.default", "split.sizes", "chunk.default", "tensor_split.sections",
         "unsafe_split.Tensor", "unsafe_chunk.default", "split_copy.Tensor", "split_with_sizes_copy.default",
         layout_only=True)  # fmt: skip
def split(t: Translator, out: list[Axes], a: Value, _: Any, dim: int = 0) -> list[int]:
    axis = a.axes.axis(dim)
    pieces, start = [], 0
    for part in out:
        pieces.append(t.b.slice(t.use(a), axis, start, start + part.shape[axis]))
        start += part.shape[axis]
    return pieces


@handles("unbind.int", "unbind_copy.int", layout_only=True)
def unbind(t: Translator, out: list[Axes], a: Value, dim: int = 0) -> list[int]:
    return [select(t, part, a, dim, index) for index, part in enumerate(out)]


def _joined(values: Sequence[Value]) -> None:
    first = values[0].axes
    if any(v.axes.place != first.place for v in values):
        raise BatchMixing("expected all joined tensors to carry the batch on the same axis")


@handles("cat.default", "concat.default", "concatenate.default", layout_only=True)
def concat(t: Translator, out: Axes, values: Sequence[Value], dim: int = 0) -> int:
    values = [v for v in values if v.axes.shape != (0,)]
    _joined(values)
    return t.b.concat([t.use(v) for v in values], values[0].axes.axis(dim))


@handles("stack.default", layout_only=True)
def stack(t: Translator, out: Axes, values: Sequence[Value], dim: int = 0) -> int:
    _joined(values)
    axis = out.axis(dim)
    nodes = [t.use(v) for v in values]
    shape = t.b.shapes[nodes[0]]
    return t.b.concat([t.b.reshape(n, shape[:axis] + (1,) + shape[axis:]) for n in nodes], axis)


@handles("flip.default", layout_only=True)
def flip(t: Translator, out: Axes, a: Value, dims: Sequence[int]) -> int:
    node = t.use(a)
    for dim in dims:
        axis = a.axes.axis(dim)
        node = t.b.select(node, axis, range(out.shape[axis] - 1, -1, -1))
    return node


@handles("roll.default", layout_only=True)
def roll(t: Translator, out: Axes, a: Value, shifts: Any, dims: Any = ()) -> int:
    shifts = [shifts] if isinstance(shifts, int) else shifts
    dims = [dims] if isinstance(dims, int) else dims
    if not dims:
        raise BatchMixing("expected the axes to roll, found a roll of the flattened batch; pass dims=")
    node = t.use(a)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = a.axes.axis(dim)
        size = out.shape[axis]
        node = t.b.select(node, axis, [(i - shift) % size for i in range(size)])
    return node


def padded(t: Translator, a: Value, pads: Sequence[int]) -> list[list[int]]:
    """Torch's pads (last axis first) as pairs for every graph axis."""
    pairs = [[0, 0] for _ in a.axes.shape]
    for index in range(len(pads) // 2):
        before, after = pads[2 * index], pads[2 * index + 1]
        if before or after:
            pairs[a.axes.axis(a.axes.rank - 1 - index)] = [before, after]
    return pairs


@handles("constant_pad_nd.default", "pad.default", layout_only=True)
def pad(t: Translator, out: Axes, a: Value, pads: Sequence[int], *rest: Any) -> int:
    """Zero and circular padding; negative pads cut."""
    mode = next((v for v in rest if isinstance(v, str)), "constant")
    value = next((v for v in rest if v is not None and not isinstance(v, str)), 0)
    if mode not in ("constant", "circular") or value != 0:
        raise UnknownOperation(f"expected zero or circular padding, found mode {mode!r} with value {value}")
    node = t.use(a)
    for axis, (before, after) in enumerate(padded(t, a, pads)):
        size = t.b.shapes[node][axis]
        if mode == "circular":
            node = t.b.select(node, axis, [i % size for i in range(-before, size + after)])
            continue
        node = t.b.slice(node, axis, max(-before, 0), size - max(-after, 0))
        pairs = [[0, 0] for _ in t.b.shapes[node]]
        pairs[axis] = [max(before, 0), max(after, 0)]
        node = t.b.pad(node, pairs)
    return node


def _indices(t: Translator, value: Value, size: int) -> list[int]:
    data = t.constant_data(value, "indices")
    if data.dtype == torch.bool:
        raise UnknownOperation("expected integer indices, found a mask of several axes")
    return [int(i) % size for i in data.reshape(-1).tolist()]


@handles("index_select.default", layout_only=True)
def index_select(t: Translator, out: Axes, a: Value, dim: int, index: Value) -> int:
    axis = a.axes.axis(dim)
    return t.b.select(t.use(a), axis, _indices(t, index, a.axes.shape[axis]))


@handles("index.Tensor", layout_only=True)
def index(t: Translator, out: Axes, a: Value, indices: Sequence[Value | None]) -> int:
    """Constant indices on neighbouring axes; or rows of a constant table at integer inputs."""
    dims = [i for i, v in enumerate(indices) if v is not None]
    given = [v for v in indices if v is not None]
    if len(given) == 1 and given[0].data is None:
        if a.data is None or dims != [0] or a.axes.batch is not None:
            raise DataDependent("expected constant indices, found indices computed from the state or the input")
        return lookup(t, out, a, given[0])
    if dims != list(range(dims[0], dims[0] + len(dims))):
        raise UnknownOperation("expected indexed axes that are neighbours; permute the axes first")
    tensors = [t.constant_data(v, "indices") for v in given]
    if len(tensors) == 1 and tensors[0].dtype == torch.bool and tensors[0].dim() == 1:
        tensors = [torch.nonzero(tensors[0]).reshape(-1)]
    if any(v.dtype == torch.bool for v in tensors):
        raise UnknownOperation("expected integer indices or a mask of one axis, found a mask of several")
    axes = [a.axes.axis(d) for d in dims]
    if a.axes.batch in range(dims[0], dims[-1] + 1):
        raise BatchMixing("expected indices on axes after the batch axis")
    sizes = [a.axes.shape[x] for x in axes]
    flat = torch.zeros((), dtype=torch.long)
    for tensor, size in zip(tensors, sizes, strict=True):
        flat = flat * size + tensor.long() % size
    shape = a.axes.shape
    node = t.b.reshape(t.use(a), shape[: axes[0]] + (prod(sizes),) + shape[axes[-1] + 1 :])
    return t.b.reshape(t.b.select(node, axes[0], flat.reshape(-1).tolist()), out.shape)


def lookup(t: Translator, out: Axes, table: Value, x: Value) -> int:
    """Rows of a table at the integer input."""
    node, table_node = t.use(x), t.use(table)
    at = node
    while t.b.nodes[at]["op"] in ("reshape", "slice", "select", "permute", "expand"):
        (at,) = t.b.nodes[at]["in"]
    if t.b.nodes[at]["op"] != "input" or x.dtype.is_floating_point:
        raise UnknownOperation("expected a lookup at the integer input itself, found computed indices; give the model "
                               "vocabulary=V and pass x straight to the embedding")  # fmt: skip
    shape = t.b.shapes[table_node]
    flat = t.b.reshape(table_node, (shape[0], prod(shape[1:])))
    while t.b.nodes[node]["op"] in ("permute", "expand"):  # the format looks up plain selections of the input
        raise UnknownOperation("expected a lookup at the input reshaped, sliced or indexed; permute the result instead")
    rows = t.b.emit("embedding", [node, flat], (*t.b.shapes[node], prod(shape[1:])))
    return t.b.reshape(rows, out.shape)


@handles("embedding.default")
def embedding(t: Translator, out: Axes, table: Value, x: Value, *_: Any, **__: Any) -> int:
    t.constant_data(table, "embedding table")
    return lookup(t, out, table, x)


@handles("one_hot.default")
def one_hot(t: Translator, out: Axes, x: Value, classes: int = -1) -> int:
    size = out.shape[-1]
    eye = t.b.constant((size, size), [Fraction(int(i == j)) for i in range(size) for j in range(size)])
    return t.b.emit("embedding", [t.use(x), eye], out.shape)


def _factory(value: int | None) -> Any:
    def build(t: Translator, out: Axes, *args: Any, **kwargs: Any) -> int:
        number = (
            Fraction(value) if value is not None else t.number(kwargs.get("fill_value", args[-1] if args else None))
        )
        return t.b.constant(out.shape, [number] * prod(out.shape))

    return build


handles("zeros.default", "zeros_like.default", "new_zeros.default")(_factory(0))
handles("ones.default", "ones_like.default", "new_ones.default")(_factory(1))
handles("full.default", "full_like.default", "new_full.default", "fill.Scalar")(_factory(None))
