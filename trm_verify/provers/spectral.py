"""ℓ2 bounds of the constant matrices of a step (R2), and contraction in ℓ2 and mixed norms through layers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, round_up, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import rows_of
from trm_verify.kernel.graph import CONSTANT, STATE
from trm_verify.kernel.numbers import Rows, gram, transpose
from trm_verify.provers.factors import as_floats, factor
from trm_verify.provers.problem import ALL_STATES, Attempt, Problem
from trm_verify.provers.radius import part_sizes, prove_block, token_sizes

RELATIVE = 2e-6  # how far above the true norm the certified bound lies: what a short witness needs


def norm_gap(rows: Rows, exp: int, sigma: Fraction) -> tuple[Rows, int]:
    """σ²I − WᵀW exactly, for the factor search (σ a binary fraction)."""
    square = sigma * sigma
    low = min(2 * exp, 1 - square.denominator.bit_length())
    rest = [[-v << (2 * exp - low) for v in row] for row in gram(rows)]
    shift = int(square / Fraction(2) ** low)
    for i, row in enumerate(rest):
        row[i] += shift
    return rest, low


def norm_witness(rows: Rows, exp: int, relative: float = RELATIVE) -> tuple[Fraction, Json]:
    """σ slightly above ‖W‖₂, with a factor of σ²I − WᵀW that the kernel accepts.

    Raises:
        CheckError: no factor was accepted.
    """
    true = float(np.linalg.norm(as_floats(rows, exp), 2))
    sigma = round_up(Fraction(true * (1 + relative)) + Fraction(1, 1 << 100), 40)
    return sigma, factor(*norm_gap(rows, exp, sigma), what="σ²I − WᵀW")


def needed_matrices(problem: Problem) -> list[int]:
    """Constant matrices that multiply something that depends on the state."""
    nodes = problem.graph.step.nodes
    found = {n.args[1] for n in nodes if n.op == "linear" and nodes[n.args[0]].kind == STATE}
    return sorted(i for i in found if nodes[i].kind == CONSTANT)


def spectral_bounds(problem: Problem, domain: Json) -> list[Derivation]:
    """One derivation per needed matrix: by the factor of σ²I − WᵀW, or by a positive vector where |W| is as small."""
    ranges = problem.ranges(domain, ALL_STATES)
    derivations = []
    for index in needed_matrices(problem):
        weight = ranges[index]
        rows = rows_of(weight.ends()[0], weight.shape[1])
        if min(weight.shape) == 1 or not any(map(any, rows)):
            continue  # the kernel's own Frobenius norm is exact here
        by_vector = _positive_vector(problem, index, rows, weight.exp)
        if by_vector is not None:
            derivations.append(by_vector)
            continue
        smaller = rows if len(rows) >= len(rows[0]) else transpose(rows)
        sigma, witness = norm_witness(smaller, weight.exp)
        derivations.append(derive("spectral", matrix=index, sigma=dyadic(sigma), factor=witness))
    return derivations


def _positive_vector(problem: Problem, index: int, rows: Rows, exp: int) -> Derivation | None:
    """‖W‖₂ through |W|, when that costs nothing (non-negative or sign-symmetric matrices): a witness of n numbers."""
    matrix = as_floats(rows, exp)
    true = float(np.linalg.norm(matrix, 2))
    absolute = np.abs(matrix)
    if float(np.linalg.norm(absolute, 2)) > true * (1 + RELATIVE / 2):
        return None
    v = np.ones(matrix.shape[1])
    for _ in range(2000):
        v = absolute.T @ (absolute @ v) + 1e-9 * v.max()
        v /= v.max()
    if v.min() <= 0:
        return None
    image = absolute.T @ (absolute @ v)
    sigma = round_up(Fraction(float(np.sqrt((image / v).max())) * (1 + 1e-12)), 40)
    if float(sigma) > true * (1 + 2 * RELATIVE):
        return None
    done = derive("spectral_abs", matrix=index, sigma=dyadic(sigma), vector=vector(v))
    try:
        problem.conclude(done)
    except CheckError:
        return None
    return done


def prove_l2(problem: Problem, domain: Json, region: Json) -> Attempt:
    """One ℓ2 group: the whole state."""
    return _prove(problem, domain, region, [problem.graph.size], "l2")


def prove_parts(problem: Problem, domain: Json, region: Json) -> Attempt:
    """One ℓ2 group a state part, with Perron weights between the parts."""
    return _prove(problem, domain, region, part_sizes(problem), "mixed: a group a part")


def prove_tokens(problem: Problem, domain: Json, region: Json) -> Attempt:
    """One ℓ2 group a token: the maximum over tokens of the ℓ2 norm of the features."""
    return _prove(problem, domain, region, token_sizes(problem), "mixed: a group a token")


def _prove(problem: Problem, domain: Json, region: Json, sizes: list[int], name: str) -> Attempt:
    try:
        bounds = spectral_bounds(problem, domain)
    except CheckError as error:
        return Attempt("spectral", name, 0.0, reason=str(error))
    return prove_block(problem, domain, region, sizes, bounds, prover="spectral", norm_name=name)

