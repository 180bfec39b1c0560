"""Which parts of the state each entry of a function depends on, structurally. Proof: proofs/triangular.md.

Parts are numbered from 1 in an order; an entry's *level* is the largest part that it may depend on, 0 for none. With
another way to join levels (sets of parts as bits, and their union) the same pass says which parts these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, BINARY, ROW_NORMS, STATE, Function, Graph, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.numbers import rows_of
from trm_verify.kernel.tensor import Tensor

Levels = list[int]
Join = Callable[[Sequence[int]], int]


def largest(levels: Sequence[int]) -> int:
    return max(levels, default=0)


def levels_of(
    graph: Graph, function: Function, ranges: list[Tensor], parts: list[int], join: Join = largest
) -> list[Levels | None]:
    """The level of every entry of every node; None for nodes that do not vary with the state.

    Args:
        ranges: enclosures of all nodes. A factor that they show to be 0 cuts the dependency.
        parts: the part of each entry of the flattened state.
        join: the level of what depends on entries of these levels.
    """
    starts = list(accumulate(map(prod, graph.state), initial=0))
    found: list[Levels | None] = []
    for node in function.nodes:
        if node.kind != STATE:
            found.append(None)
        elif node.op == "state":
            start = starts[node.attrs["part"]]
            found.append(parts[start : start + node.size])
        else:
            args = [_of(found[j], function.nodes[j]) for j in node.args]
            found.append(_levels(node, function, ranges, args, join))
    return found


def _of(levels: Levels | None, node: Node) -> Levels:
    return [0] * node.size if levels is None else levels


def _zeros(value: Tensor) -> list[int]:
    """Per entry, 1 if it is 0 whatever the state and input are."""
    if value.lo is None or value.hi is None:
        return [0] * value.size
    return [int(a == b == 0) for a, b in zip(value.lo, value.hi, strict=True)]


def _levels(node: Node, function: Function, ranges: list[Tensor], args: list[Levels], join: Join) -> Levels:
    op, first = node.op, args[0]
    if op in LAYOUTS or op == "concat":
        sources = [*(v for arg in args for v in arg), 0]  # source −1 is the appended zero
        return first if node.layout is None else [sources[s] for s in node.layout]
    if op in ACTIVATIONS or op == "scale":
        return first
    if op in ROW_NORMS or op in ("sum", "amax"):
        width = function.nodes[node.args[0]].shape[-1]
        most = list(map(join, rows_of(first, width)))
        return most if op in ("sum", "amax") else [v for v in most for _ in range(width)]
    if op == "linear":
        weight = ranges[node.args[1]]
        return _linear(first, rows_of(weight.ends()[0], weight.shape[1]), join)
    if op == "mul":
        zeros = map(max, *(_zeros(ranges[j]) for j in node.args))
        return [0 if zero else join(pair) for zero, pair in zip(zeros, zip(*args, strict=True), strict=True)]
    if op in BINARY:
        return list(map(join, zip(*args, strict=True)))
    if op == "matmul":
        return _matmul(node, ranges[node.args[0]], args[0], args[1], join)
    raise CheckError("UNSUPPORTED", "an operation whose dependencies are known", op)


def _linear(levels: Levels, matrix: list[list[int]], join: Join) -> Levels:
    """Every last-axis row times one exact matrix, whose zeros are no dependencies."""
    used = [[c for c, w in enumerate(row) if w] for row in matrix]
    found: Levels = []
    for row in rows_of(levels, len(matrix[0])):
        if row.count(row[0]) == len(row):
            found += [row[0] if columns else 0 for columns in used]
        else:
            found += [join([row[c] for c in columns]) for columns in used]
    return found


def _matmul(node: Node, left: Tensor, a: Levels, b: Levels, join: Join) -> Levels:
    """Row i depends on the rows k of the right factor for which A_ik is not 0, and on those A_ik themselves."""
    (count, inner), columns = left.shape[-2:], node.shape[-1]
    right = rows_of(b, columns)
    found: Levels = []
    for i, (zeros, own) in enumerate(zip(rows_of(_zeros(left), inner), rows_of(a, inner), strict=True)):
        block = right[i // count * inner : (i // count + 1) * inner]
        kept = [k for k, zero in enumerate(zeros) if not zero]
        level = join([own[k] for k in kept])
        columns_of = zip(*(block[k] for k in kept), strict=True) if kept else [()] * columns
        found += [join([level, *column]) if level else join(column) for column in columns_of]
    return found
