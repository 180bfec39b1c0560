"""A small ℓ2 Lipschitz constant of the logits at the fixed point, with the multipliers that prove it (R16).

Units whose slope is known are eliminated. What is left is a semidefinite program with one multiplier a unit; each of
them enters with rank two, so that Newton's method on the barrier needs no solver for general programs, and no modelling
language. The multipliers of the eliminated units follow in closed form (proofs/lipschitz.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, eigvalsh, qr

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, quantized, round_up
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import rows_of
from trm_verify.kernel.rules.lipschitz import Layer, layer_of, lipschitz_matrix
from trm_verify.provers.factors import as_floats, factor
from trm_verify.provers.problem import Floats, Problem

LARGEST = 600  # states that can move; time goes with the cube of that
GAP = 1e-5  # of the program's optimum, relatively
SLACKS = (1e-6, 1e-5, 4e-5, 1e-3, 1e-1)  # what γ is raised by, relatively, for a short factor
RIDGES = (1e-14, 1e-12, 1e-9, 1e-6, 1e-3)  # of the matrix that has to be inverted for the eliminated units, relatively
LEAST = 1e-10  # what γ² below this counts as, relatively: no input moves anything
BITS = 44  # of the largest multiplier
STEPS, GROWTH = 400, 8.0  # of Newton's method in all; of the weight of the objective


@dataclass(frozen=True)
class LipschitzAttempt:
    """A constant with its derivation, accepted by the kernel's rule, or the reason why not.

    Attributes:
        varying: units whose slope may be anything in [0, 1]. seconds: the kernel's rule included.
    """

    seconds: float
    constant: Fraction | None = None
    derivation: Derivation | None = None
    varying: int = 0
    reason: str = ""


def prove_lipschitz(problem: Problem, premise: Derivation, deadline: float = float("inf")) -> LipschitzAttempt:
    """The best constant that the rule can show, up to about GAP.

    Args:
        premise: concludes exactly one fixed point for each input: R4, a convergence, or an enclosure.
        deadline: on the monotonic clock.
    """
    started = time.perf_counter()

    def spent() -> float:
        return time.perf_counter() - started

    varying = 0
    try:
        layer, _, _ = layer_of(problem.graph, problem.conclude(premise))
        form = MovingPart.of(layer)
        varying = len(form.varying)
        last = CheckError("DEFINITE", "multipliers with a finite constant", "none")
        for square, multipliers in _candidates(form, deadline):
            try:
                constant, witness = _witness(layer, form, square, multipliers)
                done = premise.then("lipschitz", **witness)
                problem.conclude(done)
                return LipschitzAttempt(spent(), constant, done, varying)
            except CheckError as error:
                last = error
        raise last
    except CheckError as error:
        return LipschitzAttempt(spent(), varying=varying, reason=str(error))


@dataclass(frozen=True)
class MovingPart:
    """The layer over the states that can move, in doubles, the input replaced by as many numbers as matter.

    Shape: away (k, k), given (k, r), readout (logits, k); lines and varying index these k states.
    """

    away: Floats
    given: Floats
    readout: Floats
    lines: list[int]
    varying: list[int]

    @classmethod
    def of(cls, layer: Layer) -> MovingPart:
        moving = layer.moving
        if len(moving) > LARGEST:
            raise CheckError("LIMIT", f"at most {LARGEST} states that can move", len(moving))
        n = len(layer.slopes)
        away, given = (as_floats(rows, layer.exp) for rows in (layer.away, layer.given))
        given = given[moving].reshape(len(moving), -1)
        if given.shape[1] > len(moving) > 0:  # UUᵀ is all that matters: a square factor of it
            given = qr(given.T, mode="r")[0][: len(moving)].T
        readout = as_floats(layer.readout.rows, layer.readout.exp).reshape(-1, n)[:, moving]
        lines = [place for place, k in enumerate(moving) if layer.slopes[k] == 1]
        return cls(
            away[np.ix_(moving, moving)], given, readout, lines, sorted(set(range(len(moving))) - set(lines))
        )  # fmt: skip

    def square(self, multipliers: Floats) -> float:
        """The smallest γ² with these multipliers; infinity if there is none."""
        own = multipliers.T @ self.away
        driven = multipliers.T @ self.given
        try:
            found = eigvalsh(driven @ driven.T, own + own.T - self.readout.T @ self.readout)
        except LinAlgError:
            return float("inf")
        return float(max(found[-1], 0.0)) if len(found) else 0.0

    def whole(self, own: Floats, square: float, ridge: float) -> Floats:
        """The multipliers of all states from those of the varying units, the others being the best for γ².

        Their rows P solve UₛUₛᵀP = γ²(I − W)ₛ − UₛUᵀΛ; where U leaves directions out, a small ridge gives these a large
        multiplier, as they should have.
        """
        found = np.zeros_like(self.away)
        found[self.varying, self.varying] = own
        if self.lines:
            lines = self.given[self.lines]
            gram = lines @ lines.T
            scale = float(np.sum(self.given**2)) / len(self.given) or 1.0
            gram += ridge * scale * np.eye(len(gram))
            square = max(square, LEAST * float(np.sum(self.readout**2)) * scale)
            right = square * self.away[self.lines] - lines @ self.given.T @ found
            found[self.lines] = np.linalg.solve(gram, right)
        return found


def _candidates(form: MovingPart, deadline: float) -> list[tuple[float, Floats]]:
    """γ² with multipliers of all states that can move, best first."""
    if not len(form.away):
        return [(0.0, form.away)]
    try:
        found = Program.of(form).minimize(deadline)
    except LinAlgError:
        raise CheckError("DEFINITE", "I − W regular over the units whose slope is 1", "a singular matrix") from None
    if found is None:
        return []
    own, square = found
    options = [form.whole(own, square * (1 + GAP), ridge) for ridge in RIDGES[: len(RIDGES) if form.lines else 1]]
    return sorted([(form.square(m), m) for m in options], key=lambda pair: pair[0])


@dataclass(frozen=True)
class Program:
    """Minimize g with base + Σ λ_k (e_k v_kᵀ + v_k e_kᵀ) + g·diag(tail) ⪰ 0, λ ≥ 0.

    Shape: base (size, size), rows v (units, size), tail (size,).
    """

    base: Floats
    rows: Floats
    tail: Floats

    @classmethod
    def of(cls, form: MovingPart) -> Program:
        """γ²‖Δx‖² − ‖Δlogits‖² + 2ΔzᵀΛ(Δz − Δa) over the varying units and the input.

        Raises:
            LinAlgError: the other units do not follow from these and the input.
        """
        own, lines, count = form.varying, form.lines, len(form.varying)
        # the lines as functions of the rest: Δz = by · (Δz of the varying units, Δx)
        by = np.zeros((len(form.away), count + form.given.shape[1]))
        by[own, range(count)] = 1.0
        right = np.hstack([-form.away[np.ix_(lines, own)], form.given[lines]])
        by[lines] = np.linalg.solve(form.away[np.ix_(lines, lines)], right)
        rows = form.away[own] @ by
        rows[:, count:] -= form.given[own]
        logits = form.readout @ by
        return cls(-logits.T @ logits, rows, np.repeat([0.0, 1.0], [count, form.given.shape[1]]))

    def minimize(self, deadline: float) -> tuple[Floats, float] | None:
        """(λ, g) within GAP of the optimum, strictly inside; None when no λ was found for which there is a g."""
        count, size = self.rows.shape
        if not count:
            return np.zeros(0), float(eigvalsh(-self.base)[-1]) * (1 + GAP)
        start = self._start(deadline)
        if start is None:
            return None
        return self.descend(*start, GAP, deadline)

    def _start(self, deadline: float) -> tuple[Floats, float] | None:
        """Some λ that keep the varying units apart, large enough for the logits, and a g for them."""
        count = len(self.rows)
        own = self.rows[:, :count]
        multipliers = np.ones(count)
        if not float(eigvalsh(own + own.T)[0]) > 0:
            # the same program without logits: g below 0 says that I − W is definite in the scaling λ
            apart = Program(np.zeros((count, count)), own, np.ones(count))
            least = 1 - float(eigvalsh(own + own.T)[0])
            multipliers, g = apart.descend(multipliers, least, 0.0, deadline, lambda g: g < 0)
            if g >= 0:
                return None
        scaled = multipliers[:, None] * own
        try:
            needed = float(eigvalsh(-self.base[:count, :count], scaled + scaled.T)[-1])
        except LinAlgError:
            return None
        multipliers = multipliers * (2 * needed + 1e-6)
        block = self.matrix(multipliers, 0.0)
        upper = cholesky(block[:count, :count], lower=False)
        cross = block[count:, :count]
        schur = cross @ cho_solve((upper, False), cross.T) - block[count:, count:]
        return multipliers, 2 * float(eigvalsh(schur)[-1]) + 1e-12

    def matrix(self, multipliers: Floats, g: float) -> Floats:
        total = self.base + np.diag(g * self.tail)
        weighted = multipliers[:, None] * self.rows
        total[: len(weighted)] += weighted
        total[:, : len(weighted)] += weighted.T
        return total

    def value(self, weight: float, multipliers: Floats, g: float) -> float:
        """The objective with its barrier; infinity outside."""
        if not multipliers.min() > 0:
            return float("inf")
        try:
            upper = cholesky(self.matrix(multipliers, g), lower=False)
        except LinAlgError:
            return float("inf")
        return float(weight * g - 2 * np.log(np.diag(upper)).sum() - np.log(multipliers).sum())

    def descend(
        self, multipliers: Floats, g: float, gap: float, deadline: float,
        enough: Callable[[float], bool] = lambda g: False,
    ) -> tuple[Floats, float]:  # fmt: skip
        """Newton's method along the central path, until the gap (relative to g) is reached or g is low `enough`."""
        count, size = self.rows.shape
        barriers, least = count + size, LEAST * abs(g)
        weight = barriers / abs(g)
        for _ in range(STEPS):
            if enough(g) or time.monotonic() > deadline:
                break
            slope, curve = self._derivatives(weight, multipliers, g)
            move = -np.linalg.solve(curve, slope)
            decrement = float(-slope @ move)
            if decrement < 0.1:  # near enough to the centre for this weight
                if barriers / weight <= max(gap * abs(g), least * gap):
                    break
                weight *= GROWTH
                continue
            here, length = self.value(weight, multipliers, g), 1.0
            while not (
                self.value(weight, multipliers + length * move[:-1], g + length * move[-1])
                <= here - 0.1 * length * decrement
            ):
                length /= 2
                if length < 1e-9:
                    return multipliers, g
            multipliers, g = multipliers + length * move[:-1], g + float(length * move[-1])
        return multipliers, g

    def _derivatives(self, weight: float, multipliers: Floats, g: float) -> tuple[Floats, Floats]:
        """Gradient and Hessian in (λ, g). With Z the inverse, the trace of Z(e v' + v e')Z(e w' + w e') is short."""
        count = len(multipliers)
        inverse = np.linalg.inv(self.matrix(multipliers, g))
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


def _witness(layer: Layer, form: MovingPart, square: float, multipliers: Floats) -> tuple[Fraction, Json]:
    """γ and the fields of the kernel's step, the multipliers rounded to short numbers.

    Raises:
        CheckError: no factor was found.
    """
    n, moving = len(layer.slopes), layer.moving
    whole = np.zeros((n, n))
    whole[np.ix_(moving, moving)] = multipliers
    largest = float(np.abs(whole).max(initial=0.0))
    raw = quantized(whole, int(np.frexp(largest)[1]) - BITS)
    ints, exp = read_vector(raw, n * n, "multipliers")
    exact = rows_of(ints, n)
    rounded = as_floats(exact, exp)[np.ix_(moving, moving)]
    square = form.square(rounded) if len(moving) else square
    last = CheckError("DEFINITE", "multipliers with a finite constant", "rounding them lost it")
    if not square < float("inf"):
        raise last
    for slack in SLACKS:
        gamma = round_up(Fraction(max(square, 0.0) ** 0.5) * (1 + Fraction(slack)) + Fraction(1, 1 << 40), 40)
        try:
            rows, scale = lipschitz_matrix(layer, gamma, (exact, exp))
            return gamma, {"gamma": dyadic(gamma), "multipliers": raw, "factor": factor(rows, scale)}
        except CheckError as error:
            last = error
    raise last
