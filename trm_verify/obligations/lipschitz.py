"""Side conditions of R16: how far the logits at the fixed point move with the input."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel.claims import Convergence, FixedPoints, WellPosed
from trm_verify.kernel.context import number as number_of
from trm_verify.kernel.context import numbers, upper_triangle_size
from trm_verify.kernel.document import vector
from trm_verify.kernel.graph import CONSTANT, Node
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval
from trm_verify.obligations.forms import Forms, FormUnit, Row, entry_of
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import ONE, ZERO, NotExported, Term, add, at_most, below, every, negative, number, sub
from trm_verify.obligations.walker import Walker, rows_of


class _WithInputs(Forms):
    """The same rows, with a column −1 − j for input j."""

    def leaf(self, i: int, node: Node) -> list[Row]:
        return [{-1 - j: ONE} for j in range(node.size)] if node.op == "input" else super().leaf(i, node)

    def operation(self, i: int, node: Node, args: list[list[Row]]) -> list[Row]:
        return [{}] * node.size if node.kind == CONSTANT else Walker.operation(self, i, node, args)


def lipschitz(scene: Scene) -> None:
    """γ²(Λᵀ(I − W) + (I − W)ᵀΛ − CᵀC) − ΛᵀUUᵀΛ is positive semidefinite over the states that can move."""
    (premise,) = scene.premises
    script, n, m = scene.script, scene.graph.size, scene.graph.input_size
    if isinstance(premise, FixedPoints) and premise.says("the"):
        box, known = premise.box, premise.arguments
    elif isinstance(premise, (WellPosed, Convergence)) and premise.region is not None:
        box, known = premise.region, ()
    else:
        raise NotExported("a premise that does not show exactly one fixed point")
    arguments, slopes = _layer(scene, box, premise.domain, known)
    moving = [i for i in range(n) if slopes[i] != 0]
    readout = Forms(scene.values(scene.readout(), box, Tensor((m,)), scene.states(box, "g.z"), [], "g"))
    logits = readout.flat()
    if readout.units:
        raise NotExported("a readout that is not linear")
    gamma = number(number_of(scene.witness["gamma"], "gamma"))
    weights = rows_of(list(map(number, numbers(scene.witness["multipliers"], n * n, "multipliers"))), n)
    script.show(below(ZERO, gamma), "γ > 0")
    for k in moving:
        if slopes[k] is None:
            script.show(at_most(ZERO, weights[k][k]), "the multiplier of a unit whose slope may vary is ≥ 0")
            if any(not weights[k][j].is_zero for j in moving if j != k):
                raise NotExported("a whole row of multipliers for a unit whose slope may vary")
    columns = [*moving, *(-1 - j for j in range(m))]
    own = {
        (i, c): script.combine(f"l{i}.{c}", [(weights[k][i], _away(arguments[k], k, c)) for k in moving])
        for i in moving for c in columns
    }  # fmt: skip

    def entry(a: int, b: int) -> Term:
        i, j = moving[a], moving[b]
        squares = [negative(script.mul(entry_of(row, i), entry_of(row, j))) for row in logits]
        inner = script.define("inner", add([own[i, j], own[j, i], *squares]))
        driven = [negative(script.mul(own[i, c], own[j, c])) for c in columns if c < 0]
        return script.define(f"m{i}.{j}", add([script.mul(gamma, gamma, inner), *driven]))

    factor = vector(scene.witness["factor"], upper_triangle_size(len(moving)), "factor")
    scene.definite(len(moving), entry, factor, "the matrix of the logits' increments")


def _away(row: Row, k: int, column: int) -> Term:
    """An entry of (I − W, −U)."""
    return sub(ONE if k == column else ZERO, entry_of(row, column))


def _layer(
    scene: Scene, box: Tensor, domain: Tensor, known: tuple[Interval, ...]
) -> tuple[list[Row], list[int | None]]:
    """Rows of the arguments, by state, and the slopes: 1, 0, or None for anything in [0, 1]."""
    graph, n = scene.graph, scene.graph.size
    values = scene.values(graph.step, box, domain, scene.states(box), scene.inputs(domain))
    forms = _WithInputs(values)
    outputs = forms.flat()
    if not forms.units:
        return outputs, [1] * n
    owner = [next((k for k in range(len(forms.units)) if row == {n + k: ONE}), -1) for row in outputs]
    if sorted(owner) != list(range(len(forms.units))) or any(not u.arguments for u in forms.units):
        raise NotExported("a step that is not of the form φ(Wz + Ux + b)")
    rows = [forms.units[k].arguments[0] for k in owner]
    if any(column >= n for row in rows for column in row):
        raise NotExported("a step that is not of the form φ(Wz + Ux + b)")
    for unit in forms.units:
        low, high = map(number, forms.sector(unit))
        scene.script.show(every([at_most(ZERO, low), at_most(high, ONE)]), "slopes lie in [0, 1]")
    return rows, [_slope(scene, forms, forms.units[k], known[k] if known else (None, None)) for k in owner]


def _slope(scene: Scene, forms: Forms, unit: FormUnit, interval: Interval) -> int | None:
    """The slope over an interval, where it is 1 or 0; the solver compares the ends with the breakpoints."""
    node = forms.nodes[unit.node]
    if node.op not in ("relu", "leaky_relu", "clamp"):
        return None
    floor, ceiling = (node.attrs["lo"], node.attrs["hi"]) if node.op == "clamp" else (Fraction(0), None)
    low, high = interval
    inside = [pair for pair, end in (((floor, low), floor), ((high, ceiling), ceiling)) if end is not None]
    outside = [] if node.op == "leaky_relu" else [(0, [(high, floor)]), (0, [(ceiling, low)])]
    for slope, pairs in [(1, inside), *outside]:
        ordered = [(a, b) for a, b in pairs if a is not None and b is not None and a <= b]
        if len(ordered) == len(pairs):
            for a, b in ordered:
                scene.script.show(at_most(number(a), number(b)), f"the slope is {slope} on the whole interval")
            return slope
    return None
