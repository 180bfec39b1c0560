"""Fixed points and cycles of a loop in doubles, by Newton's method, which finds the ones that repel as well.

Nothing here is proved; see `counterexamples`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trm_verify.provers.problem import Floats
from trm_verify.provers.refutation.loops import Loop

NEWTON = 40  # steps of Newton's method
CLOSE = 1e-10  # relative residual of what counts as a fixed point
SAME = 1e-6  # relative distance below which two are one
JACOBIANS = 1 << 24  # entries of the derivatives that are held at once
LARGE = 1024  # states above which there are no derivatives, and so no Newton steps


@dataclass(frozen=True, eq=False)
class Orbit:
    """A fixed point, or a cycle in the order in which it is run through.

    Attributes:
        states: Shape: (period, n).
        growth: spectral radius of the derivative along it, once around: it attracts below 1 and repels above. NaN for
            large states.
    """

    states: Floats
    growth: float

    @property
    def period(self) -> int:
        return len(self.states)

    @property
    def attracts(self) -> bool:
        return self.growth < 1

    def meets(self, other: Orbit) -> bool:
        """Whether both are the same orbit, from whichever state on."""
        if self.period != other.period:
            return False
        gaps = np.abs(other.states - self.states[0]).max(axis=1)
        aligned = np.roll(other.states, -int(gaps.argmin()), axis=0)
        return bool(np.abs(aligned - self.states).max() <= SAME * (1 + np.abs(self.states).max()))


def periodic(loop: Loop, starts: Tensor, period: int, deadline: float = float("inf")) -> list[Orbit]:
    """Orbits of exactly this period that Newton's method on T^p finds from the starts, the most attracting first."""
    found: list[Orbit] = []
    for batch in _batches(loop, starts) if loop.size <= LARGE else ():
        if time.monotonic() > deadline:
            break
        states, good = newton(loop, batch, period, deadline)
        for orbit in _whole_orbits(loop, states[good], period):
            if not any(orbit.meets(other) for other in found):
                found.append(orbit)
    return sorted(found, key=lambda orbit: orbit.growth)


def _batches(loop: Loop, states: Tensor) -> Iterator[Tensor]:
    yield from torch.split(states, max(1, JACOBIANS // (loop.size * loop.size)))


def newton(loop: Loop, start: Tensor, period: int, deadline: float = float("inf")) -> tuple[Tensor, Tensor]:
    """(states, whether T^p fixes them). Shape: start (batch, n)."""
    found, eye = start.clone(), torch.eye(loop.size, dtype=torch.float64)
    size = largest(loop.power(found, period)[-1] - found)
    rows = torch.arange(len(found))  # those that are still on their way
    for _ in range(NEWTON):
        rows = rows[relative(size[rows], found[rows]) > CLOSE / 100]
        if not len(rows) or time.monotonic() > deadline:
            break
        z = found[rows]
        path = loop.power(z, period)
        change, _ = torch.linalg.solve_ex(loop.power_derivative(path[:-1]) - eye, path[-1] - z)
        change = torch.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0)
        best, best_size = z, size[rows]
        for length in (1.0, 0.5, 0.1):  # the full step first; a shorter one where it makes things worse
            trial = z - length * change
            trial_size = largest(loop.power(trial, period)[-1] - trial)
            better = trial_size < best_size
            best, best_size = torch.where(better[:, None], trial, best), torch.where(better, trial_size, best_size)
        moved = best_size < size[rows]
        found[rows], size[rows] = best, best_size
        rows = rows[moved]
    return found.detach(), relative(size, found) < CLOSE


def largest(v: Tensor) -> Tensor:
    """Per row, the largest absolute entry; infinite for NaN."""
    return torch.nan_to_num(v.abs().amax(dim=1), nan=torch.inf)


def relative(size: Tensor, z: Tensor) -> Tensor:
    """Sizes relative to states, one a row."""
    return size / (1 + z.abs().amax(dim=1))


def _whole_orbits(loop: Loop, states: Tensor, period: int) -> list[Orbit]:
    """The orbits of fixed points of T^p, without those of a smaller period. Shape: states (batch, n)."""
    if not len(states):
        return []
    path = loop.power(states, period - 1)
    whole = torch.stack(path, dim=1).detach()  # (batch, period, n)
    shorter = torch.zeros(len(states), dtype=torch.bool)
    for divisor in range(1, period):
        if period % divisor == 0:
            shorter |= relative(largest(whole[:, divisor] - whole[:, 0]), whole[:, 0]) < SAME
    radii = spectral_radii(loop, path)
    return [Orbit(whole[k].numpy(), radii[k]) for k in range(len(whole)) if not shorter[k]]


def spectral_radii(loop: Loop, path: Sequence[Tensor]) -> list[float]:
    """Spectral radii of the derivative along paths. Shape: states (batch, n)."""
    if loop.size > LARGE:
        return [float("nan")] * len(path[0])
    derivatives = torch.nan_to_num(loop.power_derivative(path))
    found: list[float] = torch.linalg.eigvals(derivatives).abs().amax(dim=1).tolist()
    return found
