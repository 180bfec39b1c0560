"""Points, boxes and simple maps as terms: what functions of the graph are applied to, and put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.terms import (
    OPAQUE,
    ZERO,
    NotExported,
    Script,
    Term,
    absolute,
    add,
    at_most,
    choose,
    equal,
    larger,
    number,
    smaller,
    some,
)

MOST_INTEGERS = 256  # values of an integer input that are listed


def line(script: Script, a: Term, through: Fraction, at: Fraction, slope: Fraction) -> Term:
    """through + slope · (a − at)."""
    return add([number(through - slope * at), script.mul(number(slope), a)])


def piecewise(script: Script, name: str, op: str, attrs: Mapping[str, Any], a: Term) -> Term:
    """A piecewise-linear activation, exactly."""
    if op == "relu":
        found = larger(a, ZERO)
    elif op == "abs":
        found = absolute(a)
    elif op == "leaky_relu":
        if a == OPAQUE:
            return OPAQUE
        if a.ends is not None:  # it increases
            return Term(script.fresh(name), ends=(piecewise(script, f"{name}.lo", op, attrs, a.low),
                                                  piecewise(script, f"{name}.hi", op, attrs, a.high)))  # fmt: skip
        less = script.mul(number(attrs["slope"]), a)
        found = choose(at_most(ZERO, a), a, less, a.value if a.value is None or a.value >= 0 else less.value)
    else:
        found = a
        if attrs["lo"] is not None:
            found = script.define(f"{name}.lo", larger(found, number(attrs["lo"])))
        if attrs["hi"] is not None:
            found = smaller(found, number(attrs["hi"]))
    return script.define(name, found)


def variables(script: Script, name: str, box: Tensor, integers: int | None = None) -> list[Term]:
    """One variable per coordinate of the box, in it; literals for a point. `integers`: only whole values below that."""
    found = []
    for i in range(box.size):
        low, high = box.fraction(i) if box.bounded else (None, None)
        if low is not None and low == high:
            found.append(number(low))
            continue
        term = script.variable(f"{name}{i}", low, high)
        if integers is not None and not script.by_intervals:
            first, last = (0, integers - 1) if low is None or high is None else (int(low), int(high))
            if last - first >= MOST_INTEGERS:
                raise NotExported(f"an integer input with more than {MOST_INTEGERS} values")
            script.assume(some([equal(term, number(k)) for k in range(first, last + 1)]))
        found.append(term)
    return found


def literals(values: Sequence[Fraction]) -> list[Term]:
    return [number(v) for v in values]


def point(box: Tensor) -> list[Term]:
    """The coordinates of an exact tensor."""
    return [number(box.fraction(i)[0]) for i in range(box.size)]


def applied(
    script: Script, alpha: Sequence[Fraction], states: Sequence[Term], images: Sequence[Term], name: str = "next"
) -> list[Term]:
    """(1 − α)∘z + α∘f, or f alone without α."""
    if not alpha:
        return list(images)
    rows = enumerate(zip(alpha, states, images, strict=True))
    return [script.combine(f"{name}{i}", [(number(1 - a), z), (number(a), f)]) for i, (a, z, f) in rows]
