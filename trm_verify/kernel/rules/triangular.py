"""R12: recursions whose parts depend on earlier parts alone settle exactly, after as many steps as there are parts."""

from __future__ import annotations

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Invariant, Reached, Settled
from trm_verify.kernel.context import Context, Witness, none
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate, initial_state
from trm_verify.kernel.influence import levels_of
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.tensor import Tensor, contains


def _parts(raw: object, size: int) -> list[int]:
    """The part of each entry of the flattened state, from runs [count, part]."""
    found: list[int] = []
    for run in document.items(raw, "parts"):
        pair = document.items(run, "run")
        if len(pair) != 2:
            raise CheckError("FIELD", "[count, part] in a run", pair)
        count, part = (document.integer(v, 1, size, "run") for v in pair)
        if len(found) + count > size:
            break
        found += [part] * count
    else:
        if len(found) == size:
            return found
    raise CheckError("WITNESS", f"a part for each of the {size} entries of the state", "another number")


def triangular(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Entries of part p of the step depend on entries of parts < p alone. Sound if: proofs/triangular.md."""
    none(premises)
    raw_domain, raw_parts = document.fields(witness, "domain", "parts", where="triangular")
    graph, domain = context.graph, context.box(raw_domain, "input")
    parts = _parts(raw_parts, graph.size)
    everywhere = Tensor((graph.size,))
    ranges = evaluate(graph, graph.step, everywhere, domain)  # the step exists everywhere
    graph.charge(graph.step.cost)
    levels = levels_of(graph, graph.step, ranges, parts)
    flat: list[int] = []
    for i in graph.step.outputs:
        own = levels[i]
        flat += [0] * graph.step.nodes[i].size if own is None else own
    for entry, (level, part) in enumerate(zip(flat, parts, strict=True)):
        if level >= part:
            raise CheckError("INEQUALITY", f"entry {entry} of part {part} to depend on earlier parts alone", level)
    return Settled(PICARD, domain, max(parts), everywhere, tuple(parts))


def settled_in(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """What every start ends in lies in every invariant box. Sound if: proofs/settled_in.md."""
    document.fields(witness, where="settled_in")
    if len(premises) != 2 or not isinstance(premises[0], Settled) or not isinstance(premises[1], Invariant):
        raise CheckError("PREMISE", "a settled recursion and an invariant box", [type(p).__name__ for p in premises])
    settled, invariant = premises[0], premises[1]
    if invariant.ball is not None or invariant.operator != settled.operator:
        raise CheckError("CONTEXT", "an invariant box of the same operator", invariant.operator)
    if not contains(settled.domain, invariant.domain):
        raise CheckError("CONTEXT", "an invariant box on a domain inside that of the settled recursion", "another")
    initial_state(context.graph, invariant.domain)  # init(x) exists for every x of the domain
    return Reached(settled.operator, invariant.domain, settled.steps, invariant.region)
