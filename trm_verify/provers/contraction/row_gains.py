"""Gains of subgraphs that treat every row by itself: multipliers, and the trade-off between several inputs.

For gains in given proportions and multipliers Λ = sψ², the least common factor is an eigenvalue; s and the proportions
are searched for. ψ comes from hints of the layers, else from a small semidefinite program, or it balances the weights
around each unit. All of it is untrusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, fractions, round_up, vector
from trm_verify.kernel.context import Context
from trm_verify.kernel.document import vector as read_vector
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.radius import Gains
from trm_verify.kernel.rules.row_gains import gain_matrix
from trm_verify.provers.contraction.forms import best_scale
from trm_verify.provers.contraction.subgraphs import Subgraph, subgraphs
from trm_verify.provers.factors import factor
from trm_verify.provers.problem import Floats, Problem

SLACKS = (1e-7, 4e-7, 1e-6, 4e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # what the gains are raised by, for a short factor
STEPS = (1.0, 0.5, 0.25, 0.1)  # of the search for proportions, in powers of two
MOST_TRIALS = 80
FAR = 10.0  # powers of two between the gains of a layer's own inputs and that of what is only passed on to it

Rate = Callable[[Gains], float]


@dataclass
class Tuned:
    """A subgraph with its multipliers ψ² up to a factor, and the gains found for proportions tried so far."""

    subgraph: Subgraph
    shape: Floats
    log2: Floats  # proportions of the gains, as the weights suggest them
    known: dict[tuple[float, ...], tuple[Floats, Floats]] = field(default_factory=dict)

    def at(self, log2: Floats) -> tuple[Floats, Floats]:
        """(gains, multipliers) in these proportions; infinite gains when nothing holds."""
        key = tuple(log2.tolist())
        if key not in self.known:
            self.known[key] = self._solve(np.exp2(log2))
        return self.known[key]

    def _solve(self, proportions: Floats) -> tuple[Floats, Floats]:
        form = self.subgraph.form
        metric, image = np.diag(np.repeat(proportions**2, self.subgraph.widths)), np.eye(len(form.outputs))
        power = best_scale(form.reach_along(metric, self.shape, image))
        multipliers = self.shape * 2.0**power * (1 + 1e-8)  # off the edge, where every matrix is singular
        return form.reach(metric, multipliers, image) * proportions, multipliers


def _suggestions(problem: Problem, subgraph: Subgraph) -> Iterator[Floats]:
    """ψ² of hints of the right length, and one that balances the weights before and after each unit."""
    form, n = subgraph.form, subgraph.form.n
    for hint in problem.hints:
        with np.errstate(over="ignore"):
            square = hint**2
        if len(hint) == form.units and _positive(square):
            yield square
    before = np.linalg.norm(form.arguments[:, :n], axis=1)
    after = np.linalg.norm(form.outputs[:, n:], axis=0)
    live = (before > 0) & (after > 0)
    if live.any():
        ratio = np.ones(form.units)
        ratio[live] = after[live] / before[live]
        yield ratio / np.exp(np.log(ratio).mean())


def _tuned(problem: Problem, subgraph: Subgraph) -> list[Tuned]:
    """The subgraph with suggestions, multipliers and proportions of the gains: those with the smallest gains first.

    Proportions are those that a layer aims for, or like the norms of ψW₁ on each input.
    """
    form, starts = subgraph.form, np.cumsum([0, *subgraph.widths])
    aims = list(_aims(problem, len(subgraph.widths)))
    found = []
    for shape in _suggestions(problem, subgraph):
        scaled = form.arguments * np.sqrt(shape)[:, None]
        sizes = [
            float(np.linalg.norm(scaled[:, a:b], 2) + np.linalg.norm(form.outputs[:, a:b], 2))
            for a, b in zip(starts, starts[1:], strict=False)
        ]
        found += [Tuned(subgraph, shape, log2) for log2 in (np.log2(np.maximum(sizes, 1e-12)), *aims)]
    good = [tuned for tuned in found if np.isfinite(tuned.at(tuned.log2)[0]).all()]
    return sorted(good, key=lambda tuned: float(np.linalg.norm(tuned.at(tuned.log2)[0])))


def _aims(problem: Problem, count: int) -> Iterator[Floats]:
    """Proportions that a layer aims for, in powers of two.

    In a cascade the layer also sees the answer of the part before it, before or after its own inputs: that gain may be
    as large as it likes.
    """
    for hint in problem.hints:
        if not _positive(hint) or not 1 < len(hint) <= count:
            continue
        own, others = np.log2(hint), np.full(count - len(hint), FAR + np.log2(hint.max()))
        yield np.concatenate([own, others])
        if len(others):
            yield np.concatenate([others, own])


def _positive(hint: Floats) -> bool:
    return bool(np.all(hint > 0) and np.all(np.isfinite(hint)))


def tune(problem: Problem, domain: Json, region: Json, rate: Rate) -> list[tuple[Tuned, Floats]]:
    """Every subgraph that has gains, with the proportions at which the whole step has the smallest rate found.

    Args:
        rate: of the step when these gains are proved, in doubles.
    """
    found = problem.once(
        "tuned", [domain, region], lambda: [_tuned(problem, s) for s in subgraphs(problem, domain, region)]
    )
    suggested = [each for each in found if each]
    chosen = [(each[0], each[0].log2) for each in suggested]
    best, trials = rate(gains_of(chosen)) if chosen else np.inf, 0
    for place, each in enumerate(suggested):
        for tuned in each[1:]:
            trial = [*chosen[:place], (tuned, tuned.log2), *chosen[place + 1 :]]
            reached = rate(gains_of(trial))
            if reached < best * (1 - 1e-4):
                chosen, best = trial, reached
    for step in STEPS:
        improved = True
        while improved and trials < MOST_TRIALS:
            improved = False
            for place, (tuned, _) in enumerate(chosen):
                for axis in range(1, len(tuned.log2)):
                    for sign in (step, -step):
                        moved = chosen[place][1].copy()
                        moved[axis] += sign
                        trial = [*chosen[:place], (tuned, moved), *chosen[place + 1 :]]
                        trials += 1
                        if np.isfinite(tuned.at(moved)[0]).all():
                            reached = rate(gains_of(trial))
                            if reached < best * (1 - 1e-4):
                                chosen, best, improved = trial, reached, True
    return chosen


def gains_of(chosen: Sequence[tuple[Tuned, Floats]]) -> Gains:
    """The gains of all copies, as propagation takes them."""
    found: Gains = {}
    for tuned, log2 in chosen:
        own = tuple(Fraction(float(gain)) for gain in tuned.at(log2)[0])
        for inputs, output in tuned.subgraph.places:
            found.setdefault(output, []).append((inputs, own))
    return found


def certify(problem: Problem, domain: Json, region: Json, tuned: Tuned, log2: Floats) -> Derivation:
    """The accepted step, with gains raised by as little as a short factor needs.

    Raises:
        CheckError: no factor was accepted.
    """
    gains, multipliers = tuned.at(log2)
    places = [{"inputs": list(inputs), "output": output} for inputs, output in tuned.subgraph.places]
    last = CheckError("DEFINITE", "gains that a factor proves", "none")
    for slack in SLACKS:
        raised = [round_up(Fraction(float(g)) * (1 + Fraction(slack)) + Fraction(1, 1 << 100), 48) for g in gains]
        weights = vector(multipliers * (1 + slack))  # Λ = ρρ'ψ², as a Sandwich wants it
        try:
            rows, exp = gain_matrix(
                Context(problem.graph, (), ()), problem.box(region), problem.box(domain), tuned.subgraph.places, raised,
                read_vector(weights, None, "multipliers"),
            )  # fmt: skip
            done = derive(
                "row_gain", domain=domain, region=region, places=places, gains=fractions(raised), multipliers=weights,
                factor=factor(rows, exp, "the matrix of the row gain"),
            )  # fmt: skip
            problem.conclude(done)
        except CheckError as error:
            last = error
            continue
        return done
    raise last
