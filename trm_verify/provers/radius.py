"""Contraction in block norms by R1: the weights are the Perron vector of the propagation itself.

One kernel pass `F` maps group radii d to output radii; it is monotone and positively homogeneous. Power iteration on `F`
gives the best rate; where the graph is reducible (or nilpotent) no eigenvector is positive, and the resolvent
`d = Σ_k F^k(1)/ρᵏ` gives `F(d) = ρ(d − 1) < ρd` at any ρ above the spectral radius.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, integers, round_up
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import rescale
from trm_verify.kernel.radius import Propagation, Radii, regroup
from trm_verify.kernel.rules.contraction import state_radii
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Attempt, Problem, floats

WEIGHT_BITS = 52  # weights are integers of this size times their ratio to the smallest one
Map = Callable[[np.ndarray], np.ndarray]


class _Fast(Propagation):
    """The kernel's propagation with dense |W| products in doubles: right to about 1e-15, which a search can live with."""

    def __init__(self, problem: Problem, ranges: list[Tensor], bounds: dict[int, Fraction]) -> None:
        super().__init__(problem.graph.step, ranges, bounds)
        self.absolute: dict[int, np.ndarray] = {}

    def matrix(self, index: int) -> np.ndarray:
        if index not in self.absolute:
            weight = self.ranges[index]
            array = np.array(weight.ends()[0], dtype=np.float64) if weight.exp > -1000 else floats(weight.ends()[0], 0)
            self.absolute[index] = np.abs(np.ldexp(array.reshape(weight.shape), weight.exp))
        return self.absolute[index]

    def product(self, r: Radii, index: int) -> Radii | None:
        """|W| applied to every row of singletons, or None when doubles cannot hold the radii."""
        weight = self.matrix(index)
        if r.groups is not None or max(r.values).bit_length() > 1000:
            return None
        rows = floats(r.values, 0).reshape(-1, weight.shape[1]) @ weight.T
        largest = float(rows.max())
        if not 0 < largest < 1e250:
            return None
        exp = int(np.frexp(largest)[1]) - 900 if largest > 1 else -900
        exp = max(exp, -300)
        return Radii(None, [int(v) for v in np.ldexp(rows.ravel(), -exp).tolist()], r.exp + exp)


def _search_map(problem: Problem, ranges: list[Tensor], norm: BlockNorm, bounds: dict[int, Fraction]) -> Map:
    fast = _Fast(problem, ranges, bounds)
    exact = Propagation._linear

    def linear(self: _Fast, node: object, r: Radii) -> Radii:
        quick = self.product(r, node.args[1])  # type: ignore[attr-defined]
        return exact(self, node, r) if quick is None else quick  # type: ignore[arg-type]

    fast.SINGLE = {**Propagation.SINGLE, "linear": linear}  # type: ignore[dict-item, misc]

    def image(weights: np.ndarray) -> np.ndarray:
        exp = -60
        values = [int(v) for v in np.ldexp(weights, -exp).tolist()]
        radii = fast.run(state_radii(problem.graph, norm, values, exp), None)
        return floats(*_flat(problem, [radii[i] for i in problem.graph.step.outputs], norm))

    return image


def _flat(problem: Problem, parts: Sequence[Radii | None], norm: BlockNorm) -> tuple[list[int], int]:
    exp = min((r.exp for r in parts if r is not None), default=0)
    groups: list[int] = []
    flat: list[int] = []
    for r, shape in zip(parts, problem.graph.state, strict=True):
        start, size = len(flat), int(np.prod(shape))
        groups += [start + g for g in (range(size) if r is None or r.groups is None else r.groups)]
        flat += [0] * size if r is None else rescale(r.values, r.exp, exp)
    out = regroup(Radii(groups, flat, exp), norm.groups)
    return out.values, out.exp


def perron(image: Map, size: int, iterations: int = 400, tolerance: float = 1e-10) -> tuple[np.ndarray, float]:
    """Weights d > 0 with max F(d)/d as small as found, and that ratio."""
    d = np.ones(size)
    best, best_ratio, stalled = d, float(np.max(image(d))), 0
    for _ in range(iterations):
        after = image(d)
        ratios = after / d
        worst = float(ratios.max())
        if worst < best_ratio * (1 - 1e-13):
            stalled = 0 if worst < best_ratio * (1 - 1e-4) else stalled + 1
            best, best_ratio = d, worst
        else:
            stalled += 1
        if worst - float(ratios.min()) <= tolerance * worst or stalled > 60:
            break
        d = after + 0.5 * worst * d  # the shift breaks periodicity and keeps every weight positive
        d = d / d.min()
        if not np.isfinite(d).all() or d.max() > 1e60:
            break
    return best, best_ratio


def resolvent(image: Map, size: int, start: float) -> tuple[np.ndarray, float] | None:
    """Weights from the resolvent of the propagation, for reducible graphs. Exact linear algebra up to 2048 groups."""
    if size > 2048:
        return None
    matrix = np.column_stack([image(column) for column in np.eye(size)])
    radius = float(np.abs(np.linalg.eigvals(matrix)).max())
    best: tuple[np.ndarray, float] | None = None
    for rate in (radius * (1 + 1e-8), radius * (1 + 1e-7), radius * (1 + 4e-7), radius + 1e-4, radius + 1e-2, 0.5, 0.9, 0.99, 0.999):
        if not radius < rate < 1 or (best is not None and rate >= best[1]):
            continue
        try:
            d = np.linalg.solve(np.eye(size) - matrix / rate, np.ones(size))
        except np.linalg.LinAlgError:
            continue
        if not np.isfinite(d).all() or d.min() <= 0 or d.max() / d.min() > 1e200:
            continue
        d = d / d.min()
        ratio = float((image(d) / d).max())
        if ratio < min(start, 1.0) and (best is None or ratio < best[1]):
            best = d, ratio
    return best


def block_norm(runs: list[list[int]], weights: np.ndarray) -> Json:
    """A block norm whose weights are the given doubles, scaled so that the smallest has about WEIGHT_BITS bits."""
    scaled = np.ldexp(weights / weights.min(), WEIGHT_BITS)
    return {"kind": "block", "runs": runs, "weights": integers([int(v) for v in scaled.tolist()], -WEIGHT_BITS)}


def runs_of(sizes: Sequence[int]) -> list[list[int]]:
    """Group sizes as [count, size] runs."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1][0] += 1
        else:
            runs.append([1, size])
    return runs


def prove_block(
    problem: Problem, domain: Json, region: Json, sizes: Sequence[int], spectral: Sequence[Derivation] = (),
    *, prover: str, norm_name: str,
) -> Attempt:  # fmt: skip
    """Contraction in the block norm with the given group sizes and the best weights found.

    Args:
        spectral: derivations of spectral bounds to cite.
    """
    started = time.perf_counter()
    runs = runs_of(sizes)
    try:
        bounds: dict[int, Fraction] = {}
        for derivation in spectral:
            concluded = problem.conclude(derivation)
            bounds[concluded.matrix] = concluded.bound  # type: ignore[union-attr]
        shape = BlockNorm(tuple(sizes), (1,) * len(sizes), 0)
        image = _search_map(problem, problem.ranges(domain, region), shape, bounds)
        weights, ratio = perron(image, len(sizes))
        # Collatz–Wielandt: power iteration has converged when the smallest ratio meets the largest
        spread = image(weights) / weights
        if len(sizes) > 1 and (float(spread.max()) - float(spread.min())) > 1e-8 * max(ratio, 1e-300):
            better = resolvent(image, len(sizes), ratio)
            if better is not None:
                weights, ratio = better
        if not ratio < 1:
            reason = f"best rate found {ratio:.6g}: not below 1"
            return Attempt(prover, norm_name, time.perf_counter() - started, reason=reason)
        return _certify(problem, domain, region, runs, weights, ratio, spectral, prover, norm_name, started)
    except CheckError as error:
        return Attempt(prover, norm_name, time.perf_counter() - started, reason=str(error))


def _certify(
    problem: Problem, domain: Json, region: Json, runs: list[list[int]], weights: np.ndarray, ratio: float,
    spectral: Sequence[Derivation], prover: str, norm_name: str, started: float,
) -> Attempt:  # fmt: skip
    norm = block_norm(runs, weights)
    joined, cited = Derivation(()), []
    for derivation in spectral:
        joined, _, last = joined.join(derivation)
        cited.append(last)
    reason = ""
    for slack in (2.0**-48, 2.0**-40, 2.0**-32, 2.0**-26):
        rate = round_up(Fraction(ratio) * (1 + Fraction(slack)) + Fraction(2) ** -200, 56)
        if rate >= 1:
            break
        try:
            done = joined.then(
                "radius_contraction", cited, domain=domain, region=region, norm=norm, rate=dyadic(rate)
            )
            concluded = problem.conclude(done)
        except CheckError as error:
            reason = str(error)
            continue
        if not isinstance(concluded, Contraction):
            raise TypeError("radius_contraction concluded something else")
        return Attempt(prover, norm_name, time.perf_counter() - started, concluded.rate, done)
    return Attempt(prover, norm_name, time.perf_counter() - started, reason=reason or "the rate rounds up to 1")


def prove_linf(problem: Problem, domain: Json, region: Json) -> Attempt:
    """Weighted ℓ∞ through any graph."""
    sizes = [1] * problem.graph.size
    return prove_block(problem, domain, region, sizes, prover="radius", norm_name="weighted_linf")


def token_sizes(problem: Problem) -> list[int]:
    """One group per last-axis row of each state part: the mixed norm over tokens."""
    rows = [(shape or (1,)) for shape in problem.graph.state]
    return [shape[-1] for shape in rows for _ in range(int(np.prod(shape[:-1])))]


def part_sizes(problem: Problem) -> list[int]:
    return [int(np.prod(shape)) for shape in problem.graph.state]

