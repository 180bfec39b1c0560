"""Refusals of graphs, rules and claims: the obvious wrong versions of each rule, with the counterexample that breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tests.corpus.bad import base, changed, edit, refused
from tests.corpus.good import affine, identity_readout, local_sheet, spectral, whole, with_constant
from tests.corpus.sheet import (
    F,
    Json,
    Nodes,
    Sheet,
    canonical,
    dyadic,
    factor,
    graph,
    minus,
    norm_gap,
    real,
    scaled_identity,
    stored,
    transposed,
    vector,
)

A, T = "linf_affine", "weighted_linf_tanh"
LAST = F(1, 1 << 60)  # far less than the last place of any number in the corpus


# graphs

_NODE = "graph__step__nodes__"
edit("OPERATION", "an operation outside the closed table", "unknown_operation", A, **{f"{_NODE}2__op": "conv_transpose"})
edit("GRAPH", "a node that reads a later one", "forward_reference", A, **{f"{_NODE}2__in": [0, 4]})
edit("GRAPH", "a node that reads node -1", "negative_reference", A, **{f"{_NODE}2__in": [-1, 1]})
edit("GRAPH", "a node that nothing uses", "unused_node", A, graph__step__outputs=[2])
edit("GRAPH", "an operation with an argument too many", "arity", A, **{f"{_NODE}4__in": [2, 3, 3]})
edit("SHAPE", "shapes that would have to be broadcast", "broadcast", T, **{f"{_NODE}3__name": "U"})
edit("SHAPE", "a state without parts", "no_state", A, graph__state=[])
edit("SHAPE", "a step that changes the shape of the state", "state_shape", "l2_rotation", graph__state=[[2, 1]])
edit("FIELD", "a graph without its readout entry", "graph_without_readout", A, graph__readout=...)
edit("NUMBER", "an axis of size 0", "axis_of_size_0", A, graph__state=[[0]])
edit("FIELD", "a leaky ReLU that is steeper than the identity", "steep_leaky_relu", "every_activation",
     **{"graph__step__nodes__23__slope": dyadic(2)})  # fmt: skip
edit("BOX", "an input box on a model that reads integers, between them", "integer_box_between", "integer_embedding",
     boxes__3={"space": "input", "lo": {"exp": -2, "int": "1 1"}, "hi": {"exp": -2, "int": "3 3"}})  # fmt: skip
edit("BOX", "an integer input beyond the vocabulary", "integer_box_beyond", "integer_embedding",
     boxes__3={"space": "input", "lo": {"exp": 0, "int": "0 3"}, "hi": {"exp": 0, "int": "2 5"}})  # fmt: skip
edit("BOX", "a negative integer input, which would count from the end of the table", "integer_box_negative",
     "integer_embedding", boxes__2={"space": "input", "point": {"exp": 0, "int": "-1 4"}})  # fmt: skip
edit("GRAPH", "a table shorter than the vocabulary", "table_too_short", "integer_embedding", graph__input__size=6)
edit("GRAPH", "an embedding of a real number", "embedding_of_reals", "integer_embedding",
     graph__input={"shape": [2], "kind": "real"})  # fmt: skip


def scalar(build: Any, given: Json | None = None) -> Json:
    """A step on one number: `build(nodes, z)` gives the output."""
    nodes = Nodes()
    return graph(nodes.function(build(nodes, nodes.state())), [[1]], given)


@refused("GRAPH", "an embedding of the state: there is no step between the integers")
def embedding_of_the_state() -> Sheet:
    nodes = Nodes()
    rows = nodes.add("embedding", nodes.state(), nodes.constant([[F(1, 4)], [F(3, 4)]]))
    sheet = Sheet(graph(nodes.function(nodes.add("reshape", rows, shape=[1])), [[1]]))
    domain, region = sheet.nothing(), sheet.box([0], [1])
    step = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(step, "invariant", operator="picard", domain=domain, region=region)
    return sheet


@refused("GRAPH", "an embedding of half an integer")
def embedding_of_a_half() -> Sheet:
    nodes = Nodes()
    half = nodes.scale(nodes.add("input"), 1, 2)
    rows = nodes.add("reshape", nodes.add("embedding", half, nodes.constant([[1], [2], [3]])), shape=[1])
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), rows))
    sheet = Sheet(graph(step, [[1]], {"shape": [1], "kind": "integer", "size": 3}))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.all("input"))
    return sheet


@refused("GRAPH", "a division by the state")
def division_by_the_state() -> Sheet:
    sheet = Sheet(scalar(lambda n, z: n.add("div", n.constant([1]), z)))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.nothing())
    return sheet


@refused("GRAPH", "an init that reads the state")
def init_reads_the_state() -> Sheet:
    model = scalar(lambda n, z: n.scale(z, 1, 2))
    model["init"] = identity_readout()
    sheet = Sheet(model)
    whole(sheet, F(1, 2), sheet.block([1]), sheet.nothing())
    return sheet


@refused("GRAPH", "a linear layer whose matrix depends on the input")
def linear_by_the_input() -> Sheet:
    nodes = Nodes()
    sheet = Sheet(graph(nodes.function(nodes.add("linear", nodes.state(), nodes.add("input"))), [[1]], real(1, 1)))
    whole(sheet, F(1, 2), sheet.block([1]), sheet.all("input"))
    return sheet


# R1: radius_contraction


def contracts(model: Json, rate: Any, weights: Sequence[Any] = (1,), runs: Any = None, lo: Any = None, hi: Any = None,
              x: Any = None, premises: Any = (), tensors: Any = None) -> Sheet:  # fmt: skip
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
    sheet = contracts(graph(nodes.function(out), [[2, 2]], real(2, 2)), F(63, 64), [1, 1], [[2, 2]], tensors={"O": stored(matrix)})
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


edit("NORM", "a radius pass in a metric norm", "radius_in_a_metric", "metric_jordan",
     steps__0={"rule": "radius_contraction", "premises": [], "domain": 0, "region": 1, "norm": 0, "rate": dyadic(F(9, 16))})  # fmt: skip
edit("PREMISE", "a contraction cited where a spectral bound belongs", "contraction_as_bound", "l2_rotation",
     steps__2__rule="radius_contraction", steps__2__premises=[1], steps__2__domain=0, steps__2__region=1,
     steps__2__norm=0, steps__2__rate=dyadic(F(5, 8)))  # fmt: skip


# rates, one unit in the last place too small


def understated(code: str, name: str, good: str, step: int, claims: Sequence[int], fields: str = "rate") -> None:
    """Files a good certificate with a number of one step, and of the claims on it, one unit smaller in its last place."""

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
    edit(code, f"{good}: a number lowered by 2^-60", name, good,
         **{k.replace(".", "__"): dyadic(v - LAST) for k, v in changes.items()})  # fmt: skip


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


# R2: spectral, spectral_abs

edit("WITNESS", "a negative bound, whose square is right", "sigma_negative", "l2_rotation", steps__0__sigma=dyadic(F(-5, 8)))
edit("DEFINITE", "what power iteration says after too few steps", "sigma_underestimated", "l2_two_layers",
     steps__0__sigma=dyadic(F(1, 2)))  # fmt: skip
edit("NUMBER", "a factor that is one entry short", "factor_short", "l2_rotation", steps__0__factor={"exp": 0, "int": "0 0"})
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
    return metric_sheet(scaled_identity(2, -1), 1, scaled_identity(2, 2), F(1, 2), zero, factor(scaled_identity(2, F(15, 4))))


@refused("DEFINITE", "P = 0 satisfies the homogeneous inequality")
def metric_zero() -> Sheet:
    zero = vector([0] * 3)
    return metric_sheet(scaled_identity(2, 0), F(1, 1 << 100), scaled_identity(2, 2), F(1, 2), zero, zero)


@refused("DEFINITE", "P sees one coordinate only; the other one expands")
def metric_singular() -> Sheet:
    zero = vector([0] * 3)
    return metric_sheet([[F(1), F(0)], [F(0), F(0)]], F(1, 2), [[F(1, 2), F(0)], [F(0), F(2)]], F(1, 2), zero, zero)


edit("WITNESS", "a negative multiplier", "multiplier_negative", "metric_tanh", steps__0__multipliers={"exp": -3, "int": "-9 88"})
edit("WITNESS", "a multiplier too few", "multiplier_missing", "metric_tanh", steps__0__multipliers={"exp": 0, "int": "1"})
edit("DEFINITE", "multipliers of zero ignore the activations", "multiplier_zero", "metric_tanh", steps__0__multipliers={"exp": 0, "int": "0 0"})
edit("NORM", "an ℓ2 norm of two groups in a rule for one", "metric_two_groups", "metric_two_layers",
     norms__0={"kind": "block", "runs": [[2, 1]], "weights": {"exp": 0, "int": "1 1"}})  # fmt: skip
edit("NORM", "a norm factor for a block norm", "metric_norm_factor", "metric_two_layers", steps__0__norm_factor=vector([0] * 3))
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
    return scalar_posed(lambda n, z: n.add("add", z, n.add("relu", n.add("sub", n.scale(z, 0), n.constant([1])))), 0, F(1, 2))


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


edit("DEFINITE", "a constant of monotonicity that is too large", "monotone_m_large", "monotone_affine", steps__0__m=dyadic(F(13, 4)))
edit("WITNESS", "m = 1/2, L = 7: inner damping by 1/4 is beyond 2m/L²", "inner_damping_too_large", "monotone_relu",
     steps__1__alpha=dyadic(F(1, 4)))  # fmt: skip
edit("WITNESS", "a negative bound L, whose square is right", "inner_damping_sigma", "monotone_relu", steps__1__sigma=dyadic(-7))
edit("DEFINITE", "a bound L below ‖I − W‖", "inner_damping_small_sigma", "monotone_relu", steps__1__sigma=dyadic(2))
edit("CLAIM", "nothing is concluded about Picard from a monotone model", "monotone_picard", "monotone_relu", claims__1__operator="picard")
edit("PREMISE", "outer damping of a monotone model expands: W = [[0, −20], [20, 0]]", "monotone_outer_damping", "monotone_relu",
     steps__1={"rule": "log_norm_convergence", "premises": [0], "alpha": vector([F(1, 2)]), "rate": dyadic(F(7, 8))})  # fmt: skip


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


edit("PREMISE", "inner damping of a log-norm model", "log_norm_inner", "log_norm_damped",
     steps__1={"rule": "monotone_convergence", "premises": [0], "alpha": dyadic(F(1, 8)), "sigma": dyadic(8),
               "factor": vector([0] * 6), "rate": dyadic(F(7, 8))})  # fmt: skip


# R10: damping

edit("OPERATOR", "damping by 0: nothing moves", "damping_zero", "outer_damped", steps__1__alpha=vector([F(1, 2), 0, 1]))
edit("OPERATOR", "damping by more than 1", "damping_above_one", "outer_damped", steps__1__alpha=vector([F(1, 2), F(3, 2), 1]))
edit("OPERATOR", "two damping factors for three coordinates", "damping_count", "outer_damped", steps__1__alpha=vector([F(1, 2), 1]))
edit("OPERATOR", "an operator that does not exist", "operator_unknown", A, claims__0__operator="anderson")
edit("CONTEXT", "damping twice", "damping_twice", "outer_damped",
     steps__2={"rule": "damping", "premises": [1], "alpha": vector([F(1, 2), F(3, 4), 1])})  # fmt: skip
edit("CONTEXT", "damping in a metric norm", "damping_metric", "metric_jordan",
     steps__1={"rule": "damping", "premises": [0], "alpha": vector([F(1, 2)])})  # fmt: skip


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


# R8: invariance, existence, convergence


def half_plus(offset: Any) -> tuple[Sheet, int, int, int, int]:
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.constant([offset])))
    return local_sheet(step, 0, 1, F(1, 2))


@refused("PREMISE", "z/2 + 10 contracts on [0, 1] and has no fixed point there")
def contraction_alone() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    sheet.claim(sheet.step("exactly_one", step), "exactly_one", domain=domain, region=region)
    return sheet


@refused("INCLUSION", "z/2 + 10 leaves [0, 1]")
def box_not_invariant() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=domain, region=region)
    return sheet


@refused("INCLUSION", "by radii as well: z/2 + 10 leaves [0, 1]")
def radius_not_invariant() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    stays = sheet.step("invariant_radius", operator="picard", domain=domain, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=domain, region=region)
    return sheet


edit("UNSUPPORTED", "no loop is named: an implicit operator has no invariant box", "invariant_implicit", "answer_of_an_oscillation",
     steps__0__operator="implicit", claims__0__operator="implicit")  # fmt: skip


def claimed_on(good: str, claim: int, box: Json) -> Any:
    """A good certificate whose claim speaks of another region."""
    document, weights = base(good)
    boxes = [*document["predicate"]["boxes"], box]
    document = changed(document, "predicate.boxes", boxes)
    return canonical(changed(document, f"predicate.claims.{claim}.region", len(boxes) - 1)), weights


@refused("CLAIM", "z ↦ −z keeps [−3/2, 3/2], and not a smaller box that is not symmetric")
def invariant_smaller_box() -> Any:
    return claimed_on("answer_of_an_oscillation", 0, {"space": "state", "lo": vector([0, 0]), "hi": vector([1, 1])})


@refused("CLAIM", "a local contraction claimed everywhere")
def contraction_larger_region() -> Any:
    return claimed_on("local_ball", 0, {"space": "state", "all": True})


edit("CLAIM", "exactly one fixed point in the whole space is not one in every box", "exactly_one_smaller_box", A, claims__1__region=2)
edit("UNUSED", "an invariant box that the conclusion does not need", "box_not_cited", "local_cosine",
     steps__2={"rule": "at_most_one", "premises": [0]}, steps__3={"rule": "at_most_one", "premises": [0]},
     steps__4={"rule": "at_most_one", "premises": [0]},
     claims=[{"step": 4, "claim": "at_most_one", "domain": 0, "region": 1}])  # fmt: skip


def leaving() -> Json:
    """−0.9z + 0.095 − 99.1 relu(−z), in binary fractions: contracts on [0, 1], z* inside, and z = 1 runs away."""
    nodes = Nodes()
    z = nodes.state()
    line = nodes.add("add", nodes.scale(z, -7, 8), nodes.constant([F(3, 32)]))
    return nodes.function(nodes.add("sub", line, nodes.scale(nodes.add("relu", nodes.scale(z, -1)), 99)))


@refused("INCLUSION", "an orbit may leave the region: existence came from a ball, and the start lies outside it")
def start_outside_the_ball() -> Sheet:
    sheet, norm, domain, region, step = local_sheet(leaving(), 0, 1, F(7, 8))
    ball = sheet.step("invariant_ball", step, domain=domain, center=vector([F(13, 256)]), radius=dyadic(F(1, 32)))
    converges = sheet.step("convergence", step, ball, start=region)
    sheet.claim_convergence(converges, region, norm, F(7, 8), domain)
    return sheet


@refused("INCLUSION", "the corner of the box around a disc lies outside the disc")
def start_at_the_corner() -> Sheet:
    document, weights = base("local_ball")
    corner = {"space": "state", "lo": vector([F(-1, 2), F(-1, 2)]), "hi": vector([F(1, 2), F(1, 2)])}
    index = document["predicate"]["steps"][4]["start"]
    return canonical(changed(document, f"predicate.boxes.{index}", corner)), weights  # type: ignore[return-value]


edit("INEQUALITY", "a ball that is too small for its residual", "ball_too_small", "local_ball", steps__2__radius=dyadic(F(1, 8)))
edit("WITNESS", "a ball of negative radius is empty", "ball_negative", "local_ball", steps__2__radius=dyadic(F(-1, 2)))
edit("INCLUSION", "a ball that sticks out of the region", "ball_sticks_out", "local_ball", steps__2__radius=dyadic(F(3, 4)))
edit("INCLUSION", "a ball about a centre outside the region", "ball_elsewhere", "local_ball", steps__2__center=vector([3, 0]))
edit("PREMISE", "a ball without a contraction", "ball_without_contraction", "local_ball", steps__2__premises=[0])


@refused("CONTEXT", "the box is invariant for the damped loop only; Picard from 1 diverges")
def invariance_of_another_operator() -> Sheet:
    nodes = Nodes()
    z = nodes.state()
    kink = nodes.scale(nodes.add("relu", nodes.add("sub", nodes.scale(z, -1), nodes.constant([F(1, 2)]))), 100)
    step = nodes.function(nodes.add("add", nodes.scale(z, -7, 8), kink))
    sheet, norm, domain, region, contracts_ = local_sheet(step, F(-1, 2), 1, F(7, 8))
    stays = sheet.step("invariant_radius", operator={"outer_damped": vector([F(1, 2)])}, domain=domain, region=sheet.box([F(-1, 2)], [F(1, 2)]))
    converges = sheet.step("convergence", contracts_, stays, start=region)
    sheet.claim_convergence(converges, region, norm, F(7, 8), domain)
    return sheet


@refused("PREMISE", "relu(1 − 5z) has one fixed point by its log-norm and contracts on [1, 2]; 1, 0, 1, 0, … never settles")
def fixed_point_from_elsewhere() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.constant([1]), nodes.scale(nodes.state(), 5))))
    sheet, norm, domain, region, step_ = local_sheet(step, 1, 2, 0)
    one = sheet.step("log_norm", domain=domain, vector=vector([1]))
    converges = sheet.step("convergence", step_, one, start=region)
    sheet.claim_convergence(converges, region, norm, 0, domain)
    return sheet


@refused("CONTEXT", "the contraction holds on fewer inputs than the invariant box")
def contraction_on_fewer_inputs() -> Sheet:
    nodes = Nodes()
    gate = nodes.add("mul", nodes.state(), nodes.add("input"))
    sheet = Sheet(graph(nodes.function(gate), [[1]], real(1)))
    few, many = sheet.box([0], [F(1, 2)], "input"), sheet.box([0], [1], "input")
    region, norm = sheet.box([-1], [1]), sheet.block([1])
    step = sheet.contraction(F(1, 2), norm, few, region)
    stays = sheet.step("invariant_box", operator="picard", domain=many, region=region)
    sheet.claim(sheet.step("exactly_one", step, stays), "exactly_one", domain=many, region=region)
    return sheet


edit("PREMISE", "uniqueness without a contraction", "at_most_one_alone", A, steps__3__premises=[])
edit("PREMISE", "a bound on the start without convergence", "initial_bound_alone", A, steps__4__premises=[0])
edit("CLAIM", "fewer steps than the bound allows", "too_few_steps", A, claims__4__steps=40)
edit("CLAIM", "a constant below 1", "constant_below_one", A, claims__2__constant=dyadic(F(1, 2)))
edit("CLAIM", "an ε without a bound on the start", "epsilon_without_bound", A, claims__2__epsilon=dyadic(F(1, 2)), claims__2__steps=60)
edit("CLAIM", "an ε without its number of steps", "epsilon_without_steps", A, claims__4__steps=None)
edit("CLAIM", "convergence in another norm", "convergence_other_norm", A,
     norms=[{"kind": "block", "runs": [[4, 1]], "weights": vector([1, 1, 1, w])} for w in (1, 2)], claims__2__norm=1)  # fmt: skip


def two_fixed_points() -> Json:
    """z/2 + (5/8) relu(z − 1): 0 is fixed, and so is 5."""
    nodes = Nodes()
    z = nodes.state()
    bend = nodes.scale(nodes.add("relu", nodes.add("sub", z, nodes.constant([1]))), 5, 8)
    return nodes.function(nodes.add("add", nodes.scale(z, 1, 2), bend))


def two_fixed_points_sheet(init: Any = None) -> tuple[Sheet, int, int, int]:
    sheet, norm, domain, region, step = local_sheet(two_fixed_points(), -1, 1, F(1, 2), with_constant(1))
    if init is not None:
        nodes = Nodes()
        sheet.graph["init"] = nodes.function(nodes.constant([init]))
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    converges = sheet.step("convergence", step, stays, start=region)
    return sheet, norm, domain, converges


@refused("INCLUSION", "z/2 + (5/8)relu(z − 1): c = 5 has residual 0 and lies outside the region where z* = 0")
def centre_outside_the_region() -> Sheet:
    sheet, _, domain, converges = two_fixed_points_sheet()
    done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector([5]), answer=[0], steps=10)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[0], steps=10)
    return sheet


@refused("INCLUSION", "init lies outside the set from which convergence was proved")
def init_outside_the_start() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet(6)
    done = sheet.step("initial_bound", converges, domain=domain, center=vector([0]))
    sheet.claim_convergence(done, "init", norm, F(1, 2), domain, epsilon=1, steps=20)
    return sheet


@refused("INCLUSION", "the residual at 5 is 0, and 5 is another fixed point")
def bound_about_another_fixed_point() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet()
    done = sheet.step("initial_bound", converges, domain=domain, center=vector([5]))
    sheet.claim_convergence(done, "init", norm, F(1, 2), domain, epsilon=1, steps=20)
    return sheet


@refused("CLAIM", "the damped residual over 1 − ρ of the undamped step: z* = 20, and 2 would be claimed")
def damped_residual() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), nodes.constant([10])))
    sheet = Sheet(graph(step, [[1]]))
    norm, domain = sheet.block([1]), sheet.nothing()
    plain = sheet.contraction(F(1, 2), norm, domain)
    damped = sheet.step("damping", plain, alpha=vector([F(1, 8)]))
    converges = sheet.step("convergence", damped, start=sheet.all())
    bounded = sheet.step("initial_bound", converges, domain=domain, center=vector([0]))
    operator: Json = {"outer_damped": vector([F(1, 8)])}
    sheet.claim_convergence(bounded, "init", norm, F(15, 16), domain, operator, epsilon=2, steps=0)
    return sheet


# R9: answers and runs

edit("MARGIN", "another answer than the model's", "wrong_answer", T, steps__3__answer=[0], claims__3__answer=[0])
edit("MARGIN", "too few steps for the answer to be certain", "answer_too_early", T, steps__3__steps=0, claims__3__steps=0)
edit("CLAIM", "an answer claimed for fewer steps than were shown", "answer_claimed_early", T, claims__3__steps=0)
edit("CLAIM", "an answer claimed for another operator", "answer_other_operator", T, claims__3__operator={"outer_damped": vector([1])})
edit("NUMBER", "label −1, which would be the last class", "label_negative", T, steps__3__answer=[-1])
edit("SHAPE", "two labels for one position", "two_labels", T, steps__3__answer=[1, 1])
edit("BOX", "a fixed depth over a box of inputs", "answer_at_a_box", "answer_at_a_fixed_depth",
     boxes__0={"space": "input", "lo": vector([0] * 4), "hi": vector([1] * 4)})  # fmt: skip
edit("UNSUPPORTED", "no loop is named: an implicit operator has no iterate", "answer_at_implicit", "answer_at_a_fixed_depth",
     steps__0__operator="implicit", steps__0__steps=0, claims__0__operator="implicit", claims__0__steps=0)  # fmt: skip
edit("CLAIM", "a fixed depth says nothing about the next one", "answer_at_another_depth", "answer_at_a_fixed_depth", claims__0__steps=6)
edit("MARGIN", "another answer at that depth", "answer_at_wrong", "answer_at_a_fixed_depth",
     steps__0__answer=[0, 1], claims__0__answer=[0, 1])  # fmt: skip
edit("INCLUSION", "the first iterates lie outside the invariant box", "answer_before_entry", "answer_of_a_damped_bistable_loop",
     steps__1__steps=0, claims__1__steps=0)  # fmt: skip
edit("MARGIN", "the box holds states that answer otherwise", "answer_on_the_box", "answer_of_an_oscillation",
     steps__1__answer=[0], claims__1__answer=[0])  # fmt: skip
edit("UNSUPPORTED", "an answer of a model without readout", "answer_without_readout", "answer_at_a_fixed_depth", graph__readout=None)
edit("PREMISE", "an answer by invariance from a contraction", "answer_from_contraction", T,
     steps__3={"rule": "answer_by_invariance", "premises": [0], "domain": 2, "answer": [1], "steps": 3})  # fmt: skip
edit("PREMISE", "an answer by convergence from a contraction alone", "answer_without_convergence", T, steps__3__premises=[0])


@refused("MARGIN", "a tie is no answer")
def tie() -> Sheet:
    nodes, readout = Nodes(), Nodes()
    step = nodes.function(nodes.scale(nodes.state(), 1, 2))
    both = readout.add("concat", readout.state(), readout.state(), axis=0)
    sheet = Sheet(graph(step, [[1]], None, None, readout.function(both)))
    domain = sheet.nothing()
    done = sheet.step("answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    sheet.claim(done, "answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    return sheet


@refused("SHAPE", "one class: there is no competitor, and every state would answer")
def one_class() -> Sheet:
    model = scalar(lambda n, z: n.scale(z, 1, 2))
    model["readout"] = identity_readout()
    sheet = Sheet(model)
    domain = sheet.nothing()
    done = sheet.step("answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    sheet.claim(done, "answer_at", operator="picard", domain=domain, answer=[0], steps=3)
    return sheet


@refused("CLAIM", "relu(1 − 5z): the damped loop converges, Picard from 0 goes 1, 0, 1, 0, …")
def answer_of_the_undamped_loop() -> Sheet:
    nodes = Nodes()
    step = nodes.function(nodes.add("relu", nodes.add("sub", nodes.constant([1]), nodes.scale(nodes.state(), 5))))
    sheet = Sheet(graph(step, [[1]], None, None, with_constant(F(1, 2))))
    domain = sheet.nothing()
    one = sheet.step("log_norm", domain=domain, vector=vector([1]))
    converges = sheet.step("log_norm_convergence", one, alpha=vector([F(1, 8)]), rate=dyadic(F(7, 8)))
    done = sheet.step("answer_by_convergence", converges, domain=domain, center=vector([F(43, 256)]), answer=[1], steps=30)
    sheet.claim(done, "answer", operator="picard", domain=domain, answer=[1], steps=30)
    return sheet


def run_sheet(states: Sequence[Any], radius: Any, slope: tuple[int, int] = (-7, 8)) -> Sheet:
    """The audit of 1 + slope·(z − 1) at stored states, with a claimed radius for the last one."""
    nodes = Nodes()
    moved = nodes.scale(nodes.add("sub", nodes.state(), nodes.constant([1])), *slope)
    step = nodes.function(nodes.add("add", moved, nodes.constant([1])))
    sheet = Sheet(graph(step, [[1]], None, None, with_constant(64)))
    norm, domain, rate = sheet.block([1]), sheet.nothing(), F(abs(slope[0]), slope[1])
    contracts_ = sheet.contraction(rate, norm, domain)
    converges = sheet.step("convergence", contracts_, start=sheet.all())
    answers: list[Any] = [[1]] * len(states)
    done = sheet.step("run", converges, domain=domain, states=vector(states), answers=answers, final=0)
    sheet.claim(
        done, "run", operator="picard", domain=domain, norm=norm, state=vector(states[-1:]), radius=dyadic(radius),
        answer=[1], final=0, drifts=vector([8] * len(states)), distances=vector([64] * len(states)), answers=answers,
    )  # fmt: skip
    return sheet


@refused("CLAIM", "1 − (7/8)(z − 1) at z = 0: the true distance 1 is no radius that the ball keeps; the residual gives 15")
def run_true_distance() -> Sheet:
    return run_sheet([0], 1)


edit("NUMBER", "a final step after the last state", "run_final_beyond", T, steps__4__final=13)
edit("WITNESS", "an answer that changes after its final step", "run_answer_changes", T, steps__4__final=1, steps__4__answers__4=[0])
edit("WITNESS", "no answer at the last state", "run_no_last_answer", T, steps__4__answers__12=None)
edit("BOX", "a run over a box of inputs", "run_over_a_box", T, steps__4__domain=2)
edit("NUMBER", "states that do not come out whole", "run_ragged_states", T, steps__4__states=vector([1, 2, 3]))
edit("NUMBER", "an answer for a state that is not there", "run_answers_missing", T, steps__4__answers=[[1]])


def lowered(name: str, key: str, place: int, why: str) -> None:
    def build() -> Any:
        document, weights = base(T)
        raw = document["predicate"]["claims"][4][key]
        ints = [int(v, 16) for v in raw["int"].split()]
        ints[place] = ints[place] * 3 // 4
        lower = {"exp": raw["exp"], "int": " ".join(format(v, "x") for v in ints)}
        return canonical(changed(document, f"predicate.claims.4.{key}", lower)), weights

    refused("CLAIM", why, name=name)(build)


lowered("run_drift", "drifts", 3, "a drift that is larger than claimed: the trace is not the loop's")
lowered("run_distance", "distances", 5, "a distance that is larger than claimed")
edit("CLAIM", "the run of another state", "run_other_state", T, claims__4__state=vector([0] * 5))


@refused("INCLUSION", "a stored state outside the region: 5 has residual 0 and distance 5")
def run_outside_the_region() -> Sheet:
    sheet, norm, domain, converges = two_fixed_points_sheet()
    done = sheet.step("run", converges, domain=domain, states=vector([5]), answers=[[0]], final=0)
    sheet.claim(
        done, "run", operator="picard", domain=domain, norm=norm, state=vector([5]), radius=dyadic(0), answer=[0],
        final=0, drifts=vector([5]), distances=vector([0]), answers=[[0]],
    )  # fmt: skip
    return sheet


@refused("UNSUPPORTED", "a monotone model's residual over m is no distance, and no loop of it can be followed")
def run_of_a_monotone_model() -> Sheet:
    document, weights = base("monotone_relu")
    step = {"rule": "initial_bound", "premises": [1], "domain": 2, "center": vector([0, 0, 0])}
    document = changed(document, "predicate.steps", [*document["predicate"]["steps"], step])
    box = {"space": "input", "lo": vector([0, 0]), "hi": vector([1, 1])}
    document = changed(document, "predicate.boxes", [*document["predicate"]["boxes"], box])
    return canonical(document), weights  # type: ignore[return-value]


# the wrong one for what was wanted


@refused("EXPECTED", "a valid proof of z/2 instead of the model that was meant", "--expect", "exactly_one(domain=all)", "--graph", "0" * 64)
def trivial_graph() -> Sheet:
    document, weights = base("weighted_linf_tanh")
    sheet = Sheet(scalar(lambda n, z: n.scale(z, 1, 2)))
    sheet.graph["state"] = [[5]]
    domain = sheet.nothing()
    whole(sheet, F(1, 2), sheet.block([1] * 5), domain)
    statement = sheet.statement()
    statement["predicate"]["unused"] = sorted(["W", "b", "U", "I", "R"])
    statement["subject"] = document["subject"]
    return canonical(statement), weights  # type: ignore[return-value]


@refused("EXPECTED", "a valid proof of at most one fixed point where exactly one was wanted", "--expect", "exactly_one")
def trivial_claim() -> Sheet:
    sheet, _, domain, region, step = half_plus(10)
    sheet.claim(sheet.step("at_most_one", step), "at_most_one", domain=domain, region=region)
    return sheet
