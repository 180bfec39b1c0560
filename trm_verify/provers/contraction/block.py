"""Contraction in block norms by R1: the weights are the Perron vector of the propagation itself.

One pass `F` over the graph maps group radii d to output radii; it is monotone and positively homogeneous. Power
iteration on `F` finds the best weights of most steps within a few passes. Where it stalls (reducible, nilpotent or
nearly periodic steps) the weights come from the matrix of `F`, see `perron`. The rate is that of the
kernel's own pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, integers, round_up
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dyadic as value_of
from trm_verify.kernel.radius import Gains as RowGains
from trm_verify.kernel.radius import Propagation
from trm_verify.kernel.rules.contraction import output_radii, propagate, proved_bounds, state_radii
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.contraction.gains import Gains, NotCovered
from trm_verify.provers.perron import Weights, positive_weights
from trm_verify.provers.problem import Attempt, Floats, Problem, floats

WEIGHT_BITS = 52  # of the smallest weight
MATRIX_ENTRIES = 3e7  # of the largest node times the number of groups, up to which the matrix of F is formed
UNIT_IMAGES = 400  # groups up to which that matrix is formed by the kernel's slow propagation
PLAIN = 1e-7  # equal weights are taken when they are as good as the best ones up to this
QUICK = 12  # passes that tell choices apart
Map = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Blocks:
    """The groups of a block norm, with the spectral bounds and row gains that its propagation may use."""

    sizes: tuple[int, ...]
    bounds: dict[int, Fraction]
    rows: RowGains = field(default_factory=dict)

    @property
    def runs(self) -> list[list[int]]:
        """Group sizes as [count, size] runs."""
        runs: list[list[int]] = []
        for size in self.sizes:
            if runs and runs[-1][1] == size:
                runs[-1][0] += 1
            else:
                runs.append([1, size])
        return runs


def _images(problem: Problem, ranges: list[Tensor], blocks: Blocks) -> Map:
    """`F` on columns of radii: in doubles for single coordinates where possible, else by the kernel, one by one."""
    shape = BlockNorm(blocks.sizes, (1,) * len(blocks.sizes), 0)
    exact = Propagation(problem.graph.step, ranges, blocks.bounds, blocks.rows)

    def by_kernel(columns: Floats) -> Floats:
        found = []
        for column in columns.T:
            values = [int(v) for v in np.ldexp(column, 60).tolist()]
            radii = exact.run(state_radii(problem.graph, shape, values, -60), None)
            out = output_radii(problem.graph, shape, radii)
            found.append(floats(out.values, out.exp))
        return np.stack(found, axis=1)

    if max(blocks.sizes) > 1:
        return by_kernel
    gains = Gains(problem, ranges)
    try:
        gains(np.ones((len(blocks.sizes), 1)))
    except NotCovered:
        return by_kernel
    return gains


def power(images: Map, size: int, iterations: int, tolerance: float = 1e-10) -> tuple[Weights, float]:
    """Power iteration: the best weights met, and the relative spread of F(d)/d there (0 at a Perron vector)."""
    d = np.ones((size, 1))
    best, spread, stalled = Weights(np.zeros(size), np.inf), np.inf, 0
    for _ in range(iterations):
        after = images(d)
        ratios = after / d
        worst = float(ratios.max())
        if worst < best.ratio * (1 - 1e-13):
            stalled = 0 if worst < best.ratio * (1 - 1e-4) else stalled + 1
            best = Weights(np.log2(d[:, 0]), worst)
            spread = (worst - float(ratios.min())) / worst if worst > 0 else 0.0
        else:
            stalled += 1
        if spread <= tolerance or stalled > 30 or not np.isfinite(worst):
            break
        d = after + 0.5 * worst * d  # the shift breaks periodicity and keeps every weight positive
        d = d / d.min()
        if not np.isfinite(d).all() or d.max() > 1e60:
            break
    return best, spread


def search(problem: Problem, ranges: list[Tensor], blocks: Blocks) -> Weights:
    """The best weights found, with their rate in doubles."""
    size = len(blocks.sizes)
    images = _images(problem, ranges, blocks)
    best, spread = power(images, size, 100)
    plain = float(images(np.ones((size, 1))).max())
    if spread > 1e-8:
        largest = max(n.size for n in problem.graph.step.nodes if n.kind) * size
        fast = isinstance(images, Gains)
        if largest <= MATRIX_ENTRIES and (fast or size <= UNIT_IMAGES):
            best = _by_matrix(images, size, best, fast)
        if best.ratio >= 1:
            best = min(best, power(images, size, 400)[0], key=lambda w: w.ratio)
    if plain <= best.ratio * (1 + PLAIN) and plain < 1:
        return Weights(np.zeros(size), plain)
    return best


def quick_rate(problem: Problem, ranges: list[Tensor], blocks: Blocks) -> float:
    """About the best rate, for comparing choices."""
    return power(_images(problem, ranges, blocks), len(blocks.sizes), QUICK)[0].ratio


def _by_matrix(images: Map, size: int, best: Weights, selects: bool) -> Weights:
    """Weights from the matrix of `F`; where maxima select branches, of those at the weights so far, a few times."""
    at = best.log2
    for _ in range(4 if selects else 1):
        matrix = _matrix(images, at)
        found = positive_weights(matrix)
        if found is None:
            break
        settled = not selects or np.array_equal(_matrix(images, found.log2), matrix)
        if not settled:  # at these weights the maxima select other branches, perhaps with a larger rate
            d = np.exp2(np.maximum(found.log2 - found.log2.max(), -900.0))[:, None]
            found = Weights(found.log2, max(found.ratio, float((images(d) / d).max())))
        if found.ratio < best.ratio * (1 - 1e-12):
            best = found
        if settled:
            break
        at = found.log2
    return best


def _matrix(images: Map, log2: Floats) -> Floats:
    """Images of the unit vectors, in the branch that these weights select."""
    base = np.exp2(np.maximum(log2 - log2.max(), -900.0))
    return images(np.column_stack([np.eye(len(base)), base]))[:, :-1]


def weight_vector(log2: Floats) -> Json:
    """Weights 2^log2 up to a common factor, the smallest of them stored with WEIGHT_BITS bits."""
    exponents = np.floor(log2 - log2.min())
    mantissas = np.exp2(log2 - log2.min() - exponents + WEIGHT_BITS)
    values = [int(m) << int(e) for m, e in zip(mantissas.tolist(), exponents.tolist(), strict=True)]
    return integers(values, -WEIGHT_BITS)


def block_norm(blocks: Blocks, log2: Floats) -> Json:
    """The block norm with these weights."""
    return {"kind": "block", "runs": blocks.runs, "weights": weight_vector(log2)}


def prove_block(
    problem: Problem, domain: Json, region: Json, sizes: Sequence[int], cited: Sequence[Derivation] = (),
    *, prover: str, norm_name: str,
) -> Attempt:  # fmt: skip
    """Contraction in the block norm with the given group sizes and the best weights found.

    Args:
        cited: derivations of spectral bounds and row gains to cite.
    """
    started = time.perf_counter()

    def attempt(rate: Fraction | None = None, done: Derivation | None = None, reason: str = "") -> Attempt:
        return Attempt(prover, norm_name, time.perf_counter() - started, rate, done, reason)

    try:
        concluded = [problem.conclude(derivation) for derivation in cited]
        over = (problem.box(region), problem.box(domain))
        blocks = Blocks(tuple(sizes), *proved_bounds(concluded, over))
        ranges = problem.ranges(domain, region)
        weights = search(problem, ranges, blocks)
        if not weights.ratio < 1:
            return attempt(reason=f"best rate found {weights.ratio:.6g}: not below 1")
        norm = block_norm(blocks, weights.log2)
        parsed = problem.norm(norm)
        if not isinstance(parsed, BlockNorm):
            raise TypeError("expected a block norm")
        out = propagate(problem.graph, parsed, ranges, concluded, (list(parsed.weights), parsed.exp), over=over)
        rate = round_up(max(value_of(v, out.exp) / parsed.weight(g) for g, v in enumerate(out.values)), 60)
        if rate >= 1:
            return attempt(reason=f"best rate found {float(rate):.6g}: not below 1")
        joined, premises = Derivation(()), []
        for derivation in cited:
            joined, _, last = joined.join(derivation)
            premises.append(last)
        done = joined.then("radius_contraction", premises, domain=domain, region=region, norm=norm, rate=dyadic(rate))
        if not isinstance(problem.conclude(done), Contraction):
            raise TypeError("expected a contraction")
        return attempt(rate, done)
    except CheckError as error:
        return attempt(reason=str(error))
