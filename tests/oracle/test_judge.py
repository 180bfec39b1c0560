"""The oracle finds what is false, keeps what is true, and evaluates as torch and the format say."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.corpus.sheet import canonical, changed_number, vector
from tests.oracle.evaluate import FLOAT, HIGH, Evaluator, norm_of, to_high
from tests.oracle.files import Model, read_claims, read_tensors, read_vector
from tests.oracle.judge import FALSE, TRUE, UNKNOWN, Judge, verdicts

ROOT = Path(__file__).resolve().parents[2] / "certificates"
CORPUS: dict[str, dict[str, Any]] = {
    Path(c["certificate"]).name.removesuffix(".trmcert.json"): c
    for c in json.loads((ROOT / "corpus.json").read_text(encoding="utf-8"))
}
GOOD = [name for name, case in CORPUS.items() if case["code"] is None]

# Refused certificates whose first false claim is false as a statement, not only unproved: the oracle must see it.
LIES = (
    "gelu_is_not_1_lipschitz", "residual_block", "square", "chord_about_the_centre", "clipped_radius", "steep_softmax",
    "steep_rms_norm", "linf_to_l2", "permuted_groups", "transposed_softmax", "softmax_from_the_right",
    "repeated_softmax_column", "unequal_token_weights", "two_heads", "division_by_zero", "barely_expanding",
    "local_rate_everywhere", "ulp_linf", "ulp_weighted_linf", "ulp_l2", "ulp_mixed_tokens", "ulp_metric",
    "ulp_claimed_rate", "vector_with_a_zero", "monotone_residual", "monotone_scaled", "monotone_two_layers",
    "monotone_abs", "monotone_m_zero", "log_norm_one", "log_norm_unclipped", "log_norm_overshoot",
    "damping_inside_a_group", "invariant_smaller_box", "start_outside_the_ball", "invariance_of_another_operator",
    "contraction_on_fewer_inputs", "constant_below_one", "centre_outside_the_region", "init_outside_the_start",
    "damped_residual", "wrong_answer", "answer_too_early", "answer_claimed_early", "answer_at_wrong",
    "answer_before_entry", "answer_on_the_box", "tie", "answer_of_the_undamped_loop", "run_drift", "run_other_state",
    "enclosure_of_the_identity", "unique_of_three", "exactly_one_from_existence", "at_most_one_from_existence",
    "the_one_from_existence", "unique_with_a_smooth_bend", "scale_negative", "located_outside_the_region",
    "located_among_many", "located_by_existence", "encloses_smaller_box", "encloses_all_larger_region",
    "encloses_more_inputs", "at_most_one_of_a_region", "argument_without_its_state", "continuity_over_integers",
    "fixed_point_tie", "answer_of_one_of_three", "fixed_point_wrong_answer", "fixed_point_answer_everywhere",
    "fixed_point_answer_claimed", "loop_answer_from_fixed_point", "loop_answer_without_convergence",
    "loop_answer_of_another_operator", "loop_answer_of_another_fixed_point", "loop_answer_from_outside",
    "loop_answer_too_early", "joined_answers_at_a_depth", "commits_above_less", "commits_above_more",
    "commits_claimed_early", "commits_claimed_for_more", "commits_to_something_else", "commits_another_blank",
    "commits_for_every_input", "commits_is_no_answer", "commits_too_early", "commits_too_late",
    "commits_in_another_order", "commits_what_is_not_sure", "commits_the_wrong_class", "commits_and_answers_otherwise",
    "commits_and_contradicts_what_is_given", "commits_before_it_has_begun", "commits_at_the_threshold",
    "commits_to_a_tie", "commits_what_is_given", "commits_with_a_gap",
)  # fmt: skip
# Refusals of refutations that are false as well, and of existence where nothing is fixed: no search confirms them.
UNCONFIRMED = (
    "enclosure_without_preconditioner", "enclosure_elsewhere", "located_without_existence", "one_of_none",
    "answer_where_nothing_is_fixed", "exactly_one_part_of_the_box", "continuity_of_at_most_one",
    "two_fixed_points_without_existence", "two_fixed_points_of_two_halves", "box_beside_a_fixed_point_at_a_third",
    "fixed_point_at_a_third_beside_a_box", "refuted_proved_answer", "refuted_loop_answer", "refuted_by_one_depth",
    "no_fixed_point_where_there_is_one", "no_fixed_point_at_most_one", "cycle_of_a_fixed_point", "cycle_that_is_none",
    "cycle_of_the_slow_loop", "pair_against_convergence", "pair_other_norm", "pair_larger_rate",
    "pair_at_another_input",
)  # fmt: skip
NO_FIXED_POINT = ("contraction_alone", "box_not_invariant", "radius_not_invariant", "exactly_one_smaller_box")


def files(name: str) -> tuple[bytes, bytes]:
    case = CORPUS[name]
    return (ROOT / case["certificate"]).read_bytes(), (ROOT / case["weights"]).read_bytes()


@pytest.mark.parametrize("name", LIES)
def test_false_statements_are_called_false(name: str) -> None:
    assert FALSE in [verdict.value for _, verdict in verdicts(*files(name))]


@pytest.mark.parametrize("name", NO_FIXED_POINT)
def test_a_missing_fixed_point_is_never_called_true(name: str) -> None:
    found = {claim.name: verdict.value for claim, verdict in verdicts(*files(name))}
    assert found["exactly_one"] == UNKNOWN


@pytest.mark.parametrize("name", GOOD)
def test_good_certificates_are_true(name: str) -> None:
    assert [(c.name, v) for c, v in verdicts(*files(name)) if v.value != TRUE] == []


@pytest.mark.parametrize("name", UNCONFIRMED)
def test_what_is_not_so_is_not_confirmed(name: str) -> None:
    assert {verdict.value for _, verdict in verdicts(*files(name))} != {TRUE}


# numbers of good certificates, each made false by a small change
CHANGES = [
    ("linf_affine", 0, "rate", Fraction(1 - 2**-20)), ("l2_rotation", 0, "rate", Fraction(1 - 2**-40)),
    ("weighted_linf_tanh", 0, "rate", Fraction(99, 100)), ("mixed_attention", 0, "rate", Fraction(999, 1000)),
    ("metric_jordan", 0, "rate", Fraction(99, 100)), ("outer_damped", 0, "rate", Fraction(4, 5)),
    ("convolution", 0, "rate", Fraction(99, 100)), ("local_cosine", 0, "rate", Fraction(999, 1000)),
    ("linf_affine", 2, "constant", Fraction(1, 4)), ("local_ball", 3, "epsilon", Fraction(1, 1000)),
    ("l2_rotation", 2, "rate", Fraction(9, 10)), ("monotone_relu", 1, "rate", Fraction(99, 100)),
    ("log_norm_damped", 1, "rate", Fraction(9, 10)), ("weighted_linf_tanh", 4, "radius", Fraction(1, 4)),
    ("weighted_linf_tanh", 4, "distances", Fraction(1, 4)), ("weighted_linf_tanh", 4, "drifts", Fraction(1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "claim", "key", "factor"), CHANGES)
def test_a_number_that_is_too_small_is_noticed(name: str, claim: int, key: str, factor: Fraction) -> None:
    certificate, weights = files(name)
    document = json.loads(certificate)
    fields = document["predicate"]["claims"][claim]
    fields[key] = changed_number(fields[key], factor)
    model, claims = read_claims(canonical(document), weights)
    assert Judge(model).judge(claims[claim]).value == FALSE


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        ("fixed_point_one_sixth", 1),
        ("fixed_point_one_sixth", 2),
        ("fixed_point_one_sixth", 5),
        ("two_fixed_points_of_tanh", 0),
        ("monotone_rescaled", 2),
        ("continuity_of_a_damped_tanh", 1),
        ("joined_halves", 0),
    ],
)
def test_a_box_that_is_too_small_is_noticed(name: str, claim: int) -> None:
    """Only a sixty-fourth of it, at its lower end."""
    certificate, weights = files(name)
    document = json.loads(certificate)
    predicate = document["predicate"]
    box = predicate["boxes"][predicate["claims"][claim]["box"]]
    lo, hi = read_vector(box["lo"]), read_vector(box["hi"])
    small = {"space": "state", "lo": box["lo"], "hi": vector([a + (b - a) / 64 for a, b in zip(lo, hi, strict=True)])}
    predicate["boxes"].append(small)
    predicate["claims"][claim]["box"] = len(predicate["boxes"]) - 1
    model, claims = read_claims(canonical(document), weights)
    assert Judge(model).judge(claims[claim]).value == FALSE


@pytest.mark.parametrize("name", GOOD)
def test_doubles_agree_with_240_bits(name: str) -> None:
    certificate, weights = files(name)
    model = Model(json.loads(certificate)["predicate"]["graph"], read_tensors(weights))
    rng = np.random.default_rng(1)
    z = rng.normal(size=(3, model.n))
    x = (
        rng.normal(size=(3, model.m))
        if model.vocabulary is None
        else rng.integers(0, model.vocabulary, (3, model.m)) * 1.0
    )
    fast, high = Evaluator(model, FLOAT), Evaluator(model, HIGH)
    np.testing.assert_allclose(fast.step(z, x), high.step(to_high(z), to_high(x)).astype(float), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fast.init(x), high.init(to_high(x)).astype(float), rtol=1e-12, atol=1e-12)
    if model.graph["readout"] is not None:
        np.testing.assert_allclose(fast.readout(z), high.readout(to_high(z)).astype(float), rtol=1e-12, atol=1e-12)


def test_the_convolution_is_that_of_torch() -> None:
    certificate, weights = files("convolution")
    model = Model(json.loads(certificate)["predicate"]["graph"], read_tensors(weights))
    kernel = torch.tensor(model.tensors["K"].astype(float)).reshape(1, 1, 3, 3)
    z, x = (torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    wanted = torch.tanh(torch.nn.functional.conv2d(z, kernel, padding=1) + x)
    found = Evaluator(model, FLOAT).step(z.reshape(2, 16).numpy(), x.reshape(2, 16).numpy())
    np.testing.assert_allclose(found, wanted.reshape(2, 16).numpy(), rtol=1e-12)


def test_norms() -> None:
    v = np.array([[3.0, 4.0, -2.0]])
    block = {"kind": "block", "runs": [[1, 2], [1, 1]], "weights": {"exp": 0, "int": "1 4"}}
    metric = {"kind": "metric", "matrix": {"exp": 0, "int": "1 0 0 0 1 0 0 0 9"}, "floor": {"exp": 0, "int": "1"}}
    for numbers, values in ((FLOAT, v), (HIGH, to_high(v))):
        assert float(norm_of(block, numbers)(values)[0]) == 5.0
        assert float(norm_of(metric, numbers)(values)[0]) == pytest.approx(61**0.5)


def test_the_reader_of_weights_agrees_with_the_reference() -> None:
    from safetensors.torch import load

    for name in GOOD:
        raw = files(name)[1]
        own = read_tensors(raw)
        for key, tensor in load(raw).items():
            assert own[key].astype(float).tolist() == tensor.double().tolist(), (name, key)
