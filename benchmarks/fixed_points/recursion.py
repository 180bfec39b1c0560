"""A contractive ReLU recursion, trained here on scikit-learn's digits, and CROWN on its unrolled steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import trm_verify as tv
from trm_verify.model import RecursiveModel
from trm_verify.provers.lirpa.compat import running

STATES, RATE, STEPS = 87, 0.9, 40
EPOCHS, BATCH, LEARNING_RATE = 30, 128, 2e-3
BELOW = 1 - 4e-6  # room for rounding W to float32, and for the slack of a proved norm


class Contractive(RecursiveModel):
    """z ← ReLU(Wz + Ux + b) with ‖W‖₂ ≤ 0.9, and a linear readout.

    Shape: z (batch, 87), x (batch, 64), readout (batch, 10).
    """

    state_shape, input_shape, iteration = (STATES,), (64,), "picard"

    def __init__(self, weight: Tensor, drive: nn.Linear, reading: nn.Linear) -> None:
        super().__init__()
        self.inner, self.drive, self.reading = nn.Linear(STATES, STATES, bias=False), drive, reading
        with torch.no_grad():
            self.inner.weight.copy_(weight)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.relu(self.inner(z) + self.drive(x))

    def readout(self, z: Tensor) -> Tensor:
        return self.reading(z)


def trained(seed: int = 0) -> Contractive:
    """Trained on all 40 steps; W is a free matrix times 0.9 over its own norm, throughout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        free = nn.Parameter(torch.randn(STATES, STATES) / STATES**0.5)
        drive, reading = nn.Linear(64, STATES), nn.Linear(STATES, 10)
        optimiser = torch.optim.Adam([free, *drive.parameters(), *reading.parameters()], lr=LEARNING_RATE)
        data = tv.tasks.digits().train
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(data)).split(BATCH):
                weight, given = free * (RATE / torch.linalg.matrix_norm(free, 2)), drive(data.x[rows])
                z = torch.zeros(len(rows), STATES)
                for _ in range(STEPS):
                    z = torch.relu(functional.linear(z, weight) + given)
                loss = functional.cross_entropy(reading(z), data.y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    wide = free.detach().double()
    return Contractive((wide * (RATE * BELOW / torch.linalg.matrix_norm(wide, 2))).float(), drive, reading).eval()


class Unrolled(nn.Module):
    """The logits after some steps from zero, as somebody would write it for auto_LiRPA."""

    def __init__(self, model: Contractive, steps: int = STEPS) -> None:
        super().__init__()
        self.model, self.steps = model, steps

    def forward(self, x: Tensor) -> Tensor:
        given = self.model.drive(x)
        z = torch.relu(given)
        for _ in range(self.steps - 1):
            z = torch.relu(self.model.inner(z) + given)
        return self.model.reading(z)


@dataclass(frozen=True)
class Crown:
    """auto_LiRPA on the unrolled model, its graph built once, in the model's own float32."""

    library: Any
    module: Any

    @classmethod
    @contextmanager
    def ready(cls, model: Contractive, steps: int = STEPS) -> Iterator[Crown]:
        with running() as library:
            torch.set_default_dtype(torch.float32)  # the context restores the default when it ends
            network = Unrolled(model, steps)
            yield cls(library, library.BoundedModule(network, torch.zeros(1, 64), bound_opts={"conv_mode": "matrix"}))

    def margins(self, low: np.ndarray, high: np.ndarray, differences: np.ndarray) -> np.ndarray:
        """Lower bounds of logit differences. Shape: low, high (batch, 64); differences (batch, rows, 10)."""
        ends = [torch.from_numpy(end).float() for end in (low, high)]
        norm = self.library.PerturbationLpNorm(norm=float("inf"), x_L=ends[0], x_U=ends[1])
        x = self.library.BoundedTensor((ends[0] + ends[1]) / 2, norm)
        with torch.no_grad():
            found, _ = self.module.compute_bounds(
                x=(x,), C=torch.from_numpy(differences).float(), method="CROWN", bound_upper=False
            )
        return found.double().numpy()
