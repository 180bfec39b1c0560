"""From a search to a finding: what is filed for the certificate, and what the accepted claims say about the question.

A `Record` is believed by nobody, whether it comes from a search, from a worker or from a ledger. A `Finding` is read
off claims that the kernel has accepted, each of which is compared with the question first: a true theorem about
another input, another answer or another iteration says nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, Filing
from trm_verify.encode import Json, refutation_json, state_json
from trm_verify.kernel.claims import (
    Answer,
    Conclusion,
    Contraction,
    Convergence,
    Encloses,
    FixedPointAnswer,
    FixedPoints,
    Refuted,
)
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe
from trm_verify.kernel.operators import parse_operator
from trm_verify.kernel.rules.invariance import residual_bound
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.provers.problem import ALL_STATES, Problem, point
from trm_verify.result import PROVED, REFUTED, UNKNOWN, Details, Enclosure, Verdict
from trm_verify.verification.decide import Found, Grounds, Labels, Question
from trm_verify.verification.rounding import up


@dataclass(frozen=True)
class Record:
    """What came of a question, before the kernel has seen it.

    Attributes:
        filings: the claim of an answer; or of what refutes it, and of what is answered instead; then of an enclosure.
        reason: why the answer is not proved.
        observed: of the search over the fixed points, where there was one.
        near: bounds the distance of the question's state from its fixed point, where the search worked it out.
    """

    filings: tuple[Filing, ...] = ()
    reason: str = ""
    observed: Details | None = None
    near: Fraction | None = None

    @property
    def closed(self) -> bool:
        """Whether it means to prove or refute an answer."""
        return any(f.claim != "encloses_the" for f in self.filings)


@dataclass(frozen=True)
class Finding:
    """What is known of one question.

    Attributes:
        verdict: of the answer, read off accepted claims.
        record: what was filed. statements: the same in the kernel's words, a filing each.
        answer: the labels that are proved; of a refutation, those that the counterexample has instead. steps: from
            which step on, None at a fixed point.
        refused: the labels that were asked for and are refuted.
        counterexample: an input that answers otherwise. Shape: (m,).
    """

    verdict: Verdict
    record: Record
    statements: tuple[str, ...] = ()
    answer: Labels | None = None
    steps: int | None = None
    refused: Labels | None = None
    counterexample: np.ndarray | None = None
    enclosure: Enclosure | None = None
    details: Details | None = None

    @property
    def reason(self) -> str:
        return self.record.reason


class Mismatch(ValueError):
    """Claims that hold, about something else than the question."""


def unanswered(reason: str) -> Finding:
    """Nothing is known, and why."""
    return Finding(UNKNOWN, Record(reason=reason))


def record_of(problem: Problem, grounds: Grounds, found: Found) -> Record:
    """What is to be filed of a search's outcome."""
    filings: list[Filing] = []
    if found.proof.derivation is not None:
        filings.append(answered_filing(problem, grounds.operator, found.proof.derivation))
    elif found.refutation is not None and found.refutation.derivation is not None:
        filings.append(_refuted(problem, grounds, found.refutation.derivation))
        filings.append(answered_filing(problem, grounds.operator, Derivation(found.refutation.derivation.steps[:-1])))
    if found.details is not None and found.details.enclosure is not None:
        enclosure = found.details.enclosure
        known = problem.conclude_as(enclosure, FixedPoints)
        fields = {"domain": enclosure.steps[-1]["domain"], "region": _states(known.region), "box": _states(known.box)}
        filings.append(Filing(enclosure, "encloses_the", fields))
    near = found.proof.near if grounds.enclosing is grounds.convergence else None
    return Record(tuple(filings), found.proof.reason, _observed(found), near)


def _observed(found: Found) -> Details | None:
    attempt = found.details
    if attempt is None:
        return None
    rule = "counterexample" if found.refutation is not None else attempt.rule
    return Details(
        attempt.margin, rule, None, attempt.unstable, attempt.nodes, attempt.seconds, attempt.kernel, attempt.limit
    )  # fmt: skip


def _states(box: Tensor) -> Json:
    return state_json(box) if box.bounded else ALL_STATES


OF_THE_LOOP = ("answer_by_convergence", "answer_by_invariance", "answer_when_settled")
"""Rules that end in an answer of the loop and carry their own domain."""


def answered_filing(problem: Problem, operator: object, derivation: Derivation) -> Filing:
    """The claim of an answer that its derivation supports."""
    last = derivation.steps[-1]
    if last["rule"] in OF_THE_LOOP:
        fields = {name: last[name] for name in ("domain", "answer")}
        fields["steps"] = problem.conclude_as(derivation, Answer).steps
        return Filing(derivation, "answer", {"operator": operator, **fields})
    answered = next(s for s in reversed(derivation.steps) if s["rule"] == "fixed_point_answer")
    domain = derivation.steps[answered["premises"][0]]["domain"]
    if last["rule"] == "fixed_point_answer":
        region = _states(problem.conclude_as(derivation, FixedPointAnswer).region)
        return Filing(derivation, "fixed_point_answer", {"domain": domain, "region": region, "answer": last["answer"]})
    fields = {"domain": domain, "answer": answered["answer"], "steps": last["steps"]}
    return Filing(derivation, "answer", {"operator": operator, **fields})


def _refuted(problem: Problem, grounds: Grounds, derivation: Derivation) -> Filing:
    """The refutation of an answer, at one input."""
    record = problem.conclude_as(derivation, Refuted)
    fields = refutation_json(
        replace(record, region=None if record.of == "answer" else problem.box(ALL_STATES)),
        derivation.steps[-1]["answer"], grounds.operator if record.of == "answer" else None,
    )  # fmt: skip
    return Filing(derivation, "refutation", fields)


def read(
    problem: Problem, grounds: Grounds, question: Question, record: Record, claims: Sequence[Conclusion]
) -> Finding:
    """What accepted claims, those of the record's filings in order, say about the question.

    Raises:
        Mismatch: one of them is about something else.
    """
    reader = _Reader(problem, grounds, question)
    first, rest = (claims[0], claims[1:]) if claims else (None, ())
    fields: dict[str, object] = {}
    verdict = UNKNOWN
    if isinstance(first, Refuted) and rest:
        verdict, (instead, rest) = REFUTED, (rest[0], rest[1:])
        reader.refutes(first)
        labels, steps = reader.answers(instead, first.domain)
        fields |= {"answer": labels, "steps": steps, "refused": first.answer, "counterexample": _middle(first.domain)}
    elif isinstance(first, (Answer, FixedPointAnswer)):
        verdict = PROVED
        labels, steps = reader.answers(first, reader.domain)
        if question.wanted is None or labels != question.wanted:
            raise Mismatch(f"expected the answer {question.wanted}, found a proof of {labels}")
        fields |= {"answer": labels, "steps": steps}
    else:
        rest = claims
    boxes = [reader.encloses(claim) for claim in rest]
    if len(boxes) > 1:
        raise Mismatch(f"expected at most one enclosure, found {len(boxes)}")
    residual = _by_residual(problem, grounds, question, record.near)
    enclosure = _tighter(_enclosure(boxes[0]), residual) if boxes else residual
    details = None if record.observed is None else _details(problem, record, boxes)
    statements = tuple(describe(claim) for claim in claims)
    return Finding(verdict, record, statements, enclosure=enclosure, details=details, **fields)  # type: ignore[arg-type]


class _Reader:
    """Compares claims with one question."""

    def __init__(self, problem: Problem, grounds: Grounds, question: Question) -> None:
        self.grounds, self.question = grounds, question
        self.domain, self.region = problem.box(question.domain), problem.box(grounds.region)
        self.operator = parse_operator(grounds.operator, problem.graph.size)

    def _about(self, fits: bool, claim: object) -> None:
        if not fits:
            raise Mismatch(f"expected a claim about the inputs and the iteration in question, found {claim!r:.200}")

    def answers(self, claim: Conclusion, domain: Tensor) -> tuple[Labels, int | None]:
        """What is answered for all inputs of the domain: by the stated iteration, or at every fixed point."""
        if isinstance(claim, Answer):
            self._about(self.grounds.loop and not claim.at and claim.operator == self.operator, claim)
            self._about(contains(claim.domain, domain), claim)
            return claim.answer, claim.steps
        if not isinstance(claim, FixedPointAnswer):
            raise Mismatch(f"expected an answer, found a claim of kind {type(claim).__name__}")
        self._about(not self.grounds.loop and contains(claim.region, self.region), claim)
        self._about(contains(claim.domain, domain), claim)
        return claim.answer, None

    def refutes(self, claim: Refuted) -> None:
        """The answer that was asked for is wrong for some input in question."""
        own = claim.of == "answer" and claim.operator == self.operator
        at_fixed_points = claim.of == "fixed_point_answer" and claim.region is not None and not claim.region.bounded
        self._about(own if self.grounds.loop else at_fixed_points, claim)
        self._about(contains(self.domain, claim.domain) and claim.answer == self.question.wanted, claim)

    def encloses(self, claim: Conclusion) -> Tensor:
        """Where the fixed points of all inputs in question lie."""
        if not isinstance(claim, Encloses):
            raise Mismatch(f"expected an enclosure, found a claim of kind {type(claim).__name__}")
        self._about(claim.kind == "the" and contains(claim.region, self.region), claim)
        self._about(contains(claim.domain, self.domain), claim)
        return claim.box


def _middle(box: Tensor) -> np.ndarray:
    return np.array([float(sum(box.fraction(i)) / 2) for i in range(box.size)])


def _details(problem: Problem, record: Record, boxes: Sequence[Tensor]) -> Details:
    """The search in numbers; the width of a proved box and the margin of a proved answer are worked out again."""
    observed = record.observed or Details()
    width = (
        float(np.mean([float(hi - lo) for lo, hi in map(boxes[0].fraction, range(boxes[0].size))])) if boxes else None
    )
    margin = observed.margin
    if record.closed and observed.rule != "counterexample":
        steps = record.filings[0].derivation.steps
        last = max((i for i, s in enumerate(steps) if s["rule"] == "fixed_point_answer"), default=None)
        margin = None
        if last is not None:
            answered = problem.conclude_as(Derivation(steps[: last + 1]), FixedPointAnswer)
            margin = float(min(answered.margins))
    return replace(observed, width=width, margin=margin)


def _enclosure(box: Tensor) -> Enclosure:
    ends = [box.fraction(i) for i in range(box.size)]
    centre = np.array([float((lo + hi) / 2) for lo, hi in ends])
    reach = [max(hi - Fraction(c), Fraction(c) - lo) for (lo, hi), c in zip(ends, centre.tolist(), strict=True)]
    return Enclosure(centre, np.array([up(v) for v in reach]))


def _tighter(a: Enclosure, b: Enclosure | None) -> Enclosure:
    return a if b is None or a.radius.sum() < b.radius.sum() else b


def _by_residual(problem: Problem, grounds: Grounds, question: Question, near: Fraction | None) -> Enclosure | None:
    """Where the fixed points of the inputs lie: N(z* − c) ≤ N(T(c) − c)/(1 − ρ), once there is exactly one for each."""
    if grounds.enclosing is None:
        return None
    premise = problem.conclude(grounds.enclosing)
    if not isinstance(premise, (Contraction, Convergence)):
        raise TypeError(f"expected a contraction or convergence, found {type(premise).__name__}")
    if near is None:
        try:
            near = residual_bound(problem.graph, premise, problem.box(question.domain), point(question.state))
        except CheckError:  # the state lies outside the region of the contraction
            return None
    return Enclosure(question.state, np.array([up(v) for v in premise.norm.spread(near)]))
