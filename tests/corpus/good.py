"""Certificates that must stay valid, written step by step with exact witnesses: `GOOD` maps names to sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tests.corpus.sheet import (
    F,
    Json,
    Matrix,
    Nodes,
    Sheet,
    absolute,
    draw,
    dyadic,
    factor,
    graph,
    identity_readout,
    minus,
    norm_bound,
    norm_gap,
    perron,
    real,
    round_up,
    scaled_identity,
    stored,
    times,
    transposed,
    vector,
)
from tests.oracle.evaluate import FLOAT, Evaluator
from tests.oracle.files import Model, read_tensors
from trm_verify.certificate import Derivation
from trm_verify.kernel.check import check
from trm_verify.kernel.errors import CheckError
from trm_verify.provers.problem import Problem

GOOD: dict[str, Callable[[], Sheet]] = {}


def good(build: Callable[[], Sheet]) -> Callable[[], Sheet]:
    GOOD[build.__name__] = build
    return build


# helpers


def orbit(sheet: Sheet, x: Sequence[Any], steps: int, operator: Any = "picard", bits: int = 16) -> list[list[Fraction]]:
    """Iterates from init(x) in doubles, each rounded to multiples of 2^-bits."""
    run = Evaluator(Model(sheet.graph, read_tensors(sheet.weights)), FLOAT)
    given = np.array([[float(v) for v in x]])
    z = run.init(given)
    states = [z]
    for _ in range(steps):
        z = run.apply(operator, z, given)
        states.append(z)
    return [[F(round(float(v) * (1 << bits)), 1 << bits) for v in state[0]] for state in states]


def label(sheet: Sheet, state: Sequence[Fraction]) -> list[int]:
    run = Evaluator(Model(sheet.graph, read_tensors(sheet.weights)), FLOAT)
    logits = run.readout(np.array([[float(v) for v in state]]))
    return [int(v) for v in logits[0].argmax(axis=-1)]


def first_steps(sheet: Sheet, finish: Callable[[Sheet, int], None]) -> None:
    """Finishes the sheet with the smallest number of steps, of a short list, that the kernel accepts."""
    kept = len(sheet.steps), len(sheet.claims)
    for steps in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300):
        finish(sheet, steps)
        try:
            check(sheet.certificate(), sheet.weights)
            return
        except CheckError as error:
            if error.code not in ("MARGIN", "INCLUSION", "CLAIM"):
                raise
            del sheet.steps[kept[0] :], sheet.claims[kept[1] :]
    raise ValueError("expected an answer within 300 steps, found none")


def affine(weight: str = "W", bias: str | None = "b", activation: str | None = None, given: str | None = None, **attrs: Any) -> Json:
    """z ↦ φ(Wz + b + Ux). Node 1 is W."""
    nodes = Nodes()
    out = nodes.linear(nodes.state(), weight, bias)
    if given:
        out = nodes.add("add", out, nodes.linear(nodes.add("input"), given))
    if activation:
        out = nodes.add(activation, out, **attrs)
    return nodes.function(out)


def from_input(weight: str) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.linear(nodes.add("input"), weight))


def from_state(weight: str, bias: str | None = None) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.linear(nodes.state(), weight, bias))


def row_scaled(matrix: Matrix, total: Fraction) -> Matrix:
    """Rows shrunk (by powers of two) until each has absolute sum at most `total`."""
    rows = []
    for row in matrix:
        while sum(map(abs, row)) > total:
            row = [v / 2 for v in row]
        rows.append(row)
    return rows


def column(rows: Matrix) -> list[Fraction]:
    return [row[0] for row in rows]


def whole(sheet: Sheet, rate: Any, norm: int, domain: int, premises: Sequence[int] = ()) -> int:
    """Contraction, one fixed point and convergence in all of the space; returns the convergence step."""
    everywhere = sheet.all()
    contracts = sheet.contraction(rate, norm, domain, premises=premises)
    sheet.claim_contraction(contracts, rate, norm, domain)
    one = sheet.step("exactly_one", contracts)
    sheet.claim(one, "exactly_one", domain=domain, region=everywhere)
    converges = sheet.step("convergence", contracts, start=everywhere)
    sheet.claim_convergence(converges, everywhere, norm, rate, domain)
    return converges


def spectral(sheet: Sheet, node: int, matrix: Matrix, sigma: Fraction | None = None) -> tuple[int, Fraction]:
    """A spectral step for a stored matrix."""
    bound = norm_bound(matrix) if sigma is None else sigma
    return sheet.step("spectral", matrix=node, sigma=dyadic(bound), factor=factor(norm_gap(matrix, bound))), bound


# weighted maximum norms


@good
def linf_affine() -> Sheet:
    """z ↦ Wz + b, rows of sum at most 3/4: everything from one pass over the weights, and K(ε) from the zero state."""
    w = row_scaled(draw(1, 4, 4), F(3, 4))
    w[0] = [F(1, 4), F(-1, 8), F(1, 4), F(1, 8)]  # the sum 3/4 is attained
    sheet = Sheet(graph(affine(), [[4]]), {"W": stored(w), "b": stored(column(draw(2, 4, 1)))})
    norm, domain = sheet.block([1] * 4), sheet.nothing()
    converges = whole(sheet, F(3, 4), norm, domain)
    unique = sheet.step("at_most_one", 0)
    sheet.claim(unique, "at_most_one", domain=domain, region=sheet.box([-1] * 4, [1] * 4))
    bounded = sheet.step("initial_bound", converges, domain=domain, center=vector([0] * 4))
    sheet.claim_convergence(bounded, "init", norm, F(3, 4), domain, epsilon=F(1, 1 << 20), steps=60)
    return sheet


@good
def weighted_linf_tanh() -> Sheet:
    """A dense tanh step with Perron weights: the answer on a box of inputs, and the audit of one inference."""
    w, u = draw(3, 5, 5, F(3, 4)), draw(4, 5, 3)
    step = affine("W", "b", "tanh", "U")
    model = graph(step, [[5]], real(3), from_input("I"), from_state("R"))
    tensors = {
        "W": stored(w), "b": stored(column(draw(5, 5, 1))), "U": stored(u), "I": stored(draw(6, 5, 3)),
        "R": stored(draw(7, 3, 5)),
    }  # fmt: skip
    w = [[v / 4 for v in row] for row in w]
    tensors["W"] = stored(w)
    sheet = Sheet(model, tensors)
    d, rate = perron(absolute(w), 5)
    norm, everything = sheet.block(d), sheet.all("input")
    converges = whole(sheet, rate, norm, everything)
    x = [F(1, 2), F(-1, 4), F(3, 8)]
    domain = sheet.box([v - F(1, 64) for v in x], [v + F(1, 64) for v in x], "input")
    states = orbit(sheet, x, 80)
    answer = label(sheet, states[-1])

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps)
        sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=steps)

    first_steps(sheet, finish)
    audit(sheet, converges, x, norm, states=orbit(sheet, x, 12, bits=24))
    return sheet


def audit(
    sheet: Sheet, converges: int, x: Sequence[Any], norm: int, states: list[list[Fraction]], operator: Any = "picard",
    domain: int | None = None,
) -> None:  # fmt: skip
    """A `run` step and its claim, with bounds read off what the kernel concludes."""
    point = (sheet.nothing() if not x else sheet.point(x)) if domain is None else domain
    final = len(states) - 1
    answers: list[list[int] | None] = [label(sheet, s) for s in states]
    answers[0] = None
    while final > 1 and answers[final - 1] == answers[-1]:
        final -= 1
    problem = Problem(sheet.graph, sheet.weights)
    tables = {"domain": sheet.boxes, "region": sheet.boxes, "start": sheet.boxes, "norm": sheet.norms}
    spelled = [{k: tables[k][v] if k in tables else v for k, v in raw.items()} for raw in sheet.steps[: converges + 1]]
    while True:
        fields: Json = {"domain": point, "states": vector(states), "answers": answers, "final": final}
        try:
            done: Any = problem.conclude(Derivation(tuple(spelled)).then("run", **{**fields, "domain": sheet.boxes[point]}))
            break
        except CheckError as error:
            if error.code not in ("MARGIN", "INCLUSION") or final == len(states) - 1:
                raise
            final += 1
    step = sheet.step("run", converges, **fields)
    up = [vector([round_up(v, 60) for v in bounds]) for bounds in (done.drifts, done.distances)]
    sheet.claim(
        step, "run", operator=operator, domain=point, norm=norm, state=vector(states[-1]),
        radius=dyadic(round_up(done.radius, 60)), answer=answers[-1], final=final, drifts=up[0], distances=up[1],
        answers=answers,
    )  # fmt: skip


@good
def weighted_linf_reducible() -> Sheet:
    """A triangular W whose plain row sums exceed 1: only weights that fall by large factors prove it. Float64 weights."""
    w = [[F(1, 2), F(8), F(0)], [F(0), F(1, 2), F(8)], [F(0), F(0), F(1, 2)]]
    sheet = Sheet(graph(affine(activation="relu"), [[3]]), {"W": stored(w, "F64"), "b": stored([1, -1, F(1, 1 << 40)], "F64")})
    whole(sheet, F(3, 4), sheet.block([1024, 32, 1]), sheet.nothing())
    return sheet


# ℓ2 and mixed norms


@good
def l2_two_layers() -> Sheet:
    """W₂ ReLU(W₁z + b) + Ux in ℓ2, both layers bounded by a factor of σ²I − WᵀW (the second one is wide)."""
    w1 = [[v / 2 for v in row] for row in draw(11, 6, 4)]
    w2 = [[v / 2 for v in row] for row in draw(12, 4, 6)]
    nodes = Nodes()
    z = nodes.state()
    hidden = nodes.add("relu", nodes.linear(z, "W1", "b1"))
    out = nodes.add("add", nodes.linear(hidden, "W2"), nodes.linear(nodes.add("input"), "U"))
    tensors = {"b1": stored(column(draw(13, 6, 1))), "U": stored(draw(14, 4, 2))}
    while norm_bound(w1) * norm_bound(w2) > F(19, 20):
        w2 = [[v / 2 for v in row] for row in w2]
    tensors.update(W1=stored(w1), W2=stored(w2))
    sheet = Sheet(graph(nodes.function(out), [[4]], real(2)), tensors)
    at = {node["name"]: i for i, node in enumerate(nodes.nodes) if node["op"] == "tensor"}
    first, s1 = spectral(sheet, at["W1"], w1)
    second, s2 = spectral(sheet, at["W2"], w2)
    norm, domain = sheet.block([1], [[1, 4]]), sheet.all("input")
    whole(sheet, round_up(s1 * s2, 40), norm, domain, premises=[first, second])
    return sheet


@good
def l2_non_negative() -> Sheet:
    """The ℓ2 norm of a non-negative matrix by a positive vector (spectral_abs)."""
    w = [[F(1, 4), F(1, 8), F(0)], [F(1, 8), F(1, 4), F(1, 8)], [F(0), F(1, 8), F(1, 4)]]
    v = [F(181, 256), F(1), F(181, 256)]
    sheet = Sheet(graph(affine(activation="sigmoid"), [[3]]), {"W": stored(w), "b": stored([F(1, 2), -1, F(1, 4)])})
    image = absolute(w)
    sigma = round_up(max(a / float(b) for a, b in zip(image(image([float(x) for x in v])), v, strict=True)) ** 0.5 + 1e-6, 24)
    bound = sheet.step("spectral_abs", matrix=1, sigma=dyadic(sigma), vector=vector(v))
    whole(sheet, sigma / 4, sheet.block([1], [[1, 3]]), sheet.nothing(), premises=[bound])
    return sheet


@good
def l2_rotation() -> Sheet:
    """Five eighths of a rotation: the norm is attained, so no smaller rate is true."""
    w = [[F(3, 8), F(-4, 8)], [F(4, 8), F(3, 8)]]
    sheet = Sheet(graph(affine(), [[2]]), {"W": stored(w), "b": stored([1, 2])})
    bound, _ = spectral(sheet, 1, w, F(5, 8))
    whole(sheet, F(5, 8), sheet.block([1], [[1, 2]]), sheet.nothing(), premises=[bound])
    return sheet


@good
def mixed_parts() -> Sheet:
    """Two parts, a fast z_L and a slow z_H: one ℓ2 group a part, with weights between the parts."""
    a, b = [[v / 2 for v in row] for row in draw(21, 3, 3, F(1, 2))], [[v / 4 for v in row] for row in draw(22, 3, 2, F(1, 2))]
    c, e = [[v / 4 for v in row] for row in draw(23, 2, 3, F(1, 2))], [[v / 2 for v in row] for row in draw(24, 2, 2, F(1, 2))]
    nodes = Nodes()
    low, high = nodes.state(0), nodes.state(1)
    new_low = nodes.add("tanh", nodes.add("add", nodes.linear(low, "A", "p"), nodes.linear(high, "B")))
    new_high = nodes.add("relu", nodes.add("add", nodes.linear(new_low, "C"), nodes.linear(high, "E")))
    tensors = {
        "A": stored(a), "B": stored(b), "C": stored(c), "E": stored(e), "p": stored(column(draw(25, 3, 1)))
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(new_low, new_high), [[3], [2]]), tensors)
    at = {node["name"]: i for i, node in enumerate(nodes.nodes) if node["op"] == "tensor"}
    found = [spectral(sheet, at[k], m) for k, m in (("A", a), ("B", b), ("C", c), ("E", e))]
    sa, sb, sc, se = (s for _, s in found)
    d, _ = perron(lambda v: [float(sa) * v[0] + float(sb) * v[1], float(sc) * (float(sa) * v[0] + float(sb) * v[1]) + float(se) * v[1]], 2)
    low_rate = (sa * d[0] + sb * d[1]) / d[0]
    high_rate = (sc * (sa * d[0] + sb * d[1]) + se * d[1]) / d[1]
    norm = sheet.block(d, [[1, 3], [1, 2]])
    whole(sheet, round_up(max(low_rate, high_rate), 40), norm, sheet.nothing(), premises=[i for i, _ in found])
    return sheet


@good
def mixed_attention() -> Sheet:
    """Three tokens mixed by softmax weights that depend on x only, then a layer: the maximum over tokens of ℓ2."""
    w = [[F(3, 8), F(-1, 2)], [F(1, 2), F(3, 8)]]  # five eighths of a rotation
    nodes = Nodes()
    weights = nodes.add("softmax", nodes.linear(nodes.add("input"), "Q"))
    mixed = nodes.add("matmul", weights, nodes.state())
    value = nodes.linear(mixed, "V")
    out = nodes.add("add", value, nodes.linear(nodes.add("input"), "U"))
    tensors = {"Q": stored(draw(31, 3, 3, 2)), "V": stored(w), "U": stored(draw(32, 2, 3))}
    sheet = Sheet(graph(nodes.function(out), [[3, 2]], real(3, 3)), tensors)
    at = {node["name"]: i for i, node in enumerate(nodes.nodes) if node["op"] == "tensor"}
    bound, sigma = spectral(sheet, at["V"], w, F(5, 8))
    whole(sheet, sigma, sheet.block([1] * 3, [[3, 2]]), sheet.all("input"), premises=[bound])
    return sheet


# metric norms


def metric_matrix(outputs: Matrix, arguments: Matrix, metric: Matrix, rate: Fraction, multipliers: Sequence[Fraction], n: int) -> Matrix:
    """ρ²P on the state minus the image's square, with sectors [0, 1] of the units (see proofs/metric_contraction.md)."""
    size = len(outputs[0])
    total = [[-v for v in row] for row in times(transposed(outputs), times(metric, outputs))]
    for i in range(n):
        for j in range(n):
            total[i][j] += rate * rate * metric[i][j]
    for k, weight in enumerate(multipliers):
        total[n + k][n + k] += 2 * weight
        for j in range(size):
            total[n + k][j] -= weight * arguments[k][j]
            total[j][n + k] -= weight * arguments[k][j]
    return total


@good
def metric_jordan() -> Sheet:
    """[[1/2, 10], [0, 1/2]] expands in every simple norm and contracts in a metric; local convergence from a point."""
    w = [[F(1, 2), F(10)], [F(0), F(1, 2)]]
    p = [[F(1), F(0)], [F(0), F(8192)]]
    rate = F(9, 16)
    sheet = Sheet(graph(affine(), [[2]], None, None, identity_readout()), {"W": stored(w), "b": stored([1, F(1, 4)])})
    gap = metric_matrix(w, [], p, rate, [], 2)
    norm, domain, everywhere = sheet.metric(p, 1), sheet.nothing(), sheet.all()
    contracts = sheet.step(
        "metric_contraction", domain=domain, region=everywhere, norm=norm, rate=dyadic(rate), multipliers=vector([]),
        factor=factor(gap), norm_factor=factor(minus(p, scaled_identity(2, 1))),
    )  # fmt: skip
    sheet.claim_contraction(contracts, rate, norm, domain)
    sheet.claim(sheet.step("exactly_one", contracts), "exactly_one", domain=domain, region=everywhere)
    converges = sheet.step("convergence", contracts, start=everywhere)
    sheet.claim_convergence(converges, everywhere, norm, rate, domain)
    bounded = sheet.step("initial_bound", converges, domain=domain, center=vector([12, F(1, 2)]))
    sheet.claim_convergence(bounded, "init", norm, rate, domain, epsilon=F(1, 1024), steps=80)
    audit(sheet, converges, [], norm, orbit(sheet, [], 20, bits=12))
    return sheet


def sandwich(seed: int) -> tuple[Matrix, Matrix]:
    """W₁ (3×2) and W₂ (2×3) whose product of norms exceeds 1 although each path through a unit is short."""
    w1 = [[F(4), F(0)], [F(0), F(1, 4)], [F(1), F(1, 2)]]
    w2 = [[F(1, 8), F(1, 4), F(1, 16)], [F(1, 16), F(1, 2), F(-1, 4)]]
    return w1, w2


@good
def metric_two_layers() -> Sheet:
    """W₂ ReLU(W₁z + Ux) in plain ℓ2, although ‖W₂‖‖W₁‖ > 1: multipliers for the units."""
    w1, w2 = sandwich(0)
    nodes = Nodes()
    hidden = nodes.add("relu", nodes.add("add", nodes.linear(nodes.state(), "W1"), nodes.linear(nodes.add("input"), "U")))
    step = nodes.function(nodes.linear(hidden, "W2"))
    sheet = Sheet(graph(step, [[2]], real(2)), {"W1": stored(w1), "W2": stored(w2), "U": stored(draw(41, 3, 2))})
    rate, multipliers = F(21, 32), [F(1, 32), F(1, 2), F(1, 16)]
    outputs = [[F(0)] * 2 + row for row in w2]
    arguments = [row + [F(0)] * 3 for row in w1]
    gap = metric_matrix(outputs, arguments, scaled_identity(2, 1), rate, multipliers, 2)
    norm, domain = sheet.block([1], [[1, 2]]), sheet.all("input")
    contracts = sheet.step(
        "metric_contraction", domain=domain, region=sheet.all(), norm=norm, rate=dyadic(rate),
        multipliers=vector(multipliers), factor=factor(gap), norm_factor=None,
    )  # fmt: skip
    sheet.claim_contraction(contracts, rate, norm, domain)
    return sheet


@good
def metric_tanh() -> Sheet:
    """tanh(Wz + b) in a metric that is no multiple of the identity, with the units' multipliers."""
    w = [[F(1, 4), F(2)], [F(-1, 32), F(1, 4)]]
    p = [[F(1), F(1, 8)], [F(1, 8), F(16)]]
    multipliers = [F(9, 8), F(17)]
    rate = F(19, 32)
    sheet = Sheet(graph(affine(activation="tanh"), [[2]]), {"W": stored(w), "b": stored([F(1, 2), F(-1, 2)])})
    outputs = [[F(0), F(0), F(1), F(0)], [F(0), F(0), F(0), F(1)]]
    gap = metric_matrix(outputs, [row + [F(0), F(0)] for row in w], p, rate, multipliers, 2)
    norm, domain = sheet.metric(p, F(1, 2)), sheet.nothing()
    contracts = sheet.step(
        "metric_contraction", domain=domain, region=sheet.all(), norm=norm, rate=dyadic(rate),
        multipliers=vector(multipliers), factor=factor(gap), norm_factor=factor(minus(p, scaled_identity(2, F(1, 2)))),
    )  # fmt: skip
    sheet.claim_contraction(contracts, rate, norm, domain)
    return sheet


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
        done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps)
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
    gap = minus(scaled_identity(3, 2 - 2 * m), [[p + q for p, q in zip(x, y, strict=True)] for x, y in zip(w, transposed(w), strict=True)])
    posed = sheet.step("monotone", domain=domain, m=dyadic(m), factor=factor(gap))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    away = minus(scaled_identity(3, 1), w)
    sigma, alpha = norm_bound(away), F(1, 128)
    rate = round_up(float(1 - 2 * alpha * m + alpha**2 * sigma**2) ** 0.5 + 2.0**-30, 30)
    converges = sheet.step(
        "monotone_convergence", posed, alpha=dyadic(alpha), sigma=dyadic(sigma), factor=factor(norm_gap(away, sigma)), rate=dyadic(rate)
    )
    norm = sheet.block([1], [[1, 3]])
    sheet.claim_convergence(converges, everywhere, norm, rate, domain, {"inner_damped": dyadic(alpha)})
    return sheet


@good
def monotone_affine() -> Sheet:
    """A Picard-divergent affine map b − 2z + rotation, whose only fixed point is proved and reached with inner damping."""
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
    sheet = Sheet(graph(affine(activation="tanh"), [[3]]), {"W": stored(w, "BF16"), "b": stored([1, -1, F(1, 2)], "BF16")})
    domain, everywhere, d = sheet.nothing(), sheet.all(), [1, 1, 2]
    posed = sheet.step("log_norm", domain=domain, vector=vector(d))
    sheet.claim(posed, "exactly_one", domain=domain, region=everywhere)
    alpha = [F(1, 8), F(1, 4), F(1)]
    rate = F(7, 8)
    converges = sheet.step("log_norm_convergence", posed, alpha=vector(alpha), rate=dyadic(rate))
    sheet.claim_convergence(converges, everywhere, sheet.block(d), rate, domain, {"outer_damped": vector(alpha)})
    return sheet


# local proofs


def local_sheet(step: Json, lo: Any, hi: Any, rate: Any, readout: Json | None = None) -> tuple[Sheet, int, int, int, int]:
    """A scalar model with a contraction on [lo, hi]: (sheet, norm, domain, region, contraction)."""
    sheet = Sheet(graph(step, [[1]], None, None, readout))
    norm, domain, region = sheet.block([1]), sheet.nothing(), sheet.box([lo], [hi])
    contracts = sheet.contraction(rate, norm, domain, region)
    sheet.claim_contraction(contracts, rate, norm, domain, region)
    return sheet, norm, domain, region, contracts


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
    """An invariant box that interval evaluation misses (a − b has correlated terms) and a radius pass about the centre finds."""
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


def with_constant(value: Any) -> Json:
    """The state's entries and one constant as logits."""
    nodes = Nodes()
    return nodes.function(nodes.add("concat", nodes.state(), nodes.constant([value]), axis=0))


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


# inputs, operations, data types


@good
def integer_embedding() -> Sheet:
    """Integer inputs through an embedding (int8 table): exactly one fixed point for each of 5² inputs, and answers."""
    table = [[F(v) for v in row] for row in ([4, -3], [0, 5], [-6, 1], [2, 2], [7, -8])]
    w = row_scaled(draw(71, 4, 4), F(1, 2))
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.add("input"), nodes.tensor("table"))
    mixed = nodes.linear(nodes.add("reshape", nodes.state(), shape=[4]), "W")
    out = nodes.add("add", nodes.add("reshape", mixed, shape=[2, 2]), rows)
    given: Json = {"shape": [2], "kind": "integer", "size": 5}
    readout = Nodes()
    logits = readout.linear(readout.state(), "R")
    tensors = {"table": stored(table, "I8"), "W": stored(w), "R": stored(draw(72, 3, 2))}
    sheet = Sheet(graph(nodes.function(out), [[2, 2]], given, None, readout.function(logits)), tensors)
    rate = max(sum(map(abs, row)) for row in w)
    norm, everything = sheet.block([1] * 4), sheet.all("input")
    converges = whole(sheet, rate, norm, everything)
    x = [1, 4]
    domain, states = sheet.point(x), orbit(sheet, x, 80)
    answer = label(sheet, states[-1])

    def finish(sheet: Sheet, steps: int) -> None:
        done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps)
        sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=steps)

    first_steps(sheet, finish)
    between = sheet.box([0, 3], [2, 4], "input")
    bounded = sheet.step("initial_bound", converges, domain=between, center=vector([0] * 4))
    sheet.claim_convergence(bounded, "init", norm, rate, between, epsilon=F(1, 64), steps=60)
    return sheet


@good
def convolution() -> Sheet:
    """A 3×3 convolution with zero padding on a 1×4×4 state, as unfold and linear."""
    kernel = row_scaled(draw(81, 1, 9), F(3, 4))
    nodes = Nodes()
    patches = nodes.add("unfold", nodes.state(), kernel=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[1, 1])
    rows = nodes.linear(patches, "K")
    image = nodes.add("reshape", nodes.add("permute", rows, axes=[1, 0]), shape=[1, 4, 4])
    out = nodes.add("tanh", nodes.add("add", image, nodes.add("input")))
    sheet = Sheet(graph(nodes.function(out), [[1, 4, 4]], real(1, 4, 4)), {"K": stored(kernel, "F16")})
    rate = sum(map(abs, kernel[0]))
    whole(sheet, rate, sheet.block([1] * 16), sheet.all("input"))
    return sheet


@good
def row_norms() -> Sheet:
    """Layer norm, RMS norm and softmax of the state, scaled until they contract: one of each, all inputs."""
    nodes = Nodes()
    z = nodes.state()
    eps = dyadic(1)
    layer = nodes.scale(nodes.add("layer_norm", z, eps=eps), 1, 8)
    root = nodes.scale(nodes.add("rms_norm", z, eps=eps), 1, 8)
    soft = nodes.scale(nodes.add("softmax", z), 1, 4)
    both = nodes.add("add", nodes.add("add", layer, root), soft)
    out = nodes.add("add", both, nodes.linear(nodes.add("input"), "U"))
    sheet = Sheet(graph(nodes.function(out), [[2, 3]], real(2, 2)), {"U": stored(draw(91, 3, 2))})
    whole(sheet, F(1, 2), sheet.block([1, 1], [[2, 3]]), sheet.all("input"))
    return sheet


@good
def every_layout() -> Sheet:
    """slice, select, expand, pad, concat, permute, reshape, sum, amax, max, min, mul, div and sub in one step."""
    nodes = Nodes()
    z, x = nodes.state(), nodes.add("input")  # z: (2, 3), x: (3,)
    left = nodes.add("slice", z, axis=1, start=0, stop=2, step=1)
    turned = nodes.add("select", left, axis=0, indices=[1, 0])
    padded = nodes.add("pad", turned, pads=[[0, 0], [1, 0]])
    swapped = nodes.add("reshape", nodes.add("permute", z, axes=[1, 0]), shape=[2, 3])
    top = nodes.add("max", padded, nodes.scale(swapped, 1, 2))
    most = nodes.add("reshape", nodes.add("amax", z), shape=[2, 1])
    wide = nodes.add("expand", most, shape=[2, 3])
    low = nodes.add("min", wide, nodes.scale(z, 1, 2))
    row = nodes.add("reshape", x, shape=[1, 3])
    pair = nodes.add("concat", row, nodes.scale(row, -1, 2), axis=0)
    gate = nodes.add("sigmoid", pair)
    gated = nodes.add("mul", gate, nodes.add("sub", top, low))
    total = nodes.add("reshape", nodes.add("sum", z), shape=[2, 1])
    mean = nodes.scale(nodes.add("expand", total, shape=[2, 3]), 1, 12)
    divisor = nodes.add("add", nodes.add("abs", pair), nodes.constant([[2, 2, 2], [2, 2, 2]]))
    out = nodes.add("add", nodes.scale(gated, 1, 8), nodes.add("div", mean, divisor))
    shifted = nodes.add("add", out, pair)
    sheet = Sheet(graph(nodes.function(shifted), [[2, 3]], real(3)))
    domain = sheet.box([-1] * 3, [1] * 3, "input")
    whole(sheet, F(7, 8), sheet.block([1] * 6), domain)
    return sheet


@good
def every_activation() -> Sheet:
    """All elementwise activations side by side, one coordinate each; weights are stored as integers and halves."""
    ops = ["relu", "abs", "tanh", "sigmoid", "softplus", "silu", "gelu", "sin", "cos"]
    nodes = Nodes()
    z = nodes.add("mul", nodes.state(), nodes.scale(nodes.tensor("s"), 1, 16))
    parts = [nodes.add(op, nodes.add("slice", z, axis=0, start=i, stop=i + 1, step=1)) for i, op in enumerate(ops)]
    rest = [nodes.add("slice", z, axis=0, start=i, stop=i + 1, step=1) for i in (9, 10)]
    parts.append(nodes.add("leaky_relu", rest[0], slope=dyadic(F(1, 8))))
    parts.append(nodes.clamp(rest[1], F(-1, 2), F(3, 4)))
    mixed = nodes.add("select", nodes.add("concat", *parts, axis=0), axis=0, indices=[*range(1, 11), 0])
    out = nodes.add("add", mixed, nodes.scale(nodes.tensor("b"), 1, 8))
    tensors = {"s": stored([8, -8, 9, 7, 8, -6, 5, 10, -10, 8, 12], "I8"), "b": stored([1, -2, 3, 0, 5, -1, 2, 2, -4, 1, 0], "I32")}
    sheet = Sheet(graph(nodes.function(out), [[11]]), tensors)
    whole(sheet, F(3, 4), sheet.block([1] * 11), sheet.nothing())
    return sheet


@good
def unused_and_integer_tensors() -> Sheet:
    """A file with I64, I16 and U8 tensors, one of which the graph does not use and the certificate lists."""
    nodes = Nodes()
    out = nodes.add("add", nodes.scale(nodes.linear(nodes.state(), "W"), 1, 8), nodes.scale(nodes.tensor("b"), 1, 2))
    tensors = {
        "W": stored([[3, -2], [1, 4]], "I64"), "b": stored([1, -3], "I16"), "extra": stored([7, 255], "U8")
    }  # fmt: skip
    sheet = Sheet(graph(nodes.function(out), [[2]]), tensors, unused=["extra"])
    whole(sheet, F(5, 8), sheet.block([1, 1]), sheet.nothing())
    return sheet


@good
def constant_expressions() -> Sheet:
    """W = ½I − AᵀA/16 + B − Bᵀ as an expression over stored tensors, evaluated exactly."""
    a, b = [[F(1), F(-1)], [F(2), F(0)]], [[F(0), F(1, 4)], [F(1, 8), F(0)]]
    nodes = Nodes()
    z, ta, tb = nodes.state(), nodes.tensor("A"), nodes.tensor("B")
    square = nodes.scale(nodes.add("matmul", nodes.add("permute", ta, axes=[1, 0]), ta), -1, 16)
    skew = nodes.add("sub", tb, nodes.add("permute", tb, axes=[1, 0]))
    half = nodes.constant([[F(1, 2), 0], [0, F(1, 2)]])
    w = nodes.add("add", nodes.add("add", half, square), skew)
    out = nodes.add("clamp", nodes.add("linear", z, w), lo=None, hi=dyadic(4))
    out = nodes.add("add", out, nodes.constant([1, 1]))
    sheet = Sheet(graph(nodes.function(out), [[2]]), {"A": stored(a), "B": stored(b)})
    value = minus(
        [[p + q for p, q in zip(x, y, strict=True)] for x, y in zip(scaled_identity(2, F(1, 2)), minus(b, transposed(b)), strict=True)],
        [[v / 16 for v in row] for row in times(transposed(a), a)],
    )
    bound, sigma = spectral(sheet, w, value)
    whole(sheet, sigma, sheet.block([1], [[1, 2]]), sheet.nothing(), premises=[bound])
    return sheet
