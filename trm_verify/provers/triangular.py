"""R12: recursions that settle exactly, such as strictly causal ones.

The order of the parts comes from one pass over the graph with sets of parts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from math import prod

from trm_verify.certificate import derive
from trm_verify.encode import Json
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.influence import levels_of
from trm_verify.provers.problem import ALL_STATES, Attempt, Problem

MOST_ENTRIES = 2048  # of a state whose entries are parts of their own
NAME = "triangular"


def prove_settled(problem: Problem, domain: Json) -> Attempt:
    """The step's parts (tokens, else entries) in an order in which each depends on earlier ones alone."""
    started = time.perf_counter()
    reason = "some part of the state depends on itself, through others perhaps"
    try:
        for units in _partitions(problem):
            parts = _order(_dependencies(problem, domain, units))
            if parts is not None:
                runs = [[len(list(own)), part] for part, own in groupby(parts[u] for u in units)]
                done = derive("triangular", domain=domain, parts=runs)
                problem.conclude(done)
                return Attempt(NAME, "exact", time.perf_counter() - started, derivation=done)
    except CheckError as error:
        reason = str(error)
    return Attempt(NAME, "exact", time.perf_counter() - started, reason=reason)


def _partitions(problem: Problem) -> list[list[int]]:
    """The unit of each state entry: last-axis rows, then single entries."""
    rows: list[int] = []
    for shape in problem.graph.state:
        width = shape[-1] if shape else 1
        rows += [(rows[-1] + 1 if rows else 0) + i // width for i in range(prod(shape))]
    single = list(range(problem.graph.size))
    return [rows] if rows == single or len(single) > MOST_ENTRIES else [rows, single]


def _dependencies(problem: Problem, domain: Json, units: Sequence[int]) -> list[int]:
    """For each unit the set of units, as bits, that it depends on."""
    graph = problem.graph
    levels = levels_of(graph, graph.step, problem.ranges(domain, ALL_STATES), [1 << u for u in units], _union)
    flat: list[int] = []
    for i in graph.step.outputs:
        own = levels[i]
        flat += [0] * graph.step.nodes[i].size if own is None else own
    found = [0] * (max(units) + 1)
    for unit, own_set in zip(units, flat, strict=True):
        found[unit] |= own_set
    return found


def _union(sets: Sequence[int]) -> int:
    found = 0
    for each in sets:
        found |= each
    return found


def _order(depends: Sequence[int]) -> list[int] | None:
    """For each unit the length of the longest path that ends in it, from 1; None where there is a cycle."""
    parts = [0] * len(depends)
    known, part, waiting = 0, 0, set(range(len(depends)))
    while waiting:
        part += 1
        ready = [u for u in waiting if not depends[u] & ~known]
        if not ready:
            return None
        for u in ready:
            parts[u] = part
        known |= sum(1 << u for u in ready)
        waiting.difference_update(ready)
    return parts
