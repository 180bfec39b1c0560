"""Attractor maps: where many starts of a loop end, how stable that is, and which claim fails there.

Everything in a map is observed in floating point, but for the claims that are REFUTED: these the kernel has accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from trm_verify.auditing.claims import certified, deadline_of, judged
from trm_verify.box import exact_array
from trm_verify.display import Plotted
from trm_verify.encode import Json, box_json
from trm_verify.provers.problem import ALL_STATES, NO_INPUT
from trm_verify.provers.refutation.loops import Loop, inputs_of
from trm_verify.provers.refutation.orbits import Orbit
from trm_verify.provers.refutation.search import LONGEST, SHORTEST, Refutation, Witnesses, by_newton
from trm_verify.provers.refutation.survey import ELSEWHERE, LEAVES, WANDERS, Survey, draw, exponent, survey
from trm_verify.result import REFUTED, UNKNOWN, Checked, ClaimResult, Verdict, WithCertificate
from trm_verify.verification.inputs import Input, Inputs
from trm_verify.verification.session import Region, Verification

FIXED, CYCLE, WANDERING, LEAVING, OTHER = "fixed point", "cycle", "wandering", "leaving", "other orbits"
SHOWN = 60  # first states of every start that a map keeps, for its figure
SAMPLED = 4  # wandering starts whose exponent is estimated
MOST = 8  # fates, and orbits that no start reached, that are told in words


@dataclass(frozen=True, eq=False)
class Attractor:
    """One fate of the starts, or an orbit that repels them.

    Attributes:
        kind: "fixed point", "cycle", "wandering" (neither settled nor gone), "leaving" (ever further away) or "other
            orbits" (where there are too many to tell them apart).
        states: the fixed point, the cycle in order, or the last states of starts with another fate. Shape: (count, n).
        share: of the sampled starts that end here.
        growth: spectral radius of the derivative once around the orbit; None where there is no orbit, or no derivative.
        exponent: largest Lyapunov exponent a step; an estimate for wandering starts, None where it has no meaning.
    """

    kind: str
    states: np.ndarray
    share: float
    growth: float | None = None
    exponent: float | None = None

    @property
    def period(self) -> int | None:
        """Of a fixed point 1; None where there is no orbit."""
        return len(self.states) if self.kind in (FIXED, CYCLE) else None

    @property
    def repels(self) -> bool:
        """Whether it is an orbit that states nearby move away from."""
        return self.growth is not None and self.growth > 1

    def __str__(self) -> str:
        if self.kind in (LEAVING, OTHER):
            return {LEAVING: "ever further away", OTHER: "other orbits, too many to tell apart"}[self.kind]
        kind = f"cycle of period {self.period}" if self.kind == CYCLE else self.kind
        size = "" if self.exponent is None else f", largest Lyapunov exponent {self.exponent:.3g} a step"
        return f"{'repelling ' if self.repels else ''}{kind}{size}"


@dataclass(frozen=True, eq=False)
class AttractorMap(WithCertificate, Plotted):
    """Where the starts of one loop end.

    Attributes:
        attractors: the fates that were met, the commonest first.
        unreached: fixed points and cycles that Newton's method found, and in which no start ended.
        own: place in `attractors` of the model's own start init(x); None when it was not among the starts.
        claims: "exactly_one" and, unless the model is implicit, "convergence" from every start: REFUTED or UNKNOWN.
        refutations: what the kernel accepted.
        reasons: why no region was found, where one was to be: then the map and the claims are about all states.
        given: the input. Shape: input_shape; None for a model without input.
        starts: Shape: (starts, n).
        fates: place in `attractors`, per start.
        paths: the first states of every start. Shape: (steps + 1, starts, n).
    """

    _certifies: ClassVar[str] = "refuted"
    attractors: tuple[Attractor, ...]
    unreached: tuple[Attractor, ...]
    own: int | None
    claims: Mapping[str, ClaimResult]
    refutations: tuple[Refutation, ...]
    reasons: tuple[str, ...]
    given: np.ndarray | None
    starts: np.ndarray
    fates: np.ndarray
    paths: np.ndarray
    graph_digest: str
    weights_digest: str
    checked: Checked | None = field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """REFUTED if a claim is, else UNKNOWN: a sample proves nothing."""
        return REFUTED if any(c.verdict is REFUTED for c in self.claims.values()) else UNKNOWN

    def explain(self) -> str:
        """The map in words."""
        lines = [f"{len(self.starts)} starts (observed in floating point)", *(f"  {text}" for text in self.reasons)]
        for k, each in enumerate(self.attractors):
            own = " (the model's own start among them)" if k == self.own else ""
            if k < MOST or own:
                lines.append(f"  {100 * each.share:.1f} %: {each}{own}")
        lines += [f"  reached by no start: {each}" for each in self.unreached[:MOST]]
        more = [max(len(each) - MOST, 0) for each in (self.attractors, self.unreached)]
        lines += [f"  … and {sum(more)} more"] if any(more) else []
        for claim in self.claims.values():
            lines.append(f"{claim.verdict}: {claim.name}: {claim.reason}")
        return "\n".join(lines)

    __str__ = explain


def attractors(
    model: nn.Module,
    x: Input | None = None,
    *,
    starts: int | Any = 256,
    steps: int = 2000,
    region: Region | None = None,
    spread: float = 2.0,
    seed: int = 0,
    timeout: float | None = 60.0,
) -> AttractorMap:
    """Map where the loop ends, for one input: fixed points, cycles, divergence, and how many starts each of them draws.

    What is found against "exactly one fixed point" and "converges from every start" is proved where the kernel accepts
    it; the rest is observed.

    Args:
        x: one input; none for a model without input.
        starts: how many, or the states themselves.
        steps: applications of the model's iteration (of the step, for an implicit model) at most.
        region: a box to draw the starts from, and that the claims are about (or "invariant", see
            `verify_fixed_point`); default: normal about init(x), and all
            states.
        spread: standard deviation of the starts where there is no region.
        timeout: seconds, after which nothing new is begun; None: no limit.

    Shape: x (*input_shape); starts (count, n).

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: x, starts, steps or region do not fit the model.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"expected steps >= 1, found {steps!r}")
    if not 0 < spread < float("inf"):
        raise ValueError(f"expected spread > 0, found {spread!r}")
    deadline = deadline_of(timeout)
    session = Verification(model, None, region, seed)
    given, domain = _input(session, x)
    problem, operator = session.problem, session.deployed.operator
    exact = inputs_of(problem, domain, 1)[0]
    loop = Loop(problem, operator, exact)
    states, why = session.region_or_why(domain, deadline)
    first = _starts(states, loop, starts, spread, seed)
    seen = survey(loop, first, steps, shown=SHOWN, deadline=deadline)
    at = Witnesses(problem, domain, states, operator, exact, deadline)
    fixed, twofold = (by_newton(loop, seen, period, deadline) for period in (1, 2))
    two = at.two_fixed_points([*(o for o in seen.orbits if o.period == 1), *fixed])
    cycle = at.cycle(_cycles(loop, seen, twofold, SHORTEST if two else LONGEST, deadline))
    refuted = tuple(found for found in (two, cycle) if found is not None)
    checked = certified(session, refuted)
    met, places = _fates(loop, seen)
    drawn = isinstance(starts, (int, np.integer)) and states == ALL_STATES
    return AttractorMap(
        attractors=tuple(met),
        unreached=tuple(_attractor(loop, orbit, 0.0) for orbit in [*fixed, *twofold][: 4 * MOST]),
        own=int(places[0]) if drawn else None,
        claims=judged(operator, seen, fixed, refuted, at.reasons, checked),
        refutations=refuted,
        reasons=why,
        given=given,
        starts=seen.starts,
        fates=places,
        paths=seen.paths,
        graph_digest=problem.graph.digest,
        weights_digest=problem.graph.weights.sha256,
        checked=checked,
    )


def _input(session: Verification, x: Input | None) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The input in doubles, and as certificates write it."""
    task = Inputs.of(session, x, None, None)
    if task is None or task.batch or len(task.rows) != 1:
        given = "a batch" if task else "none"
        raise ValueError(f"expected one input of shape {session.spec.input_shape}, found {given}")
    row = task.rows[0]
    if row.box is None:
        return None, NO_INPUT
    if not (row.box.is_point and row.box.is_dyadic):
        raise ValueError("expected one input of binary fractions (an array or tensor of floats), found another")
    return row.centre, box_json("input", row.box)


def _starts(region: Json, loop: Loop, starts: Any, spread: float, seed: int) -> torch.Tensor:
    if isinstance(starts, (int, np.integer)) and not isinstance(starts, bool):
        if starts < 1:
            raise ValueError(f"expected at least one start, found {starts}")
        return draw(loop, region, int(starts), (spread,), seed)
    given = exact_array(starts, "starts")
    if given.ndim != 2 or given.shape[1] != loop.size or not len(given):
        raise ValueError(f"expected starts of shape (count, {loop.size}), found {given.shape}")
    return torch.from_numpy(given.astype(np.float64))


def _cycles(loop: Loop, seen: Survey, twofold: Sequence[Orbit], longest: int, deadline: float) -> Iterator[Orbit]:
    """Cycles that were met, those of period two, and if there is no other evidence longer ones."""
    longer = (orbit for period in range(3, longest + 1) for orbit in by_newton(loop, seen, period, deadline))
    yield from chain((orbit for orbit in seen.orbits if orbit.period > 1), twofold, longer)


def _attractor(loop: Loop, orbit: Orbit, share: float) -> Attractor:
    growth = None if np.isnan(orbit.growth) else orbit.growth
    kind = FIXED if orbit.period == 1 else CYCLE
    return Attractor(kind, orbit.states, share, growth, exponent(loop, orbit, orbit.states[0]))


def _fates(loop: Loop, seen: Survey) -> tuple[list[Attractor], np.ndarray]:
    """The fates that were met, the commonest first, and the place of each start's."""
    fates = np.array(seen.fates)
    found: dict[int, Attractor] = {}
    for fate in set(seen.fates):
        rows = np.flatnonzero(fates == fate)
        share, last = len(rows) / len(fates), seen.last[rows]
        if fate in (LEAVES, ELSEWHERE):
            found[fate] = Attractor(LEAVING if fate == LEAVES else OTHER, last, share)
        elif fate == WANDERS:
            estimates = [exponent(loop, None, state) for state in last[:SAMPLED]]
            found[fate] = Attractor(WANDERING, last, share, None, max(estimates))
        else:
            found[fate] = _attractor(loop, seen.orbits[fate], share)
    order = sorted(found, key=lambda fate: (-found[fate].share, fate))
    place = {fate: k for k, fate in enumerate(order)}
    return [found[fate] for fate in order], np.array([place[fate] for fate in seen.fates])
