"""Certificates that must stay valid: loops that run away along cones."""

from __future__ import annotations

from typing import Any

from tests.corpus.good import good
from tests.corpus.sheet import F, Json, Nodes, Sheet, dyadic, graph, real, stored, vector


def cone(columns: list[list[Any]], inverse: list[list[Any]], radii: list[Any]) -> Json:
    """M by its columns, N by its rows."""
    rows = [list(row) for row in zip(*columns, strict=True)]
    return {"matrix": vector([v for row in rows for v in row]), "inverse": vector([v for row in inverse for v in row]),
            "radii": vector(radii)}  # fmt: skip


def runs_away(sheet: Sheet, start: int, steps: int, least: Any, cones: list[Json], **known: Any) -> int:
    """The step, and the claim that it supports over all states."""
    domain = known.pop("domain", None)
    given = {"operator": "picard", "domain": sheet.nothing() if domain is None else domain, **known}
    step = sheet.step("divergence", start=start, steps=steps, least=dyadic(least), cones=cones, **given)
    sheet.claim(step, "refutation", of="convergence", norm=None, rate=None, answer=None, region=sheet.all(), **given)
    return step


@good
def a_growing_pair_of_hinges() -> Sheet:
    """relu(Wz + Ux − b) has the direction (1, 1/2), which grows by 2; a third unit stays at 0, a fourth is bounded."""
    nodes = Nodes()
    z = nodes.state()
    mixed = nodes.add("add", nodes.linear(z, "W", "b"), nodes.linear(nodes.add("input"), "U"))
    shaken = nodes.add("tanh", nodes.linear(z, "V"))
    step = nodes.function(nodes.add("add", nodes.add("relu", mixed), shaken))
    weights = [[F(3, 2), F(1), F(0)], [F(1, 2), F(1), F(1, 4)], [F(-1), F(0), F(1)]]
    tensors = {"W": stored(weights), "b": stored([F(-1), F(0), F(-1, 2)]), "U": stored([[F(1)], [F(0)], [F(1, 2)]]),
               "V": stored([[F(0), F(0), F(0)], [F(0), F(3), F(0)], [F(1), F(0), F(5)]])}  # fmt: skip
    sheet = Sheet(graph(step, [[3]], real(1)), tensors)
    domain, start = sheet.box([F(-1)], [F(1)], "input"), sheet.box([F(40), F(20), F(0)], [F(41), F(21), F(1)])
    third = F(1, 3)
    inverse = [[F(2, 3), F(2, 3), 0], [third, -2 * third, 0], [0, 0, F(1)]]
    short = [[F(round(v * 2**20), 2**20) for v in row] for row in inverse]
    columns = [[F(1), F(1, 2), F(0)], [F(1), F(-1), F(0)], [F(0), F(0), F(1)]]
    runs_away(sheet, start, 2, F(32), [cone(columns, short, [F(1, 4), F(1, 8)])], domain=domain)
    return sheet


@good
def a_growing_oscillation() -> Sheet:
    """z ← −(5/4)z + relu(z)/8, damped by 31/32: one ray after the other."""
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(nodes.add("add", nodes.scale(z, -5, 4), nodes.scale(nodes.add("relu", z), 1, 8)))
    sheet = Sheet(graph(step, [[1]]))
    operator = {"outer_damped": vector([F(31, 32)])}
    cones = [cone([[F(1)]], [[F(1)]], []), cone([[F(-1)]], [[F(-1)]], [])]
    runs_away(sheet, sheet.box([F(1)], [F(2)]), 0, F(1, 2), cones, operator=operator)
    return sheet
