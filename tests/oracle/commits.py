"""The claim `commits`, judged by running the rounds on inputs of the domain with several numbers of iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.oracle.evaluate import Evaluator, to_real
from tests.oracle.files import Array, Claim, read_number
from tests.oracle.search import samples

if TYPE_CHECKING:
    from tests.oracle.judge import Judge

MORE = (0, 1, 2, 7, 60)  # iterations beyond the claimed number
LONG = 4000
INPUTS = 32
UNSURE = 1e-9  # differences this near to the threshold are looked at with 240 bits


def commits(judge: Judge, claim: Claim) -> tuple[bool | None, str]:
    """(true, false or unknown, evidence)."""
    body, least = claim.body, np.inf
    if body["steps"] > LONG:
        return None, f"more than {LONG} iterations"
    *positions, classes = judge.fast.readout(judge.fast.init(np.zeros((1, judge.model.m)))).shape[1:]
    shape = judge.model.graph["input"]["shape"]
    if len(body["committed"]) != len(body["answer"]) or np.prod(shape) != np.prod(positions) * (1 + classes):
        return False, "another number of cells"
    inputs = np.unique(samples(claim.domain, judge.model.m, INPUTS, judge.rng), axis=0)
    fast, high = (Orbits(evaluator, body["operator"]) for evaluator in (judge.fast, judge.high))
    for more in MORE:
        answers, committed, nearest = _rounds(judge, claim, inputs, body["steps"] + more, fast, high)
        wrong = (answers != body["answer"]).any(axis=1) | (committed != body["committed"]).any(axis=1)
        if wrong.any():
            other = answers[wrong][0].tolist(), committed[wrong][0].tolist()
            return False, f"with {body['steps'] + more} iterations the rounds end as {other}"
        least = min(least, nearest)
    return True, f"{len(inputs)} inputs, {len(MORE)} numbers of iterations, nearest to the threshold {least:.6g}"


class Orbits:
    """Logits after many iterations, from states that are computed once: more iterations go on from where fewer ended,
    and inputs that the rounds have made equal have one orbit.
    """

    def __init__(self, evaluator: Evaluator, operator: Any) -> None:
        self.evaluator, self.operator = evaluator, operator
        self._reached: dict[Any, tuple[int, Any]] = {}

    def logits(self, x: Array, steps: int) -> Any:
        """`steps` never falls from call to call. Shape: x (inputs, m)."""
        key = tuple(x.ravel())
        done, z = self._reached.get(key) or (0, self.evaluator.init(x))
        for _ in range(done, steps):
            z = self.evaluator.apply(self.operator, z, x)
        self._reached[key] = steps, z
        return self.evaluator.readout(z)


def _rounds(judge: Judge, claim: Claim, x: Array, steps: int, fast: Orbits, high: Orbits) -> tuple[Array, Array, float]:
    """The final answers, the round in which each cell was committed, and how near a decision was to its threshold.

    Shape: x (inputs, m); answers and rounds (inputs, cells).
    """
    body, nearest = claim.body, np.inf
    threshold, blank = read_number(body["threshold"]), body["blank"]
    x, exact = x.copy(), judge.inputs_exactly(claim, x)
    answer = committed = np.zeros((len(x), len(body["answer"])), dtype=int)
    for r in range(1, answer.shape[1] + 2):
        logits = fast.logits(x, steps)
        lead = _lead(logits)
        best, sure = logits.argmax(axis=2), lead > float(threshold)
        gaps = np.minimum(abs(lead - float(threshold)), lead)
        nearest = min(nearest, float(gaps.min()))
        for row in np.flatnonzero((gaps < UNSURE).any(axis=1)):
            slow = high.logits(exact[row : row + 1], steps)
            best[row], sure[row] = slow.argmax(axis=2)[0], (_lead(slow) > to_real(threshold))[0]
        sure &= x.reshape(len(x), answer.shape[1], -1)[:, :, blank] == 1
        answer = np.where(committed > 0, answer, best)
        if not sure.any():
            break
        committed = np.where(sure, r, committed)
        for values in (x, exact):
            cells = values.reshape(len(x), answer.shape[1], -1)  # a view
            cells[sure] = to_real(0) if values.dtype == object else 0.0
            cells[(*np.nonzero(sure), (answer + (answer >= blank))[sure])] = (
                to_real(1) if values.dtype == object else 1.0
            )
    return answer, committed, nearest


def _lead(logits: Any) -> Any:
    """By how much each cell's largest logit leads. Shape: (inputs, cells, classes) to (inputs, cells)."""
    order = np.sort(logits, axis=2)
    return order[:, :, -1] - order[:, :, -2]
