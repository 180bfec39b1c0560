"""The page: it says what the kernel says, needs nothing else, and nothing that a file holds becomes markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.report.saved import save
from tests.report.test_markup import Read
from trm_verify.cli import main
from trm_verify.kernel.errors import CheckError
from trm_verify.report import read_directory, report_page

GOOD = Path(__file__).parents[2] / "certificates" / "good"
CURVE = {"command": "curve", "points": [
    {"eps": "0.001", "certified": 9, "refuted": 0, "open": 1, "inputs": 10},
    {"eps": "0.01", "certified": 4, "refuted": 3, "open": 3, "inputs": 10},
]}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "mine")


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    return Path(copytree(made, tmp_path / "mine"))


def ran(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_page_is_whole_and_says_the_verdict(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "accuracy.json").write_text(json.dumps(CURVE))
    code, said = ran(capsys, "report", directory)
    assert (code, said["verdict"], said["same_graph"]) == (0, "VALID", True)
    page = (directory / "report.html").read_text("utf-8")
    assert len(page.encode()) == said["bytes"] < 2_000_000
    read = Read(page)
    names = [name for name, _ in read.tags]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert names.count(landmark) == 1, landmark
    for text in (
        "PROVED",
        "exactly one",
        "float32 rounding not covered",
        "What has to be trusted",
        "Certified accuracy",
    ):
        assert text in read.text
    headings = [int(n[1]) for n in names if re.fullmatch("h[1-6]", n)]
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False)), "no level is skipped"


def test_the_page_needs_nothing_else(directory: Path) -> None:
    read = Read(report_page(directory))
    for name, attributes in read.tags:
        for key in ("src", "href", "action", "srcset", "poster", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,")), (name, key, value)
        assert not any(key.startswith("on") or key == "style" for key in attributes), (name, attributes)
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for _, a in read.tags if (a.get("href") or "").startswith("#")]
    assert targets and all(str(t)[1:] in ids for t in targets)
    drawings = [a for name, a in read.tags if name == "svg"]
    assert drawings and all(a.get("role") == "img" for a in drawings)
    assert all(a.get("aria-label") or set(str(a.get("aria-labelledby")).split()) <= set(ids) for a in drawings)


def test_the_same_directory_gives_the_same_page(directory: Path) -> None:
    assert report_page(directory) == report_page(directory)


def test_hostile_names_stay_text(made: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    directory = Path(copytree(made, tmp_path / name))
    (directory / "model.trmcert.json").rename(directory / "<b>&\"'x.trmcert.json")
    page = report_page(directory)
    read = Read(page)
    assert not any(tag in ("img", "b") and a for tag, a in read.tags if tag == "img" or "class" in a and tag == "b")
    assert "<img" not in page and name in read.text


def test_a_certificate_for_other_weights_is_said_first(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "other", audited=False, seed=1)
    (directory / "stray.trmcert.json").write_bytes((other / "model.trmcert.json").read_bytes())
    code, said = ran(capsys, "report", directory)
    assert (code, said["verdict"]) == (1, "INVALID")
    assert said["rejected"][0]["certificate"] == "stray.trmcert.json" and "DIGEST" in said["rejected"][0]["message"]
    assert "✗ INVALID" in Read((directory / "report.html").read_text("utf-8")).text


def test_a_valid_certificate_about_another_graph_is_invalid(directory: Path) -> None:
    # the right weights, another graph: what the kernel alone cannot see
    path = directory / "model.trmcert.json"
    other = json.loads(path.read_bytes())
    other["predicate"]["graph"]["readout"] = None
    other["predicate"]["unused"] = sorted({*other["predicate"]["unused"], "readout.weight", "readout.bias"})
    other["predicate"]["claims"] = [c for c in other["predicate"]["claims"] if c["claim"] != "answer"]
    used = max(c["step"] for c in other["predicate"]["claims"])
    other["predicate"]["steps"] = other["predicate"]["steps"][: used + 1]
    path.write_text(json.dumps(other))
    found = read_directory(directory)
    assert found.same_graph is False and not found.rejected
    assert "about another graph" in Read(report_page(found)).text


def test_a_refutation_is_said(tmp_path: Path) -> None:
    for suffix in (".trmcert.json", ".safetensors"):
        name = f"two_fixed_points_of_tanh{suffix}"
        (tmp_path / name).write_bytes((GOOD / name).read_bytes())
    text = Read(report_page(tmp_path)).text
    assert "REFUTED" in text and "It is false that there is at most one fixed point" in text
    assert "not compared with a model" in text


@pytest.mark.parametrize(
    "name", ["fixed_point_one_sixth", "searched_tokens", "integer_embedding", "outer_damped", "lipschitz_of_two_hinges"]
)
def test_golden_certificates_without_a_saved_model(name: str, tmp_path: Path) -> None:
    for suffix in (".trmcert.json", ".safetensors"):
        (tmp_path / f"{name}{suffix}").write_bytes((GOOD / f"{name}{suffix}").read_bytes())
    assert "✓ PROVED" in Read(report_page(tmp_path)).text


@pytest.mark.parametrize(
    "text, code",
    [
        ("[]", "JSON"), ("{}", "FIELD"), ('{"points": []}', "FIELD"), ("[" * 100_000, "LIMIT"),
        ('{"points": [{"eps": "x", "certified": 1, "refuted": 0, "inputs": 1}]}', "NUMBER"),
        ('{"points": [{"eps": "1", "certified": 2, "refuted": 0, "inputs": 1}]}', "NUMBER"),
        ('{"points": [{"eps": "nan", "certified": 1, "refuted": 0, "inputs": 1}]}', "NUMBER"),
    ],
)  # fmt: skip
def test_figures_of_accuracy_that_are_none(directory: Path, text: str, code: str) -> None:
    (directory / "accuracy.json").write_text(text)
    with pytest.raises(CheckError) as caught:
        read_directory(directory)
    assert caught.value.code == code


def test_what_cannot_be_reported(tmp_path: Path, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "report", tmp_path / "none")[0] == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    code, said = ran(capsys, "report", empty)
    assert code == 2 and "trm-verify certify" in said["error"]["message"]
    assert ran(capsys, "report", directory, "--out", tmp_path / "page.pdf")[0] == 2
    assert ran(capsys, "report", directory, "--out", "/dev/null/page.html")[0] == 2
    (directory / "config.json").write_text("{}")
    code, said = ran(capsys, "report", directory, "--out", tmp_path / "page.html")
    assert code == 1 and "another library" in said["error"]["message"]
    assert not (tmp_path / "page.html").exists()


def test_a_certificate_cut_short(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory / "model.trmcert.json"
    path.write_bytes(path.read_bytes()[:-100])
    code, said = ran(capsys, "report", directory)
    assert code == 1 and "JSON" in said["rejected"][0]["message"]
