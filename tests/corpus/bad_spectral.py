"""Refusals of R2 and R3: spectral bounds and metrics."""

from __future__ import annotations

from typing import Any

from tests.corpus.bad import edit, refused
from tests.corpus.good import affine, whole
from tests.corpus.sheet import (
    F,
    Nodes,
    Sheet,
    dyadic,
    graph,
    stored,
    vector,
)
from tests.corpus.witnesses import factor, scaled_identity

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# R2: spectral, spectral_abs

edit(
    "WITNESS",
    "a negative bound, whose square is right",
    "sigma_negative",
    "l2_rotation",
    steps__0__sigma=dyadic(F(-5, 8)),
)
edit(
    "DEFINITE",
    "what power iteration says after too few steps",
    "sigma_underestimated",
    "l2_two_layers",
    steps__0__sigma=dyadic(F(1, 2)),
)
edit(
    "NUMBER",
    "a factor that is one entry short",
    "factor_short",
    "l2_rotation",
    steps__0__factor={"exp": 0, "int": "0 0"},
)
edit("WITNESS", "the norm of something that is no stored matrix", "sigma_of_a_state", "l2_rotation", steps__0__matrix=0)
edit("PREMISE", "a spectral bound that cites another", "spectral_with_premise", "l2_two_layers", steps__1__premises=[0])
edit("CLAIM", "a spectral bound is a premise, never a claim", "spectral_claimed", "l2_rotation", claims__0__step=0)


@refused("WITNESS", "v = (1, 0) does not see the second column of diag(1, 100)")
def vector_with_a_zero() -> Sheet:
    w = [[F(1, 2), F(0)], [F(0), F(100)]]
    sheet = Sheet(graph(affine("W", None), [[2]]), {"W": stored(w)})
    bound = sheet.step("spectral_abs", matrix=1, sigma=dyadic(F(1, 2)), vector=vector([1, 0]))
    whole(sheet, F(1, 2), sheet.block([1], [[1, 2]]), sheet.nothing(), premises=[bound])
    return sheet


# R3: metric_contraction


def metric_sheet(p: Any, floor: Any, w: Any, rate: Any, norm_factor: Any, gap: Any) -> Sheet:
    sheet = Sheet(graph(affine("W", None), [[len(w)]]), {"W": stored(w)})
    norm, domain = sheet.metric(p, floor), sheet.nothing()
    step = sheet.step(
        "metric_contraction", domain=domain, region=sheet.all(), norm=norm, rate=dyadic(rate), multipliers=vector([]),
        factor=gap, norm_factor=norm_factor,
    )  # fmt: skip
    sheet.claim_contraction(step, rate, norm, domain)
    return sheet


@refused("DEFINITE", "P = −I turns an expansion by 2 into a contraction")
def metric_negative() -> Sheet:
    zero = vector([0] * 3)
    return metric_sheet(
        scaled_identity(2, -1), 1, scaled_identity(2, 2), F(1, 2), zero, factor(scaled_identity(2, F(15, 4)))
    )


@refused("DEFINITE", "P = 0 satisfies the homogeneous inequality")
def metric_zero() -> Sheet:
    zero = vector([0] * 3)
    return metric_sheet(scaled_identity(2, 0), F(1, 1 << 100), scaled_identity(2, 2), F(1, 2), zero, zero)


@refused("DEFINITE", "P sees one coordinate only; the other one expands")
def metric_singular() -> Sheet:
    zero = vector([0] * 3)
    return metric_sheet([[F(1), F(0)], [F(0), F(0)]], F(1, 2), [[F(1, 2), F(0)], [F(0), F(2)]], F(1, 2), zero, zero)


edit(
    "WITNESS",
    "a negative multiplier",
    "multiplier_negative",
    "metric_tanh",
    steps__0__multipliers={"exp": -3, "int": "-9 88"},
)
edit(
    "WITNESS", "a multiplier too few", "multiplier_missing", "metric_tanh", steps__0__multipliers={"exp": 0, "int": "1"}
)
edit(
    "DEFINITE",
    "multipliers of zero ignore the activations",
    "multiplier_zero",
    "metric_tanh",
    steps__0__multipliers={"exp": 0, "int": "0 0"},
)
edit(
    "NORM",
    "an ℓ2 norm of two groups in a rule for one",
    "metric_two_groups",
    "metric_two_layers",
    norms__0={"kind": "block", "runs": [[2, 1]], "weights": {"exp": 0, "int": "1 1"}},
)
edit(
    "NORM",
    "a norm factor for a block norm",
    "metric_norm_factor",
    "metric_two_layers",
    steps__0__norm_factor=vector([0] * 3),
)
edit("FIELD", "a metric norm without its factor", "metric_no_norm_factor", "metric_tanh", steps__0__norm_factor=None)


@refused("UNSUPPORTED", "softmax of the state is no elementwise activation")
def metric_softmax() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.scale(nodes.add("softmax", nodes.state()), 1, 2))
    sheet = Sheet(graph(step, [[2]]))
    norm, domain = sheet.block([1], [[1, 2]]), sheet.nothing()
    done = sheet.step(
        "metric_contraction", domain=domain, region=sheet.all(), norm=norm, rate=dyadic(F(1, 2)),
        multipliers=vector([1, 1]), factor=vector([0] * 10), norm_factor=None,
    )  # fmt: skip
    sheet.claim_contraction(done, F(1, 2), norm, domain)
    return sheet
