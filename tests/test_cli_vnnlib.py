"""`trm-verify vnnlib` and `queries`: words, exit codes, and files."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trm_verify.cli import main

FACTORY = """
import torch, trm_verify as tv
def half():
    drive = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(drive.weight, 0.5)
    return tv.recursive(lambda z, x: z / 2 + drive(x), state_shape=(1,), input_shape=(1,), domain=tv.Box(0, 1),
                        readout=lambda z: torch.cat([z, 1 - z], 1))  # z* = x
"""
HEAD = "(declare-const X_0 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "asked_models.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(folder: Path, capsys: pytest.CaptureFixture[str], text: str, *more: str) -> tuple[int, dict[str, Any]]:
    (folder / "q.vnnlib").write_text(text)
    capsys.readouterr()
    code = main(["vnnlib", "asked_models:half", "q.vnnlib", "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_the_three_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = HEAD + "(assert (>= X_0 0.1)) (assert (<= X_0 0.4))"
    code, found = ask(folder, capsys, box + "(assert (>= Y_0 Y_1))", "--out", "proof", "--result", "result.txt")
    assert code == 0 and (found["result"], found["verdict"], found["proved_boxes"]) == ("unsat", "PROVED", 1)
    assert Path("result.txt").read_text() == "unsat\n"
    (certificate,) = found["certificates"]
    assert main(["check", certificate, "proof/half.safetensors", "--json"]) == 0
    isolated = [sys.executable, "-E", "-S", "-m", "trm_verify.kernel"]
    root = Path(main.__code__.co_filename).parents[2]
    files = [str(folder / certificate), str(folder / "proof" / "half.safetensors")]
    assert subprocess.run([*isolated, *files], cwd=root, capture_output=True, timeout=60).returncode == 0
    code, found = ask(folder, capsys, box + "(assert (>= Y_0 Y_1))", "--check", certificate)
    assert code == 0 and found["result"] == "unsat" and found["certificates"] == [certificate]
    code, found = ask(folder, capsys, box + "(assert (>= Y_0 0.45))", "--check", certificate)  # true, and not proved
    assert code == 1 and found["error"]["code"] == "EXPECTED"
    code, found = ask(folder, capsys, box + "(assert (>= Y_0 Y_1))", "--check", "none.trmcert.json")
    assert code == 2

    code, found = ask(folder, capsys, box + "(assert (>= Y_0 0.3))", "--result", "result.txt")
    assert code == 1 and found["result"] == "sat" and Fraction(3, 10) < Fraction(found["counterexample"]["x"][0])
    word, example = Path("result.txt").read_text().split("\n", 1)
    assert word == "sat" and example.startswith("((X_0 0.") and example.rstrip().endswith("))")

    code, found = ask(folder, capsys, box + "(assert (>= Y_0 0.4))")  # a tie at the end of the box
    assert code == 3 and found["result"] == "unknown" and found["reason"]
    code, found = ask(folder, capsys, box + "(assert (< Y_0 0))")
    assert code == 3 and found["result"] == "unknown" and "not supported" in found["reason"]


def test_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "q.vnnlib").write_text(HEAD + "(assert (>= X_0 0)) (assert (<= X_0 0.4)) (assert (>= Y_0 0.3))")
    assert main(["vnnlib", "asked_models:half", "q.vnnlib"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sat" and lines[1].startswith("((X_0 ") and "real arithmetic" in lines[-1]


@pytest.mark.parametrize("text", ["", "(", "(assert (<= Y_0 0))", HEAD + "(assert (<= Y_0 0))"])
def test_malformed_queries(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    code, found = ask(folder, capsys, text)
    assert code == 2 and "q.vnnlib" in found["error"]["message"]


def test_missing_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vnnlib", "asked_models:half", "none.vnnlib", "--json"]) == 2
    assert main(["vnnlib", "nowhere", "none.vnnlib", "--json"]) == 2


def test_queries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.array([[0.1], [0.45]]))
    given = ["queries", "asked_models:half", "--eps", "0.1", "--steps", "30", "--out", "asked", "--json"]
    assert main([*given, "--input", "x.npy"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["answer"] for each in found["queries"]] == [[1], [1]]
    words = []
    for each in found["queries"]:
        main(["vnnlib", "asked_models:half", each["path"], "--json"])
        words.append(json.loads(capsys.readouterr().out)["result"])
    assert words == ["unsat", "sat"]
    assert Path(found["instances"]).read_text().count("\n") == 2
    assert main(given) == 2
