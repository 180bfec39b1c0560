"""Contraction in a metric (R3): search for P and the multipliers of the activation units.

From cheap to dear: multipliers that the layers suggest (P = I, analytic for a Sandwich step), affine steps by their
eigenvectors or a Lyapunov equation, and a semidefinite program for small steps. All of it is untrusted; a candidate
counts once the kernel has accepted its factor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, integers, round_down, round_up, vector
from trm_verify.kernel.context import Context
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, STATE
from trm_verify.kernel.norms import MetricNorm
from trm_verify.kernel.numbers import floor_at, rescale
from trm_verify.kernel.rules.metric import contraction_matrix
from trm_verify.provers.contraction import program
from trm_verify.provers.contraction.forms import StepForm, best_scale, step_form
from trm_verify.provers.factors import factor
from trm_verify.provers.problem import Attempt, Floats, Problem

LARGEST = 800  # state entries + units of the matrix of the rule; its factor takes time with the cube of that
CHEAP = 256  # up to which a rate that may not be the best one is looked for
HOPELESS = 1.5  # a rate at the best of a few scales above which no scale in between has one below 1, most likely
METRIC_BITS = 60  # of the smallest eigenvalue of P
SLACKS = (1e-7, 4e-7, 1e-6, 4e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # what the rate is raised by, relatively, for a short factor
SHARES = (1e-6, 1e-4, 1e-2, 0.1, 0.3, 0.6)  # of the way from the spectral radius to 1


@dataclass(frozen=True)
class Candidate:
    """A metric (None: the identity), multipliers, and the rate that they should reach."""

    metric: Floats | None
    multipliers: Floats
    rate: float


def _hinted(problem: Problem, form: StepForm) -> Iterator[Candidate]:
    """P = I with Λ = sψ² for a ψ that a layer suggests (repeated for each token), at the best s.

    A Sandwich step of rate ρ holds with s slightly above ρ² (proofs/metric_contraction.md).
    """
    metric = np.eye(form.n)
    for hint in problem.hints:
        if not len(hint) or form.units % len(hint) or not np.all(hint > 0):
            continue
        square = np.tile(hint**2, form.units // len(hint))

        def rate(power: float, square: Floats = square) -> float:
            return form.reach(metric, square * 2.0**power)

        if not min(map(rate, np.linspace(-10, 3, 14).tolist())) < HOPELESS:
            continue
        power = best_scale(rate)
        multipliers = square * 2.0**power * (1 + 1e-8)  # off the edge, where every matrix is singular
        best = form.best_rate(metric, multipliers)
        if best is not None:
            yield Candidate(None, multipliers, best)


def _affine(form: StepForm) -> Iterator[Candidate]:
    """Metrics for Δz⁺ = AΔz: I for normal A, eigenvectors for diagonalizable A, Lyapunov equations otherwise."""
    matrix, none = form.outputs, np.zeros(0)
    values, vectors = np.linalg.eig(matrix)
    radius, norm = float(np.abs(values).max()), float(np.linalg.norm(matrix, 2))
    if norm <= radius * (1 + 1e-9):
        yield Candidate(None, none, norm)
    if radius < 1 and np.linalg.cond(vectors) < 1e7:
        inverse = np.linalg.inv(vectors)
        yield Candidate(np.real(inverse.conj().T @ inverse), none, radius)
    for share in SHARES:
        target = radius + share * (1 - radius)
        if not 0 < target < 1:
            continue
        metric = _lyapunov(matrix / target)
        if metric is not None:
            yield Candidate(metric, none, target)


def _lyapunov(matrix: Floats) -> Floats | None:
    """Σ_k (Aᵀ)ᵏAᵏ by doubling, the solution of P − AᵀPA = I, or None when it outgrows doubles."""
    total = np.eye(len(matrix))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(60):
            total = total + matrix.T @ total @ matrix
            matrix = matrix @ matrix
            if not np.isfinite(total).all():
                return None
            if float(np.abs(matrix).max()) < 1e-20:
                break
    return total


def prove_metric(
    problem: Problem, domain: Json, region: Json, limit: Fraction | None = None, timeout: float = 30.0
) -> Attempt:
    """The first candidate, from cheap to dear, that the kernel accepts. Norm: ‖z‖₂, or √(zᵀPz).

    Args:
        limit: a rate already proved: then the semidefinite program is skipped.
        timeout: seconds for the semidefinite program.
    """
    started = time.perf_counter()
    reason = "no metric was found"
    try:
        nodes = problem.graph.step.nodes
        size = problem.graph.size + sum(n.size for n in nodes if n.kind == STATE and n.op in ACTIVATIONS)
        if size > LARGEST:
            raise CheckError("LIMIT", f"at most {LARGEST} state entries and units", size)
        if limit is not None and size > CHEAP:
            raise CheckError("LIMIT", f"at most {CHEAP} of them, as a cheaper norm has a rate", size)
        form = step_form(problem, domain, region)
        for candidate in _hinted(problem, form) if form.units else _affine(form):
            if limit is not None and candidate.rate >= limit:
                reason = f"best rate found {candidate.rate:.6g}: no better than {float(limit):.6g}"
                continue
            try:
                return _certify(problem, domain, region, candidate, started)
            except CheckError as error:
                reason = str(error)
        if form.units and limit is not None:
            reason = "skipped: a cheaper norm has a rate already; ask norm='metric' for the semidefinite program"
        elif form.units:
            solved = program.solve(form, timeout)
            if isinstance(solved, str):
                reason = solved
            else:
                rate = form.best_rate(*solved)
                if rate is not None:
                    return _certify(problem, domain, region, Candidate(*solved, rate), started)
    except CheckError as error:
        reason = str(error)
    return Attempt("metric", "metric", time.perf_counter() - started, reason=reason)


def _metric_norm(problem: Problem, metric: Floats | None, n: int) -> tuple[Json, Json | None]:
    """The norm in the certificate's form, and the factor of P − pI that it needs."""
    if metric is None:
        return {"kind": "block", "runs": [[1, n]], "weights": {"exp": 0, "int": "1"}}, None
    metric = (metric + metric.T) / 2
    low = float(np.linalg.eigvalsh(metric)[0])
    if low <= 0:
        raise CheckError("DEFINITE", "a positive definite metric", f"smallest eigenvalue {low:.3g}")
    exp = int(np.frexp(low)[1]) - METRIC_BITS
    floor = round_down(Fraction(low) * Fraction(9, 10), 20)
    ints = [int(v) for v in np.ldexp(metric, -exp).ravel().tolist()]
    norm: Json = {"kind": "metric", "matrix": integers(ints, exp), "floor": dyadic(floor)}
    parsed = problem.norm(norm)
    if not isinstance(parsed, MetricNorm):
        raise TypeError("expected a metric norm")
    fine = min(parsed.exp, 1 - floor.denominator.bit_length())
    rest = [rescale(row, parsed.exp, fine) for row in parsed.rows]
    rest = [[v - floor_at(floor, fine) * (i == j) for j, v in enumerate(row)] for i, row in enumerate(rest)]
    return norm, factor(rest, fine, "P − pI")


def _certify(problem: Problem, domain: Json, region: Json, candidate: Candidate, started: float) -> Attempt:
    """Round the candidate, raise the rate by as little as a factor needs, and let the kernel check it.

    Raises:
        CheckError: no rate below 1 was accepted.
    """
    norm, norm_factor = _metric_norm(problem, candidate.metric, problem.graph.size)
    last = CheckError("RATE", "a rate below 1", f"{candidate.rate:.9g}")
    for slack in SLACKS:
        bound = round_up(Fraction(candidate.rate) * (1 + Fraction(slack)) + Fraction(1, 1 << 100), 48)
        if bound >= 1:
            break
        follow = 1.0
        if candidate.metric is None and candidate.rate > 0:  # a Sandwich step wants Λ = ρρ'ψ²
            follow = float(bound) / candidate.rate
        done = _derivation(problem, domain, region, norm, norm_factor, bound, vector(candidate.multipliers * follow))
        if isinstance(done, CheckError):
            last = done
            continue
        name = "l2" if candidate.metric is None else "metric"
        return Attempt("metric", name, time.perf_counter() - started, bound, done)
    raise last


def _derivation(
    problem: Problem,
    domain: Json,
    region: Json,
    norm: Json,
    norm_factor: Json | None,
    bound: Fraction,
    multipliers: Json,
) -> Derivation | CheckError:
    """The accepted step, or the kernel's objection."""
    try:
        rows, exp = contraction_matrix(
            Context(problem.graph, (), ()), problem.box(region), problem.box(domain), problem.norm(norm), bound,
            read_vector(multipliers, None, "multipliers"),
        )  # fmt: skip
        done = derive(
            "metric_contraction", domain=domain, region=region, norm=norm, rate=dyadic(bound), multipliers=multipliers,
            factor=factor(rows, exp, "the contraction matrix"), norm_factor=norm_factor,
        )  # fmt: skip
        problem.conclude(done)
    except CheckError as error:
        return error
    return done
