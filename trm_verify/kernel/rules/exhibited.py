"""A fixed point that is at hand: it exists, and near it a piecewise-linear step is linear on every ray from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms
from trm_verify.kernel.claims import Conclusion, FixedPointAt, FixedPoints, equal
from trm_verify.kernel.context import Context, Witness
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.rules.refutation import around
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.units import PIECEWISE, Interval, kinks, value


def arguments_at(forms: AffineForms, x: Sequence[Fraction], z: Sequence[Fraction]) -> list[Fraction] | None:
    """The exact arguments of all units (0 without one); None where one is not piecewise linear, in every state."""
    known, found = [Fraction(1), *z, *x], []
    for unit, row in zip(forms.units, forms.arguments.rows, strict=True):
        total = sum((v * c for v, c in zip(row, known, strict=False) if v), Fraction(0))
        found.append(total * dyadic(1, forms.arguments.exp))
        if unit.range is not None and not unit.varies and unit.range[0] == unit.range[1]:
            known.append(unit.range[0])
        elif unit.op in PIECEWISE:
            known.append(value(unit, found[-1])[0])
        else:
            return None
    return found


def exhibited(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Fixed points of a region, for one input, and one of them: there is one; often, it is the only one.

    Another fixed point z′ would begin a ray z + t(z′ − z) of fixed points, as long as no unit meets a kink other than
    one where it is at z. Such a ray leaves what is known of all fixed points, before it leaves the region.

    Sound if: proofs/exhibited.md.
    """
    document.fields(witness, where="exhibited")
    if len(premises) != 2 or not isinstance(premises[0], FixedPoints) or not isinstance(premises[1], FixedPointAt):
        raise CheckError("PREMISE", "fixed points and a fixed point", [type(p).__name__ for p in premises])
    known, at = premises[0], premises[1]
    if not known.domain.is_point or not equal(known.domain, around(at.x)):
        raise CheckError("CONTEXT", "one input, the same in both premises", "another domain")
    ends = [known.region.fraction(i) if known.region.bounded else (None, None) for i in range(len(at.z))]
    if not all(_holds(end, z) for end, z in zip(ends, at.z, strict=True)):
        raise CheckError("INCLUSION", "the fixed point inside the region", "one that is not")
    found = replace(known, exists=True)
    forms = forms_over(context.graph, known.domain, known.box, known.scale)
    arguments = arguments_at(forms, at.x, at.z)
    if arguments is None or not known.box.bounded:
        return found
    bends = zip(forms.units, known.arguments, arguments, strict=True)
    straight = not any(c != a and _holds(end, c) for unit, end, a in bends if unit.op for c in kinks(unit))
    box = map(known.box.fraction, range(len(at.z)))
    inner = all(_never_leaves(outer, own, z) for outer, own, z in zip(ends, box, at.z, strict=True))
    return replace(found, unique=known.unique or straight and inner)


def _holds(interval: Interval, at: Fraction) -> bool:
    lo, hi = interval
    return (lo is None or lo <= at) and (hi is None or at <= hi)


def _never_leaves(outer: Interval, inner: tuple[Fraction, Fraction], z: Fraction) -> bool:
    """A ray from z towards a point of `outer` leaves `inner` before it leaves `outer`, or never leaves `outer`."""
    (lo, hi), (first, last) = outer, inner
    return (lo is None or lo < first or lo == z) and (hi is None or last < hi or hi == z)
