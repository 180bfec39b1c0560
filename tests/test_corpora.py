"""The golden certificates keep their verdict, the refusals their code, and together they cover the format."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.build import ROOT, SEARCHED, build, committed
from tests.corpus.registers import BAD, GOOD
from trm_verify.kernel.__main__ import main
from trm_verify.kernel.check import CLAIMS, check
from trm_verify.kernel.document import MAX_BYTES
from trm_verify.kernel.errors import CODES, CheckError
from trm_verify.kernel.graph import SHAPES
from trm_verify.kernel.layout import LAYOUTS
from trm_verify.kernel.rules import RULES

PROOFS = ROOT.parent / "proofs"
CORPUS: list[dict[str, Any]] = json.loads((ROOT / "corpus.json").read_text(encoding="utf-8"))
VALID = [case for case in CORPUS if case["code"] is None]
REFUSED = [case for case in CORPUS if case["code"] is not None]


def name_of(case: dict[str, Any]) -> str:
    return Path(case["certificate"]).name.removesuffix(".trmcert.json")


def replay(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """One case through the kernel's own command line."""
    code = main([*(str(ROOT / case[key]) for key in ("certificate", "weights")), *case["arguments"], "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", VALID, ids=name_of)
def test_good_certificates_stay_valid(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, report = replay(case, capsys)
    assert (code, report["verdict"]) == (0, "VALID")
    assert "graph" not in report["not_compared"]


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_bad_certificates_are_refused_with_their_code(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, report = replay(case, capsys)
    assert (code, report["verdict"], report["code"]) == (1, "INVALID", case["code"])
    assert report["message"] and len(report["message"]) < 2000


@pytest.mark.parametrize("case", [c for c in REFUSED if c["code"] == "EXPECTED"], ids=name_of)
def test_what_was_not_wanted_is_valid_by_itself(case: dict[str, Any]) -> None:
    """Only the comparison with the caller's wish refuses these."""
    assert check(*((ROOT / case[key]).read_bytes() for key in ("certificate", "weights"))).claims


# the files are what the generator writes


def test_the_generator_writes_the_same_bytes() -> None:
    files = build(committed())
    on_disk = {str(p.relative_to(ROOT)) for folder in ("good", "bad") for p in (ROOT / folder).iterdir()}
    assert on_disk | {"corpus.json"} == set(files)
    assert [path for path, data in files.items() if (ROOT / path).read_bytes() != data] == []


@pytest.mark.slow
def test_the_provers_still_find_the_searched_certificates() -> None:
    """Another machine may find another witness: the claims must be the same, and rates no worse by a millionth.

    The semidefinite program has many near-optimal metrics: of its rate only the claims of the certificate speak.
    """
    from tests.corpus.searched import rate_of, search

    old, new = committed(), search()
    assert set(old) == set(new)
    for name, (certificate, weights, _) in new.items():
        assert check(certificate, weights).claims, name
        before, after = (json.loads(files[name][0])["predicate"] for files in (old, new))
        kinds = [c["claim"] for c in before["claims"]]  # later provers may find more
        assert kinds == [c["claim"] for c in after["claims"]][: len(kinds)], name
        for was, now in zip(before["claims"], after["claims"], strict=False):
            if "rate" in was and name != f"{SEARCHED}metric_program":
                assert float(rate_of(now)) <= float(rate_of(was)) * (1 + 1e-6), name


def test_the_corpora_are_small_and_their_entries_distinct() -> None:
    files = [p for p in ROOT.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 3_000_000
    keys = {(p["certificate"], p["weights"], tuple(p["arguments"])) for p in CORPUS}
    assert len(keys) == len(CORPUS) == len(GOOD) + len(BAD) + sum(name_of(c).startswith(SEARCHED) for c in VALID)
    contents = [
        ((ROOT / c["certificate"]).read_bytes(), (ROOT / c["weights"]).read_bytes(), tuple(c["arguments"]))
        for c in CORPUS
    ]
    assert len(set(contents)) == len(contents)
    assert len(REFUSED) >= 80
    assert all(c["why"] for c in CORPUS)


# coverage


@cache
def predicates() -> list[dict[str, Any]]:
    """The predicates of all good certificates."""
    return [json.loads((ROOT / case["certificate"]).read_bytes())["predicate"] for case in VALID]


@cache
def failing_rules() -> dict[str, set[str]]:
    """Rule to the codes with which its own steps are refused in the bad corpus."""
    found: dict[str, set[str]] = defaultdict(set)
    for case in REFUSED:
        raw = (ROOT / case["certificate"]).read_bytes()
        try:
            check(raw, (ROOT / case["weights"]).read_bytes())
        except CheckError as error:
            if error.step is not None and error.code not in ("RULE", "FIELD", "NUMBER", "UNUSED", "CLAIM"):
                found[json.loads(raw)["predicate"]["steps"][error.step]["rule"]].add(error.code)
    return dict(found)


def test_every_rule_has_a_proof_page_a_good_and_a_bad_certificate() -> None:
    pages = {p.stem for p in PROOFS.glob("*.md")}
    assert {step["rule"] for p in predicates() for step in p["steps"]} == set(RULES)
    assert set(RULES) <= pages
    assert set(failing_rules()) == set(RULES)


def test_rules_with_an_inequality_have_a_certificate_that_violates_it() -> None:
    substance = {"INEQUALITY", "DEFINITE", "INCLUSION", "MARGIN"}
    structural = {  # these have nothing to violate
        "damping", "at_most_one", "exactly_one", "fixed_points_in", "reach", "settled_in",
    }  # fmt: skip
    for rule in set(RULES) - structural:
        assert failing_rules()[rule] & substance, rule


def test_every_code_occurs() -> None:
    assert {case["code"] for case in REFUSED} == set(CODES)


def test_every_claim_occurs() -> None:
    claims = [c for p in predicates() for c in p["claims"]]
    assert {c["claim"] for c in claims} == set(CLAIMS)
    converging = [c for c in claims if c["claim"] == "convergence"]
    assert any(c["epsilon"] is not None and c["start"] == "init" for c in converging)
    assert any(c["start"] != "init" for c in converging)
    refuted = {c["of"] for c in claims if c["claim"] == "refutation"}
    assert refuted == {"contraction", "at_most_one", "exactly_one", "convergence", "answer", "fixed_point_answer"}


def test_trees_cut_units_and_inputs_and_have_empty_leaves() -> None:
    for p in predicates():
        for step in p["steps"]:
            if step["rule"] == "fixed_point_answer" and "0" in step["weights"]["int"].split():
                cuts = {split for split in step["splits"] if split >= 0}
                if len(cuts) > 2 and p["graph"]["input"] is not None:
                    return
    raise AssertionError("expected a tree with cuts of several units and inputs, and an empty leaf")


def test_every_operation_and_data_type_occurs() -> None:
    functions = [p["graph"][k] for p in predicates() for k in ("step", "init", "readout") if p["graph"][k]]
    used = {node["op"] for f in functions for node in f["nodes"]}
    assert used == set(LAYOUTS) | set(SHAPES) | {"state", "input", "tensor", "constant", "concat"}
    types = set()
    for case in VALID:
        raw = (ROOT / case["weights"]).read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        types |= {entry["dtype"] for key, entry in header.items() if key != "__metadata__"}
    assert types == {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8"}


def test_every_norm_operator_and_kind_of_model_occurs(capsys: pytest.CaptureFixture[str]) -> None:
    families, operators, domains = set(), set(), set()
    for case in VALID:
        valid = check(*((ROOT / case[key]).read_bytes() for key in ("certificate", "weights")))
        for claim in valid.claims:
            families |= {claim.norm.family} if getattr(claim, "norm", None) else set()
            operators |= {claim.operator.kind} if getattr(claim, "operator", None) else set()
            domains.add("none" if valid.graph.input is None else "integer" if valid.graph.vocabulary else "real")
    assert families == {"linf", "weighted_linf", "l2", "mixed", "metric"}
    assert operators == {"picard", "outer_damped", "inner_damped"}
    assert domains == {"none", "real", "integer"}
    assert any(len(p["graph"]["state"]) > 1 for p in predicates())
    assert any(
        n["runs"][0][0] > 1 and n["runs"][0][1] > 1 for p in predicates() for n in p["norms"] if n["kind"] == "block"
    )


# files too large to keep


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 2 * 10**9])
def test_a_huge_certificate_is_refused_before_it_is_read(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tmp_path / "huge.trmcert.json"
    with open(huge, "wb") as file:
        file.truncate(size)  # sparse: no blocks are written
    code = main([str(huge), str(ROOT / VALID[0]["weights"]), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["code"]) == (1, "LIMIT")


def test_a_sparse_weights_file_beyond_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tmp_path / "huge.safetensors"
    with open(huge, "wb") as file:
        file.truncate((1 << 36) + 1)
    code = main([str(ROOT / VALID[0]["certificate"]), str(huge), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["code"]) == (1, "LIMIT")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":['])
@pytest.mark.parametrize("depth", [33, 100_000])
def test_deep_nesting_in_every_form(opening: bytes, depth: int) -> None:
    with pytest.raises(CheckError) as caught:
        check(opening * depth, b"")
    assert caught.value.code == "LIMIT"


def test_a_bracket_inside_a_string_is_no_nesting() -> None:
    raw, weights = ((ROOT / VALID[0][key]).read_bytes() for key in ("certificate", "weights"))
    document = json.loads(raw)
    document["predicate"]["produced_by"]["name"] = '[{"' * 40 + "\\"
    assert check(json.dumps(document).encode(), weights).claims
