"""Where many starts of a loop end, in doubles: in a fixed point, in a cycle, nowhere, or ever further away.

Nothing here is proved; see `counterexamples`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trm_verify.encode import Json
from trm_verify.provers.problem import Floats, floats
from trm_verify.provers.refutation.loops import Loop
from trm_verify.provers.refutation.orbits import LARGE, SAME, Orbit, largest, newton, periodic, relative, spectral_radii

SETTLED = 1e-9  # relative distance from the state a period ago, of a start that has arrived
FAR = 1e12  # a start that gets so far from the origin has left
BLOCK = 32  # steps between two looks
MOST_ORBITS = 32  # where every start has an end of its own, not all of them are told apart

WANDERS, LEAVES, ELSEWHERE = -1, -2, -3  # fates of a start that ends in none of the orbits


@dataclass(frozen=True, eq=False)
class Survey:
    """Where many starts end.

    Attributes:
        starts, last: first and last states. Shape: (starts, n).
        orbits: where at least one of them ends.
        fates: per start, the index of its orbit, WANDERS (neither settled nor gone), LEAVES (ever further away), or
            ELSEWHERE (settled in an orbit beyond the first few).
        paths: their first states. Shape: (steps + 1, starts, n), with a few steps.
    """

    starts: Floats
    last: Floats
    orbits: tuple[Orbit, ...]
    fates: tuple[int, ...]
    paths: Floats


def draw(loop: Loop, region: Json, count: int, spreads: Sequence[float] = (1.0,), seed: int = 0) -> Tensor:
    """States to start from: uniform in a bounded region, else normal about init(x), which is the first of them.

    Shape: (count, n).
    """
    rng, box = np.random.default_rng(seed), loop.problem.box(region)
    init = loop.init().detach()
    if box.bounded:
        lo, hi = (floats(end, box.exp) for end in box.ends())
        drawn = rng.uniform(lo, hi, size=(count, loop.size))
        first = np.clip(init.numpy(), lo, hi)
    else:
        scale = np.array([spreads[k % len(spreads)] for k in range(count)])[:, None]
        drawn, first = init.numpy() + scale * rng.normal(size=(count, loop.size)), init.numpy()
    return torch.from_numpy(np.concatenate([first, drawn[1:]]))


class _Watch:
    """Many starts, run side by side."""

    def __init__(self, loop: Loop, starts: Tensor, most: int, shown: int) -> None:
        self.loop, self.most, self.shown = loop, most, shown
        self.recent, self.paths, self.looks = [starts], [starts], [starts]
        self.norms: list[Tensor] = []

    def run(self, steps: int, deadline: float) -> None:
        """Until every start has settled or gone, or the steps or the time are used up."""
        for k in range(1, steps + 1):
            z = self.loop(self.recent[-1]).detach()
            z = torch.where(torch.isfinite(z) & (z.abs() < FAR), z, torch.inf)
            self.recent = [*self.recent[-self.most :], z]
            self.norms.append(z.abs().amax(dim=1))
            if k <= self.shown:
                self.paths.append(z)
            if k % BLOCK == 0:
                self.looks.append(z)
                if time.monotonic() > deadline or bool(((self.periods() > 0) | self.gone).all()):
                    return

    @property
    def gone(self) -> Tensor:
        return ~torch.isfinite(self.recent[-1]).all(dim=1)

    def periods(self) -> Tensor:
        """The period after which each start comes back; 0 for none."""
        z = self.recent[-1]
        found = torch.zeros(len(z), dtype=torch.long)
        for p in range(len(self.recent) - 1, 0, -1):
            found[relative(largest(z - self.recent[-1 - p]), z) < SETTLED] = p
        return found

    def approaches(self, state: Floats) -> Tensor:
        """Starts whose distance from a state has shrunk at every one of the last looks."""
        apart = [largest(look - torch.from_numpy(state)) for look in self.looks[-8:]]
        return (torch.stack(apart).diff(dim=0) < 0).all(dim=0)

    def drifting(self) -> Tensor:
        """Starts whose distance from the origin grows, quarter by quarter, without slowing down."""
        whole = torch.stack(self.norms[-(len(self.norms) // 4) * 4 :] or [largest(self.recent[-1])] * 4)
        quarters = whole.reshape(4, -1, whole.shape[1])
        peaks, lowest = quarters.amax(dim=1), quarters.amin(dim=1)
        rises = peaks.diff(dim=0)
        steady = (rises[1:] >= 0.99 * rises[:-1]).all(dim=0) & (rises > 1e-6 * (1 + peaks[:-1])).all(dim=0)
        return steady & (lowest[1:] > peaks[:-1]).all(dim=0)


class _Fates:
    """The orbits that were met, and the fate of each start."""

    def __init__(self, watch: _Watch) -> None:
        self.watch, self.loop = watch, watch.loop
        self.orbits: list[Orbit] = []
        self.of = torch.full((len(watch.recent[-1]),), WANDERS)
        self._settled()
        self._slow()
        self.of[(self.of == WANDERS) & (watch.gone | watch.drifting())] = LEAVES

    def _settled(self) -> None:
        last, periods = self.watch.recent[-1], self.watch.periods()
        waiting = (periods > 0) & ~self.watch.gone
        while bool(waiting.any()) and len(self.orbits) < MOST_ORBITS:
            row = int(torch.nonzero(waiting)[0])
            orbit = self._orbit(last[row : row + 1], int(periods[row]))
            states = torch.from_numpy(orbit.states)
            gaps = (last[:, None] - states).abs().amax(dim=2).amin(dim=1)
            here = waiting & (relative(gaps, last) < 10 * SAME)
            here[row] = True
            self._enter(orbit, here)
            waiting &= ~here
        self.of[waiting] = ELSEWHERE

    def _slow(self) -> None:
        """Starts that have not arrived, but come ever nearer to an attracting fixed point."""
        waiting = self.of == WANDERS
        waiting &= ~self.watch.gone
        if bool(waiting.any()):
            for orbit in periodic(self.loop, self.watch.recent[-1][waiting], 1):
                if orbit.attracts:
                    self._enter(orbit, waiting & (self.of == WANDERS) & self.watch.approaches(orbit.states[0]))

    def _orbit(self, last: Tensor, period: int) -> Orbit:
        """The orbit that a start has settled to, made exact by Newton's method where that works."""
        polished, good = newton(self.loop, last, period) if self.loop.size <= LARGE else (last, last.new_zeros(1))
        near = bool(good) and float(relative(largest(polished - last), last)) < 1e-3
        state = polished if near else last
        divisors = [p for p in range(1, period + 1) if period % p == 0]
        return next(orbit for p in divisors for orbit in self._returning(state, p, p == period))

    def _returning(self, state: Tensor, period: int, surely: bool) -> list[Orbit]:
        """The orbit of this period through a state, if it comes back."""
        path = self.loop.power(state, period)
        if not surely and float(relative(largest(path[-1] - state), state)) >= SAME:
            return []
        (growth,) = spectral_radii(self.loop, path[:-1])
        return [Orbit(torch.cat(path[:-1]).detach().numpy(), growth)]

    def _enter(self, orbit: Orbit, rows: Tensor) -> None:
        place = next((k for k, other in enumerate(self.orbits) if orbit.meets(other)), len(self.orbits))
        if place == len(self.orbits) and bool(rows.any()):
            self.orbits.append(orbit)
        self.of[rows] = place


def survey(
    loop: Loop, starts: Tensor, steps: int, *, most: int = 16, shown: int = 60, deadline: float = float("inf")
) -> Survey:
    """Run the starts, and say where each of them ends.

    Args:
        most: the longest period that is recognised. shown: steps that are kept as `paths`.
    """
    watch = _Watch(loop, starts, most, shown)
    watch.run(steps, deadline)
    fates = _Fates(watch)
    paths, last = torch.stack(watch.paths).numpy(), watch.recent[-1].numpy()
    return Survey(starts.numpy(), last, tuple(fates.orbits), tuple(fates.of.tolist()), paths)


def exponent(loop: Loop, orbit: Orbit | None, start: Floats, steps: int = 400) -> float:
    """The largest Lyapunov exponent, per step: of the orbit, or estimated from two nearby paths.

    Shape: start (n,), a state on the attractor.
    """
    if orbit is not None and not np.isnan(orbit.growth):
        return float(np.log(orbit.growth) / orbit.period) if orbit.growth > 0 else -np.inf
    z = torch.from_numpy(start)[None]
    apart = 1e-8 * (1 + float(z.abs().max()))
    other, total = z + apart / loop.size**0.5, 0.0
    for _ in range(steps):
        z, other = loop(z).detach(), loop(other).detach()
        gap = float((other - z).norm())
        if not 0 < gap < np.inf:
            return -np.inf if gap == 0 else np.inf
        total += np.log(gap / apart)
        other = z + (other - z) * (apart / gap)
    return float(total / steps)
