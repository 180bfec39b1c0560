"""Linear programs over the relaxed fixed points of a system (HiGHS): the best dual bound there is, warm-started.

Variables are the inputs, the kept states, and for every unit weights of its candidates (argument, value): the convex
hull of a piecewise-linear activation over its interval. Fixing candidates to zero is a case split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trm_verify.provers.fixed_points.relaxed import Relaxed
from trm_verify.provers.problem import Floats

MOST_SECONDS = 60.0  # for one linear program


def available() -> str | None:
    """Why linear programs cannot be solved here, or None."""
    try:
        import highspy  # noqa: F401
    except ImportError:
        return 'highspy is not installed: pip install "trm-verify[lp]"'
    return None


@dataclass(frozen=True)
class Solution:
    """`value` is a lower bound (infinite when empty, with multipliers of a Farkas proof); `weights` per candidate.

    Shape: multipliers (E,), inputs (m,), arguments and values (U,).
    """

    value: float
    multipliers: Floats
    inputs: Floats
    arguments: Floats
    values: Floats

    @property
    def empty(self) -> bool:
        return self.value == np.inf


class Program:
    """One objective over one system, whose units may be cut to parts of their intervals between solves.

    Shape: lo, hi (U,); objective (1 + m + kept + U,) over the system's columns.
    """

    def __init__(self, relaxed: Relaxed, lo: Floats, hi: Floats, objective: Floats, margin: float = 0.0) -> None:
        import highspy

        self.highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self.infinity = highspy.kHighsInf
        self.status = highspy.HighsModelStatus
        for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("random_seed", 0)):
            self.highs.setOptionValue(name, value)
        import torch

        arguments, values = relaxed.places(torch.tensor(lo), torch.tensor(hi))
        self.arguments, self.values = arguments.numpy().T.copy(), values.numpy().T.copy()  # (U, points)
        self.points = self.arguments.shape[1]
        rows = relaxed.rows.numpy()
        m, kept, units = relaxed.inputs, len(relaxed.system.kept), len(relaxed.system.units)
        self.m, self.kept, self.units, self.equations = m, kept, units, len(rows)
        self.first = m + kept
        own = np.full(units, -1)
        own[list(relaxed.system.active)] = kept + np.arange(len(relaxed.system.active))
        columns = units * self.points
        matrix = np.zeros((len(rows) + units, m + kept + columns))
        matrix[: len(rows), : m + kept] = rows[:, 1 : 1 + m + kept]
        each = np.repeat(np.arange(units), self.points)
        matrix[: len(rows), m + kept :] = rows[:, 1 + m + kept :][:, each] * self.values.ravel()
        active = own[each] >= 0
        matrix[own[each][active], m + kept + np.nonzero(active)[0]] -= self.arguments.ravel()[active]
        matrix[len(rows) + each, m + kept + np.arange(columns)] = 1.0
        self.constant = float(objective[0])
        cost = np.concatenate([objective[1 : 1 + m + kept], objective[1 + m + kept :][each] * self.values.ravel()])
        middle, reach = relaxed.middle.numpy(), relaxed.reach.numpy()
        states = relaxed.states.numpy()
        right = np.concatenate([-rows[:, 0], np.ones(units)])
        self._load(
            matrix, cost, np.concatenate([middle - reach, states[0], np.zeros(columns)]),
            np.concatenate([middle + reach, states[1], np.ones(columns)]), right,
        )  # fmt: skip
        self.cut: dict[int, tuple[float, float]] = {}
        self.iterations = 0

    def _load(self, matrix: Floats, cost: Floats, low: Floats, high: Floats, right: Floats) -> None:
        import highspy
        from scipy.sparse import csc_matrix

        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = matrix.shape[1], matrix.shape[0]
        program.col_cost_, program.col_lower_, program.col_upper_ = cost, low, high
        program.row_lower_ = program.row_upper_ = right
        sparse = csc_matrix(matrix)
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_, program.a_matrix_.index_ = sparse.indptr, sparse.indices
        program.a_matrix_.value_ = sparse.data
        self.highs.passModel(program)

    def solve(self, cuts: Mapping[int, tuple[float, float]], seconds: float = MOST_SECONDS) -> Solution | None:
        """The least objective with the arguments of some units cut to intervals; None when the solver gives up."""
        for k in {*self.cut, *cuts}:
            part = cuts.get(k)
            if part == self.cut.get(k):
                continue
            for p in range(self.points):
                inside = part is None or part[0] - 1e-12 <= self.arguments[k, p] <= part[1] + 1e-12
                self.highs.changeColBounds(self.first + k * self.points + p, 0.0, 1.0 if inside else 0.0)
        self.cut = dict(cuts)
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + max(min(seconds, MOST_SECONDS), 0.0))
        self.highs.run()
        status = self.highs.getModelStatus()
        self.iterations += self.highs.getInfo().simplex_iteration_count
        if status == self.status.kInfeasible:
            return self._empty()
        if status != self.status.kOptimal:
            return None
        found = self.highs.getSolution()
        columns = np.array(found.col_value)
        weights = columns[self.first :].reshape(self.units, self.points)
        return Solution(
            self.highs.getInfo().objective_function_value + self.constant, -np.array(found.row_dual)[: self.equations],
            columns[: self.m], (weights * self.arguments).sum(1), (weights * self.values).sum(1),
        )  # fmt: skip

    def _empty(self) -> Solution | None:
        status, exists, ray = self.highs.getDualRay()
        if not exists or ray is None:
            return None
        multipliers = -np.array(ray)[: self.equations]
        multipliers /= max(float(np.abs(multipliers).max(initial=0.0)), 1e-300)  # any multiple of a ray is one
        nothing = np.zeros(self.units)
        return Solution(np.inf, multipliers, np.zeros(self.m), nothing, nothing)
