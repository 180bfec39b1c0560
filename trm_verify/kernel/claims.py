"""What a rule concludes and what a certificate claims, in the same words: one frozen record each, with its context.

`implies(conclusion, claim)` is the only place where one statement is accepted for another.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from trm_verify.kernel.norms import Norm, coordinate_scale
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.operators import Operator
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.kernel.units import Interval


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
    region: Tensor | None = None  # holds z*; there N(Tᵏz − Tᵏz') ≤ constant · rateᵏ · N(z − z') while the iterates stay


@dataclass(frozen=True)
class Answer:
    """For all x in the domain, iterate k from init(x) answers so, for all k ≥ steps (`at`: for k = steps alone)."""

    operator: Operator
    domain: Tensor
    answer: tuple[int, ...]
    steps: int
    at: bool = False


@dataclass(frozen=True)
class Commits:
    """For all x in the domain: rounds of at least `steps` iterations from init commit so, and answer so in the end.

    `committed[i]` is the round after which cell i is written into the input, 0 for never: when its largest logit is
    above every other one by more than `threshold`, and it shows the channel `blank`. The last round commits nothing.
    """

    operator: Operator
    domain: Tensor
    answer: tuple[int, ...]
    committed: tuple[int, ...]
    steps: int
    threshold: Fraction
    blank: int

    @property
    def rounds(self) -> int:
        return 1 + max(self.committed)


@dataclass(frozen=True)
class Run:
    """The audit of one inference: `states` are the stored iterates, the last one is the result.

    `distances[k]` bounds N(z_k − z*); `drifts[0]` bounds |z_0 − init(x)|_∞ and `drifts[k]` |z_k − T(z_{k−1})|_∞;
    `answers[k]` is the strict arg-max at z_k, or None; real iterates that start at stored state `final`, or at the
    last state, answer `answer` for ever.
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
class Gain:
    """‖Δb_t‖² ≤ Σ_i γ_i² ‖Δa_it‖² in ℓ2 for every last-axis row t, at each place ((a_1, …, a_k), b) of the step.

    Between two evaluations at one x of the domain and two states of the region. A premise only.
    """

    domain: Tensor
    region: Tensor
    places: tuple[tuple[tuple[int, ...], int], ...]
    gains: tuple[Fraction, ...]


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


@dataclass(frozen=True)
class FixedPoints:
    """R5–R7: for every x in the domain, every fixed point in `region` lies in `box`, within `arguments` of its units.

    `exists`: one of them does (it lies in both). `unique`: at most one in `region`. `scale`: of the units' arguments.
    """

    domain: Tensor
    region: Tensor
    box: Tensor
    arguments: tuple[Interval, ...] = field(default=(), compare=False)
    scale: tuple[Fraction, ...] | None = None
    exists: bool = False
    unique: bool = False

    def says(self, kind: str) -> bool:
        """Whether it encloses `all` fixed points, some `one`, or `the` only one."""
        return kind == "all" or self.exists and (kind == "one" or self.unique)


@dataclass(frozen=True)
class Encloses:
    """`all`: every fixed point in the region lies in the box. `one`: some of them does. `the`: the only one does."""

    kind: str
    domain: Tensor
    region: Tensor
    box: Tensor


@dataclass(frozen=True)
class FixedPointAnswer:
    """Every fixed point in the region, and there is one, answers so strictly, for every x in the domain.

    `margins`: lower bounds of each logit difference, position by position, competitor by competitor.
    """

    domain: Tensor
    region: Tensor
    answer: tuple[int, ...]
    margins: tuple[Fraction, ...] = field(default=(), compare=False)
    box: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Lipschitz:
    """‖logits(z) − logits(z')‖₂ ≤ constant · ‖x − x'‖₂ for all x, x' of the domain, z and z' their fixed points.

    For each x the region holds exactly one.
    """

    domain: Tensor
    region: Tensor
    constant: Fraction


@dataclass(frozen=True)
class Reached:
    """After exactly `steps` applications of the operator from init(x) the state lies in `box`. A premise only."""

    operator: Operator
    domain: Tensor
    steps: int
    box: Tensor


@dataclass(frozen=True)
class Settled:
    """For each x of the domain there is one z* with Tᵏ(z_0) = z* for all states z_0 and all k ≥ steps.

    So z* is the only fixed point in all of Rⁿ (`region`). Entries of part p of Tᵏ(z) depend on those of earlier `parts`
    alone.
    """

    operator: Operator
    domain: Tensor
    steps: int
    region: Tensor | None = field(default=None, compare=False)
    parts: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)  # runs: entries, their part


@dataclass(frozen=True)
class FixedPointAt:
    """z = f(z, x) exactly, at rational x and z (numerators over one denominator each); `labels` attain the maximum."""

    x: tuple[Fraction, ...]
    z: tuple[Fraction, ...]
    labels: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Refuted:
    """A claim of the given name about these sets is false (proved by a witness that the step holds)."""

    of: str
    domain: Tensor
    region: Tensor | None = None
    operator: Operator | None = None
    norm: Norm | None = None
    rate: Fraction | None = None
    answer: tuple[int, ...] | None = None


Conclusion = (
    Contraction | AtMostOne | ExactlyOne | Invariant | Convergence | Answer | Commits | Run | Spectral | Gain
    | WellPosed | FixedPoints | Encloses | FixedPointAnswer | Lipschitz | FixedPointAt | Reached | Settled | Refuted
)  # fmt: skip


def equal(a: Tensor, b: Tensor) -> bool:
    return contains(a, b) and contains(b, a)


def _inside(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else contains(b, a)


def equal_or_none(a: Any, b: Any) -> bool:
    """Equal, sets as sets."""
    return equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)


def _no_larger(done: tuple[Fraction, ...], claim: tuple[Fraction, ...]) -> bool:
    return len(done) == len(claim) and all(a <= b for a, b in zip(done, claim, strict=True))


# How each field of a conclusion has to compare with the field of a claim; fields that are not listed must be equal.
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "domain": contains, "state": equal, "rate": operator.le, "constant": operator.le, "radius": operator.le,
    "drifts": _no_larger, "distances": _no_larger,
}  # fmt: skip


def _relation(claim: Conclusion, name: str) -> Callable[[Any, Any], bool]:
    if isinstance(claim, Refuted):  # it fails for some x of the smaller domain, hence of the larger
        smaller = name == "domain" or name == "region" and claim.of != "exactly_one"  # no fixed point at all: there
        return _inside if smaller else equal_or_none
    if name == "box":
        return _inside
    if name == "region" and isinstance(claim, Encloses):
        return contains if claim.kind == "all" else equal
    if name == "region":  # a smaller region may hold no fixed point, and need not be invariant
        return contains if isinstance(claim, (Contraction, AtMostOne)) else equal
    if name == "steps":
        return operator.eq if isinstance(claim, Answer) and claim.at else operator.le
    return RELATIONS.get(name, operator.eq)


def implies(done: Conclusion, claim: Conclusion) -> bool:
    """Whether the conclusion of a step contains the claim: larger sets, smaller numbers, everything else equal."""
    done = _as_claim(done, claim)
    if type(done) is not type(claim) or isinstance(done, Spectral):
        return False
    special = ("start", "initial", "epsilon", "steps", "region") if isinstance(claim, Convergence) else ()
    names = [f.name for f in fields(claim) if f.compare and f.name not in special]
    if not all(_relation(claim, n)(getattr(done, n), getattr(claim, n)) for n in names):
        return False
    if isinstance(claim, (Contraction, Convergence)) and claim.rate >= 1:
        return False
    return not isinstance(claim, Convergence) or (isinstance(done, Convergence) and _reaches(done, claim))


def _as_claim(done: Conclusion, claim: Conclusion) -> Conclusion:
    """The conclusion in the words of the claim, where it says at least as much."""
    if isinstance(done, WellPosed):
        return ExactlyOne(done.domain, done.region)
    if (
        isinstance(done, Convergence)
        and isinstance(claim, ExactlyOne)
        and done.start is not None
        and done.region is not None
        and contains(done.start, done.region)
    ):  # a second one would be a start, and stay where it is
        return ExactlyOne(done.domain, done.region)
    if isinstance(done, Settled) and done.region is not None and not isinstance(claim, Settled):
        return ExactlyOne(done.domain, done.region)
    if isinstance(done, FixedPoints):
        if isinstance(claim, ExactlyOne) and done.exists and done.unique:
            return ExactlyOne(done.domain, done.region)
        if isinstance(claim, AtMostOne) and done.unique:
            return AtMostOne(done.domain, done.region)
        if isinstance(claim, Encloses) and done.says(claim.kind):
            return Encloses(claim.kind, done.domain, done.region, done.box)
    return done


def _reaches(done: Convergence, claim: Convergence) -> bool:
    """The claim's start lies in the conclusion's, and its K(ε) follows."""
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
