"""The complete decision for small piecewise-linear models: exact arithmetic throughout, no tolerance, no float.

How many fixed points are there, and do they answer as claimed? For one input (or a model without input) every question
has an exact answer, which is searched by case split over exact linear programs (`pieces`), and written as a derivation
in the kernel's rules; for a box of inputs, as far as rules can say it (`exact_box`).
"""

from __future__ import annotations

from collections.abc import Sequence

from trm_verify.encode import Json
from trm_verify.kernel.errors import CheckError
from trm_verify.provers.exact.box import BoxDecision
from trm_verify.provers.exact.decision import Decision, Finding, TimeUp, Unprovable, why
from trm_verify.provers.exact.point import PointDecision
from trm_verify.provers.problem import Problem
from trm_verify.provers.witnesses import FixedPoint

__all__ = ["Decision", "Finding", "FixedPoint", "decide"]


def decide(
    problem: Problem, domain: Json, region: Json, answer: Sequence[int] | None = None, *, deadline: float = float("inf")
) -> Decision:
    """What is true of the fixed points in a region, for every input of a domain, and how it is proved.

    The step may consist of linear maps, ReLU, leaky ReLU, abs, clamp, max, min and amax, in any number of layers. A
    dozen such units take about a second; in the worst case the time doubles with every unit.

    Args:
        domain: a point, a box, or all inputs.
        region: a box of states, or all of them.
        answer: labels, one an output position, to be decided as `fixed_point_answer`.
        deadline: on the monotonic clock.

    Returns:
        Verdicts for `exactly_one`, `at_most_one` and the answer. REFUTED comes with rational fixed points, or with a
        case split that leaves none. UNKNOWN says why: the step is not piecewise linear, the time was used up, or the
        truth is known but no rule of the kernel says it.
    """
    try:
        vocabulary, box = problem.graph.vocabulary, problem.box(domain)
        if vocabulary is not None and not box.is_point:
            return Decision.nothing(
                "an exact decision over integer inputs takes one input at a time", answer is not None
            )
        kind = PointDecision if box.is_point else BoxDecision
        return kind(problem, domain, region, answer, deadline).run()
    except (CheckError, TimeUp, Unprovable) as error:
        return Decision.nothing(why(error), answer is not None)
