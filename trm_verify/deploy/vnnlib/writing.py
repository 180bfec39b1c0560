"""VNN-LIB text: exact decimals, boxes of inputs, and outputs that answer something else than a label."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, Inexact
from fractions import Fraction
from math import prod

from trm_verify.box import Box

DIGITS = 60  # up to which numbers are written exactly; an ε of 1/3 has no end, and ends are then rounded outward


def decimal(value: Fraction, rounding: str, digits: int = DIGITS) -> str:
    """A decimal, exact where it has at most so many digits, otherwise rounded up or down."""
    context = Context(prec=digits, rounding=rounding, traps=[])
    found = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    return format(found.normalize(context) if not context.flags[Inexact] else found, "f")


def arg_max_query(box: Box | None, logits: tuple[int, ...], labels: Sequence[int], about: str) -> str:
    """The query whose unsafe outputs are those that, at some position, do not answer the label strictly.

    "unsat" then says what the claim `answer` says of every input of the box. Box ends of more than 60 digits are
    rounded outward, so that "unsat" still covers the whole box.

    Args:
        box: of inputs; None for a model without. logits: their shape, classes last.
        labels: one a position. about: comment lines.
    """
    classes, size = logits[-1], prod(logits)
    ends = [] if box is None else list(zip(box.lo, box.hi, strict=True))
    lines = [f"; {line}" for line in about.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(ends))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(size)]
    for i, (lo, hi) in enumerate(ends):
        lines.append(f"(assert (>= X_{i} {decimal(lo, ROUND_FLOOR)}))")
        lines.append(f"(assert (<= X_{i} {decimal(hi, ROUND_CEILING)}))")
    lines.append("(assert (or")
    for position, label in enumerate(labels):
        first = position * classes
        for j in range(classes):
            if j != label:
                lines.append(f"  (and (>= Y_{first + j} Y_{first + label}))")
    return "\n".join([*lines, "))", ""])
