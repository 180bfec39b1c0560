"""R4: `monotone`, `log_norm`, `monotone_convergence`, `log_norm_convergence`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, graph_json, linear_model, real, zero_factor
from tests.kernel.graphs import Json, Nodes, dyadic, vector

ULP = F(1, 2**60)
SKEW = [[F(0), F(-20)], [F(20), F(0)]]  # m = 1, ‖I − W‖² = 401: outer damping expands


def monotone(sheet: Sheet, m: Any, factor: Json, domain: int | None = None) -> int:
    return sheet.step("monotone", domain=sheet.point() if domain is None else domain, m=dyadic(m), factor=factor)


def log_norm(sheet: Sheet, d: list[Any], domain: int | None = None) -> int:
    return sheet.step("log_norm", domain=sheet.point() if domain is None else domain, vector=vector(d))


def exactly_one(sheet: Sheet, step: int, region: int, domain: int | None = None) -> Sheet:
    return sheet.claim(step, "exactly_one", domain=sheet.point() if domain is None else domain, region=region)


def test_a_monotone_model_has_exactly_one_fixed_point_in_the_whole_space() -> None:
    sheet = Sheet(linear_model(SKEW, [F(1), F(2)], "relu"))
    step = monotone(sheet, 1, zero_factor(2))
    assert exactly_one(sheet, step, sheet.all()).check().claims
    sheet.claims.clear()
    assert exactly_one(sheet, step, sheet.box([-9, -9], [9, 9])).code() == "CLAIM"  # nothing says that it lies there


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", None])
def test_activations_with_slopes_in_zero_to_one(activation: str | None) -> None:
    for build in (lambda s: monotone(s, F(1, 2), vector([1])), lambda s: log_norm(s, [1])):
        sheet = Sheet(linear_model([[F(-1)]], [F(1)], activation))
        build(sheet)
        assert sheet.code() == ACCEPTED


@pytest.mark.parametrize(
    ("op", "attrs"), [("leaky_relu", {"slope": dyadic(F(1, 8))}), ("clamp", {"lo": dyadic(-1), "hi": None})]
)
def test_activations_with_attributes(op: str, attrs: Json) -> None:
    nodes = Nodes()
    out = nodes.add(op, nodes.scale(nodes.state(), -1), **attrs)
    for build in (lambda s: monotone(s, F(1, 2), vector([1])), lambda s: log_norm(s, [1])):
        sheet = Sheet(graph_json(nodes.function(out)))
        build(sheet)
        assert sheet.code() == ACCEPTED


@pytest.mark.parametrize(
    ("matrix", "m", "code"),
    [
        (F(1), F(0), "WITNESS"),  # m = 0: every z ≥ 0 is a fixed point of relu(z)
        (F(1), F(-1), "WITNESS"),
        (F(1), ULP, "DEFINITE"),
        (F(1, 2), F(1, 2), ACCEPTED),
        (F(1, 2), F(1, 2) + ULP, "DEFINITE"),
        (F(2), F(1, 4), "DEFINITE"),  # z = relu(2z − 1) has 0 and 1
    ],
)
def test_the_monotonicity_constant_is_exact(matrix: F, m: F, code: str) -> None:
    sheet = Sheet(linear_model([[matrix]], [F(-1)], "relu"))
    monotone(sheet, m, zero_factor(1))
    assert sheet.code() == code


@pytest.mark.parametrize(
    ("matrix", "d", "code"),
    [
        ([[F(1)]], [1], "INEQUALITY"),  # μ = 1
        ([[1 - ULP]], [1], ACCEPTED),
        ([[F(-5)]], [1], ACCEPTED),
        ([[F(1, 2), F(9)], [F(0), F(1, 2)]], [1, 1], "INEQUALITY"),
        ([[F(1, 2), F(9)], [F(0), F(1, 2)]], [32, 1], ACCEPTED),
        ([[F(1, 2), F(16)], [F(0), F(1, 2)]], [32, 1], "INEQUALITY"),  # μ₁ = 1/2 + 16/32
        ([[F(1, 2)]], [0], "WITNESS"),
        ([[F(1, 2)]], [-1], "WITNESS"),
        ([[F(1, 2)]], [1, 1], "NUMBER"),
        ([[F(1, 2)]], [], "NUMBER"),
    ],
)
def test_the_log_norm_is_exact(matrix: Any, d: list[Any], code: str) -> None:
    sheet = Sheet(linear_model(matrix, None, "relu"))
    log_norm(sheet, d)
    assert sheet.code() == code


def _form(build: Callable[[Nodes, int], int], given: Json | None = None) -> Json:
    nodes = Nodes()
    return graph_json(nodes.function(build(nodes, nodes.state())), given=given)


def _w(nodes: Nodes, value: Any) -> int:
    return nodes.constant(np.array([[F(value)]], dtype=object))


def _relu(nodes: Nodes, a: int) -> int:
    return nodes.add("relu", a)


OTHER_FORMS = {
    "two layers": lambda n, z: _relu(n, n.add("linear", _relu(n, z), _w(n, -1))),
    "residual": lambda n, z: n.add("add", z, _relu(n, n.add("sub", n.scale(z, 0), n.constant([F(1)])))),
    "twice": lambda n, z: n.scale(_relu(n, n.scale(z, 1, 2)), 2),  # every z ≥ 0 is a fixed point
    "minus": lambda n, z: n.scale(_relu(n, z), -1),
    "shifted": lambda n, z: n.add("add", _relu(n, z), _relu(n, z)),
    "abs": lambda n, z: n.add("abs", n.scale(z, -1)),  # z = |−z|: every z ≥ 0
    "gelu": lambda n, z: n.add("gelu", n.scale(z, -1)),
    "silu": lambda n, z: n.add("silu", n.scale(z, -1)),
    "sin": lambda n, z: n.add("sin", n.scale(z, -1)),
    "rms_norm": lambda n, z: n.add("rms_norm", n.scale(z, -1), eps=dyadic(1)),
    "product": lambda n, z: _relu(n, n.add("mul", z, z)),
    "maximum": lambda n, z: n.add("max", n.scale(z, -1), n.constant([F(0)])),
    "scaled by a third": lambda n, z: _relu(n, n.scale(z, -1, 3)),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_other_forms_are_refused(name: str) -> None:
    for build in (lambda s: monotone(s, F(1, 2), zero_factor(1)), lambda s: log_norm(s, [1])):
        sheet = Sheet(_form(OTHER_FORMS[name]))
        build(sheet)
        assert sheet.code() == "UNSUPPORTED"


def test_two_parts_must_both_be_activations() -> None:
    nodes = Nodes()
    a, b = nodes.state(0), nodes.state(1)
    half = nodes.function(nodes.add("relu", nodes.scale(b, -1)), nodes.scale(a, 1, 2))
    whole = Nodes()
    a, b = whole.state(0), whole.state(1)
    swapped = whole.function(whole.add("relu", whole.scale(b, -1, 2)), whole.add("relu", whole.scale(a, 1, 2)))
    crossed = Nodes()
    a, b = crossed.state(0), crossed.state(1)
    first, second = crossed.add("relu", crossed.scale(a, 2)), crossed.add("relu", crossed.scale(b, -9))
    for step, code in ((half, "UNSUPPORTED"), (swapped, ACCEPTED), (crossed.function(second, first), "UNSUPPORTED")):
        sheet = Sheet(graph_json(step, [[1], [1]]))
        log_norm(sheet, [1, 1])
        assert sheet.code() == code


def test_a_unit_inside_anothers_argument_is_refused() -> None:
    """z₀ ← relu(z₁/2), z₁ ← relu(2 · the new z₀): every z₁ ≥ 0 is fixed, though W alone is [[0, ½], [0, 0]]."""
    nodes = Nodes()
    first = nodes.add("relu", nodes.scale(nodes.state(1), 1, 2))
    second = nodes.add("relu", nodes.scale(first, 2))
    for build in (lambda s: monotone(s, F(1, 2), zero_factor(2)), lambda s: log_norm(s, [1, 1])):
        sheet = Sheet(graph_json(nodes.function(first, second), [[1], [1]]))
        build(sheet)
        assert sheet.code() == "UNSUPPORTED"


@pytest.mark.parametrize(("point", "code"), [(F(-3), ACCEPTED), (F(2), "INEQUALITY")])
def test_a_gate_of_one_input_is_a_weight_there(point: F, code: str) -> None:
    model = _form(lambda n, z: _relu(n, n.add("mul", z, n.add("input"))), real(1))
    sheet = Sheet(model)
    log_norm(sheet, [1], sheet.point(point))
    assert sheet.code() == code
    sheet = Sheet(model)
    log_norm(sheet, [1], sheet.box(-3, F(1, 2), "input"))
    assert sheet.code() == "UNSUPPORTED"


def test_a_step_that_is_undefined_for_some_input_is_refused() -> None:
    model = _form(
        lambda n, z: _relu(n, n.add("add", n.scale(z, 1, 2), n.add("div", n.constant([F(1)]), n.add("input")))), real(1)
    )
    for bounds, code in (((1, 2), ACCEPTED), ((-1, 1), "UNSUPPORTED")):
        for build in (lambda s, d: monotone(s, F(1, 2), zero_factor(1), d), lambda s, d: log_norm(s, [1], d)):
            sheet = Sheet(model)
            build(sheet, sheet.box(*bounds, space="input"))
            assert sheet.code() == code


def test_well_posedness_takes_no_premises_and_is_no_contraction() -> None:
    for build in (lambda s: monotone(s, F(1, 2), zero_factor(1)), lambda s: log_norm(s, [1])):
        sheet = Sheet(linear_model([[F(1, 2)]], None, "relu"))
        step = build(sheet)
        sheet.steps.append(sheet.steps[0] | {"premises": [0]})
        assert sheet.code() == "PREMISE"
        for rule, witness in (
            ("at_most_one", {}),
            ("exactly_one", {}),
            ("convergence", {"start": 1}),
            ("damping", {"alpha": vector([1])}),
            ("initial_bound", {"domain": 0, "center": vector([0])}),
        ):
            sheet.steps = sheet.steps[:1]
            sheet.all()
            sheet.step(rule, step, **witness)
            assert sheet.code() == "PREMISE", rule


# convergence of inner damping

SIGMA = F(21)  # above √401


def inner(
    sheet: Sheet, premise: int, alpha: Any = F(1, 512), sigma: Any = SIGMA, rate: Any = F(65535, 65536), **change: Any
) -> int:
    witness = {"alpha": dyadic(alpha), "sigma": dyadic(sigma), "factor": vector([F(6), 0, F(6)]), "rate": dyadic(rate)}
    return sheet.step("monotone_convergence", premise, **(witness | change))


def skew(activation: str | None = "relu") -> tuple[Sheet, int]:
    sheet = Sheet(linear_model(SKEW, [F(1), F(2)], activation))
    return sheet, monotone(sheet, 1, zero_factor(2))


def claim_convergence(sheet: Sheet, step: int, operator: Any, norm: int, rate: Any, start: Any = None) -> Sheet:
    return sheet.claim(
        step,
        "convergence",
        operator=operator,
        domain=sheet.point(),
        start=sheet.all() if start is None else start,
        norm=norm,
        constant=dyadic(1),
        rate=dyadic(rate),
        epsilon=None,
        steps=None,
    )


def test_inner_damping_converges_in_l2() -> None:
    alpha, rate = F(1, 512), F(1023, 1024)
    assert rate**2 >= 1 - 2 * alpha + alpha**2 * SIGMA**2
    sheet, step = skew()
    step = inner(sheet, step, alpha, rate=rate)
    norm, operator = sheet.l2(2), {"inner_damped": dyadic(alpha)}
    assert claim_convergence(sheet, step, operator, norm, rate).check().claims
    for other, other_norm in (
        (operator, sheet.block(1, 1)),
        (operator, sheet.l2(2, 2)),
        ("picard", norm),
        ({"outer_damped": vector([alpha])}, norm),
        ({"inner_damped": dyadic(alpha / 2)}, norm),
        ("implicit", norm),
    ):
        sheet.claims.clear()
        assert claim_convergence(sheet, step, other, other_norm, rate).code() == "CLAIM"


def test_the_rate_of_inner_damping_is_exact() -> None:
    """W = −1 in one dimension: m = 2, L = 2, α = 1/4: rate² = 1 − 1 + 1/4."""
    for rate, code in ((F(1, 2), ACCEPTED), (F(1, 2) - ULP, "INEQUALITY")):
        sheet = Sheet(linear_model([[F(-1)]], None, "relu"))
        step = monotone(sheet, 2, zero_factor(1))
        inner(sheet, step, F(1, 4), 2, rate, factor=zero_factor(1))
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"alpha": F(0)}, "WITNESS"),
        ({"alpha": F(-1, 512)}, "WITNESS"),
        ({"alpha": F(1, 128)}, "WITNESS"),  # α ≥ 2m/L²
        ({"alpha": F(1)}, "WITNESS"),  # the undamped loop
        ({"sigma": F(20)}, "DEFINITE"),
        ({"sigma": F(-21)}, "WITNESS"),
        ({"sigma": F(0)}, "WITNESS"),
        ({"rate": F(1, 2)}, "INEQUALITY"),
        ({"rate": F(-1)}, "RATE"),
        ({"rate": F(1)}, "RATE"),
        ({"factor": vector([0, 0])}, "NUMBER"),
        ({"factor": vector([9, 0, 9])}, "DEFINITE"),
    ],
)
def test_inner_damping_rejects(change: dict[str, Any], code: str) -> None:
    sheet, step = skew()
    inner(sheet, step, **change)
    assert sheet.code() == code


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_inner_damping_needs_a_projection(activation: str) -> None:
    """For other activations it moves the fixed points."""
    sheet, step = skew(activation)
    inner(sheet, step)
    assert sheet.code() == "PREMISE"


def test_leaky_relu_is_no_projection() -> None:
    nodes = Nodes()
    out = nodes.add("leaky_relu", nodes.scale(nodes.state(), -1), slope=dyadic(F(1, 2)))
    sheet = Sheet(graph_json(nodes.function(out)))
    inner(sheet, monotone(sheet, 2, zero_factor(1)), F(1, 4), 2, F(1, 2), factor=zero_factor(1))
    assert sheet.code() == "PREMISE"


def test_the_two_convergence_rules_do_not_take_each_others_premise() -> None:
    sheet = Sheet(linear_model([[F(-1)]], None, "relu"))
    inner(sheet, log_norm(sheet, [1]), F(1, 4), 2, F(1, 2), factor=zero_factor(1))
    assert sheet.code() == "PREMISE"
    sheet.steps.clear()
    outer(sheet, monotone(sheet, 2, zero_factor(1)), [F(1, 4)], F(3, 4))
    assert sheet.code() == "PREMISE"


def test_nothing_else_is_concluded_from_inner_damping() -> None:
    """The kernel cannot follow this loop: what would need it is refused, never taken from Picard."""
    nodes = Nodes()
    readout = nodes.function(nodes.scale(nodes.state(), 1))
    sheet = Sheet(linear_model(SKEW, [F(1), F(2)], "relu", readout=readout))
    step = inner(sheet, monotone(sheet, 1, zero_factor(2)))
    point = sheet.point()
    for rule, witness in (
        ("initial_bound", {"domain": point, "center": vector([0, 0])}),
        ("answer_by_convergence", {"domain": point, "center": vector([0, 0]), "answer": [0], "steps": 9}),
        ("run", {"domain": point, "states": vector([0, 0]), "answers": [[0]], "final": 0}),
    ):
        sheet.steps = sheet.steps[:2]
        sheet.step(rule, step, **witness)
        assert sheet.code() == "UNSUPPORTED", rule


# convergence of outer damping


def outer(sheet: Sheet, premise: int, alpha: list[Any], rate: Any) -> int:
    return sheet.step("log_norm_convergence", premise, alpha=vector(alpha), rate=dyadic(rate))


@pytest.mark.parametrize(
    ("w", "alpha", "rate", "code"),
    [
        (F(-5), F(1, 8), F(7, 8), ACCEPTED),
        (F(-5), F(1, 8), F(7, 8) - ULP, "INEQUALITY"),
        (F(-5), F(1, 8), F(0), "INEQUALITY"),  # what the unclipped μ = −5 would claim at α = 1/6
        (F(-5), F(1, 4), F(7, 8), "WITNESS"),  # α(1 + 5) > 1
        (F(-5), F(1), F(7, 8), "WITNESS"),
        (F(1, 2), F(1), F(1, 2), ACCEPTED),
        (F(1, 2), F(1), F(1, 2) - ULP, "INEQUALITY"),
        (F(1, 2), F(1, 2), F(3, 4), ACCEPTED),
        (F(1, 2), F(0), F(3, 4), "OPERATOR"),
        (F(1, 2), F(2), F(3, 4), "OPERATOR"),
        (F(1, 2), F(1), F(1), "RATE"),
        (F(1, 2), F(1), F(-1), "RATE"),
        (F(-3), F(1, 4), F(3, 4), ACCEPTED),  # α(1 + 3) = 1
    ],
)
def test_outer_damping_of_a_log_norm_model(w: F, alpha: F, rate: F, code: str) -> None:
    sheet = Sheet(linear_model([[w]], [F(1)], "relu"))
    outer(sheet, log_norm(sheet, [1]), [alpha], rate)
    assert sheet.code() == code


def test_outer_damping_converges_in_the_weights_of_the_log_norm() -> None:
    w = [[F(1, 2), F(4)], [F(0), F(-1)]]
    sheet = Sheet(linear_model(w, [F(1), F(1)], "tanh"))
    step = outer(sheet, log_norm(sheet, [16, 1]), [1, F(1, 2)], F(3, 4))
    norm, operator = sheet.block(16, 1), {"outer_damped": vector([1, F(1, 2)])}
    assert claim_convergence(sheet, step, operator, norm, F(3, 4)).check().claims
    for other, other_norm in (({"outer_damped": vector([1])}, norm), (operator, sheet.block(1, 1)), ("picard", norm)):
        sheet.claims.clear()
        assert claim_convergence(sheet, step, other, other_norm, F(3, 4)).code() == "CLAIM"


@pytest.mark.parametrize("seed", range(6))
def test_outer_damping_rates_hold_for_sampled_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = np.array([[F(int(v), 8) for v in row] for row in rng.integers(-8, 4, (3, 3))], dtype=object)
    mu = [w[i, i] + sum(abs(v) for j, v in enumerate(w[i]) if j != i) for i in range(3)]
    w = w - np.diag([max(F(0), m - F(1, 2)) for m in mu])
    mu = [w[i, i] + sum(abs(v) for j, v in enumerate(w[i]) if j != i) for i in range(3)]
    alpha = [F(1, 2 ** int(np.ceil(np.log2(float(1 - min(w[i, i], F(0))))))) for i in range(3)]
    rate = max(1 - a * (1 - max(m, F(0))) for a, m in zip(alpha, mu, strict=True))
    for slack, code in ((F(0), ACCEPTED), (-ULP, "INEQUALITY")):
        sheet = Sheet(linear_model(w, None, "relu"))
        outer(sheet, log_norm(sheet, [1, 1, 1]), alpha, rate + slack)
        assert sheet.code() == code
    wf, af = w.astype(float), np.array([float(a) for a in alpha])
    points = rng.standard_normal((300, 3)) * 4
    images = (1 - af) * points + af * np.maximum(points @ wf.T, 0)
    before = np.abs(points[:, None] - points[None]).max(-1)
    after = np.abs(images[:, None] - images[None]).max(-1)
    assert (after <= float(rate) * before + 1e-9).all()
