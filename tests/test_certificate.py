"""Certificates: put together without waste, written whole or not at all, read strictly."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import trm_verify as tv
from tests.small import tanh_model
from trm_verify.certificate import Certificate, CertificateBuilder, Derivation, derive, write_atomic
from trm_verify.kernel.check import check as kernel_check

ALL = {"space": "input", "all": True}
EVERYWHERE = {"space": "state", "all": True}
HALF = {"exp": -1, "int": "1"}
NORM = {"kind": "block", "runs": [[1, 1]], "weights": {"exp": 0, "int": "1"}}
NODES = [{"op": "state", "in": [], "part": 0}, {"op": "scale", "in": [0], "num": "1", "den": "2"}]
GRAPH: dict[str, Any] = {
    "state": [[1]], "input": {"shape": [1], "kind": "real"}, "init": None, "readout": None,
    "step": {"nodes": NODES, "outputs": [1]},
}  # fmt: skip
WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"


def contraction(rate: dict[str, Any] = HALF) -> Derivation:
    return derive("radius_contraction", domain=ALL, region=EVERYWHERE, norm=NORM, rate=rate)


def filled() -> CertificateBuilder:
    builder = CertificateBuilder(GRAPH, WEIGHTS)
    first = contraction()
    builder.add(contraction({"exp": -2, "int": "3"}))  # never claimed
    fields = {"domain": ALL, "region": EVERYWHERE}
    builder.claim(builder.add(first), "contraction", operator="picard", norm=NORM, rate=HALF, **fields)
    builder.claim(builder.add(first.then("exactly_one")), "exactly_one", **fields)
    builder.claim(builder.add(first.then("exactly_one")), "exactly_one", **fields)
    return builder


def test_equal_steps_boxes_and_norms_are_stored_once_and_unclaimed_ones_not_at_all() -> None:
    certificate = filled().build()
    found = certificate.predicate
    assert [s["rule"] for s in found["steps"]] == ["radius_contraction", "exactly_one"]
    assert found["boxes"] == [ALL, EVERYWHERE] and found["norms"] == [NORM]
    assert len(kernel_check(certificate.to_bytes(), WEIGHTS).claims) == 3


def test_an_empty_builder_makes_a_certificate_that_the_kernel_refuses() -> None:
    with pytest.raises(tv.CheckError, match="EMPTY"):
        kernel_check(CertificateBuilder(GRAPH, WEIGHTS).build().to_bytes(), WEIGHTS)


def test_premises_count_within_a_derivation() -> None:
    one, two = contraction(), contraction({"exp": -2, "int": "3"})
    joined, first, last = one.join(two.then("at_most_one"))
    assert (first, last) == (0, 2) and joined.steps[2]["premises"] == [1]
    assert joined.then("exactly_one", [0, -1]).steps[3]["premises"] == [0, 2]
    nothing, first, last = Derivation(()).join(one)
    assert (first, last) == (-1, 0) and nothing == one


def test_saving_and_loading_loses_nothing(tmp_path: Path) -> None:
    certificate = filled().build()
    path = certificate.save(tmp_path / "model.trmcert.json")
    assert Certificate.load(path) == certificate and path.read_bytes() == certificate.to_bytes()
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    certificate.save(path)
    assert os.listdir(tmp_path) == ["model.trmcert.json"]


def test_canonical_bytes_do_not_depend_on_the_order_of_claims_in_a_run() -> None:
    assert filled().build().to_bytes() == filled().build().to_bytes()


def test_the_disk_keeps_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.trmcert.json"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("trm_verify.certificate.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    certificate = filled().build()
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        certificate.save(tmp_path / "none" / "model.trmcert.json")
    with pytest.raises(IsADirectoryError, match="found a folder"):
        certificate.save(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        certificate.save(tmp_path / "file" / "model.trmcert.json")
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "JSON"),
        ("[]", "JSON"),
        ('{"_type": 1.5}', "JSON"),
        ('{"_type": "a", "_type": "b"}', "JSON"),
        ("{}", "FIELD"),
        ('{"_type": "", "subject": [], "predicateType": "", "predicate": {}, "more": 1}', "FIELD"),
        ("[" * 100, "LIMIT"),
    ],
)
def test_what_is_no_certificate_is_not_loaded(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(tv.CheckError) as caught:
        Certificate.load(tmp_path / "c.json")
    assert caught.value.code == code


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Certificate.load(tmp_path / "none.trmcert.json")


# tv.check


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any, Any]:
    from trm_verify.export import export

    folder, model = tmp_path_factory.mktemp("made"), tanh_model()
    result = tv.verify_fixed_point(model, torch.zeros(3))
    export(model).save(folder / "model.safetensors")
    result.certificate.save(folder / "model.trmcert.json")
    return folder / "model.trmcert.json", folder / "model.safetensors", model, result


def test_check_says_what_was_proved_and_what_was_not_compared(made: Any) -> None:
    path, weights, model, result = made
    checked = tv.check(path, weights)
    assert checked.not_compared == ("claim", "graph") and len(checked.claims) == 5
    assert (checked.graph_digest, checked.weights_digest) == (result.graph_digest, result.weights_digest)
    again = tv.check(result.certificate, weights.read_bytes(), expect="exactly_one", model=model)
    assert again.not_compared == ("exactly_one.domain", "exactly_one.region")


@pytest.mark.parametrize(
    "expect",
    [
        "contraction(rate<=0.51)",
        tv.claims.Contraction(rate=0.51),
        ["exactly_one", tv.claims.Convergence(), "answer(domain=box(0,0))"],
        ("exactly_one",),
    ],
)
def test_expectations_in_every_form(made: Any, expect: Any) -> None:
    path, weights, model, _ = made
    assert "claim" not in tv.check(str(path), str(weights), expect=expect, model=model).not_compared


@pytest.mark.parametrize(
    "expect", ["contraction(rate<=0.1)", ["exactly_one", "run"], tv.claims.Answer(answer=3, steps=0)]
)
def test_a_valid_proof_of_something_else_is_refused(made: Any, expect: Any) -> None:
    path, weights, _, _ = made
    with pytest.raises(tv.CheckError, match="EXPECTED"):
        tv.check(path, weights, expect=expect)


def test_another_graph_and_other_weights_are_refused(made: Any) -> None:
    path, weights, _, _ = made
    with pytest.raises(tv.CheckError, match="EXPECTED.*the graph of the given model"):
        tv.check(path, weights, model=tanh_model(activation=torch.relu))
    with pytest.raises(tv.CheckError, match="EXPECTED.*tensor .* as in the given model"):
        tv.check(path, weights, model=tanh_model(seed=5))
    with pytest.raises(tv.CheckError, match="DIGEST"):
        tv.check(path, weights.read_bytes()[:-4] + b"\0\0\0\0")


def test_no_expectation_is_no_proof_of_one(made: Any) -> None:
    path, weights, _, _ = made
    assert tv.check(path, weights, expect=[]).not_compared == ("claim", "graph")
    with pytest.raises(ValueError, match="expected a claim"):
        tv.check(path, weights, expect=[7])  # type: ignore[list-item]


def test_changed_claims_are_refused(made: Any) -> None:
    path, weights, _, _ = made
    statement = json.loads(path.read_bytes())
    statement["predicate"]["claims"][0]["rate"] = {"exp": -3, "int": "1"}
    with pytest.raises(tv.CheckError, match="CLAIM"):
        tv.check(Certificate(statement), weights)


def test_missing_files_are_oserrors(made: Any, tmp_path: Path) -> None:
    path, weights, _, _ = made
    for certificate, file in (
        (tmp_path / "no.json", weights),
        (path, tmp_path / "no.safetensors"),
        (tmp_path, weights),
    ):
        with pytest.raises(OSError):
            tv.check(certificate, file)
