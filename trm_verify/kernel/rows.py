"""A subgraph that treats every last-axis row by itself, as a function of one row. Proof: proofs/row_gain.md."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import prod

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, STATE, Function, Graph, Node
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.linear import Builder, Form, Forms, require_activations
from trm_verify.kernel.numbers import MAX_FACTOR
from trm_verify.kernel.tensor import Tensor

WALK = 1 << 10  # what a node before the output costs, as multiplications
ROWWISE = {*ACTIVATIONS, *LAYOUTS, "concat", "add", "sub", "scale", "linear"}


def between(nodes: tuple[Node, ...], inputs: tuple[int, ...], output: int) -> set[int]:
    """The nodes that vary with the state from the inputs (without them) to the output.

    Every path from the state to the output has to pass an input, and every input has to be met.
    """
    found: set[int] = set()
    met: set[int] = set()
    stack = [output]
    while stack:
        i = stack.pop()
        if i in inputs:
            met.add(i)
        elif i not in found and nodes[i].kind == STATE:
            if nodes[i].op not in ROWWISE:
                raise CheckError("UNSUPPORTED", "operations that treat every row by itself between", nodes[i].op)
            found.add(i)
            stack += nodes[i].args
    if not found or len(met) != len(inputs):
        raise CheckError("WITNESS", "distinct inputs that all lead to the output", list(inputs))
    return found


def row_layout(node: Node, widths: list[int], count: int) -> list[int] | None:
    """The sources of a row in the same row of the arguments, laid end to end; the same for every row."""
    width = node.shape[-1]
    refused = CheckError("UNSUPPORTED", f"a {node.op} that moves every row within itself, each alike", "another")
    if node.layout is None:
        if widths != [width]:
            raise refused
        return None
    starts = list(accumulate((count * w for w in widths), initial=0))
    offsets = list(accumulate(widths, initial=0))
    sources: list[int] = []
    strides: list[int] = []
    for source in node.layout[:width]:
        k = bisect_right(starts, source) - 1  # the argument that it reads; -1 for a zero
        if k >= 0 and source - starts[k] >= widths[k]:
            raise refused
        sources.append(-1 if k < 0 else offsets[k] + source - starts[k])
        strides.append(0 if k < 0 else widths[k])
    first = list(zip(node.layout[:width], strides, strict=True))
    if node.layout != [source + t * stride for t in range(count) for source, stride in first]:
        raise refused
    return sources


def row_forms(graph: Graph, ranges: list[Tensor], inputs: tuple[int, ...], output: int) -> Forms:
    """Δ(a row of the output) and of the arguments of its units, over (the inputs' rows end to end, units)."""
    nodes = graph.step.nodes
    inside = between(nodes, inputs, output)
    shape = nodes[output].shape
    count = prod(shape[:-1])

    def width(i: int) -> int:
        if not nodes[i].shape or prod(nodes[i].shape[:-1]) != count:
            raise CheckError("SHAPE", f"{count} last-axis rows in every tensor of the subgraph", nodes[i].shape)
        return nodes[i].shape[-1]

    base = sum(map(width, inputs))
    if base > MAX_FACTOR:  # before anything of that width is laid out
        raise CheckError("LIMIT", f"inputs of at most {MAX_FACTOR} entries a row", base)
    graph.charge(WALK * output)
    rows = list(nodes)
    moved = {i: [j for k, j in enumerate(nodes[i].args) if nodes[i].op != "linear" or k == 0] for i in inside}
    for i in {*inputs, *inside, *(j for args in moved.values() for j in args)}:
        node = nodes[i]
        lays = i in inside and (node.op in LAYOUTS or node.op == "concat") and node.shape
        layout = row_layout(node, [width(j) for j in moved[i]], count) if lays else None
        rows[i] = Node(node.op, node.args, node.attrs, (width(i),), node.kind, layout)
    starts = dict(zip(inputs, accumulate(map(width, inputs), initial=0), strict=False))
    builder = Builder(graph, Function(tuple(rows), (output,)), ranges, base)
    for i in range(output + 1):
        if i in starts:
            builder.forms.append(Form([[0] * (starts[i] + entry) + [1] for entry in range(width(i))], 0))
        elif i in inside:
            builder.charge(i)
            builder.forms.append(builder.operation(i))
        else:
            builder.forms.append(None)
    graph.charge(builder.total * max(rows[i].size for i in {*inputs, *inside}) + sum(nodes[i].size for i in inside))
    forms = builder.finish((output,))
    require_activations(forms)
    return forms
