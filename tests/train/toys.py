"""Small tasks and models for tests of training."""

from __future__ import annotations

import torch

from trm_verify.model import Box
from trm_verify.models import CausalRefiner, SandwichRefiner
from trm_verify.tasks import Split, Task, load_task


def largest(rows: int = 96, seed: int = 0) -> Task:
    """Which of three coordinates is the largest."""
    x = torch.rand(rows, 3, generator=torch.Generator().manual_seed(seed))
    y = x.argmax(dim=1)
    third = rows // 3
    splits = [Split(x[i * third : (i + 1) * third], y[i * third : (i + 1) * third]) for i in range(3)]
    return Task("toy", *splits, 3, Box(0, 1).expand((3,)))


def refiner(seed: int = 0, **changes: object) -> SandwichRefiner:
    return SandwichRefiner(**{"state": 4, "hidden": 6, "inputs": 3, "classes": 3, "seed": seed, **changes})  # type: ignore[arg-type]


def parity(length: int = 6) -> Task:
    return load_task("parity", length=length, train=64, validation=16, test=16)


def causal(length: int = 6, seed: int = 0) -> CausalRefiner:
    return CausalRefiner(length, 4, 8, channels=1, seed=seed)
