"""The published JSON Schema against the corpora, and against the tables of the kernel."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from trm_verify.kernel.check import CLAIMS
from trm_verify.kernel.graph import SHAPES
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.rules import RULES

ROOT = Path(__file__).resolve().parent.parent / "certificates"
CORPUS: list[dict[str, Any]] = json.loads((ROOT / "corpus.json").read_text(encoding="utf-8"))

# What is wrong with these is their shape, so the schema must see it as the kernel does. (A schema cannot read duplicate
# keys, nesting or spellings of JSON numbers: those certificates do not reach it.)
STRUCTURAL = (
    "semantics_binary32", "semantics_missing", "unknown_key", "flag_robust", "claim_without_rate", "boolean_index",
    "steps_object", "line_break_in_name", "predicate_type_v2", "statement_type", "two_subjects", "hex_upper_case",
    "hex_leading_zero", "hex_minus_zero", "hex_prefix", "hex_underscore", "hex_line_break", "hex_empty",
    "vector_two_spaces", "exponent_beyond_limit", "digits_as_integer", "negative_index", "digest_upper_case",
    "tensor_listed_twice", "no_claims", "steps_without_claim", "unknown_rule", "premise_negative", "unknown_claim",
    "box_space", "box_all_false", "norm_kind", "unknown_operation", "negative_reference", "arity", "no_state",
    "graph_without_readout", "axis_of_size_0", "operator_unknown", "label_negative", "enclosure_unique_1",
    "enclosure_with_premise", "located_alone", "encloses_without_box", "duality_alone", "sign_0", "sign_2",
    "continuity_alone", "continuity_of_two", "loop_answer_negative", "loop_answer_alone", "joined_alone",
    "rational_as_vector", "fixed_point_at_with_premise", "one_fixed_point", "other_answer_alone", "cycle_of_period_1",
    "cycle_of_period_65", "cycle_with_premise", "pair_with_premise", "refutation_of_nothing",
    "refutation_without_domain", "refutation_without_operator",
)  # fmt: skip


@cache
def validator() -> Draft202012Validator:
    schema = json.loads((ROOT / "schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(path: str) -> list[str]:
    document = json.loads((ROOT / path).read_bytes())
    return [f"{list(e.path)}: {e.message[:200]}" for e in validator().iter_errors(document)]


def good() -> list[str]:
    return [case["certificate"] for case in CORPUS if case["code"] is None]


@pytest.mark.parametrize("path", good())
def test_good_certificates_satisfy_the_schema(path: str) -> None:
    assert problems(path) == []


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_errors_do_not(name: str) -> None:
    assert problems(f"bad/{name}.trmcert.json") != []


def _enumerated(definition: dict[str, Any], key: str) -> set[str]:
    names: set[str] = set()
    for option in definition["oneOf"]:
        given = option["properties"][key]
        names.update(given.get("enum", [given.get("const")]))
    return names


def test_the_schema_lists_the_rules_claims_and_operations_of_the_kernel() -> None:
    definitions = json.loads((ROOT / "schema.json").read_text(encoding="utf-8"))["$defs"]
    assert _enumerated(definitions["step"], "rule") == set(RULES)
    assert _enumerated(definitions["claim"], "claim") == set(CLAIMS)
    leaves = {"state", "input", "tensor", "constant", "concat"}
    assert _enumerated(definitions["node"], "op") == leaves | set(LAYOUTS) | set(SHAPES)


def test_every_good_step_loses_its_place_when_a_key_is_added_or_removed() -> None:
    own = validator().evolve(schema={"$ref": "#/$defs/step", **{"$defs": validator().schema["$defs"]}})  # type: ignore[index]
    for path in good():
        steps = json.loads((ROOT / path).read_bytes())["predicate"]["steps"]
        for step in {step["rule"]: step for step in steps}.values():
            assert own.is_valid(step)
            assert not own.is_valid({**step, "note": 1})
            for key in step:
                assert not own.is_valid({k: v for k, v in step.items() if k != key})
