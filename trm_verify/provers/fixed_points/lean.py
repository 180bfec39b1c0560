"""Enclosures by continuity where few units bend: the search of `continuity` on the small system of these units.

The others only have to stay on their side of every kink. Their intervals come last, by one row of multipliers each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trm_verify.kernel.units import kinks
from trm_verify.provers.fixed_points.enclosed import Enclosed
from trm_verify.provers.fixed_points.reduced import Ascent, Linearised, Mask, Reduced, SmallDual, bending
from trm_verify.provers.fixed_points.relaxed import Relaxed
from trm_verify.provers.problem import Floats

FEW = 0.5  # share of the units that may bend
WIDER = 1.25  # the first intervals, compared to what the derivative says
GROWING = 4  # times that more units are seen to bend
ROUNDS, CHORDS, INNER = 60, 3, 4  # rounds of moving the intervals, those by chords alone, steps of ascent in the rest
ADAPTED, CHANGES = 2, 3  # for functionals: see `SmallDual.best` and `vertex`
INFLATE = 1e-3  # how much wider the intervals are than what the bounds say
SETTLED = 3e-3
LEAST = 1e-7
COSTLY = 1 / 128  # share of what a functional loses that the relaxation of one unit costs, from which it is cut
GAIN = 1 / 512  # of what it loses; a cut that gains less is not kept
DEPTH = 1  # cuts one after the other: see docs/decisions/0032
SLIGHT = 0.02  # share of an interval beyond 0, above which each side of it looks at its own half


class Bent:
    """Intervals of the arguments that bend: self-consistent, and as small as a few rounds make them."""

    def __init__(self, reduced: Reduced, lo: Floats, hi: Floats) -> None:
        self.reduced, self.lo, self.hi = reduced, lo, hi
        self.active, size = reduced.active, len(reduced.rest)
        self.count = len(self.active)
        self.rows = np.zeros((2 * self.count, reduced.small.shape[1]))
        self.shift = np.zeros((2 * self.count, size))
        self.shift[np.arange(self.count), self.active] = 1.0
        self.shift[self.count + np.arange(self.count), self.active] = -1.0
        self.low = self.high = np.zeros(self.count)
        self.multipliers = np.zeros_like(self.shift)

    @property
    def crossing(self) -> Mask:
        """Arguments of either sign; one that hardly crosses 0 may turn out not to, on its whole interval."""
        found: Mask = np.minimum(-self.lo, self.hi) > SLIGHT * (self.hi - self.lo)
        return found

    def dual(self) -> SmallDual:
        """Each side of an argument that may have either sign looks at its own half only."""
        lo, hi = (np.tile(end, (2 * self.count, 1)) for end in (self.lo, self.hi))
        rows = np.flatnonzero(self.crossing[self.active])
        hi[rows, self.active[rows]] = 0.0
        lo[self.count + rows, self.active[rows]] = 0.0
        return SmallDual(self.reduced, self.rows, self.shift, lo, hi)

    def search(self, deadline: float) -> bool:
        """Move the intervals to what the bounds say, until they hold and shrink no more."""
        ascent, before = Ascent(0.05, 0.99), np.inf
        for count in range(ROUNDS):
            dual = self.dual()
            if count < CHORDS:
                self.multipliers = dual.best(*self.reduced.tangents(self.lo, self.hi), 1)
            else:
                self.multipliers = ascent.run(dual, self.multipliers, INNER)
            strict = self.read(dual)
            size = float((self.high - self.low).mean()) if self.count else 0.0
            if not size < 1e6 or time.monotonic() > deadline:
                return False
            if strict and abs(size - before) <= SETTLED * size:
                return True
            before = size
            self.move(INFLATE if count < ROUNDS // 2 else 30 * INFLATE)
        return False

    def read(self, dual: SmallDual) -> bool:
        """Take the ends that the bounds give; whether they lie strictly inside, and on the same side of 0."""
        found, _, _ = dual.bound(self.multipliers)
        low, high = found[: self.count], -found[self.count :]
        lo, hi, crossing = self.lo[self.active], self.hi[self.active], self.crossing[self.active]
        self.low, self.high = np.where(crossing, np.minimum(low, 0), low), np.where(crossing, np.maximum(high, 0), high)
        slack = LEAST / 8
        settled = (lo < 0) & (hi > 0) & ((self.low > 0) | (self.high < 0))  # the kernel would look at halves
        return bool(((self.low > lo + slack) & (self.high < hi - slack) & ~settled).all())

    def move(self, inflate: float) -> None:
        """Take the bounds, a little wider, as the next intervals."""
        self.lo, self.hi = self.lo.copy(), self.hi.copy()
        self.lo[self.active], self.hi[self.active] = wider(self.low, self.high, inflate)

    def others(self) -> tuple[Floats, Floats, Floats]:
        """Both ends of all unknowns, by one row of multipliers each. Shape: (E,), (E,), (E, R)."""
        reduced, none = self.reduced, np.zeros((1, len(self.lo)))
        dual = SmallDual(reduced, reduced.rows, none, self.lo[None], self.hi[None])
        multipliers = dual.chords(reduced.tangents(self.lo, self.hi)[0])
        low, total, terms = dual.bound(multipliers)
        high = total[:, 0] + np.abs(total[:, 1 : dual.first]).sum(axis=1) + terms.max(axis=0).sum(axis=1)
        return low, high, multipliers


def wider(low: Floats, high: Floats, inflate: float) -> tuple[Floats, Floats]:
    middle, reach = (low + high) / 2, np.abs(high - low) / 2 * (1 + inflate) + LEAST
    return middle - reach, middle + reach


def enclose(about: Linearised, deadline: float) -> Enclosed | None:
    """Intervals that hold the fixed point of every input; None where too many units bend, or the search fails."""
    r = about.relaxed
    kept, active = len(r.system.kept), r.active.numpy()
    reach = WIDER * about.reach[kept:] + 2 * LEAST
    lo, hi = about.arguments.copy(), about.arguments.copy()
    lo[active], hi[active] = lo[active] - reach, hi[active] + reach
    for _ in range(GROWING):
        bends = bending(r, lo, hi)
        if bends.sum() > FEW * len(bends):
            return None
        reduced = Reduced(about, bends)
        bent = Bent(reduced, lo[reduced.rest], hi[reduced.rest])
        if not bent.search(deadline):
            return None
        low, high, rows = bent.others()
        low[reduced.places], high[reduced.places] = bent.low, bent.high
        first, last = wider(low, high, INFLATE)
        first[reduced.places], last[reduced.places] = bent.lo[bent.active], bent.hi[bent.active]
        lo, hi = lo.copy(), hi.copy()
        lo[active], hi[active] = first[kept:], last[kept:]
        if not (bending(r, lo, hi) & ~bends).any():
            break
    else:
        return None
    straight = np.setdiff1d(np.arange(len(low)), reduced.places)
    sides = [(int(i), 0) for i in straight] + [(int(i), sign) for sign in (1, -1) for i in reduced.places]
    multipliers = np.concatenate(
        [reduced.lifted(rows[straight]) + reduced.inverse[straight], reduced.lifted(bent.multipliers)]
    )
    idle, least, most = plainly_idle(r, lo, hi, np.stack([first, last])[:, :kept])
    if len(idle):
        unknowns = kept + np.searchsorted(active, idle)
        low[unknowns], high[unknowns] = least, most
        lo[idle], hi[idle] = first[unknowns], last[unknowns] = wider(least, most, INFLATE)
        places = np.searchsorted(straight, unknowns)
        multipliers[places] = 0.0
        multipliers[places, unknowns] = 1.0
    intervals, box = (torch.from_numpy(lo), torch.from_numpy(hi)), torch.from_numpy(np.stack([first, last])[:, :kept])
    return Enclosed(r, *intervals, box, torch.from_numpy(low), torch.from_numpy(high), sides, multipliers, reduced)


def plainly_idle(relaxed: Relaxed, lo: Floats, hi: Floats, kept: Floats) -> tuple[Floats, Floats, Floats]:
    """The units of which interval arithmetic already shows that they are constant, and the ends of their arguments.

    Their intervals may be as wide as that: nothing else depends on them, and a row of the equations shows them alone.

    Shape: lo, hi (U,); kept (2, kept); each result (K,).
    """
    r, active = relaxed, relaxed.active.numpy()
    _, values = r.places(torch.from_numpy(lo), torch.from_numpy(hi))
    least, most = values.amin(dim=0).numpy(), values.amax(dim=0).numpy()
    rows = r.rows.numpy()[kept.shape[1] :]
    given, states, units = rows[:, 1 : 1 + r.inputs], rows[:, 1 + r.inputs : r.first], rows[:, r.first :]
    middle = rows[:, 0] + given @ r.middle.numpy() + states @ kept.mean(axis=0) + units @ (least + most) / 2
    reach = np.abs(given) @ r.reach.numpy() + np.abs(states) @ np.ptp(kept, axis=0) / 2
    reach = reach + np.abs(units) @ (most - least) / 2
    low, high = lo.copy(), hi.copy()
    low[active], high[active] = wider(middle - reach, middle + reach, INFLATE)
    found = ((least == most) & (lo < hi) & ~bending(r, low, high))[active]
    return active[found], (middle - reach)[found], (middle + reach)[found]


@dataclass
class Tree:
    """A lower bound of one functional, by multipliers of the whole system (E,), or by those of the parts of a cut.

    Attributes:
        cut: the unit, and the kink of it at which the fixed points are parted; None for a leaf.
        parts: below the kink, and above it.
    """

    least: float
    multipliers: Floats
    cut: tuple[int, float] | None = None
    parts: tuple[Tree, ...] = ()

    def preorder(self) -> Iterator[Tree]:
        yield self
        for part in self.parts:
            yield from part.preorder()

    def part(self, cut: tuple[int, float], parts: Sequence[Tree], gain: float) -> None:
        """Take the parts of a cut if they gain more than that."""
        parted = min(part.least for part in parts)
        if parted > self.least + gain:
            self.least, self.cut, self.parts = parted, cut, tuple(parts)


def bounded(reduced: Reduced, rows: Floats, lo: Floats, hi: Floats) -> list[Tree]:
    """Lower bounds of functionals of the whole system, where the units that bend lie so.

    Where the relaxation of one unit costs a functional much, it is bounded below and above that unit's kink.

    Shape: rows (F, width); lo, hi (R,).
    """
    own, unknowns = reduced.functionals(rows)
    dual = SmallDual(reduced, own, np.zeros((1, len(lo))), lo[None], hi[None])
    found = dual.vertex(*reduced.tangents(lo, hi), ADAPTED, reduced.ends(lo, hi), CHANGES)
    lo, hi = (np.broadcast_to(end, (len(own), len(end))) for end in (lo, hi))
    return _trees(dual, found, unknowns @ reduced.inverse, lo, hi, DEPTH)


def _trees(dual: SmallDual, found: Floats, read: Floats, lo: Floats, hi: Floats, depth: int) -> list[Tree]:
    """One for each functional, with at most so many cuts on the way to a leaf; all parts of one depth at once.

    Shape: found (F, R), the multipliers at the root; read (F, E), those of what the functionals read of all unknowns;
    lo, hi (F, R), where the units that bend lie.
    """
    reduced = dual.reduced
    least, total, terms = dual.bound(found)
    trees = [Tree(float(b), own) for b, own in zip(least, read + reduced.lifted(found), strict=True)]
    costs = np.ptp(terms, axis=0)
    if not depth or not costs.size:
        return trees
    losses = np.abs(total[:, 1 : dual.first]).sum(axis=1) + costs.sum(axis=1) + LEAST
    cuts: dict[int, tuple[int, float]] = {}  # functional: place of the unit, and kink
    for j in np.flatnonzero(costs.max(axis=1) >= COSTLY * losses).tolist():
        place = int(costs[j].argmax())
        at = map(float, kinks(reduced.relaxed.system.units[reduced.rest[place]]))
        kink = next((c for c in at if lo[j, place] < c < hi[j, place]), None)
        if kink is not None:
            cuts[j] = place, kink
    if not cuts:
        return trees
    size, twice = len(cuts), [*cuts, *cuts]
    lo, hi = lo[twice], hi[twice]
    for k, (place, kink) in enumerate(cuts.values()):
        hi[k, place] = lo[size + k, place] = kink
    halves = SmallDual(reduced, dual.rows[twice], dual.shift, lo, hi)
    parts = _trees(halves, halves.best(*reduced.tangents(lo, hi), ADAPTED), read[twice], lo, hi, depth - 1)
    for (j, (place, kink)), *both in zip(cuts.items(), parts[:size], parts[size:], strict=True):
        trees[j].part((int(reduced.rest[place]), kink), both, GAIN * losses[j])
    return trees
