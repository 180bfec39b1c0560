"""Refusals of R4 and R10: implicit models and damping."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good import affine, spectral
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    dyadic,
    graph,
    real,
    stored,
    vector,
)
from tests.corpus.traps import scalar
from tests.corpus.witnesses import factor, minus, scaled_identity, transposed

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# R4: monotone, log_norm and their iterations


def posed(model: Json, m: Any, w: Any, tensors: Any = None) -> Sheet:
    """A sheet that claims exactly one fixed point by strong monotonicity of the matrix w."""
    sheet = Sheet(model, tensors or {})
    domain = sheet.nothing() if model["input"] is None else sheet.all("input")
    n = len(w)
    gap = minus(minus(scaled_identity(n, 2 - 2 * F(m)), w), transposed(w))
    step = sheet.step("monotone", domain=domain, m=dyadic(m), factor=factor(gap))
    sheet.claim(step, "exactly_one", domain=domain, region=sheet.all())
    return sheet


def scalar_posed(build: Any, w: Any, m: Any, given: Json | None = None) -> Sheet:
    return posed(scalar(build, given), m, [[F(w)]])


@refused("UNSUPPORTED", "z + relu(0z − 1) is not φ(Wz + b): every z is fixed")
def monotone_residual() -> Sheet:
    return scalar_posed(
        lambda n, z: n.add("add", z, n.add("relu", n.add("sub", n.scale(z, 0), n.constant([1])))), 0, F(1, 2)
    )


@refused("UNSUPPORTED", "2 relu(z/2) is not φ(Wz + b): every z ≥ 0 is fixed")
def monotone_scaled() -> Sheet:
    return scalar_posed(lambda n, z: n.scale(n.add("relu", n.scale(z, 1, 2)), 2), F(1, 2), F(1, 4))


@refused("UNSUPPORTED", "two layers are not one implicit layer")
def monotone_two_layers() -> Sheet:
    return scalar_posed(lambda n, z: n.add("relu", n.scale(n.add("relu", n.scale(z, 2)), 1, 2)), 0, F(1, 2))


@refused("UNSUPPORTED", "|z| has slope −1: with W = −1 every z ≥ 0 is fixed")
def monotone_abs() -> Sheet:
    return scalar_posed(lambda n, z: n.add("abs", n.scale(z, -1)), -1, 1)


@refused("UNSUPPORTED", "GELU has slopes outside [0, 1]")
def monotone_gelu() -> Sheet:
    return scalar_posed(lambda n, z: n.add("gelu", n.scale(z, 1, 2)), F(1, 2), F(1, 4))


@refused("UNSUPPORTED", "an input that multiplies the state is no offset")
def monotone_gate() -> Sheet:
    return scalar_posed(lambda n, z: n.add("relu", n.add("mul", z, n.add("input"))), 0, F(1, 2), real(1))


@refused("WITNESS", "m = 0: with W = I every z ≥ 0 is fixed")
def monotone_m_zero() -> Sheet:
    return scalar_posed(lambda n, z: n.add("relu", n.scale(z, 1)), 1, 0)


edit(
    "DEFINITE",
    "a constant of monotonicity that is too large",
    "monotone_m_large",
    "monotone_affine",
    steps__0__m=dyadic(F(13, 4)),
)
edit(
    "WITNESS",
    "m = 1/2, L = 7: inner damping by 1/4 is beyond 2m/L²",
    "inner_damping_too_large",
    "monotone_relu",
    steps__1__alpha=dyadic(F(1, 4)),
)
edit(
    "WITNESS",
    "a negative bound L, whose square is right",
    "inner_damping_sigma",
    "monotone_relu",
    steps__1__sigma=dyadic(-7),
)
edit("DEFINITE", "a bound L below ‖I − W‖", "inner_damping_small_sigma", "monotone_relu", steps__1__sigma=dyadic(2))
edit(
    "CLAIM",
    "nothing is concluded about Picard from a monotone model",
    "monotone_picard",
    "monotone_relu",
    claims__1__operator="picard",
)
edit(
    "PREMISE",
    "outer damping of a monotone model expands: W = [[0, −20], [20, 0]]",
    "monotone_outer_damping",
    "monotone_relu",
    steps__1={"rule": "log_norm_convergence", "premises": [0], "alpha": vector([F(1, 2)]), "rate": dyadic(F(7, 8))},
)


def inner(op: str, **attrs: Any) -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add(op, nodes.scale(nodes.state(), -1), **attrs))
    sheet = posed(graph(step, [[1]]), 2, [[F(-1)]])
    rest = sheet.step(
        "monotone_convergence", 0, alpha=dyadic(F(1, 2)), sigma=dyadic(2), factor=vector([0]), rate=dyadic(F(1, 2))
    )
    norm = sheet.block([1], [[1, 1]])
    sheet.claim_convergence(rest, sheet.all(), norm, F(1, 2), sheet.nothing(), {"inner_damped": dyadic(F(1, 2))})
    return sheet


@refused("PREMISE", "inner damping moves the fixed point of tanh: it is no projection")
def inner_damping_tanh() -> Sheet:
    return inner("tanh")


@refused("PREMISE", "inner damping moves the fixed point of a leaky ReLU")
def inner_damping_leaky() -> Sheet:
    return inner("leaky_relu", slope=dyadic(F(1, 2)))


def logged(w: Any, d: Any, op: str = "relu") -> Sheet:
    sheet = Sheet(graph(affine("W", None, op), [[len(w)]]), {"W": stored(w)})
    domain = sheet.nothing()
    sheet.step("log_norm", domain=domain, vector=vector(d))
    sheet.claim(0, "exactly_one", domain=domain, region=sheet.all())
    return sheet


@refused("INEQUALITY", "μ = 1: every z ≥ 0 is a fixed point of relu(z)")
def log_norm_one() -> Sheet:
    return logged([[F(1)]], [1])


@refused("WITNESS", "weights (1, 0): the second row is not seen")
def log_norm_zero_weight() -> Sheet:
    return logged([[F(1, 2), F(0)], [F(0), F(2)]], [1, 0])


@refused("UNSUPPORTED", "sin has negative slopes")
def log_norm_sin() -> Sheet:
    return logged([[F(1, 2)]], [1], "sin")


def outer(w: Any, alpha: Any, rate: Any) -> Sheet:
    sheet = logged([[F(w)]], [1])
    step = sheet.step("log_norm_convergence", 0, alpha=vector([alpha]), rate=dyadic(rate))
    operator: Json = {"outer_damped": vector([alpha])}
    sheet.claim_convergence(step, sheet.all(), sheet.block([1]), rate, sheet.nothing(), operator)
    return sheet


@refused("INEQUALITY", "W = −5, μ = −5: unclipped, α = 1/8 would give rate 1/4; it is 7/8")
def log_norm_unclipped() -> Sheet:
    return outer(-5, F(1, 8), F(1, 4))


@refused("WITNESS", "W = −5: α = 1/2 overshoots")
def log_norm_overshoot() -> Sheet:
    return outer(-5, F(1, 2), F(1, 2))


edit(
    "PREMISE",
    "inner damping of a log-norm model",
    "log_norm_inner",
    "log_norm_damped",
    steps__1={
        "rule": "monotone_convergence",
        "premises": [0],
        "alpha": dyadic(F(1, 8)),
        "sigma": dyadic(8),
        "factor": vector([0] * 6),
        "rate": dyadic(F(7, 8)),
    },
)


# R10: damping

edit("OPERATOR", "damping by 0: nothing moves", "damping_zero", "outer_damped", steps__1__alpha=vector([F(1, 2), 0, 1]))
edit(
    "OPERATOR",
    "damping by more than 1",
    "damping_above_one",
    "outer_damped",
    steps__1__alpha=vector([F(1, 2), F(3, 2), 1]),
)
edit(
    "OPERATOR",
    "two damping factors for three coordinates",
    "damping_count",
    "outer_damped",
    steps__1__alpha=vector([F(1, 2), 1]),
)
edit("OPERATOR", "an operator that does not exist", "operator_unknown", A, claims__0__operator="anderson")
edit(
    "CONTEXT",
    "damping twice",
    "damping_twice",
    "outer_damped",
    steps__2={"rule": "damping", "premises": [1], "alpha": vector([F(1, 2), F(3, 4), 1])},
)
edit(
    "CONTEXT",
    "damping in a metric norm",
    "damping_metric",
    "metric_jordan",
    steps__1={"rule": "damping", "premises": [0], "alpha": vector([F(1, 2)])},
)


@refused("WITNESS", "α = (1, 1/8) inside one ℓ2 group: a damped rotation by 0.9 expands by 1.27")
def damping_inside_a_group() -> Sheet:
    w = [[F(0), F(-7, 8)], [F(7, 8), F(0)]]
    sheet = Sheet(graph(affine("W", None), [[2]]), {"W": stored(w)})
    bound, _ = spectral(sheet, 1, w, F(7, 8))
    norm, domain = sheet.block([1], [[1, 2]]), sheet.nothing()
    plain = sheet.contraction(F(7, 8), norm, domain, premises=[bound])
    alpha = [F(1), F(1, 8)]
    damped = sheet.step("damping", plain, alpha=vector(alpha))
    sheet.claim_contraction(damped, F(63, 64), norm, domain, operator={"outer_damped": vector(alpha)})
    return sheet
