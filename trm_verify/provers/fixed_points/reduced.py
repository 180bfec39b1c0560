"""Systems without what is linear: kept states, and units without a kink in their interval, are eliminated.

What is left are the few units that bend, and a search over their multipliers costs little: arrays are so small that
NumPy is faster than Torch. Multipliers of the small system lift to multipliers of the whole one for which the columns
of all that was eliminated vanish, with the same bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trm_verify.kernel.units import PIECEWISE, kinks
from trm_verify.provers.fixed_points.newton import slopes_at
from trm_verify.provers.fixed_points.relaxed import Relaxed
from trm_verify.provers.problem import Floats

Mask = NDArray[np.bool_]

NEWTON = 3  # steps with one matrix, from a state that is nearly a fixed point
RESIDUAL = 1e-9
TINY = 1e-9


def bending(relaxed: Relaxed, lo: Floats, hi: Floats) -> Mask:
    """Whether each unit is not linear between `lo` and `hi`. Shape: (U,)."""
    bends = np.ones(len(lo), dtype=bool)
    for k, unit in relaxed.kinds:
        if unit.op in PIECEWISE:
            at = k.numpy()
            bends[at] = False
            for c in map(float, kinks(unit)):
                bends[at] |= (lo[at] < c) & (hi[at] > c)
    return bends


@dataclass(frozen=True)
class Linearised:
    """The system about the fixed point in the middle of the inputs: y = rows · (1, ξ) + inverse · (what units add).

    Unknowns y are the kept states, then the arguments; ξ are the inputs, scaled to [−1, 1].
    Shape: arguments, slopes, offsets (U,); rows (E, 1 + m); inverse (E, E); columns (E, U).
    """

    relaxed: Relaxed
    states: Floats
    arguments: Floats
    slopes: Floats
    offsets: Floats
    rows: Floats
    inverse: Floats
    columns: Floats

    @classmethod
    def at(cls, relaxed: Relaxed, unknown: Floats) -> Linearised | None:
        """From a start (kept states, arguments of the active units); None when that is not nearly a fixed point.

        Raises `LinAlgError` for a singular system, as all that is built on it may.
        """
        rows, m, kept = relaxed.rows.numpy(), relaxed.inputs, len(relaxed.system.kept)
        active, middle, y = relaxed.active.numpy(), relaxed.middle.numpy(), unknown
        given, columns = rows[:, : 1 + m], rows[:, relaxed.first :]
        constant, kept_columns = given[:, 0] + given[:, 1:] @ middle, rows[:, 1 + m : relaxed.first]
        a, inverse = np.zeros(columns.shape[1]), None
        for _ in range(NEWTON):
            a[active] = y[kept:]
            values = relaxed.values(torch.from_numpy(a)).numpy()
            error = constant + kept_columns @ y[:kept] + columns @ values
            error[kept:] -= y[kept:]
            if inverse is not None and np.abs(error).max(initial=0.0) < RESIDUAL:
                break
            if inverse is None:
                slopes = slopes_at(relaxed, torch.from_numpy(a)).numpy()
                matrix = np.concatenate([kept_columns, columns[:, active] * slopes[active]], axis=1)
                matrix[kept:, kept:] -= np.eye(len(active))
                inverse = -np.linalg.inv(matrix)
            y = y + inverse @ error
        else:
            return None
        offsets = values - slopes * a
        moved = inverse @ np.column_stack([constant + columns @ offsets, given[:, 1:] * relaxed.reach.numpy()])
        return cls(relaxed, y[:kept], a, slopes, offsets, moved, inverse, columns)

    @property
    def reach(self) -> Floats:
        """How far each unknown moves with the inputs, to first order. Shape: (E,)."""
        found: Floats = np.abs(self.rows[:, 1:]).sum(axis=1)
        return found


class Reduced:
    """The unknowns over the columns (1, ξ, values of the units that bend), and the small system of these units.

    Shape: rows (E, 1 + m + R), inverse (E, E), slopes and offsets (U,) of the linear units (0 for the others); `rest`:
    the units that bend (R,), of which those in `active` (A,) have arguments, the unknowns `places` (A,).
    """

    def __init__(self, about: Linearised, bends: Mask) -> None:
        r = self.relaxed = about.relaxed
        kept, m = len(r.system.kept), r.inputs
        self.inputs, self.rest = m, np.flatnonzero(bends)
        self.active = np.flatnonzero(np.isin(self.rest, r.active.numpy()))
        self.places = kept + np.searchsorted(r.active.numpy(), self.rest[self.active])
        spread = about.inverse @ about.columns[:, self.rest]  # what the values add, beyond slope · argument + offset
        s, t = about.slopes[self.rest], about.offsets[self.rest]
        rows = np.concatenate([about.rows, spread], axis=1)
        rows[:, 0] -= spread @ t
        own = spread[:, self.active] * s[self.active]
        small = np.linalg.inv(np.eye(len(self.active)) + own[self.places])
        self.rows = rows - own @ (small @ rows[self.places])
        self.inverse = about.inverse - own @ (small @ about.inverse[self.places])
        self.slopes, self.offsets = (np.where(bends, 0.0, v) for v in (about.slopes, about.offsets))
        kinds = [(torch.from_numpy(np.flatnonzero(np.isin(self.rest, k.numpy()))), unit) for k, unit in r.kinds]
        self.units = replace(r, kinds=[(k, unit) for k, unit in kinds if len(k)])
        self.small = np.zeros((len(self.rest), self.rows.shape[1]))
        self.small[self.active] = self.rows[self.places]

    def functionals(self, rows: Floats) -> tuple[Floats, Floats]:
        """Rows over the columns of the whole system, (F, width), over those of the small one; what they read of y."""
        r = self.relaxed
        units = rows[:, r.first :]
        unknowns = np.concatenate([rows[:, 1 + r.inputs : r.first], (units * self.slopes)[:, r.active.numpy()]], axis=1)
        given = rows[:, : 1 + r.inputs] * np.concatenate([[1.0], r.reach.numpy()])
        given[:, 0] = rows[:, 0] + rows[:, 1 : 1 + r.inputs] @ r.middle.numpy() + units @ self.offsets
        return np.concatenate([given, units[:, self.rest]], axis=1) + unknowns @ self.rows, unknowns

    def lifted(self, multipliers: Floats) -> Floats:
        """Multipliers of the whole system, but for what the functionals read of y. Shape: (F, R) to (F, E)."""
        found: Floats = multipliers[:, self.active] @ self.inverse[self.places]
        return found

    def tangents(self, lo: Floats, hi: Floats) -> tuple[Floats, Floats]:
        """Slopes of the chords; and from below, for a ReLU of either sign, of that tangent at 0 nearer the graph.

        Shape: lo, hi and the results (…, R).
        """
        low, high = (self.units.values(torch.from_numpy(end)).numpy() for end in (lo, hi))
        chord = (high - low) / np.maximum(hi - lo, 1e-12)
        lower = chord.copy()
        for k, unit in self.units.kinds:
            if unit.op == "relu":
                at = (..., k.numpy())
                lower[at] = np.where((lo[at] < 0) & (hi[at] > 0), hi[at] > -lo[at], chord[at])
        return chord, lower

    def ends(self, lo: Floats, hi: Floats) -> Floats:
        """Slopes at both ends, those of the tangents at a kink between them. Shape: (2, R)."""
        return np.stack([slopes_at(self.units, torch.from_numpy(end)).numpy() for end in (lo, hi)])

    def candidates(self, lo: Floats, hi: Floats) -> tuple[Floats, Floats]:
        """See `Relaxed.places`. Shape: lo, hi (…, R)."""
        arguments, values = self.units.places(torch.from_numpy(lo), torch.from_numpy(hi))
        return arguments.numpy(), values.numpy()


class SmallDual:
    """Lower bounds of functionals over the small system. Shape: rows (F, 1 + m + R), shift (F, R), lo and hi (F, R)."""

    def __init__(self, reduced: Reduced, rows: Floats, shift: Floats, lo: Floats, hi: Floats) -> None:
        self.reduced, self.rows, self.shift = reduced, rows, shift
        self.first = 1 + reduced.inputs
        self.arguments, self.values = reduced.candidates(lo, hi)

    def bound(self, multipliers: Floats) -> tuple[Floats, Floats, Floats]:
        """The bounds (F,), with the coefficients of all columns and the units' terms, as `slope` reads them."""
        total = self.rows + multipliers @ self.reduced.small
        terms = total[:, self.first :] * self.values - (multipliers - self.shift) * self.arguments
        found = total[:, 0] - np.abs(total[:, 1 : self.first]).sum(axis=1) + terms.min(axis=0).sum(axis=1)
        return found, total, terms

    def slope(self, total: Floats, terms: Floats) -> Floats:
        """Derivative of the bounds in the multipliers. Shape: (F, R)."""
        chosen, small = terms.argmin(axis=0), self.reduced.small
        at, image = np.choose(chosen, self.arguments), np.choose(chosen, self.values)
        found: Floats = (
            small[:, 0] - np.sign(total[:, 1 : self.first]) @ small[:, 1 : self.first].T
            + image @ small[:, self.first :].T - at
        )  # fmt: skip
        return found

    def chords(self, slopes: Floats) -> Floats:
        """Multipliers that are exact for units of these slopes. Shape: slopes (R,) or (F, R), result (F, R)."""
        square = self.reduced.small[:, self.first :]
        right = self.shift + self.rows[:, self.first :] * slopes
        if slopes.ndim == 1:
            shared: Floats = np.linalg.solve((np.eye(len(square)) - square * slopes).T, right.T).T.astype(np.float64)
            return shared
        matrices = np.eye(len(square)) - square * slopes[:, None]
        found: Floats = np.linalg.solve(matrices.transpose(0, 2, 1), right[:, :, None])[:, :, 0].astype(np.float64)
        return found

    def best(self, slopes: Floats, lower: Floats, times: int) -> Floats:
        """The best multipliers among those of chords and, so many times, those adapted to the signs they lead to.

        As CROWN does it: a unit takes its lower slope where a functional looks at its lower side. Shape: slopes (R,) or
        (F, R); lower the same, the slopes of tangents from below, or of chords.
        """
        return self._adapted(slopes, lower, times)[1]

    def vertex(self, slopes: Floats, lower: Floats, times: int, ends: Floats, rounds: int) -> Floats:
        """As `best`, and then in each round, for each functional, that change of one unit's slope which gains most.

        The largest bound is met where units have slopes of their tangents, or of their chords, but for ties. Shape:
        ends (2, R), the slopes that a unit may change to.
        """
        chosen, found = self._adapted(slopes, lower, times)
        bound, total, _ = self.bound(found)
        rows = np.arange(len(found))
        for _ in range(rounds if found.size else 0):
            # for row vectors x = (q + …)(I − Q D)⁻¹, a change of one entry of D moves x by a multiple of a row of the
            # inverse (Sherman and Morrison)
            inverse = np.linalg.inv(np.eye(len(slopes)) - self.reduced.small[:, self.first :] * chosen[:, None])
            moved = inverse @ self.reduced.small
            change, own = ends[:, None] - chosen, np.diagonal(moved[:, :, self.first :], axis1=1, axis2=2)
            size = change * total[:, self.first :] / np.where(np.abs(1 - change * own) > TINY, 1 - change * own, np.inf)
            trials = found[:, None] + size[..., None] * inverse  # (2, F, R, R)
            totals = total[:, None] + size[..., None] * moved
            w, v = totals[..., self.first :], trials - self.shift[:, None]
            terms = [w * u[:, None] - v * a[:, None] for u, a in zip(self.values, self.arguments, strict=True)]
            linear = totals[..., 0] - np.abs(totals[..., 1 : self.first]).sum(axis=-1)
            bounds = linear + np.minimum.reduce(terms).sum(axis=-1)
            side, unit = np.divmod(bounds.transpose(1, 0, 2).reshape(len(found), -1).argmax(axis=1), len(slopes))
            better = bounds[side, rows, unit] > bound + TINY
            if not better.any():
                break
            at = side[better], rows[better], unit[better]
            bound[better], found[better], total[better] = bounds[at], trials[at], totals[at]
            chosen[at[1:]] = ends[at[0], at[2]]
        return found

    def _adapted(self, slopes: Floats, lower: Floats, times: int) -> tuple[Floats, Floats]:
        """The slopes of the units for each functional, and the multipliers that they lead to. Shape: (F, R) each."""
        found, chosen = self.chords(slopes), np.broadcast_to(slopes, (len(self.rows), slopes.shape[-1])).copy()
        bound, total, _ = self.bound(found)
        for _ in range(times):
            other_slopes = np.where(total[:, self.first :] > 0, lower, slopes)
            trial = self.chords(other_slopes)
            other, reached, _ = self.bound(trial)
            better = (other > bound)[:, None]
            bound = np.maximum(bound, other)
            found, total = np.where(better, trial, found), np.where(better, reached, total)
            chosen = np.where(better, other_slopes, chosen)
        return chosen, found


class Ascent:
    """Adam on the multipliers, keeping its state between calls, so that the sets may change under it."""

    def __init__(self, rate: float, decay: float) -> None:
        self.rate, self.decay, self.count = rate, decay, 0
        self.mean: Any = 0.0
        self.square: Any = 0.0

    def run(self, dual: SmallDual, multipliers: Floats, steps: int) -> Floats:
        """The best multipliers met in some steps, functional by functional."""
        best, total, terms = dual.bound(multipliers)
        found = multipliers
        for _ in range(steps):
            slope = dual.slope(total, terms)
            self.count += 1
            self.mean = 0.9 * self.mean + 0.1 * slope
            self.square = 0.95 * self.square + 0.05 * slope**2
            size = np.sqrt(self.square / (1 - 0.95**self.count)) + 1e-12
            multipliers = multipliers + self.rate / (1 - 0.9**self.count) * self.mean / size
            self.rate *= self.decay
            bound, total, terms = dual.bound(multipliers)
            found = np.where((bound > best)[:, None], multipliers, found)
            best = np.maximum(bound, best)
        return found
