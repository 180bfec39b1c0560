"""The textbook mixed-integer program of the same question (HiGHS): big-M constraints for every unit, nothing else.

Variables are the inputs, the states and a binary for each unit that may be on or off. Bounds of the pre-activations
come from what everybody knows of these models: the fixed point moves by at most ‖UΔx‖₂ / m.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import highspy
import numpy as np
from scipy.sparse import bmat, coo_matrix, diags, identity

from benchmarks.fixed_points.data import Mondeq

ROBUST, NOT_ROBUST, TIME_OUT = "certified", "refuted", "time-out"


@dataclass(frozen=True)
class Found:
    """`verdict`, seconds in all, and the nodes of all searches."""

    verdict: str
    seconds: float
    nodes: int
    unstable: int


class Program:
    """All fixed points of one box of inputs. Shape: low, high (inputs,), the box in doubles."""

    def __init__(self, model: Mondeq, low: np.ndarray, high: np.ndarray) -> None:
        tensors = {name: getattr(model.wide, name).detach().numpy() for name in ("U", "b", "C", "c")}
        self.W, self.U, self.b = model.matrix.detach().numpy(), tensors["U"], tensors["b"]
        self.C, self.c = tensors["C"], tensors["c"]
        self.low, self.high = low, high
        import torch

        middle, reach = (low + high) / 2, (high - low) / 2
        state = model.states(torch.from_numpy(middle)[None])[0].numpy()
        moved = np.abs(self.U) @ reach
        radius = float(np.linalg.norm(moved)) / model.wide.m
        arguments = self.W @ state + self.U @ middle + self.b
        spread = np.linalg.norm(self.W, axis=1) * radius + moved
        # A unit that is on equals its argument, and its state lies within the radius of the one in the middle.
        self.lo = np.where(state > radius, np.maximum(arguments - spread, state - radius), arguments - spread)
        self.hi = np.minimum(arguments + spread, np.maximum(state + radius, 0.0))
        self.reach = np.maximum(state - radius, 0.0), state + radius

    @property
    def split(self) -> np.ndarray:
        """The units that may be on or off."""
        return np.flatnonzero((self.lo < 0) & (self.hi > 0))

    def decide(self, label: int, limit: float) -> Found:
        """Is every other logit below the label's at all fixed points? One search for each of the others."""
        started, nodes = time.perf_counter(), 0
        verdict = ROBUST
        for rival in range(len(self.c)):
            left = limit - (time.perf_counter() - started)
            if rival == label or verdict == NOT_ROBUST:
                continue
            if left <= 0:
                verdict = TIME_OUT
                break
            outcome, more = self._search(label, rival, left)
            nodes += more
            verdict = outcome if outcome != ROBUST else verdict
        return Found(verdict, time.perf_counter() - started, nodes, len(self.split))

    def _search(self, label: int, rival: int, seconds: float) -> tuple[str, int]:
        """Is there a fixed point at which the rival's logit is not below the label's?"""
        highs = highspy.Highs()
        for name, value in (("output_flag", False), ("threads", 1), ("random_seed", 0), ("time_limit", seconds)):
            highs.setOptionValue(name, value)
        highs.passModel(self._model(label, rival))
        highs.run()
        status, info = highs.getModelStatus(), highs.getInfo()
        nodes = max(int(info.mip_node_count), 0)
        if status == highspy.HighsModelStatus.kInfeasible:
            return ROBUST, nodes
        if status == highspy.HighsModelStatus.kOptimal:
            return NOT_ROBUST, nodes
        return TIME_OUT, nodes

    def _model(self, label: int, rival: int) -> highspy.HighsLp:
        """Columns (x, z, δ): z ≥ a, z ≤ a − lo(1 − δ), z ≤ hi·δ for the units in question, a = Wz + Ux + b."""
        n, m, split = len(self.b), len(self.low), self.split
        on, off = np.flatnonzero(self.lo >= 0), np.flatnonzero(self.hi <= 0)
        lo, hi, count = self.lo[split], self.hi[split], len(split)
        pick = coo_matrix((np.ones(count), (np.arange(count), split)), (count, n))
        every = identity(n, format="csr")
        free = np.setdiff1d(np.arange(n), off)
        lead = (self.C[label] - self.C[rival])[None]
        gap = every - self.W
        matrix = bmat([
            [-self.U[free], gap[free], None if not count else coo_matrix((len(free), count))],
            [-self.U[split], gap[split], diags(-lo)],
            [None, pick, diags(-hi)],
            [-self.U[on], gap[on], None],
            [None, lead, None],
        ], format="csc") if count else bmat([[-self.U[free], gap[free]], [-self.U[on], gap[on]], [None, lead]], "csc")  # fmt: skip
        infinity = highspy.kHighsInf
        below = np.concatenate([
            self.b[free], np.full(2 * count, -infinity), np.full(len(on), -infinity), [-infinity],
        ])  # fmt: skip
        above = np.concatenate([
            np.full(len(free), infinity), self.b[split] - lo, np.zeros(count), self.b[on],
            [self.c[rival] - self.c[label]],
        ])  # fmt: skip
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = m + n + count, matrix.shape[0]
        program.col_cost_ = np.zeros(m + n + count)
        top = np.minimum(np.maximum(self.hi, 0.0), self.reach[1])
        program.col_lower_ = np.concatenate([self.low, np.minimum(self.reach[0], top), np.zeros(count)])
        program.col_upper_ = np.concatenate([self.high, top, np.ones(count)])
        program.row_lower_, program.row_upper_ = below, above
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
        program.a_matrix_.value_ = matrix.data
        kinds = [highspy.HighsVarType.kContinuous] * (m + n) + [highspy.HighsVarType.kInteger] * count
        program.integrality_ = kinds
        return program
