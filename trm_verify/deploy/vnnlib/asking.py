"""A model whose readout says of every clause whether its outputs satisfy it, so that what is asked becomes an answer.

A clause asks for all of some inequalities `a·Y ≤ b`. Position i of the new readout has two classes: the largest
`a·Y − b` of clause i, and 0. Answer 0 says, strictly, that the outputs violate some inequality of it, answer 1 that
they satisfy all of them with room. The step, the start and the stored tensors stay as they are, so certificates are
about the model's own weights file. Coefficients enter the graph exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from math import lcm, prod
from typing import Any

from trm_verify.box import Box
from trm_verify.deploy.vnnlib.specification import Atom, Clause
from trm_verify.encode import fractions
from trm_verify.export import Exported
from trm_verify.verification.deployed import Deployed

VIOLATED, SATISFIED = 0, 1


def asking(deployed: Deployed, clauses: Sequence[Clause], domain: Box | None) -> Deployed:
    """The same model, whose readout says of every clause whether the logits violate or satisfy it.

    Args:
        domain: where its inputs lie, in place of the model's own domain.
    """
    graph = deployed.exported.graph
    nodes: list[dict[str, Any]] = list(graph["readout"]["nodes"])
    atoms = [atom for clause in clauses for atom in clause]
    count, size = len(atoms), prod(deployed.logits_shape or ())
    rows, bounds = zip(*(_dyadic(atom, size) for atom in atoms), strict=True)

    def add(op: str, *inputs: int, **attributes: Any) -> int:
        nodes.append({"op": op, "in": list(inputs), **attributes})
        return len(nodes) - 1

    def constant(shape: list[int], values: Sequence[Fraction]) -> int:
        return add("constant", shape=shape, value=fractions(values))

    def part(a: int, start: int, stop: int) -> int:
        return add("slice", a, axis=0, start=start, stop=stop, step=1)

    def largest(a: int, length: int) -> int:
        """By halves, as a + relu(b − a), which every rule knows."""
        while length > 1:
            half = length // 2
            low, high = part(a, 0, half), part(a, half, 2 * half)
            both = add("add", low, add("relu", add("sub", high, low)))
            a = add("concat", both, part(a, length - 1, length), axis=0) if length % 2 else both
            length -= half
        return a

    flat = add("reshape", graph["readout"]["outputs"][0], shape=[size])
    forms = add("linear", flat, constant([count, size], [value for row in rows for value in row]))
    margins = add("sub", forms, constant([count], bounds))
    if count > len(clauses):
        stops = list(accumulate(map(len, clauses)))
        each = [largest(part(margins, stop - len(c), stop), len(c)) for c, stop in zip(clauses, stops, strict=True)]
        margins = each[0] if len(each) == 1 else add("concat", *each, axis=0)
    column = add("reshape", margins, shape=[len(clauses), 1])
    zeros = constant([len(clauses), 1], [Fraction(0)] * len(clauses))
    readout = {"nodes": nodes, "outputs": [add("concat", column, zeros, axis=1)]}
    return replace(
        deployed,
        exported=Exported({**graph, "readout": readout}, deployed.exported.tensors),
        spec=replace(deployed.spec, domain=domain),
    )


def _dyadic(atom: Atom, size: int) -> tuple[list[Fraction], Fraction]:
    """Coefficients and bound, times a positive number below 2 that makes all of them binary fractions."""
    common = lcm(atom.bound.denominator, *(value.denominator for _, value in atom.coefficients))
    factor = Fraction(common, 1 << (common.bit_length() - 1))
    row = [Fraction(0)] * size
    for j, value in atom.coefficients:
        row[j] = value * factor
    return row, atom.bound * factor


def labels_of(clauses: Sequence[Clause], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The labels that outputs have unless they are unsafe, where the clauses say no more and no less than that.

    That is: `Y_c ≤ Y_j` for one class c of each position and every other class j of it.

    Args:
        shape: of the logits, classes last.
    """
    classes = shape[-1]
    losing: dict[int, set[int]] = {}
    for clause in clauses:
        if len(clause) != 1 or clause[0].bound or len(clause[0].coefficients) != 2:
            return None
        (i, first), (j, second) = clause[0].coefficients
        winner, loser = (i, j) if first > 0 else (j, i)
        if first + second != 0 or winner // classes != loser // classes:
            return None
        losing.setdefault(winner, set()).add(loser)
    winners = sorted(losing)
    if [w // classes for w in winners] != list(range(prod(shape[:-1]))):
        return None
    return tuple(w % classes for w in winners) if all(len(v) == classes - 1 for v in losing.values()) else None
