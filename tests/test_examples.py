"""The examples run, and README shows the output that its example really has."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from trm_verify.cli.arguments import parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


EXAMPLES = list(
    zip(*(re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("python", "text")), strict=True)
)


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["answer", "ball"])
def test_the_readme_examples_print_what_readme_says(code: str, shown: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == shown


def test_the_readme_command_lines_parse() -> None:
    lines = re.findall(r"^    trm-verify (.*?)\s*(?:#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        assert parser().parse_args(line.split()).command in line


def test_what_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / link).exists()] == []


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
    assert lines[0] == "on the whole line: UNKNOWN"
    assert lines[1] == "on [0, 1]: PROVED, rate 0.841471"
    assert "  PROVED invariant" in lines
    assert lines[-1] == "on [0, 0.5]: UNKNOWN"


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
    assert names == {*SHORT, *LONGER, "plain_linear", "kepler", "local_proof", "demo"}
