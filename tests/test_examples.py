"""The examples run and print what they promise. The code blocks of README are run by `docs/test_pages.py`."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def example(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_plain_linear(capsys: pytest.CaptureFixture[str]) -> None:
    lines = example("plain_linear.py", capsys)
    assert lines[:2] == ["contracts in linf: UNKNOWN", "contracts in l2: PROVED"]
    assert lines[2].endswith("PROVED")
    assert lines[3] == "re-checked: 5 claims hold"


def test_kepler(capsys: pytest.CaptureFixture[str]) -> None:
    lines = example("kepler.py", capsys)
    assert lines[0].endswith("at rate 0.5")
    # E of M = 1, e = 1/2 to twelve digits, from Newton's method in 50 digits
    assert lines[-1] == "M = 1: E = 1.498701133518, proved to within 1e-12: True"


def test_local_proof(capsys: pytest.CaptureFixture[str]) -> None:
    lines = example("local_proof.py", capsys)
    assert lines[0] == "on the whole line: PROVED, contraction in one step UNKNOWN"
    assert lines[1] == "on [0, 1]: PROVED, rate 0.841471"
    assert "  PROVED invariant" in lines
    assert "looked for: PROVED, rate 0.843576, found, its entries between -0.00391 and 1" in lines
    assert lines[-1] == "on [0, 0.5]: UNKNOWN"


def test_sudoku_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    lines = example("sudoku_rounds.py", capsys)
    assert lines[0].startswith("PROVED: 6 rounds of ")
    assert [line.split("   rounds ")[0] for line in lines[1:5]] == ["3 4 2 1", "1 2 3 4", "2 1 4 3", "4 3 1 2"]
    assert lines[5:7] == ["with noise on the givens: PROVED", "a puzzle with two givens: UNKNOWN"]
    assert lines[7].endswith("then this round is certain")


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "demo"
    small = ["--epochs", "2", "--images", "3", "--state", "8", "--hidden", "12"]
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(out), *small])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.count("\nVALID\n") == 2
    assert "exactly one for every such input" in text
    assert {"model.safetensors", "model.trmcert.json", "model.eps.trmcert.json", "convergence.png"} <= {
        p.name for p in out.iterdir()
    }


LONGER = ("sudoku", "brackets", "snippets", "characters", "denoise", "mazes", "regions", "arc")
SHORT = ("parity", "addition", "jacobi", "pagerank")


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER)])
def test_tasks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Each ends with a certificate that the kernel accepts, and with a figure."""
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(tmp_path / name)])
    monkeypatch.syspath_prepend(ROOT / "examples")
    text = " ".join(" ".join(example(f"{name}.py", capsys)).split())
    assert "exactly_one PROVED" in text and "UNKNOWN" not in text and "REFUTED" not in text
    assert re.search(r"model\.trmcert\.json VALID, [2-9] claims, re-checked exactly", text)
    with Image.open(tmp_path / name / "steps.png") as figure:
        assert min(figure.size) > 200 and figure.convert("L").getextrema() < (128, 256)


def test_every_example_is_run_here() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"shared"}
    assert names == {*SHORT, *LONGER, "plain_linear", "kepler", "local_proof", "sudoku_rounds", "demo"}
