"""Counterexamples by z3, replayed exactly: expanding pairs, second fixed points, other answers, cycles.

A step is written exactly, over the rationals, from its affine forms. What z3 finds is rounded where the kernel wants
binary fractions, and handed to the kernel's rules; an `unsat` is reported as such and proves nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.certificate import Derivation, derive
from trm_verify.encode import Json, fractions
from trm_verify.encode import dyadic as dyadic_json
from trm_verify.kernel.affine import AffineForms, affine_forms
from trm_verify.kernel.cycles import cycle_graph
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dyadic, floor_at
from trm_verify.kernel.operators import Operator, parse_operator, require_loop
from trm_verify.kernel.rules.fixed_point_answers import competitors
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.exact.preconditioned import BoxTest
from trm_verify.provers.problem import Problem
from trm_verify.provers.smt.process import Z3, Verdict
from trm_verify.provers.smt.text import Script, affine, number
from trm_verify.provers.witnesses import FixedPoint, fixed_point, two_fixed_points
from trm_verify.provers.witnesses import other_answer as refuted_answer

Values = tuple[Fraction, ...]

ROUNDINGS = (16, 32, 64, 128, 240)  # places to which states are rounded, until the kernel agrees
RADII = (-8, -16, -32, -64)  # exponents of the boxes that are tried around a cycle


@dataclass(frozen=True)
class Sought:
    """What a query gave.

    Attributes:
        derivation: a refutation that the kernel accepted.
        unsat: z3 says that there is no such thing. Only z3 says so; this is no proof.
        reason: why there is no derivation.
        x, states: what was found, exactly, even where no rule says what follows from it.
    """

    derivation: Derivation | None = None
    unsat: bool = False
    reason: str = ""
    x: Values = ()
    states: tuple[Values, ...] = ()


@dataclass(frozen=True)
class Smt:
    """Queries about one problem, over one domain and region.

    Args:
        seconds: the hard limit of each query.
    """

    problem: Problem
    domain: Json
    region: Json
    z3: Z3
    seconds: float = 20.0

    @property
    def _size(self) -> int:
        return self.problem.graph.size

    def _forms(self) -> AffineForms:
        return forms_over(self.problem.graph, self.problem.box(self.domain), self.problem.box(self.region), None)

    def _begin(self) -> tuple[Script, list[str]]:
        """A script with the input inside its domain."""
        graph, script = self.problem.graph, Script()
        if graph.vocabulary is not None and not self.problem.box(self.domain).is_point:
            raise CheckError("UNSUPPORTED", "one input at a time, where inputs are integers", "a box")
        inputs = script.reals("x", graph.input_size)
        script.inside(inputs, self.problem.box(self.domain))
        return script, inputs

    def _state(self, script: Script, tag: str) -> list[str]:
        names = script.reals(tag, self._size)
        script.inside(names, self.problem.box(self.region))
        return names

    def _seek(self, script: Script, names: Sequence[str], found: Callable[[Verdict], Sought]) -> Sought:
        answer = self.z3.ask(script.text, names, self.seconds)
        if answer.status == "unsat":
            return Sought(unsat=True, reason="z3 says that there is none")
        if answer.status != "sat":
            return Sought(reason=answer.reason or "z3 does not know")
        try:
            return found(answer)
        except CheckError as error:
            return Sought(reason=str(error))

    def expanding_pair(self, norm: Json, rate: Fraction, operator: object = "picard") -> Sought:
        """Two states that the operator does not bring together at the rate, in a weighted ℓ∞ norm.

        The distance of the two is a constant t > 0 of its own, so that no solver can take them equal.
        """
        kind, weighted = parse_operator(operator, self._size), self.problem.norm(norm)
        if not isinstance(weighted, BlockNorm) or set(weighted.sizes) != {1}:
            return Sought(reason="expanding pairs are looked for in weighted ℓ∞ norms only")
        if rate < 0 or rate.denominator & (rate.denominator - 1):
            return Sought(reason="expanding pairs are looked for at rates that are binary fractions ≥ 0 only")
        try:
            require_loop(kind)
            script, inputs = self._begin()
            first, second, t = self._state(script, "p"), self._state(script, "q"), script.reals("t", 1)[0]
            images = [self._image(script, kind, z, inputs, tag) for z, tag in ((first, "f"), (second, "g"))]
        except CheckError as error:
            return Sought(reason=str(error))
        script.require(f"(> {t} 0.0)")
        weights = [w * dyadic(1, weighted.exp) for w in weighted.weights]
        for d, z, w in zip(weights, first, second, strict=True):
            script.require(f"(<= (- {z} {w}) (* {number(d)} {t}))", f"(<= (- {w} {z}) (* {number(d)} {t}))")
        grown = zip(weights, *images, strict=True)
        script.either([f"(> (- {f} {g}) (* {number(rate * d)} {t}))" for d, f, g in grown])

        def replay(answer: Verdict) -> Sought:
            x, a, b = (tuple(answer.values[name] for name in part) for part in (inputs, first, second))
            return self._pair(norm, rate, operator, x, a, b)

        return self._seek(script, [*inputs, *first, *second], replay)

    def _pair(self, norm: Json, rate: Fraction, operator: object, x: Values, a: Values, b: Values) -> Sought:
        """The pair, rounded to binary fractions as few as the kernel accepts."""
        domain, region = self.problem.box(self.domain), self.problem.box(self.region)
        reason = ""
        for places in ROUNDINGS:
            short = [_rounded(v, box, places) for v, box in ((x, domain), (a, region), (b, region))]
            done = derive(
                "expanding_pair", operator=operator, domain={"space": "input", "point": fractions(short[0])}, norm=norm,
                rate=dyadic_json(rate), first=fractions(short[1]), second=fractions(short[2]),
            )  # fmt: skip
            try:
                self.problem.conclude(done)
                return Sought(done, x=short[0], states=(short[1], short[2]))
            except CheckError as error:
                reason = str(error)
        return Sought(reason=f"what z3 found does not survive rounding: {reason}", x=x, states=(a, b))

    def _image(
        self, script: Script, operator: Operator, states: Sequence[str], inputs: Sequence[str], tag: str
    ) -> list[str]:
        images = script.function(self._forms(), states, inputs, tag)
        if operator.kind == "picard":
            return images
        mixed = zip(operator.alpha, states, images, strict=True)
        return [affine(Fraction(0), [(1 - alpha, z), (alpha, f)]) for alpha, z, f in mixed]

    def _at_fixed_point(self) -> tuple[Script, list[str], list[str]]:
        script, inputs = self._begin()
        states = self._state(script, "z")
        images = script.function(self._forms(), states, inputs, "f")
        script.require(*(f"(= {z} {f})" for z, f in zip(states, images, strict=True)))
        return script, inputs, states

    def second_fixed_point(self, first: FixedPoint) -> Sought:
        """A fixed point of the same input that is another one; refutes `at_most_one`."""
        try:
            script, inputs, states = self._at_fixed_point()
            script.require(*(f"(= {name} {number(v)})" for name, v in zip(inputs, first.x, strict=True)))
            script.either([f"(distinct {name} {number(v)})" for name, v in zip(states, first.z, strict=True)])
        except CheckError as error:
            return Sought(reason=str(error))

        def replay(answer: Verdict) -> Sought:
            second = fixed_point(self.problem, first.x, [answer.values[name] for name in states])
            return Sought(two_fixed_points(self.problem, first, second), x=first.x, states=(first.z, second.z))

        return self._seek(script, states, replay)

    def other_answer(self, answer: Sequence[int]) -> Sought:
        """An input with a fixed point that does not strictly answer so; refutes `fixed_point_answer`."""
        try:
            script, inputs, states = self._at_fixed_point()
            logits = self._logits(script, states)
            pairs = competitors(self.problem.graph, tuple(answer))
            script.either([f"(<= {logits[own]} {logits[rival]})" for own, rival in pairs])
        except CheckError as error:
            return Sought(reason=str(error))

        def replay(found: Verdict) -> Sought:
            x, z = ([found.values[name] for name in part] for part in (inputs, states))
            there = fixed_point(self.problem, x, z)
            return Sought(refuted_answer(self.problem, there, answer), x=there.x, states=(there.z,))

        return self._seek(script, [*inputs, *states], replay)

    def _logits(self, script: Script, states: Sequence[str]) -> list[str]:
        graph = self.problem.graph
        if graph.readout is None:
            raise CheckError("UNSUPPORTED", "a model with a readout", "none")
        ranges = evaluate(graph, graph.readout, self.problem.box(self.region), Tensor((graph.input_size,)))
        unread = ["0.0"] * graph.input_size
        return script.function(affine_forms(graph, graph.readout, ranges), states, unread, "r")

    def cycle(self, period: int, operator: object = "picard") -> Sought:
        """An orbit of the operator that comes back to its start, and is no fixed point; refutes `convergence`."""
        kind = parse_operator(operator, self._size)
        try:
            require_loop(kind)
            script, inputs = self._begin()
            orbit = [self._state(script, f"z{k}_") for k in range(period)]
            for k, z in enumerate(orbit):
                images = self._image(script, kind, z, inputs, f"f{k}_")
                following = orbit[(k + 1) % period]
                script.require(*(f"(= {w} {f})" for w, f in zip(following, images, strict=True)))
            script.either([f"(distinct {a} {b})" for a, b in zip(orbit[0], orbit[1 % period], strict=True)])
        except CheckError as error:
            return Sought(reason=str(error))
        flat = [name for z in orbit for name in z]

        def replay(answer: Verdict) -> Sought:
            x = tuple(answer.values[name] for name in inputs)
            return self._cycle(kind, operator, period, x, tuple(answer.values[name] for name in flat))

        return self._seek(script, [*inputs, *flat], replay)

    def _cycle(self, kind: Operator, operator: object, period: int, x: Values, orbit: Values) -> Sought:
        """The orbit, by R5 on a box around it that is small enough."""
        states = tuple(orbit[k : k + self._size] for k in range(0, len(orbit), self._size))
        if any(v.denominator & (v.denominator - 1) for v in x):
            return Sought(reason="a cycle at an input that is no binary fraction", x=x, states=states)
        graph = cycle_graph(self.problem.graph, kind, period)
        domain: Json = {"space": "input", "point": fractions(x)}
        reason = ""
        for exp in RADII:
            middle = [dyadic(floor_at(z, exp - 20), exp - 20) for z in orbit]
            radius = dyadic(1, exp)
            try:
                box = self.problem.box(domain)
                test = BoxTest(graph, box, [c - radius for c in middle], [c + radius for c in middle])
                witness = test.witness()
                if witness is None:
                    reason = "the orbit is not isolated"
                    continue
                done = derive(
                    "cycle", operator=operator, domain=domain, period=period, lo=test.lo, hi=test.hi, **witness
                )  # fmt: skip
                self.problem.conclude(done)
                return Sought(done, x=x, states=states)
            except CheckError as error:
                reason = str(error)
        return Sought(reason=f"a cycle was found exactly, but R5 does not show it: {reason}", x=x, states=states)


def _rounded(values: Values, box: Tensor, places: int) -> Values:
    """Near by, inside the box, with so many binary places; values that are such already stay."""
    found = []
    for i, v in enumerate(values):
        short = v if v.denominator & (v.denominator - 1) == 0 else dyadic(floor_at(v, -places), -places)
        lo, hi = box.fraction(i) if box.bounded else (short, short)
        found.append(min(max(short, lo), hi))
    return tuple(found)
