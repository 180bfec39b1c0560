"""Branch and bound over the units of a system (R7): complete for piecewise-linear models, and sound for any.

Each open node is a linear program; its solution suggests an input to try as a counterexample, and the unit whose
relaxation is furthest from the truth is cut at its kink. An interrupted search keeps its best bound.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from trm_verify.kernel.units import PIECEWISE, kinks
from trm_verify.provers.fixed_points.programs import Program, Solution
from trm_verify.provers.fixed_points.relaxed import Dual, Functionals, Relaxed
from trm_verify.provers.problem import Floats

SLACK = 1e-6  # what rounding in doubles may cost
GAVE_UP = "the linear program solver gave up"
TIME_USED = "the time for this input was used up"
TOO_CLOSE = "a case in which the relaxation is exact and the answer changes, or ties"
Cuts = dict[int, tuple[float, float]]
Check = Callable[[Floats], bool]  # whether an input is a counterexample


@dataclass
class Node:
    """A part of the fixed points: units cut to intervals. A leaf has multipliers, `weight` 0 when it is empty."""

    cuts: Cuts
    multipliers: Floats | None = None
    weight: int = 1
    unit: int = -1
    threshold: float = 0.0
    children: tuple[Node, Node] | None = None


@dataclass
class Outcome:
    """`proved`; or a counterexample; or neither (why). `bound` is the best proved bound.

    Attributes:
        tree: preorder lists of splits, thresholds, weights and multipliers, when proved.
    """

    proved: bool
    bound: float
    nodes: int
    seconds: float
    counterexample: Floats | None = None
    reason: str = ""
    splits: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    multipliers: list[Floats] = field(default_factory=list)


class Branching:
    """The search for one functional: is it positive at every fixed point?

    Shape: lo, hi (U,): the known intervals of the arguments; functional (1 + m + kept + U,).
    """

    def __init__(self, relaxed: Relaxed, lo: Floats, hi: Floats, functional: Floats, check: Check | None) -> None:
        self.relaxed, self.lo, self.hi, self.functional, self.check = relaxed, lo, hi, functional, check
        self.program, self.rows = Program(relaxed, lo, hi, functional), relaxed.rows.numpy()
        self.last = -1  # the unit that was cut last
        self.kinks = [[float(v) for v in kinks(u)] if u.op in PIECEWISE else [] for u in relaxed.system.units]

    def run(self, deadline: float = float("inf"), most: int = 200_000) -> Outcome:
        started = time.perf_counter()
        root, count = Node({}), 1
        first = self.program.solve({}, deadline - time.monotonic())
        if first is None:
            return Outcome(False, -np.inf, count, time.perf_counter() - started, reason=GAVE_UP)
        heap: list[tuple[float, int, Node, Solution]] = []
        self._file(heap, root, first, 0)
        while heap:
            bound, _, node, solution = heapq.heappop(heap)
            seconds = time.perf_counter() - started
            if self.check is not None and self.check(solution.inputs):
                return Outcome(False, bound, count, seconds, counterexample=solution.inputs)
            if time.monotonic() > deadline or count > most:
                return Outcome(False, bound, count, seconds, reason=TIME_USED)
            unit, threshold = self._choose(node, solution)
            self.last = unit
            if unit < 0:
                return Outcome(False, bound, count, seconds, reason=TOO_CLOSE)
            lo, hi = node.cuts.get(unit, (self.lo[unit], self.hi[unit]))
            parts = ((lo, threshold), (threshold, hi))
            children = tuple(Node({**node.cuts, unit: part}) for part in parts)
            node.unit, node.threshold, node.children = unit, threshold, (children[0], children[1])
            order = (1, 0) if solution.arguments[unit] > threshold else (0, 1)
            for side in order:
                count += 1
                found = self.program.solve(children[side].cuts, deadline - time.monotonic())
                if found is None:
                    return Outcome(False, bound, count, time.perf_counter() - started, reason=GAVE_UP)
                self._file(heap, children[side], found, count)
        return self._tree(root, count, time.perf_counter() - started)

    def _file(self, heap: list[tuple[float, int, Node, Solution]], node: Node, found: Solution, count: int) -> None:
        """A leaf once its bound, recomputed from the multipliers, is positive; otherwise open."""
        if found.empty or found.value > 0:
            sure = self.bound(found.multipliers, node.cuts, 0 if found.empty else 1)
            if sure > SLACK:
                node.multipliers, node.weight = found.multipliers, 0 if found.empty else 1
                return
        heapq.heappush(heap, (found.value, count, node, found))

    def bound(self, multipliers: Floats, cuts: Cuts, weight: int = 1) -> float:
        """The dual bound of these multipliers."""
        lo, hi = self.lo.copy(), self.hi.copy()
        for k, (a, b) in cuts.items():
            lo[k], hi[k] = max(lo[k], a), min(hi[k], b)
        places = self.relaxed.places(torch.tensor(lo)[None], torch.tensor(hi)[None])
        functional = Functionals.of(self.relaxed, weight * self.functional[None])
        found, _ = Dual(self.relaxed, functional, *places).bound(torch.tensor(multipliers)[None])
        return float(found[0])

    def _choose(self, node: Node, solution: Solution) -> tuple[int, float]:
        """The unit, and the kink inside its interval, whose relaxation costs most; −1 when none errs.

        The cost is the error of the relaxed value times the coefficient that the dual solution gives the unit.
        """
        weight = np.abs(self.functional + solution.multipliers @ self.rows)[self.relaxed.first :]
        exact = self.relaxed.values(torch.tensor(solution.arguments)).numpy()
        cost = np.abs(exact - solution.values) * (weight + 1e-9)
        for unit in np.argsort(-cost):
            if np.abs(exact[unit] - solution.values[unit]) < 1e-9:
                break
            lo, hi = node.cuts.get(int(unit), (self.lo[unit], self.hi[unit]))
            inside = [c for c in self.kinks[unit] if lo < c < hi]
            if inside:
                return int(unit), min(inside, key=lambda c: abs(c - float(solution.arguments[unit])))
        return -1, 0.0

    @staticmethod
    def _tree(root: Node, count: int, seconds: float) -> Outcome:
        outcome = Outcome(True, 0.0, count, seconds)
        stack = [root]
        while stack:
            node = stack.pop()
            outcome.splits.append(node.unit)
            if node.children is None:
                outcome.weights.append(node.weight)
                outcome.multipliers.append(node.multipliers if node.multipliers is not None else np.zeros(0))
                continue
            outcome.at.append(node.threshold)
            stack += [node.children[1], node.children[0]]  # the part below comes first
        return outcome
