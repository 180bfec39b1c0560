"""ℓ2 bounds of constant matrices (R2), and contraction in ℓ2 and mixed norms through layers and whole blocks."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, dyadic, round_up, vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import constants
from trm_verify.kernel.graph import CONSTANT, STATE
from trm_verify.kernel.radius import Gains, Propagation
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.contraction import row_gains
from trm_verify.provers.contraction.block import Blocks, prove_block, quick_rate, search
from trm_verify.provers.factors import RELATIVE, norm_witness
from trm_verify.provers.problem import Attempt, Floats, Problem, floats

Choice = list[tuple[row_gains.Tuned, Floats]]  # subgraphs, each with the proportions of its gains
CHEAP = 160  # smaller side of a matrix up to which a witness is made even if its rate is not the best one


def needed_matrices(problem: Problem) -> list[int]:
    """Constant matrices that multiply something that depends on the state."""
    nodes = problem.graph.step.nodes
    found = {n.args[1] for n in nodes if n.op == "linear" and nodes[n.args[0]].kind == STATE}
    return sorted(i for i in found if nodes[i].kind == CONSTANT)


def _matrices(problem: Problem) -> dict[int, Floats]:
    """The needed matrices in doubles, without those whose norm the kernel finds by itself (vectors, zeros)."""
    found = {}
    for index in needed_matrices(problem):
        value = constants(problem.graph, problem.graph.step)[index]
        if value.is_point and min(value.shape) > 1 and any(value.ends()[0]):
            found[index] = floats(value.ends()[0], value.exp).reshape(value.shape)
    return found


def _norms(problem: Problem) -> dict[int, float]:
    """Largest singular values, in doubles."""
    return problem.once("norms", None, lambda: {i: float(np.linalg.norm(w, 2)) for i, w in _matrices(problem).items()})


def spectral_bounds(problem: Problem, domain: Json, needed: Collection[int] | None = None) -> list[Derivation]:
    """One derivation per matrix: by the factor of σ²I − WᵀW, or by a positive vector where |W| is as small.

    Args:
        domain: not used, since the matrices are constants.
        needed: which matrices; None for all that multiply something that depends on the state.

    Raises:
        CheckError: a bound was not accepted.
    """
    matrices = {i: w for i, w in _matrices(problem).items() if needed is None or i in needed}
    return [problem.once("spectral", i, lambda i=i, w=w: _bound(problem, i, w)) for i, w in matrices.items()]  # type: ignore[misc]


def _bound(problem: Problem, index: int, matrix: Floats) -> Derivation:
    found = _positive_vector(problem, index, matrix)
    if found is None:
        smaller = matrix if len(matrix) >= matrix.shape[1] else matrix.T
        sigma, witness = norm_witness(smaller)
        found = derive("spectral", matrix=index, sigma=dyadic(sigma), factor=witness)
    problem.conclude(found)
    return found


def _positive_vector(problem: Problem, index: int, matrix: Floats) -> Derivation | None:
    """‖W‖₂ through |W|, where that costs nothing (non-negative or sign-symmetric matrices): a witness of n numbers."""
    true, absolute = _norms(problem)[index], np.abs(matrix)
    gram = absolute.T @ absolute
    if not 0 < float(gram.max()) < np.inf:  # subnormal or huge weights: doubles cannot hold their squares
        return None
    if float(np.sqrt(np.linalg.eigvalsh(gram)[-1])) > true * (1 + RELATIVE / 2):
        return None
    v = np.ones(matrix.shape[1])
    for _ in range(500):
        v = gram @ v + 1e-9 * v.max() * gram.max()
        v /= v.max()
    ratio = float((gram @ v / v).max())
    if not np.isfinite(ratio):
        return None
    sigma = round_up(Fraction(float(np.sqrt(ratio)) * (1 + 1e-12)), 40)
    if float(sigma) > true * (1 + 2 * RELATIVE):
        return None
    done = derive("spectral_abs", matrix=index, sigma=dyadic(sigma), vector=vector(v))
    try:
        problem.conclude(done)
    except CheckError:  # a factor will do
        return None
    return done


def part_sizes(problem: Problem) -> list[int]:
    """One group a state part."""
    return [prod(shape) for shape in problem.graph.state]


def token_sizes(problem: Problem) -> list[int]:
    """One group per last-axis row of each state part: the mixed norm over tokens."""
    rows = [(shape or (1,)) for shape in problem.graph.state]
    return [shape[-1] for shape in rows for _ in range(prod(shape[:-1]))]


def prove_l2(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
    """One ℓ2 group: the whole state. Norm: ‖z‖₂."""
    return _prove(problem, domain, region, [problem.graph.size], "l2", limit)


def prove_parts(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
    """One ℓ2 group a state part, with Perron weights between the parts. Norm: max over parts of ‖z_p‖₂ / d_p."""
    return _prove(problem, domain, region, part_sizes(problem), "mixed: a group a part", limit)


def prove_tokens(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
    """One ℓ2 group a token. Norm: max over tokens of the ℓ2 norm of the features, over d_t."""
    return _prove(problem, domain, region, token_sizes(problem), "mixed: a group a token", limit)


def _prove(
    problem: Problem, domain: Json, region: Json, sizes: list[int], name: str, limit: Fraction | None
) -> Attempt:
    """First the rate in doubles; the witnesses (a factor a matrix or subgraph) are made only where it is worth it.

    Args:
        limit: a rate already proved; large matrices are not factored for one that is no better.
    """
    started = time.perf_counter()
    try:
        bounds = {i: Fraction(norm * (1 + RELATIVE)) for i, norm in _norms(problem).items()}
        ranges = problem.ranges(domain, region)
        guess, chosen = _with_gains(problem, domain, region, Blocks(tuple(sizes), bounds), ranges)
        needed = _outside(problem, row_gains.gains_of(chosen))
        sides = [min(problem.graph.step.nodes[i].shape) for i in bounds if i in needed]
        least = 1.0 if limit is None or max(sides, default=0) <= CHEAP else float(limit)
        if guess >= least:
            reason = "not below 1" if least == 1 else f"no better than {least:.6g}, and its witness is long"
            return Attempt(
                "spectral", name, time.perf_counter() - started, reason=f"best rate found {guess:.6g}: {reason}"
            )
        found = spectral_bounds(problem, domain, needed)
        found += [row_gains.certify(problem, domain, region, tuned, log2) for tuned, log2 in chosen]
        proved = prove_block(problem, domain, region, sizes, found, prover="spectral", norm_name=name)
        return replace(proved, seconds=time.perf_counter() - started)
    except CheckError as error:
        return Attempt("spectral", name, time.perf_counter() - started, reason=str(error))


def _with_gains(
    problem: Problem, domain: Json, region: Json, blocks: Blocks, ranges: list[Tensor]
) -> tuple[float, Choice]:
    """The rate in doubles, layer by layer or through whole subgraphs, whichever is smaller, and the gains it needs.

    Raises:
        CheckError: neither way exists.
    """

    def rate(gains: Gains) -> float:
        return quick_rate(problem, ranges, replace(blocks, rows=gains))

    chosen = row_gains.tune(problem, domain, region, rate)
    gained = search(problem, ranges, replace(blocks, rows=row_gains.gains_of(chosen))).ratio if chosen else np.inf
    try:
        plain = search(problem, ranges, blocks).ratio
    except CheckError:
        if not chosen:
            raise
        return gained, chosen
    return (gained, chosen) if gained < plain * (1 - 1e-9) else (plain, [])


def _outside(problem: Problem, gains: Gains) -> set[int]:
    """Matrices that radii still have to pass through when these gains are cited."""
    step = problem.graph.step
    needed = Propagation(step, [], {}, gains).needed - set(gains)
    return {step.nodes[i].args[1] for i in needed if step.nodes[i].op == "linear"}
