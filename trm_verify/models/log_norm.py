"""The ℓ∞ log-norm parametrization of an equilibrium model, and its exact baking."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.models import solvers
from trm_verify.models.equilibrium import Equilibrium, positive_float, sizes_of
from trm_verify.nn.base import normal


class LogNormEquilibrium(Equilibrium):
    """An implicit model with an ℓ∞ log-norm below 1: `W_ii + Σ_{j≠i} |W_ij| d_j/d_i ≤ 1 − margin` for every i.

    Parametrization: `W_ij = V_ij d_i/d_j` off the diagonal, `W_ii = 1 − margin − Σ_{j≠i} |V_ij| − softplus(V_ii)`,
    with V and `log d` free. (With relu or leaky_relu, d could be moved into U and C; with other activations it
    widens the family.) Baking rounds the diagonal downwards, so that the stored W satisfies the inequality exactly,
    in the stored d.

    Proved by: `log_norm`, `log_norm_convergence`.

    Shape: z (batch, state), x (batch, inputs), readout (batch, classes).
    Norm: ℓ∞ in the weights d; the fixed point moves by at most `‖UΔx‖_{∞,d} / margin`.
    Source: Jafarpour, Davydov, Proskurnikov and Bullo, Robust implicit networks via non-Euclidean contractions
        (NeurIPS 2021), the log-norm condition; proof in proofs/log_norm.md. The parametrization is this library's.

    Args:
        state: number of units.
        inputs: size of x.
        classes: number of answers.
        margin: how far below 1 the log-norm stays, a positive float that is taken at its exact binary value.
        act: φ: relu, leaky_relu, hardtanh, tanh, sigmoid or softplus.
        domain: ends `(lo, hi)` of the interval of every input coordinate, or None for all real inputs.
        seed: seed of the initial parameters.

    Attributes:
        free, log_d: V and log d; a baked model has `W` instead, and d as a hint that is no part of the function.

    Raises:
        ValueError: a size, margin or activation out of range.
    """

    d: Tensor

    def __init__(
        self,
        state: int = 40,
        inputs: int = 64,
        classes: int = 10,
        margin: float = 0.1,
        *,
        act: str = "relu",
        domain: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__((state, inputs, classes), act, domain, generator, device, dtype)
        self.margin = positive_float("LogNormEquilibrium", "margin", margin)
        self.set_config(
            state=state, inputs=inputs, classes=classes, margin=self.margin, act=act,
            domain=None if domain is None else list(domain), seed=seed,
        )  # fmt: skip
        self.free = normal((state, state), state**-0.5, generator, device, dtype)
        self.log_d = nn.Parameter(torch.zeros(state, device=device, dtype=dtype))

    @classmethod
    def from_tensors(
        cls,
        *,
        W: Tensor,
        U: Tensor,
        b: Tensor,
        C: Tensor,
        c: Tensor,
        d: Tensor | None = None,
        domain: tuple[float, float] | None = None,
        act: str = "relu",
    ) -> Self:
        """A baked model of given tensors, each taken exactly as it is stored; its margin is what W has in d.

        Args:
            d: the weights of the norm; None searches some.

        Shape: W (state, state), U (state, inputs), b and d (state,), C (classes, state), c (classes,).

        Raises:
            ValueError: tensors that do not fit together, other than float32 or float64, or not finite; a W whose
                log-norm is not below 1.
        """
        tensors = {"W": W, "U": U, "b": b, "C": C, "c": c}
        shapes = {"W": "nn", "U": "ni", "b": "n", "C": "on", "c": "o", "d": "n"}
        size = sizes_of(cls.__name__, tensors if d is None else {**tensors, "d": d}, shapes)
        weights = _found_weights(W) if d is None else d.detach().clone()
        worst = max(_log_norms(W, weights)) if bool((weights > 0).all()) else None
        if worst is None or worst >= 1:
            found = "no weights d > 0" if worst is None else f"{float(worst):.9g}"
            raise ValueError(
                f"{cls.__name__}: expected W_ii + Σ_(j≠i) |W_ij| d_j/d_i < 1 in every row for some d > 0, found "
                f"{found}; lower the diagonal of W, or give other weights d="
            )
        margin = float(_below(1 - worst, torch.float64))
        model = cls(size["n"], size["i"], size["o"], margin, act=act, domain=domain)._holding(tensors)
        model.d = weights
        return model

    def matrix(self, like: Tensor) -> Tensor:
        """W, stored once baked, else made of the free parameters, as they are. Shape: (state, state)."""
        return self.W if self.baked else self._parametrized(self.free, self.log_d.exp())

    def _parametrized(self, free: Tensor, d: Tensor) -> Tensor:
        away = free - free.diagonal().diag()
        own = 1 - self.margin - away.abs().sum(1) - functional.softplus(free.diagonal())
        return away * (d[:, None] / d) + own.diag()

    def bake(self) -> Self:
        """The deployed model: W is stored, and satisfies the inequality exactly."""
        clone = super().bake()
        if not self.baked:
            weight, d = self._rounded()
            del clone.free, clone.log_d
            clone.W = nn.Parameter(weight.to(self.free.device), requires_grad=False)
            clone.register_buffer("d", d.to(self.free.device), persistent=False)
        return clone

    def _rounded(self) -> tuple[Tensor, Tensor]:
        """W and d in the stored dtype: each diagonal entry as low as the exact row sum of what is stored demands."""
        dtype = self.free.dtype
        free, log_d = (p.detach().to("cpu", torch.float64) for p in (self.free, self.log_d))
        d = log_d.exp().to(dtype)
        weight = self._parametrized(free, d.double()).to(dtype)
        if not bool(weight.isfinite().all()):
            return weight, d  # a broken model: saving and exporting it name the tensor
        most = 1 - Fraction(self.margin)
        for i, mu in enumerate(_log_norms(weight, d)):
            if mu > most:
                weight[i, i] = _below(Fraction(weight[i, i].item()) + most - mu, dtype)
        return weight, d

    def _iterates(self, weight: Tensor, drive: Tensor) -> Iterator[Tensor]:
        return solvers.damped(weight, drive, self.act)


def _log_norms(weight: Tensor, d: Tensor) -> list[Fraction]:
    """`W_ii + Σ_{j≠i} |W_ij| d_j/d_i` for every i, exactly."""
    scales = [Fraction(v) for v in d.tolist()]
    found = []
    for i, row in enumerate(weight.tolist()):
        away = sum(abs(Fraction(v)) * s for j, (v, s) in enumerate(zip(row, scales, strict=True)) if j != i)
        found.append(Fraction(row[i]) + away / scales[i])
    return found


def _found_weights(weight: Tensor) -> Tensor:
    """Weights d in which the log-norm of W is below 1, if there are any: `(I − M) d = 1` for the Metzler matrix M of W.

    There are some exactly if I − M is a nonsingular M-matrix, hence has a non-negative inverse; then `Md = d − 1 < d`.
    Otherwise the result has an entry that is not positive, or fails the exact test.
    """
    exact = weight.detach().to("cpu", torch.float64)
    metzler = exact.abs() - exact.diagonal().abs().diag() + exact.diagonal().diag()
    ones = torch.ones(len(exact), dtype=torch.float64)
    solution, _ = torch.linalg.solve_ex(torch.eye(len(exact), dtype=torch.float64) - metzler, ones)
    scaled: Tensor = solution / solution.abs().amax()
    return scaled.to(weight)


def _below(value: Fraction, dtype: torch.dtype) -> Tensor:
    """The largest number of the dtype that is at most `value`."""
    nearest = torch.tensor(float(value), dtype=dtype)
    while Fraction(nearest.item()) > value:
        nearest = nearest.nextafter(torch.tensor(-torch.inf, dtype=dtype))
    return nearest
