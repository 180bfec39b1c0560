"""Problems for the provers, and oracles that look at a step with torch and NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import trm_verify as tv
from trm_verify.encode import Json
from trm_verify.export import export
from trm_verify.lowering import LoweredGraph, lower
from trm_verify.nn import bake
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, NO_INPUT, Attempt, Problem

Array = NDArray[np.float64]


class Case:
    """A step under test: the problem that provers see, and the same graph in torch.

    Args:
        region, domain: boxes (lo, hi) of every coordinate, or None for everything.
        hints: multiplier vectors to suggest.
    """

    def __init__(
        self, step: nn.Module | Callable[..., Any], state: Sequence[Any], given: Sequence[int] | None = None,
        *, region: tuple[float, float] | None = None, domain: tuple[float, float] | None = None,
        hints: Sequence[Array] = (),
    ) -> None:  # fmt: skip
        module = bake(step) if isinstance(step, nn.Module) else step
        model = tv.recursive(module, state_shape=state, input_shape=given)
        exported = export(model)
        self.problem = Problem(exported.graph, exported.to_bytes(), hints)
        self.torch: LoweredGraph = lower(exported.graph, exported.tensors)
        self.size, self.given = self.problem.graph.size, given
        self.limits, self.inputs = region, domain
        self.region = ALL_STATES if region is None else _box("state", *region, self.size)
        everything = NO_INPUT if given is None else ALL_INPUTS
        self.domain = everything if domain is None else _box("input", *domain, self.problem.graph.input_size)

    def prove(self, prover: Callable[..., Attempt], **options: Any) -> Attempt:
        return prover(self.problem, self.domain, self.region, **options)

    def step(self, flat: Tensor, x: Tensor | None) -> Tensor:
        """Flattened states to flattened states. Shape: (batch, n)."""
        shapes = self.torch.state_shapes
        split = torch.split(flat, [int(np.prod(s)) for s in shapes], dim=1)
        parts = [t.reshape(-1, *s) for t, s in zip(split, shapes, strict=True)]
        return torch.cat([t.reshape(len(flat), -1) for t in self.torch.step(parts, x)], dim=1)

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor | None]:
        """Random states of the region and inputs of the domain."""
        scale = rng.choice([0.1, 1.0, 4.0], size=(count, 1))
        states = rng.normal(size=(count, self.size)) * scale
        if self.limits is not None:
            states = rng.uniform(*self.limits, size=states.shape)
        x = None
        if self.given is not None:
            shape = (count, *self.given)
            x = torch.from_numpy(
                rng.normal(size=shape) if self.inputs is None else rng.uniform(*self.inputs, size=shape)
            )
        return torch.from_numpy(states), x

    def worst(self, norm: Json, rng: np.random.Generator, count: int = 40) -> float:
        """The largest expansion seen: between random pairs, between near ones, and of the derivative at points."""
        first, x = self.sample(rng, count)
        other, _ = self.sample(rng, count)
        near = first + 1e-4 * (other - first)
        found = [self._ratios(norm, first, b, x) for b in (other, near)]
        for row in range(min(count, 6)):
            row_x = None if x is None else x[row : row + 1]
            gradient = torch.autograd.functional.jacobian(lambda z, at=row_x: self.step(z[None], at)[0], first[row])
            found.append(_induced(norm, gradient.numpy()))
        return float(np.concatenate(found).max())

    def _ratios(self, norm: Json, a: Tensor, b: Tensor, x: Tensor | None) -> Array:
        moved = (self.step(a, x) - self.step(b, x)).numpy()
        return np.asarray(length(norm, moved) / length(norm, (a - b).numpy()))


def _box(space: str, lo: float, hi: float, size: int) -> Json:
    ends = [float(v).hex() for v in (lo, hi)]
    if any(not (float.fromhex(v) * 1024).is_integer() for v in ends):
        raise ValueError("test boxes have ends that are multiples of 1/1024")
    low, high = (format(int(v * 1024), "x") for v in (lo, hi))
    return {
        "space": space, "lo": {"exp": -10, "int": " ".join([low] * size)},
        "hi": {"exp": -10, "int": " ".join([high] * size)},
    }  # fmt: skip


def numbers(raw: Json) -> Array:
    """A vector of the certificate's form in doubles."""
    return np.array([float(int(v, 16)) for v in raw["int"].split()]) * 2.0 ** raw["exp"]


def groups(norm: Json) -> tuple[list[int], Array]:
    """Group sizes and weights of a block norm."""
    return [size for count, size in norm["runs"] for _ in range(count)], numbers(norm["weights"])


def length(norm: Json, vectors: Array) -> Array:
    """N of each row."""
    if norm["kind"] == "metric":
        metric = numbers(norm["matrix"]).reshape(vectors.shape[1], -1)
        return np.sqrt(np.einsum("bi,ij,bj->b", vectors, metric, vectors))
    sizes, weights = groups(norm)
    ends = np.cumsum(sizes)[:-1]
    pieces = np.split(vectors, ends, axis=1)
    return np.max([np.linalg.norm(p, axis=1) / d for p, d in zip(pieces, weights, strict=True)], axis=0)


def _induced(norm: Json, matrix: Array) -> Array:
    """The operator norm of a matrix (or, for mixed norms, how far it stretches some directions)."""
    n = len(matrix)
    if norm["kind"] == "metric":
        root = np.linalg.cholesky(numbers(norm["matrix"]).reshape(n, n)).T
        return np.array([np.linalg.norm(root @ matrix @ np.linalg.inv(root), 2)])
    sizes, weights = groups(norm)
    if max(sizes) == 1:
        return np.array([(np.abs(matrix) @ weights / weights).max()])
    if len(sizes) == 1:
        return np.array([np.linalg.norm(matrix, 2)])
    directions = np.linalg.svd(matrix)[2]
    return np.asarray(length(norm, directions @ matrix.T) / length(norm, directions))
