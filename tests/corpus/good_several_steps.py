"""Certificates that must stay valid: loops that contract over several steps, and in none of them."""

from __future__ import annotations

from tests.corpus.good import audit, first_steps, good
from tests.corpus.sheet import F, Json, Nodes, Sheet, dyadic, graph, real, stored, vector


def squares(tensors: dict[str, Json], size: int, parts: list[list[int]], started: bool = True) -> Sheet:
    """z ← W(z∘z) + Ux, from init = 1 or from 0, with the first logit z_1 and the second ½."""
    nodes, readout, start = Nodes(), Nodes(), Nodes()
    z = nodes.state()
    square = nodes.linear(nodes.add("mul", z, z), "W")
    step = nodes.function(nodes.add("add", square, nodes.linear(nodes.add("input"), "U")))
    logits = readout.linear(readout.state(), "R", "r")
    init = start.function(start.tensor("one")) if started else None
    model = graph(step, parts, real(1), init, readout.function(logits))
    row = [F(1)] + [F(0)] * (size - 1)
    first = {"one": stored([F(1)] * size)} if started else {}
    return Sheet(model, tensors | first | {"R": stored([row, [F(0)] * size]), "r": stored([F(0), F(1, 2)])})


def a_square(highest: F, steps: int, rate: F) -> tuple[Sheet, dict[str, int], int]:
    """z ← z²/2 + x/8 on [0, highest], what certificates say of it, and the step by which it contracts there."""
    sheet = squares({"W": stored([[F(1, 2)]]), "U": stored([[F(1, 8)]])}, 1, [[1]])
    named = {
        "domain": sheet.box([F(7, 8)], [F(1)], "input"), "region": sheet.box([F(0)], [highest]),
        "norm": sheet.block([1]),
    }  # fmt: skip
    return sheet, named, sheet.step("several_steps", operator="picard", **named, steps=steps, rate=dyadic(rate))


@good
def three_steps_of_a_square() -> Sheet:
    """z ← z²/2 + x/8 on [0, 5/4]: its slope is up to 5/4 there, and after two steps at most 0.54."""
    rate, constant = F(7, 8), F(15, 8)
    sheet, named, contracts = a_square(F(5, 4), 3, rate)
    domain, region, norm = named.values()
    common = {"operator": "picard", "domain": domain, "norm": norm, "constant": dyadic(constant), "rate": dyadic(rate)}
    sheet.claim(contracts, "convergence", **common, start=region, epsilon=None, steps=None)
    sheet.claim(contracts, "exactly_one", domain=domain, region=region)
    bounded = sheet.step("initial_bound", contracts, domain=domain, center=vector([F(1, 8)]))
    sheet.claim(bounded, "convergence", **common, start="init", epsilon=dyadic(F(1, 1024)), steps=80)

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step(
            "answer_by_convergence", contracts, domain=domain, center=vector([F(1, 8)]), answer=[1], steps=steps
        )
        sheet.claim(done, "answer", operator="picard", domain=domain, answer=[1], steps=steps)

    first_steps(sheet, finish)
    return sheet


@good
def a_run_that_expands_first() -> Sheet:
    """The audit of that loop at x = 1, its states rounded."""
    sheet, named, contracts = a_square(F(5, 4), 3, F(7, 8))
    states = [[F(1)]]
    for _ in range(12):
        states.append([F(round((states[-1][0] ** 2 / 2 + F(1, 8)) * 2**20), 2**20)])
    audit(sheet, contracts, [F(1)], named["norm"], states)
    return sheet


@good
def a_run_from_where_the_loop_converges() -> Sheet:
    """The audit of that loop on [0, 3/4], where it contracts in every step, from a state whose ball reaches below 0."""
    sheet, named, contracts = a_square(F(3, 4), 1, F(3, 4))
    audit(sheet, contracts, [F(1)], named["norm"], [[F(3, 4)], [F(1, 64)]])
    return sheet


@good
def several_damped_steps_in_groups() -> Sheet:
    """The same in three coordinates, two of them in one group, each damped by a factor of its own."""
    w = [[F(1, 4), F(1, 8), F(0)], [F(-1, 8), F(1, 4), F(1, 16)], [F(1, 16), F(0), F(3, 8)]]
    sheet = squares({"W": stored(w), "U": stored([[F(1, 8)], [F(0)], [F(1, 16)]])}, 3, [[3]], started=False)
    domain, region = (
        sheet.box([F(0)], [F(1)], "input"),
        sheet.box([F(-3, 4), F(-3, 4), F(-1, 4)], [F(1), F(1), F(5, 4)]),
    )
    norm, rate = sheet.block([1, 1], [[1, 2], [1, 1]]), F(31, 32)
    alpha: Json = {"outer_damped": vector([F(1), F(3, 4), F(7, 8)])}
    contracts = sheet.step(
        "several_steps", operator=alpha, domain=domain, region=region, norm=norm, steps=4, rate=dyadic(rate)
    )
    sheet.claim(
        contracts, "convergence", operator=alpha, domain=domain, norm=norm, constant=dyadic(F(11, 4)),
        rate=dyadic(rate), start=region, epsilon=None, steps=None,
    )  # fmt: skip
    sheet.claim(contracts, "exactly_one", domain=domain, region=region)
    return sheet
