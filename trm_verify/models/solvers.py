"""Fixed points of `z = φ(Wz + u)` in floating point: two convergent iterations, a test of arrival, gradients.

φ acts entry by entry with slopes in [0, 1]. Nothing here is evidence of anything: that there is exactly one fixed
point is proved about the exact graph, and a solver that has not arrived raises instead of returning its last iterate.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NotConverged", "damped", "differentiable", "peaceman_rachford", "settled", "slopes"]

PROJECTIONS = (nn.ReLU, nn.Hardtanh)
_NEWTON_STEPS = 60  # each starts where convergence is monotone and quadratic; a dozen steps are usual


class NotConverged(RuntimeError):
    """A solver that did not reach the wanted residual; there is no answer."""


def slopes(act: nn.Module, a: Tensor) -> tuple[Tensor, Tensor]:
    """φ(a) and φ'(a), entry by entry (at a kink, the one-sided slope that torch uses)."""
    pair: tuple[Tensor, Tensor] = torch.func.jvp(act, (a,), (torch.ones_like(a),))  # type: ignore[assignment]
    return pair


def peaceman_rachford(weight: Tensor, drive: Tensor, act: nn.Module) -> Iterator[Tensor]:
    """The iterates, from zero, of Peaceman–Rachford splitting; they converge if I − W is strongly monotone.

    With `F(z) = (I − W)z − u` and `φ = prox_f` (every φ with slopes in [0, 1] is the proximal operator of a convex
    f), the fixed points are the zeros of `F + ∂f`. A round applies the reflected resolvents of both with step α:
    that of ∂f is nonexpansive, that of F contracts in ℓ2 by `√(1 − 4αm/(1 + αL)²)`, where m and L are the monotonicity
    and the norm of I − W. `α = 1/L` makes this smallest, `√(1 − m/L)`; the L below is an upper bound.

    Shape: weight (n, n), drive (batch, n), iterates (batch, n).
    Source: Winston and Kolter, Monotone operator equilibrium networks (NeurIPS 2020), algorithm 2.
    """
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    operator = eye - weight
    # ‖M‖₂² ≤ ‖M‖₁ ‖M‖_∞, without a singular value decomposition.
    step = 1 / (operator.abs().sum(0).amax() * operator.abs().sum(1).amax()).sqrt()
    resolvent = torch.linalg.inv(eye + step * operator)
    state = reflected = torch.zeros_like(drive)
    while True:
        yield state
        towards = 2 * state - reflected
        reflected = 2 * functional.linear(towards + step * drive, resolvent) - towards
        state = _proximal(act, reflected, step)


def _proximal(act: nn.Module, y: Tensor, step: Tensor) -> Tensor:
    """The proximal operator of α f at y, when φ is that of f.

    `z = φ(a)` means `a − z ∈ ∂f(z)`, so z is sought with `a = z + (y − z)/α`, that is, `αa + (1 − α)φ(a) = y`. The
    left side grows in a with slopes between α and 1, and to each side of zero it is convex or concave for every
    activation of this library: Newton's method from zero converges, after the first step monotonically. The
    proximal operator of an interval's indicator is the projection, whatever α.
    """
    if isinstance(act, PROJECTIONS):
        projected: Tensor = act(y)
        return projected
    close = torch.finfo(y.dtype).eps ** 0.75  # convergence is quadratic: the next error is below the rounding
    a = torch.zeros_like(y)
    value, slope = slopes(act, a)
    for _ in range(_NEWTON_STEPS):
        move = (y - step * a - (1 - step) * value) / (step + (1 - step) * slope)
        a = a + move
        value, slope = slopes(act, a)
        if not bool((move.abs() > close * (1 + a.abs())).any()):
            break
    return value


def damped(weight: Tensor, drive: Tensor, act: nn.Module) -> Iterator[Tensor]:
    """The iterates of `z ← (1−α)∘z + α∘φ(Wz + u)` from zero, `α_i (1 − min(W_ii, 0)) = 1`.

    They converge if the ℓ∞ log-norm of W is below 1 in some weights, at the rate of proofs/log_norm_convergence.md;
    the weights need not be known.

    Shape: weight (n, n), drive (batch, n), iterates (batch, n).
    Source: Jafarpour, Davydov, Proskurnikov and Bullo, Robust implicit networks via non-Euclidean contractions
        (NeurIPS 2021), the average iteration.
    """
    alpha = 1 / (1 - weight.diagonal().clamp(max=0))
    state = torch.zeros_like(drive)
    while True:
        yield state
        state = state + alpha * (act(functional.linear(state, weight) + drive) - state)


def settled(
    iterates: Iterator[Tensor], weight: Tensor, drive: Tensor, act: nn.Module, tol: float, max_iter: int
) -> Tensor:
    """The first iterate with `|z − φ(Wz + u)|_∞ ≤ tol · (1 + |Wz|_∞ + |u|_∞)` in every row.

    Both terms are in the scale because they may cancel: rounding leaves a residual of their size.

    Raises:
        NotConverged: there is none among the first `max_iter`.
        FloatingPointError: NaN or infinity.
    """
    worst = 0.0
    for count, state in enumerate(islice(iterates, max_iter + 1)):
        product = functional.linear(state, weight)
        scale = 1 + product.abs().amax(1) + drive.abs().amax(1)
        residuals = (state - act(product + drive)).abs().amax(1) / scale
        worst = float(residuals.max()) if len(residuals) else 0.0
        if worst <= tol:
            return state
        if not worst < float("inf"):
            raise FloatingPointError(
                f"solve: expected finite states, found a residual of {worst} after {count} iterations; look for NaN, "
                "infinite or huge values in x and in the weights"
            )
    raise NotConverged(
        f"solve: expected a relative residual of at most {tol:.3g} in every row within {max_iter} iterations, found "
        f"{worst:.3g}; allow more iterations (max_iter=), a larger residual (tol=), or compute in float64"
    )


def differentiable(found: Tensor, weight: Tensor, drive: Tensor, act: nn.Module) -> Tensor:
    """The value `found`, with the gradients that a fixed point of `z = φ(Wz + u)` has in W and u.

    By the implicit function theorem `dz = (I − DW)⁻¹ D(dW z + du)` with `D = diag φ'(Wz + u)`; I − DW is regular for
    every D with entries in [0, 1] wherever rule `monotone` or `log_norm` applies. Memory does not grow with the number
    of iterations.

    Shape: found and drive (batch, n), weight (n, n).
    Source: Winston and Kolter (NeurIPS 2020), theorem 2.
    """
    if not (torch.is_grad_enabled() and (weight.requires_grad or drive.requires_grad)):
        return found
    argument = functional.linear(found, weight) + drive
    with torch.no_grad():
        _, slope = slopes(act, argument)
    attached: Tensor = _ImplicitGradient.apply(act(argument), found, weight, slope)  # type: ignore[no-untyped-call]
    return attached


class _ImplicitGradient(torch.autograd.Function):
    """Passes `(I − DW)⁻ᵀ g` on to one application of the step, whose own gradient supplies the rest."""

    @staticmethod
    def forward(ctx: Any, after: Tensor, found: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(weight, slope)
        return found.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only under create_graph=True; the solution's own curvature is not in this graph
            raise RuntimeError(
                "solve: expected a first derivative of a fixed point, found create_graph=True; second derivatives are "
                "not implemented, unroll model.step instead"
            )
        weight, slope = ctx.saved_tensors
        eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        adjoint = eye - weight.mT * slope[:, None, :]
        return torch.linalg.solve(adjoint, gradient[:, :, None])[:, :, 0], None, None, None
