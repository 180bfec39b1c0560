"""R3: `metric_contraction`."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest

from tests.kernel.certificates import ACCEPTED, Sheet, factor_of, graph_json, linear_model, real, zero_factor
from tests.kernel.graphs import Json, Nodes, dyadic, vector

ULP = F(1, 2**60)
Matrix = Any


def exact(m: Matrix, bits: int = 30) -> Matrix:
    return np.array([[F(round(float(v) * 2**bits), 2**bits) for v in row] for row in m], dtype=object)


def step_of(
    sheet: Sheet, norm: int, rate: Any, m: Matrix, multipliers: Any = (), norm_matrix: Matrix = None, **change: Any
) -> int:
    """A metric_contraction whose contraction matrix is about `m` (floats) and P − pI about `norm_matrix`."""
    witness = {
        "domain": change.pop("domain", None),
        "region": change.pop("region", None),
        "norm": norm,
        "rate": dyadic(rate),
        "multipliers": vector(multipliers),
        "norm_factor": None if norm_matrix is None else factor_of(norm_matrix),
    }
    witness["domain"] = sheet.point() if witness["domain"] is None else witness["domain"]
    witness["region"] = sheet.all() if witness["region"] is None else witness["region"]
    premises = change.pop("premises", ())
    if "factor" not in change:
        witness["factor"] = factor_of(m)
    return sheet.step("metric_contraction", *premises, **(witness | change))


def jordan() -> tuple[Matrix, Matrix, float]:
    """A Jordan block of radius 1/2 and a metric in which it contracts at 3/4."""
    w = np.array([[0.5, 4.0], [0.0, 0.5]])
    p = np.diag([1.0, 512.0])
    return w, p, 0.75


def test_a_jordan_block_contracts_in_its_metric() -> None:
    w, p, rate = jordan()
    sheet = Sheet(linear_model(exact(w), [F(1), F(-9)]))
    norm = sheet.metric(exact(p), F(1, 2))
    m = rate**2 * p - w.T @ p @ w
    step = step_of(sheet, norm, F(3, 4), m, norm_matrix=p - 0.5 * np.eye(2))
    assert sheet.claim_contraction(step, F(3, 4), norm).check().claims
    sheet.claims.clear()
    assert sheet.claim_contraction(step, F(3, 4) - ULP, norm).code() == "CLAIM"


def test_a_rate_below_the_spectral_radius_is_definite_for_no_factor() -> None:
    w, p, _ = jordan()
    for factor in (zero_factor(2), vector([F(1, 8), 0, F(1, 8)])):
        sheet = Sheet(linear_model(exact(w)))
        step_of(
            sheet, sheet.metric(exact(p), F(1, 2)), F(1, 2) - ULP, None, norm_matrix=p - 0.5 * np.eye(2), factor=factor
        )
        assert sheet.code() == "DEFINITE"


def sandwich(seed: int, rho: float, n: int = 3, h: int = 5) -> tuple[Matrix, Matrix, Matrix]:
    """W₁, W₂ of z ↦ W₂ ReLU(W₁ z) at rate rho (Wang & Manchester), and Ψ²."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n + h, n + h)))
    a, b = q[:n, :h], q[:h, h:]
    # [A B] with A Aᵀ + B Bᵀ = I: take the first h rows of an orthogonal matrix
    a, b = q[:h, :h], q[:h, h:]
    psi = np.exp(rng.standard_normal(h) / 2)
    w1 = np.sqrt(2) * np.diag(1 / psi) @ b
    w2 = rho * np.sqrt(2) * (a.T @ np.diag(psi))[:n]
    return w1, w2, psi**2


def two_layers(w1: Matrix, w2: Matrix, activation: str = "relu", **attrs: Any) -> Json:
    nodes = Nodes()
    hidden = nodes.add(activation, nodes.add("linear", nodes.state(), nodes.constant(exact(w1))), **attrs)
    return graph_json(nodes.function(nodes.add("linear", hidden, nodes.constant(exact(w2)))), [[len(w2)]])


def two_layer_matrix(w1: Matrix, w2: Matrix, rate: float, lam: Matrix) -> Matrix:
    w1, w2 = exact(w1).astype(float), exact(w2).astype(float)
    cross = -np.diag(lam) @ w1
    return np.block([[rate**2 * np.eye(w1.shape[1]), cross.T], [cross, 2 * np.diag(lam) - w2.T @ w2]])


@pytest.mark.parametrize("seed", range(3))
def test_a_sandwich_step_is_proved_at_its_design_rate(seed: int) -> None:
    rho = 0.9
    rate = F(round(rho * (1 + 1e-5) * 2**40), 2**40)
    w1, w2, psi2 = sandwich(seed, rho)
    lam = np.array([float(F(round(rho * float(rate) * v * 2**30), 2**30)) for v in psi2])
    m = two_layer_matrix(w1, w2, float(rate), lam)
    sheet = Sheet(two_layers(w1, w2))
    norm = sheet.l2(3)
    step = step_of(sheet, norm, rate, m, [F(v) for v in lam])
    assert sheet.claim_contraction(step, rate, norm).check().claims


def wide(activation: str = "relu", rate: Any = F(7, 8), lam: Any = (1, 1), **change: Any) -> Sheet:
    """φ(Wz), ‖W‖₂ = 3/4, slopes in [0, 1]: [[ρ²I, −λWᵀ], [−λW, (2λ − 1)I]] is definite at λ = 1 for ρ > 3/4."""
    w = np.array([[0.0, -0.75], [0.75, 0.0]])
    nodes = Nodes()
    attrs = change.pop("attrs", {})
    out = nodes.add(activation, nodes.add("linear", nodes.state(), nodes.constant(exact(w))), **attrs)
    sheet = Sheet(graph_json(nodes.function(out), [[2]]))
    norm = change.pop("norm", lambda s: s.l2(2))(sheet)
    m = np.block([[float(F(7, 8)) ** 2 * np.eye(2), -w.T], [-w, np.eye(2)]])
    step_of(sheet, norm, rate, m, lam, **change)
    return sheet


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_activations_with_slopes_in_zero_to_one(activation: str) -> None:
    assert wide(activation).code() == ACCEPTED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rate": F(1)}, "RATE"),
        ({"rate": F(-7, 8)}, "RATE"),  # ρ² hides the sign
        ({"rate": F(1, 2)}, "DEFINITE"),
        ({"lam": (1, -1)}, "WITNESS"),
        ({"lam": (0, 0)}, "DEFINITE"),
        ({"lam": (8, 8)}, "DEFINITE"),
        ({"lam": (1,)}, "WITNESS"),
        ({"lam": (1, 1, 1)}, "WITNESS"),
        ({"factor": vector([0] * 9)}, "NUMBER"),
        ({"factor": vector([9] + [0] * 9)}, "DEFINITE"),
        ({"norm_factor": zero_factor(2)}, "NORM"),  # a block norm takes none
        ({"norm": lambda s: s.block(1, 1)}, "NORM"),  # groups of one
        ({"activation": "gelu"}, "DEFINITE"),  # slopes up to 1.1289
        ({"activation": "silu"}, "DEFINITE"),
        ({"activation": "abs"}, "DEFINITE"),  # slopes in [-1, 1] need another multiplier
        ({"activation": "sin"}, "DEFINITE"),
        ({"activation": "softmax"}, "UNSUPPORTED"),
        ({"activation": "rms_norm", "attrs": {"eps": dyadic(1)}}, "UNSUPPORTED"),
        ({"extra": None}, "FIELD"),
    ],
)
def test_metric_contraction_rejects(change: dict[str, Any], code: str) -> None:
    assert wide(**change).code() == code


def test_metric_contraction_takes_no_premises() -> None:
    sheet = wide()
    sheet.steps.append(sheet.steps[0] | {"premises": [0]})
    assert sheet.code() == "PREMISE"


def test_sectors_of_both_signs() -> None:
    """sin(Wz), ‖W‖ = 3/4, slopes in [-1, 1]: [[ρ²I − 2λWᵀW, 0], [0, (2λ − 1)I]] is definite for λ just above 1/2."""
    w = np.array([[0.0, -0.75], [0.75, 0.0]])
    lam = 0.53125
    for op in ("sin", "abs"):
        nodes = Nodes()
        out = nodes.add(op, nodes.add("linear", nodes.state(), nodes.constant(exact(w))))
        for rate, code in ((F(7, 8), ACCEPTED), (F(3, 4) - ULP, "DEFINITE")):
            sheet = Sheet(graph_json(nodes.function(out), [[2]]))
            m = np.block(
                [
                    [((7 / 8) ** 2 - 2 * lam * 0.75**2) * np.eye(2), np.zeros((2, 2))],
                    [np.zeros((2, 2)), (2 * lam - 1) * np.eye(2)],
                ]
            )
            step_of(sheet, sheet.l2(2), rate, m, [F(lam)] * 2)
            assert sheet.code() == code


def test_sectors_come_from_the_region() -> None:
    """tanh(2z) expands near 0, but on [1, 2] its slope is at most 2(1 − tanh² 2)."""
    nodes = Nodes()
    step = nodes.function(
        nodes.add("tanh", nodes.add("linear", nodes.state(), nodes.constant(np.array([[F(2)]], dtype=object))))
    )
    a, b = 1 - np.tanh(4.0) ** 2, 1 - np.tanh(2.0) ** 2
    lam = 1.0
    m = np.array([[0.25 + 8 * lam * a * b, -2 * lam * (a + b)], [-2 * lam * (a + b), 2 * lam - 1]])
    for region, code in (
        (lambda s: s.box(1, 2), ACCEPTED),
        (lambda s: s.box(0, 2), "DEFINITE"),
        (lambda s: s.all(), "DEFINITE"),
    ):
        sheet = Sheet(graph_json(step))
        step_of(sheet, sheet.l2(1), F(1, 2), m, [F(lam)], region=region(sheet))
        assert sheet.code() == code


@pytest.mark.parametrize(
    ("matrix", "floor", "norm_factor", "code"),
    [
        ([-1], 1, zero_factor(1), "DEFINITE"),  # P = −I turns an expansion into a "contraction"
        ([0], 1, zero_factor(1), "DEFINITE"),
        ([1], 1 + ULP, zero_factor(1), "DEFINITE"),
        ([1], 1, None, "FIELD"),
        ([1], 1, vector([]), "NUMBER"),
        ([1], 1, vector([1]), "DEFINITE"),
        ([1], 0, zero_factor(1), "NORM"),
        ([1], -1, zero_factor(1), "NORM"),
        ([1], 1, zero_factor(1), "DEFINITE"),  # a sound P, and the map really expands
    ],
)
def test_an_expansion_is_not_saved_by_its_metric(matrix: Any, floor: Any, norm_factor: Any, code: str) -> None:
    sheet = Sheet(linear_model([[F(2)]]))
    step_of(sheet, sheet.metric(matrix, floor), F(1, 2), None, factor=vector([1]), norm_factor=norm_factor)
    assert sheet.code() == code


def test_an_asymmetric_metric_is_refused() -> None:
    sheet = Sheet(linear_model([[F(1, 2), F(0)], [F(0), F(1, 2)]]))
    step_of(
        sheet,
        sheet.metric([1, -1, -100, 100], F(1, 2)),
        F(1, 2),
        None,
        factor=zero_factor(2),
        norm_factor=zero_factor(2),
    )
    assert sheet.code() == "NORM"


def gated(op: str) -> Json:
    nodes = Nodes()
    if op == "mul":
        out = nodes.add("mul", nodes.state(), nodes.add("input"))
    elif op == "max":
        out = nodes.add("max", nodes.state(), nodes.add("input"))
    else:
        out = nodes.scale(nodes.add("add", nodes.state(), nodes.add("input")), 1, 3)
    return graph_json(nodes.function(out), given=real(1))


@pytest.mark.parametrize("op", ["mul", "max", "third"])
def test_what_is_no_exact_linear_map_is_refused(op: str) -> None:
    sheet = Sheet(gated(op))
    step_of(
        sheet,
        sheet.l2(1),
        F(7, 8),
        None,
        multipliers=[0],
        factor=zero_factor(2),
        domain=sheet.box(F(1, 4), F(1, 2), "input"),
    )
    assert sheet.code() == "UNSUPPORTED"


def test_a_gate_of_one_input_is_an_exact_linear_map() -> None:
    for value, code in ((F(1, 2), ACCEPTED), (F(2), "DEFINITE")):
        sheet = Sheet(gated("mul"))
        step_of(sheet, sheet.l2(1), F(1, 2), None, factor=vector([0]), domain=sheet.point(value))
        assert sheet.code() == code


def test_input_subgraphs_do_not_count_as_units() -> None:
    nodes = Nodes()
    drive = nodes.add("tanh", nodes.scale(nodes.add("input"), 100))
    step = nodes.function(nodes.add("add", nodes.scale(nodes.state(), 1, 2), drive))
    sheet = Sheet(graph_json(step, given=real(1)))
    step_of(sheet, sheet.l2(1), F(1, 2), None, factor=vector([0]), domain=sheet.all("input"))
    assert sheet.code() == ACCEPTED


@pytest.mark.parametrize("seed", range(6))
def test_accepted_rates_hold_for_sampled_pairs(seed: int) -> None:
    """Whatever λ is tried on a random two-layer step, an accepted rate is never beaten by a pair of states."""
    rng = np.random.default_rng(seed)
    w1, w2 = exact(rng.standard_normal((4, 2)) / 4).astype(float), exact(rng.standard_normal((2, 4)) / 4).astype(float)
    points = rng.standard_normal((400, 2)) * 3
    images = np.maximum(points @ w1.T, 0) @ w2.T
    d_in = np.linalg.norm(points[:, None] - points[None], axis=-1)
    d_out = np.linalg.norm(images[:, None] - images[None], axis=-1)
    worst = (d_out[d_in > 0] / d_in[d_in > 0]).max()
    accepted = []
    for scale in (0.125, 0.25, 0.5, 1.0):
        for rate in (0.25, 0.5, 0.75, 0.96875):
            lam = np.full(4, scale)
            m = two_layer_matrix(w1, w2, rate, lam)
            definite = bool(np.linalg.eigvalsh(m)[0] > 1e-3)
            sheet = Sheet(two_layers(w1, w2))
            step_of(
                sheet,
                sheet.l2(2),
                F(rate),
                m if definite else None,
                [F(scale)] * 4,
                **({} if definite else {"factor": zero_factor(6)}),
            )
            code = sheet.code()
            assert code == (ACCEPTED if definite else "DEFINITE")
            if code == ACCEPTED:
                accepted.append(rate)
    assert all(worst <= rate for rate in accepted)
    assert accepted
