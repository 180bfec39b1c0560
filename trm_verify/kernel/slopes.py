"""Slopes of activations: bounds that hold between any two points, never only about a centre."""

from __future__ import annotations

from trm_verify.kernel import enclosures
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Node
from trm_verify.kernel.numbers import ceil_at
from trm_verify.kernel.tensor import Tensor


def slopes(node: Node, given: Tensor) -> tuple[list[int], list[int], int]:
    """Per entry, the range of the activation's slope between any two points of `given`: (lo, hi, exponent)."""
    size, op, exp = node.size, node.op, -enclosures.BITS
    one = 1 << enclosures.BITS
    outer = {"relu": (0, one), "abs": (-one, one), "clamp": (0, one)}.get(op) or enclosures.GLOBAL_SLOPE.get(op)
    if op == "leaky_relu":
        outer = (ceil_at(node.attrs["slope"], exp) - 1, one)
    if outer is None:
        raise CheckError("UNSUPPORTED", "an activation with bounded slopes", op)
    if not given.bounded:
        return [outer[0]] * size, [outer[1]] * size, exp
    lo, hi = given.snapped(exp)
    if op in enclosures.SLOPE:
        bounds = [enclosures.SLOPE[op](p, q) for p, q in zip(lo, hi, strict=True)]
        return [b[0] for b in bounds], [b[1] for b in bounds], exp
    if op == "clamp":  # flat outside [floor, ceiling], slope 1 inside
        floor, ceiling = node.attrs["lo"], node.attrs["hi"]
        below = None if floor is None else ceil_at(floor, exp) - 1  # strictly conservative on both sides
        above = None if ceiling is None else ceil_at(ceiling, exp)
        pairs = [
            (0, 0) if (below is not None and q <= below) or (above is not None and p >= above)
            else (one, one) if (below is None or p > below) and (above is None or q < above)
            else (0, one)
            for p, q in zip(lo, hi, strict=True)
        ]  # fmt: skip
    else:
        left = 0 if op == "relu" else outer[0]
        pairs = [(left, left) if q <= 0 else (one, one) if p >= 0 else outer for p, q in zip(lo, hi, strict=True)]
        if op == "leaky_relu":  # `outer[0]` is the slope rounded down; its own upper bound is one unit above
            pairs = [(p, q + (q == p == outer[0])) for p, q in pairs]
    return [p for p, _ in pairs], [q for _, q in pairs], exp
