"""Side conditions of R16: how far the logits at the fixed point move with the input."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.claims import FixedPoints, Lipschitz
from trm_verify.kernel.context import numbers, upper_triangle_size
from trm_verify.kernel.graph import Node
from trm_verify.kernel.rules.lipschitz import layer_of
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval
from trm_verify.obligations.forms import Forms, FormUnit, Row, entry_of, slopes_of
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    Formula,
    NotExported,
    Term,
    add,
    at_most,
    below,
    equal,
    every,
    negative,
    number,
    some,
    sub,
)
from trm_verify.obligations.walker import rows_of


def lipschitz(scene: Scene) -> None:
    """γ²(Λᵀ(I − W) + (I − W)ᵀΛ − CᵀC) − ΛᵀUUᵀΛ is positive semidefinite over the states that can move."""
    done, graph, script = scene.conclusion, scene.graph, scene.script
    if not isinstance(done, Lipschitz):
        raise NotExported("no constant is stated")
    n, m = graph.size, graph.input_size
    layer, domain, _ = layer_of(graph, scene.premises[0])
    premise = scene.premises[0]
    box = premise.box if isinstance(premise, FixedPoints) else Tensor((n,))
    scene.same(domain, done.domain, "the domain is the premise's")
    values = scene.values(graph.step, box, domain, scene.states(box), scene.inputs(domain))
    rows, units = _arguments(Forms(values, inputs=True), n)
    readout = Forms(scene.values(scene.readout(), box, domain, scene.states(box, "c"), [], "g"))
    if readout.units:
        raise NotExported("a readout that is not linear")
    moving, gamma = layer.moving, number(done.constant)
    script.show(below(ZERO, gamma), "γ > 0")
    multipliers = rows_of([number(v) for v in numbers(scene.witness["multipliers"], n * n, "multipliers")], n)
    for k, (unit, place) in enumerate(units):
        low, high = map(number, slopes_of(values.nodes[unit.node], Tensor((1,))))
        script.show(every([at_most(ZERO, low), at_most(high, ONE)]), "slopes lie in [0, 1]")
        interval = premise.arguments[place] if isinstance(premise, FixedPoints) else (None, None)
        if layer.slopes[k] is not None:
            piece = _on_piece(values.nodes[unit.node], interval, layer.slopes[k] == 1)
            script.show(piece, "where a slope is taken for 1 or 0, the argument's interval lies in that piece")
    for k in moving:
        if layer.slopes[k] is None:
            free = [equal(multipliers[k][j], ZERO) for j in moving if j != k]
            script.show(every([at_most(ZERO, multipliers[k][k]), *free]), "one multiplier ≥ 0 where the slope may vary")

    def away(k: int, j: int) -> Term:
        return sub(ONE if k == j else ZERO, entry_of(rows[k], j))

    driven = {
        (i, x): script.combine("lu", [(multipliers[k][i], entry_of(rows[k], n + x)) for k in moving])
        for i in moving for x in range(m)
    }  # fmt: skip
    outputs = readout.flat()

    def entry(a: int, b: int) -> Term:
        i, j = moving[a], moving[b]
        both = [script.mul(multipliers[k][i], away(k, j)) for k in moving]
        both += [script.mul(multipliers[k][j], away(k, i)) for k in moving]
        both += [negative(script.mul(entry_of(row, i), entry_of(row, j))) for row in outputs]
        inner = script.define("inner", add(both))
        inputs = [negative(script.mul(driven[i, x], driven[j, x])) for x in range(m)]
        return add([script.mul(gamma, gamma, inner), *inputs])

    factor = document.vector(scene.witness["factor"], upper_triangle_size(len(moving)), "factor")
    scene.definite(len(moving), entry, factor, "γ²(Λᵀ(I − W) + (I − W)ᵀΛ − CᵀC) − ΛᵀUUᵀΛ")


def _arguments(forms: Forms, n: int) -> tuple[list[Row], list[tuple[FormUnit, int]]]:
    """The arguments of a step φ(Wz + Ux + b) by state, and the unit of each with its place; none if it is affine."""
    outputs = forms.flat()
    if not forms.units:
        return outputs, []
    places = [next(iter(row)) - forms.first if list(row.values()) == [ONE] else -1 for row in outputs]
    if sorted(places) != list(range(n)) or len(forms.units) != n:
        raise NotExported("a step that is not of the form φ(Wz + Ux + b)")
    units = [forms.units[k] for k in places]
    if any(not u.arguments or any(column >= forms.first for column in u.arguments[0]) for u in units):
        raise NotExported("a unit inside the argument of another")
    return [unit.arguments[0] for unit in units], list(zip(units, places, strict=True))


def _on_piece(node: Node, interval: Interval, rising: bool) -> Formula:
    """Whether a projection is the identity, or (not `rising`) constant, on the whole interval."""
    low, high = interval
    floor, ceiling = (node.attrs["lo"], node.attrs["hi"]) if node.op == "clamp" else (Fraction(0), None)

    def reaches(a: Fraction | None, b: Fraction | None) -> Formula:
        return "false" if a is None or b is None else at_most(number(a), number(b))

    if rising:
        ends = [] if floor is None else [reaches(floor, low)]
        return every(ends if ceiling is None else [*ends, reaches(high, ceiling)])
    return "false" if node.op == "leaky_relu" else some([reaches(high, floor), reaches(ceiling, low)])
