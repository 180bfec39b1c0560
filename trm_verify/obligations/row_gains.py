"""Side conditions of `row_gain`: the matrix of one row, and that every other row and copy has the same one."""

from __future__ import annotations

from trm_verify.kernel import document
from trm_verify.kernel.claims import Gain
from trm_verify.kernel.context import numbers, upper_triangle_size
from trm_verify.kernel.rows import between
from trm_verify.obligations.contraction import sector_terms
from trm_verify.obligations.forms import Forms, Row, entry_of
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import ONE, ZERO, NotExported, Term, add, at_most, equal, every, negative, number
from trm_verify.obligations.values import Values


class _Subgraph(Forms):
    """Forms over the entries of the inputs of a subgraph instead of those of the state."""

    def __init__(self, values: Values, inputs: tuple[int, ...], output: int) -> None:
        self.sources, self.result = inputs, output
        self.widths = [values.nodes[i].shape[-1] for i in inputs]
        super().__init__(values)

    def walk(self) -> None:
        start = 0
        for i in self.sources:
            size = self.nodes[i].size
            self.done[i] = [{start + entry: ONE} for entry in range(size)]
            start += size
        self.first = start
        for i in sorted(between(self.nodes, self.sources, self.result)):
            self.of(i)

    def rows(self) -> list[_OneRow]:
        """What each row of the output is made of."""
        width = self.nodes[self.result].shape[-1]
        count = self.nodes[self.result].size // width
        columns: list[list[int]] = [[] for _ in range(count)]
        start = 0
        for i, size in zip(self.sources, self.widths, strict=True):
            for t in range(count):
                columns[t] += range(start + t * size, start + (t + 1) * size)
            start += self.nodes[i].size
        units: list[list[int]] = [[] for _ in range(count)]
        for k, unit in enumerate(self.units):
            units[unit.entry // self.nodes[unit.node].shape[-1]].append(k)
        outputs = self.of(self.result)
        return [_OneRow(self, outputs[t * width : (t + 1) * width], columns[t], units[t]) for t in range(count)]


class _OneRow:
    """A row as a function of the same row of the inputs and of its own units."""

    def __init__(self, forms: _Subgraph, outputs: list[Row], columns: list[int], units: list[int]) -> None:
        place = {c: k for k, c in enumerate([*columns, *(forms.first + k for k in units)])}

        def own(row: Row) -> Row:
            if not set(row) <= set(place):
                raise NotExported("a subgraph that mixes rows")
            return {place[column]: term for column, term in row.items()}

        if any(not forms.units[k].arguments for k in units):
            raise NotExported("a subgraph with operations other than activations")
        self.outputs = [own(row) for row in outputs]
        self.arguments = [own(forms.units[k].arguments[0]) for k in units]
        self.sectors = [forms.sector(forms.units[k]) for k in units]
        self.inputs, self.size = len(columns), len(place)

    @property
    def forms(self) -> list[Row]:
        return [*self.outputs, *self.arguments]


def row_gain(scene: Scene) -> None:
    """Σ γ²|Δa|² − |Δb|² − (sectors of the units) is positive semidefinite, over one row."""
    done, graph, script = scene.conclusion, scene.graph, scene.script
    if not isinstance(done, Gain):
        raise NotExported("no row gain is stated")
    states, inputs = scene.states(done.region), scene.inputs(done.domain)
    values = scene.values(graph.step, done.region, done.domain, states, inputs)
    found = [_Subgraph(values, *place) for place in done.places]
    rows = [row for subgraph in found for row in subgraph.rows()]
    first, size = rows[0], rows[0].size
    for other in rows[1:]:
        if (other.size, other.inputs, len(other.forms)) != (size, first.inputs, len(first.forms)):
            raise NotExported("rows of different sizes")
        same = [
            equal(entry_of(mine, c), entry_of(theirs, c))
            for mine, theirs in zip(first.forms, other.forms, strict=True) for c in {**mine, **theirs}
        ]  # fmt: skip
        script.show(every(same), "every row and every copy is the same function")
    gains = [number(g) for g in done.gains]
    script.show(every([at_most(ZERO, g) for g in gains]), "gains ≥ 0")
    squares = [
        script.mul(g, g) for g, width in zip(gains, found[0].widths, strict=True) for _ in range(width)
    ]  # fmt: skip
    multipliers = [number(v) for v in numbers(scene.witness["multipliers"], len(first.arguments), "multipliers")]
    script.show(every([at_most(ZERO, m) for m in multipliers]), "multipliers ≥ 0")
    ends = [
        (min(row.sectors[k][0] for row in rows), max(row.sectors[k][1] for row in rows))
        for k in range(len(first.arguments))
    ]

    def entry(i: int, j: int) -> Term:
        terms = [squares[i]] if i == j < first.inputs else []
        terms += [negative(script.mul(entry_of(r, i), entry_of(r, j))) for r in first.outputs]
        for k, (m, sector, row) in enumerate(zip(multipliers, ends, first.arguments, strict=True)):
            terms += sector_terms(script, m, sector, row, (first.inputs + k, i, j))
        return script.define(f"m{i}.{j}", add(terms))

    factor = document.vector(scene.witness["factor"], upper_triangle_size(size), "factor")
    scene.definite(size, entry, factor, "the matrix of the row gain")
