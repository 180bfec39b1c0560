"""The second opinion contradicts false certificates: some script of each has a counterexample."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.corpus.changes import changed_weights, mantissa
from tests.obligations.scripts import BAD, answer, exported, files, needs_z3, scripts
from trm_verify.kernel.errors import CheckError
from trm_verify.obligations import Obligations, export

pytestmark = needs_z3

# One unit in the last place, and other false statements that only arithmetic tells from true ones.
FALSE = [
    *(name for name in BAD if name.startswith("ulp_")),
    "answer_before_entry", "answer_claimed_early", "answer_on_the_box", "answer_too_early", "ball_too_small",
    "commits_above_less", "commits_too_early", "commits_too_late", "commits_what_is_not_sure",
    "commits_the_wrong_class", "commits_at_the_threshold", "commits_not_at_the_threshold", "commits_to_a_tie",
    "commits_before_it_has_begun", "commits_without_a_rival", "commits_what_may_be_open",
    "commits_out_of_the_domain",
    "box_not_invariant", "bound_about_another_fixed_point", "centre_outside_the_region", "chord_about_the_centre",
    "clipped_radius", "continuity_beyond_the_box", "continuity_touches", "contraction_larger_region",
    "cycle_of_a_fixed_point", "cycle_off_the_orbit", "damped_residual", "encloses_smaller_box",
    "enclosure_not_rescaled", "enclosure_touches_the_border", "fixed_point_at_nearly", "fixed_point_at_rounded",
    "fixed_point_tie", "fixed_point_wrong_answer", "gelu_is_not_1_lipschitz", "init_outside_the_start",
    "inner_damping_small_sigma", "linf_to_l2", "local_rate_everywhere", "log_norm_one", "log_norm_unclipped",
    "loop_answer_too_early", "metric_below_spectral_radius", "metric_negative", "metric_singular", "metric_zero",
    "monotone_m_large", "multiplier_zero", "no_fixed_point_where_there_is_one", "pair_at_the_rate",
    "permuted_groups", "radius_not_invariant", "refuted_true_answer", "residual_block", "run_distance", "run_drift",
    "sigma_underestimated", "square", "start_at_the_corner", "start_outside_the_ball", "steep_rms_norm",
    "steep_softmax", "tie", "too_few_steps", "transposed_softmax", "two_boxes_that_meet", "two_heads",
    "unequal_token_weights", "unique_of_three", "wrong_answer",
]  # fmt: skip


def refused_first(made: Obligations) -> list[Any]:
    """The scripts, those of refused steps first: a counterexample is most likely there."""
    return sorted(scripts(made), key=lambda item: not item.refused)


@pytest.mark.parametrize("name", FALSE)
def test_a_false_certificate_has_a_counterexample(name: str, tmp_path: Path) -> None:
    made = exported(name)
    assert made.kernel
    assert any(answer(item.text, tmp_path) == "sat" for item in refused_first(made))


@pytest.mark.parametrize(
    "name", ["ulp_linf", "gelu_is_not_1_lipschitz", "box_not_invariant", "wrong_answer", "two_heads"]
)
def test_by_interval_arithmetic_too(name: str, tmp_path: Path) -> None:
    assert any(answer(item.text, tmp_path) == "sat" for item in refused_first(exported(name, -1)))


def changed(name: str, rng: Random) -> tuple[bytes, bytes]:
    """A golden certificate with one weight or one number of a witness changed, and digests that fit."""
    certificate, weights = files(name)
    statement = json.loads(certificate)
    predicate = statement["predicate"]
    if rng.random() < 0.5:
        weights = changed_weights(weights, rng)[1]
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(weights).hexdigest()
    else:
        numbers = [
            (table, key) for table in (*predicate["steps"], *predicate["norms"]) for key in NUMBERS if key in table
        ]
        table, key = rng.choice(numbers)
        if table[key] is not None and table[key]["int"]:
            entries = table[key]["int"].split()
            at = rng.randrange(len(entries))
            entries[at] = format(mantissa(int(entries[at], 16), rng), "x")
            table[key] = {**table[key], "int": " ".join(entries)}
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode(), weights


NUMBERS = ("rate", "sigma", "factor", "vector", "m", "multipliers", "weights")
# Rules whose inequality a script restates, neither more nor less.
SAME = {"spectral", "spectral_abs", "radius_contraction", "metric_contraction", "monotone", "log_norm"}
ARITHMETIC = re.compile(r"INEQUALITY|DEFINITE|RATE")
CHANGED = [
    "weighted_linf_reducible", "l2_rotation", "l2_non_negative", "mixed_parts", "mixed_attention", "metric_jordan",
    "metric_two_layers", "monotone_relu", "log_norm_damped", "searched_l2", "row_norms", "convolution",
]  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_kernel_and_solver_agree_about_changed_certificates(name: str, tmp_path: Path) -> None:
    rng, compared = Random(sum(map(ord, name))), set()
    for _ in range(40):
        try:
            made = export(*changed(name, rng))
        except CheckError:  # a norm without positive weights, say
            continue
        for item in scripts(made):
            by_arithmetic = ARITHMETIC.match(item.refused) is not None
            if item.rule in SAME and not item.of_claim and (not item.refused or by_arithmetic):
                assert answer(item.text, tmp_path) == ("sat" if item.refused else "unsat"), item.text[:2000]
                compared.add(bool(item.refused))
    assert compared == {True, False}
