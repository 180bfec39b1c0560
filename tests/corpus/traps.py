"""Small models that several refusals are about."""

from __future__ import annotations

from typing import Any

from tests.corpus.good import local_sheet, with_constant
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    graph,
)


def scalar(build: Any, given: Json | None = None) -> Json:
    """A step on one number: `build(nodes, z)` gives the output."""
    nodes = Nodes()
    return graph(nodes.function(build(nodes, nodes.state())), [[1]], given)


def half_plus(offset: Any) -> tuple[Sheet, int, int, int, int]:
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.constant([offset])))
    return local_sheet(step, 0, 1, F(1, 2))


def two_fixed_points() -> Json:
    """z/2 + (5/8) relu(z − 1): 0 is fixed, and so is 5."""
    nodes = Nodes()
    z = nodes.state()
    bend = nodes.scale(nodes.add("relu", nodes.add("sub", z, nodes.constant([1]))), 5, 8)
    return nodes.function(nodes.add("add", nodes.scale(z, 1, 2), bend))


def two_fixed_points_sheet(init: Any = None) -> tuple[Sheet, int, int, int]:
    sheet, norm, domain, region, step = local_sheet(two_fixed_points(), -1, 1, F(1, 2), with_constant(1))
    if init is not None:
        nodes = Nodes()
        sheet.graph["init"] = nodes.function(nodes.constant([init]))
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    converges = sheet.step("convergence", step, stays, start=region)
    return sheet, norm, domain, converges
