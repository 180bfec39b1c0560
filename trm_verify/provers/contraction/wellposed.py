"""Implicit models z = φ(Wz + Ux + b): exactly one fixed point by R4, and a damped iteration that reaches it."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np

from trm_verify.certificate import derive
from trm_verify.encode import Json, dyadic, fractions, round_down, round_up
from trm_verify.kernel.claims import WellPosed
from trm_verify.kernel.context import Context
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import Rows, floor_at, rescale
from trm_verify.kernel.operators import parse_operator
from trm_verify.kernel.rules.wellposed import _implicit_form
from trm_verify.provers.contraction.block import weight_vector
from trm_verify.provers.factors import factor, norm_witness
from trm_verify.provers.perron import positive_weights
from trm_verify.provers.problem import Attempt, Problem, floats


def _weights(problem: Problem, domain: Json) -> tuple[Rows, int]:
    rows, exp, _ = _implicit_form(Context(problem.graph, (), ()), problem.box(domain))
    return rows, exp


def prove_monotone(problem: Problem, domain: Json) -> Attempt:
    """Exactly one fixed point by strong monotonicity; `rate` stays None (nothing is said about Picard)."""
    started = time.perf_counter()
    try:
        rows, exp = _weights(problem, domain)
        matrix = floats(rows, exp)
        true = 1 - float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
        if true <= 0:
            return Attempt(
                "monotone", "l2", time.perf_counter() - started, reason=f"monotonicity {true:.3g} is not positive"
            )
        m = round_down(Fraction(true * (1 - 1e-6)), 40)
        low = min(exp, 1 - m.denominator.bit_length())
        w = [rescale(row, exp, low) for row in rows]
        shift, n = floor_at(2 - 2 * m, low), len(w)
        gap = [[shift * (i == j) - w[i][j] - w[j][i] for j in range(n)] for i in range(n)]
        done = derive("monotone", domain=domain, m=dyadic(m), factor=factor(gap, low, "(2 − 2m)I − W − Wᵀ"))
        problem.conclude(done)
        return Attempt("monotone", "l2", time.perf_counter() - started, None, done)
    except CheckError as error:
        return Attempt("monotone", "l2", time.perf_counter() - started, reason=str(error))


def prove_log_norm(problem: Problem, domain: Json) -> Attempt:
    """Exactly one fixed point by an ℓ∞ log-norm below 1, in the weights of the Metzler matrix's Perron vector."""
    started = time.perf_counter()
    try:
        rows, exp = _weights(problem, domain)
        matrix = floats(rows, exp)
        metzler = np.abs(matrix)
        np.fill_diagonal(metzler, np.diag(matrix))
        shift = 1 + max(0.0, -float(np.diag(matrix).min()))
        # M d ≤ μ d exactly when (M + sI) d ≤ (μ + s) d; scaled so that μ < 1 becomes a spectral radius below 1
        found = positive_weights((metzler + shift * np.eye(len(matrix))) / (1 + shift))
        if found is None or found.ratio >= 1:
            value = "" if found is None else f" {found.ratio * (1 + shift) - shift:.6g}"
            reason = f"the log-norm{value} is not below 1 in any scaling found"
            return Attempt("log_norm", "weighted_linf", time.perf_counter() - started, reason=reason)
        weights = weight_vector(found.log2)
        done = derive("log_norm", domain=domain, vector=weights)
        problem.conclude(done)
        return Attempt("log_norm", "weighted_linf", time.perf_counter() - started, None, done)
    except CheckError as error:
        return Attempt("log_norm", "weighted_linf", time.perf_counter() - started, reason=str(error))


def prove_convergence(problem: Problem, domain: Json, posed: Attempt, own: Json | None = None) -> Attempt:
    """A damping factor and the rate of the damped iteration, from a proved R4 record.

    Args:
        own: the outer damping that the model runs with, as a vector; only a log-norm record can speak of it.
    """
    started = time.perf_counter()
    if posed.derivation is None:
        return posed
    try:
        rows, exp = _weights(problem, domain)
        record = problem.conclude(posed.derivation)
        if posed.prover == "log_norm":
            if not isinstance(record, WellPosed):
                raise TypeError(f"expected an R4 record, found {type(record).__name__}")
            alphas = [1 / (1 - min(diagonal, Fraction(0))) for diagonal in record.diagonal]
            chosen = fractions([min(round_down(a, 40), Fraction(1)) for a in alphas]) if own is None else own
            used = parse_operator({"outer_damped": chosen}, len(alphas)).alpha
            rate = max(1 - a * (1 - max(mu, Fraction(0))) for a, mu in zip(used, record.measures, strict=True))
            bound = round_up(rate, 60)
            done = posed.derivation.then("log_norm_convergence", alpha=chosen, rate=dyadic(bound))
        elif own is not None:
            return Attempt(posed.prover, posed.norm, 0.0, reason="strong monotonicity says nothing about outer damping")
        else:
            sigma, witness = norm_witness(np.eye(len(rows)) - floats(rows, exp))
            if not isinstance(record, WellPosed) or record.slack is None:
                raise TypeError(f"expected a monotone record, found {type(record).__name__}")
            m = record.slack
            alpha = round_down(m / (sigma * sigma), 40)
            square = 1 - 2 * alpha * m + alpha * alpha * sigma * sigma
            bound = round_up(Fraction(float(square) ** 0.5 * (1 + 1e-12)), 50)
            done = posed.derivation.then(
                "monotone_convergence", alpha=dyadic(alpha), sigma=dyadic(sigma), factor=witness, rate=dyadic(bound)
            )
        problem.conclude(done)
        return Attempt(posed.prover, posed.norm, time.perf_counter() - started, bound, done)
    except CheckError as error:
        return Attempt(posed.prover, posed.norm, time.perf_counter() - started, reason=str(error))
