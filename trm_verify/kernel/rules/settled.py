"""R12 with R9: where a loop that settles ends, what it answers there, and the audit of one inference of it."""

from __future__ import annotations

from trm_verify.kernel import document
from trm_verify.kernel.again import kept
from trm_verify.kernel.claims import Answer, Conclusion, Invariant, Reached, Run, Settled
from trm_verify.kernel.context import Context, Witness, only
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate, flatten, initial_state
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.numbers import dyadic, round_up
from trm_verify.kernel.operators import difference
from trm_verify.kernel.rules.answers import MAX_LOOP, box_margins, trace_of
from trm_verify.kernel.rules.triangular import parts_of
from trm_verify.kernel.tensor import Tensor, contains


def settled_in(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """What every start ends in lies in every invariant box. Sound if: proofs/settled_in.md."""
    document.fields(witness, where="settled_in")
    if len(premises) != 2 or not isinstance(premises[0], Settled):
        raise CheckError("PREMISE", "a settled recursion and an invariant box", [type(p).__name__ for p in premises])
    settled = premises[0]
    invariant = _invariant(settled, premises[1])
    if not contains(settled.domain, invariant.domain):
        raise CheckError("CONTEXT", "an invariant box on a domain inside that of the settled recursion", "another")
    initial_state(context.graph, invariant.domain)  # init(x) exists for every x of the domain
    return Reached(settled.operator, invariant.domain, settled.steps, invariant.region)


def _invariant(settled: Settled, premise: Conclusion) -> Invariant:
    """A box that the loop's own operator maps into itself."""
    if not isinstance(premise, Invariant):
        raise CheckError("PREMISE", "a settled recursion and an invariant box", ["Settled", type(premise).__name__])
    if premise.ball is not None or premise.operator != settled.operator:
        raise CheckError("CONTEXT", "an invariant box of the same operator", premise.operator)
    return premise


def end_of(graph: Graph, settled: Settled, domain: Tensor) -> Tensor:
    """A box that holds the state in which the loop settles, for every x of the domain.

    Part p of the step is right where the parts before it are, whatever the later ones: these stay 0, so that each
    evaluation differs from the one before in little else than part p.
    """
    if settled.steps > MAX_LOOP:
        raise CheckError("LIMIT", f"at most {MAX_LOOP} steps to follow", settled.steps)
    parts, zeros = parts_of(settled.parts), [0] * graph.size
    state = Tensor((graph.size,), 0, zeros, zeros)
    last: list[Tensor] = []
    for part in range(1, settled.steps + 1):
        graph.charge(4 * graph.size)
        image, last = _image(graph, state, domain, last)
        low, high = ([v if own <= part else 0 for v, own in zip(end, parts, strict=True)] for end in image.ends())
        state = Tensor(image.shape, image.exp, low, low if image.is_point else high)
    return state


def _image(graph: Graph, state: Tensor, domain: Tensor, last: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The image of a state, and what the next evaluation can take from this one."""
    values = evaluate(graph, graph.step, state, domain, last)
    return flatten([values[i] for i in graph.step.outputs]), kept(graph.step, values)


def answer_when_settled(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """R9 by R12: the state in which the loop settles, enclosed part by part.

    Sound if: proofs/answer_when_settled.md.
    """
    premise = only(premises, Settled)
    raw = document.fields(witness, "domain", "answer", where="answer_when_settled")
    graph, domain, answer = context.graph, context.box(raw[0], "input"), context.answer(raw[1])
    if not contains(premise.domain, domain):
        raise CheckError("CONTEXT", "a domain inside that of the settled recursion", "another")
    initial_state(graph, domain)  # init(x) exists for every x of the domain
    box_margins(graph, end_of(graph, premise, domain), answer)
    return Answer(premise.operator, domain, answer, premise.steps)


def settled_run(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """The audit of one inference of a loop that settles, in plain ℓ∞. Sound if: proofs/settled_run.md."""
    settled, graph, n = only(premises[:1], Settled), context.graph, context.graph.size
    trace = trace_of(context, settled.operator, settled.domain, witness, "settled_run")
    end = end_of(graph, settled, trace.domain)
    away = (difference(end, state) for state in trace.states)  # one after the other: they may be long
    distances = tuple(round_up(dyadic(max(each.magnitude()), each.exp)) for each in away)
    if len(premises) > 1:
        stays = _invariant(settled, only(premises[1:], Invariant))
        if not contains(stays.domain, trace.domain):
            raise CheckError("CONTEXT", "a box that is invariant for this input", "another domain")
        if not all(contains(stays.region, state) for state in trace.ends):
            raise CheckError("INCLUSION", "the final and the last state inside the invariant box", "one that is not")
        box_margins(graph, stays.region, trace.answer)
    else:
        box_margins(graph, end, trace.answer)
        for state in trace.ends:
            _keeps(graph, settled, state, trace.domain, trace.answer)
    norm = BlockNorm((1,) * n, (1,) * n, 0)
    return Run(
        settled.operator, trace.domain, norm, trace.states[-1], distances[-1], trace.answer, trace.final,
        trace.drifts, distances, trace.answers,
    )  # fmt: skip


def _keeps(graph: Graph, settled: Settled, state: Tensor, domain: Tensor, answer: tuple[int, ...]) -> None:
    """The iterates of the state answer so, until the loop has settled."""
    last: list[Tensor] = []
    for _ in range(1, settled.steps):
        state, last = _image(graph, state, domain, last)
        box_margins(graph, state, answer)
