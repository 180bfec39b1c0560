"""Certificates that must be refused: a fixed point at hand does not make it the only one."""

from __future__ import annotations

from tests.corpus.bad import refused
from tests.corpus.good_exhibited import NOWHERE, ZERO
from tests.corpus.sheet import Json, Nodes, Sheet, graph, real, vector


def scalar(build: str, constant: int, factor: int, given: bool = False) -> Sheet:
    """z ← φ(factor·z + constant), with an input that is not read where `given`."""
    nodes = Nodes()
    inner = nodes.add("add", nodes.scale(nodes.state(), factor), nodes.constant([constant]))
    if given:
        inner = nodes.add("add", inner, nodes.scale(nodes.add("input"), 0))
    return Sheet(graph(nodes.function(nodes.add(build, inner)), [[1]], real(1) if given else None, None, None))


def one_of(sheet: Sheet, at: int, domain: int, region: int, given: Json = NOWHERE) -> Sheet:
    start = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    state: Json = {"numerators": vector([at]), "denominator": {"exp": 0, "int": "1"}}
    found = sheet.step("exhibited", start, sheet.step("fixed_point_at", input=given, state=state))
    sheet.claim(found, "exactly_one", domain=domain, region=region)
    return sheet


@refused("CLAIM", "|2z − 1| has 1/3 beside 1, on the other side of a bend")
def exhibited_beside_a_bend() -> Sheet:
    sheet = scalar("abs", -1, 2)
    return one_of(sheet, 1, sheet.nothing(), sheet.box([0], [2]))


@refused("INCLUSION", "ReLU(2z − 1) has the fixed point 1, outside the region")
def exhibited_outside() -> Sheet:
    sheet = scalar("relu", -1, 2)
    return one_of(sheet, 1, sheet.nothing(), sheet.box([-2], [0]))


@refused("CLAIM", "the identity on [0, 1]: what is known ends where the region does")
def exhibited_up_to_the_region() -> Sheet:
    sheet = scalar("relu", 0, 1)
    return one_of(sheet, 1, sheet.nothing(), sheet.box([0], [2]))


@refused("CONTEXT", "one fixed point, for one of many inputs")
def exhibited_for_a_box() -> Sheet:
    sheet = scalar("relu", 0, 2, given=True)
    return one_of(sheet, 0, sheet.box([0], [1], "input"), sheet.box([-1], [1]), ZERO)
