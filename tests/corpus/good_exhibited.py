"""Certificates that must stay valid: a fixed point that is at hand, where no perturbation keeps it."""

from __future__ import annotations

from tests.corpus.good import good
from tests.corpus.good_fixed_points import known
from tests.corpus.sheet import F, Json, Nodes, Sheet, graph, vector

ZERO: Json = {"numerators": vector([0]), "denominator": {"exp": 0, "int": "1"}}
NOWHERE: Json = {"numerators": vector([]), "denominator": {"exp": 0, "int": "1"}}


def near_zero(sheet: Sheet, start: int) -> int:
    """All arguments of fixed points lie within 1/16 of 0, each side by one empty leaf and one that is plain."""
    return sheet.step(
        "duality", start, targets=[1, 1], signs=[1, -1], splits=[0, -1, -1, 0, -1, -1],
        at=vector([F(-1, 16), F(1, 16)]), weights=vector([0, 1, 1, 0]), multipliers=vector([1, 0, 0, 1]),
    )  # fmt: skip


@good
def exhibited_at_a_bend() -> Sheet:
    """z ← ReLU(2z) on [−1, 1]: 0 alone, which R5 cannot show, since ReLU(2z − ε) has two and ReLU(2z + ε) none."""
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.scale(nodes.state(), 2)))
    sheet = Sheet(graph(step, [[1]], None, None, None))
    domain, region = sheet.nothing(), sheet.box([-1], [1])
    near = near_zero(sheet, sheet.step("fixed_points_in", domain=domain, region=region, scale=None))
    there = sheet.step("fixed_point_at", input=NOWHERE, state=ZERO)
    found = sheet.step("exhibited", near, there)
    sheet.claim(found, "exactly_one", domain=domain, region=region)
    known(sheet, found, "the", domain, region)
    return sheet
