"""Linear systems by Jacobi's method: the model is the solver, one step is one sweep."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trm_verify.model import Box, RecursiveModel
from trm_verify.tasks.base import Baseline, Metric, Task, check_sizes, cut

_SIZES = (8, 16, 32, 64)
_WEIGHT, _VALUE = 12, 8  # bits behind the binary point of the sweep's weights and of the solutions


def jacobi(
    size: int = 16,
    *,
    couplings: int = 4,
    dominance: tuple[float, float] = (0.6, 0.95),
    signs: Literal["mixed", "negative"] = "mixed",
    seed: int = 0,
    train: int = 256,
    validation: int = 64,
    test: int = 128,
) -> Task:
    """Solve `A u = b` for one random, strictly diagonally dominant A and many right-hand sides b.

    The matrix is in the *weights* of `task.solver` and b is its input: one global proof then holds for every b of the
    domain, and the audit of a run bounds the error of one solve. (As an input, A would have to range over a box, and
    no proof over a box of matrices is as good as one about the matrix at hand.) Other systems are other seeds.

    Everything is exact in float32: weights and solutions are short binary fractions and the diagonal is a power of two,
    so b follows from the solution without rounding, and the target is *the* fixed point of the stored model.

    The metric is the number of right decimal digits, `−log10 |u − target|_∞`, in the mean over rows. The solver's
    readout is u itself; its arg-max, the largest unknown, is unique in every item.

    Shape: x (rows, size) b; y (rows, size) the exact solution, in [−1, 1].

    Args:
        couplings: unknowns that enter an equation besides its own.
        dominance: least and largest `Σ_{j≠i} |A_ij| / |A_ii|` of a row, up to rounding down.
        signs: of the entries off the diagonal. Mixed ones cancel: the loop converges faster than `dominance` says.
            Negative ones (diffusion) do not: the rate is the spectral radius of |W|, and bounds on errors get tight.

    Raises:
        ValueError: too few unknowns or couplings, a row that need not dominate, unknown signs, or no rows.
    """
    check_sizes("jacobi", size, 2, train=train, validation=validation, test=test)
    low, high = dominance
    if not 0 <= low <= high < 1 or not 1 <= couplings < size or signs not in ("mixed", "negative"):
        raise ValueError(
            f"jacobi: expected 0 <= least <= largest dominance < 1, 1 <= couplings < {size} and signs 'mixed' or "
            f"'negative'; found dominance={dominance}, couplings={couplings}, signs={signs!r}"
        )
    rng = np.random.default_rng([seed, size])
    share = rng.uniform(0.1, 1, (size, size)) * _coupled(rng, size, couplings)
    share *= rng.uniform(low, high, (size, 1)) / share.sum(axis=1, keepdims=True)
    weight = np.floor(share * 2**_WEIGHT) / 2**_WEIGHT  # minus A's entry over the diagonal
    if signs == "mixed":
        weight *= rng.choice([-1.0, 1.0], weight.shape)
    diagonal = 2.0 ** rng.integers(0, 4, size)
    solution = _solutions(rng, train + validation + test, size)
    b = (solution - solution @ weight.T) * diagonal
    reach = torch.from_numpy(diagonal * (1 + np.abs(weight).sum(axis=1))).float()
    solver = AffineSolver(torch.from_numpy(weight).float(), torch.from_numpy(1 / diagonal).float(), Box(-reach, reach))
    return Task(
        "jacobi",
        *cut(torch.from_numpy(b).float(), torch.from_numpy(solution).float(), train, validation, test),
        classes=size,
        domain=solver.domain,
        metric=digits_right,
        metrics=METRICS,
        difficulty=size,
        difficulties=_SIZES,
        sized=partial(
            jacobi,
            couplings=couplings,
            dominance=dominance,
            signs=signs,
            seed=seed,
            train=train,
            validation=validation,
            test=test,
        ),  # fmt: skip
        text=_text,
        reference=Baseline("a direct solve in float32", direct),
        solver=solver,
    )


def _coupled(rng: np.random.Generator, size: int, couplings: int) -> np.ndarray:
    """Which unknowns enter which equation besides its own. Shape: (size, size), bool."""
    order = rng.random((size, size))
    np.fill_diagonal(order, 2.0)
    return np.asarray(order.argsort(axis=1).argsort(axis=1) < couplings)


class AffineSolver(RecursiveModel):
    """`z ← W z + s ∘ x` from z = 0, read out as it is.

    Its fixed point solves `(I − W) z = s ∘ x`. It contracts in a weighted ℓ∞ norm if the spectral radius of |W| is
    below 1 (rule R1).

    Shape: z (batch, n), x (batch, n); weight (n, n), scale (n,).
    """

    def __init__(self, weight: Tensor, scale: Tensor, domain: Box) -> None:
        super().__init__()
        self.state_shape = self.input_shape = (len(weight),)
        self.domain = domain
        self.weight, self.scale = nn.Parameter(weight), nn.Parameter(scale)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        """One sweep."""
        return nn.functional.linear(z, self.weight) + self.scale * x

    def readout(self, z: Tensor) -> Tensor:
        """The unknowns."""
        return z.clone()


def _solutions(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """Short binary fractions in [−1, 1], the largest of a row larger than all others."""
    units = 1 << _VALUE
    whole = rng.integers(-units, units, (rows, size))
    every, top = np.arange(rows), whole.argmax(axis=1)
    whole[every, top] += 1
    return whole / units


def digits_right(values: Tensor, target: Tensor) -> float:
    """`−log10` of the largest error of a row, in the mean over rows; 16 where there is no error in float64.

    Shape: values (rows, n), target (rows, n).
    """
    error = (values.double() - target.double()).abs().amax(dim=1)
    return float(-error.clamp_min(1e-16).log10().mean())


def top_right(values: Tensor, target: Tensor) -> float:
    """Fraction of rows whose largest value is the target's: what the claim `answer` is about."""
    return float((values.argmax(dim=1) == target.argmax(dim=1)).double().mean())


METRICS: MappingProxyType[str, Metric] = MappingProxyType({"digits": digits_right, "top": top_right})


def direct(task: Task) -> Tensor:
    """The solver's linear system by a direct method, in float32."""
    solver = task.solver
    if not isinstance(solver, AffineSolver):
        raise TypeError(f"expected a task whose solver is an AffineSolver, found {type(solver).__name__}")
    matrix = torch.eye(len(solver.weight)) - solver.weight.detach()
    columns: Tensor = torch.linalg.solve(matrix, (task.test.x * solver.scale.detach()).T)
    return columns.T


def _text(x: Tensor, y: Tensor) -> str:
    return f"b  {_numbers(x)}\nu  {_numbers(y)}"


def _numbers(values: Tensor) -> str:
    return " ".join(f"{value:+.4f}" for value in values.tolist())
