"""One answer, decided: by the loop's own convergence, by the fixed points of all its inputs, or against it.

The cheap argument comes first: a ball around one state that no later iterate leaves. Where it is too coarse the fixed
points of the whole box are enclosed, and the answer is shown, or refuted, at every one of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, integers
from trm_verify.kernel.claims import Convergence, FixedPointAnswer
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.rules.fixed_point_answers import competitors, logit_reach
from trm_verify.kernel.rules.invariance import from_init
from trm_verify.provers.answers import MOST_STEPS, AnswerAttempt, prove_answer
from trm_verify.provers.problem import Problem

if TYPE_CHECKING:
    from trm_verify.provers.fixed_points.search import FixedPointAttempt, FixedPointSearch

Labels = tuple[int, ...]
GRACE = 20.0  # seconds to confirm a counterexample that was found in time
NO_GROUND = "convergence of the iteration was not proved"


@dataclass(frozen=True)
class Grounds:
    """What answers over one domain can rest on.

    Attributes:
        operator: of the stated iteration, as certificates write it.
        convergence: of that iteration; None where none was proved, or stated.
        anchor: shows that there is exactly one fixed point for each input, which moves continuously with it.
        region: where z may be.
        settled: that the iteration is at its only fixed point, exactly, after so many steps from anywhere.
        enclosing: a premise whose region holds the fixed points, so that a residual bounds the distance to them.
    """

    operator: object
    convergence: Derivation | None
    anchor: Derivation | None
    region: Json
    settled: Derivation | None = None
    enclosing: Derivation | None = None

    @property
    def loop(self) -> bool:
        """Whether the model states an iteration; then an answer speaks of its iterates, not of its fixed points."""
        return self.operator != "implicit"


@dataclass(frozen=True)
class Question:
    """One answer to look for.

    Attributes:
        ground: index of the grounds that it rests on.
        domain: the inputs in question. centre: one of them alone, None if there is none in doubles.
        state: a state near its fixed point. Shape: (n,).
        wanted: the labels asked for, None where there is no readout. own: what the model answers at the centre.
        branch: whether to branch where bounds leave the answer open.
    """

    ground: int
    domain: Json
    centre: Json | None
    state: np.ndarray
    wanted: Labels | None
    own: Labels | None
    branch: bool = True


@dataclass(frozen=True)
class Found:
    """What came of a question: an attempt at the labels asked for, and one to refute them.

    Attributes:
        details: of the search over the fixed points, where there was one.
        counterexample: an input whose proved answer is another one. Shape: (m,). labels: that answer.
    """

    proof: AnswerAttempt
    refutation: AnswerAttempt | None = None
    details: FixedPointAttempt | None = None
    counterexample: np.ndarray | None = None
    labels: Labels | None = None


def _fixed_points(
    problem: Problem, premise: Derivation, domain: Json, region: Json, state: np.ndarray
) -> FixedPointSearch:  # fmt: skip
    """The search, which brings torch and SciPy along: most questions are answered without it."""
    from trm_verify.provers.fixed_points.search import FixedPointSearch

    return FixedPointSearch(problem, premise, domain, region, state)


def decide(problem: Problem, grounds: Grounds, question: Question, deadline: float) -> Found:
    """The answer over the domain, proved, refuted with a counterexample, or left open with the best bound."""
    if grounds.settled is not None:
        found = _at_the_end(problem, grounds.settled, question, deadline)
        if grounds.convergence is None or found.proof.derivation is not None or found.refutation is not None:
            return found
    if question.wanted is None or (grounds.loop and grounds.convergence is None):
        reason = "the model has no readout" if question.wanted is None else NO_GROUND
        return _enclose(problem, grounds, question, deadline, reason)
    if question.wanted != question.own:
        reason = f"the model answers {question.own} at the centre, not {question.wanted}"
        at = question.centre or question.domain
        return _against(problem, grounds, question, at, AnswerAttempt(None, reason=reason), None, deadline)
    first = AnswerAttempt(None)
    if grounds.convergence is not None:
        first = prove_answer(
            problem, grounds.convergence, question.domain, question.state, question.wanted, deadline
        )  # fmt: skip
        if first.derivation is not None:
            return Found(first)
    if grounds.anchor is None:
        return Found(first)
    search = _fixed_points(problem, grounds.anchor, question.domain, grounds.region, question.state)
    details = search.run(question.wanted, deadline, question.branch)
    if details.answer is not None:
        return Found(_settled(problem, grounds, details.answer), details=details)
    if details.counterexample is not None:
        at = point_inside(problem, question.domain, details.counterexample)
        return _against(problem, grounds, question, at, AnswerAttempt(None, reason=details.reason), details, deadline)
    reason = f"{details.reason} (before: {first.reason})" if grounds.convergence is not None else details.reason
    return Found(AnswerAttempt(None, reason=reason), details=details)


def _at_the_end(problem: Problem, settled: Derivation, question: Question, deadline: float) -> Found:
    """The answer of a loop that settles exactly; another answer at the centre refutes the one that was asked for."""
    from trm_verify.provers.settled import prove_settled_answer

    if question.wanted is None or question.own is None:
        return Found(AnswerAttempt(None, reason="the model has no readout"))
    other = question.wanted != question.own
    at = question.centre or question.domain if other else question.domain
    proof = prove_settled_answer(problem, settled, at, question.state, question.own, deadline)
    if not other:
        return Found(proof)
    reason = f"the model answers {question.own} at the centre, not {question.wanted}"
    if proof.derivation is None:
        return Found(AnswerAttempt(None, reason=f"{reason}; that was not proved: {proof.reason}"))
    refuted = proof.derivation.then("other_answer", answer=list(question.wanted))
    problem.conclude(refuted)
    middle = np.array([float(v) for v in middle_of(problem, at)])
    attempt = AnswerAttempt(refuted, proof.steps)
    return Found(AnswerAttempt(None, reason=reason), attempt, None, middle, question.own)


def _enclose(problem: Problem, grounds: Grounds, question: Question, deadline: float, reason: str) -> Found:
    """Where the fixed points lie, when there is no answer to speak of."""
    nothing = AnswerAttempt(None, reason=reason)
    if grounds.anchor is None:
        return Found(nothing)
    search = _fixed_points(problem, grounds.anchor, question.domain, grounds.region, question.state)
    return Found(nothing, details=search.run(None, deadline))


def _settled(problem: Problem, grounds: Grounds, answered: Derivation) -> AnswerAttempt:
    """The claim that is wanted: at the fixed points of an implicit model, or after K steps of a loop."""
    if grounds.convergence is None:
        return AnswerAttempt(answered)
    joined, first, last = grounds.convergence.join(answered)
    loop = problem.conclude_as(grounds.convergence, Convergence)
    found = problem.conclude_as(answered, FixedPointAnswer)
    if found.box is None:
        raise TypeError("expected an answer with an enclosure")
    try:
        initial = from_init(problem.graph, loop, found.domain)
        away = loop.constant * loop.norm.bound(difference(initial, found.box))
        reach = logit_reach(problem.graph, loop.norm, competitors(problem.graph, found.answer))
    except CheckError as error:
        return AnswerAttempt(None, reason=str(error))

    def holds(steps: int) -> bool:
        radius = power_up(loop.rate, steps) * away
        return all(margin > each * radius for margin, each in zip(found.margins, reach, strict=True))

    high = 16
    while not holds(high):
        if high > MOST_STEPS:
            return AnswerAttempt(None, reason="the loop needs more than a million steps to get near its fixed point")
        high *= 4
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    done = joined.then("answer_by_fixed_point", (first, last), steps=high)
    problem.conclude(done)
    return AnswerAttempt(done, high)


def _against(
    problem: Problem, grounds: Grounds, question: Question, at: Json, proof: AnswerAttempt,
    details: FixedPointAttempt | None, deadline: float,
) -> Found:  # fmt: skip
    """The answer at a single input, proved to be another one than is asked for."""
    if grounds.anchor is None or question.wanted is None:
        return Found(proof, details=details)
    search = _fixed_points(problem, grounds.anchor, at, grounds.region, question.state)
    there = search.run("own", max(deadline, time.monotonic() + GRACE), branch=False)
    if there.answer is None:
        why = there.reason or f"its least margin is {there.margin}"
        found = f"a counterexample in doubles was not confirmed exactly: {why}"
        reason = f"{proof.reason}; {found}" if proof.reason else found
        return Found(replace(proof, reason=reason), details=details)
    labels: Labels = tuple(there.answer.steps[-1]["answer"])
    if labels == question.wanted:
        return Found(replace(proof, reason="a counterexample in doubles answers as asked, exactly"), details=details)
    settled = _settled(problem, grounds, there.answer)
    if settled.derivation is None:
        return Found(proof, details=details)
    refuted = settled.derivation.then("other_answer", answer=list(question.wanted))
    problem.conclude(refuted)
    middle = np.array([float(v) for v in middle_of(problem, at)])
    return Found(proof, AnswerAttempt(refuted, settled.steps), details, middle, labels)


def middle_of(problem: Problem, domain: Json) -> Sequence[float]:
    box = problem.box(domain)
    return [float(sum(box.fraction(i)) / 2) for i in range(box.size)]


def point_inside(problem: Problem, domain: Json, x: np.ndarray) -> Json:
    """The input x, moved inside the box by the rounding of its ends; thin coordinates keep their whole interval."""
    box = problem.box(domain)
    lo, hi = (list(end) for end in box.ends())
    exp = min(box.exp, -1100)
    low, high = [], []
    for a, b, value in zip(*(rescaled(end, box.exp, exp) for end in (lo, hi)), x, strict=True):
        inner = (a + (1 << -(exp + 80)), b - (1 << -(exp + 80)))  # certificates round outward, at 96 bits
        numerator, denominator = float(value).as_integer_ratio()
        exact = (numerator << -exp) // denominator
        inside = inner[0] <= inner[1]
        low.append(min(max(exact, inner[0]), inner[1]) if inside else a)
        high.append(low[-1] if inside else b)
    if low == high:
        return {"space": "input", "point": integers(low, exp)}
    return {"space": "input", "lo": integers(low, exp), "hi": integers(high, exp)}


def rescaled(ints: Sequence[int], exp: int, to: int) -> list[int]:
    return [v << (exp - to) for v in ints]
