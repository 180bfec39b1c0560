"""Exact witnesses as derivations: fixed points at rationals, two of one input, and one that answers otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, fractions
from trm_verify.kernel.claims import FixedPointAt
from trm_verify.provers.problem import Problem


@dataclass(frozen=True)
class FixedPoint:
    """f(z, x) = z, exactly; `labels` are the classes that attain the maximum, one tuple an output position."""

    x: tuple[Fraction, ...]
    z: tuple[Fraction, ...]
    labels: tuple[tuple[int, ...], ...] = ()
    derivation: Derivation = field(default=Derivation(()), compare=False, repr=False)

    def answers(self, answer: Sequence[int]) -> bool:
        """Whether every position strictly answers so; a tie is no answer."""
        return self.labels == tuple((label,) for label in answer)


def rationals(values: Sequence[Fraction]) -> Json:
    """Numerators over one positive denominator; an odd one, for binary fractions are numerators already."""
    common = lcm(*(v.denominator for v in values))
    odd = common // (common & -common)
    return {"numerators": fractions([v * odd for v in values]), "denominator": dyadic(odd)}


def fixed_point(problem: Problem, x: Sequence[Fraction], z: Sequence[Fraction]) -> FixedPoint:
    """The fixed point, evaluated by the kernel.

    Raises:
        CheckError: f(z, x) is another value, or the step is not piecewise linear.
    """
    done = derive("fixed_point_at", input=rationals(x), state=rationals(z))
    found = problem.conclude_as(done, FixedPointAt)
    return FixedPoint(found.x, found.z, found.labels, done)


def two_fixed_points(problem: Problem, first: FixedPoint, second: FixedPoint) -> Derivation:
    """The refutation of `at_most_one`.

    Raises:
        CheckError: they are one, or belong to different inputs.
    """
    both, a, b = first.derivation.join(second.derivation)
    done = both.then("two_fixed_points", [a, b])
    problem.conclude(done)
    return done


def other_answer(problem: Problem, at: FixedPoint, answer: Sequence[int]) -> Derivation:
    """The refutation of `fixed_point_answer`: this fixed point does not strictly answer so.

    Raises:
        CheckError: it does.
    """
    done = at.derivation.then("other_answer", answer=list(answer))
    problem.conclude(done)
    return done
