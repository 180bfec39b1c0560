"""Refusals of R1: the wrong versions of radius propagation, and rates that are a little too small."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.good import affine, spectral, whole
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    canonical,
    dyadic,
    graph,
    real,
    stored,
    vector,
)
from tests.corpus.traps import scalar
from tests.corpus.witnesses import factor, scaled_identity

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# R1: radius_contraction


def contracts(
    model: Json,
    rate: Any,
    weights: Sequence[Any] = (1,),
    runs: Any = None,
    lo: Any = None,
    hi: Any = None,
    x: Any = None,
    premises: Any = (),
    tensors: Any = None,
) -> Sheet:
    """A sheet that claims contraction of a model, everywhere or on a box, with one `radius_contraction` step."""
    sheet = Sheet(model, tensors or {})
    domain = sheet.nothing() if model["input"] is None else sheet.all("input") if x is None else sheet.box(*x, "input")
    region = sheet.all() if lo is None else sheet.box(lo, hi)
    norm = sheet.block(weights, runs)
    cited = [spectral(sheet, node, matrix, sigma)[0] for node, matrix, sigma in premises]
    step = sheet.contraction(rate, norm, domain, region, cited)
    sheet.claim_contraction(step, rate, norm, domain, region)
    return sheet


@refused("INEQUALITY", "GELU is steeper than the identity (1.1289)")
def gelu_is_not_1_lipschitz() -> Sheet:
    return contracts(scalar(lambda n, z: n.add("gelu", n.scale(z, 9, 10))), F(61, 64))


@refused("INEQUALITY", "a residual block z + tanh z has gain 2")
def residual_block() -> Sheet:
    return contracts(scalar(lambda n, z: n.add("add", z, n.add("tanh", z))), F(63, 64))


@refused("INEQUALITY", "a product has both factors' gains: z² on [−1/2, 1/2] has rate 1")
def square() -> Sheet:
    return contracts(scalar(lambda n, z: n.add("mul", z, z)), F(1, 2), lo=[F(-1, 2)], hi=[F(1, 2)])


@refused("INEQUALITY", "slopes hold between any two points, not about a centre: relu on [−1/2, 1/2]")
def chord_about_the_centre() -> Sheet:
    return contracts(scalar(lambda n, z: n.add("relu", z)), F(3, 4), lo=[F(-1, 2)], hi=[F(1, 2)])


@refused("INEQUALITY", "a radius is not clipped by the width of an enclosure: clamp(10z, 0, 1) has rate 10")
def clipped_radius() -> Sheet:
    return contracts(scalar(lambda n, z: n.clamp(n.scale(z, 10), 0, 1)), F(1, 64), weights=[100])


@refused("INEQUALITY", "softmax(8z) is steep although its values lie in [0, 1]")
def steep_softmax() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("softmax", nodes.scale(nodes.state(), 8)))
    return contracts(graph(step, [[2]]), F(63, 64), [1, 1])


@refused("INEQUALITY", "RMS norm is steep near 0: slope 1/√eps")
def steep_rms_norm() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.scale(nodes.add("rms_norm", nodes.state(), eps=dyadic(F(1, 1024))), 1, 4))
    return contracts(graph(step, [[2]]), F(63, 64), [1], [[1, 2]])


@refused("INEQUALITY", "‖I‖ from ℓ∞ to ℓ2 on four coordinates is 2, not 1")
def linf_to_l2() -> Sheet:
    nodes = Nodes()
    zero = nodes.scale(nodes.state(1), 0)
    step = nodes.function(zero, nodes.scale(nodes.state(0), 3, 4))
    return contracts(graph(step, [[4], [4]]), F(63, 64), [1] * 5, [[4, 1], [1, 4]])


@refused("INEQUALITY", "a permutation moves the groups: token weights (1, 100) do not stay with the rows")
def permuted_groups() -> Sheet:
    nodes = Nodes()
    turned = nodes.add("reshape", nodes.add("permute", nodes.state(), axes=[1, 0]), shape=[2, 2])
    step = nodes.function(nodes.scale(turned, 1, 2))
    return contracts(graph(step, [[2, 2]]), F(63, 64), [1, 100], [[2, 2]])


def attention(nodes: Nodes, tokens: int) -> int:
    return nodes.add("softmax", nodes.add("input"))


@refused("INEQUALITY", "columns of softmax do not sum to 1: Aᵀ can double a token")
def transposed_softmax() -> Sheet:
    nodes = Nodes()
    weights = nodes.add("permute", attention(nodes, 2), axes=[1, 0])
    step = nodes.function(nodes.scale(nodes.add("matmul", weights, nodes.state()), 3, 4))
    return contracts(graph(step, [[2, 1]], real(2, 2)), F(63, 64), [1, 1])


@refused("INEQUALITY", "softmax from the right sums tokens up")
def softmax_from_the_right() -> Sheet:
    nodes = Nodes()
    weights = attention(nodes, 2)
    step = nodes.function(nodes.scale(nodes.add("matmul", nodes.state(), weights), 3, 4))
    return contracts(graph(step, [[1, 2]], real(2, 2)), F(63, 64), [1, 1])


@refused("INEQUALITY", "a repeated column of softmax: rows sum to 2")
def repeated_softmax_column() -> Sheet:
    nodes = Nodes()
    weights = nodes.add("select", attention(nodes, 2), axis=1, indices=[0, 0])
    step = nodes.function(nodes.scale(nodes.add("matmul", weights, nodes.state()), 3, 4))
    return contracts(graph(step, [[2, 1]], real(2, 2)), F(63, 64), [1, 1])


@refused("INEQUALITY", "unequal token weights (1, 10): attention moves the heavy token into the light one")
def unequal_token_weights() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.scale(nodes.add("matmul", attention(nodes, 2), nodes.state()), 1, 2))
    return contracts(graph(step, [[2, 2]], real(2, 2)), F(63, 64), [1, 10], [[2, 2]])


@refused("INEQUALITY", "two heads with W = I have gain √2 before the output projection")
def two_heads() -> Sheet:
    nodes = Nodes()
    first, second = nodes.add("softmax", nodes.add("input")), nodes.add("softmax", nodes.scale(nodes.add("input"), -1))
    z = nodes.state()
    both = nodes.add("concat", nodes.add("matmul", first, z), nodes.add("matmul", second, z), axis=1)
    root = F(181, 256)  # the projection (I I)/√2 has norm 1
    out = nodes.linear(both, "O")
    matrix = [[root, F(0), root, F(0)], [F(0), root, F(0), root]]
    sheet = contracts(
        graph(nodes.function(out), [[2, 2]], real(2, 2)), F(63, 64), [1, 1], [[2, 2]], tensors={"O": stored(matrix)}
    )
    return sheet


@refused("UNSUPPORTED", "the step is undefined for one input: 1/x on [−1, 1]")
def division_by_zero() -> Sheet:
    nodes = Nodes()
    inverse = nodes.add("div", nodes.constant([1]), nodes.add("input"))
    out = nodes.add("relu", nodes.add("add", nodes.scale(nodes.state(), 1, 2), inverse))
    return contracts(graph(nodes.function(out), [[1]], real(1)), F(1, 2), x=([-1], [1]))


@refused("RATE", "rate 1: a rotation by the identity is no contraction")
def rate_one() -> Sheet:
    return contracts(scalar(lambda n, z: n.scale(z, 1)), 1)


@refused("RATE", "a negative rate, whose square is positive")
def rate_negative() -> Sheet:
    document, weights = base("metric_tanh")
    return canonical(changed(document, "predicate.steps.0.rate", dyadic(F(-19, 32)))), weights  # type: ignore[return-value]


@refused("INEQUALITY", "scaling by 1 + 2^-30 contracts in no norm")
def barely_expanding() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("mul", nodes.state(), nodes.constant([1 + F(1, 1 << 30)])))
    return contracts(graph(step, [[1]]), 1 - F(1, 1 << 60))


@refused("INEQUALITY", "a local rate does not hold everywhere: tanh 2z")
def local_rate_everywhere() -> Sheet:
    return contracts(scalar(lambda n, z: n.add("tanh", n.scale(z, 2))), F(3, 4))


edit(
    "NORM",
    "a radius pass in a metric norm",
    "radius_in_a_metric",
    "metric_jordan",
    steps__0={
        "rule": "radius_contraction",
        "premises": [],
        "domain": 0,
        "region": 1,
        "norm": 0,
        "rate": dyadic(F(9, 16)),
    },
)
edit(
    "PREMISE",
    "a contraction cited where a spectral bound belongs",
    "contraction_as_bound",
    "l2_rotation",
    steps__2__rule="radius_contraction",
    steps__2__premises=[1],
    steps__2__domain=0,
    steps__2__region=1,
    steps__2__norm=0,
    steps__2__rate=dyadic(F(5, 8)),
)


# rates, one unit in the last place too small


def understated(code: str, name: str, good: str, step: int, claims: Sequence[int], fields: str = "rate") -> None:
    """Files a good certificate with a number of one step, and of its claims, one unit in the last place smaller."""

    def build() -> Any:
        document, weights = base(good)
        for path in (f"steps.{step}", *(f"claims.{c}" for c in claims)):
            raw = document["predicate"][path.split(".")[0]][int(path.split(".")[1])][fields]
            less = {"exp": raw["exp"], "int": format(int(raw["int"], 16) - 1, "x")}
            document = changed(document, f"predicate.{path}.{fields}", less)
        return canonical(document) + b"\n", weights

    refused(code, f"{fields} of {good} understated by one unit in the last place", name=name)(build)


def finest(code: str, name: str, good: str, changes: dict[str, Fraction]) -> None:
    """Files a good certificate with numbers (paths to values) lowered by 2^-60."""
    edit(
        code,
        f"{good}: a number lowered by 2^-60",
        name,
        good,
        **{k.replace(".", "__"): dyadic(v - LAST) for k, v in changes.items()},
    )


def rates(step: int, value: Fraction) -> dict[str, Fraction]:
    """The rate of a contraction step and of the first claim, which is about it."""
    return {f"steps.{step}.rate": value, "claims.0.rate": value}


finest("INEQUALITY", "ulp_linf", A, rates(0, F(3, 4)))
finest("INEQUALITY", "ulp_weighted_linf", "weighted_linf_reducible", rates(0, F(3, 4)))
finest("INEQUALITY", "ulp_l2", "l2_rotation", rates(1, F(5, 8)))
finest("DEFINITE", "ulp_sigma", "l2_rotation", {"steps.0.sigma": F(5, 8)})
finest("INEQUALITY", "ulp_mixed_tokens", "mixed_attention", rates(1, F(5, 8)))
finest("CLAIM", "ulp_damped", "outer_damped", {"claims.0.rate": F(3, 4)})
finest("CLAIM", "ulp_claimed_rate", A, {"claims.0.rate": F(3, 4)})
finest("INEQUALITY", "ulp_local", "local_ball", rates(1, F(5, 8)))
finest("INEQUALITY", "ulp_log_norm_rate", "log_norm_damped", {"steps.1.rate": F(7, 8)})
finest("INEQUALITY", "ulp_convolution", "convolution", rates(0, F(391, 1024)))
understated("INEQUALITY", "ulp_mixed_parts", "mixed_parts", 4, [0])
understated("INEQUALITY", "ulp_inner_damped", "monotone_relu", 1, [1])


@refused("INEQUALITY", "the exact norm of a non-negative matrix, lowered by 2^-60")
def ulp_spectral_abs() -> Sheet:
    w = [[F(1, 4), F(1, 4)], [F(1, 4), F(1, 4)]]
    sheet = Sheet(graph(affine("W", None), [[2]]), {"W": stored(w)})
    bound = sheet.step("spectral_abs", matrix=1, sigma=dyadic(F(1, 2) - LAST), vector=vector([1, 1]))
    whole(sheet, F(3, 4), sheet.block([1], [[1, 2]]), sheet.nothing(), premises=[bound])
    return sheet


@refused("DEFINITE", "a metric rate below the spectral radius: no factor exists")
def metric_below_spectral_radius() -> Sheet:
    document, weights = base("metric_jordan")
    document = changed(document, "predicate.steps.0.rate", dyadic(F(1, 2) - F(1, 1 << 40)))
    return canonical(document), weights  # type: ignore[return-value]


@refused("DEFINITE", "the rate of a scaled identity in a metric, lowered by 2^-60")
def ulp_metric() -> Sheet:
    sheet = Sheet(graph(affine("W", None), [[2]]), {"W": stored([[F(5, 8), 0], [0, F(5, 8)]])})
    norm, domain, rate = sheet.metric(scaled_identity(2, 2), 1), sheet.nothing(), F(5, 8) - LAST
    step = sheet.step(
        "metric_contraction", domain=domain, region=sheet.all(), norm=norm, rate=dyadic(rate), multipliers=vector([]),
        factor=factor(scaled_identity(2, 0)), norm_factor=factor(scaled_identity(2, 1)),
    )  # fmt: skip
    sheet.claim_contraction(step, rate, norm, domain)
    return sheet
