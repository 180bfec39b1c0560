"""`trm-verify ci`, the script behind the action, and the pre-commit hook, run as they run in continuous integration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import trm_verify as tv
from trm_verify.cli import main
from trm_verify.cli.summary import markdown

ROOT = Path(__file__).parents[1]
CERTIFICATE = "model.trmcert.json"


def equilibrium(seed: int = 0) -> tv.models.MonotoneEquilibrium:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return tv.models.MonotoneEquilibrium.from_tensors(
        A=random(3, 3) / 2, B=random(3, 3), U=random(3, 2), b=torch.zeros(3), C=random(2, 3), c=torch.zeros(2), m=1.0,
        domain=(-1, 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one saved model, certified by the command itself."""
    folder = tmp_path_factory.mktemp("ci")
    tv.save_pretrained(equilibrium(), folder / "a")
    assert main(["ci", str(folder), "-q"]) == 0
    return folder


@pytest.fixture
def models(certified: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(certified, tmp_path / "models"))


def ci(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["ci", *map(str, argv), "-q", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return code, found


def script(name: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One of the scripts under ci/, with a Python that has nothing but its standard library."""
    path = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    bare = cwd.parent / "bin"
    bare.mkdir(exist_ok=True)
    python = bare / "python3"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
        python.chmod(0o755)
    path["PATH"] = f"{bare}:{path['PATH']}"
    command = [str(ROOT / "ci" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**path, **environment}, capture_output=True, text=True, check=False)


# the command


def test_a_missing_certificate_is_made_and_the_kernel_accepts_it(models: Path, capsys: Any) -> None:
    (models / "a" / CERTIFICATE).unlink()
    code, found = ci(capsys, models)
    assert code == 0
    (item,) = found["certificates"]
    assert item["verdict"] == "VALID" and item["made"] == "proved now"
    assert main(["check", str(models / "a" / CERTIFICATE), "--model", str(models / "a"), "-q"]) == 0


def test_a_certificate_of_another_name_is_one_of_the_model_s(models: Path, capsys: Any) -> None:
    """It is found by the digest that it states, checked, and not made a second time."""
    (models / "a" / CERTIFICATE).rename(models / "a" / "mine.trmcert.json")
    for options in ((), ("--check",)):
        code, found = ci(capsys, models, *options)
        (item,) = found["certificates"]
        assert code == 0 and item["verdict"] == "VALID" and item["certificate"].endswith("mine.trmcert.json")
    assert not (models / "a" / CERTIFICATE).exists()


def test_what_is_there_is_checked_against_the_model_and_not_proved(
    models: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trm_verify.api

    monkeypatch.setattr(trm_verify.api, "verify_fixed_point", lambda *a, **k: pytest.fail("proved again"))
    before = (models / "a" / CERTIFICATE).read_bytes()
    code, found = ci(capsys, models, "--expect", "exactly_one")
    assert code == 0 and found["certificates"][0]["not_compared"] == ["exactly_one.domain", "exactly_one.region"]
    assert (models / "a" / CERTIFICATE).read_bytes() == before


@pytest.mark.parametrize("check", [True, False])
def test_a_stale_certificate_is_refused_with_the_command_that_renews_it(models: Path, capsys: Any, check: bool) -> None:
    tv.save_pretrained(equilibrium(1), models / "a")
    code, found = ci(capsys, models, *["--check"] * check)
    (item,) = found["certificates"]
    assert code == 1 and item["code"] == "DIGEST" and "stale certificate" in item["message"]
    command = item["message"].split("renew it with: trm-verify ")[1].split()
    assert main([*command, "-q"]) == 0
    assert ci(capsys, models, "--check")[0] == 0


def test_a_certificate_for_other_weights_is_refused(models: Path, capsys: Any) -> None:
    """Valid in its own folder, it proves nothing here, whatever the names say."""
    tv.save_pretrained(equilibrium(1), models / "b")
    shutil.copy(models / "a" / CERTIFICATE, models / "b" / CERTIFICATE)
    code, found = ci(capsys, models, "--check")
    assert code == 1
    assert [item["verdict"] for item in found["certificates"]] == ["VALID", "INVALID"]


def test_a_graph_that_is_not_the_models_is_refused_where_models_are_loaded(models: Path, capsys: Any) -> None:
    """z ← ½z over the very same weights file: valid by itself, and about another loop."""
    weights = models / "a" / "model.safetensors"
    half = tv.recursive(lambda z: z / 2, state_shape=(3,))
    statement = json.loads(tv.verify_fixed_point(half).certificate.to_bytes())
    import hashlib

    from trm_verify.pretrained import read_tensors

    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    statement["predicate"]["unused"] = sorted(read_tensors(weights)[0])
    (models / "a" / CERTIFICATE).write_text(json.dumps(statement))
    code, found = ci(capsys, models, "--check")
    assert code == 0 and "graph" in found["certificates"][0]["not_compared"]
    code, found = ci(capsys, models)
    assert code == 1 and found["certificates"][0]["code"] == "EXPECTED"


def test_expected_claims_are_compared(models: Path, capsys: Any) -> None:
    assert ci(capsys, models, "--check", "--expect", "convergence(rate<=0.99)")[0] == 0
    code, found = ci(capsys, models, "--check", "--expect", "convergence(rate<=0.01)")
    assert code == 1 and found["certificates"][0]["code"] == "EXPECTED"


def test_nothing_to_check_is_5(tmp_path: Path, capsys: Any) -> None:
    code, found = ci(capsys, tmp_path, "--check")
    assert code == 5 and found["error"]["kind"] == "nothing to check"
    assert ci(capsys, tmp_path)[0] == 5
    tv.save_pretrained(equilibrium(), tmp_path / "a")
    code, found = ci(capsys, tmp_path, "--check")
    assert code == 5 and "trm-verify certify" in found["error"]["message"]


def test_a_model_without_certificate_among_others_is_unknown(models: Path, capsys: Any) -> None:
    tv.save_pretrained(equilibrium(1), models / "b")
    code, found = ci(capsys, models, "--check")
    assert code == 3 and found["certificates"][1]["verdict"] == "MISSING"


def test_bad_paths_are_usage_errors(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "lonely.trmcert.json").write_text("{}")
    for argument in (tmp_path / "absent", tmp_path / "notes.txt"):
        assert ci(capsys, argument, "--check")[0] == 2
    code, found = ci(capsys, tmp_path / "lonely.trmcert.json", "--check")
    assert code == 2 and found["certificates"][0]["verdict"] == "UNREADABLE"
    assert ci(capsys, tmp_path, "--expect", "perfection")[0] == 2
    assert ci(capsys, tmp_path, "--cache", tmp_path / "notes.txt")[0] == 2

    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "scandir", refuse)  # root reads whatever the mode says
    code, found = ci(capsys, tmp_path, "--check")
    assert code == 2 and "Permission denied" in found["error"]["message"]


def test_a_truncated_model_does_not_stop_the_others(models: Path, capsys: Any) -> None:
    shutil.copytree(models / "a", models / "b")
    weights = models / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    code, found = ci(capsys, models)
    assert code == 1
    assert [item["exit_code"] for item in found["certificates"]] == [1, 0]


def test_a_factory_is_certified_and_then_checked(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ci_factory.py").write_text(
        "import torch, trm_verify as tv\n"
        "def make():\n    return tv.recursive(lambda z: torch.tanh(z / 2), state_shape=(2,))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    code, found = ci(capsys, "ci_factory:make")
    assert code == 0 and found["certificates"][0]["made"] == "proved now"
    code, found = ci(capsys, "ci_factory:make")
    assert code == 0 and "made" not in found["certificates"][0]
    assert ci(capsys, "ci_factory:make", "--check")[0] == 2  # --check imports nobody's code


def test_what_is_not_proved_is_not_written_and_fails_every_time(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ci_bad_factory.py").write_text(
        "import torch, trm_verify as tv\n"
        "def refuted():\n    return tv.recursive(lambda z: torch.tanh(2 * z), state_shape=(1,))\n"
        "turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])\n"
        "def unknown():\n    return tv.recursive(lambda z: z @ turn, state_shape=(2,))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, expected in (("refuted", 1), ("unknown", 3)):
        for _ in range(2):
            code, found = ci(capsys, f"ci_bad_factory:{name}")
            assert code == expected and found["certificates"][0]["verdict"] == name.upper()
            assert found["certificates"][0]["message"]
    assert not list(tmp_path.glob("*.trmcert.json"))


def test_a_valid_certificate_of_a_refutation_is_no_good_news(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci_two.py").write_text(
        "import torch, trm_verify as tv\nmake = tv.recursive(lambda z: torch.tanh(2 * z), state_shape=(1,))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["refute", "ci_two:make", "-q"]) == 1
    assert main(["check", "make.refutation.trmcert.json"]) == 0
    for cache in ([], ["--cache", "cache"], ["--cache", "cache"]):
        code, found = ci(capsys, ".", "--check", *cache)
        assert code == 1 and found["certificates"][0]["verdict"] == "REFUTED"
        assert "at_most_one" in found["certificates"][0]["message"]


# the cache


def test_the_cache_saves_checks_and_proofs_of_the_very_same_bytes_only(
    models: Path, tmp_path: Path, capsys: Any
) -> None:
    cache = tmp_path / "cache"
    (models / "a" / CERTIFICATE).unlink()
    first = ci(capsys, models, "--cache", cache)[1]["certificates"][0]
    assert first["made"] == "proved now" and not first["cached"]
    assert ci(capsys, models, "--cache", cache)[1]["certificates"][0]["cached"]
    assert not ci(capsys, models, "--cache", cache, "--expect", "exactly_one")[1]["certificates"][0]["cached"]
    (models / "a" / CERTIFICATE).unlink()
    assert ci(capsys, models, "--cache", cache)[1]["certificates"][0]["made"] == "restored from the cache"
    text = (models / "a" / CERTIFICATE).read_text()
    statement = json.loads(text)
    statement["predicate"]["claims"][-1]["step"] = 99
    (models / "a" / CERTIFICATE).write_text(json.dumps(statement))
    assert ci(capsys, models, "--cache", cache)[0] == 1
    (models / "a" / CERTIFICATE).unlink()
    for entry in cache.iterdir():
        entry.write_bytes(b"[1]")
    item = ci(capsys, models, "--cache", cache)[1]["certificates"][0]
    assert item["made"] == "proved now" and not item["cached"]


def test_a_cached_certificate_that_is_no_proof_is_not_believed(models: Path, tmp_path: Path, capsys: Any) -> None:
    cache = tmp_path / "cache"
    (models / "a" / CERTIFICATE).unlink()
    assert ci(capsys, models, "--cache", cache)[0] == 0
    (entry,) = cache.glob("certificate-*")
    statement = json.loads(entry.read_text())
    for claim in statement["predicate"]["claims"]:
        claim.update({"rate": {"exp": -9, "int": "1"}} if "rate" in claim else {})
    entry.write_text(json.dumps(statement))
    (models / "a" / CERTIFICATE).unlink()
    code, found = ci(capsys, models, "--cache", cache)
    assert code == 1 and found["certificates"][0]["code"] == "CLAIM"


# the action


def action_step() -> dict[str, Any]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    (step,) = action["runs"]["steps"]
    assert set(re.findall(r"inputs\.([\w-]+)", json.dumps(step))) == set(action["inputs"])
    assert "${{" not in step["run"], "an expression in a shell command lets an input run as code"
    found: dict[str, Any] = step
    return found


def run_action(folder: Path, **inputs: str) -> tuple[int, str, str, str]:
    """The action's own step, in its own shell: exit code, log, summary and output."""
    step, action = action_step(), yaml.safe_load((ROOT / "action.yml").read_text())
    given = {name: inputs.get(name, spec["default"]) for name, spec in action["inputs"].items()}
    environment = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: given[m[1]], text) for name, text in step["env"].items()
    }
    summary, output = folder.parent / "summary.md", folder.parent / "output"
    for file in (summary, output):
        file.write_text("")
    wrapper = folder.parent / "step.sh"
    wrapper.write_text(step["run"])
    bare = script("check", "--help", cwd=folder)  # also makes the bare Python
    assert bare.returncode == 0
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(wrapper)], cwd=folder, capture_output=True, text=True,
        env={
            "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/"), **environment,
            "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output),
        },
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, summary.read_text(), output.read_text()


def test_the_action_checks_and_writes_a_table_and_a_figure(models: Path) -> None:
    code, log, summary, output = run_action(models, expect="exactly_one\n  convergence(rate<=0.99)\n")
    assert code == 0, log
    assert output == "exit-code=0\n"
    assert "| ✅ | a/model.trmcert.json | VALID |" in summary.replace("./", "")
    assert summary.count("```") == 2 and "xychart-beta" in summary
    line = re.search(r"line \[(.*)\]", summary)
    assert line is not None
    values = [float(v) for v in line[1].split(",")]
    assert values[0] == 0 and values[-1] == -6 and values == sorted(values, reverse=True) and len(values) == 21


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"expect": "convergence(rate<=0.01)"}, 1),
        ({"path": "absent"}, 2),
        ({"path": "$(touch pwned)\n`touch pwned`; touch pwned"}, 2),
        ({"expect": "'; touch pwned; '"}, 2),
        ({"path": "empty"}, 5),
    ],
)
def test_the_action_fails_with_the_documented_code(models: Path, inputs: dict[str, str], expected: int) -> None:
    (models / "empty").mkdir()
    code, log, _, output = run_action(models, **inputs)
    assert code == expected, log
    assert output == f"exit-code={expected}\n"
    assert not list(models.rglob("pwned"))


def test_the_action_can_leave_the_summary_alone(models: Path) -> None:
    assert run_action(models, summary="false")[2] == ""


def test_a_hostile_name_is_text_in_the_summary() -> None:
    name = "a|b`<script>\n\n# heading"
    item = {"certificate": name, "model": None, "verdict": "INVALID", "message": "x | y\n<b>", "exit_code": 1}
    text = markdown([item])
    assert "<script>" not in text and "\n# heading" not in text and "<b>" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| ❌")]
    assert row.count("|") == 7


# the pre-commit hook


def hook() -> dict[str, Any]:
    (found,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language", "files"} <= set(found)
    assert set(found) <= {
        "id", "name", "description", "entry", "language", "files", "exclude", "require_serial",
        "minimum_pre_commit_version",
    }  # fmt: skip
    assert found["language"] == "script", "the entry is then a file of this repository, and nothing is installed"
    return dict(found)


def run_hook(folder: Path, *changed: str) -> subprocess.CompletedProcess[str] | None:
    """As pre-commit does: the entry with the changed files that match, from the root of the user's repository."""
    spec = hook()
    names = [n for n in changed if re.search(spec["files"], n) and not re.search(spec["exclude"], n)]
    if not names:
        return None
    assert spec["entry"].startswith("ci/")
    return script(spec["entry"].removeprefix("ci/"), *names, cwd=folder)


def test_the_hook_checks_what_was_changed(models: Path) -> None:
    for changed in ("a/model.trmcert.json", "a/model.safetensors"):
        done = run_hook(models, changed)
        assert done is not None and done.returncode == 0, done
        assert "VALID" in done.stdout and "not compared: claim and graph" in done.stdout
    assert run_hook(models, "a/checkpoint.safetensors", "a/config.json", "README.md") is None


def test_the_hook_refuses_changed_weights_under_an_old_certificate(models: Path) -> None:
    tv.save_pretrained(equilibrium(1), models / "a")
    done = run_hook(models, "a/model.safetensors")
    assert done is not None and done.returncode == 1
    assert "stale certificate" in done.stdout and "trm-verify certify a --out a/model.trmcert.json" in done.stdout


def test_the_hook_says_so_when_there_is_nothing_to_check(models: Path) -> None:
    (models / "a" / CERTIFICATE).unlink()
    done = run_hook(models, "a/model.safetensors")
    assert done is not None and done.returncode == 5 and "nothing to check" in done.stderr


def test_the_checked_folder_cannot_replace_a_module(models: Path) -> None:
    for name in ("json.py", "argparse.py", "trm_verify.py"):
        (models / name).write_text("raise SystemExit('replaced')")
    done = run_hook(models, "a/model.trmcert.json")
    assert done is not None and done.returncode == 0 and "replaced" not in done.stdout + done.stderr


# the template


def test_the_template_workflow_uses_what_exists() -> None:
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "certificates.yml").read_text())
    assert set(workflow["jobs"]) == {"check", "prove"}
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (used,) = [step for step in steps if step.get("uses", "").startswith("OWNER/trm_verify@")]
    assert set(used["with"]) <= set(action["inputs"])
    assert used["uses"].endswith(f"@v{tv.__version__}")


@pytest.mark.slow
def test_the_template_commands_run(models: Path, tmp_path: Path) -> None:
    """The workflow's own `run:` lines, but for pip, in a repository with models and a test."""
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "certificates.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["prove"]["steps"] if "run" in step]
    assert commands.pop(0).startswith("pip install")
    (models / "a" / CERTIFICATE).unlink()
    models.rename(tmp_path / "repository")
    repository = tmp_path / "repository"
    (repository / "models").mkdir()
    (repository / "a").rename(repository / "models" / "a")
    (repository / "tests").mkdir()
    (repository / "tests" / "test_it.py").write_text(
        "import trm_verify as tv\n\n"
        "def test_it(certify):\n    assert certify(tv.from_pretrained('models/a')).proves('exactly_one')\n"
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, module in (("trm-verify", "trm_verify.cli"), ("pytest", "pytest -p pytest_trm_verify")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    summary = tmp_path / "summary.md"
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(summary),
    }  # fmt: skip
    first, second = commands
    for command in (first, f"{second} --trm-update", second):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=repository, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "VALID, proved now" in summary.read_text()
    assert (repository / "out" / "junit.xml").is_file()
