"""Curricula: which difficulty the next training step is drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from trm_verify.train.settings import Settings


class Curriculum(ABC):
    """A choice of levels 0 … n−1, one for each optimizer step, easiest first."""

    def __init__(self, levels: int) -> None:
        if levels < 1:
            raise ValueError(f"curriculum: expected at least one level, found {levels}")
        self.levels = levels

    @abstractmethod
    def choose(self, done: float, generator: torch.Generator) -> int:
        """The level of the next step; `done` is the share of the run that is over, in [0, 1)."""

    def learn(self, level: int, loss: float) -> None:
        """Take note of the loss of a step on that level; by default it does not matter."""
        del level, loss

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; by default there is none."""
        del state


class OneLevel(Curriculum):
    """No curriculum."""

    def choose(self, done: float, generator: torch.Generator) -> int:
        return 0


class FixedCurriculum(Curriculum):
    """Level after level in equal shares of the run; the last share draws from all of them."""

    def choose(self, done: float, generator: torch.Generator) -> int:
        stage = int(done * (self.levels + 1))
        if stage < self.levels:
            return stage
        return int(torch.randint(self.levels, (), generator=generator))


class LearnedCurriculum(Curriculum):
    """A bandit on learning progress: levels whose loss is changing are drawn more often.

    The progress on a level is the distance between a fast and a slow moving average of its losses: falling losses are
    being learned, rising ones forgotten, and both deserve practice. Levels are drawn in proportion to it, except for
    a share of `explore`, drawn evenly, which notices a level that becomes learnable.

    Source: Matiisen, Oliver, Cohen and Schulman, Teacher-student curriculum learning (2017).
    """

    def __init__(self, levels: int, explore: float = 0.2, fast: float = 0.3, slow: float = 0.03) -> None:
        super().__init__(levels)
        if not (0 < explore <= 1 and 0 < slow < fast <= 1):
            raise ValueError(
                f"curriculum: expected 0 < explore <= 1 and 0 < slow < fast <= 1, found {explore=}, {slow=}, {fast=}"
            )
        self.explore, self.rates = explore, (fast, slow)
        self.averages: list[list[float]] = [[] for _ in range(levels)]

    def probabilities(self) -> list[float]:
        """How likely each level is to be drawn next."""
        progress = [abs(a[0] - a[1]) if a else 0.0 for a in self.averages]
        total = sum(progress)
        even = 1 / self.levels
        return [self.explore * even + (1 - self.explore) * (p / total if total > 0 else even) for p in progress]

    def choose(self, done: float, generator: torch.Generator) -> int:
        for level, averages in enumerate(self.averages):
            if not averages:  # each level is seen once before any is judged
                return level
        weights = torch.tensor(self.probabilities(), dtype=torch.float64)
        return int(torch.multinomial(weights, 1, generator=generator))

    def learn(self, level: int, loss: float) -> None:
        before = self.averages[level] or [loss, loss]
        self.averages[level] = [a + rate * (loss - a) for a, rate in zip(before, self.rates, strict=True)]

    def state(self) -> dict[str, Any]:
        return {"averages": self.averages}

    def restore(self, state: dict[str, Any]) -> None:
        self.averages = [list(map(float, pair)) for pair in state["averages"]]


def curriculum(settings: Settings, levels: int) -> Curriculum:
    """The curriculum that the settings name."""
    kinds: dict[str, type[Curriculum]] = {"none": OneLevel, "fixed": FixedCurriculum, "learned": LearnedCurriculum}
    return kinds[settings.curriculum](levels)
