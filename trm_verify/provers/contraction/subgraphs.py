"""Where a step treats every last-axis row by itself through activations: the candidates for row gains."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import prod

from trm_verify.encode import Json
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, STATE, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.linear import Forms
from trm_verify.kernel.radius import Gains, Propagation
from trm_verify.kernel.rows import row_forms, row_layout
from trm_verify.provers.contraction.forms import StepForm, form_of
from trm_verify.provers.problem import Problem

LARGEST = 800  # width of a row's inputs + units; the factor takes time with the cube of that
SUMS = {"add", "sub", "scale"}
MOVES = {*LAYOUTS, "concat"}
Place = tuple[tuple[int, ...], int]


@dataclass(frozen=True)
class Subgraph:
    """One function of a row, at every place of the step where it occurs.

    Attributes:
        places: (inputs, output) of each copy, in the order of the outputs.
        widths: of the rows of the inputs.
        form: the function, with the widest slopes of all rows.
    """

    places: tuple[Place, ...]
    widths: tuple[int, ...]
    form: StepForm


def subgraphs(problem: Problem, domain: Json, region: Json) -> list[Subgraph]:
    """A linear map after activations after linear maps, with the sums around it, wherever there is one.

    Copies, such as an unrolled inner loop has them, come as one.
    """
    return problem.once("subgraphs", [domain, region], lambda: _find(problem, domain, region))


def _find(problem: Problem, domain: Json, region: Json) -> list[Subgraph]:
    nodes, ranges = problem.graph.step.nodes, problem.ranges(domain, region)
    places: dict[int, tuple[tuple[int, ...], Forms]] = {}
    for inputs, output in _Search(nodes).places():
        try:
            places[output] = inputs, row_forms(problem.graph, ranges, inputs, output)
        except CheckError:  # rows are mixed, or an operation has no exact linear form
            continue
    ends: Gains = {output: [(inputs, ())] for output, (inputs, _) in places.items()}
    needed = Propagation(problem.graph.step, ranges, {}, ends).needed
    found: dict[bytes, Subgraph] = {}
    for output, (inputs, forms) in places.items():
        if output not in needed:  # inside a larger one
            continue
        form = form_of(problem, forms, ranges)
        if form.n + form.units > LARGEST:
            continue
        widths = tuple(nodes[i].shape[-1] for i in inputs)
        linear = repr((widths, forms.outputs, forms.arguments)).encode()
        key = sha256(linear + form.lo.tobytes() + form.hi.tobytes()).digest()
        before = found[key].places if key in found else ()
        found[key] = Subgraph((*before, (inputs, output)), widths, form)
    return list(found.values())


class _Search:
    """Goes back from each linear map to the activations before it, and to what their arguments are made of."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.ends: dict[int, tuple[int, ...]] = {}  # output of a subgraph found so far → its inputs

    def varying(self, i: int) -> list[int]:
        return [j for j in self.nodes[i].args if self.nodes[j].kind == STATE]

    def places(self) -> list[Place]:
        for i, node in enumerate(self.nodes):
            if node.kind != STATE:
                continue
            if node.op == "linear":
                inputs = self.back(i)
                if inputs:
                    self.ends[i] = inputs
            elif node.op in SUMS:
                self.extend(i)
        return sorted(((inputs, output) for output, inputs in self.ends.items()), key=lambda place: place[1])

    def back(self, output: int) -> tuple[int, ...] | None:
        """The inputs of the subgraph that ends here; None without an activation, or with a way around it."""
        inputs: dict[int, None] = {}
        seen: set[tuple[int, int]] = set()
        stack = [(j, 0) for j in reversed(self.varying(output))]  # depth first, so that copies agree in their order
        while stack:
            i, stage = stack.pop()  # 0: after the activations, 1: in their arguments, 2: before a linear map of these
            if (i, stage) in seen:
                continue
            seen.add((i, stage))
            op, args = self.nodes[i].op, self.varying(i)[::-1]
            opaque = i in self.ends or self._is_inexact(i) or self._mixes_rows(i)
            if op in ACTIVATIONS and not opaque:
                stack.append((args[0], 1))
            elif stage == 2 and not (op in MOVES and op != "expand" or op in SUMS and len(args) == 1) or opaque:
                if stage == 0:
                    return None
                inputs[i] = None
            elif op == "linear":
                stack += [(j, 2 if stage else 0) for j in args]
            elif op in SUMS | MOVES:
                stack += [(j, stage) for j in args]
            elif stage == 0:
                return None
            else:
                inputs[i] = None
        return tuple(inputs) or None

    def _is_inexact(self, i: int) -> bool:
        """Whether the node scales by no binary fraction, as a mean does: radii pass it, forms do not."""
        if self.nodes[i].op != "scale":
            return False
        denominator: int = self.nodes[i].attrs["factor"].denominator
        return denominator & (denominator - 1) != 0

    def _mixes_rows(self, i: int) -> bool:
        """Whether the node moves entries from one row to another, as a shift along tokens does."""
        node = self.nodes[i]
        if node.op not in MOVES:
            return False
        shapes = [node.shape, *(self.nodes[j].shape for j in node.args)]
        if not all(shapes):  # a scalar has no rows
            return True
        count = prod(node.shape[:-1])
        try:
            row_layout(node, [shape[-1] for shape in shapes[1:]], count)
        except CheckError:
            return True
        return any(prod(shape[:-1]) != count for shape in shapes)

    def extend(self, output: int) -> None:
        """A sum of one subgraph, scaled perhaps, and of its own inputs, such as a residual connection, joins it."""
        ends: set[int] = set()
        others: set[int] = set()
        stack = self.varying(output)
        while stack:
            i = stack.pop()
            if i in self.ends:
                ends.add(i)
            elif self.nodes[i].op in SUMS and i not in {j for e in self.ends.values() for j in e}:
                stack += self.varying(i)
            else:
                others.add(i)
        if len(ends) == 1 and others:
            (end,) = ends
            if others <= set(self.ends[end]):
                self.ends[output] = self.ends[end]
