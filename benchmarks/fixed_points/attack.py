"""An attack by projected gradient descent through the fixed point: an upper bound on what can be certified."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.fixed_points.data import Mondeq

STEPS, RESTARTS = 30, 2
FIRST, DECAY = 1.0, 0.9  # length of a step, in radii of the box, and how it shrinks
TOLERANCE = 1e-9  # of the solutions, relative to the sizes in the equation


def worst_margins(model: Mondeq, ends: tuple[Tensor, Tensor], labels: Tensor, seed: int = 0) -> Tensor:
    """For each box, the least lead of its label over any other class that was met.

    Every other class is a target of its own. The first start is the middle of the box, the others are random; the
    gradient is that of the solution, by the implicit function theorem.

    Shape: ends (batch, inputs) each; labels (batch,); result (batch,).
    """
    classes = len(model.wide.c)
    others = torch.stack([(labels + k) % classes for k in range(1, classes)], 1)  # (batch, targets)
    low, high = (end.repeat_interleave(classes - 1, 0) for end in ends)
    own, rival = labels.repeat_interleave(classes - 1), others.reshape(-1)
    generator = torch.Generator().manual_seed(seed)
    best = torch.full((len(low),), torch.inf, dtype=low.dtype)
    for start in range(RESTARTS):
        share = torch.rand(low.shape, generator=generator, dtype=low.dtype) if start else torch.full_like(low, 0.5)
        best = torch.minimum(best, _descend(model, low, high, low + share * (high - low), own, rival))
    return best.reshape(-1, classes - 1).min(dim=1).values


def _descend(model: Mondeq, low: Tensor, high: Tensor, x: Tensor, own: Tensor, rival: Tensor) -> Tensor:
    """The least difference of the two logits on the way. Steps follow the sign of the gradient."""
    best = torch.full((len(x),), torch.inf, dtype=x.dtype)
    rows = model.wide.C[own] - model.wide.C[rival]
    shift = model.wide.c[own] - model.wide.c[rival]
    for step in range(STEPS):
        x = x.detach().requires_grad_()
        lead = (rows * model.wide.solve(x, TOLERANCE)).sum(1) + shift
        (slope,) = torch.autograd.grad(lead.sum(), x)
        best = torch.minimum(best, lead.detach())
        x = x.detach() - FIRST * DECAY**step * torch.sign(slope) * (high - low) / 2
        x = torch.minimum(torch.maximum(x, low), high)
    with torch.no_grad():
        return torch.minimum(best, (rows * model.wide.solve(x, TOLERANCE)).sum(1) + shift)
