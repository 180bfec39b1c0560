"""What a rule concludes and what a certificate claims, in the same words: one frozen record each, with its context.

`implies(conclusion, claim)` is the only place where one statement is accepted for another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from trm_verify.kernel.norms import Norm, coordinate_scale
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.tensor import Tensor, contains


@dataclass(frozen=True)
class Contraction:
    operator: Operator
    domain: Tensor
    region: Tensor
    norm: Norm
    rate: Fraction


@dataclass(frozen=True)
class AtMostOne:
    domain: Tensor
    region: Tensor


@dataclass(frozen=True)
class ExactlyOne:
    domain: Tensor
    region: Tensor


@dataclass(frozen=True)
class Invariant:
    """operator(S, X) ⊂ S, where S is `region`, or the closed N-ball (norm, centre, radius) inside it."""

    operator: Operator
    domain: Tensor
    region: Tensor
    ball: tuple[Norm, Tensor, Fraction] | None = None


@dataclass(frozen=True)
class Convergence:
    """N(z_k − z*) ≤ constant · rateᵏ · N(z_0 − z*) from every z_0 in `start` (None: from init(x)).

    `initial` bounds N(init(x) − z*(x)) over the domain when known. `epsilon`, `steps` are set in claims only.
    """

    operator: Operator
    domain: Tensor
    start: Tensor | None
    norm: Norm
    constant: Fraction
    rate: Fraction
    initial: Fraction | None = None
    epsilon: Fraction | None = None
    steps: int | None = None
    region: Tensor | None = None  # where the operator contracts; the fixed point lies in it


@dataclass(frozen=True)
class Answer:
    """For all x in the domain and all k ≥ steps (k = steps alone when `at` is set) iterate k from init(x) answers so."""

    operator: Operator
    domain: Tensor
    answer: tuple[int, ...]
    steps: int
    at: bool = False


@dataclass(frozen=True)
class Run:
    """The audit of one inference: `states` are the stored iterates, the last one is the result.

    `distances[k]` bounds N(z_k − z*); `drifts[0]` bounds |z_0 − init(x)|_∞ and `drifts[k]` bounds |z_k − T(z_{k−1})|_∞; `answers[k]` is the strict arg-max at z_k, or None;
    real iterates that start at stored state `final`, or at the last state, answer `answer` for ever.
    """

    operator: Operator
    domain: Tensor
    norm: Norm
    state: Tensor
    radius: Fraction
    answer: tuple[int, ...]
    final: int
    drifts: tuple[Fraction, ...]
    distances: tuple[Fraction, ...]
    answers: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Spectral:
    """‖W‖₂ ≤ bound for constant node `matrix` of the step. A premise only; it cannot be claimed."""

    matrix: int
    bound: Fraction


@dataclass(frozen=True)
class WellPosed:
    """R4: exactly one fixed point in all of Rⁿ. `slack` is m, or the list 1 − max(μ_i, 0) with weights `norm`."""

    domain: Tensor
    region: Tensor
    slack: Fraction | None = None
    diagonal: tuple[Fraction, ...] = ()
    measures: tuple[Fraction, ...] = ()
    norm: Norm | None = None
    matrix: tuple[list[list[int]], int] = field(default=([], 0), compare=False)
    projection: bool = False  # the activation projects onto a box


Conclusion = Contraction | AtMostOne | ExactlyOne | Invariant | Convergence | Answer | Run | Spectral | WellPosed


def implies(done: Conclusion, claim: Conclusion) -> bool:
    """Whether the conclusion of a step contains the claim: larger sets, smaller numbers, everything else equal."""
    if isinstance(done, WellPosed):
        done = ExactlyOne(done.domain, done.region)
    if type(done) is not type(claim) or isinstance(done, Spectral):
        return False
    if not contains(done.domain, claim.domain):  # type: ignore[union-attr]
        return False
    if isinstance(done, Contraction) and isinstance(claim, Contraction):
        same = (done.operator, done.norm) == (claim.operator, claim.norm)
        return same and contains(done.region, claim.region) and done.rate <= claim.rate < 1
    if isinstance(done, AtMostOne) and isinstance(claim, AtMostOne):
        return contains(done.region, claim.region)
    if isinstance(done, ExactlyOne) and isinstance(claim, ExactlyOne):
        return equal(done.region, claim.region)
    if isinstance(done, Invariant) and isinstance(claim, Invariant):
        return done.operator == claim.operator and done.ball is None and equal(done.region, claim.region)
    if isinstance(done, Convergence) and isinstance(claim, Convergence):
        return _converges(done, claim)
    if isinstance(done, Answer) and isinstance(claim, Answer):
        same_run = (done.operator, done.answer, done.at) == (claim.operator, claim.answer, claim.at)
        return same_run and (done.steps == claim.steps if done.at else done.steps <= claim.steps)
    if isinstance(done, Run) and isinstance(claim, Run):
        same_run = (done.operator, done.norm, done.answer) == (claim.operator, claim.norm, claim.answer)
        bounds = zip((done.radius, *done.drifts, *done.distances), (claim.radius, *claim.drifts, *claim.distances), strict=False)
        return (
            same_run
            and equal(done.domain, claim.domain)
            and equal(done.state, claim.state)
            and done.final == claim.final
            and (len(done.drifts), len(done.distances)) == (len(claim.drifts), len(claim.distances))
            and all(a <= b for a, b in bounds)
            and done.answers == claim.answers
        )
    return False


def equal(a: Tensor, b: Tensor) -> bool:
    return contains(a, b) and contains(b, a)


def _converges(done: Convergence, claim: Convergence) -> bool:
    if (done.operator, done.norm) != (claim.operator, claim.norm):
        return False
    if done.constant > claim.constant or not done.rate <= claim.rate < 1:
        return False
    if claim.start is None:  # from init(x): proved so, or from everywhere
        if done.start is not None and done.start.bounded:
            return False
    elif done.start is None or not contains(done.start, claim.start):
        return False
    if claim.epsilon is None and claim.steps is None:
        return True
    if claim.epsilon is None or claim.steps is None or done.initial is None or done.start is not None:
        return False
    reached = done.constant * power_up(done.rate, claim.steps) * done.initial
    return reached * coordinate_scale(done.norm) <= claim.epsilon
