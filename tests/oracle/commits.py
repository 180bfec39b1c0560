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
    for x in samples(claim.domain, judge.model.m, 32, judge.rng):
        exact = judge.inputs_exactly(claim, x[None])
        for more in MORE:
            found = _rounds(judge, claim, x[None], exact, body["steps"] + more)
            if found[:2] != (tuple(body["answer"]), tuple(body["committed"])):
                return False, f"with {body['steps'] + more} iterations the rounds end as {found[:2]}"
            least = min(least, found[2])
    return True, f"32 inputs, {len(MORE)} numbers of iterations, nearest to the threshold {least:.6g}"


Outcome = tuple[tuple[int, ...], tuple[int, ...], float]


def _rounds(judge: Judge, claim: Claim, x: Array, exact: Array, steps: int) -> Outcome:
    """The final answer, the round in which each cell was committed, and how near a decision was to its threshold."""
    body, nearest = claim.body, np.inf
    threshold, blank = read_number(body["threshold"]), body["blank"]
    x, exact = x.copy(), exact.copy()
    answer = committed = np.zeros(len(body["answer"]), dtype=int)
    for r in range(1, len(committed) + 2):
        logits: Array = _logits(judge.fast, claim, x, steps)
        order = np.sort(logits, axis=1)
        gaps = np.minimum(abs(order[:, -1] - order[:, -2] - float(threshold)), order[:, -1] - order[:, -2])
        nearest = min(nearest, float(gaps.min()))
        if nearest < UNSURE:
            logits = _logits(judge.high, claim, exact, steps)
            order = np.sort(logits, axis=1)
        held, shown = committed > 0, x.reshape(len(committed), -1)[:, blank] == 1
        sure = shown & (order[:, -1] - order[:, -2] > (to_real(threshold) if logits.dtype == object else threshold))
        answer = np.where(held, answer, logits.argmax(axis=1))
        if not sure.any():
            break
        committed = np.where(sure, r, committed)
        for values in (x, exact):
            cells = values.reshape(len(committed), -1)  # a view
            cells[sure] = to_real(0) if values.dtype == object else 0.0
            cells[sure, (answer + (answer >= blank))[sure]] = to_real(1) if values.dtype == object else 1.0
    return tuple(map(int, answer)), tuple(map(int, committed)), nearest


def _logits(evaluator: Evaluator, claim: Claim, x: Array, steps: int) -> Any:
    z = evaluator.init(x)
    for _ in range(steps):
        z = evaluator.apply(claim.body["operator"], z, x)
    return evaluator.readout(z)[0]
