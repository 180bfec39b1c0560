"""R12: recursions whose parts depend on earlier parts alone settle exactly, after as many steps as there are parts."""

from __future__ import annotations

from collections.abc import Iterable

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion, Settled
from trm_verify.kernel.context import Context, Witness, none
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.influence import levels_of
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.tensor import Tensor


def parts_of(runs: Iterable[tuple[int, int]]) -> list[int]:
    """The part of each entry of the flattened state."""
    return [part for count, part in runs for _ in range(count)]


def parse_runs(raw: object, size: int) -> tuple[tuple[int, int], ...]:
    """Runs [count, part] that cover the flattened state."""
    found: list[tuple[int, int]] = []
    covered = 0
    for run in document.items(raw, "parts"):
        pair = document.items(run, "run")
        if len(pair) != 2:
            raise CheckError("FIELD", "[count, part] in a run", pair)
        count, part = (document.integer(v, 1, size, "run") for v in pair)
        covered += count
        if covered > size:
            break
        found.append((count, part))
    else:
        if covered == size:
            return tuple(found)
    raise CheckError("WITNESS", f"a part for each of the {size} entries of the state", "another number")


def triangular(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Entries of part p of the step depend on entries of parts < p alone. Sound if: proofs/triangular.md."""
    none(premises)
    raw_domain, raw_parts = document.fields(witness, "domain", "parts", where="triangular")
    graph, domain = context.graph, context.box(raw_domain, "input")
    runs = parse_runs(raw_parts, graph.size)
    parts = parts_of(runs)
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
    return Settled(PICARD, domain, max(parts), everywhere, runs)
