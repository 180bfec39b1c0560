"""What every rule may look at: the graph, the tables of boxes and norms, and the step's own witness."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from trm_verify.kernel import document
from trm_verify.kernel.claims import Conclusion
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.norms import Norm
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.operators import Operator, parse_operator
from trm_verify.kernel.tensor import Tensor

HELD = 1 << 10  # multiplications that a number counts as which is kept to the end, so that memory is bounded as well

C = TypeVar("C")


@dataclass(frozen=True)
class Context:
    """Readers for the fields of steps and claims; each raises on anything but the exact form."""

    graph: Graph
    boxes: tuple[tuple[str, Tensor], ...]
    norms: tuple[Norm, ...]

    def box(self, raw: object, space: str) -> Tensor:
        found, box = self.boxes[document.integer(raw, 0, len(self.boxes) - 1, "box index")]
        if found != space:
            raise CheckError("BOX", f"a box of the {space} space", found)
        return box

    def norm(self, raw: object) -> Norm:
        return self.norms[document.integer(raw, 0, len(self.norms) - 1, "norm index")]

    def operator(self, raw: object) -> Operator:
        if isinstance(raw, dict):  # a factor a coordinate, which the conclusion holds, from a few bytes
            self.graph.charge(HELD * self.graph.size)
        return parse_operator(raw, self.graph.size)

    def state(self, raw: object) -> Tensor:
        """One exact state."""
        ints, exp = document.vector(raw, self.graph.size, "state")
        return Tensor((len(ints),), exp, ints, ints)

    def answer(self, raw: object) -> tuple[int, ...]:
        """One label per output position of the readout."""
        if self.graph.readout is None:
            raise CheckError("UNSUPPORTED", "a model with a readout", "none")
        *positions, classes = self.graph.readout.nodes[self.graph.readout.outputs[0]].shape
        count = 1
        for size in positions:
            count *= size
        labels = tuple(document.integer(v, 0, classes - 1, "answer") for v in document.items(raw, "answer"))
        if len(labels) != count:
            raise CheckError("SHAPE", f"{count} label(s), one per output position", len(labels))
        if classes < 2:
            raise CheckError("SHAPE", "at least two classes (an answer needs a competitor)", classes)
        return labels


def number(raw: object, where: str) -> Fraction:
    return dyadic(*document.dyadic(raw, where))


def numbers(raw: object, length: int | None, where: str) -> list[Fraction]:
    ints, exp = document.vector(raw, length, where)
    return [dyadic(v, exp) for v in ints]


def rate(raw: object) -> Fraction:
    """A rate in [0, 1)."""
    value = number(raw, "rate")
    if not 0 <= value < 1:
        raise CheckError("RATE", "a rate in [0, 1)", value)
    return value


def only(premises: list[Conclusion], kind: type[C]) -> C:
    """The single premise, of the given kind."""
    if len(premises) != 1 or not isinstance(premises[0], kind):
        raise CheckError("PREMISE", f"one premise of kind {kind.__name__}", [type(p).__name__ for p in premises])
    return premises[0]


def none(premises: list[Conclusion]) -> None:
    if premises:
        raise CheckError("PREMISE", "no premises", len(premises))


Witness = dict[str, Any]


def upper_triangle_size(n: int) -> int:
    return n * (n + 1) // 2
