"""Operations on rows, most of which are those of an evaluation before: only the others are worked out.

Such an operation makes every last-axis row of its result from the same row of its first argument, and from nothing
else but constants. Proof: proofs/interval_evaluation.md.
"""

from __future__ import annotations

from dataclasses import replace

from trm_verify.kernel.graph import ROW_NORMS, Function, Node
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.tensor import Tensor

OF_ROWS = {"linear", *ROW_NORMS}


def apply_again(node: Node, args: list[Tensor], before: list[Tensor], done: Tensor) -> Tensor:
    """The operation on `args`; `done` is what it gave for `before`."""
    first, last = args[0], before[0]
    alike = first.bounded and last.bounded and (first.exp, first.is_point) == (last.exp, last.is_point)
    if node.op not in OF_ROWS or not alike or any(a is not b for a, b in zip(args[1:], before[1:], strict=True)):
        return apply_operation(node, args)
    width, out = first.shape[-1], node.shape[-1]
    (lo, hi), (low, high) = first.ends(), last.ends()
    rows = [slice(at, at + width) for at in range(0, first.size, width)]
    places = [i for i, row in enumerate(rows) if lo[row] != low[row] or hi[row] != high[row]]
    if not places:
        return done
    below, above = ([v for i in places for v in end[rows[i]]] for end in (lo, hi))
    other = Tensor((len(places), width), first.exp, below, below if first.is_point else above)
    found = apply_operation(replace(node, shape=(len(places), out)), [other, *args[1:]])
    if found.exp != done.exp:  # rounded to another grid
        return apply_operation(node, args)
    merged = []
    for whole, part in zip(done.ends(), found.ends(), strict=True):
        end = whole.copy()
        for k, i in enumerate(places):
            end[i * out : (i + 1) * out] = part[k * out : (k + 1) * out]
        merged.append(end)
    # a point where a fresh evaluation gives one: of exact points, or where rounding has joined all ends
    point = merged[0] == merged[1] and (done.is_point or found.is_point)
    return Tensor(node.shape, done.exp, merged[0], merged[0] if point else merged[1])


def kept(function: Function, values: list[Tensor]) -> list[Tensor]:
    """The part of an evaluation that `apply_again` reads, without what else would be held in memory."""
    read = {j for i, node in enumerate(function.nodes) if node.op in OF_ROWS for j in (i, *node.args)}
    return [value if i in read else Tensor(value.shape) for i, value in enumerate(values)]
