"""`trm-verify onnx`: the files, the exit codes, and nothing written where something is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import trm_verify as tv
from trm_verify.cli import main
from trm_verify.models import MonotoneEquilibrium, SandwichRefiner


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("onnx") / "model"
    tv.save_pretrained(SandwichRefiner(state=4, hidden=6, inputs=3, classes=3), target)
    return target


def test_it_writes_the_files_and_says_how_well_they_agree(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["onnx", str(saved), "--out", str(tmp_path / "a"), "--steps", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["function"] for each in found["files"]] == ["step", "readout", "unrolled"]
    assert all(0 <= each["difference"] < 1e-5 and Path(each["path"]).is_file() for each in found["files"])
    assert main(["onnx", str(saved), "--out", str(tmp_path / "a")]) == 0
    assert "step.onnx" in capsys.readouterr().out


def test_exit_codes(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(["onnx", str(saved), "--out", str(out), "--tolerance", "1e-30"]) == 1
    assert "of the exact graph" in capsys.readouterr().err and not list(out.iterdir())
    tv.save_pretrained(MonotoneEquilibrium(state=4, inputs=3, classes=3), tmp_path / "implicit")
    assert main(["onnx", str(tmp_path / "implicit"), "--out", str(out), "--steps", "3"]) == 2
    assert "any solver" in capsys.readouterr().err and not list(out.iterdir())
    assert main(["onnx", str(tmp_path / "none"), "--out", str(out)]) == 2
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["onnx", str(saved), "--out", str(out)]) == 2
    assert "trm-verify[onnx]" in capsys.readouterr().err
