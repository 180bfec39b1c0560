"""Pairs of states that the loop moves apart: a batched ascent on N(T a − T b) / N(a − b), in doubles.

A pair is a centre, a direction and a length. The centre and the input follow the gradient. The direction that is best
to first order is known in closed form for every block norm, and taking it again and again is the power method.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import frexp

import numpy as np
import torch
from torch import Tensor

from trm_verify.encode import Json
from trm_verify.kernel.norms import BlockNorm
from trm_verify.provers.problem import Floats, Problem, floats
from trm_verify.provers.refutation.loops import Given, Loop, admissible, inputs_of
from trm_verify.provers.refutation.survey import draw

INPUTS, CENTRES = 4, 16  # pairs that are followed at once: so many centres at each of so many inputs
ROUNDS, STRIDE = 80, 0.05
HALVES = (2.0**-12, 2.0**-5, 1.0)  # near pairs see the steepest slope, far ones jump over flat parts
PLACES = 40  # binary places of the states below the length of the pair


@dataclass(frozen=True, eq=False)
class Pair:
    """Two states at one input, and how many times further apart their images are. Shape: first, second (n,)."""

    given: Given
    first: Floats
    second: Floats
    ratio: float


def search(
    problem: Problem, domain: Json, region: Json, operator: object, norm: BlockNorm, deadline: float, seed: int = 0
) -> Pair:
    """The pair with the largest ratio that was met, at any input of the domain."""
    inputs = inputs_of(problem, domain, INPUTS, seed)
    loops = [Loop(problem, operator, given) for given in inputs]
    centres = torch.cat([draw(loop, region, CENTRES, (1.0, 0.1, 10.0), seed) for loop in loops])
    x = torch.from_numpy(np.repeat([given.values for given in inputs], CENTRES, axis=0))
    found = []
    for half in HALVES:
        ascent = _Ascent(loops[0], norm, _ends(problem, region), _ends(problem, domain), half)
        a, b, at = ascent.run(centres, x, deadline, seed)
        given = admissible(problem, domain, at)
        found.append(Pair(given, a, b, _ratio(Loop(problem, operator, given), norm, a, b)))
    return max(found, key=lambda pair: pair.ratio)


def _ends(problem: Problem, raw: Json) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of a box, infinite where there are none."""
    box = problem.box(raw)
    if not box.bounded:
        whole = torch.full((box.size,), torch.inf, dtype=torch.float64)
        return -whole, whole
    lo, hi = (torch.from_numpy(floats(end, box.exp)) for end in box.ends())
    return lo, hi


def _ratio(loop: Loop, norm: BlockNorm, a: Floats, b: Floats) -> float:
    """N(T a − T b) / N(a − b); 0 for equal states."""
    both = torch.from_numpy(np.stack([a, b]))
    shape = _Shape(norm)
    image = loop(both)
    before, after = (float(shape.lengths(v[:1] - v[1:]).max()) for v in (both, image))
    return after / before if before > 0 and np.isfinite(after) else 0.0


class _Shape:
    """A block norm on batches."""

    def __init__(self, norm: BlockNorm) -> None:
        self.sizes = list(norm.sizes)
        self.weights = torch.tensor([float(norm.weight(g)) for g in range(len(self.sizes))], dtype=torch.float64)
        self.spread = self.weights.repeat_interleave(torch.tensor(self.sizes))  # of a coordinate, where N ≤ 1

    def lengths(self, v: Tensor) -> Tensor:
        """Shape: v (batch, n), result (batch, groups)."""
        if len(self.sizes) == v.shape[1]:
            return v.abs() / self.weights
        parts = torch.split(v, self.sizes, dim=1)
        return torch.stack([part.norm(dim=1) for part in parts], dim=1) / self.weights

    def steepest(self, gradient: Tensor, old: Tensor) -> Tensor:
        """Per row, the v with N(v) ≤ 1 that maximises ⟨gradient, v⟩; `old` where the gradient is zero."""
        parts = torch.split(gradient, self.sizes, dim=1)
        best = torch.cat([part / part.norm(dim=1, keepdim=True).clamp(min=1e-300) for part in parts], dim=1)
        return torch.where((gradient != 0).any(dim=1, keepdim=True), best * self.spread, old)


class _Ascent:
    """Pairs of one length, at many centres and inputs."""

    def __init__(
        self, loop: Loop, norm: BlockNorm, states: tuple[Tensor, Tensor], inputs: tuple[Tensor, Tensor], half: float
    ) -> None:
        self.loop, self.shape, self.inputs = loop, _Shape(norm), inputs
        room = float(((states[1] - states[0]) / self.shape.spread).min()) / 4
        self.half = min(half, room)
        self.states = states[0] + self.half * self.shape.spread, states[1] - self.half * self.shape.spread

    def run(self, centres: Tensor, x: Tensor, deadline: float, seed: int) -> tuple[Floats, Floats, Floats]:
        """The best pair of all rounds, and its input. Shape: centres (batch, n), x (batch, m)."""
        generator = torch.Generator().manual_seed(seed)
        draft = torch.randn(centres.shape, generator=generator, dtype=torch.float64)
        c, v = _clipped(centres, self.states), self.shape.steepest(draft, draft)
        best, kept = -1.0, (c[0], v[0], x[0])
        groups = torch.arange(len(c))[:, None] % len(self.shape.sizes)
        for k in range(ROUNDS):
            lengths, (by_c, by_v, by_x) = self._look(c, v, x, groups if k < ROUNDS // 4 else None)
            row = int(lengths.argmax())
            if float(lengths[row]) > best:
                best, kept = float(lengths[row]), (c[row], v[row], x[row])
            if time.monotonic() > deadline:
                break
            c = _clipped(c + STRIDE * (1 + c.abs()) * _normal(by_c), self.states)
            x = _clipped(x + STRIDE * _normal(by_x), self.inputs) if by_x is not None else x
            v = self.shape.steepest(by_v, v)
        grid = frexp(self.half)[1] - PLACES
        ends = (kept[0] + self.half * kept[1], kept[0] - self.half * kept[1])
        a, b = (np.ldexp(np.rint(np.ldexp(end.numpy(), -grid)), grid) for end in ends)
        return a, b, kept[2].numpy()

    def _look(
        self, c: Tensor, v: Tensor, x: Tensor, groups: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor | None]]:
        """The ratios, and the gradients of what is raised: the ratio, or in early rounds one group's share of it."""
        c, v = c.detach().requires_grad_(), v.detach().requires_grad_()
        moving = bool(x.shape[1]) and self.loop.problem.graph.vocabulary is None
        x = x.detach().requires_grad_(moving)
        with torch.enable_grad():
            moved = self.loop(c + self.half * v, x) - self.loop(c - self.half * v, x)
            lengths = self.shape.lengths(moved) / (2 * self.half)
            raised = lengths.amax(dim=1) if groups is None else lengths.gather(1, groups)
        wanted = (c, v, x) if moving else (c, v)
        if not raised.requires_grad:
            return lengths.amax(dim=1), (torch.zeros_like(c), torch.zeros_like(v), None)
        found = torch.autograd.grad(raised.sum(), wanted, materialize_grads=True)
        slopes = [torch.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0) for g in found]
        ratios = torch.nan_to_num(lengths.amax(dim=1).detach(), nan=0.0, posinf=0.0)
        return ratios, (slopes[0], slopes[1], slopes[2] if moving else None)


def _clipped(v: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    return torch.minimum(torch.maximum(v, ends[0]), ends[1])


def _normal(gradient: Tensor) -> Tensor:
    """The gradient of each row, scaled to a largest entry of 1."""
    return gradient / gradient.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
