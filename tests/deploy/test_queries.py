"""Queries for other verifiers: the files ask what `answer` claims, and read back they give the same verdict."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import trm_verify as tv
from tests.small import tanh_model
from trm_verify.deploy.onnx import OnnxDiffers, OnnxError
from trm_verify.deploy.queries import export_queries
from trm_verify.deploy.vnnlib import read, verify_vnnlib
from trm_verify.models import CausalRefiner, MonotoneEquilibrium, TinyRecursive

X = torch.tensor([[0.5, -0.5, 0.25], [-1.0, 0.1, 1.0], [0.0, 0.0, 0.0]])


def test_the_files_ask_what_answer_claims(tmp_path: Path) -> None:
    model = tanh_model(1)
    queries = export_queries(model, X, tmp_path, steps=12, eps="0.05", timeout=30)
    with (tmp_path / "instances.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["onnx/unrolled.onnx", f"vnnlib/query_{i}.vnnlib", "30"] for i in range(3)]
    assert [q.path for q in queries] == [tmp_path / row[1] for row in rows]
    results = tv.verify_fixed_point(model, X, eps="0.05")
    for x, each, result in zip(X, queries, results, strict=True):
        found = read(each.path)
        (box,) = found.cases
        assert box == tv.Box.ball(x, "0.05").intersect(tv.Box(-1, 1).expand((3,)))  # cut to the domain, exactly
        if result.answer is not None:
            assert each.labels == result.answer
        answered = verify_vnnlib(model, found)
        assert answered.word == {"PROVED": "unsat", "REFUTED": "sat"}[str(result.verdict)]
    assert {str(r.verdict) for r in results} >= {"PROVED"}


def test_what_is_proved_is_met_by_the_network(tmp_path: Path) -> None:
    model = tanh_model(1)
    (each,) = export_queries(model, X[0], tmp_path, steps=20, eps="0.05")
    found = read(each.path)
    assert verify_vnnlib(model, found).word == "unsat"
    ((box, clauses),) = found.cases.items()
    assert box is not None
    lo, hi = box.floats()
    x = (lo + (hi - lo) * np.random.default_rng(0).random((500, 3))).astype(np.float32)
    network = onnxruntime.InferenceSession((tmp_path / "onnx" / "unrolled.onnx").read_bytes())
    (y,) = network.run(None, {"x": x})
    assert (y.argmax(1) == each.labels[0]).all()
    for clause in clauses:
        unsafe = np.ones(len(y), bool)
        for atom in clause:
            unsafe &= sum(float(c) * y[:, j] for j, c in atom.coefficients) <= float(atom.bound)
        assert not unsafe.any()


def test_every_position_is_asked_about(tmp_path: Path) -> None:
    model = TinyRecursive((3,), channels=2, classes=3, features=4, hidden=6, inputs=3, heads=1, key_size=2)
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    (each,) = export_queries(model, x, tmp_path, steps=6, eps=0.001, answer=[0, 1, 2])
    assert each.labels == (0, 1, 2)
    found = read(each.path)
    assert (found.inputs, found.outputs) == (6, 9)
    ((_, clauses),) = found.cases.items()
    assert len(clauses) == 6
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "onnx" / "unrolled.onnx").metadata_props}
    assert metadata["trm_verify.steps"] == "6"
    assert metadata["trm_verify.graph_sha256"] in each.path.read_text()


REFUSED: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
    (lambda: tanh_model(readout=False), X, {}, OnnxError, "readout"),
    (lambda: CausalRefiner(tokens=3, features=3, vocabulary=4, reach=1), [0, 1, 2], {}, OnnxError, "real numbers"),
    (lambda: MonotoneEquilibrium(state=3, inputs=3, classes=2), X.abs(), {}, OnnxError, "any solver"),
    (lambda: tanh_model(), X * 3, {}, ValueError, "domain"),
    (lambda: tanh_model(), X[:, :2], {}, ValueError, "shape"),
    (lambda: tanh_model(), X, {"answer": 7}, ValueError, "labels from 0 to 3"),
    (lambda: tanh_model(), X, {"timeout": 0}, ValueError, "seconds"),
    (lambda: tanh_model(), X, {"tolerance": 1e-30}, OnnxDiffers, "exact graph"),
]


@pytest.mark.parametrize(("make", "x", "more", "error", "words"), REFUSED, ids=[r[-1] for r in REFUSED])
def test_what_is_refused_leaves_nothing(
    make: Any, x: Any, more: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        export_queries(make(), x, tmp_path / "no", steps=3, **more)
    assert not (tmp_path / "no").exists()
