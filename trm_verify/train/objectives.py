"""The loss of one training step: deep supervision, and the terms that can be added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trm_verify.model import RecursiveModel, State
from trm_verify.models import ConfiguredModel, distance, iteration
from trm_verify.tasks.base import IGNORE
from trm_verify.train.settings import Settings
from trm_verify.train.unrolling import jacobian_norm, readouts, recalled


def objective(
    model: RecursiveModel,
    x: Tensor,
    y: Tensor,
    steps: int,
    settings: Settings,
    generator: torch.Generator,
    done: float = 1.0,
    ties: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The mean loss of the supervised iterates, and whatever `settings` adds to it.

    Args:
        steps: the depth that was drawn for this step.
        generator: of what the terms draw.
        done: the share of the run that is over; the weights of flatness and Jacobian grow with its square, since a
            step that is flat from the start learns nothing.
        ties: see `Task`.
    """
    right = None if ties is None else ties(y)
    logits, z = readouts(model, x, steps, supervise_from=settings.supervise_from, gradient=settings.gradient)
    loss = torch.stack([cross_entropy(values, y, right) for values in logits]).mean()
    if settings.descent:
        loss = loss + settings.descent * rises(logits, y, right)
    if z is None:  # a fixed point without iterates: nothing to go on from
        return loss
    if settings.recall:
        before = int(torch.randint(0, steps, (), generator=generator))
        again = cross_entropy(recalled(model, x, before, steps - before), y, right)
        loss = (1 - settings.recall) * loss + settings.recall * again
    if settings.margin:
        loss = loss + settings.margin * cross_entropy(provable_logits(model, x, y, z), y)
    if settings.flatness:
        gain = model.local_gain(z, x) if isinstance(model, ConfiguredModel) else None
        if gain is None:
            raise ValueError(
                f"train: expected a model with a local gain for flatness > 0, found {type(model).__name__}; use "
                "CausalRefiner, or jacobian="
            )
        loss = loss + settings.flatness * done * done * (gain - 0.5).relu().mean()
    if settings.jacobian:
        loss = loss + settings.jacobian * done * done * jacobian_norm(model, x, z, generator)
    return loss


def cross_entropy(logits: Tensor, target: Tensor, right: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over rows and the output positions that count; of all classes that are `right` together.

    A target that names one of several right answers would have a model learn which one, and blur the others.

    Shape: logits (rows, *positions, classes), target (rows, *positions), right like the logits.
    """
    if right is not None:
        counted = target != IGNORE
        values, wanted = logits[counted], right[counted]
        return (values.logsumexp(-1) - values.masked_fill(~wanted, -torch.inf).logsumexp(-1)).mean()
    return functional.cross_entropy(logits.flatten(0, -2), target.flatten())


def rises(logits: Sequence[Tensor], target: Tensor, right: Tensor | None = None) -> Tensor:
    """By how much the loss of a row rises from each readout to the next, all rises added up; mean over the rows."""
    losses = torch.stack([_by_row(values, target, right) for values in logits])
    return (losses[1:] - losses[:-1]).relu().sum(dim=0).mean()


def _by_row(logits: Tensor, target: Tensor, right: Tensor | None) -> Tensor:
    """As `cross_entropy`, for each row by itself. Shape: (rows,)."""
    counted = target != IGNORE
    if right is None:
        each = functional.cross_entropy(logits.movedim(-1, 1), target, reduction="none", ignore_index=IGNORE)
    else:
        allowed = right | ~counted[..., None]  # nothing to lose where nothing counts
        each = logits.logsumexp(-1) - logits.masked_fill(~allowed, -torch.inf).logsumexp(-1)
    total, count = (v.reshape(len(target), -1).sum(dim=1) for v in (each, counted))
    return total / count.clamp_min(1)


def provable_logits(model: RecursiveModel, x: Tensor, y: Tensor, z: State) -> Tensor:
    """Logits at z in which every competitor of the target is raised by all that the rest of the run can raise it.

    A loop that contracts at ρ stays within `r = N(f(z) − z)/(1 − ρ)` of z for ever, and a linear readout changes
    `logit_j − logit_y` by at most `‖w_j − w_y‖₂ r` there. So wherever the arg-max of the result is the target, the
    answer is final, up to the rounding of these numbers: the certificate `run` proves the same exactly.

    Raises:
        ValueError: a model that names no rate, or has no linear readout.
    """
    check_margins(model)
    assert isinstance(model, ConfiguredModel) and model.rate is not None and model.head_weight is not None
    moved = distance(model.norm, iteration(model, x)(z), z)
    radius = (moved / (1 - model.rate)).reshape(-1, *(1,) * y.dim())
    weight, labels = model.head_weight, y.clamp_min(0)
    away = torch.cdist(weight, weight)[labels]
    logits: Tensor = model.readout(z)
    return logits + away * radius


def check_margins(model: RecursiveModel) -> None:
    """Refuse a model whose answers have no margin that training could enlarge.

    Raises:
        ValueError: see `provable_logits`.
    """
    if not isinstance(model, ConfiguredModel) or model.rate is None or model.head_weight is None:
        raise ValueError(
            f"train: expected a model with a rate and a linear readout for margin > 0, found {type(model).__name__}; "
            "use SandwichRefiner or TinyRecursive, or margin=0"
        )
