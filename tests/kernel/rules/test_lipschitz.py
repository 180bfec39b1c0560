"""`lipschitz`: the constant is exact, the premise says where it holds, and known slopes are used only where known."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, factor_of, graph_json, real, zero_factor
from tests.kernel.graphs import Json, Nodes, dyadic, vector
from trm_verify.kernel.affine import Unit
from trm_verify.kernel.rules.lipschitz import _slope

ULP = F(1, 2**60)
Matrix = Any


def model(
    w: Matrix, u: Matrix, c: Matrix, b: Sequence[Any] | None = None, op: str | None = "relu", **attrs: Any
) -> Json:
    """z ↦ φ(Wz + Ux + b), logits Cz."""
    nodes, readout = Nodes(), Nodes()
    w, u, c = (np.asarray(m, dtype=object) for m in (w, u, c))
    out = nodes.add("linear", nodes.state(), nodes.constant(w))
    out = nodes.add("add", out, nodes.add("linear", nodes.add("input"), nodes.constant(u)))
    out = nodes.add("add", out, nodes.constant([F(v) for v in b or [0] * len(w)]))
    out = out if op is None else nodes.add(op, out, **attrs)
    logits = readout.function(readout.add("linear", readout.state(), readout.constant(c)))
    return graph_json(nodes.function(out), [[len(w)]], real(u.shape[1]), None, logits)


def scalar(w: Any, u: Any = 1, c: Any = 1, op: str | None = "relu", **attrs: Any) -> Sheet:
    return Sheet(model([[F(w)]], [[F(u)]], [[F(c)]], op=op, **attrs))


def log_norm(sheet: Sheet, *d: Any, domain: int | None = None) -> int:
    """Exactly one fixed point, whatever the activation."""
    return sheet.step("log_norm", domain=sheet.all("input") if domain is None else domain, vector=vector(d))


def lipschitz(sheet: Sheet, premise: int, gamma: Any, multipliers: Any, factor: Json | None = None) -> int:
    """Multipliers of one state each are the diagonal of the matrix."""
    rows = np.asarray(multipliers, dtype=object)
    rows = np.diag(rows) if rows.ndim == 1 else rows
    given = zero_factor(len(rows)) if factor is None else factor
    return sheet.step("lipschitz", premise, gamma=dyadic(gamma), multipliers=vector(rows), factor=given)


def claimed(sheet: Sheet, step: int, constant: Any, domain: int | None = None, region: int | None = None) -> str:
    return sheet.claim(
        step, "lipschitz", domain=sheet.all("input") if domain is None else domain,
        region=sheet.all() if region is None else region, constant=dyadic(constant),
    ).verdict()  # fmt: skip


# the constant


@pytest.mark.parametrize(
    ("w", "u", "c", "gamma", "multiplier", "code"),
    [
        (F(1, 2), 1, 1, 2, 2, ACCEPTED),  # z = relu(z/2 + x): 2x for x ≥ 0
        (F(1, 2), 1, 1, 2 - ULP, 2, "DEFINITE"),
        (F(1, 2), 1, 1, 2, 2 + F(1, 2**20), "DEFINITE"),  # at the least γ one multiplier holds
        (F(1, 2), 1, 1, 2 + F(1, 2**20), 2 + F(1, 2**20), ACCEPTED),
        (F(1, 2), -3, 1, 6, 2, ACCEPTED),
        (F(1, 2), 1, -3, 6, 18, ACCEPTED),
        (F(1, 2), 1, -3, 6 - ULP, 18, "DEFINITE"),
        (-3, 1, 1, F(1, 4), F(1, 4), ACCEPTED),  # a negative weight makes the fixed point move less than its input
        (-3, 1, 1, F(1, 4) - ULP, F(1, 4), "DEFINITE"),
        (F(1, 2), 1, 1, 2, 0, "DEFINITE"),
        (F(1, 2), 0, 1, ULP, 1, ACCEPTED),  # an input that moves nothing
        (F(1, 2), 1, 0, ULP, ULP**2 / 4, ACCEPTED),  # logits that nothing moves
    ],
)
def test_the_constant_is_exact(w: Any, u: Any, c: Any, gamma: Any, multiplier: Any, code: str) -> None:
    sheet = scalar(w, u, c)
    lipschitz(sheet, log_norm(sheet, 1), gamma, [multiplier])
    assert sheet.code() == code


@pytest.mark.parametrize(
    ("gamma", "multiplier", "code"),
    [(0, 2, "WITNESS"), (-2, 2, "WITNESS"), (2, -2, "WITNESS"), (2, -ULP, "WITNESS")],
)
def test_signs(gamma: Any, multiplier: Any, code: str) -> None:
    """−2 has the square of 2, and a negative multiplier would turn the inequality around."""
    sheet = scalar(F(1, 2))
    lipschitz(sheet, log_norm(sheet, 1), gamma, [multiplier])
    assert sheet.code() == code


@pytest.mark.parametrize(("field", "value"), [("multipliers", [1, 0]), ("multipliers", []), ("factor", [0, 0])])
def test_lengths(field: str, value: list[int]) -> None:
    sheet = scalar(F(1, 2))
    lipschitz(sheet, log_norm(sheet, 1), 2, [2])
    sheet.steps[-1][field] = vector(value)
    assert sheet.code() == "NUMBER"


def test_a_claim_may_say_less() -> None:
    for domain, constant, code in (
        ("all", 2, ACCEPTED), ("all", 3, ACCEPTED), ("all", 2 - ULP, "CLAIM"), ((-1, 1), 2, ACCEPTED)
    ):  # fmt: skip
        sheet = scalar(F(1, 2))
        step = lipschitz(sheet, log_norm(sheet, 1), 2, [2])
        where = sheet.all("input") if domain == "all" else sheet.box(*domain, "input")
        assert claimed(sheet, step, constant, where) == code


def test_a_claim_may_not_say_more() -> None:
    sheet = scalar(F(1, 2))
    posed = log_norm(sheet, 1, domain=sheet.box(-1, 1, "input"))
    step = lipschitz(sheet, posed, 2, [2])
    assert claimed(sheet, step, 2, sheet.box(-1, 1 + ULP, "input")) == "CLAIM"
    sheet.claims.clear()
    assert claimed(sheet, step, 2, sheet.box(-1, 1, "input"), sheet.box(-9, 9)) == "CLAIM"  # it may lie elsewhere
    sheet.claims.clear()
    assert claimed(sheet, posed, 2, sheet.box(-1, 1, "input")) == "CLAIM"


# the form


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("tanh", {}), ("sigmoid", {}), ("softplus", {}), ("leaky_relu", {"slope": dyadic(F(1, 8))}),
        ("clamp", {"lo": dyadic(-1), "hi": None}), (None, {}),
    ],
)  # fmt: skip
def test_activations_with_slopes_in_zero_to_one(op: str | None, attrs: Json) -> None:
    sheet = scalar(F(1, 2), op=op, **attrs)
    lipschitz(sheet, log_norm(sheet, 1), 2, [2])
    assert sheet.code() == ACCEPTED


def converging(sheet: Sheet, rate: Any, n: int = 1) -> int:
    """Convergence from everywhere, in ℓ∞."""
    contracts = sheet.contraction(rate, sheet.block(*[1] * n), domain=sheet.all("input"))
    return sheet.step("convergence", contracts, start=sheet.all())


@pytest.mark.parametrize("op", ["gelu", "silu", "sin", "abs"])
def test_other_slopes_are_refused(op: str) -> None:
    """They may contract, and then have one fixed point; GELU's slope of 1.13 would still be taken for one of 1."""
    sheet = scalar(F(1, 4), op=op)
    lipschitz(sheet, converging(sheet, F(1, 2)), 2, [2])
    assert sheet.code() == "UNSUPPORTED"


def test_a_convergence_is_a_premise_whatever_its_loop() -> None:
    sheet = scalar(F(1, 2), op="tanh")
    premise = converging(sheet, F(1, 2))
    step = lipschitz(sheet, premise, 2, [2])
    assert claimed(sheet, step, 2) == ACCEPTED
    assert claimed(sheet, premise, 2) == "CLAIM"


def test_a_contraction_in_a_region_speaks_of_the_fixed_point_there() -> None:
    """relu(z/2 + x) on [−1, 5], which it does not leave for x in [0, 2]: a claim about all states says more."""
    sheet = scalar(F(1, 2))
    domain, region = sheet.box(0, 2, "input"), sheet.box(-1, 5)
    contracts = sheet.contraction(F(1, 2), sheet.block(1), region, domain)
    stays = sheet.step("invariant_box", operator="picard", domain=domain, region=region)
    step = lipschitz(sheet, sheet.step("convergence", contracts, stays, start=region), 2, [2])
    assert claimed(sheet, step, 2, domain, region) == ACCEPTED
    sheet.claims.clear()
    assert claimed(sheet, step, 2, domain) == "CLAIM"


def other_form(build: Any, readout: Any = None, given: Json | None = None) -> Sheet:
    nodes, logits = Nodes(), Nodes()
    out = build(nodes, nodes.state(), nodes.add("input"))
    function = logits.function((readout or (lambda n, z: n.scale(z, 1)))(logits, logits.state()))
    return Sheet(graph_json(nodes.function(out), [[1]], given or real(1), None, function))


def _half(n: Nodes, z: int, x: int) -> int:
    return n.add("add", n.scale(z, 1, 2), x)


OTHER = {
    "two layers": lambda n, z, x: n.add("relu", n.scale(n.add("relu", _half(n, z, x)), 1, 2)),
    "twice": lambda n, z, x: n.scale(n.add("relu", n.scale(_half(n, z, x), 1, 2)), 2),
    "residual": lambda n, z, x: n.add("add", n.scale(z, 1, 2), n.add("relu", x)),
    "a gate": lambda n, z, x: n.add("relu", n.add("mul", n.scale(n.add("sigmoid", x), 1, 2), z)),
    "a curved input": lambda n, z, x: n.add("relu", _half(n, z, n.add("tanh", x))),
    "a third": lambda n, z, x: n.add("relu", n.add("add", n.scale(z, 1, 3), x)),
    "a maximum": lambda n, z, x: n.add("max", n.scale(z, 1, 2), x),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_forms_are_refused(name: str) -> None:
    sheet = other_form(OTHER[name])
    lipschitz(sheet, converging(sheet, F(3, 4)), 16, [2])
    assert sheet.code() == "UNSUPPORTED"


@pytest.mark.parametrize(
    "readout",
    [
        lambda n, z: n.add("relu", z),
        lambda n, z: n.add("mul", z, z),
        lambda n, z: n.scale(z, 1, 3),  # no binary fraction
        lambda n, z: n.add("max", z, n.constant([F(0)])),
        lambda n, z: n.add("softmax", z),
    ],
)
def test_the_readout_is_exactly_linear(readout: Any) -> None:
    sheet = other_form(lambda n, z, x: n.add("relu", _half(n, z, x)), readout)
    lipschitz(sheet, log_norm(sheet, 1), 64, [2])
    assert sheet.code() == "UNSUPPORTED"


def test_a_readout_with_a_constant_in_several_positions() -> None:
    """‖·‖₂ is over all logits of all positions together."""

    def readout(n: Nodes, z: int) -> int:
        both = n.add("concat", n.scale(z, 3), n.scale(z, -4), axis=0)
        shifted = n.add("add", both, n.constant([F(1), F(5)]))
        return n.add("reshape", shifted, shape=[2, 1])

    for gamma, code in ((10, ACCEPTED), (10 - ULP, "DEFINITE")):
        sheet = other_form(lambda n, z, x: n.add("relu", _half(n, z, x)), readout)
        lipschitz(sheet, log_norm(sheet, 1), gamma, [50])
        assert sheet.code() == code


def test_models_without_a_readout_or_a_real_input_are_refused() -> None:
    sheet = scalar(F(1, 2))
    sheet.graph["readout"] = None
    lipschitz(sheet, log_norm(sheet, 1), 2, [2])
    assert sheet.code() == "UNSUPPORTED"

    nodes, logits = Nodes(), Nodes()
    step = nodes.function(nodes.add("relu", nodes.scale(nodes.state(), 1, 2)))
    readout = logits.function(logits.scale(logits.state(), 1))
    sheet = Sheet(graph_json(step, [[1]], None, None, readout))
    lipschitz(sheet, log_norm(sheet, 1, domain=sheet.point()), 2, [2])
    assert sheet.code() == "UNSUPPORTED"

    table = lambda n, z, x: n.add("add", n.scale(z, 1, 2), n.add("reshape", _rows(n, x), shape=[1]))  # noqa: E731
    sheet = other_form(table, given={"shape": [1], "kind": "integer", "size": 2})
    lipschitz(sheet, log_norm(sheet, 1), 16, [2])
    assert sheet.code() == "UNSUPPORTED"


def _rows(nodes: Nodes, x: int) -> int:
    return nodes.add("embedding", x, nodes.constant(np.array([[F(0)], [F(8)]], dtype=object)))


def test_units_in_another_order_are_those_of_their_states() -> None:
    """States (relu(z₁/2 + x), relu(−3z₀/2 + x)), whose units are made in the other order."""
    nodes, logits = Nodes(), Nodes()
    parts, x = (nodes.state(0), nodes.state(1)), nodes.add("input")
    second = nodes.add("relu", nodes.add("add", nodes.scale(parts[0], -3, 2), x))
    first = nodes.add("relu", nodes.add("add", nodes.scale(parts[1], 1, 2), x))
    graph = graph_json(nodes.function(first, second), [[1], [1]], real(1), None, logits.function(logits.state(0)))
    w, u, c = np.array([[0, 0.5], [-1.5, 0]]), np.ones((2, 1)), np.array([[1.0, 0.0]])
    for diagonal, other, code in (([2, F(1, 2)], [2, F(1, 2)], ACCEPTED), ([2, F(1, 2)], [F(1, 2), 2], "DEFINITE")):
        sheet, gamma = Sheet(graph), 2.0
        contracts = sheet.contraction(F(7, 8), sheet.block(4, 7), domain=sheet.all("input"))
        rows = matrix_of(w, u, c, np.diag(np.array(diagonal, dtype=float)), gamma)
        assert np.linalg.eigvalsh(rows)[0] > 0
        lipschitz(sheet, sheet.step("convergence", contracts, start=sheet.all()), F(gamma), other, factor_of(rows))
        assert sheet.code() == code


# known slopes


def two_hinges(op: str = "relu", **attrs: Any) -> Sheet:
    """z₀ = φ(x + 1), z₁ = φ(x − 1), one logit z₀ + z₁."""
    return Sheet(model(np.zeros((2, 2), int), [[1], [1]], [[1, 1]], [1, -1], op, **attrs))


def enclosed(sheet: Sheet, reach: Any, lo: Any, hi: Any, scale: Any = None) -> tuple[int, int]:
    """(located, domain): the fixed points for |x| ≤ reach, in a box that the arguments of ReLUs move."""
    domain = sheet.box(-reach, reach, "input")
    near = sheet.step(
        "enclosure", domain=domain, region=sheet.box(lo, hi), scale=None if scale is None else vector(scale),
        slopes=vector([1, 0]), matrix=vector([1, 0, 0, 1]), unique=False,
    )  # fmt: skip
    return sheet.step("located", log_norm(sheet, 1, 1), near), domain


def test_everywhere_both_units_count() -> None:
    for gamma, code in ((2, ACCEPTED), (2 - ULP, "DEFINITE")):
        sheet = two_hinges()
        lipschitz(sheet, log_norm(sheet, 1, 1), gamma, [2, 2])
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("gamma", "multipliers", "code"),
    [
        (1, [[1, 0], [0, 0]], ACCEPTED),
        (1, [[1, 9], [7, -5]], ACCEPTED),  # what belongs to a state that cannot move says nothing
        (1 - ULP, [[1, 0], [0, 0]], "DEFINITE"),
        (1, [[-1, 0], [0, 0]], "DEFINITE"),  # allowed where the slope is 1, but not what it needs
    ],
)
def test_a_ball_where_one_unit_is_on_and_one_is_off(gamma: Any, multipliers: Any, code: str) -> None:
    sheet = two_hinges()
    only, domain = enclosed(sheet, F(1, 4), [F(1, 2), F(-1, 4)], [F(3, 2), F(1, 4)])
    step = lipschitz(sheet, only, gamma, multipliers, zero_factor(1))
    assert claimed(sheet, step, gamma, domain) == code
    sheet.claims.clear()
    if code == ACCEPTED:
        assert claimed(sheet, step, gamma) == "CLAIM"  # not everywhere


def test_a_unit_that_may_bend_still_counts() -> None:
    """|x| ≤ 5/4: the second argument reaches 1/4."""
    sheet = two_hinges()
    only, _ = enclosed(sheet, F(5, 4), [-2, -1], [3, 1])
    lipschitz(sheet, only, 2, [2, 2])
    assert sheet.code() == ACCEPTED
    sheet.steps[-1] |= {"gamma": dyadic(F(3, 2)), "multipliers": vector([2, 0, 0, 0])}
    assert sheet.code() == "DEFINITE"
    sheet.steps[-1] |= {"multipliers": vector([2, 1, 0, 2])}
    assert sheet.code() == "WITNESS"  # a row needs Δz₀ = Δa₀, which |x| ≤ 5/4 does not give


RELU, LEAKY = Unit("relu"), Unit("leaky_relu", {"slope": F(1, 8)})
BOTH, ABOVE, BELOW = (Unit("clamp", {"lo": lo, "hi": hi}) for lo, hi in ((F(-1), F(1)), (F(-1), None), (None, F(1))))
FREE = Unit("clamp", {"lo": None, "hi": None})


@pytest.mark.parametrize(
    ("unit", "interval", "slope"),
    [
        (RELU, (0, 1), 1), (RELU, (-1, 0), 0), (RELU, (-ULP, 1), None), (RELU, (-1, ULP), None),
        (RELU, (0, None), 1), (RELU, (None, 0), 0), (RELU, (None, 1), None), (RELU, (None, None), None),
        (LEAKY, (0, 1), 1), (LEAKY, (-1, 0), None), (LEAKY, (-1, 1), None),
        (BOTH, (-1, 1), 1), (BOTH, (-1 - ULP, 1), None), (BOTH, (-1, 1 + ULP), None), (BOTH, (1, 2), 0),
        (BOTH, (-2, -1), 0), (BOTH, (1 - ULP, 2), None), (BOTH, (None, -1), 0), (BOTH, (None, 0), None),
        (ABOVE, (-1, None), 1), (ABOVE, (None, -1), 0), (ABOVE, (1, 2), 1), (BELOW, (None, 1), 1), (BELOW, (1, 2), 0),
        (BELOW, (-9, -8), 1), (FREE, (None, None), 1),
        (Unit("tanh"), (0, 0), None), (Unit("softplus"), (99, 100), None),
    ],
)  # fmt: skip
def test_slopes_are_read_off_the_breakpoints(unit: Unit, interval: Any, slope: int | None) -> None:
    low, high = (None if end is None else F(end) for end in interval)
    assert _slope(unit, (low, high)) == slope


def test_rescaled_arguments_keep_their_side() -> None:
    """z = relu(−3z + x + 1): α = 1/4 makes the argument (x + 1)/4, and the slope is 1 for |x| < 1."""
    for reach, code in ((F(1, 2), ACCEPTED), (F(3, 2), "WITNESS")):
        sheet = Sheet(model([[-3]], [[1]], [[1]], [1]))
        domain = sheet.box(-reach, reach, "input")
        near = sheet.step(
            "enclosure", domain=domain, region=sheet.box(-1, 1), scale=vector([F(1, 4)]), slopes=vector([1]),
            matrix=vector([1]), unique=False,
        )  # fmt: skip
        only = sheet.step("located", log_norm(sheet, 1), near)
        lipschitz(sheet, only, F(1, 4), [F(1, 4)])
        assert sheet.code() == ACCEPTED  # 1/4 either way
        sheet.steps[-1]["multipliers"] = vector([-ULP])
        assert sheet.code() == ("DEFINITE" if code == ACCEPTED else code)  # the sign is free where the slope is 1


@pytest.mark.parametrize("unique", [False, True])
def test_fixed_points_that_need_not_be_the_only_ones(unique: bool) -> None:
    sheet = two_hinges()
    domain = sheet.box(F(-1, 4), F(1, 4), "input")
    region = sheet.box([F(1, 2), F(-1, 4)], [F(3, 2), F(1, 4)])
    near = sheet.step(
        "enclosure", domain=domain, region=region, scale=None, slopes=vector([1, 0]), matrix=vector([1, 0, 0, 1]),
        unique=unique,
    )  # fmt: skip
    step = lipschitz(sheet, near, 1, [1, 0], zero_factor(1))
    assert claimed(sheet, step, 1, domain, region) == (ACCEPTED if unique else "PREMISE")


def test_other_premises() -> None:
    sheet = scalar(F(1, 2))
    domain, region = sheet.all("input"), sheet.box(-1, 1)
    contracts = sheet.contraction(F(1, 2), sheet.block(1), domain=domain)
    named = sheet.step("fixed_points_in", domain=domain, region=region, scale=None)
    posed = log_norm(sheet, 1)
    for premises in ([contracts], [named], [], [posed, posed]):
        lipschitz(sheet, posed, 2, [2])
        sheet.steps[-1]["premises"] = premises
        assert sheet.code() == "PREMISE"
        sheet.steps.pop()


def test_where_nothing_moves_every_constant_holds() -> None:
    """relu(x − 1) for |x| ≤ 1/4 is 0."""
    sheet = Sheet(model([[0]], [[1]], [[5]], [-1]))
    domain = sheet.box(F(-1, 4), F(1, 4), "input")
    near = sheet.step(
        "enclosure", domain=domain, region=sheet.box(-1, 1), scale=None, slopes=vector([0]), matrix=vector([1]),
        unique=False,
    )  # fmt: skip
    step = lipschitz(sheet, sheet.step("located", log_norm(sheet, 1), near), ULP, [0], vector([]))
    assert claimed(sheet, step, ULP, domain) == ACCEPTED


def test_rows_give_the_norm_of_the_jacobian_where_every_slope_is_known() -> None:
    """An affine step whose Jacobian has norm 2/5; numbers alone cannot show less than 39/10."""
    w, u, c = np.array([[-1, -1], [0.5, 0]]), np.array([[-1.0], [2.0]]), np.array([[-2.0, -2.0]])
    assert np.linalg.norm(c @ np.linalg.solve(np.eye(2) - w, u)) == pytest.approx(0.4)
    gamma = F(13107, 1 << 15)
    rows = float(gamma) ** 2 * np.linalg.solve(u @ u.T + 1e-6 * np.eye(2), np.eye(2) - w)
    rows = np.round(rows * 2**20) / 2**20
    matrix = matrix_of(w, u, c, rows, float(gamma))
    exact = [np.vectorize(F)(m) for m in (w, u, c)]
    for constant, code in ((gamma + F(1, 1 << 15), ACCEPTED), (F(2, 5) - F(1, 10**6), "DEFINITE")):
        constant = F(int(constant * 2**40), 2**40)
        matrix = matrix_of(w, u, c, rows, float(constant))
        sheet = Sheet(model(*exact, op=None))
        factor = factor_of(matrix) if np.linalg.eigvalsh(matrix)[0] > 0 else zero_factor(2)
        lipschitz(sheet, log_norm(sheet, 1, 1), constant, np.vectorize(F)(rows), factor)
        assert sheet.code() == code
    grid = 2.0 ** np.arange(-4, 8, 0.25)
    assert min(square_of(w, u, c, np.diag([p, q])) for p in grid for q in grid) > 3.9**2


# random models


def matrix_of(w: np.ndarray, u: np.ndarray, c: np.ndarray, rows: np.ndarray, gamma: float) -> np.ndarray:
    own = rows.T @ (np.eye(len(w)) - w)
    return gamma**2 * (own + own.T - c.T @ c) - rows.T @ u @ u.T @ rows


def square_of(w: np.ndarray, u: np.ndarray, c: np.ndarray, rows: np.ndarray) -> float:
    """The smallest γ² with these multipliers; infinity if there is none."""
    own = rows.T @ (np.eye(len(w)) - w)
    need = own + own.T - c.T @ c
    if np.linalg.eigvalsh(need)[0] <= 1e-9:
        return float("inf")
    root = np.linalg.inv(np.linalg.cholesky(need))
    return float(np.linalg.eigvalsh(root @ rows.T @ u @ u.T @ rows @ root.T)[-1])


def logits_at(w: np.ndarray, u: np.ndarray, b: np.ndarray, c: np.ndarray, x: np.ndarray) -> np.ndarray:
    """At the fixed points of relu(Wz + Ux + b), by a damped iteration that a log-norm below 1 makes converge."""
    z = np.zeros((len(x), len(w)))
    alpha = 1 / (1 - np.minimum(np.diag(w), 0))
    for _ in range(600):
        z = z + alpha * (np.maximum(z @ w.T + x @ u.T + b, 0) - z)
    return z @ c.T


@pytest.mark.parametrize("seed", range(12))
def test_what_is_accepted_holds_between_sampled_pairs(seed: int) -> None:
    """Multipliers of any kind, γ from far too small to large enough: the kernel accepts only what no pair breaks."""
    rng = np.random.default_rng(seed)
    n, m, k = (int(v) for v in rng.integers(1, 5, 3))
    w = np.round(rng.normal(size=(n, n)) * 4) / 8
    w -= np.diag(np.ceil(np.abs(w).sum(axis=1)) * rng.integers(1, 3, n))
    u, c = (np.round(rng.normal(size=size) * 8) / 8 for size in ((n, m), (k, n)))
    b = np.round(rng.normal(size=n) * 8) / 8
    base = rng.normal(size=(400, m)) * 3
    near = base + rng.normal(size=(400, m)) * 10.0 ** rng.uniform(-3, 0.5, (400, 1))
    apart = np.linalg.norm(logits_at(w, u, b, c, base) - logits_at(w, u, b, c, near), axis=1)
    worst = float((apart / np.linalg.norm(base - near, axis=1)).max())
    accepted = 0
    for _ in range(40):
        multipliers = np.round(np.exp(rng.normal(size=n)) * 2.0 ** rng.integers(-2, 6) * 64) / 64
        square = square_of(w, u, c, np.diag(multipliers))
        gamma = round(worst * float(rng.choice([0.5, 0.99, 1.2, 3])) * 64) / 64 + 1 / 64
        if rng.random() < 0.6 and square < 1e6:
            gamma = float(np.ceil(np.sqrt(square) * float(rng.choice([0.98, 1.001])) * 4096) / 4096) + 1 / 4096
        rows = matrix_of(w, u, c, np.diag(multipliers), gamma)
        factor = factor_of(rows) if np.linalg.eigvalsh(rows)[0] > 0 else zero_factor(n)
        sheet = Sheet(model(*(np.vectorize(F)(a) for a in (w, u, c)), [F(v) for v in b]))
        lipschitz(sheet, log_norm(sheet, *[1] * n), F(gamma), [F(v) for v in multipliers], factor)
        if sheet.code() == ACCEPTED:
            accepted += 1
            assert worst <= gamma * (1 + 1e-9)
        else:
            assert sheet.code() == "DEFINITE"
    assert accepted
