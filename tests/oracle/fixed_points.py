"""Claims about where fixed points are and what they answer, and refutations: judged by searching for fixed points.

A set may hold a fixed point that the search misses: then a claim about all of them is called true too easily. What the
search finds is real: each fixed point is polished to a residual of 2^-110.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.oracle.evaluate import HIGH, REAL, norm_of, to_high, to_real
from tests.oracle.files import Array, Claim, Set, read_number
from tests.oracle.search import Loop, jacobians, loop

if TYPE_CHECKING:
    from tests.oracle.judge import Judge

CLOSE = REAL.mpf(2) ** -90  # how far a polished fixed point may lie from the true one
ROUGH = REAL.mpf(10) ** -8  # the same for one that could not be polished
LATE = 400  # applications after which an orbit is looked at


@dataclass(frozen=True)
class Root:
    """A fixed point with 240 bits, and how far it may be off."""

    z: Array
    error: Any


def inside(where: Set, point: Array, slack: Any) -> bool:
    """Whether the point lies in the set, up to `slack` (below 0: surely inside)."""
    if where.lo is None or where.hi is None:
        return True
    ends = zip(map(to_real, where.lo), point, map(to_real, where.hi), strict=True)
    return all(lo - slack <= v <= hi + slack for lo, v, hi in ends)


class Seeker:
    """Fixed points of one model for the inputs of one claim."""

    def __init__(self, judge: Judge, claim: Claim, region: Set) -> None:
        self.judge, self.claim, self.region = judge, claim, region
        self.hinted = [
            np.array([float(v) for v in z]) for z in (*claim.hints.states, *(z for _, z in claim.hints.pairs))
        ]

    def high(self, x: Array) -> Array:
        return self.judge.inputs_exactly(self.claim, x[None])

    def roots(self, x: Array, starts: int = 12) -> list[Root]:
        """Every fixed point in the region that the search meets."""
        judge = self.judge
        hinted = [z for z in self.hinted if len(z) == judge.model.n]
        at = np.concatenate([*(z[None] for z in hinted), judge.states(self.region, starts), judge.fast.init(x[None])])
        found = judge.fixed_points(x, at, self.region, newton=len(at))
        return self.polished(found, x)

    def polished(self, found: list[Array], x: Array) -> list[Root]:
        roots: list[Root] = []
        for z in found:
            polished = self.judge.polish(z, self.high(x))
            root = Root(to_high(z), ROUGH) if polished is None else Root(polished, CLOSE)
            scale = 1 + max(map(abs, root.z))
            if inside(self.region, root.z, root.error * scale) and not any(self._same(root, other) for other in roots):
                roots.append(root)
        return roots

    @staticmethod
    def _same(a: Root, b: Root) -> bool:
        return max(map(abs, a.z - b.z)) <= 2**-20 * (1 + max(map(abs, a.z)))

    def inputs(self, count: int) -> Iterator[Array]:
        """The inputs of the hints that belong to the domain, and samples of it."""
        claim, m = self.claim, self.judge.model.m
        for given in dict.fromkeys((*(x for x, _ in claim.hints.pairs), *claim.hints.inputs)):
            if len(given) == m and inside(claim.domain, np.array([to_real(v) for v in given], dtype=object), 0):
                yield np.array([float(v) for v in given])
        yield from self.judge.inputs(claim, count if m else 1)

    def corners(self, x: Array, root: Root, of: Any) -> Array:
        """Corners of the domain that move each entry of `of(z)` most, at a fixed point, to first order."""
        judge, domain = self.judge, self.claim.domain
        if not judge.model.m or not domain.bounded or judge.model.vocabulary is not None:
            return np.zeros((0, judge.model.m))
        z, n = root.z.astype(np.float64), judge.model.n
        f = loop(judge.fast, "picard")
        by_state = np.eye(n) - jacobians(f.at(x), z)
        by_input = jacobians(lambda given: f(np.repeat(z[None], len(given), axis=0), given), x)
        moves = np.linalg.lstsq(by_state, by_input, rcond=None)[0]
        slopes = jacobians(of, z) @ moves
        lo, hi = domain.floats()
        return np.unique(np.concatenate([np.where(slopes > 0, hi, lo), np.where(slopes > 0, lo, hi)]), axis=0)

    def everywhere(self, of: Any, count: int = 5) -> Iterator[tuple[Array, list[Root]]]:
        """Inputs with their fixed points in the region: hints, samples, and the corners that matter most for `of`."""
        first: list[Root] | None = None
        for x in self.inputs(count):
            found = self.roots(x)
            yield x, found
            if first is None and found:
                first = found
                for corner in self.corners(x, found[0], of)[:8]:
                    yield corner, self.roots(corner, 4)


# claims about fixed points


def encloses(judge: Judge, claim: Claim) -> tuple[bool | None, str]:
    """(true, false or unknown, evidence) of encloses_all, encloses_one and encloses_the."""
    box = claim.box or Set(None, None)
    seeker, count, most, kind = Seeker(judge, claim, claim.region or Set(None, None)), 0, 0, claim.name
    for _, roots in seeker.everywhere(lambda z: z):
        held = [inside(box, root.z, root.error * (1 + max(map(abs, root.z)))) for root in roots]
        if kind != "encloses_one" and not all(held):
            return False, "a fixed point of the region lies outside the box"
        if kind == "encloses_the" and len(roots) > 1:
            return False, f"{len(roots)} fixed points in the region"
        if kind != "encloses_all" and not any(held):
            return (False, "the only fixed point found lies elsewhere") if roots else (None, "no fixed point found")
        count, most = count + 1, max(most, len(roots))
    return True, f"{count} inputs, at most {most} fixed points each"


def answer(judge: Judge, claim: Claim) -> tuple[bool | None, str]:
    """fixed_point_answer: every fixed point of the region answers so, strictly, and there is one."""
    label = np.array(claim.body["answer"])
    seeker, count, least = Seeker(judge, claim, claim.region or Set(None, None)), 0, float("inf")
    for _, roots in seeker.everywhere(lambda z: judge.differences(z, label)):
        if not roots:
            return None, "no fixed point found"
        least = min(least, *(judge.margin_at(root.z[None], label) for root in roots))
        if not least > 0:
            return False, f"a margin of {least:.3g} at a fixed point"
        count += 1
    return True, f"{count} inputs, least margin {least:.6g}"


# refutations: true when the search itself finds what a claim of that name excludes


def refutation(judge: Judge, claim: Claim) -> tuple[bool | None, str]:
    found = {
        "at_most_one": several, "exactly_one": not_one, "fixed_point_answer": another_answer, "answer": late_answer,
        "convergence": periodic, "contraction": expanding,
    }[claim.body["of"]](judge, claim)  # fmt: skip
    return (True, found) if found else (None, "no counterexample found")


def several(judge: Judge, claim: Claim) -> str:
    region = claim.region or Set(None, None)
    pairs = [(x, z) for x, z in claim.hints.pairs if _is_fixed(judge, claim, x, z) and _has(region, z)]
    if any(x == y and z != w for x, z in pairs for y, w in pairs):
        return "two rational fixed points of one input"
    seeker = Seeker(judge, claim, region)
    for x in seeker.inputs(4):
        roots = seeker.roots(x)
        if len(roots) > 1:
            return f"{len(roots)} fixed points at {x.tolist()}"
    return ""


def not_one(judge: Judge, claim: Claim) -> str:
    seeker = Seeker(judge, claim, claim.region or Set(None, None))
    for x in seeker.inputs(4):
        roots = seeker.roots(x, 40)
        if len(roots) != 1:
            return f"{len(roots)} fixed points at {x.tolist()}"
    return ""


def another_answer(judge: Judge, claim: Claim) -> str:
    label, region = np.array(claim.body["answer"]), claim.region or Set(None, None)
    for x, z in claim.hints.pairs:
        if _is_fixed(judge, claim, x, z) and _has(region, z):
            margin = judge.margin_at(HIGH.array(z, (1, len(z))), label)
            if margin <= 2.0**-200:
                return f"a rational fixed point has the margin {margin:.3g}"
    seeker = Seeker(judge, claim, region)
    for x in seeker.inputs(4):
        for root in seeker.roots(x):
            if judge.margin_at(root.z[None], label) <= 0:
                return f"a fixed point at {x.tolist()} answers otherwise"
    return ""


def late_answer(judge: Judge, claim: Claim) -> str:
    f, label = loop(judge.fast, claim.body["operator"]), np.array(claim.body["answer"])
    for x in Seeker(judge, claim, Set(None, None)).inputs(6):
        z = judge.fast.init(x[None])
        for _ in range(LATE):
            z = f(z, x[None])
        if not judge.margins(z, label)[0] > 0 and not judge.margins(f(z, x[None]), label)[0] > 0:
            return f"after {LATE} steps from {x.tolist()} the answer is another"
    return ""


def periodic(judge: Judge, claim: Claim) -> str:
    operator, region = claim.body["operator"], claim.region or Set(None, None)
    f = loop(judge.fast, operator)
    for x in Seeker(judge, claim, region).inputs(3):
        given = judge.inputs_exactly(claim, x[None])
        for orbit in claim.hints.orbits:
            z = _periodic(f, x, np.array([float(v) for v in orbit[0]]), len(orbit))
            high = to_high(z)[None]
            start = high
            path = [start := judge.exactly(operator, start, given) for _ in orbit]
            back, moved = (float(max(map(abs, (p - high)[0]))) for p in (path[-1], path[0]))
            if back < 1e-10 and moved > 1e-6 and inside(region, high[0], REAL.mpf(10) ** -9):
                return f"an orbit of period {len(orbit)}, whose first step moves by {moved:.3g}"
        z = judge.states(region, 8)
        for _ in range(LATE):
            z = f(z, x[None])
        if not np.isfinite(z).all() or np.abs(f(z, x[None]) - z).max() > 1e-3:
            return f"an orbit still moves after {LATE} steps"
    return ""


def _periodic(f: Loop, x: Array, z: Array, period: int) -> Array:
    """A zero of Tᵖ(z) − z near z, by Newton's method."""

    def power(states: Array) -> Array:
        for _ in range(period):
            states = f(states, x[None])
        return states

    for _ in range(12):
        step = np.linalg.lstsq(np.eye(len(z)) - jacobians(power, z), power(z[None])[0] - z, rcond=None)[0]
        z = z + step
        if not np.isfinite(z).all() or np.abs(step).max() < 1e-15:
            break
    return z


def expanding(judge: Judge, claim: Claim) -> str:
    operator, region, rate = claim.body["operator"], claim.region or Set(None, None), read_number(claim.body["rate"])
    exact = norm_of(claim.norm or {}, HIGH)
    hinted = [to_high(np.array([float(v) for v in z])) for z in claim.hints.states if len(z) == judge.model.n]
    hinted = [z for z in hinted if inside(region, z, 0)] + list(to_high(judge.states(region, 20)))
    for x in Seeker(judge, claim, region).inputs(3):
        given = judge.inputs_exactly(claim, x[None])
        images = [judge.exactly(operator, z[None], given)[0] for z in hinted]
        for i, z in enumerate(hinted):
            for j in range(i):
                before, after = exact((z - hinted[j])[None])[0], exact((images[i] - images[j])[None])[0]
                if after > before * to_real(rate) + CLOSE * before:
                    return f"a pair at distance {float(before):.6g} expands by {float(after / before):.9g}"
    return ""


def _is_fixed(judge: Judge, claim: Claim, x: tuple[Fraction, ...], z: tuple[Fraction, ...]) -> bool:
    """Whether a rational state is a fixed point for a rational input of the domain, at 240 bits."""
    given, state = HIGH.array(x, (1, len(x))), HIGH.array(z, (1, len(z)))
    if len(x) != judge.model.m or len(z) != judge.model.n or not _has(claim.domain, x):
        return False
    return bool(max(map(abs, (judge.high.step(state, given) - state)[0])) < REAL.mpf(2) ** -200)


def _has(where: Set, point: tuple[Fraction, ...]) -> bool:
    if where.lo is None or where.hi is None:
        return True
    return all(lo <= v <= hi for lo, v, hi in zip(where.lo, point, where.hi, strict=True))
