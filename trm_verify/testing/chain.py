"""Models in a chain, run in float32 and in float64 side by side: how far do the two drift apart?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trm_verify.testing.checks import Counterexample, Given, spelled
from trm_verify.testing.subjects import Subject

Operation = tuple[Any, ...]


def check_chain(models: Sequence[Given], operations: Sequence[Operation], *, tolerance: float) -> None:
    """A chain of models keeps float32 and float64 together, through every one of the operations.

    Args:
        operations: `("run", model, x, steps)`, `("move", by)` on both states, `("restart", z)`.

    Raises:
        Counterexample: the two have drifted apart by more than `tolerance` relative to the state, or are not finite.
    """
    chain = Chain([Subject.of(model) for model in models], tolerance)
    for operation in operations:
        chain.apply(operation)
        chain.check()


class Chain:
    """One state in float32 and in float64, handed from model to model.

    Raises:
        ValueError: the models have states of different sizes.
    """

    def __init__(self, subjects: Sequence[Subject], tolerance: float) -> None:
        sizes = sorted({s.spec.state_size for s in subjects})
        if len(sizes) != 1:
            raise ValueError(f"expected one or more models with states of one size, found sizes {sizes}")
        self.subjects, self.tolerance = list(subjects), tolerance
        self.history: list[Operation] = []
        self.high = torch.zeros(1, sizes[0], dtype=torch.float64)
        self.low = self.high.float()

    def apply(self, operation: Operation) -> None:
        """Do it to both states."""
        self.history.append(operation)
        if operation[0] == "run":
            _, which, x, steps = operation
            subject = self.subjects[which]
            given = subject.input(x)
            with torch.no_grad():
                for _ in range(steps):
                    self.high = subject.iterate(self.high, given)
                    self.low = subject.iterate(self.low, given)
        elif operation[0] == "move":
            by = torch.tensor([operation[1]], dtype=torch.float64)
            self.high, self.low = self.high + by, (self.low.double() + by).float()
        elif operation[0] == "restart":
            self.high = torch.tensor([operation[1]], dtype=torch.float64)
            self.low = self.high.float()
        else:
            raise ValueError(f"expected an operation run, move or restart, found {operation!r}")

    def check(self) -> None:
        """Raises `Counterexample` when the states are no longer together."""
        drift = float(((self.high - self.low.double()).abs() / (1 + self.high.abs())).max())
        if bool(self.high.isfinite().all()) and drift <= self.tolerance:
            return
        total = sum(operation[3] for operation in self.history if operation[0] == "run")
        found = f"{drift:.3g}" if bool(self.high.isfinite().all()) else "states that are not finite"
        call = f"check_chain(models, {self.history!r}, tolerance={self.tolerance!r})"
        alone = f"check_chain([model], {self.history!r}, tolerance={self.tolerance!r})"
        raise Counterexample(
            f"expected float32 and float64 to stay within {self.tolerance:g} of each other, found {found} after "
            f"{total} steps", spelled(self.subjects, call if len(self.subjects) > 1 else alone, module="chain"),
        )  # fmt: skip
