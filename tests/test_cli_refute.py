"""`trm-verify refute` and `audit --attractors`: exit codes, one JSON object, and the files that are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trm_verify.cli import main

FACTORY = """
import torch, trm_verify as tv
print("noise on stdout")

def logistic(): return tv.recursive(lambda z: 3.2 * z * (1 - z), state_shape=(1,))
def cosine(): return tv.recursive(torch.cos, state_shape=(1,), readout=lambda z: torch.cat([z, -z], 1))
def gated(): return tv.recursive(lambda z, x: torch.tanh(3 * x * z), state_shape=(1,), input_shape=(1,),
                                 domain=tv.Box(0, 1), readout=lambda z: torch.cat([z, -z], 1))
def away(): return tv.recursive(lambda z: z + 1.0, state_shape=(1,), readout=lambda z: torch.cat([z, -z], 1))
def nan():
    layer = torch.nn.Linear(2, 2)
    layer.weight.data[0, 0] = float("nan")
    return tv.recursive(layer, state_shape=(2,))
"""


class Ran:
    """One run in this process: exit code, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], argv: Sequence[object]) -> None:
        capsys.readouterr()
        self.code = main([str(a) for a in argv])
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; anything else there is a failure."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        found = json.loads(lines[0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert found["exit_code"] == self.code
        return dict(found)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *argv: Ran(capsys, argv)


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module with model factories in the current directory; a name of its own for each test."""
    name = "refuted_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return name


def written(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".png")}


# refute


def test_refute_writes_what_check_accepts(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("refute", f"{factory}:logistic", "--region", 0, 1, "--norm", "linf", "--json")
    data = found.json
    assert (found.code, data["verdict"]) == (1, "REFUTED")
    assert [each["of"] for each in data["refutations"]] == ["at_most_one", "convergence", "contraction"]
    assert data["certificate"] == "logistic.refutation.trmcert.json"
    assert written(tmp_path) == {"logistic.refutation.trmcert.json", "logistic.safetensors"}
    check = ["check", data["certificate"], "--model", f"{factory}:logistic", "--json"]
    accepted = run(*check, "--expect", "refutation(of=convergence,operator=picard)")
    assert accepted.code == 0 and accepted.json["claims"] == [each["statement"] for each in data["refutations"]]
    assert run(*check, "--expect", "refutation(of=exactly_one)").code == 1


def test_refute_for_people(run: Any, factory: str) -> None:
    found = run("refute", f"{factory}:logistic")
    assert found.code == 1 and found.out.startswith("REFUTED")
    assert "a cycle of period 2" in found.out and "check it" in found.out
    assert "observed in floating point, not proved" in found.out


def test_nothing_found_is_unknown_and_writes_nothing(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("refute", f"{factory}:away", "--json")
    assert (found.code, found.json["verdict"], found.json["certificate"]) == (3, "UNKNOWN", None)
    assert "move away without end" in found.json["observations"][0]
    assert written(tmp_path) == set()
    assert "no two fixed points and no cycle were proved" in run("refute", f"{factory}:cosine").out


def test_a_norm_and_a_rate(run: Any, factory: str, tmp_path: Path) -> None:
    ask = ["refute", f"{factory}:cosine", "--norm", "l2", "--json", "--out", "own.refutation.trmcert.json"]
    assert run(*ask).code == 3
    found = run(*ask, "--rate", "9/10")
    assert found.code == 1 and found.json["expansion"] > 0.99
    assert run("check", "own.refutation.trmcert.json", "--expect", "refutation(of=contraction,rate<=0.9)").code == 0
    assert written(tmp_path) == {"own.refutation.trmcert.json", "own.safetensors"}


def test_which_inputs(run: Any, factory: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.25], [0.75]]))
    ask = ["refute", f"{factory}:gated", "--json"]
    assert run(*ask).code == 1
    assert run(*ask, "--domain", 0, "0.25").code == 3
    row = [*ask, "--input", "x.npy", "--index"]
    assert run(*row, 0).code == 3
    assert run(*row, 0, "--eps", "1/4").code == 1
    found = run(*row, 1)
    assert found.code == 1 and found.json["refutations"][0]["input"] == [0.75]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "0.5"], "norm to go with rate"), (["--norm", "l2", "--rate", "fast"], "finite numbers"),
        (["--region", "1", "0"], "--region"), (["--out", "x.json"], "NAME.trmcert.json"),
        (["--norm", "metric"], "invalid choice"), (["--input", "none.npy"], "input file"),
    ],
)  # fmt: skip
def test_usage_of_refute(run: Any, factory: str, tmp_path: Path, options: list[str], message: str) -> None:
    found = run("refute", f"{factory}:cosine", "--json", *options)
    assert found.code == 2 and message in found.json["error"]["message"]
    assert written(tmp_path) == set()


def test_weights_that_are_no_numbers(run: Any, factory: str, tmp_path: Path) -> None:
    for command in (["refute"], ["audit", "--attractors"]):
        found = run(*command, f"{factory}:nan", "--json")
        assert found.code == 1 and "found nan" in found.json["error"]["message"]
    assert written(tmp_path) == set()


# audit --attractors


def test_a_map_with_figure_and_certificate(run: Any, factory: str, tmp_path: Path) -> None:
    ask = ["audit", f"{factory}:logistic", "--attractors", "--region", 0, 1, "--starts", 50, "--figure", "map.png"]
    data = run(*ask, "--json").json
    assert (data["exit_code"], data["verdict"]) == (1, "REFUTED") and data["starts"] == 50
    first = data["attractors"][0]
    assert (first["kind"], first["period"], first["repels"]) == ("cycle", 2, False) and first["share"] > 0.9
    assert data["claims"]["convergence"]["verdict"] == "REFUTED" and data["reason"] is None
    assert (tmp_path / "map.png").stat().st_size > 5000
    assert run("check", data["certificate"], "--expect", "refutation(of=convergence)").code == 0
    shown = run(*ask)
    assert shown.code == 1 and shown.out.startswith("REFUTED") and "map.png" in shown.out


def test_a_map_proves_nothing(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("audit", f"{factory}:cosine", "--attractors", "--json", "--steps", 500, "--seed", 3)
    assert (found.code, found.json["verdict"], found.json["certificate"]) == (3, "UNKNOWN", None)
    assert [each["kind"] for each in found.json["attractors"]] == ["fixed point"]
    assert written(tmp_path) == set()


def test_where_no_run_can_be_certified_there_is_a_map(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("audit", f"{factory}:away", "--json")
    assert (found.code, found.json["verdict"]) == (3, "UNKNOWN")
    assert "no norm was found" in found.json["reason"] and found.json["attractors"][0]["kind"] == "leaving"
    np.save(tmp_path / "x.npy", np.array([0.75]))
    refuted = run("audit", f"{factory}:gated", "--input", "x.npy", "--out", "run.run.trmcert.json", "--json")
    assert (refuted.code, refuted.json["verdict"]) == (1, "REFUTED")
    assert refuted.json["certificate"] == "gated.refutation.trmcert.json"
    assert written(tmp_path) == {"gated.refutation.trmcert.json", "gated.safetensors"}


def test_a_map_needs_the_input_that_the_model_needs(run: Any, factory: str) -> None:
    for options, message in (([], "--input"), (["--starts", "0"], "--input")):
        found = run("audit", f"{factory}:gated", "--attractors", "--json", *options)
        assert found.code == 2 and message in found.json["error"]["message"]
    found = run("audit", f"{factory}:logistic", "--attractors", "--json", "--starts", "0")
    assert found.code == 2 and "at least one start" in found.json["error"]["message"]
