"""Certificates that must stay valid: contraction in every norm."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tests.corpus.good import (
    affine,
    audit,
    column,
    first_steps,
    from_input,
    from_state,
    good,
    label,
    orbit,
    row_scaled,
    spectral,
    whole,
)
from tests.corpus.sheet import (
    F,
    Matrix,
    Nodes,
    Sheet,
    draw,
    dyadic,
    graph,
    identity_readout,
    real,
    round_up,
    stored,
    vector,
)
from tests.corpus.witnesses import (
    absolute,
    factor,
    minus,
    norm_bound,
    perron,
    scaled_identity,
    times,
    transposed,
)

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
        done = sheet.step(
            "answer_by_convergence", converges, domain=domain, center=vector(states[-1]), answer=answer, steps=steps
        )
        sheet.claim(done, "answer", operator="picard", domain=domain, answer=answer, steps=steps)

    first_steps(sheet, finish)
    audit(sheet, converges, x, norm, states=orbit(sheet, x, 12, bits=24))
    return sheet


@good
def weighted_linf_reducible() -> Sheet:
    """A triangular W whose plain row sums exceed 1: only steeply falling weights prove it. Float64."""
    w = [[F(1, 2), F(8), F(0)], [F(0), F(1, 2), F(8)], [F(0), F(0), F(1, 2)]]
    sheet = Sheet(
        graph(affine(activation="relu"), [[3]]), {"W": stored(w, "F64"), "b": stored([1, -1, F(1, 1 << 40)], "F64")}
    )
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
    sigma = round_up(
        max(a / float(b) for a, b in zip(image(image([float(x) for x in v])), v, strict=True)) ** 0.5 + 1e-6, 24
    )
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
    a, b = (
        [[v / 2 for v in row] for row in draw(21, 3, 3, F(1, 2))],
        [[v / 4 for v in row] for row in draw(22, 3, 2, F(1, 2))],
    )
    c, e = (
        [[v / 4 for v in row] for row in draw(23, 2, 3, F(1, 2))],
        [[v / 2 for v in row] for row in draw(24, 2, 2, F(1, 2))],
    )
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
    d, _ = perron(
        lambda v: [
            float(sa) * v[0] + float(sb) * v[1],
            float(sc) * (float(sa) * v[0] + float(sb) * v[1]) + float(se) * v[1],
        ],
        2,
    )
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


def metric_matrix(
    outputs: Matrix, arguments: Matrix, metric: Matrix, rate: Fraction, multipliers: Sequence[Fraction], n: int
) -> Matrix:
    """ρ²P minus the image's square, with sectors [0, 1] of the units (proofs/metric_contraction.md)."""
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
    hidden = nodes.add(
        "relu", nodes.add("add", nodes.linear(nodes.state(), "W1"), nodes.linear(nodes.add("input"), "U"))
    )
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
