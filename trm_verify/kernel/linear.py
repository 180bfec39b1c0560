"""Linear forms: a function written as an affine map of its state and of its *units*.

A unit is one entry of a nonlinear node that varies with the state. Between two evaluations, Δ(output) = Q_z Δz + Q_u Δu
with the units u in graph order. Rules R3, R4 and the margins of R9 work on these forms. Proof: proofs/linear_forms.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import ACTIVATIONS, CONSTANT, STATE, Function, Graph
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.numbers import Rows, matmul, rescale, rows_of
from trm_verify.kernel.tensor import Tensor

MAX_FORM = 1 << 27
MAX_FINE = 1 << 16
# What is made of these alone has the same forms over every region and domain.
PLAIN = {"state", "input", "linear", "add", "sub", "scale", "sum", "concat", *LAYOUTS, *ACTIVATIONS}


@dataclass(frozen=True)
class Form:
    """Rows of coefficients over (state entries, units so far), at one exponent; shorter rows end in zeros."""

    rows: Rows
    exp: int

    def __post_init__(self) -> None:
        if not -MAX_FINE <= self.exp <= MAX_FINE:  # each product adds exponents: a chain of them must not run away
            raise CheckError("LIMIT", f"coefficients at exponents within {MAX_FINE}", self.exp)


@dataclass(frozen=True)
class Forms:
    """The forms of a function's outputs and of its activations' arguments."""

    outputs: Form
    units: tuple[tuple[int, int, bool], ...]  # (node, entry, is an activation), in graph order
    arguments: Form  # of each activation unit, in unit order (zero rows for other units)


def padded(rows: Rows, width: int) -> Rows:
    return [row + [0] * (width - len(row)) for row in rows]


def stack(forms: list[Form]) -> Form:
    exp, width = min(f.exp for f in forms), max((len(r) for f in forms for r in f.rows), default=0)
    return Form([row for f in forms for row in padded([rescale(r, f.exp, exp) for r in f.rows], width)], exp)


def _placed(rows: Rows) -> int | None:
    """The column of the first row, when row i is 1 in that column plus i and nothing else."""
    first = len(rows[0]) - 1
    ones = all(row and len(row) == first + i + 1 and row[-1] == 1 and not any(row[:-1]) for i, row in enumerate(rows))
    return first if ones else None


class Builder:
    """Builds the form of each node in turn. `base` columns come before those of the units."""

    def __init__(self, graph: Graph, function: Function, ranges: list[Tensor], base: int) -> None:
        self.graph, self.nodes, self.ranges, self.base = graph, function.nodes, ranges, base
        self.forms: list[Form | None] = []  # None: does not vary with the state
        self.units: list[tuple[int, int, bool]] = []
        self.arguments: list[Form] = []
        self.total = 0  # coefficients of all forms, roughly

    def of(self, i: int) -> Form:
        """The form of node i, zero rows when it does not vary."""
        form = self.forms[i]
        return Form([[] for _ in range(self.nodes[i].size)], 0) if form is None else form

    def fresh(self, i: int) -> Form:
        """Node i's entries as new units."""
        node = self.nodes[i]
        active = node.op in ACTIVATIONS
        start = self.base + len(self.units)
        self.units += [(i, entry, active) for entry in range(node.size)]
        self.arguments.append(self.of(node.args[0]) if active else Form([[] for _ in range(node.size)], 0))
        return Form([[0] * (start + entry) + [1] for entry in range(node.size)], 0)

    def node(self, i: int) -> Form | None:
        node = self.nodes[i]
        if node.kind != STATE:
            return None
        self.charge(i)
        if node.op == "state":
            return self.columns(i, 0)
        return self.operation(i)

    def charge(self, i: int) -> None:
        self.total += self.nodes[i].size * (self.base + len(self.units) + self.nodes[i].size)
        if self.total > MAX_FORM:
            raise CheckError("LIMIT", f"linear forms of at most {MAX_FORM} coefficients in all", self.total)

    def columns(self, i: int, start: int) -> Form:
        """The entries of a state or input node as they are; the first entry of its space has column `start`."""
        node = self.nodes[i]
        start += sum(prod(s) for s in self.graph.state[: node.attrs["part"]]) if node.op == "state" else 0
        return Form([[0] * (start + entry) + [1] for entry in range(node.size)], 0)

    def operation(self, i: int) -> Form:
        """The form of a node from those of its arguments; fresh units where it is not exactly linear."""
        node = self.nodes[i]
        if node.op in LAYOUTS or node.op == "concat":
            form = stack([self.of(j) for j in node.args])
            rows: Rows = [*form.rows, []]
            return form if node.layout is None else Form([rows[s] for s in node.layout], form.exp)
        if node.op in ("add", "sub"):
            a, b = (self.of(j) for j in node.args)
            both = stack([a, b if node.op == "add" else Form([[-v for v in r] for r in b.rows], b.exp)])
            half = len(a.rows)
            pairs = zip(both.rows[:half], both.rows[half:], strict=True)
            return Form([[p + q for p, q in zip(x, y, strict=True)] for x, y in pairs], both.exp)
        if node.op == "scale" and (node.attrs["factor"].denominator & (node.attrs["factor"].denominator - 1)) == 0:
            factor, form = node.attrs["factor"], self.of(node.args[0])
            scaled = [[v * factor.numerator for v in row] for row in form.rows]
            return Form(scaled, form.exp + 1 - factor.denominator.bit_length())
        if node.op == "sum":
            return self.mapped(self.of(node.args[0]), [[1] * self.nodes[node.args[0]].shape[-1]], 0)
        if node.op == "linear":
            weight = self.ranges[node.args[1]]
            return self.mapped(self.of(node.args[0]), rows_of(weight.ends()[0], weight.shape[1]), weight.exp)
        if node.op == "mul":
            exact = [j for j in node.args if self.nodes[j].kind != STATE and self.ranges[j].is_point]
            if exact:
                factors, form = self.ranges[exact[0]], self.of(node.args[node.args[0] == exact[0]])
                pairs2 = zip(form.rows, factors.ends()[0], strict=True)
                return Form([[v * f for v in row] for row, f in pairs2], form.exp + factors.exp)
        if node.op == "matmul" and self.nodes[node.args[0]].kind != STATE and self.ranges[node.args[0]].is_point:
            return self.mixed(i)
        return self.fresh(i)

    def finish(self, outputs: Sequence[int]) -> Forms:
        """The forms of some nodes and of all units' arguments, each over the base columns and all units."""
        found = stack([self.of(i) for i in outputs])
        width = self.base + len(self.units)
        arguments = stack(self.arguments) if self.arguments else Form([], 0)
        return Forms(
            Form(padded(found.rows, width), found.exp),
            tuple(self.units),
            Form(padded(arguments.rows, width), arguments.exp),
        )

    @staticmethod
    def mapped(form: Form, matrix: Rows, exp: int) -> Form:
        """The matrix applied to each last-axis row."""
        width, columns = len(matrix[0]), max((len(r) for r in form.rows), default=0)
        first = _placed(form.rows)
        if first is not None and width == len(form.rows):  # the entries of the state or input themselves
            return Form([[0] * first + row for row in matrix], form.exp + exp)
        rows = padded(form.rows, columns)
        product: Rows = []
        for start in range(0, len(rows), width):
            product += matmul(matrix, rows[start : start + width])
        return Form(product, form.exp + exp)

    def mixed(self, i: int) -> Form:
        """An exact matrix from the left: (…, i, k) times (…, k, j)."""
        a, form = self.ranges[self.nodes[i].args[0]], self.of(self.nodes[i].args[1])
        count, inner = a.shape[-2:]
        columns = self.nodes[i].shape[-1]
        rows = padded(form.rows, max((len(r) for r in form.rows), default=0))
        product: Rows = []
        for block, matrix in enumerate(rows_of(a.ends()[0], count * inner)):
            part = rows[block * inner * columns : (block + 1) * inner * columns]
            mixed = [matmul(rows_of(matrix, inner), part[j::columns]) for j in range(columns)]
            product += [mixed[j][t] for t in range(count) for j in range(columns)]
        return Form(product, form.exp + a.exp)


def is_plain(function: Function) -> bool:
    return all(node.kind == CONSTANT or node.op in PLAIN for node in function.nodes)


def linear_forms(graph: Graph, function: Function, ranges: list[Tensor]) -> Forms:
    """The forms of a function over the enclosures of its nodes; made once for linear maps and activations."""

    def forms() -> Forms:
        builder = Builder(graph, function, ranges, graph.size)
        for i in range(len(function.nodes)):
            builder.forms.append(builder.node(i))
        return builder.finish(function.outputs)

    return graph.once(function, "linear forms", forms) if is_plain(function) else forms()


def require_activations(forms: Forms) -> None:
    """R3 and R4 know units with slopes only."""
    if not all(active for _, _, active in forms.units):
        raise CheckError("UNSUPPORTED", "a step of exact linear maps and elementwise activations", "another operation")
