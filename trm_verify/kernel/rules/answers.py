"""R9: answers that no further step can change, and the audit of one inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from trm_verify.kernel import document
from trm_verify.kernel.claims import Answer, Conclusion, Convergence, Invariant, Reached, Run
from trm_verify.kernel.context import Context, Witness, none, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate, initial_state
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.linear import Forms, linear_forms
from trm_verify.kernel.numbers import dot, dyadic, power_up, round_up
from trm_verify.kernel.operators import Operator, apply, difference, require_loop
from trm_verify.kernel.rules.invariance import ball_box, from_init, midpoint, residual_bound
from trm_verify.kernel.tensor import Tensor, contains

Support = Callable[[list[int], int], Fraction]  # q, exp ↦ a bound of |q · (z − c)| over the set


def _readout(graph: Graph, states: Tensor) -> tuple[list[Tensor], Tensor]:
    if graph.readout is None:
        raise CheckError("UNSUPPORTED", "a model with a readout", "none")
    values = evaluate(graph, graph.readout, states, Tensor((graph.input_size,)))
    return values, values[graph.readout.outputs[0]]


class Logits:
    """Differences of logits on a set around the exact point `centre`.

    The set lies in `box`, and `support` bounds linear functionals of z − centre on it.
    Sound if: proofs/margins.md.
    """

    def __init__(self, graph: Graph, centre: Tensor, box: Tensor, support: Support) -> None:
        self.graph, self.support = graph, support
        self.at_centre, self.centre = _readout(graph, centre)
        self.over_set, self.set = _readout(graph, box)
        if not self.centre.bounded:
            raise CheckError("UNSUPPORTED", "bounded logits", "unbounded ones")

    @cached_property
    def forms(self) -> Forms:
        """Made when the enclosures do not suffice: forms of every logit over every state entry are large."""
        if self.graph.readout is None:
            raise CheckError("UNSUPPORTED", "a model with a readout", "none")
        return linear_forms(self.graph, self.graph.readout, self.over_set)

    @cached_property
    def deviation(self) -> tuple[list[int], int]:
        """Per unit, a bound of |φ − φ_c| between the set and its centre."""
        exp, found = 0, []
        for node, entry, _ in self.forms.units:
            (low, high), (lo, hi) = self.at_centre[node].fraction(entry), self.over_set[node].fraction(entry)
            found.append(max(hi - low, high - lo))
            exp = min(exp, 1 - found[-1].denominator.bit_length())
        return [int(v / dyadic(1, exp)) for v in found], exp

    def at_centre_by(self, a: int, b: int) -> Fraction:
        """How far logit a is above logit b at the centre, at least."""
        lo, hi = self.centre.ends()
        return dyadic(lo[a] - hi[b], self.centre.exp)

    def exceeds(self, a: int, b: int, least: Fraction) -> bool:
        """Whether logit a is surely above logit b by more than `least`, on the whole set."""
        if self.set.bounded and dyadic(self.set.ends()[0][a] - self.set.ends()[1][b], self.set.exp) > least:
            return True
        form, n = self.forms.outputs, self.graph.size
        q = [p - r for p, r in zip(form.rows[a], form.rows[b], strict=True)]
        self.graph.charge(len(q))
        deviation, exp = self.deviation
        units = dot(map(abs, q[n:]), deviation) * dyadic(1, form.exp + exp)
        return self.at_centre_by(a, b) - self.support(q[:n], form.exp) - units > least


def require_margins(logits: Logits, answer: tuple[int, ...]) -> None:
    """Every logit difference in favour of `answer` is strictly positive."""
    classes = logits.centre.shape[-1]
    for position, label in enumerate(answer):
        start = position * classes
        for other in range(classes):
            if other != label and not logits.exceeds(start + label, start + other, Fraction(0)):
                margin = logits.at_centre_by(start + label, start + other)
                raise CheckError("MARGIN", f"logit {label} above logit {other} at position {position}", margin)


def _box_support(box: Tensor) -> Support:
    lo, hi = box.ends()
    half = [b - a for a, b in zip(lo, hi, strict=True)]
    return lambda q, exp: dot(map(abs, q), half) * dyadic(1, exp + box.exp - 1)


def box_margins(graph: Graph, box: Tensor, answer: tuple[int, ...]) -> None:
    require_margins(Logits(graph, midpoint(box), box, _box_support(box)), answer)


def ball_logits(graph: Graph, premise: Convergence, centre: Tensor, radius: Fraction) -> Logits:
    """Logits over {N(z − centre) ≤ radius}."""
    norm = premise.norm
    return Logits(graph, centre, ball_box(norm, centre, radius), lambda q, exp: radius * norm.support(q, exp))


def ball_margins(graph: Graph, premise: Convergence, centre: Tensor, radius: Fraction, answer: tuple[int, ...]) -> None:
    """Margins over {N(z − centre) ≤ radius}."""
    require_margins(ball_logits(graph, premise, centre, radius), answer)


MAX_LOOP = 100_000  # iterations that the kernel runs itself


def _steps(raw: object, most: int = 10**12) -> int:
    return document.integer(raw, 0, most, "steps")


def later_radius(graph: Graph, premise: Convergence, domain: Tensor, centre: Tensor, steps: int) -> Fraction:
    """R with N(z_k − centre) ≤ R for every iterate k ≥ steps from init(x), for all x of the domain: R_c + C ρᴷ N0."""
    initial = from_init(graph, premise, domain)
    to_fixed_point = residual_bound(graph, premise, domain, centre)
    from_start = premise.norm.bound(difference(initial, centre)) + to_fixed_point
    return to_fixed_point + premise.constant * power_up(premise.rate, steps) * from_start


def answer_by_convergence(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R9(a): the margins hold where all later iterates lie.

    Sound if: proofs/answer_by_convergence.md.
    """
    premise = only(premises, Convergence)
    raw = document.fields(witness, "domain", "center", "answer", "steps", where="answer_by_convergence")
    graph, domain, answer, steps = context.graph, context.box(raw[0], "input"), context.answer(raw[2]), _steps(raw[3])
    centre = context.state(raw[1])
    ball_margins(graph, premise, centre, later_radius(graph, premise, domain, centre, steps), answer)
    return Answer(premise.operator, domain, answer, steps)


def answer_by_invariance(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R9(b): the first K iterations end inside an invariant box on which the margins hold.

    They are followed by interval evaluation, or the second premise says where they end.
    Sound if: proofs/answer_by_invariance.md.
    """
    premise = only(premises[:1], Invariant)
    raw = document.fields(witness, "domain", "answer", "steps", where="answer_by_invariance")
    domain, answer, steps = context.box(raw[0], "input"), context.answer(raw[1]), _steps(raw[2], MAX_LOOP)
    if premise.ball is not None or not contains(premise.domain, domain):
        raise CheckError("CONTEXT", "an invariant box on a domain that holds this one", "another premise")
    if len(premises) > 1:
        state = _reached(only(premises[1:], Reached), premise, domain, steps)
    else:
        state = _iterate(context.graph, premise.operator, domain, steps)
    if not contains(premise.region, state):
        raise CheckError("INCLUSION", f"iterate {steps} inside the invariant box", "one that is not shown to be")
    box_margins(context.graph, premise.region, answer)
    return Answer(premise.operator, domain, answer, steps)


def _reached(found: Reached, premise: Invariant, domain: Tensor, steps: int) -> Tensor:
    """The box of the iterate after `steps`, for the inputs and the operator in question."""
    if found.operator != premise.operator or found.steps != steps or not contains(found.domain, domain):
        raise CheckError("CONTEXT", "the same operator, inputs and number of steps", "others")
    return found.box


def _iterate(graph: Graph, operator: Operator, domain: Tensor, steps: int) -> Tensor:
    """A box that holds the iterate after `steps` from init(x), for every x of the domain."""
    state = initial_state(graph, domain)
    for _ in range(steps):
        state = apply(graph, operator, state, domain)
    return state


def answer_at(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The K-th iterate of one input, enclosed step by step. Sound if: proofs/answer_at.md."""
    none(premises)
    raw = document.fields(witness, "operator", "domain", "answer", "steps", where="answer_at")
    operator, domain = context.operator(raw[0]), context.box(raw[1], "input")
    answer, steps = context.answer(raw[2]), _steps(raw[3], MAX_LOOP)
    require_loop(operator)
    if not domain.is_point:
        raise CheckError("BOX", "a single input", "a box")
    box_margins(context.graph, _iterate(context.graph, operator, domain, steps), answer)
    return Answer(operator, domain, answer, steps, at=True)


@dataclass(frozen=True)
class Trace:
    """A stored run: what each state answers (None: nothing that is said), the last one's `answer`, and the drifts."""

    domain: Tensor
    states: list[Tensor]
    answers: tuple[tuple[int, ...] | None, ...]
    answer: tuple[int, ...]
    final: int
    drifts: tuple[Fraction, ...]

    @property
    def ends(self) -> list[Tensor]:
        """The final state and the last one, whose real iterates are to keep the answer."""
        first, last = self.states[self.final], self.states[-1]
        return [last] if first == last else [first, last]


def trace_of(context: Context, operator: Operator, inside: Tensor, witness: Witness, rule: str) -> Trace:
    """The stored run of a witness, its drifts worked out and its answers checked."""
    raw = document.fields(witness, "domain", "states", "answers", "final", where=rule)
    graph, n, domain = context.graph, context.graph.size, context.box(raw[0], "input")
    if not domain.is_point or not contains(inside, domain):
        raise CheckError("BOX", "a single input inside the premise's domain", "another")
    ints, exp = document.vector(raw[1], None, "states")
    if not ints or len(ints) % n:
        raise CheckError("NUMBER", f"whole states of {n} entries", len(ints))
    states = [Tensor((n,), exp, part, part) for part in (ints[i : i + n] for i in range(0, len(ints), n))]
    raw_answers = document.items(raw[2], "answers")
    final = document.integer(raw[3], 0, len(states) - 1, "final")
    if len(raw_answers) != len(states):
        raise CheckError("NUMBER", f"{len(states)} answers, or null", len(raw_answers))
    answers = tuple(None if a is None else context.answer(a) for a in raw_answers)
    last = answers[-1]
    if last is None or any(a != last for a in answers[final:]):
        raise CheckError("WITNESS", "one and the same answer from the final step on", answers[final])
    expected, drifts = initial_state(graph, domain), []
    for state, answer in zip(states, answers, strict=True):
        drift = difference(state, expected)
        drifts.append(round_up(dyadic(max(drift.magnitude()), drift.exp)))
        expected = apply(graph, operator, state, domain)
        if answer is not None:
            box_margins(graph, state, answer)
    return Trace(domain, states, answers, last, final, tuple(drifts))


def orbit_radius(premise: Convergence, state: Tensor, distance: Fraction) -> Fraction:
    """R with N(w − state) ≤ R for all real iterates w that start at the state.

    Args:
        distance: N(T(state) − state) · C/(1 − ρ) or more; from the fixed point it is no further. See proofs/run.md.
    """
    one_step = premise.constant == 1  # then the ball of that radius is invariant, as far as the loop contracts in it
    if one_step and (premise.region is None or contains(premise.region, ball_box(premise.norm, state, distance))):
        return distance
    if premise.start is None or not contains(premise.start, state):
        expected = "a stored state to converge from" + (", or the ball around it inside the region" if one_step else "")
        raise CheckError("INCLUSION", expected, "one that is not shown to be")
    return distance if one_step else (1 + premise.constant) * distance


def run(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The audit of one inference. Sound if: proofs/run.md."""
    premise, graph = only(premises, Convergence), context.graph
    trace = trace_of(context, premise.operator, premise.domain, witness, "run")
    distances = [round_up(residual_bound(graph, premise, trace.domain, state)) for state in trace.states]
    for k in {trace.final, len(distances) - 1}:
        reach = orbit_radius(premise, trace.states[k], distances[k])
        ball_margins(graph, premise, trace.states[k], reach, trace.answer)
    return Run(
        premise.operator, trace.domain, premise.norm, trace.states[-1], distances[-1], trace.answer, trace.final,
        trace.drifts, tuple(distances), trace.answers,
    )  # fmt: skip
