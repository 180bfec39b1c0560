"""R13: contract, then commit. A round ends with the cells that it is sure of written into the next round's input."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import Commits, Conclusion, Convergence
from trm_verify.kernel.context import Context, Witness, number, only
from trm_verify.kernel.errors import CheckError, approximate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import rows_of
from trm_verify.kernel.rules.answers import Logits, ball_logits, later_radius
from trm_verify.kernel.tensor import Tensor

Pair = tuple[int, int, Fraction]  # logit a is to be above logit b by more than this


def classes_of(graph: Graph) -> int:
    """The classes of a model whose input shows, cell by cell, one channel more: the blank."""
    if graph.readout is None or graph.input is None or graph.vocabulary is not None:
        raise CheckError("UNSUPPORTED", "a model with a readout and an input of reals", "another")
    *positions, classes = graph.readout.nodes[graph.readout.outputs[0]].shape
    if graph.input != (*positions, 1 + classes):
        raise CheckError(
            "SHAPE", f"an input of shape {(*positions, 1 + classes)}: a blank and every class", graph.input
        )
    return classes


def is_open(domain: Tensor, channel: int) -> bool:
    """Whether the blank channel of a cell is 1, for all inputs alike."""
    low, high = domain.fraction(channel)
    if low <= 1 <= high and low != high:
        raise CheckError("BOX", "cells that are open for all inputs of the domain, or for none", f"channel {channel}")
    return low == high == 1


def written(domain: Tensor, shown: dict[int, int], width: int) -> Tensor:
    """The domain with each of some cells replaced by the one-hot vector of a channel."""
    exp = min(domain.exp, 0)
    lo, hi = map(list, domain.at(exp))
    for cell, channel in shown.items():
        one_hot = [int(c == channel) << -exp for c in range(width)]
        lo[cell * width : (cell + 1) * width] = hi[cell * width : (cell + 1) * width] = one_hot
    return Tensor(domain.shape, exp, lo, lo if lo == hi else hi)


def commits(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """Round by round, every cell that is committed, or is not, is shown to be so; the last round commits none.

    Sound if: proofs/commits.md.
    """
    premise, graph = only(premises, Convergence), context.graph
    raw = document.fields(
        witness, "domain", "steps", "threshold", "blank", "answer", "committed", "centers", "rivals", where="commits"
    )
    domain, answer, classes = context.box(raw[0], "input"), context.answer(raw[4]), classes_of(graph)
    steps, threshold = document.integer(raw[1], 0, 10**12, "steps"), number(raw[2], "threshold")
    blank, cells = document.integer(raw[3], 0, classes, "blank"), range(len(answer))
    if threshold < 0:
        raise CheckError("WITNESS", "threshold ≥ 0", threshold)
    when = tuple(document.integer(v, 0, len(answer), "committed") for v in document.items(raw[5], "committed"))
    opened = [is_open(domain, cell * (1 + classes) + blank) for cell in cells]
    if len(when) != len(answer) or any(r and not shown for r, shown in zip(when, opened, strict=True)):
        raise CheckError("WITNESS", "for every cell the round that commits it, 0 for cells that are not open", when)
    last = 1 + max(when)
    if set(range(1, last)) - set(when):
        raise CheckError("WITNESS", "a commitment in every round but the last", when)
    ints, exp = document.vector(raw[6], last * graph.size, "centers")
    count = sum(classes * (r - 1 if r else last) for r, shown in zip(when, opened, strict=True) if shown)
    graph.charge(last * len(answer) * 64)
    rivals = [document.integer(v, 0, classes - 1, "rival") for v in document.items(raw[7], "rivals")]
    if len(rivals) != count:
        raise CheckError("WITNESS", f"{count} rivals: one for each class of each undecided cell", len(rivals))
    undecided = [(r, cell) for r in range(1, last + 1) for cell in cells if opened[cell] and not 0 < when[cell] <= r]
    against = dict(zip(undecided, rows_of(rivals, classes), strict=True))
    given = domain
    for r, row in enumerate(rows_of(ints, graph.size), 1):
        centre = Tensor((graph.size,), exp, row, row)
        logits = ball_logits(graph, premise, centre, later_radius(graph, premise, given, centre, steps))
        for cell, (label, turn) in enumerate(zip(answer, when, strict=True)):
            pairs = undecided_by(against.get((r, cell), []), threshold)
            if turn == r or (r == last and not turn):  # committed now, or part of the last round's answer
                pairs += decided_by(label, classes, threshold if turn else Fraction(0))
            require(logits, pairs, cell * classes, f"in round {r} at cell {cell}")
        given = written(given, {i: answer[i] + (answer[i] >= blank) for i in cells if when[i] == r}, 1 + classes)
    return Commits(premise.operator, domain, answer, when, steps, threshold, blank)


def decided_by(label: int, classes: int, least: Fraction) -> list[Pair]:
    """One class leads every other one by more than that."""
    return [(label, c, least) for c in range(classes) if c != label]


def undecided_by(rivals: list[int], threshold: Fraction) -> list[Pair]:
    """No class leads its rival by the threshold."""
    return [(rival, c, -threshold) for c, rival in enumerate(rivals)]


def require(logits: Logits, pairs: list[Pair], start: int, where: str) -> None:
    """Every pair of different logits of a cell is apart by more than it should be."""
    for a, b, least in pairs:
        if a == b or not logits.exceeds(start + a, start + b, least):
            found = Fraction(0) if a == b else logits.at_centre_by(start + a, start + b)
            raise CheckError("MARGIN", f"logit {a} above logit {b} by more than {approximate(least)} {where}", found)
