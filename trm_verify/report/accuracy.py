"""Certified accuracy against the radius of the ball: how many inputs are proved right, how many are refuted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from trm_verify.api import verify_fixed_point
from trm_verify.display import Plotted
from trm_verify.result import PROVED, REFUTED, VerificationResults


@dataclass(frozen=True)
class AccuracyPoint:
    """One radius: inputs whose label is proved for the whole ball, and those with an exact counterexample to it.

    The rest was left open. `total` counts all inputs.
    """

    eps: str
    certified: int
    wrong: int
    total: int

    @property
    def open(self) -> int:
        return self.total - self.certified - self.wrong


@dataclass(frozen=True)
class AccuracyCurve(Plotted):
    """Points by increasing radius."""

    points: tuple[AccuracyPoint, ...]

    def __str__(self) -> str:
        rows = [f"{p.eps:>10}  {p.certified:>9}  {p.wrong:>14}  {p.open:>4}" for p in self.points]
        return "\n".join([f"{'eps':>10}  {'certified':>9}  {'counterexample':>14}  {'open':>4}", *rows])


def certified_accuracy(
    model: nn.Module, x: Any, labels: Sequence[int] | np.ndarray, epsilons: Sequence[str], **options: Any
) -> AccuracyCurve:
    """Decide every ball about every input, radius by radius; an input with a counterexample keeps it for larger radii.

    Args:
        x: a batch of inputs of the domain. labels: the right answers, a row each.
        epsilons: ℓ∞ radii, as exact decimals. options: passed on to `verify_fixed_point`.

    Shape: x (batch, *input_shape).

    Raises:
        ValueError: the batch and the labels do not fit, or no radius is given.
    """
    given = np.asarray(x)
    wanted = np.asarray(labels)
    if not epsilons or len(given) != len(wanted) or not len(given):
        raise ValueError(f"expected a radius and a label for each input, found {len(given)} and {len(wanted)}")
    alive, points = np.arange(len(given)), []
    for eps in sorted(epsilons, key=float):
        certified = 0
        if len(alive):
            results = verify_fixed_point(model, given[alive], eps=eps, answer=wanted[alive], **options)
            if not isinstance(results, VerificationResults):
                raise TypeError("expected the results of a batch")
            certified = sum(r.verdict is PROVED for r in results)
            alive = np.array([i for i, r in zip(alive, results, strict=True) if r.verdict is not REFUTED], dtype=int)
        points.append(AccuracyPoint(eps, certified, len(given) - len(alive), len(given)))
    return AccuracyCurve(tuple(points))
