"""R1, R2 and R10: `spectral`, `spectral_abs`, `radius_contraction`, `damping`."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import (
    ACCEPTED,
    Sheet,
    factor_of,
    graph_json,
    linear_model,
    linear_step,
    real,
    zero_factor,
)
from tests.kernel.graphs import Nodes, dyadic, vector

ULP = F(1, 2**60)
ROTATION = [[F(0), F(-7, 8)], [F(7, 8), F(0)]]


def dense(seed: int, rows: int, columns: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.array([[F(int(v), 64) for v in row] for row in rng.integers(-20, 21, (rows, columns))], dtype=object)


def above_norm(matrix: Any, slack: float = 1e-6) -> F:
    return F(round(float(np.linalg.norm(matrix.astype(float), 2)) * (1 + slack) * 2**50), 2**50)


def spectral_step(sheet: Sheet, w: Any, bound: F, **change: Any) -> int:
    m = np.array(w, dtype=float)
    m = m if m.shape[0] >= m.shape[1] else m.T
    witness = {"matrix": 1, "sigma": dyadic(bound)} | change
    if "factor" not in witness:
        witness["factor"] = factor_of(float(bound) ** 2 * np.eye(m.shape[1]) - m.T @ m)
    return sheet.step("spectral", **witness)


# spectral


@pytest.mark.parametrize("seed", range(5))
def test_spectral_bound_proves_an_l2_rate(seed: int) -> None:
    w = dense(seed, 4, 4)
    w = w / 2 ** int(np.ceil(np.log2(np.linalg.norm(w.astype(float), 2))) + 1)
    sigma = above_norm(w)
    sheet = Sheet(linear_model(w, activation="relu"))
    norm = sheet.l2(4)
    bound = spectral_step(sheet, w, sigma)
    step = sheet.step(
        "radius_contraction", bound, domain=sheet.point(), region=sheet.all(), norm=norm, rate=dyadic(sigma + ULP)
    )
    assert sheet.claim_contraction(step, sigma + ULP, norm).check().claims[0].rate == sigma + ULP  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(2, 4), (4, 2), (1, 3)])
def test_spectral_takes_the_smaller_gram_matrix(shape: tuple[int, int]) -> None:
    w = dense(7, *shape)
    nodes = Nodes()
    inner = nodes.add("linear", nodes.state(), nodes.constant(w))
    out = nodes.add("linear", inner, nodes.constant(np.zeros((shape[1], shape[0]), dtype=int).astype(object)))
    sheet = Sheet(graph_json(nodes.function(out), [[shape[1]]]))
    spectral_step(sheet, w, above_norm(w))
    assert sheet.code() == ACCEPTED


def test_spectral_is_exact_for_a_multiple_of_an_isometry() -> None:
    for sigma, code in ((F(7, 8), ACCEPTED), (F(7, 8) - ULP, "DEFINITE")):
        sheet = Sheet(linear_model(ROTATION))
        spectral_step(sheet, ROTATION, sigma, factor=zero_factor(2))
        assert sheet.code() == code


W2 = [[F(1, 2), F(1, 4)], [F(0), F(1, 2)]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sigma": dyadic(-1)}, "WITNESS"),
        ({"sigma": dyadic(F(1, 2))}, "DEFINITE"),
        ({"sigma": dyadic(0)}, "DEFINITE"),
        ({"factor": vector([4, 0, 4])}, "DEFINITE"),
        ({"factor": vector([0, 0])}, "NUMBER"),
        ({"factor": vector([0, 0, 0, 0])}, "NUMBER"),
        ({"factor": None}, "FIELD"),
        ({"matrix": 0}, "WITNESS"),
        ({"matrix": 2}, "WITNESS"),
        ({"matrix": -1}, "NUMBER"),
        ({"matrix": 99}, "NUMBER"),
        ({"matrix": True}, "FIELD"),
        ({"extra": 1}, "FIELD"),
    ],
)
def test_spectral_rejects(change: dict[str, Any], code: str) -> None:
    sheet = Sheet(linear_model(W2))
    spectral_step(sheet, W2, F(1), **change)
    assert sheet.code() == code


def test_spectral_rejects_vectors_premises_and_enclosed_matrices() -> None:
    nodes = Nodes()
    z = nodes.add("linear", nodes.state(), nodes.constant(np.array([[F(1, 2)]], dtype=object)))
    nodes.add("add", z, nodes.constant([F(1)]))
    sheet = Sheet(graph_json(nodes.function(4)))
    sheet.step("spectral", matrix=3, sigma=dyadic(1), factor=vector([0]))
    assert sheet.code() == "WITNESS"

    sheet = Sheet(linear_model([[F(1, 2)]]))
    first = sheet.step("spectral", matrix=1, sigma=dyadic(1), factor=vector([0]))
    sheet.step("spectral", first, matrix=1, sigma=dyadic(1), factor=vector([0]))
    assert sheet.code() == "PREMISE"

    nodes = Nodes()
    third = nodes.scale(nodes.constant(np.array([[F(1)]], dtype=object)), 1, 3)
    nodes.add("matmul", third, nodes.state())
    sheet = Sheet(graph_json(nodes.function(3), [[1, 1]]))
    sheet.step("spectral", matrix=third, sigma=dyadic(1), factor=vector([0]))
    assert sheet.code() == "UNSUPPORTED"


def test_spectral_reads_constants_only() -> None:
    """A division by the input elsewhere in the step does not matter to a stored matrix."""
    nodes = Nodes()
    w = nodes.constant(np.array([[F(1, 2)]], dtype=object))
    out = nodes.add("div", nodes.add("linear", nodes.state(), w), nodes.add("input"))
    sheet = Sheet(graph_json(nodes.function(out), given=real(1)))
    sheet.step("spectral", matrix=w, sigma=dyadic(F(1, 2)), factor=vector([0]))
    assert sheet.code() == ACCEPTED


def test_a_spectral_bound_is_no_claim() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]]))
    step = sheet.step("spectral", matrix=1, sigma=dyadic(F(1, 2)), factor=vector([0]))
    assert sheet.claim_contraction(step, F(1, 2), sheet.block(1)).code() == "CLAIM"


# spectral_abs


def test_spectral_abs_accepts_a_perron_vector_exactly() -> None:
    w = [[F(1, 4), F(-1, 4)], [F(-1, 4), F(1, 4)]]  # |W| has the vector (1, 1) and the norm 1/2
    for sigma, code in ((F(1, 2), ACCEPTED), (F(1, 2) - ULP, "INEQUALITY")):
        sheet = Sheet(linear_model(w))
        step = sheet.step("spectral_abs", matrix=1, sigma=dyadic(sigma), vector=vector([1, 1]))
        sheet.step(
            "radius_contraction", step, domain=sheet.point(), region=sheet.all(), norm=sheet.l2(2), rate=dyadic(F(1, 2))
        )
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("sigma", "v", "code"),
    [
        (F(1), [1, 0], "WITNESS"),  # fools v ≥ 0
        (F(1), [1, -1], "WITNESS"),
        (F(1), [1, 1], "INEQUALITY"),
        (F(-100), [1, 1], "WITNESS"),
        (F(100), [1], "NUMBER"),
        (F(100), [1, 1, 1], "NUMBER"),
        (F(100), [1, 1], ACCEPTED),
    ],
)
def test_spectral_abs_on_a_diagonal_matrix(sigma: F, v: list[int], code: str) -> None:
    sheet = Sheet(linear_model([[F(1), F(0)], [F(0), F(100)]]))
    sheet.step("spectral_abs", matrix=1, sigma=dyadic(sigma), vector=vector(v))
    assert sheet.code() == code


def test_spectral_abs_takes_wide_matrices_and_no_premises() -> None:
    nodes = Nodes()
    w = nodes.constant(np.array([[F(1), F(2)]], dtype=object))
    inner = nodes.add("linear", nodes.state(), w)
    out = nodes.add("linear", inner, nodes.constant(np.array([[F(0)], [F(0)]], dtype=object)))
    sheet = Sheet(graph_json(nodes.function(out), [[2]]))
    first = sheet.step("spectral_abs", matrix=w, sigma=dyadic(F(9, 4)), vector=vector([1, 2]))
    assert sheet.code() == ACCEPTED
    sheet.step("spectral_abs", first, matrix=w, sigma=dyadic(F(9, 4)), vector=vector([1, 2]))
    assert sheet.code() == "PREMISE"


# radius_contraction


def test_the_exact_rate_is_accepted_and_one_unit_less_is_not() -> None:
    w = [[F(1, 2), F(10)], [F(0), F(1, 2)]]  # expands in plain ℓ∞, contracts at 3/4 in weights (40, 1)
    for weights, rate, code in (
        ((40, 1), F(3, 4), ACCEPTED),
        ((40, 1), F(3, 4) - ULP, "INEQUALITY"),
        ((1, 1), F(3, 4), "INEQUALITY"),
        ((1, 1), 1 - ULP, "INEQUALITY"),
    ):
        sheet = Sheet(linear_model(w, [F(3), F(-5)], "tanh"))
        sheet.contraction(rate, sheet.block(*weights))
        assert sheet.code() == code


@pytest.mark.parametrize("rate", [F(1), 1 + ULP, F(-1, 2), -ULP, F(7)])
def test_a_rate_lies_in_zero_to_one(rate: F) -> None:
    sheet = Sheet(linear_model([[F(0)]]))
    sheet.contraction(rate, sheet.block(1))
    assert sheet.code() == "RATE"


def test_rate_zero_is_a_rate() -> None:
    sheet = Sheet(linear_model([[F(0)]], [F(3)]))
    step = sheet.contraction(0, sheet.block(1))
    assert sheet.claim_contraction(step, 0, 0).check().claims


@pytest.mark.parametrize(
    ("matrix", "activation"),
    [
        ([[F(1)]], None),
        ([[F(1)]], "relu"),
        ([[1 + F(1, 2**30)]], None),
        ([[F(2)]], "tanh"),
        ([[F(-1)]], "sin"),
        ([[F(15, 16)]], "gelu"),  # slope 1.1289
    ],
)
def test_what_does_not_contract_on_the_whole_line(matrix: Any, activation: str | None) -> None:
    sheet = Sheet(linear_model(matrix, None, activation))
    sheet.contraction(1 - ULP, sheet.block(1))
    assert sheet.code() == "INEQUALITY"


def test_rotations_need_a_spectral_bound_in_l2() -> None:
    sheet = Sheet(linear_model(ROTATION))
    norm = sheet.l2(2)
    sheet.contraction(F(7, 8), norm)
    assert sheet.code() == "INEQUALITY"
    sheet.steps.clear()
    bound = spectral_step(sheet, ROTATION, F(7, 8), factor=zero_factor(2))
    sheet.step("radius_contraction", bound, domain=sheet.point(), region=sheet.all(), norm=norm, rate=dyadic(F(7, 8)))
    assert sheet.code() == ACCEPTED


def test_a_local_rate_holds_on_its_region_only() -> None:
    """z ↦ z²/2 on [-1/2, 1/2] contracts at 1/2, on [-1, 1] not at all."""
    nodes = Nodes()
    z = nodes.state()
    step = nodes.function(nodes.scale(nodes.add("mul", z, z), 1, 2))
    for half, rate, code in (
        (F(1, 2), F(1, 2), ACCEPTED),
        (F(1, 2), F(1, 2) - ULP, "INEQUALITY"),
        (F(1), 1 - ULP, "INEQUALITY"),
    ):
        sheet = Sheet(graph_json(step))
        sheet.contraction(rate, sheet.block(1), sheet.box(-half, half))
        assert sheet.code() == code
    sheet = Sheet(graph_json(step))
    sheet.contraction(F(1, 2), sheet.block(1))
    assert sheet.code() == "UNSUPPORTED"


def test_the_gain_of_a_gate_is_taken_over_the_whole_domain() -> None:
    """x ∘ z / 2 with x in [0, b]: rate b/2."""
    nodes = Nodes()
    step = nodes.function(nodes.scale(nodes.add("mul", nodes.state(), nodes.add("input")), 1, 2))
    for top, code in ((1, ACCEPTED), (F(1) + ULP, "INEQUALITY"), (4, "INEQUALITY")):
        sheet = Sheet(graph_json(step, given=real(1)))
        sheet.contraction(F(1, 2), sheet.block(1), domain=sheet.box(0, top, "input"))
        assert sheet.code() == code
    sheet = Sheet(graph_json(step, given=real(1)))
    sheet.contraction(F(1, 2), sheet.block(1), domain=sheet.all("input"))
    assert sheet.code() == "UNSUPPORTED"


@pytest.mark.parametrize(("bounds", "code"), [((1, 2), ACCEPTED), ((-1, 1), "UNSUPPORTED")])
def test_a_step_that_is_undefined_for_some_input_is_refused(bounds: tuple[int, int], code: str) -> None:
    nodes = Nodes()
    inverse = nodes.add("div", nodes.constant([F(1)]), nodes.add("input"))
    step = nodes.function(nodes.add("relu", nodes.add("add", nodes.scale(nodes.state(), 1, 2), inverse)))
    sheet = Sheet(graph_json(step, given=real(1)))
    sheet.contraction(F(1, 2), sheet.block(1), domain=sheet.box(*bounds, space="input"))
    assert sheet.code() == code


def test_integer_inputs_range_over_the_vocabulary() -> None:
    """The gain is the largest entry of the table: 1/2 for tokens 0 and 1, 2 for token 2."""
    nodes = Nodes()
    table = nodes.constant(np.array([[F(1, 2)], [F(-1, 2)], [F(2)]], dtype=object))
    gate = nodes.add("reshape", nodes.add("embedding", nodes.add("input"), table), shape=[1])
    step = nodes.function(nodes.add("mul", nodes.state(), gate))
    model = graph_json(step, given={"shape": [1], "kind": "integer", "size": 3})
    for domain, code in ((lambda s: s.box(0, 1, "input"), ACCEPTED), (lambda s: s.all("input"), "INEQUALITY")):
        sheet = Sheet(model)
        sheet.contraction(F(1, 2), sheet.block(1), domain=domain(sheet))
        assert sheet.code() == code
    for lo, hi in ((F(1, 4), F(3, 4)), (-1, 0), (1, 3)):
        sheet = Sheet(model)
        sheet.contraction(F(1, 2), sheet.block(1), domain=sheet.box(lo, hi, "input"))
        assert sheet.code() == "BOX"


def test_radius_contraction_rejects_other_norms_boxes_and_premises() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]]))
    sheet.contraction(F(1, 2), sheet.metric([F(1)], 1))
    assert sheet.code() == "NORM"

    sheet = Sheet(linear_model([[F(1, 2)]], given=real(1)))
    sheet.contraction(F(1, 2), sheet.block(1), region=sheet.all("input"), domain=sheet.all("input"))
    assert sheet.code() == "BOX"
    sheet.steps.clear()
    sheet.contraction(F(1, 2), sheet.block(1), region=sheet.all(), domain=sheet.all())
    assert sheet.code() == "BOX"

    sheet = Sheet(linear_model([[F(1, 2)]]))
    first = sheet.contraction(F(1, 2), sheet.block(1))
    sheet.step("radius_contraction", first, domain=0, region=1, norm=0, rate=dyadic(F(1, 2)))
    assert sheet.code() == "PREMISE"


@pytest.mark.parametrize(
    "premises", [[0], [1], [-1], [True], ["0"], [None]], ids=["self", "later", "negative", "bool", "text", "null"]
)
def test_premises_are_earlier_steps(premises: list[Any]) -> None:
    sheet = Sheet(linear_model([[F(1, 2)]]))
    sheet.contraction(F(1, 2), sheet.block(1))
    sheet.steps[0]["premises"] = premises
    assert sheet.code() == "PREMISE"


def test_several_spectral_bounds_of_one_matrix_count_with_the_smallest() -> None:
    sheet = Sheet(linear_model(ROTATION))
    bounds = [
        spectral_step(sheet, ROTATION, s, factor=f)
        for s, f in ((F(1), vector([F(1, 4), 0, F(1, 4)])), (F(7, 8), zero_factor(2)))
    ]
    sheet.step(
        "radius_contraction", *bounds, domain=sheet.point(), region=sheet.all(), norm=sheet.l2(2), rate=dyadic(F(7, 8))
    )
    assert sheet.code() == ACCEPTED


# damping


def damped(sheet: Sheet, step: int, *alpha: Any) -> int:
    return sheet.step("damping", step, alpha=vector(alpha))


@pytest.mark.parametrize(("alpha", "rate"), [([F(1, 4)], F(7, 8)), ([1], F(1, 2)), ([F(1, 2), F(1, 8)], F(15, 16))])
def test_damping_slows_a_contraction_to_exactly_this_rate(alpha: list[F], rate: F) -> None:
    for slack, ok in ((F(0), True), (-ULP, False)):
        sheet = Sheet(linear_model([[F(1, 2), F(0)], [F(0), F(1, 4)]]))
        norm = sheet.block(1, 1)
        step = damped(sheet, sheet.contraction(F(1, 2), norm), *alpha)
        sheet.claim_contraction(step, rate + slack, norm, operator={"outer_damped": vector(alpha)})
        if ok:
            assert sheet.check().claims
        else:
            assert sheet.code() == "CLAIM"


def test_one_damping_factor_for_all_is_the_same_operator_as_equal_ones() -> None:
    sheet = Sheet(linear_model([[F(1, 2), F(0)], [F(0), F(1, 4)]]))
    norm = sheet.block(1, 1)
    step = damped(sheet, sheet.contraction(F(1, 2), norm), F(1, 4))
    operator = {"outer_damped": vector([F(1, 4), F(1, 4)])}
    assert sheet.claim_contraction(step, F(7, 8), norm, operator=operator).check().claims


def test_damping_rejects_factors_that_vary_inside_a_group() -> None:
    """.9 times a rotation, damped by (1, .1): an expansion by 1.274."""
    sheet = Sheet(linear_model(ROTATION))
    bound = spectral_step(sheet, ROTATION, F(7, 8), factor=zero_factor(2))
    step = sheet.step(
        "radius_contraction", bound, domain=sheet.point(), region=sheet.all(), norm=sheet.l2(2), rate=dyadic(F(7, 8))
    )
    damped(sheet, step, 1, F(1, 8))
    assert sheet.code() == "WITNESS"
    sheet.steps.pop()
    damped(sheet, step, F(1, 8), F(1, 8))
    assert sheet.code() == ACCEPTED


@pytest.mark.parametrize("alpha", [[0], [-1], [1 + ULP], [F(1, 2), 0], [F(1, 2)] * 3, []])
def test_damping_rejects_factors_outside_zero_to_one(alpha: list[Any]) -> None:
    sheet = Sheet(linear_model([[F(1, 2), F(0)], [F(0), F(1, 4)]]))
    damped(sheet, sheet.contraction(F(1, 2), sheet.block(1, 1)), *alpha)
    assert sheet.code() == "OPERATOR"


def test_damping_rejects_other_premises() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]]))
    step = sheet.contraction(F(1, 2), sheet.block(1))
    first = damped(sheet, step, F(1, 2))
    damped(sheet, first, F(1, 2))
    assert sheet.code() == "CONTEXT"  # a damped operator
    sheet.steps = sheet.steps[:1]
    damped(sheet, sheet.step("at_most_one", step), F(1, 2))
    assert sheet.code() == "PREMISE"
    sheet.steps = sheet.steps[:1]
    sheet.step("damping", alpha=vector([F(1, 2)]))
    assert sheet.code() == "PREMISE"
    sheet.steps = sheet.steps[:1]
    sheet.step("damping", step, step, alpha=vector([F(1, 2)]))
    assert sheet.code() == "PREMISE"


def test_damping_rejects_a_metric_norm() -> None:
    sheet = Sheet(linear_model([[F(1, 2)]]))
    step = sheet.step(
        "metric_contraction",
        domain=sheet.point(),
        region=sheet.all(),
        norm=sheet.metric([F(1)], 1),
        rate=dyadic(F(1, 2)),
        multipliers=vector([]),
        factor=vector([0]),
        norm_factor=vector([0]),
    )
    assert sheet.code() == ACCEPTED
    damped(sheet, step, F(1, 2))
    assert sheet.code() == "CONTEXT"


def test_the_model_of_a_certificate_is_the_one_that_is_read() -> None:
    """The helper's own graph: node 1 of `linear_step` is W."""
    assert linear_step([[F(1)]])["nodes"][1]["op"] == "constant"
