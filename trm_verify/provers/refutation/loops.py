"""The loop in doubles: a batch of states through the stated operator, its derivative, and inputs that lie in a domain.

What runs here only proposes. Inputs are kept exactly as well, so that what is found at one of them can be proved there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from trm_verify.encode import Json, fractions
from trm_verify.kernel.operators import parse_operator
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.provers.problem import NO_INPUT, Floats, Problem

GRID = 1 << 20  # random inputs, and inputs that a search has moved, are multiples of 1/GRID


@dataclass(frozen=True, eq=False)
class Given:
    """One input, exactly as a certificate writes it, and in doubles. Shape: values (m,)."""

    box: Json
    values: Floats

    @classmethod
    def at(cls, exact: Sequence[Fraction]) -> Given:
        """The input of these binary fractions."""
        return cls({"space": "input", "point": fractions(exact)}, np.array([float(v) for v in exact]))


def admissible(problem: Problem, domain: Json, values: Floats) -> Given:
    """The input of the domain nearest to some doubles, up to 1/GRID. Shape: values (m,)."""
    if not problem.graph.input_size:
        return Given(NO_INPUT, np.zeros(0))
    box, whole = problem.box(domain), problem.graph.vocabulary is not None
    near = [Fraction(round(float(v) * GRID), GRID) for v in values]
    near = [Fraction(round(v)) for v in near] if whole else near
    if box.bounded:
        ends = map(box.fraction, range(box.size))
        near = [min(max(v, lo), hi) for v, (lo, hi) in zip(near, ends, strict=True)]
    return Given.at(near)


def inputs_of(problem: Problem, domain: Json, count: int, seed: int = 0) -> list[Given]:
    """Inputs of a domain: its middle, its lower and upper corner, then others at random, every second one a corner.

    There is one alone where the domain is a point. A domain without ends has zero for a middle.
    """
    box, size = problem.box(domain), problem.graph.input_size
    if box.is_point:
        return [Given.at([box.fraction(i)[0] for i in range(size)]) if size else Given(NO_INPUT, np.zeros(0))]
    rng = np.random.default_rng(seed)
    if not box.bounded:
        scales = [0.0, *(10.0 ** (k % 2) for k in range(count - 1))]
        return [admissible(problem, domain, scale * rng.normal(size=size)) for scale in scales]
    shares = [np.full(size, share) for share in (0.5, 0.0, 1.0)]
    shares += [rng.uniform(size=size) if k % 2 else rng.integers(0, 2, size).astype(float) for k in range(count - 3)]
    ends = [box.fraction(i) for i in range(size)]
    found = [[lo + Fraction(t) * (hi - lo) for (lo, hi), t in zip(ends, row, strict=True)] for row in shares[:count]]
    return [admissible(problem, domain, np.array([float(v) for v in row])) for row in found]


class Loop:
    """The operator at one input, in doubles, on batches of flattened states.

    Args:
        operator: as certificates write it; "implicit" runs the step itself.
    """

    def __init__(self, problem: Problem, operator: object, given: Given) -> None:
        self.problem, self.given, self.size = problem, given, problem.graph.size
        self.lowered: LoweredGraph = problem.once(
            "lowered", None, lambda: lower(problem.raw_graph, load(problem.weights))
        )
        alpha = parse_operator(operator, self.size).alpha
        self.alpha = torch.tensor([float(a) for a in alpha], dtype=torch.float64) if alpha else None

    def __call__(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """One application. Shape: z (batch, n), x (batch or 1, m) instead of the given input."""
        image = _flat(self.lowered.step(self._parts(z), self._input(len(z), x)))
        return image if self.alpha is None else self.alpha * image + (1 - self.alpha) * z

    def init(self) -> Tensor:
        """Where the model starts. Shape: (1, n)."""
        return _flat(self.lowered.init(self._input(1, None)))

    def derivative(self, z: Tensor) -> Tensor:
        """Shape: z (batch, n), result (batch, n, n)."""
        at = z.detach().requires_grad_()
        with torch.enable_grad():
            image = self(at)
        if not image.requires_grad:
            return z.new_zeros(len(z), self.size, self.size)
        unit = torch.eye(self.size, dtype=z.dtype)[:, None].expand(-1, len(z), -1)
        (rows,) = torch.autograd.grad(image, at, unit, is_grads_batched=True, materialize_grads=True)
        return rows.transpose(0, 1)

    def power(self, z: Tensor, period: int) -> list[Tensor]:
        """z, T z, …, T^period z."""
        states = [z]
        for _ in range(period):
            states.append(self(states[-1]))
        return states

    def power_derivative(self, states: Sequence[Tensor]) -> Tensor:
        """Derivative of T^p along its states z, …, T^(p−1) z. Shape: (batch, n, n)."""
        product = self.derivative(states[0])
        for state in states[1:]:
            product = self.derivative(state) @ product
        return product

    def _input(self, batch: int, x: Tensor | None) -> Tensor | None:
        shape = self.lowered.input_shape
        if shape is None:
            return None
        values = torch.from_numpy(self.given.values)[None] if x is None else x
        return values.reshape(-1, *shape).expand(batch, *shape)

    def _parts(self, flat: Tensor) -> tuple[Tensor, ...]:
        shapes = self.lowered.state_shapes
        split = torch.split(flat, [prod(shape) for shape in shapes], dim=1)
        return tuple(part.reshape(len(flat), *shape) for part, shape in zip(split, shapes, strict=True))


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.reshape(len(p), -1) for p in parts], dim=1).double()
