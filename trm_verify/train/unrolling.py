"""Readouts along an unrolled recursion, with the gradient that a training step asks for."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import torch
from torch import Tensor

from trm_verify.model import RecursiveModel, State, flatten_state, initial_state, unflatten_state
from trm_verify.models import ConfiguredModel, iteration

_ADJOINT_STEPS = 60
_ADJOINT_TOLERANCE = 1e-6

Step = Callable[[State], State]


def readouts(
    model: RecursiveModel, x: Tensor, steps: int, *, supervise_from: float = 0.0, gradient: int | str = "full"
) -> tuple[list[Tensor], State | None]:
    """Readouts of the supervised iterates z_k, k > `supervise_from · steps`, and the last state.

    An implicit model has no depth: where it offers `logits(x)`, the readout of its fixed point, that is the only
    readout, and there is no state.

    Args:
        gradient: as in `Settings`.
    """
    solved = getattr(model, "logits", None) if model.iteration == "implicit" else None
    if solved is not None:
        return [solved(x)], None
    first = floor(supervise_from * steps)
    if gradient in ("implicit", "settled"):
        z = fixed_point(model, x, steps) if gradient == "implicit" else settled(model, x)
        return [model.readout(z)], z
    attached = steps if isinstance(gradient, str) else min(gradient, steps)
    states = unrolled(model, x, steps, attached)
    return [model.readout(z) for z in states[max(0, first - (steps - attached)) :]], states[-1]


def unrolled(model: RecursiveModel, x: Tensor, steps: int, attached: int | None = None) -> list[State]:
    """The last `attached` of the iterates z_1 … z_steps; gradients do not pass the state before them.

    With `attached == steps` (the default) gradients pass everywhere, to the initial state as well.
    """
    attached = steps if attached is None else attached
    once, z = iteration(model, x), initial_state(model, x)
    if attached < steps:
        with torch.no_grad():
            for _ in range(steps - attached):
                z = once(z)
    states = []
    for _ in range(attached):
        z = once(z)
        states.append(z)
    return states


def recalled(model: RecursiveModel, x: Tensor, before: int, steps: int) -> Tensor:
    """The readout after `before` recursions that are taken as given, and `steps` more.

    The loss of such a readout asks a recursion to go on from wherever it is, instead of counting its steps.

    Source: Bansal and others, End-to-end algorithm synthesis with recurrent networks (NeurIPS 2022), progressive loss.
    """
    logits: Tensor = model.readout(unrolled(model, x, before + steps, steps)[-1])
    return logits


def fixed_point(model: RecursiveModel, x: Tensor, steps: int) -> State:
    """z_steps, with the gradient of the fixed point that it is taken for.

    By the implicit function theorem a gradient g at z* = f(z*, x) reaches the parameters of one application of f as
    `u = g + Jᵀu`. The series for u is summed until its terms are negligible, which a contraction grants: at rate ρ
    the rest after n terms is at most ρⁿ/(1−ρ) of g, in the norm dual to that of the contraction. Memory does not
    grow with `steps`.

    Source: Bai, Kolter and Koltun, Deep equilibrium models (NeurIPS 2019), theorem 1.
    """
    once = iteration(model, x)
    with torch.no_grad():
        z = initial_state(model, x)
        for _ in range(steps):
            z = once(z)
    after = flatten_state(once(z))
    if not after.requires_grad:
        return unflatten_state(after, model.state_shape)
    # The loop's own graph serves the parameters; this one, with the encoding cut off, serves the adjoint.
    inner = flatten_state(z).detach().requires_grad_()
    with torch.enable_grad():
        again = flatten_state(once(unflatten_state(inner, model.state_shape)))

    def adjoint(gradient: Tensor) -> Tensor:
        total = term = gradient
        for _ in range(_ADJOINT_STEPS):
            (term,) = torch.autograd.grad(again, inner, term, retain_graph=True)
            total = total + term
            if float(term.abs().amax()) <= _ADJOINT_TOLERANCE * float(total.abs().amax()):
                break
        return total

    after.register_hook(adjoint)  # type: ignore[no-untyped-call]
    return unflatten_state(after, model.state_shape)


def settled(model: RecursiveModel, x: Tensor) -> State:
    """The state in which a model that settles exactly comes to rest.

    Raises:
        ValueError: another model.
    """
    if not isinstance(model, ConfiguredModel):
        raise ValueError(
            f'train: expected a model that settles exactly for gradient="settled", found {type(model).__name__}; use '
            'CausalRefiner, or gradient="full"'
        )
    return model.settled(x)


def jacobian_norm(model: RecursiveModel, x: Tensor, z: State, generator: torch.Generator) -> Tensor:
    """An unbiased estimate of `‖∂f/∂z‖_F² / n` at (z, x), mean over rows, differentiable in the parameters.

    Source: Bai, Koltun and Kolter, Stabilizing equilibrium models by Jacobian regularization (ICML 2021).
    """
    point = flatten_state(z).detach().requires_grad_()
    after = flatten_state(iteration(model, x)(unflatten_state(point, model.state_shape)))
    drawn = torch.randn(after.shape, generator=generator).to(after)
    (product,) = torch.autograd.grad(after, point, drawn, create_graph=True)
    return product.square().sum(dim=1).mean() / after.shape[1]
