"""The claim `lipschitz`, judged by pairs of inputs along the directions in which the logits move most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.oracle.evaluate import REAL, to_real
from tests.oracle.files import Array, Claim, Set, read_number
from tests.oracle.fixed_points import Root, Seeker
from tests.oracle.search import inside, jacobians, loop

if TYPE_CHECKING:
    from tests.oracle.judge import Judge

REACHES = (-2.0, -0.25, 1e-3, 0.25, 2.0)


def lipschitz(judge: Judge, claim: Claim) -> tuple[bool | None, str]:
    """(true, false or unknown, evidence)."""
    constant = to_real(read_number(claim.body["constant"]))
    seeker, pairs, worst = Seeker(judge, claim, claim.region or Set(None, None)), 0, 0.0
    for x in judge.inputs(claim, 5):
        found = seeker.roots(x, 8)
        if len(found) != 1:
            return (False, f"{len(found)} fixed points for one input") if found else (None, "no fixed point found")
        for reach in REACHES:
            other = inside(claim.domain, x + reach * steepest(judge, x, found[0]))
            moved = seeker.roots(other, 4)
            apart = REAL.sqrt(sum(v * v for v in (seeker.high(other) - seeker.high(x))[0]))
            if not moved or not apart:
                continue
            far = difference(judge, found[0], moved[0])
            slack = REAL.mpf(2) ** 20 * max(found[0].error, moved[0].error)
            if far > constant * apart + slack * (1 + far):
                return False, f"two inputs at distance {float(apart):.6g} whose logits are {float(far):.9g} apart"
            pairs, worst = pairs + 1, max(worst, float(far / apart))
    return True, f"{pairs} pairs, largest ratio {worst:.9g}, constant {float(constant):.9g}"


def steepest(judge: Judge, x: Array, root: Root) -> Array:
    """The unit vector along which the logits at the fixed point move most, to first order."""
    z, f = root.z.astype(np.float64), loop(judge.fast, "picard")
    by_state = np.eye(len(z)) - jacobians(f.at(x), z)
    by_input = jacobians(lambda given: f(np.repeat(z[None], len(given), axis=0), given), x)
    moves = np.linalg.lstsq(by_state, by_input, rcond=None)[0]
    logits = jacobians(lambda states: judge.fast.readout(states).reshape(len(states), -1), z)
    found: Array = np.linalg.svd(logits @ moves)[2][0]
    return found


def difference(judge: Judge, a: Root, b: Root) -> Any:
    """‖logits(a) − logits(b)‖₂ with 240 bits."""
    first, second = (judge.high.readout(root.z[None]) for root in (a, b))
    return REAL.sqrt(sum(v * v for v in (first - second).ravel()))
