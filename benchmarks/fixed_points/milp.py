"""The textbook mixed-integer program of the same question (HiGHS): big-M constraints for every unit, nothing else.

Bounds of the arguments come from what is known of every such model: its fixed point moves by at most ‖UΔx‖₂ / m; or,
for a second comparison, from our own enclosure. One program looks for a fixed point at which *some* other logit reaches
the label's. On the images tried that was faster than one program for each other class, with or without an objective.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import highspy
import numpy as np
import torch
from scipy.sparse import csc_matrix

from benchmarks.fixed_points.data import Mondeq
from trm_verify.result import Enclosure

CERTIFIED, REFUTED, TIME_OUT = "certified", "refuted", "time-out"


@dataclass(frozen=True)
class Found:
    """The verdict; seconds on the clock and on the processor; nodes of the search; units in question."""

    verdict: str
    wall: float
    seconds: float
    nodes: int
    split: int


@dataclass(frozen=True)
class Known:
    """What is known of all units before the search. Shape: (state,) each."""

    lo: np.ndarray  # arguments
    hi: np.ndarray
    least: np.ndarray  # states
    most: np.ndarray

    @classmethod
    def ball(cls, model: Mondeq, low: np.ndarray, high: np.ndarray) -> Known:
        """From the ball about the fixed point in the middle that holds all others."""
        drive, bias, matrix = arrays(model)[:3]
        middle, moved = (low + high) / 2, np.abs(drive) @ (high - low) / 2
        state = model.states(torch.from_numpy(middle)[None])[0].numpy()
        radius = float(np.linalg.norm(moved)) / model.wide.m
        arguments, spread = matrix @ state + drive @ middle + bias, np.linalg.norm(matrix, axis=1) * radius + moved
        return cls.of(arguments, spread, state - radius, state + radius)

    @classmethod
    def enclosed(cls, model: Mondeq, low: np.ndarray, high: np.ndarray, enclosure: Enclosure) -> Known:
        """From a box of the states, by interval arithmetic."""
        drive, bias, matrix = arrays(model)[:3]
        arguments = matrix @ enclosure.center + drive @ (low + high) / 2 + bias
        spread = np.abs(matrix) @ enclosure.radius + np.abs(drive) @ (high - low) / 2
        ends = enclosure.center - enclosure.radius, enclosure.center + enclosure.radius
        return cls.of(arguments, spread, *ends)

    @classmethod
    def of(cls, arguments: np.ndarray, spread: np.ndarray, least: np.ndarray, most: np.ndarray) -> Known:
        """A unit that is on equals its argument, so what bounds its state bounds that as well."""
        lo, hi = arguments - spread, np.minimum(arguments + spread, most)
        lo = np.where(least > 0, np.maximum(lo, least), lo)
        return cls(lo, hi, np.maximum(lo, 0.0), np.maximum(hi, 0.0))


def arrays(model: Mondeq) -> tuple[np.ndarray, ...]:
    """U, b, W, C and c in doubles."""
    parts = model.wide.U, model.wide.b, model.matrix, model.wide.C, model.wide.c
    return tuple(part.detach().numpy() for part in parts)


class Rows:
    """Rows of a program as they are written down."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[np.ndarray] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, *parts: tuple[int, np.ndarray | float], low: float = -np.inf, high: float = np.inf) -> None:
        """low ≤ the sum of all parts ≤ high; a part is a place and the coefficients from there on."""
        row = np.zeros(self.columns)
        for place, values in parts:
            block = np.atleast_1d(values)
            row[place : place + len(block)] += block
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)


def program(
    model: Mondeq, low: np.ndarray, high: np.ndarray, label: int, known: Known
) -> tuple[highspy.HighsLp, int]:  # fmt: skip
    """The program, and how many units it leaves open.

    Columns: inputs, states, a binary for each unit that may be on or off, a binary for each other class.
    """
    drive, bias, matrix, reading, shift = arrays(model)
    split, others = np.flatnonzero((known.lo < 0) & (known.hi > 0)), [c for c in range(len(shift)) if c != label]
    states, units = len(low), len(low) + len(bias)
    chosen = units + len(split)
    rows = Rows(chosen + len(others))
    for i in range(len(bias)):
        gap = (0, -drive[i]), (states, np.eye(len(bias))[i] - matrix[i])  # z − a = the sum of these, less b
        if known.hi[i] > 0:
            rows.add(*gap, low=bias[i], high=bias[i] if known.lo[i] >= 0 else np.inf)
    for place, i in enumerate(split, units):
        gap = (0, -drive[i]), (states, np.eye(len(bias))[i] - matrix[i])
        rows.add(*gap, (place, -known.lo[i]), high=bias[i] - known.lo[i])
        rows.add((states + i, 1.0), (place, -known.hi[i]), high=0.0)
    for place, other in enumerate(others, chosen):
        lead, constant = reading[label] - reading[other], shift[label] - shift[other]
        most = float(np.maximum(lead, 0) @ known.most + np.minimum(lead, 0) @ known.least)
        rows.add((states, lead), (place, most + constant), high=most)
    rows.add((chosen, np.ones(len(others))), low=1.0)
    binaries = rows.columns - units
    found = highspy.HighsLp()
    sparse = csc_matrix(np.array(rows.rows))
    found.num_col_, found.num_row_, found.col_cost_ = rows.columns, len(rows.rows), np.zeros(rows.columns)
    found.col_lower_ = np.concatenate([low, known.least, np.zeros(binaries)])
    found.col_upper_ = np.concatenate([high, known.most, np.ones(binaries)])
    found.row_lower_, found.row_upper_ = np.array(rows.low), np.array(rows.high)
    found.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    found.a_matrix_.start_, found.a_matrix_.index_, found.a_matrix_.value_ = sparse.indptr, sparse.indices, sparse.data
    kinds = highspy.HighsVarType
    found.integrality_ = [kinds.kContinuous] * units + [kinds.kInteger] * binaries
    return found, len(split)


def decide(
    model: Mondeq, low: np.ndarray, high: np.ndarray, label: int, limit: float, enclosure: Enclosure | None = None
) -> Found:  # fmt: skip
    """Whether all fixed points of a box of inputs (its ends in doubles) are answered with the label.

    Args:
        enclosure: of the fixed points, to take the bounds from in place of the ball.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    ball = enclosure is None
    known = Known.ball(model, low, high) if ball else Known.enclosed(model, low, high, enclosure)
    task, split = program(model, low, high, label, known)
    highs = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("random_seed", 0), ("time_limit", limit)):
        highs.setOptionValue(name, value)
    highs.passModel(task)
    highs.run()
    statuses = highspy.HighsModelStatus
    verdict = {statuses.kInfeasible: CERTIFIED, statuses.kOptimal: REFUTED}.get(highs.getModelStatus(), TIME_OUT)
    nodes = max(int(highs.getInfo().mip_node_count), 0)
    return Found(verdict, time.perf_counter() - wall, time.process_time() - cpu, nodes, split)
