"""Certificates that must stay valid: damped and implicit loops, local proofs, answers."""

from __future__ import annotations

from tests.corpus.good import (
    affine,
    audit,
    first_steps,
    from_state,
    good,
    label,
    local_sheet,
    orbit,
    row_scaled,
    spectral,
    with_constant,
)
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    draw,
    dyadic,
    graph,
    real,
    round_up,
    stored,
    vector,
)
from tests.corpus.witnesses import (
    factor,
    minus,
    norm_bound,
    norm_gap,
    scaled_identity,
    transposed,
)

# damping


@good
def outer_damped() -> Sheet:
    """Outer damping with a factor a group: contraction, convergence, answers and an audit of the damped loop."""
    w = row_scaled(draw(51, 3, 3), F(1, 2))
    w[1] = [F(1, 4), F(-1, 8), F(1, 8)]
    model = graph(affine(activation="tanh", given="U"), [[3]], real(2), None, from_state("R", "r"))
    tensors = {
        "W": stored(w), "b": stored([F(1, 2), F(-1, 4), F(1, 8)]), "U": stored(draw(52, 3, 2)),
        "R": stored(draw(53, 2, 3)), "r": stored([F(1), F(0)]),
    }  # fmt: skip
    sheet = Sheet(model, tensors)
    alpha = [F(1, 2), F(3, 4), F(1)]
    operator: Json = {"outer_damped": vector(alpha)}
    rate = max(1 - a * (1 - F(1, 2)) for a in alpha)
    norm, everything, everywhere = sheet.block([1] * 3), sheet.all("input"), sheet.all()
    plain = sheet.contraction(F(1, 2), norm, everything)
    contracts = sheet.step("damping", plain, alpha=vector(alpha))
    sheet.claim_contraction(contracts, rate, norm, everything, operator=operator)
    sheet.claim(sheet.step("exactly_one", contracts), "exactly_one", domain=everything, region=everywhere)
    converges = sheet.step("convergence", contracts, start=everywhere)
    sheet.claim_convergence(converges, everywhere, norm, rate, everything, operator)
    x = [F(1, 2), F(3, 4)]
    domain = sheet.box([F(7, 16), F(11, 16)], [F(9, 16), F(13, 16)], "input")
    states = orbit(sheet, x, 80, operator)
    answer = label(sheet, states[-1])

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step(
            "answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps
        )
        sheet.claim(done, "answer", operator=operator, domain=domain, answer=answer, steps=steps)

    first_steps(sheet, finish)
    at = sheet.step("answer_at", operator=operator, domain=sheet.point(x), answer=answer, steps=12)
    sheet.claim(at, "answer_at", operator=operator, domain=sheet.point(x), answer=answer, steps=12)
    audit(sheet, converges, x, norm, orbit(sheet, x, 16, operator, bits=24), operator)
    return sheet


# implicit models


@good
def monotone_relu() -> Sheet:
    """z = ReLU(Wz + Ux + b) with W far from a contraction; inner damping converges."""
    w = [[F(-1), F(5), F(0)], [F(-5), F(1, 4), F(2)], [F(0), F(-2), F(-3)]]
    m, everything = F(1, 2), "input"
    model = graph(affine(activation="relu", given="U"), [[3]], real(2))
    sheet = Sheet(model, {"W": stored(w), "b": stored([1, 0, F(1, 2)]), "U": stored(draw(61, 3, 2))})
    domain, everywhere = sheet.all(everything), sheet.all()
    gap = minus(
        scaled_identity(3, 2 - 2 * m),
        [[p + q for p, q in zip(x, y, strict=True)] for x, y in zip(w, transposed(w), strict=True)],
    )
    posed = sheet.step("monotone", domain=domain, m=dyadic(m), factor=factor(gap))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    away = minus(scaled_identity(3, 1), w)
    sigma, alpha = norm_bound(away), F(1, 128)
    rate = round_up(float(1 - 2 * alpha * m + alpha**2 * sigma**2) ** 0.5 + 2.0**-30, 30)
    converges = sheet.step(
        "monotone_convergence",
        posed,
        alpha=dyadic(alpha),
        sigma=dyadic(sigma),
        factor=factor(norm_gap(away, sigma)),
        rate=dyadic(rate),
    )
    norm = sheet.block([1], [[1, 3]])
    sheet.claim_convergence(converges, everywhere, norm, rate, domain, {"inner_damped": dyadic(alpha)})
    return sheet


@good
def monotone_affine() -> Sheet:
    """A Picard-divergent affine map, b − 2z and a rotation: its only fixed point is proved all the same."""
    w = [[F(-2), F(-20)], [F(20), F(-2)]]
    sheet = Sheet(graph(affine(), [[2]]), {"W": stored(w, "F16"), "b": stored([1, F(-1, 2)], "F16")})
    domain, everywhere, m = sheet.nothing(), sheet.all(), F(3)
    posed = sheet.step("monotone", domain=domain, m=dyadic(m), factor=factor(scaled_identity(2, 0)))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    return sheet


@good
def log_norm_damped() -> Sheet:
    """z = tanh(Wz + b) by the ℓ∞ log-norm; outer damping converges in its weights."""
    w = [[F(-5), F(1, 2), F(0)], [F(1), F(-2), F(1, 4)], [F(0), F(1, 4), F(1, 4)]]
    sheet = Sheet(
        graph(affine(activation="tanh"), [[3]]), {"W": stored(w, "BF16"), "b": stored([1, -1, F(1, 2)], "BF16")}
    )
    domain, everywhere, d = sheet.nothing(), sheet.all(), [1, 1, 2]
    posed = sheet.step("log_norm", domain=domain, vector=vector(d))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    alpha = [F(1, 8), F(1, 4), F(1)]
    rate = F(7, 8)
    converges = sheet.step("log_norm_convergence", posed, alpha=vector(alpha), rate=dyadic(rate))
    sheet.claim_convergence(converges, everywhere, sheet.block(d), rate, domain, {"outer_damped": vector(alpha)})
    return sheet


# local proofs


@good
def local_cosine() -> Sheet:
    """z = cos z on [0, 1]: an invariant box, rate sin 1, and the Dottie number by `run`."""
    nodes = Nodes()
    step = nodes.function(nodes.add("cos", nodes.state()))
    readout = Nodes()
    twice = readout.add("concat", readout.state(), readout.constant([F(1, 2)]), axis=0)
    sheet, norm, domain, region, contracts = local_sheet(step, 0, 1, F(55, 64), readout.function(twice))
    rate = round_up(0.8414709848078966, 44)
    sheet.steps[0]["rate"] = sheet.claims[0]["rate"] = dyadic(rate)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(stays, "invariant", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", contracts, stays), "exactly_one", domain=domain, region=region)
    converges = sheet.step("convergence", contracts, stays, start=region)
    sheet.claim_convergence(converges, region, norm, rate, domain)
    states = orbit(sheet, [], 260, bits=50)
    audit(sheet, converges, [], norm, [*states[1:4], *states[-3:]])
    return sheet


@good
def local_radius() -> Sheet:
    """An invariant box by a radius pass about its centre."""
    nodes = Nodes()
    z = nodes.state()
    moved = nodes.linear(z, "W")
    out = nodes.add("add", nodes.add("sub", nodes.add("tanh", moved), nodes.linear(z, "V")), nodes.tensor("b"))
    w, v = [[F(1, 2), F(0)], [F(1, 8), F(1, 2)]], [[F(0), F(1, 4)], [F(1, 4), F(0)]]
    tensors = {"W": stored(w), "V": stored(v), "b": stored([F(1, 16), F(-1, 16)])}
    sheet = Sheet(graph(nodes.function(out), [[2]]), tensors)
    norm, domain, region = sheet.block([1, 1]), sheet.nothing(), sheet.box([-1, -1], [1, 1])
    rate = F(7, 8)
    contracts = sheet.contraction(rate, norm, domain, region)
    sheet.claim_contraction(contracts, rate, norm, domain, region)
    stays = sheet.step("invariant_radius", operator="picard", domain=domain, region=region)
    sheet.claim(stays, "invariant", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", contracts, stays), "exactly_one", domain=domain, region=region)
    converges = sheet.step("convergence", contracts, stays, start=region)
    sheet.claim_convergence(converges, region, norm, rate, domain)
    return sheet


@good
def local_ball() -> Sheet:
    """An invariant ℓ2 ball inside a region that is not invariant: sin(Wz) + b on a box, from the ball's centre."""
    w = [[F(3, 8), F(-1, 2)], [F(1, 2), F(3, 8)]]
    sheet = Sheet(graph(affine(activation="sin"), [[2]]), {"W": stored(w), "b": stored([F(1, 16), F(1, 16)])})
    bound, sigma = spectral(sheet, 1, w, F(5, 8))
    norm, domain = sheet.block([1], [[1, 2]]), sheet.nothing()
    region = sheet.box([F(-1, 2), F(-1)], [F(1), F(1)])
    contracts = sheet.contraction(sigma, norm, domain, region, premises=[bound])
    sheet.claim_contraction(contracts, sigma, norm, domain, region)
    ball = sheet.step("invariant_ball", contracts, domain=domain, center=vector([0, 0]), radius=dyadic(F(1, 2)))
    sheet.claim(sheet.step("exactly_one", contracts, ball), "exactly_one", domain=domain, region=region)
    start = sheet.box([F(-1, 4), F(-1, 4)], [F(1, 4), F(1, 4)])
    converges = sheet.step("convergence", contracts, ball, start=start)
    sheet.claim_convergence(converges, start, norm, sigma, domain)
    bounded = sheet.step("initial_bound", converges, domain=domain, center=vector([0, 0]))
    sheet.claim_convergence(bounded, "init", norm, sigma, domain, epsilon=F(1, 1024), steps=20)
    return sheet


# answers without contraction


@good
def answer_of_an_oscillation() -> Sheet:
    """z ↦ −z never settles, and its answer never changes: an invariant box on which the margins hold."""
    nodes, init = Nodes(), Nodes()
    step = nodes.function(nodes.scale(nodes.state(), -1))
    sheet = Sheet(graph(step, [[2]], None, init.function(init.constant([1, F(-1, 2)])), with_constant(4)))
    domain, region = sheet.nothing(), sheet.box([F(-3, 2)] * 2, [F(3, 2)] * 2)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(stays, "invariant", operator="picard", domain=domain, region=region)
    done = sheet.step("answer_by_invariance", stays, domain=domain, answer=[2], steps=1)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[2], steps=1)
    return sheet


@good
def answer_of_a_damped_bistable_loop() -> Sheet:
    """tanh(2z) + x/4 has several fixed points; the damped loop stays in a box, which it enters after a few steps."""
    nodes, init = Nodes(), Nodes()
    bent = nodes.add("tanh", nodes.scale(nodes.state(), 2))
    step = nodes.function(nodes.add("add", bent, nodes.scale(nodes.add("input"), 1, 4)))
    start = init.function(init.scale(init.add("input"), 3))
    sheet = Sheet(graph(step, [[2]], real(2), start, with_constant(F(5, 2))))
    domain, region = sheet.box([F(1, 2), -1], [1, 1], "input"), sheet.box([-2, -2], [2, 2])
    damped: Json = {"outer_damped": vector([F(1, 2)])}
    stays = sheet.step("invariant_box", operator=damped, domain=domain, region=region)
    sheet.claim(stays, "invariant", operator=damped, domain=domain, region=region)

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step("answer_by_invariance", stays, domain=domain, answer=[2], steps=steps)
        sheet.claim(done, "answer", operator=damped, domain=domain, answer=[2], steps=steps)

    first_steps(sheet, finish)
    return sheet


@good
def answer_at_a_fixed_depth() -> Sheet:
    """An expanding map deployed at depth 5: nothing holds for all k, and the fifth answer is exact. Two positions."""
    w = [[F(1), F(3, 2), F(0), F(0)], [F(-1), F(1), F(0), F(0)], [F(0), F(0), F(2), F(1)], [F(0), F(1), F(0), F(1, 2)]]
    nodes = Nodes()
    out = nodes.add("relu", nodes.add("add", nodes.linear(nodes.state(), "W"), nodes.add("input")))
    readout = Nodes()
    logits = readout.add("reshape", readout.state(), shape=[2, 2])
    sheet = Sheet(graph(nodes.function(out), [[4]], real(4), None, readout.function(logits)), {"W": stored(w)})
    x = [F(1), F(-1, 2), F(1, 4), F(3)]
    answer = label(sheet, orbit(sheet, x, 5)[-1])
    domain = sheet.point(x)
    done = sheet.step("answer_at", operator="picard", domain=domain, answer=answer, steps=5)
    sheet.claim(done, "answer_at", operator="picard", domain=domain, answer=answer, steps=5)
    return sheet
