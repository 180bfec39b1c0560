"""Answers at the fixed points of a box of inputs: enclosure, dual bounds, attack, then branch and bound."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, vector
from trm_verify.kernel.affine import forms_of, joined
from trm_verify.kernel.claims import FixedPointAnswer, FixedPoints
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Function
from trm_verify.kernel.linear import is_plain
from trm_verify.kernel.relaxation import system_of
from trm_verify.kernel.rules.fixed_point_answers import competitors
from trm_verify.provers.fixed_points import programs
from trm_verify.provers.fixed_points.attack import CLEAR, attack
from trm_verify.provers.fixed_points.branch import Branching, Outcome
from trm_verify.provers.fixed_points.continuity import Continuity
from trm_verify.provers.fixed_points.enclosed import Enclosed
from trm_verify.provers.fixed_points.lean import bounded
from trm_verify.provers.fixed_points.newton import fixed_point
from trm_verify.provers.fixed_points.relaxed import (
    Chords,
    Dual,
    Functionals,
    Relaxed,
    ascend,
    multipliers_json,
)
from trm_verify.provers.problem import Floats, Problem, floats

ASCENT, QUICK, POLISH = 150, 30, 8  # steps of ascent on the margins
POLISHING = 0.002  # rate of the last of these
ADAPTED = 3  # times that the chords adapt to the signs they lead to
SLACK = 1e-6  # what rounding in doubles may cost: a bound counts as positive above it


@dataclass(frozen=True)
class FixedPointAttempt:
    """What came of one box of inputs.

    Attributes:
        enclosure, answer: derivations, each accepted by the kernel's rules.
        margin: the least logit difference that was shown, or the best bound when the search ended early.
        rule: what closed it: "enclosure", "branch and bound", or "" when nothing did.
        counterexample: an input (m,) whose answer, in doubles, is another one.
        unstable: units whose argument may have either sign. nodes: linear programs solved.
        seconds: of the search alone; kernel: of the kernel's rules on what was found.
        limit: the unit whose relaxation costs the open bound most.
    """

    enclosure: Derivation | None = None
    answer: Derivation | None = None
    margin: float | None = None
    rule: str = ""
    counterexample: Floats | None = None
    unstable: int = 0
    nodes: int = 0
    seconds: float = 0.0
    kernel: float = 0.0
    reason: str = ""
    limit: int = -1


class FixedPointSearch:
    """The search over one box of inputs.

    Args:
        premise: concludes convergence, or a well-posed implicit model, over inputs that hold the box.
        state: a fixed point of an input inside, in doubles. Shape: (n,).
    """

    def __init__(self, problem: Problem, premise: Derivation, domain: Json, region: Json, state: Floats) -> None:
        self.problem, self.premise, self.domain, self.region, self.state = problem, premise, domain, region, state

    def run(
        self, answer: Sequence[int] | str | None, deadline: float = float("inf"), branch: bool = True
    ) -> FixedPointAttempt:
        """Enclose the fixed points, then show that all of them answer so, or find one that does not.

        Args:
            answer: a label per output position; "own" for the model's answer in the middle; None for the enclosure.
            branch: whether to branch where the bounds leave the answer open.
        """
        started = time.perf_counter()
        question: Question | None = None

        def settled(found: Enclosed) -> bool:
            """Whether wide intervals already show the answer."""
            nonlocal question
            if answer is None:
                return False
            question = Question(self.problem, continuity, found, answer)
            question.bound(QUICK)
            return question.proved

        try:
            continuity = Continuity(self.problem, self.domain, self.region)
            if answer is not None and (done := self._lean(continuity, answer, deadline, started)):
                return done
            found = continuity.consistent(self.state, deadline, settled)
        except CheckError as error:
            return FixedPointAttempt(seconds=time.perf_counter() - started, reason=str(error))
        if isinstance(found, str):
            return FixedPointAttempt(seconds=time.perf_counter() - started, reason=found)
        if answer is not None and not (question is not None and question.proved):
            question = Question(self.problem, continuity, found, answer)
            question.decide(deadline, branch)
        return self._checked(continuity, found, question, time.perf_counter() - started)

    def _lean(
        self, continuity: Continuity, answer: Sequence[int] | str, deadline: float, started: float
    ) -> FixedPointAttempt | None:
        """The answer by what costs least; None where that does not show it."""
        found = continuity.lean(self.state, deadline)
        if found is None:
            return None
        question = Question(self.problem, continuity, found, answer)
        question.glance(found)
        if not question.proved:
            return None
        attempt = self._checked(continuity, found, question, time.perf_counter() - started)
        return attempt if attempt.answer is not None else None

    def _checked(
        self, continuity: Continuity, found: Enclosed, question: Question | None, seconds: float
    ) -> FixedPointAttempt:
        """What the kernel's rules say to what was found."""
        unstable = found.unstable
        started = time.perf_counter()
        enclosure = continuity.derivation(self.premise, found)
        try:
            self.problem.conclude_as(enclosure, FixedPoints)
        except CheckError as error:
            kernel = time.perf_counter() - started
            return FixedPointAttempt(seconds=seconds, kernel=kernel, unstable=unstable, reason=str(error))
        result: dict[str, Any] = {"enclosure": enclosure, "unstable": unstable, "seconds": seconds}
        if question is not None:
            result |= {
                "margin": question.margin, "counterexample": question.counterexample, "nodes": question.nodes,
                "reason": question.reason, "limit": question.limit,
            }  # fmt: skip
            if question.proved:
                done = enclosure.then("fixed_point_answer", (-1,), **question.witness())
                try:
                    margins = self.problem.conclude_as(done, FixedPointAnswer).margins
                    result |= {"answer": done, "margin": float(min(margins)), "rule": question.rule}
                except CheckError as error:
                    result["reason"] = str(error)
        return FixedPointAttempt(**result, kernel=time.perf_counter() - started)


class Question:
    """Whether every logit difference in favour of an answer is positive at the enclosed fixed points."""

    def __init__(self, problem: Problem, continuity: Continuity, found: Enclosed, answer: Sequence[int] | str) -> None:
        readout = _Readout.of(problem, continuity)
        system, rows = readout.relaxed.system, readout.rows
        low, high = found.low, found.high
        kept, active = found.kept, found.relaxed.active
        lo, hi = found.lo.clone(), found.hi.clone()
        slack = 1e-9 + SLACK * (high - low).abs()  # the kernel's bounds are these up to rounding
        lo[active], hi[active] = (low - slack)[kept:], (high + slack)[kept:]
        states = np.zeros((2, problem.graph.size))
        for place, i in enumerate(system.kept):
            states[:, i] = float(low[place] - slack[place]), float(high[place] + slack[place])
        self.relaxed = readout.relaxed.over(continuity.inputs, states)
        self.lo, self.hi = _with_readout_units(self.relaxed, lo, hi)
        self.answer = self.own(problem, rows) if isinstance(answer, str) else tuple(answer)
        pairs = competitors(problem.graph, self.answer)
        self.rows = np.array([rows[own] - rows[other] for own, other in pairs])
        self.functionals = Functionals.of(self.relaxed, self.rows)
        self.bounds = np.full(len(pairs), -np.inf)
        self.outcomes: dict[int, Outcome] = {}
        self.counterexample: Floats | None = None
        self.nodes, self.reason, self.limit, self.bits = 0, "", -1, found.bits
        self.multipliers = torch.zeros(len(pairs), len(system.rows), dtype=torch.float64)

    @property
    def open(self) -> list[int]:
        """Competitors not yet excluded, the most dangerous first."""
        return [int(j) for j in np.argsort(self.bounds) if self.bounds[j] <= SLACK]

    @property
    def proved(self) -> bool:
        return self.counterexample is None and not self.open

    @property
    def margin(self) -> float:
        return float(self.bounds.min())

    @property
    def rule(self) -> str:
        return "branch and bound" if any(o.nodes > 1 for o in self.outcomes.values()) else "enclosure"

    def own(self, problem: Problem, rows: Floats) -> tuple[int, ...]:
        """The labels at the fixed point in the middle of the inputs, in doubles."""
        states, a, _ = fixed_point(self.relaxed, self.relaxed.middle[None], self._middle_state())
        columns = torch.cat(
            [torch.ones(1, 1, dtype=a.dtype), self.relaxed.middle[None], states, self.relaxed.values(a)], 1
        )
        logits = (columns @ torch.tensor(rows).T).numpy()[0]
        readout = problem.graph.readout
        classes = logits.size if readout is None else readout.nodes[readout.outputs[0]].shape[-1]
        return tuple(int(v) for v in logits.reshape(-1, classes).argmax(axis=1))

    def glance(self, found: Enclosed) -> None:
        """Dual bounds in the small system of the enclosure, if the readout has no units of its own; with cuts."""
        reduced = found.reduced
        if reduced is None or len(self.lo) > len(found.lo):
            self.bound(QUICK)
            return
        lo, hi = (end.numpy()[reduced.rest] for end in (self.lo, self.hi))
        try:
            shown = bounded(reduced, self.rows, lo, hi)
        except np.linalg.LinAlgError:
            return
        self.bounds = np.array([tree.least for tree in shown])
        self.multipliers = torch.from_numpy(np.array([tree.multipliers for tree in shown]))
        for j, tree in enumerate(shown):
            if tree.cut is not None:
                nodes = list(tree.preorder())
                leaves = [node.multipliers for node in nodes if node.cut is None]
                self.outcomes[j] = Outcome(
                    True, tree.least, 1, 0.0, splits=[-1 if node.cut is None else node.cut[0] for node in nodes],
                    at=[node.cut[1] for node in nodes if node.cut is not None], weights=[1] * len(leaves),
                    multipliers=leaves,
                )  # fmt: skip

    def bound(self, steps: int) -> None:
        """Dual bounds for all competitors at once, until each is positive, then a few steps more."""
        size = len(self.bounds)
        places = self.relaxed.places(self.lo.expand(size, -1), self.hi.expand(size, -1))
        dual = Dual(self.relaxed, self.functionals, *places)
        start = Chords(self.relaxed, self.lo, self.hi).best(dual, ADAPTED)
        found, self.multipliers = ascend(dual, start, steps, enough=SLACK)
        if float(found.min()) > SLACK:  # small steps polish bounds that are good already
            found, self.multipliers = ascend(dual, self.multipliers, POLISH, POLISHING)
        self.bounds = found.numpy().copy()

    def decide(self, deadline: float, branch: bool) -> None:
        """Dual bounds, then the attack, then a tree for each competitor that is left."""
        self.bound(ASCENT)
        if self.open:
            self._attack()
        if self.open and self.counterexample is None:
            self._branch(deadline, branch)

    def _attack(self) -> None:
        rows = self.functionals.rows[self.open]
        middle = self.relaxed.middle.expand(len(rows), -1)
        unknown = self._middle_state().expand(len(rows), -1)
        values, where = attack(self.relaxed, rows, middle, unknown)
        if float(values.min()) < -CLEAR:
            self.counterexample = where[int(values.argmin())].numpy()

    def _middle_state(self) -> Tensor:
        """Kept states and arguments near the fixed point in the middle, as Newton's method starts from them."""
        states = self.relaxed.states.mean(dim=0)
        return torch.cat([states, ((self.lo + self.hi) / 2)[self.relaxed.active]])[None]

    def _branch(self, deadline: float, branch: bool) -> None:
        missing = programs.available()
        if not branch or missing is not None:
            self.reason = missing or "the bounds leave the answer open, and branching was not asked for"
            return
        for j in self.open:
            search = Branching(self.relaxed, self.lo.numpy(), self.hi.numpy(), self.rows[j], self._refutes)
            try:
                outcome = search.run(deadline)
            except (RuntimeError, ValueError, ArithmeticError) as error:  # the solver's own; the rest carries on
                self.reason = f"the linear program solver failed: {error}"
                return
            self.outcomes[j] = outcome
            self.nodes += outcome.nodes
            self.bounds[j] = max(self.bounds[j], 2 * SLACK if outcome.proved else outcome.bound)
            if outcome.counterexample is not None:
                self.counterexample = outcome.counterexample
                return
            if not outcome.proved:
                self.reason, self.limit = outcome.reason, search.last
                return

    def _refutes(self, x: Floats) -> bool:
        """Whether the fixed point at x answers otherwise, in doubles."""
        at = torch.tensor(x, dtype=torch.float64)[None]
        values, _ = attack(self.relaxed, self.functionals.rows, at.expand(len(self.rows), -1), self._middle_state(), 1)
        return bool((values < -CLEAR).any())

    def witness(self) -> dict[str, Any]:
        """The trees of all competitors, one after the other, for the kernel's rule."""
        splits: list[int] = []
        at: list[float] = []
        weights: list[int] = []
        multipliers: list[Floats] = []
        for j in range(len(self.bounds)):
            outcome = self.outcomes.get(j)
            if outcome is None:
                outcome = Outcome(True, 0.0, 1, 0.0, None, "", [-1], [], [1], [self.multipliers[j].numpy()])
            splits += outcome.splits
            at += outcome.at
            weights += outcome.weights
            multipliers += outcome.multipliers
        return {
            "answer": list(self.answer), "splits": splits, "at": vector(at), "weights": vector(weights),
            "multipliers": multipliers_json(np.array(multipliers), self.bits),
        }  # fmt: skip


class _Readout:
    """Step and readout as one system, in doubles, with the logits over its columns."""

    def __init__(self, problem: Problem, continuity: Continuity, function: Function) -> None:
        graph = problem.graph
        readout = forms_of(graph, function, problem.box(continuity.region), problem.box(continuity.domain))
        both, logits = joined(continuity.forms, readout)
        system = system_of(graph, both)
        self.relaxed = Relaxed.of(system, np.zeros((2, graph.input_size)), np.zeros((2, graph.size)))
        self.rows = floats([system.reduced(row) for row in logits.rows], logits.exp)

    @classmethod
    def of(cls, problem: Problem, continuity: Continuity) -> _Readout:
        """Made once where neither function depends on the boxes."""
        graph = problem.graph
        function = graph.readout
        if function is None:
            raise CheckError("UNSUPPORTED", "a model with a readout", "none")
        plain = is_plain(graph.step) and is_plain(function)
        about = None if plain else [continuity.domain, continuity.region]
        return problem.once("readout", about, lambda: cls(problem, continuity, function))


def _with_readout_units(relaxed: Relaxed, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Intervals of the readout's arguments, by interval arithmetic over what is known of the step's units."""
    system, done = relaxed.system, len(lo)
    lo, hi = (torch.cat([end, torch.zeros(len(system.units) - done, dtype=end.dtype)]) for end in (lo, hi))
    place = {k: len(system.kept) + j for j, k in enumerate(system.active)}
    for k in range(done, len(system.units)):
        if system.units[k].op is None:
            continue
        _, values = relaxed.places(lo, hi)
        least, most = values.min(dim=0).values, values.max(dim=0).values
        row = relaxed.rows[place[k]]
        columns = row[1 : 1 + relaxed.inputs], row[1 + relaxed.inputs : relaxed.first], row[relaxed.first :].clone()
        columns[2][k:] = 0.0
        middle = row[0] + columns[0] @ relaxed.middle + columns[1] @ relaxed.states.mean(dim=0)
        middle = middle + columns[2] @ (least + most) / 2
        reach = columns[0].abs() @ relaxed.reach + columns[1].abs() @ (relaxed.states[1] - relaxed.states[0]) / 2
        reach = reach + columns[2].abs() @ (most - least) / 2
        lo[k], hi[k] = middle - reach, middle + reach
    return lo, hi
