"""A small ℓ2 Lipschitz constant of the logits at the fixed point, with the multipliers that prove it (R16).

Units whose slope is known are eliminated; what is left is a semidefinite program with one multiplier a unit. The
multipliers of the eliminated units follow in closed form (proofs/lipschitz.md, "How good it is").
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.linalg import LinAlgError, eigvalsh, qr

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, quantized, round_up
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import Rows, rows_of
from trm_verify.kernel.rules.lipschitz import Layer, layer_of, lipschitz_matrix
from trm_verify.provers.factors import factor
from trm_verify.provers.lipschitz.barrier import GAP, LEAST, Program
from trm_verify.provers.problem import Floats, Problem, floats

LARGEST = 600  # states that can move; time goes with the cube of that
SLACKS = (1e-6, 1e-5, 4e-5, 1e-3, 1e-1)  # what γ is raised by, relatively, for a short factor
FLOORS = (1e-6, 1e-8, 1e-4, 1e-10)  # of the eigenvalues that are inverted for the eliminated units, relatively
BITS = (44, 100)  # of the largest multiplier; the smaller ones have as many places
NO_MULTIPLIERS = CheckError("DEFINITE", "multipliers with a finite constant", "none, in doubles")


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
        deadline: on the monotonic clock; what was found by then is used.
    """
    started, varying, error = time.perf_counter(), 0, NO_MULTIPLIERS
    try:
        layer, _, _ = layer_of(problem.graph, problem.conclude(premise))
        form = MovingPart.of(layer)
        varying = len(form.varying)
        candidates = [Candidate.of(layer, form, m, bits) for m in form.multipliers(deadline) for bits in BITS]
        for slack in SLACKS:
            for candidate in candidates:
                try:
                    gamma, witness = candidate.witness(layer, slack)
                    done = premise.then("lipschitz", **witness)
                    problem.conclude(done)
                    return LipschitzAttempt(time.perf_counter() - started, gamma, done, varying)
                except CheckError as refused:
                    error = refused
    except CheckError as refused:
        error = refused
    return LipschitzAttempt(time.perf_counter() - started, varying=varying, reason=str(error))


@dataclass(frozen=True)
class MovingPart:
    """The layer over the states that can move, in doubles, the input replaced by as many numbers as matter.

    Shape: away (k, k), given (k, r), readout (logits, k); lines (of slope 1) and varying index these k states.
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
        away, given = (floats(rows, layer.exp) for rows in (layer.away, layer.given))
        given = given[moving]
        if given.shape[1] > len(moving) > 0:  # only UUᵀ matters: a square factor of it
            given = qr(given.T, mode="r")[0][: len(moving)].T
        if not given.any():  # x moves nothing: looked at as if it did a little, so that there is an optimum
            given = 2.0**-20 * np.eye(len(moving))
        readout = floats(layer.readout.rows, layer.readout.exp)[:, moving]
        lines = [place for place, k in enumerate(moving) if layer.slopes[k] == 1]
        varying = [place for place, k in enumerate(moving) if layer.slopes[k] is None]
        return cls(away[np.ix_(moving, moving)], given, readout, lines, varying)

    def square(self, multipliers: Floats) -> float:
        """The smallest γ² with these multipliers; infinity if there is none."""
        if not len(multipliers):
            return 0.0
        own, driven = multipliers.T @ self.away, multipliers.T @ self.given
        try:
            found = eigvalsh(driven @ driven.T, own + own.T - self.readout.T @ self.readout)
        except (LinAlgError, ValueError):
            return float("inf")
        return float(max(found[-1], 0.0))

    def multipliers(self, deadline: float) -> list[Floats]:
        """Multipliers of all states that can move, best first; none where none were found.

        Raises:
            CheckError: doubles are not enough.
        """
        if not len(self.away):
            return [self.away]
        try:
            found = self.program().minimize(deadline)
        except (LinAlgError, ValueError):
            raise NO_MULTIPLIERS from None
        if found is None:
            return []
        own, square = found
        options = [self.whole(own, square * (1 + GAP), floor) for floor in FLOORS[: len(FLOORS) if self.lines else 1]]
        return sorted((m for m in options if self.square(m) < float("inf")), key=self.square)

    def program(self) -> Program:
        """γ²‖Δx‖² − ‖Δlogits‖² + 2ΔzᵀΛ(Δz − Δa) ⪰ 0 over the varying units and the input.

        Raises:
            LinAlgError: the lines do not follow from these.
        """
        own, lines, count = self.varying, self.lines, len(self.varying)
        by = np.zeros((len(self.away), count + self.given.shape[1]))  # Δz = by · (Δz of the varying units, Δx)
        by[own, range(count)] = 1.0
        right = np.hstack([-self.away[np.ix_(lines, own)], self.given[lines]])
        by[lines] = np.linalg.solve(self.away[np.ix_(lines, lines)], right)
        rows = self.away[own] @ by
        rows[:, count:] -= self.given[own]
        logits = self.readout @ by
        return Program(-logits.T @ logits, rows, np.repeat([0.0, 1.0], [count, self.given.shape[1]]))

    def whole(self, own: Floats, square: float, floor: float) -> Floats:
        """The multipliers of all states from those of the varying units, the others being the best for γ².

        Their rows P solve UₛUₛᵀP = γ²(I − W)ₛ − UₛUᵀΛ. Where U leaves directions out they would be infinite: there, and
        nearly there, they are as large as the floor allows.
        """
        found = np.zeros_like(self.away)
        found[self.varying, self.varying] = own
        if self.lines:
            lines = self.given[self.lines]
            scale = float(np.sum(self.given**2)) / len(self.given)
            square = max(square, LEAST * float(np.sum(self.readout**2)) * scale)
            right = square * self.away[self.lines] - lines @ self.given.T @ found
            values, vectors = np.linalg.eigh(lines @ lines.T)
            found[self.lines] = vectors @ ((vectors.T @ right) / np.maximum(values, floor * scale)[:, None])
        return found


@dataclass(frozen=True)
class Candidate:
    """Multipliers as short numbers, and the smallest γ² with them, in doubles."""

    raw: Json
    rows: Rows
    exp: int
    square: float

    @classmethod
    def of(cls, layer: Layer, form: MovingPart, multipliers: Floats, bits: int) -> Candidate:
        n, moving = len(layer.slopes), layer.moving
        whole = np.zeros((n, n))
        whole[np.ix_(moving, moving)] = multipliers
        raw = quantized(whole, int(np.frexp(np.abs(whole).max())[1]) - bits)
        ints, exp = read_vector(raw, n * n, "multipliers")
        rows = rows_of(ints, n)
        return cls(raw, rows, exp, form.square(floats(rows, exp)[np.ix_(moving, moving)]))

    def witness(self, layer: Layer, slack: float) -> tuple[Fraction, Json]:
        """γ, raised a little, and the fields of the kernel's step.

        Raises:
            CheckError: no factor was found.
        """
        if not self.square < float("inf"):
            raise NO_MULTIPLIERS
        gamma = round_up(Fraction(self.square**0.5) * (1 + Fraction(slack)) + Fraction(1, 1 << 40), 40)
        rows, exp = lipschitz_matrix(layer, gamma, (self.rows, self.exp))
        return gamma, {"gamma": dyadic(gamma), "multipliers": self.raw, "factor": factor(rows, exp)}
