"""Logit differences at fixed points: case splits that show them to be positive, or a fixed point where one is not."""

from __future__ import annotations

from collections.abc import Sequence

from trm_verify.certificate import Derivation
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.relaxation import Functional
from trm_verify.kernel.rules.fixed_point_answers import competitors, with_readout
from trm_verify.provers.exact.narrowing import tree_json
from trm_verify.provers.exact.pieces import Pieces, Point
from trm_verify.provers.problem import Problem


class Margins:
    """Step and readout as one system, and a functional for every competitor of an answer.

    Attributes:
        pieces: the searches of that system; its first units are those of the step.
        arguments: intervals of all its units.

    Raises:
        CheckError: UNSUPPORTED, a readout that is not piecewise linear, or none.
    """

    def __init__(self, problem: Problem, known: FixedPoints, answer: Sequence[int], deadline: float) -> None:
        self.system, self.arguments, logits = with_readout(problem.graph, known)
        self.pieces = Pieces(self.system, known.domain, known.box, deadline)
        self.functionals = [
            Functional([p - q for p, q in zip(logits.rows[own], logits.rows[rival], strict=True)], logits.exp)
            for own, rival in competitors(problem.graph, tuple(answer))
        ]


def prove_margins(
    problem: Problem, derivation: Derivation, answer: Sequence[int], deadline: float
) -> Derivation | Point:
    """`fixed_point_answer` from a derivation of fixed points that exist; or a fixed point that refutes it.

    Raises:
        CheckError: a readout that is not piecewise linear. TimeUp: the deadline passed.
    """
    margins = Margins(problem, problem.conclude_as(derivation, FixedPoints), answer, deadline)
    trees = []
    for functional in margins.functionals:
        found = margins.pieces.cover(margins.arguments, functional)
        if isinstance(found, Point):
            return found
        trees.append(found)
    done = derivation.then("fixed_point_answer", answer=list(answer), **tree_json(trees))
    problem.conclude(done)
    return done
