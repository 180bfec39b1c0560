"""Rounds that commit (R13): what each does at a likely fixed point, and from how many steps on that is certain."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from trm_verify.certificate import Derivation
from trm_verify.encode import Json, dyadic, vector
from trm_verify.kernel.claims import Commits, Convergence
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.rules.answers import ball_logits, later_radius
from trm_verify.kernel.rules.committing import (
    Pair,
    classes_of,
    decided_by,
    is_open,
    require,
    undecided_by,
    written,
)  # fmt: skip
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Problem, point

MOST_STEPS = 1_000_000
BITS = 46  # of a state that certificates store: shorter numbers, and still far nearer than any margin


@dataclass(frozen=True)
class Rounds:
    """How a model is run: steps a round (None: as few as can be shown), the threshold, the channel of the blank."""

    steps: int | None
    threshold: Fraction
    blank: int


@dataclass(frozen=True)
class Sight:
    """The model in doubles, from one input (m,): a likely fixed point (n,), and its logits (cells, classes)."""

    state: Callable[[np.ndarray], np.ndarray]
    logits: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CommitAttempt:
    """A derivation of `commits`, or why there is none, and in which round and cell."""

    derivation: Derivation | None
    reason: str = ""
    more: int | None = None  # steps a round with which it would hold


@dataclass(frozen=True)
class _Round:
    """One round: the inputs, a state near its fixed points, which cells commit, and what has to hold at each cell."""

    given: Tensor
    centre: np.ndarray
    commits: dict[int, int]
    pairs: dict[int, list[Pair]]
    rivals: list[int]


def prove_commits(
    problem: Problem, convergence: Derivation, domain: Json, wanted: Rounds, sight: Sight, deadline: float
) -> CommitAttempt:
    """The rounds that the model takes, shown for all inputs of the domain.

    Args:
        convergence: ends in a `convergence` conclusion; its domain has to hold the inputs with commitments too.
    """
    try:
        found = _Search(problem, convergence, wanted, sight, deadline).run(problem.box(domain))
    except CheckError as error:
        return CommitAttempt(None, str(error))
    if isinstance(found, CommitAttempt):
        return found
    rounds, answer, committed, steps = found
    done = convergence.then(
        "commits", domain=domain, steps=steps, threshold=dyadic(wanted.threshold), blank=wanted.blank, answer=answer,
        committed=committed, centers=vector(np.concatenate([r.centre for r in rounds])),
        rivals=[rival for r in rounds for rival in r.rivals],
    )  # fmt: skip
    problem.graph.spent.clear()
    problem.conclude_as(done, Commits)
    return CommitAttempt(done)


class _Search:
    """Round after round, with as many steps as the rounds so far have needed."""

    def __init__(
        self, problem: Problem, convergence: Derivation, wanted: Rounds, sight: Sight, deadline: float
    ) -> None:
        self.problem, self.wanted, self.sight, self.deadline = problem, wanted, sight, deadline
        self.premise = problem.conclude_as(convergence, Convergence)
        self.classes = classes_of(problem.graph)

    def run(self, given: Tensor) -> CommitAttempt | tuple[list[_Round], list[int], list[int], int]:
        width, steps = 1 + self.classes, self.wanted.steps or 0
        cells = given.size // width
        opened = [is_open(given, cell * width + self.wanted.blank) for cell in range(cells)]
        answer, committed, rounds = [0] * cells, [0] * cells, list[_Round]()
        while True:
            if time.monotonic() > self.deadline:
                return CommitAttempt(None, f"the time was used up in round {len(rounds) + 1}")
            turn = self._round(given, opened, committed)
            rounds.append(turn)
            logits = self.sight.logits(turn.centre)
            for cell in range(cells):
                if not committed[cell]:
                    answer[cell] = turn.commits.get(cell, int(logits[cell].argmax()))
            if not turn.commits:
                own = {c: decided_by(answer[c], self.classes, Fraction(0)) for c in range(cells) if not committed[c]}
                turn = replace(turn, pairs={c: [*turn.pairs.get(c, []), *own.get(c, [])] for c in {*turn.pairs, *own}})
            found = self._steps(turn, len(rounds), steps)
            if isinstance(found, CommitAttempt):
                return found
            steps = found
            if not turn.commits:
                return rounds, answer, committed, steps
            for cell in turn.commits:
                committed[cell] = len(rounds)
            blank = self.wanted.blank
            given = written(given, {c: label + (label >= blank) for c, label in turn.commits.items()}, width)

    def _round(self, given: Tensor, opened: Sequence[bool], committed: Sequence[int]) -> _Round:
        """What happens at the middle of these inputs."""
        middle = np.array([float(sum(given.fraction(i)) / 2) for i in range(given.size)])
        centre = _shortened(self.sight.state(middle))
        logits, threshold = self.sight.logits(centre), self.wanted.threshold
        commits, pairs, rivals = dict[int, int](), dict[int, list[Pair]](), list[int]()
        for cell, row in enumerate(logits):
            if not opened[cell] or committed[cell]:
                continue
            first, second = (int(c) for c in np.argsort(-row, kind="stable")[:2])
            if row[first] - row[second] > float(threshold):
                commits[cell] = first
                pairs[cell] = decided_by(first, self.classes, threshold)
            else:  # the best other class is the rival of each
                own = [second if c == first else first for c in range(self.classes)]
                rivals += own
                pairs[cell] = undecided_by(own, threshold)
        return _Round(given, centre, commits, pairs, rivals)

    def _steps(self, turn: _Round, number: int, known: int) -> int | CommitAttempt:
        """Steps with which the round is certain, as few as can be but no fewer than known."""
        problem, centre = self.problem, point(turn.centre)
        near = later_radius(problem.graph, self.premise, turn.given, centre, 0)

        def fails(steps: int) -> str:
            problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
            radius = later_radius(problem.graph, self.premise, turn.given, centre, steps)
            try:
                logits = ball_logits(problem.graph, self.premise, centre, radius)
                for cell, pairs in turn.pairs.items():
                    require(logits, pairs, cell * self.classes, f"in round {number} at cell {cell}")
            except CheckError as error:
                return str(error)
            return ""

        reason = fails(known)
        if not reason:
            return known
        low, high = known, max(16, 2 * known)
        while worse := fails(high):
            if high > MOST_STEPS or power_up(self.premise.rate, high) * near * (1 << 60) < 1:
                return CommitAttempt(None, worse)
            if time.monotonic() > self.deadline:
                return CommitAttempt(None, f"the time was used up in round {number}")
            low, high = high, high * 2
        while high - low > 1 and time.monotonic() <= self.deadline:
            middle = (low + high) // 2
            low, high = (middle, high) if fails(middle) else (low, middle)
        return high if self.wanted.steps is None else CommitAttempt(None, reason, high)


def _shortened(state: np.ndarray) -> np.ndarray:
    """The state with so many bits after the point of its largest entry."""
    unit = 2.0 ** (np.frexp(max(float(np.abs(state).max()), 1e-300))[1] - BITS)
    found: np.ndarray = np.round(state / unit) * unit
    return found
