"""`trm-verify obligations`: exit codes, one JSON object on every path, and solvers that are not believed blindly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.obligations.scripts import BAD, GOOD, ROOT, needs_z3
from trm_verify.cli import main
from trm_verify.obligations import solve as solving
from trm_verify.obligations.solve import Verdict, solve

NAME = "weighted_linf_reducible"


def path(name: str, which: str = "certificate") -> str:
    return str(ROOT / (GOOD.get(name) or BAD[name])[which])


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    """Exit code and the one JSON object."""
    capsys.readouterr()
    code = main(["obligations", *map(str, argv), "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    assert found["exit_code"] == code and found["command"] == "obligations"
    return code, found


def test_scripts_and_an_index_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, found = run(capsys, path(NAME), path(NAME, "weights"), "--out", out)
    assert code == 0 and found["kernel"] == "VALID" and found["solvers"] == []
    names = {row["name"] for row in found["obligations"]}
    assert names | {"index.json"} == {p.name for p in out.iterdir()}
    index = json.loads((out / "index.json").read_text(encoding="utf-8"))
    assert index["obligations"] == found["obligations"]
    assert str(tmp_path) not in (out / "index.json").read_text(encoding="utf-8")
    rules = {row["rule"]: row["status"] for row in found["obligations"]}
    assert rules["radius_contraction"] == "exported" and rules["exactly_one"] == "no arithmetic"


def test_weights_are_found_beside_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, path(NAME), "--out", tmp_path)[0] == 0


@needs_z3
def test_a_good_certificate_is_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, path(NAME), "--out", tmp_path, "--check", "--solver", "z3")
    assert code == 0 and found["solvers"] == ["z3"]
    answers = [row["answers"]["z3"]["answer"] for row in found["obligations"] if row["status"] == "exported"]
    assert answers and set(answers) == {"unsat"}


@needs_z3
def test_a_false_certificate_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = BAD["ulp_weighted_linf"]
    code, found = run(capsys, ROOT / case["certificate"], ROOT / case["weights"], "--out", tmp_path, "--check")
    assert code == 1 and found["kernel"].startswith("INEQUALITY at step 0")
    (row,) = [row for row in found["obligations"] if row["refused"]]
    assert {answer["answer"] for answer in row["answers"].values()} == {"sat"}


def pretend(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(solving, "solve", lambda solver, script, seconds: Verdict(solver, answer, 0.0))
    monkeypatch.setattr(solving, "available", lambda: ("z3", "cvc5"))


@pytest.mark.parametrize(
    ("answer", "code"), [("unsat", 0), ("sat", 1), ("unknown", 3), ("timeout", 3), ("error", 3)]
)  # fmt: skip
def test_exit_codes(
    answer: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    pretend(monkeypatch, answer)
    assert run(capsys, path(NAME), "--out", tmp_path, "--check")[0] == code


def test_what_the_kernel_refuses_is_never_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A solver that says unsat to everything does not make a bad certificate good."""
    pretend(monkeypatch, "unsat")
    for name in ("ulp_linf", "wrong_digest", "step_not_cited", "no_claims"):
        case = BAD[name]
        where = tmp_path / name
        assert run(capsys, ROOT / case["certificate"], ROOT / case["weights"], "--out", where, "--check")[0] == 1


def test_a_directory_of_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (NAME, "l2_rotation"):
        for which in ("certificate", "weights"):
            shutil.copy(path(name, which), source)
    (source / "broken.trmcert.json").write_text("{", encoding="utf-8")
    (source / "broken.safetensors").write_bytes(b"")
    code, found = run(capsys, source, "--out", tmp_path / "out")
    kernels = {Path(item["certificate"]).name.split(".")[0]: item["kernel"] for item in found["certificates"]}
    assert code == 1 and kernels[NAME] == kernels["l2_rotation"] == "VALID"
    assert kernels["broken"].startswith("unreadable: JSON")
    assert (tmp_path / "out" / NAME / "index.json").is_file()


def test_a_second_call_replaces_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, path("outer_damped"), "--out", tmp_path)[0] == 0
    assert run(capsys, path(NAME), "--out", tmp_path)[0] == 0
    assert not list(tmp_path.glob("*damping*"))
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    code, found = run(capsys, path(NAME), "--out", tmp_path)
    assert code == 2 and "mine.txt" in found["error"]["message"]
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize("index", ["[]", "{", '{"obligations": [{"name": "../../x"}]}', '{"obligations": [{}]}'])
def test_an_index_of_someone_else(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing outside the folder is touched, whatever the index says."""
    victim = tmp_path / "x"
    victim.write_text("keep me", encoding="utf-8")
    out = tmp_path / "a" / "b"
    out.mkdir(parents=True)
    (out / "index.json").write_text(index, encoding="utf-8")
    assert run(capsys, path(NAME), "--out", out)[0] in (0, 2)
    assert victim.read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize(
    "argv",
    [
        (NAME, "--solver", "z3"), (NAME, "--timeout", "3"), (NAME, "--check", "--timeout", "0"),
        (NAME, "--check", "--solver", "yices"),
    ],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(
    argv: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    name, *rest = argv
    code, found = run(capsys, path(name), "--out", tmp_path / "out", *rest)
    assert code == 2 and found["error"]["kind"] == "usage"
    assert not (tmp_path / "out").exists()


def test_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path / "none.trmcert.json", "--out", tmp_path / "out")[0] == 2
    lonely = tmp_path / "lonely.trmcert.json"
    shutil.copy(path(NAME), lonely)
    assert run(capsys, lonely, "--out", tmp_path / "out")[0] == 2
    (tmp_path / "empty").mkdir()
    assert run(capsys, tmp_path / "empty", "--out", tmp_path / "out")[0] == 5
    assert run(capsys, path(NAME))[0] == 2  # --out is missing


def test_a_missing_solver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setattr(solving, "available", lambda: ("z3",))
    code, found = run(capsys, path(NAME), "--out", tmp_path, "--check", "--solver", "cvc5")
    assert code == 2 and "cvc5" in found["error"]["message"] and "trm-verify[smt]" in found["error"]["message"]
    monkeypatch.setattr(solving, "available", lambda: ())
    code, found = run(capsys, path(NAME), "--out", tmp_path, "--check")
    assert code == 2 and "z3 and cvc5" in found["error"]["message"]


@needs_z3
def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["obligations", path(NAME), "--out", str(tmp_path), "--check", "--solver", "z3"]) == 0
    said = capsys.readouterr().out
    assert "radius_contraction" in said and "unsat" in said and "no arithmetic" in said
    case = BAD["ulp_weighted_linf"]
    files = [str(ROOT / case[key]) for key in ("certificate", "weights")]
    assert main(["obligations", *files, "--out", str(tmp_path), "--check", "--solver", "z3"]) == 1
    said = capsys.readouterr().out
    assert "the kernel refuses" in said and "not refuted" in said


# solvers


@needs_z3
def test_answers_of_a_solver(tmp_path: Path) -> None:
    script = tmp_path / "script.smt2"

    def said(text: str, seconds: float = 30) -> str:
        script.write_text(f"(set-logic QF_NRA)(declare-const x Real){text}(check-sat)", encoding="utf-8")
        return solve("z3", script, seconds).answer

    assert said("(assert (< x 0.0))") == "sat"
    assert said("(assert (< (* x x) 0.0))") == "unsat"
    assert said("(assert (< y 0.0))") == "error"  # an undeclared name: z3 goes on and answers
    assert said("(assert (< x 0.0)") == "error"
    assert solve("z3", tmp_path / "none.smt2", 1).answer == "error"


@needs_z3
def test_a_solver_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    names = [f"x{k}" for k in range(40)]
    lines = [f"(declare-const {n} Int)" for n in names] + [f"(assert (> {n} 1))" for n in names]
    hard = f"(= (* {' '.join(names)}) {2**89 - 1})"  # a Mersenne prime has no 40 factors
    script = tmp_path / "hard.smt2"
    script.write_text("\n".join(["(set-logic QF_NIA)", *lines, f"(assert {hard})", "(check-sat)"]), encoding="utf-8")
    verdict = solve("z3", script, 1.0)
    assert verdict.answer in ("timeout", "unknown") and verdict.seconds < 20


def test_a_program_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "_z3", lambda: str(tmp_path / "no-such-program"))
    assert solve("z3", tmp_path / "script.smt2", 1.0).answer == "error"
