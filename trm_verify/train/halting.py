"""A halting head: it says when an answer is probably right, and nothing rests on it.

It is trained on detached states of a model that is finished, and kept outside the model: whether and when it stops a
loop is a matter of saved time. What is proved of the loop holds without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from trm_verify.model import RecursiveModel, flatten_state, initial_state
from trm_verify.models import iteration
from trm_verify.nn import cached_weights, free_linear
from trm_verify.pretrained import packed, read_tensors, write_files
from trm_verify.tasks import IGNORE, Task
from trm_verify.train.levels import inputs


class HaltingHead(nn.Module):
    """The logit of "the answer is right by now", from a step's state and how far the step moved it.

    Shape: state and moved (batch, n) to (batch,).
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inner = free_linear(size + 1, 32, generator)
        self.outer = free_linear(32, 1, generator)

    def forward(self, state: Tensor, moved: Tensor) -> Tensor:
        distance = torch.log(moved.abs().amax(dim=1, keepdim=True) + 1e-6)
        logit: Tensor = self.outer(torch.relu(self.inner(torch.cat([state, distance], dim=1))))[:, 0]
        return logit

    def save(self, path: Path) -> None:
        """Write the head's weights."""
        write_files({path: packed(self.state_dict())})

    @classmethod
    def load(cls, path: Path) -> HaltingHead:
        """A head that was saved.

        Raises:
            FileNotFoundError, PretrainedError: there is none in that file.
        """
        tensors, _ = read_tensors(path)
        head = cls(tensors["inner.weight"].shape[1] - 1)
        head.load_state_dict(tensors)
        return head


def fit_halting(
    model: RecursiveModel,
    task: Task,
    *,
    steps: int,
    epochs: int = 5,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
) -> HaltingHead:
    """A halting head for a finished model, trained on its states after 1 … `steps` recursions.

    The model is not changed.
    """
    x, y = inputs(model, task.train.x), task.train.y
    with torch.no_grad():
        size = flatten_state(initial_state(model, x[:1])).shape[1]
    head = HaltingHead(size, seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), batch_size):
            with torch.no_grad(), cached_weights(model):
                states = model.trace(x[rows], steps)
                right = torch.stack([_right(model.readout(z), y[rows]) for z in states[1:]])
            flat = [flatten_state(z) for z in states]
            logits = torch.stack([head(b, b - a) for a, b in zip(flat, flat[1:], strict=False)])
            loss = functional.binary_cross_entropy_with_logits(logits, right)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return head.eval()


@dataclass(frozen=True, eq=False)
class Halted:
    """Logits where each row was stopped, and after how many steps."""

    logits: Tensor
    steps: Tensor


@torch.no_grad()
def halted(model: RecursiveModel, head: HaltingHead, x: Tensor, *, most: int, threshold: float = 0.9) -> Halted:
    """Run each row until the head gives its answer a probability above `threshold`, at most `most` steps.

    Raises:
        ValueError: `most` below 1, or a threshold outside (0, 1].
    """
    if most < 1 or not 0 < threshold <= 1:
        raise ValueError(f"halted: expected most >= 1 and threshold in (0, 1], found {most} and {threshold}")
    once, z = iteration(model, x), initial_state(model, x)
    logits, steps = torch.zeros(0), torch.zeros(len(x), dtype=torch.int64)
    running = torch.ones(len(x), dtype=torch.bool)
    for k in range(1, most + 1):
        before, z = flatten_state(z), once(z)
        found = model.readout(z)
        logits = found.clone() if k == 1 else torch.where(running.reshape(-1, *[1] * (found.dim() - 1)), found, logits)
        steps[running] = k
        state = flatten_state(z)
        running &= ~(torch.sigmoid(head(state, state - before)) > threshold)
        if not bool(running.any()):
            break
    return Halted(logits, steps)


def _right(logits: Tensor, y: Tensor) -> Tensor:
    """Whether the whole answer is right, as 0 or 1. Shape: (rows,)."""
    right: Tensor = ((logits.argmax(dim=-1) == y) | (y == IGNORE)).reshape(len(y), -1).all(dim=1).float()
    return right
