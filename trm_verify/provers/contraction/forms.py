"""A function as linear maps around activation units, in doubles: what the provers of R3 and row gains search with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from trm_verify.encode import Json
from trm_verify.kernel.linear import Forms, linear_forms, require_activations
from trm_verify.kernel.slopes import slopes
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Floats, Problem, floats


@dataclass(frozen=True)
class StepForm:
    """Δout = outputs · (Δz, φ), arguments of φ = arguments · (Δz, φ), slopes of unit i in [lo_i, hi_i].

    Shape: outputs (m, n + units), arguments (units, n + units), with m = n for a step.
    """

    outputs: Floats
    arguments: Floats
    lo: Floats
    hi: Floats

    @property
    def n(self) -> int:
        return int(self.outputs.shape[1]) - len(self.lo)

    @property
    def units(self) -> int:
        return len(self.lo)

    @cached_property
    def units_only(self) -> Floats:
        """The rows that pick the units out of (Δz, φ)."""
        return np.eye(self.n + self.units)[self.n :]

    def matrix(self, metric: Floats, multipliers: Floats, rate: float, image: Floats | None = None) -> Floats:
        """The matrix of the rule (see proofs/metric_contraction.md), symmetric up to rounding.

        Args:
            image: the metric of the output, that of the input if there is none.
        """
        total = -self.outputs.T @ (metric if image is None else image) @ self.outputs
        total[: self.n, : self.n] += rate**2 * metric
        weighted = self.units_only * multipliers[:, None]
        cross = weighted.T @ (self.arguments * (self.lo + self.hi)[:, None])
        total += 2 * weighted.T @ self.units_only - cross - cross.T
        total += 2 * (self.arguments * (multipliers * self.lo * self.hi)[:, None]).T @ self.arguments
        found: Floats = (total + total.T) / 2
        return found

    def reach(self, metric: Floats, multipliers: Floats, image: Floats | None = None) -> float:
        """The smallest rate (perhaps above 1) at which it is positive semidefinite; infinity if there is none."""
        return self._reach(metric, self.matrix(metric, multipliers, 0.0, image))

    def reach_along(self, metric: Floats, shape: Floats, image: Floats | None = None) -> Callable[[float], float]:
        """`reach` for the multipliers shape · 2^p, as a function of p."""
        fixed = self.matrix(metric, np.zeros_like(shape), 0.0, image)
        with np.errstate(over="ignore", invalid="ignore"):
            moving = self.matrix(metric, shape, 0.0, image) - fixed
        return lambda power: self._reach(metric, fixed + 2.0**power * moving)

    def _reach(self, metric: Floats, base: Floats) -> float:
        n = self.n
        if not np.isfinite(base).all():  # multipliers beyond what doubles hold
            return float("inf")
        need, live = -base[:n, :n], np.flatnonzero(np.abs(base[n:]).any(axis=1)) + n  # units without influence drop out
        try:
            if len(live):
                half = solve_triangular(cholesky(base[np.ix_(live, live)], lower=True), base[live, :n], lower=True)
                need = need + half.T @ half
            (square,) = eigh(need, metric, eigvals_only=True, subset_by_index=[n - 1, n - 1])
        except np.linalg.LinAlgError:
            return float("inf")
        return float(max(float(square), 0.0) ** 0.5)

    def best_rate(self, metric: Floats, multipliers: Floats) -> float | None:
        """The same when it is below 1."""
        found = self.reach(metric, multipliers)
        return found if found < 1 else None


def form_of(problem: Problem, forms: Forms, ranges: list[Tensor]) -> StepForm:
    """Kernel forms with activation units only, and the slopes of those units over the ranges."""
    nodes = problem.graph.step.nodes
    lo, hi = [np.zeros(0)], [np.zeros(0)]
    for node in dict.fromkeys(n for n, _, _ in forms.units):
        low, high, exp = slopes(nodes[node], ranges[nodes[node].args[0]])
        entries = np.array([e for n, e, _ in forms.units if n == node])
        # a unit of one row stands for that unit in every row, and its slopes for all of theirs
        every = (-1, len(entries))
        lo.append(floats(low, exp).reshape(every)[:, entries].min(axis=0))
        hi.append(floats(high, exp).reshape(every)[:, entries].max(axis=0))
    outputs = floats(forms.outputs.rows, forms.outputs.exp)
    arguments = floats(forms.arguments.rows, forms.arguments.exp) if forms.units else np.zeros((0, outputs.shape[1]))
    return StepForm(outputs, arguments, np.concatenate(lo), np.concatenate(hi))


def step_form(problem: Problem, domain: Json, region: Json) -> StepForm:
    """The step over region × domain, its units in graph order.

    Raises:
        CheckError: UNSUPPORTED, when the step is not linear maps and elementwise activations.
    """
    ranges = problem.ranges(domain, region)
    forms = linear_forms(problem.graph, problem.graph.step, ranges)
    require_activations(forms)
    return form_of(problem, forms, ranges)


GOLDEN = (5**0.5 - 1) / 2


def best_scale(reach: Callable[[float], float]) -> float:
    """log2 of the factor s > 0 with the smallest `reach`, a little towards larger s.

    The best values lie at the edge of what holds at all, where a golden-section search still works.
    """
    powers = np.linspace(-10, 3, 27).tolist()
    middle = min(range(len(powers)), key=lambda i: reach(powers[i]))
    low, high = powers[max(middle - 1, 0)], powers[min(middle + 1, len(powers) - 1)]
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = reach(left), reach(right)
    for _ in range(44):
        if at_left <= at_right < np.inf:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = reach(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = reach(right)
    return float(high)
