"""Contract, then commit: inference that fixes the cells it is sure of and goes on with what is left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trm_verify.model import RecursiveModel

__all__ = ["Committed", "commit"]


@dataclass(frozen=True, eq=False)
class Committed:
    """Where committing ended.

    Attributes:
        x: the input with all commitments. Shape: as the model's input.
        answer: the last round's arg-max, with the commitments in their places. Shape: (batch, *positions).
        committed: which open cells were committed. Shape: as `answer`.
        rounds: rounds that each row took, the last one, without a new commitment, included. Shape: (batch,).
    """

    x: Tensor
    answer: Tensor
    committed: Tensor
    rounds: Tensor


@torch.no_grad()
def commit(model: RecursiveModel, x: Tensor, *, steps: int, threshold: float, blank: int = 0) -> Committed:
    """Rounds of `steps` recursions from the model's start; after each, open cells that are decided become input.

    A cell is open while x shows the channel `blank` there. It is committed when its largest logit exceeds every other
    one by more than `threshold`: its channel becomes that of the answer (class c is channel c of those that are not
    blank), and it is never withdrawn. A row is done after its first round without a new commitment, hence after at
    most one round more than it has open cells. A round depends on x and the commitments alone, so a row that is done
    stays as it is however many rounds follow. This is inference only; the model is not changed, and it is trained
    without.

    Proved by: `commits`, for one input or a box of them: `tv.verify_commit`.

    Shape: x (batch, *positions, 1 + classes), one-hot.

    Args:
        threshold: at least 0; ties are never committed.

    Raises:
        ValueError: an input that does not show one blank and every class, or arguments out of range.
    """
    if steps < 1 or not threshold >= 0:
        raise ValueError(f"commit: expected steps >= 1 and threshold >= 0, found {steps} and {threshold}")
    x = x.clone()
    rounds = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    active = torch.ones(len(x), dtype=torch.bool, device=x.device)
    committed = answer = torch.zeros(0)
    while bool(active.any()):
        logits = model.readout(model.run(x[active], steps))
        if (
            logits.shape[:-1] != x[active].shape[:-1]
            or x.shape[-1] != 1 + logits.shape[-1]
            or not 0 <= blank < x.shape[-1]
        ):
            raise ValueError(
                f"commit: expected inputs of shape (batch, *positions, 1 + classes) with a blank channel, found "
                f"{tuple(x.shape)} with logits of shape {tuple(logits.shape)} and {blank=}"
            )
        if not rounds.any():
            committed = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
            answer = torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device)
        best = logits.topk(2, dim=-1)
        chosen = best.indices[..., 0]
        sure = (x[active][..., blank] == 1) & (best.values[..., 0] - best.values[..., 1] > threshold)
        held = committed[active]
        answer[active] = torch.where(held, answer[active], chosen)
        rounds[active] += 1
        channel = chosen + (chosen >= blank)
        shown = torch.nn.functional.one_hot(channel, x.shape[-1]).to(x)
        x[active] = torch.where(sure[..., None], shown, x[active])
        committed[active] = held | sure
        active[active.clone()] = sure.reshape(len(sure), -1).any(dim=1)
    return Committed(x, answer, committed, rounds)
