"""A semidefinite program with one multiplier a unit, each of which enters with rank two, by Newton's method.

No solver for general programs is needed, and no modelling language: gradient and Hessian of the barrier are a few
products of matrices of the program's own size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, eigvalsh

from trm_verify.provers.problem import Floats

GAP = 1e-5  # of the optimum, relatively
LEAST = 1e-10  # of the first g: an optimum below it counts as 0
STEPS, GROWTH = 400, 8.0  # of Newton's method in all; of the weight of the objective


@dataclass(frozen=True)
class Program:
    """Minimize g with base + Σ λ_k (e_k v_kᵀ + v_k e_kᵀ) + g·diag(tail) ⪰ 0, λ ≥ 0.

    The first columns belong to the units, where `base` is ≤ 0 and `tail` is 0; on the others `tail` is 1.

    Shape: base (size, size), rows v (units, size), tail (size,).
    """

    base: Floats
    rows: Floats
    tail: Floats

    def minimize(self, deadline: float) -> tuple[Floats, float] | None:
        """(λ, g) within GAP of the optimum, strictly inside; None when no λ was found for which there is a g.

        Raises:
            LinAlgError: doubles are not enough.
        """
        if not len(self.rows):
            return np.zeros(0), float(eigvalsh(-self.base)[-1]) * (1 + GAP)
        start = self._start(deadline)
        return None if start is None else self._descend(*start, GAP, deadline)

    def _start(self, deadline: float) -> tuple[Floats, float] | None:
        """Some λ that make the units' own block definite, and a g for them."""
        count = len(self.rows)
        own, multipliers = self.rows[:, :count], np.ones(count)
        least = float(eigvalsh(own + own.T)[0])
        if least <= 0:
            # the same program for that block alone, g on its whole diagonal: definite as soon as g is below 0
            apart = Program(np.zeros((count, count)), own, np.ones(count))
            multipliers, g = apart._descend(multipliers, 1 - least, 0.0, deadline, lambda g: g < 0)
            if g >= 0:
                return None
        scaled = multipliers[:, None] * own
        try:
            needed = float(eigvalsh(-self.base[:count, :count], scaled + scaled.T)[-1])
            multipliers = multipliers * (2 * needed + 1e-6)
            block = self._matrix(multipliers, 0.0)
            upper = cholesky(block[:count, :count], lower=False)
        except LinAlgError:
            return None
        cross = block[count:, :count]
        schur = cross @ cho_solve((upper, False), cross.T) - block[count:, count:]
        return multipliers, 2 * float(eigvalsh(schur)[-1]) + 1e-12

    def _matrix(self, multipliers: Floats, g: float) -> Floats:
        total = self.base + np.diag(g * self.tail)
        weighted = multipliers[:, None] * self.rows
        total[: len(weighted)] += weighted
        total[:, : len(weighted)] += weighted.T
        return total

    def _value(self, weight: float, multipliers: Floats, g: float) -> float:
        """The objective with its barrier; infinity outside."""
        if not multipliers.min() > 0:
            return float("inf")
        try:
            upper = cholesky(self._matrix(multipliers, g), lower=False)
        except LinAlgError:
            return float("inf")
        return float(weight * g - 2 * np.log(np.diag(upper)).sum() - np.log(multipliers).sum())

    def _descend(
        self, multipliers: Floats, g: float, gap: float, deadline: float,
        enough: Callable[[float], bool] = lambda g: False,
    ) -> tuple[Floats, float]:  # fmt: skip
        """Along the central path, until the gap (relative to g) is reached, g is low `enough`, or time is over.

        Every point on the way is strictly inside, hence as good as any bound of its own g.
        """
        barriers, least = sum(self.rows.shape), LEAST * abs(g)
        weight = barriers / abs(g)
        for _ in range(STEPS):
            if enough(g) or time.monotonic() > deadline:
                break
            slope, curve = self._derivatives(weight, multipliers, g)
            move = -np.linalg.solve(curve, slope)
            decrement = float(-slope @ move)
            if decrement < 0.1:  # near enough to the centre for this weight
                if barriers / weight <= gap * max(abs(g), least):
                    break
                weight *= GROWTH
                continue
            limit, length = self._value(weight, multipliers, g), 1.0
            while True:
                after, lower = multipliers + length * move[:-1], g + float(length * move[-1])
                if self._value(weight, after, lower) <= limit - 0.1 * length * decrement:
                    break
                length /= 2
                if length < 1e-9:
                    return multipliers, g
            multipliers, g = after, lower
        return multipliers, g

    def _derivatives(self, weight: float, multipliers: Floats, g: float) -> tuple[Floats, Floats]:
        """Gradient and Hessian in (λ, g). With Z the inverse, the traces of Z(e_j v_jᵀ + v_j e_jᵀ)Z(…) are short."""
        count = len(multipliers)
        inverse = np.linalg.inv(self._matrix(multipliers, g))
        inverse = (inverse + inverse.T) / 2
        seen = inverse @ self.rows.T
        mixed = seen[:count]
        slope = np.concatenate([-2 * np.diag(mixed) - 1 / multipliers, [weight - self.tail @ np.diag(inverse)]])
        curve = np.empty((count + 1, count + 1))
        curve[:count, :count] = 2 * (inverse[:count, :count] * (self.rows @ seen) + mixed * mixed.T)
        curve[range(count), range(count)] += multipliers**-2.0
        tailed = inverse * self.tail
        curve[:count, -1] = curve[-1, :count] = 2 * np.einsum("ij,ji->i", tailed[:count], seen)
        curve[-1, -1] = float(np.sum(tailed * tailed.T))
        return slope, curve
