"""The search for refutations: in doubles, one input of the domain after the other, each proved by the kernel's rules.

Two fixed points of one input refute that there is at most one; a cycle, or a start that runs away, refutes that the
loop converges from everywhere; a pair of states that move apart refutes a contraction in the norm and at the rate in
question, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from trm_verify.encode import Json, round_up, vector
from trm_verify.kernel.norms import BlockNorm
from trm_verify.provers.contraction.block import Blocks
from trm_verify.provers.contraction.spectral import part_sizes, token_sizes
from trm_verify.provers.problem import ALL_STATES, Problem
from trm_verify.provers.refutation import expansion
from trm_verify.provers.refutation.counterexamples import Refutation, Witnesses
from trm_verify.provers.refutation.escape import escapes
from trm_verify.provers.refutation.loops import Loop, inputs_of
from trm_verify.provers.refutation.orbits import Orbit, periodic
from trm_verify.provers.refutation.survey import LEAVES, WANDERS, Survey, draw, survey

__all__ = [
    "LONGEST",
    "SHORTEST",
    "Expansion",
    "Refutation",
    "Search",
    "Witnesses",
    "by_newton",
    "expanding",
    "observed",
    "plain_norm",
    "refute",
    "search",
]

INPUTS = 8  # of the domain that are tried, until one of them has a refutation
STARTS, STEPS, SPREADS = 48, 512, (1.0, 0.1, 10.0)
LONGEST, SHORTEST = 8, 2  # periods up to which Newton's method looks for a cycle, without and with other evidence
DERIVATIVES = 1 << 21  # entries of the derivatives at all starts of Newton's method, which limits their number


@dataclass(frozen=True, eq=False)
class Search:
    """What came of a search.

    Attributes:
        refutations: accepted by the kernel's rules.
        observations: what was seen in floating point and is not proved.
        reasons: why the kernel did not accept what was found.
    """

    refutations: tuple[Refutation, ...] = ()
    observations: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Expansion:
    """The largest expansion that was met, and the refutation if it exceeds the rate in question."""

    ratio: float
    refutation: Refutation | None = None


def refute(
    problem: Problem, domain: Json, region: Json = ALL_STATES, operator: object = "picard",
    deadline: float = float("inf"), seed: int = 0,
) -> list[Refutation]:  # fmt: skip
    """Refutations of `at_most_one` and of the operator's `convergence`; see `search`."""
    return list(search(problem, domain, region, operator, deadline, seed).refutations)


def search(
    problem: Problem, domain: Json, region: Json = ALL_STATES, operator: object = "picard",
    deadline: float = float("inf"), seed: int = 0,
) -> Search:  # fmt: skip
    """Look for two fixed points and for a cycle, at one input of the domain after the other.

    Args:
        domain, region: as certificates write them; a refutation needs one input, and states of the region.
        operator: of the loop; an implicit model has no loop that could run through a cycle.
        deadline: on the monotonic clock; the kernel's check of what was found last may come on top.
    """
    observations: list[str] = []
    reasons: list[str] = []
    found: list[Refutation] = []
    for given in inputs_of(problem, domain, INPUTS, seed):
        if found or time.monotonic() > deadline:
            break
        loop, at = Loop(problem, operator, given), Witnesses(problem, domain, region, operator, given, deadline)
        seen = survey(loop, draw(loop, region, STARTS, SPREADS, seed), STEPS, deadline=deadline)
        two = at.two_fixed_points(_fixed(loop, seen, deadline))
        lost = at.divergence(escapes(loop, seen)) or at.cycle(
            _cycles(loop, seen, LONGEST if two is None else SHORTEST, deadline)
        )
        found = [each for each in (two, lost) if each is not None]
        observations += observed(seen)
        reasons += at.reasons
    return Search(tuple(found), tuple(dict.fromkeys(observations)), tuple(dict.fromkeys(reasons)))


def _fixed(loop: Loop, seen: Survey, deadline: float) -> Iterator[Orbit]:
    yield from (orbit for orbit in seen.orbits if orbit.period == 1)
    yield from by_newton(loop, seen, 1, deadline)


def _cycles(loop: Loop, seen: Survey, longest: int, deadline: float) -> Iterator[Orbit]:
    yield from (orbit for orbit in seen.orbits if orbit.period > 1)
    for period in range(2, longest + 1):
        yield from by_newton(loop, seen, period, deadline)


def by_newton(loop: Loop, seen: Survey, period: int, deadline: float = float("inf")) -> list[Orbit]:
    """Orbits of a period in which no start has ended, found by Newton's method from first and last states."""
    most = max(4, DERIVATIVES // loop.size**2)
    last = seen.last[np.isfinite(seen.last).all(axis=1)][: most // 2]
    starts = np.concatenate([last, seen.starts[: most - len(last)]])
    found = periodic(loop, torch.from_numpy(starts), period, deadline)
    return [orbit for orbit in found if not any(orbit.meets(other) for other in seen.orbits)]


def observed(seen: Survey) -> list[str]:
    """What became of the starts that ended in no orbit, in words."""
    total, words = len(seen.fates), []
    for fate, said in ((LEAVES, "move away without end"), (WANDERS, "neither settle nor leave")):
        count = seen.fates.count(fate)
        if count:
            words.append(f"{count} of {total} starts {said} (observed in floating point, not proved)")
    return words


def plain_norm(problem: Problem, name: str) -> Json:
    """A block norm with equal weights, as certificates write it: linf, l2, parts or tokens.

    Raises:
        ValueError: another name.
    """
    n = problem.graph.size
    sizes = {"linf": [1] * n, "l2": [n], "parts": part_sizes(problem), "tokens": token_sizes(problem)}
    if name not in sizes:
        raise ValueError(f"expected a norm among {', '.join(sizes)}, found {name!r}")
    runs = Blocks(tuple(sizes[name]), {}).runs
    return {"kind": "block", "runs": runs, "weights": vector(np.ones(len(sizes[name])))}


def expanding(
    problem: Problem, domain: Json, region: Json, norm: Json, rate: Fraction = Fraction(1),
    operator: object = "picard", deadline: float = float("inf"), seed: int = 0,
) -> Expansion:  # fmt: skip
    """Look for two states that the operator does not bring together at the rate, in a block norm.

    The refutation states the largest ratio that was met, rounded down: a contraction at any smaller rate is false.

    Args:
        norm: as certificates write it. rate: the least rate worth refuting; 1 refutes every contraction in the norm.
        operator: for an implicit model, the step itself is meant.

    Raises:
        ValueError: a metric norm, for which there is no such rule.
    """
    parsed = problem.norm(norm)
    if not isinstance(parsed, BlockNorm):
        raise ValueError(f"expected a block norm, found a {parsed.family} one")
    stated = "picard" if operator == "implicit" else operator
    pair = expansion.search(problem, domain, region, stated, parsed, deadline, seed)
    if not pair.ratio >= rate:
        return Expansion(pair.ratio)
    at = Witnesses(problem, domain, region, stated, pair.given)
    return Expansion(pair.ratio, at.expanding(pair, norm, round_up(rate, 32)))
