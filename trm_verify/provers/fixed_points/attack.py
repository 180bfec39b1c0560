"""Counterexamples by sign-gradient descent through the fixed point: inputs at which a functional is not positive."""

from __future__ import annotations

import torch
from torch import Tensor

from trm_verify.provers.fixed_points.newton import fixed_point, functionals_at, gradients
from trm_verify.provers.fixed_points.relaxed import Relaxed

STEPS = 12
CLEAR = 1e-9  # a value below 0 by less may be a tie, and rounding in doubles: an exact proof would fail


def attack(relaxed: Relaxed, rows: Tensor, starts: Tensor, start: Tensor, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """The least value met of each functional, and the input where it was met.

    Each step moves to the corner that the gradient points to, then less and less far.

    Shape: rows (F, 1 + m + kept + U); starts (F, m) inputs; start (F or 1, E) kept states and arguments near the
        fixed points; results (F,), (F, m).
    """
    x, low, high = starts, relaxed.middle - relaxed.reach, relaxed.middle + relaxed.reach
    best, where = torch.full((len(rows),), torch.inf, dtype=x.dtype, device=x.device), x
    start = start.expand(len(x), -1)
    for step in range(steps):
        states, a, error = fixed_point(relaxed, x, start)
        value = functionals_at(relaxed, x, states, a, rows)
        better = (value < best) & (error < 1e-7)
        best, where = torch.where(better, value, best), torch.where(better[:, None], x, where)
        if bool((best < -CLEAR).any()):
            break
        start = torch.cat([states, a[:, relaxed.active]], dim=1)
        down = -torch.sign(gradients(relaxed, a, rows)) * relaxed.reach
        x = torch.minimum(torch.maximum(x + 2 * down * 0.8**step, low), high)
    return best, where
