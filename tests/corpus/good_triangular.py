"""Certificates that must stay valid: recursions that settle exactly, without a rate in any norm."""

from __future__ import annotations

from typing import Any

from tests.corpus.good import good
from tests.corpus.sheet import F, Nodes, Sheet, draw, dyadic, graph, real, stored, vector


def shifted(nodes: Nodes, z: int, tokens: int) -> int:
    """Every token sees the one before it; the first sees zeros."""
    padded = nodes.add("pad", z, pads=[[1, 0], [0, 0]])
    return nodes.add("slice", padded, axis=0, start=0, stop=tokens, step=1)


def settled(sheet: Sheet, parts: list[list[int]], steps: int, domain: int) -> int:
    """The `triangular` step with its claims."""
    step = sheet.step("triangular", domain=domain, parts=parts)
    sheet.claim(step, "settles", operator="picard", domain=domain, steps=steps)
    sheet.claim(step, "exactly_one", domain=domain, region=sheet.all())
    return step


def causal(tokens: int, size: int = 2) -> Sheet:
    """z_t ← tanh(W relu(4 V z_{t−1} + U x_t)): expanding layers, one token after the other."""
    nodes, readout = Nodes(), Nodes()
    before = nodes.linear(shifted(nodes, nodes.state(), tokens), "V")
    hidden = nodes.add("relu", nodes.add("add", nodes.scale(before, 4), nodes.linear(nodes.add("input"), "U")))
    out = nodes.add("tanh", nodes.linear(hidden, "W"))
    logits = readout.function(readout.linear(readout.state(), "R"))
    model = graph(nodes.function(out), [[tokens, size]], real(tokens, 1), None, logits)
    tensors = {"V": stored(draw(101, 3, size)), "U": stored(draw(102, 3, 1)), "W": stored(draw(103, size, 3)),
               "R": stored([[F(1), F(0)], [F(0), F(1)]])}  # fmt: skip
    return Sheet(model, tensors)


@good
def causal_tokens_settle() -> Sheet:
    """Three tokens, each made of the one before it: settled after three steps, whatever x is."""
    sheet = causal(3)
    settled(sheet, [[2, 1], [2, 2], [2, 3]], 3, sheet.all("input"))
    return sheet


def oscillation(steps: int = 3) -> Sheet:
    """Entries in a chain that is not the order of the state, with zeros in W; the answer by an invariant box."""
    nodes, readout = Nodes(), Nodes()
    out = nodes.add("sub", nodes.linear(nodes.state(), "W"), nodes.add("input"))
    logits = readout.function(readout.scale(readout.state(), 1))
    weights = [[0, 0, F(-2)], [F(3), 0, F(1, 2)], [0, 0, 0]]  # z_3 ← −x_3, z_1 ← −2z_3 − x_1, z_2 ← 3z_1 + z_3/2 − x_2
    model = graph(nodes.function(out), [[3]], real(3), None, logits)
    sheet = Sheet(model, {"W": stored(weights)})
    everywhere = sheet.all("input")
    step = settled(sheet, [[1, 2], [1, 3], [1, 1]], 3, everywhere)
    low, high = [F(-1, 8), F(-1, 8), F(7, 8)], [F(1, 8), F(1, 8), F(9, 8)]
    domain = sheet.box(low, high, "input")
    box = sheet.box([F(5, 4), F(3), F(-5, 4)], [F(11, 4), F(17, 2), F(-3, 4)])
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=box)
    inside = sheet.step("settled_in", step, stays)
    done = sheet.step("answer_by_invariance", stays, inside, domain=domain, answer=[1], steps=steps)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[1], steps=steps)
    return sheet


@good
def a_chain_settles_and_answers() -> Sheet:
    """A nilpotent W of norm above 3: three steps, and the answer over a box of inputs without unrolling."""
    return oscillation()


def followed(tokens: int = 5) -> Sheet:
    """z_t ← clamp(20 z_{t−1} − x_t), which settles at ±1/1024: what a box about that leaves open grows apart."""
    nodes, readout = Nodes(), Nodes()
    before = nodes.scale(shifted(nodes, nodes.state(), tokens), 20)
    out = nodes.clamp(nodes.add("sub", before, nodes.add("input")), -1, 1)
    logits = readout.function(readout.linear(readout.state(), "R"))
    sheet = Sheet(
        graph(nodes.function(out), [[tokens, 1]], real(tokens, 1), None, logits), {"R": stored([[F(1)], [F(-1)]])}
    )
    step = settled(sheet, [[1, t + 1] for t in range(tokens)], tokens, sheet.all("input"))
    ends = [F((-1) ** t, 1024) for t in range(tokens)]
    domain = sheet.point([20 * a - b for a, b in zip([0, *ends], ends, strict=False)])
    answer = [t % 2 for t in range(tokens)]
    done = sheet.step("answer_when_settled", step, domain=domain, answer=answer)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=tokens)
    return sheet


@good
def a_steep_chain_is_followed() -> Sheet:
    """A factor of 20 at every token: a single input is followed to where the loop settles."""
    return followed()


def audited(
    sheet: Sheet, premises: list[int], domain: int, states: list[list[F]], answers: list[Any], final: int,
    drifts: list[F] | None = None,
) -> Sheet:  # fmt: skip
    """The run of a loop that settles in the last of these states, each of which is the exact step of the one before."""
    done = sheet.step("settled_run", *premises, domain=domain, states=vector(states), answers=answers, final=final)
    far = [max(abs(a - b) for a, b in zip(state, states[-1], strict=True)) for state in states]
    sheet.claim(
        done, "run", operator="picard", domain=domain, norm=sheet.block([1] * len(states[0])),
        state=vector(states[-1]), radius=dyadic(far[-1]), answer=answers[-1], final=final,
        drifts=vector(drifts or [0] * len(states)), distances=vector(far), answers=answers,
    )  # fmt: skip
    return sheet


CHAIN_RUN = [
    [F(0), F(0), F(0)], [F(0), F(0), F(-1)], [F(2), F(-1, 2), F(-1)], [F(2), F(11, 2), F(-1)], [F(2), F(11, 2), F(-1)],
]  # fmt: skip


@good
def a_run_of_a_chain_that_settles() -> Sheet:
    """Four steps of the chain: at rest from the third on, inside the invariant box; every distance is exact."""
    sheet = oscillation()
    return audited(sheet, [0, 1], sheet.point([0, 0, 1]), CHAIN_RUN, [None, None, [0], [1], [1]], 3)


def steep_run(sheet: Sheet, tokens: int = 5) -> Sheet:
    """The run of `followed`, whose end no box can hold: the iterates of the last state are followed."""
    ends = [F((-1) ** t, 1024) for t in range(tokens)]
    x = [20 * a - b for a, b in zip([0, *ends], ends, strict=False)]
    states = [[F(0)] * tokens]
    for _ in range(tokens + 1):
        seen = [F(0), *states[-1][:-1]]
        states.append([min(max(20 * a - b, F(-1)), F(1)) for a, b in zip(seen, x, strict=True)])
    answer = [t % 2 for t in range(tokens)]
    return audited(sheet, [0], sheet.point(x), states, [None] * tokens + [answer] * 2, tokens)


@good
def a_run_of_a_steep_chain() -> Sheet:
    """A factor of 20 at every token: the iterates of the last state answer as it does, until the chain has settled."""
    return steep_run(followed())


def gated(gate: Any) -> Sheet:
    """Two parts that would feed each other, with a gate that is 0 for all inputs of [0, 1] on the way back."""
    nodes = Nodes()
    first, second, x = nodes.state(0), nodes.state(1), nodes.add("input")
    closed = nodes.add("mul", gate(nodes, x), second)
    out = nodes.add("add", closed, x)
    other = nodes.add("softmax", nodes.add("matmul", nodes.constant([[2, 0], [0, 3]]), first))
    return Sheet(graph(nodes.function(out, other), [[2, 2], [2, 2]], real(2, 2)))


@good
def a_closed_gate_cuts_the_way_back() -> Sheet:
    """relu(−x) is 0 on [0, 1]: no way from the second part to the first; rows of softmax are parts of their own."""
    sheet = gated(lambda nodes, x: nodes.add("relu", nodes.scale(x, -1)))
    domain = sheet.box([0] * 4, [1] * 4, "input")
    settled(sheet, [[4, 1], [4, 2]], 2, domain)
    return sheet
