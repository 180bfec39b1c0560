"""What the obligations of all rules are made of: boxes, norms, definite matrices, margins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from trm_verify.kernel.claims import Conclusion, Convergence
from trm_verify.kernel.context import Context
from trm_verify.kernel.evaluate import evaluate, initial_state
from trm_verify.kernel.graph import Function, Graph
from trm_verify.kernel.norms import BlockNorm, MetricNorm, Norm
from trm_verify.kernel.numbers import dyadic, round_up, sqrt_up, upper_triangle
from trm_verify.kernel.operators import Operator, difference
from trm_verify.kernel.operators import apply as kernel_apply
from trm_verify.kernel.rules.invariance import ball_box, midpoint
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.forms import Forms, entry_of, sector
from trm_verify.obligations.points import applied, point, variables
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Script,
    Term,
    absolute,
    add,
    at_most,
    below,
    between,
    every,
    negative,
    number,
    sub,
)
from trm_verify.obligations.values import Refinement, Values

LARGE = "hints are large enough"
MOST_STEPS = 256  # iterations that one script follows
Margin = tuple[int, int, Fraction]  # one logit is above another by more than this


@dataclass
class Scene:
    """One step of a certificate, and the script about it.

    Attributes:
        large: the model has too many states and inputs for a solver to choose values of.
    """

    context: Context
    premises: list[Conclusion]
    witness: dict[str, Any]
    conclusion: Conclusion | None
    script: Script = field(default_factory=Script)
    large: bool = False

    @property
    def graph(self) -> Graph:
        return self.context.graph

    # variables and functions

    def inputs(self, domain: Tensor, name: str = "x") -> list[Term]:
        return variables(self.script, name, domain, self.graph.vocabulary)

    def states(self, region: Tensor, name: str = "z") -> list[Term]:
        return variables(self.script, name, region)

    def values(
        self, function: Function, region: Tensor, domain: Tensor, states: Sequence[Term], inputs: Sequence[Term],
        name: str = "f", refinement: Refinement | None = None,
    ) -> Values:  # fmt: skip
        """A function at these states and inputs, which lie in region × domain."""
        ranges = evaluate(self.graph, function, region, domain)
        found = Values(self.script, self.graph, function, states, inputs, ranges, name, refinement)
        found.defined()
        return found

    def image(
        self, operator: Operator, region: Tensor, domain: Tensor, states: Sequence[Term], inputs: Sequence[Term],
        name: str = "f", refinement: Refinement | None = None,
    ) -> list[Term]:  # fmt: skip
        """T(z, x)."""
        if operator.kind not in ("picard", "outer_damped"):
            raise NotExported(f"no loop of the operator {operator.kind}")
        found = self.values(self.graph.step, region, domain, states, inputs, name, refinement).flat()
        return applied(self.script, operator.alpha, states, found, f"{name}.next")

    # boxes

    def inside(self, inner: Tensor, outer: Tensor, what: str) -> None:
        """One box lies in another."""
        if not outer.bounded:
            return
        if not inner.bounded or inner.size != outer.size:
            self.script.show("false", what)
            return
        for i in range(outer.size):
            (low, high), (first, last) = outer.fraction(i), inner.fraction(i)
            self.script.show(every([at_most(number(low), number(first)), at_most(number(last), number(high))]), what)

    def same(self, a: Tensor, b: Tensor, what: str) -> None:
        self.inside(a, b, what)
        self.inside(b, a, what)

    def keep(self, terms: Sequence[Term], box: Tensor, what: str) -> None:
        """The terms stay in a box."""
        if box.bounded:
            for i, term in enumerate(terms):
                self.script.show(between(box.fraction(i)[0], term, box.fraction(i)[1]), what)

    # norms

    def norm_of(self, norm: Norm, terms: Sequence[Term], hint: Tensor, what: str) -> Term:
        """A literal ≥ N(terms): the kernel's bound of N over an enclosure of them, shown again."""
        script, bound = self.script, number(norm.bound(hint))
        if isinstance(norm, MetricNorm):
            self._metric(norm, terms, hint, bound, what)
            return bound
        start = 0
        for g, size in enumerate(norm.sizes):
            own = range(start, start + size)
            start += size
            limit = script.mul(bound, number(norm.weight(g)))
            if size == 1:
                term = terms[own[0]]
                script.show(every([at_most(negative(limit), term), at_most(term, limit)]), what)
                continue
            sizes = []
            for i in own:
                low, high = hint.fraction(i)
                most = max(-low, high)
                script.show(between(-most, terms[i], most), what)
                sizes.append(number(most))
            weight = number(norm.weight(g))
            square = script.mul(bound, bound, weight, weight)
            script.show(at_most(add([script.mul(m, m) for m in sizes]), square), what)
        return bound

    def _metric(self, norm: MetricNorm, terms: Sequence[Term], hint: Tensor, bound: Term, what: str) -> None:
        """√(middleᵀPmiddle) + √(halfᵀ|P|half) ≤ bound."""
        script, parts = self.script, []
        ends = [hint.fraction(i) for i in range(hint.size)]
        for i, (low, high) in enumerate(ends):
            script.show(between(low, terms[i], high), what)
        halves = [(high - low) / 2 for low, high in ends]
        for values, is_size in (([(low + high) / 2 for low, high in ends], False), (halves, True)):
            form, square = [], Fraction(0)
            for i, row in enumerate(norm.rows):
                for j, entry in enumerate(row):
                    p = number(dyadic(abs(entry) if is_size else entry, norm.exp))
                    form.append(script.mul(p, number(values[i]), number(values[j])))
                    square += (p.value or 0) * values[i] * values[j]
            root = number(sqrt_up(max(square, Fraction(0))))
            script.show(at_most(add(form), script.mul(root, root)), what)
            parts.append(root)
        script.show(at_most(add(parts), bound), what)

    def spread(self, norm: Norm) -> list[Term]:
        """Per coordinate a literal that bounds |v_i| over N(v) ≤ 1."""
        if isinstance(norm, BlockNorm):
            return [number(norm.weight(g)) for g in norm.groups]
        root = number(norm.spread(Fraction(1))[0])
        self.script.show(at_most(ONE, self.script.mul(root, root, number(norm.floor))), LARGE)
        return [root] * norm.size

    def ball_inside(self, norm: Norm, centre: Tensor, radius: Term, region: Tensor, what: str) -> None:
        """The coordinates' bounds of a ball stay in a region."""
        if region.bounded:
            for i, each in enumerate(self.spread(norm)):
                (low, high), (first, last) = region.fraction(i), centre.fraction(i)
                reach = self.script.mul(radius, each)
                self.script.show(at_most(number(low), sub(number(first), reach)), what)
                self.script.show(at_most(add([number(last), reach]), number(high)), what)

    def residual(self, premise: Any, domain: Tensor, centre: Tensor, name: str) -> Term:
        """A literal R with C·N(T(c) − c) ≤ (1 − ρ)R: then N(c − z*) ≤ R."""
        graph = self.graph
        self.inside(centre, premise.region, "the centre lies in the region of the contraction")
        image = self.image(premise.operator, centre, domain, point(centre), self.inputs(domain, f"{name}.x"), name)
        moved = [sub(t, c) for t, c in zip(image, point(centre), strict=True)]
        hint = difference(kernel_apply(graph, premise.operator, centre, domain), centre)
        size = self.norm_of(premise.norm, moved, hint, "N(T(c) − c) has this bound")
        constant = premise.constant if isinstance(premise, Convergence) else Fraction(1)
        found = number((size.value or Fraction(0)) * constant / (1 - premise.rate))
        rest = sub(found, self.script.mul(number(premise.rate), found))
        self.script.show(at_most(self.script.mul(number(constant), size), rest), "C·N(T(c) − c) ≤ (1 − ρ)R")
        return found

    def initial(self, premise: Any, domain: Tensor) -> tuple[list[Term], Tensor]:
        """init(x), with the kernel's enclosure of it, inside the start set of a convergence."""
        self.inside(domain, premise.domain, "the domain lies in the premise's")
        terms, box = self.start(domain)
        if premise.start is not None:
            self.keep(terms, premise.start, "init(x) lies in the start set")
        return terms, box

    def start(self, domain: Tensor) -> tuple[list[Term], Tensor]:
        graph = self.graph
        box = initial_state(graph, domain)
        if graph.init is None:
            return [ZERO] * graph.size, box
        nowhere = Tensor((graph.size,))
        return self.values(graph.init, nowhere, domain, [], self.inputs(domain, "i"), "init").flat(), box

    # matrices

    def definite(self, size: int, entry: Callable[[int, int], Term], factor: tuple[list[int], int], what: str) -> None:
        """M − RᵀR is diagonally dominant with a non-negative diagonal (proofs/psd_test.md)."""
        script, (ints, exp) = self.script, factor
        rows = [[number(dyadic(v, exp)) for v in row] for row in upper_triangle(ints, size)]
        rest: dict[tuple[int, int], Term] = {}
        for i in range(size):
            for j in range(i, size):
                square = [script.mul(rows[k][i], rows[k][j]) for k in range(i + 1)]
                rest[i, j] = script.define(f"e{i}.{j}", sub(entry(i, j), script.define("rr", add(square))))
        for i in range(size):
            others = [absolute(rest[min(i, j), max(i, j)]) for j in range(size) if j != i]
            script.show(at_most(add(others), rest[i, i]), f"{what} minus its factor's square is diagonally dominant")

    # margins

    def leads(self, answer: Sequence[int]) -> list[Margin]:
        """Every other logit is below the answer's, position by position."""
        return [(own, other, Fraction(0)) for own, other in self.competitors(answer)]

    def competitors(self, answer: Sequence[int]) -> list[tuple[int, int]]:
        readout = self.readout()
        classes = readout.nodes[readout.outputs[0]].shape[-1]
        return [
            (position * classes + label, position * classes + other)
            for position, label in enumerate(answer) for other in range(classes) if other != label
        ]  # fmt: skip

    def readout(self) -> Function:
        if self.graph.readout is None:
            raise NotExported("a model without readout")
        return self.graph.readout

    def logits(self, box: Tensor, states: Sequence[Term], name: str = "g") -> list[Term]:
        return self.values(self.readout(), box, Tensor((self.graph.input_size,)), states, [], name).flat()

    def box_margins(self, box: Tensor, margins: Sequence[Margin], name: str = "g") -> None:
        """Margins over a box of states."""
        if self.script.by_intervals:
            half = [(high - low) / 2 for low, high in map(box.fraction, range(box.size))]
            self._form_margins(midpoint(box), box, lambda q: self._reach(q, half), margins, name)
            return
        logits = self.logits(box, self.states(box, f"{name}.z"), name)
        for own, other, least in margins:
            self.script.show(
                below(add([logits[other], number(least)]), logits[own]), f"{_apart(least)} on the whole box"
            )

    def _reach(self, q: Sequence[Term], half: Sequence[Fraction]) -> Term:
        return add([self.script.mul(absolute(c), number(h)) for c, h in zip(q, half, strict=True)])

    def ball_margins(self, norm: Norm, centre: Tensor, radius: Fraction, margins: Sequence[Margin], name: str) -> None:
        """Margins over {N(z − c) ≤ radius}: directly where that is a box, else by forms (proofs/margins.md)."""
        box = ball_box(norm, centre, radius)
        if isinstance(norm, BlockNorm) and max(norm.sizes) == 1:
            self.box_margins(box, margins, name)
            return

        def support(q: Sequence[Term]) -> Term:
            return self.script.mul(number(radius), self.support(norm, q))

        self._form_margins(centre, box, support, margins, name)
        self.script.facts["Cauchy–Schwarz for the linear part over the ball"] += 1

    def _form_margins(
        self, centre: Tensor, box: Tensor, support: Callable[[Sequence[Term]], Term], margins: Sequence[Margin],
        name: str,
    ) -> None:  # fmt: skip
        """Margins at the centre, less what the linear part and each unit can differ from there."""
        script, readout, nothing = self.script, self.readout(), Tensor((self.graph.input_size,))
        at_centre = self.values(readout, centre, nothing, point(centre), [], f"{name}.c")
        over_set = self.values(readout, box, nothing, self.states(box, f"{name}.z"), [], f"{name}.b")
        logits, forms = at_centre.flat(), Forms(over_set)
        outputs = forms.flat()
        away = [self.deviation(at_centre, over_set, unit.node, unit.entry) for unit in forms.units]
        n = self.graph.size
        for own, other, least in margins:
            row = forms.combine(f"{name}.d", [(ONE, outputs[own]), (negative(ONE), outputs[other])])
            reach = [support([entry_of(row, i) for i in range(n)])]
            reach += [script.mul(script.ceiling(absolute(entry_of(row, n + k)), LARGE), each)
                      for k, each in enumerate(away)]  # fmt: skip
            script.show(below(add([*reach, number(least)]), sub(logits[own], logits[other])), _apart(least))

    def deviation(self, at_centre: Values, over_ball: Values, node: int, entry: int) -> Term:
        """A literal ≥ |φ − φ_c| over the ball's box, for one unit."""
        (low, high), (first, last) = at_centre.interval(node, entry), over_ball.interval(node, entry)
        if low is None or high is None or first is None or last is None:
            raise NotExported("an unbounded unit of the readout")
        return number(max(last - low, high - first))

    def support(self, norm: Norm, q: Sequence[Term]) -> Term:
        """A literal or sum that bounds |Σ q_i v_i| over N(v) ≤ 1."""
        script = self.script
        sizes = [script.define("size", absolute(term)) for term in q]
        if isinstance(norm, MetricNorm):
            return script.mul(self.spread(norm)[0], script.length(sizes, LARGE))
        found, start = [], 0
        for g, size in enumerate(norm.sizes):
            own = script.length(sizes[start : start + size], LARGE)
            found.append(script.mul(number(norm.weight(g)), own))
            start += size
        return script.define("support", add(found))

    def logit_reach(self, norm: Norm, answer: Sequence[int]) -> list[Term]:
        """Per pair of logits, how far their difference moves when the state moves by at most 1 in the norm."""
        n, everywhere, script = self.graph.size, Tensor((self.graph.size,)), self.script
        nothing = Tensor((self.graph.input_size,))
        values = self.values(self.readout(), everywhere, nothing, self.states(everywhere, "any"), [], "reach")
        forms, moves = Forms(values), list[Term]()

        def reach(row: dict[int, Term]) -> Term:
            units = [script.mul(script.ceiling(absolute(entry_of(row, n + k)), LARGE), m) for k, m in enumerate(moves)]
            return add([self.support(norm, [entry_of(row, i) for i in range(n)]), *units])

        for unit in forms.units:
            if not unit.arguments:
                raise NotExported("a readout with operations other than activations")
            low, high = sector(values, unit.node, unit.entry)
            moved = script.mul(number(max(-low, high)), script.define("moved", reach(unit.arguments[0])))
            moves.append(script.ceiling(moved, LARGE))
        outputs = forms.flat()
        rows = [
            forms.combine("difference", [(ONE, outputs[own]), (negative(ONE), outputs[other])])
            for own, other in self.competitors(answer)
        ]
        return [script.define("moves", reach(row)) for row in rows]

    # power

    def power(self, rate: Fraction, exponent: int) -> Term:
        """A literal ≥ rate^exponent: each product of the square-and-multiply chain is a goal."""
        script = self.script

        def product(a: Term, b: Term) -> Term:
            value = number(round_up((a.value or Fraction(0)) * (b.value or Fraction(0))))
            script.show(at_most(script.mul(a, b), value), "powers of the rate have these bounds")
            return value

        result, square = ONE, number(rate)
        while exponent:
            if exponent & 1:
                result = product(result, square)
            exponent >>= 1
            if exponent:
                square = product(square, square)
        return result


def _apart(least: Fraction) -> str:
    """What a margin says."""
    return "logits are as far apart as they have to be" if least else "the answer's logit is the largest"
