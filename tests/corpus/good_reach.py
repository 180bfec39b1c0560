"""Certificates that must stay valid: answers of loops that are followed by affine forms until they are inside."""

from __future__ import annotations

from typing import Any

from tests.corpus.good import good, with_constant
from tests.corpus.sheet import F, Nodes, Sheet, graph, real, stored, vector

TURN = [[F(1, 2), F(-1, 2)], [F(1, 2), F(1, 2)]]  # a turn by 45 degrees, shrunk by √2


def turning(steps: int, operator: Any = "picard") -> Sheet:
    """z ← tanh(Tz) from init(x) = x: interval evaluation keeps the width of x, affine forms see it shrink."""
    nodes, init = Nodes(), Nodes()
    step = nodes.function(nodes.add("tanh", nodes.linear(nodes.state(), "T")))
    start = init.function(init.add("input"))
    sheet = Sheet(graph(step, [[2]], real(2), start, with_constant(F(1, 16))), {"T": stored(TURN)})
    domain = sheet.box([F(3, 8), F(-1, 16)], [F(1, 2), F(1, 16)], "input")
    region = sheet.box([F(-1, 32)] * 2, [F(1, 32)] * 2)
    stays = sheet.step("invariant_box", operator=operator, domain=domain, region=region)
    reached = sheet.step(
        "reach", operator=operator, domain=domain, steps=steps, slopes=vector([F(15, 16)] * (2 * steps))
    )
    done = sheet.step("answer_by_invariance", stays, reached, domain=domain, answer=[2], steps=steps)
    sheet.claim(done, "answer", operator=operator, domain=domain, answer=[2], steps=steps)
    return sheet


@good
def reach_of_a_shrinking_turn() -> Sheet:
    """A loop that turns: its first iterates are followed by affine forms until they are inside an invariant box."""
    return turning(10)


@good
def reach_of_a_damped_turn() -> Sheet:
    """The same loop, damped by another factor in each coordinate."""
    return turning(14, {"outer_damped": vector([F(3, 4), F(7, 8)])})
