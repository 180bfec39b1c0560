"""A step as linear maps around activation units, in doubles: what the metric provers search with (R3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trm_verify.encode import Json
from trm_verify.kernel.linear import linear_forms, require_activations
from trm_verify.kernel.slopes import slopes
from trm_verify.provers.factors import as_floats
from trm_verify.provers.problem import Floats, Problem, floats


@dataclass(frozen=True)
class StepForm:
    """Δz⁺ = outputs · (Δz, φ), arguments of φ = arguments · (Δz, φ), slopes of unit i in [lo_i, hi_i].

    Shape: outputs (n, n + units), arguments (units, n + units).
    """

    outputs: Floats
    arguments: Floats
    lo: Floats
    hi: Floats

    @property
    def n(self) -> int:
        return len(self.outputs)

    @property
    def units(self) -> int:
        return len(self.lo)

    @cached_property
    def units_only(self) -> Floats:
        """The rows that pick the units out of (Δz, φ)."""
        return np.eye(self.n + self.units)[self.n :]

    def matrix(self, metric: Floats, multipliers: Floats, rate: float) -> Floats:
        """The matrix of the rule (see proofs/metric_contraction.md), symmetric up to rounding."""
        total = -self.outputs.T @ metric @ self.outputs
        total[: self.n, : self.n] += rate**2 * metric
        weighted = self.units_only * multipliers[:, None]
        cross = weighted.T @ (self.arguments * (self.lo + self.hi)[:, None])
        total += 2 * weighted.T @ self.units_only - cross - cross.T
        total += 2 * (self.arguments * (multipliers * self.lo * self.hi)[:, None]).T @ self.arguments
        found: Floats = (total + total.T) / 2
        return found

    def reach(self, metric: Floats, multipliers: Floats) -> float:
        """The smallest rate (perhaps above 1) at which it is positive semidefinite; infinity if there is none."""
        n, base = self.n, self.matrix(metric, multipliers, 0.0)
        need, live = -base[:n, :n], np.flatnonzero(np.abs(base[n:]).any(axis=1)) + n  # units without influence drop out
        try:
            if len(live):
                half = np.linalg.solve(np.linalg.cholesky(base[np.ix_(live, live)]), base[live, :n])
                need = need + half.T @ half
            root = np.linalg.inv(np.linalg.cholesky(metric))
            square = float(np.linalg.eigvalsh(root @ need @ root.T)[-1])
        except np.linalg.LinAlgError:
            return float("inf")
        return float(max(square, 0.0) ** 0.5)

    def best_rate(self, metric: Floats, multipliers: Floats) -> float | None:
        """The same when it is below 1."""
        found = self.reach(metric, multipliers)
        return found if found < 1 else None


def step_form(problem: Problem, domain: Json, region: Json) -> StepForm:
    """The step over region × domain, its units in graph order.

    Raises:
        CheckError: UNSUPPORTED, when the step is not linear maps and elementwise activations.
    """
    ranges = problem.ranges(domain, region)
    forms = linear_forms(problem.graph, problem.graph.step, ranges)
    require_activations(forms)
    nodes = problem.graph.step.nodes
    lo, hi = [np.zeros(0)], [np.zeros(0)]
    for node in dict.fromkeys(n for n, _, _ in forms.units):
        low, high, exp = slopes(nodes[node], ranges[nodes[node].args[0]])
        entries = [e for n, e, _ in forms.units if n == node]
        lo.append(floats([low[e] for e in entries], exp))
        hi.append(floats([high[e] for e in entries], exp))
    outputs = as_floats(forms.outputs.rows, forms.outputs.exp)
    arguments = as_floats(forms.arguments.rows, forms.arguments.exp) if forms.units else np.zeros((0, outputs.shape[1]))
    return StepForm(outputs, arguments, np.concatenate(lo), np.concatenate(hi))
