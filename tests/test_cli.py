"""The command line: what each command does, its exit code on every path, and exactly one JSON object with --json."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import trm_verify.train.loop
from trm_verify import archive
from trm_verify.cli import main
from trm_verify.cli.arguments import COMMANDS
from trm_verify.cli.outcome import Exit, Outcome, combined
from trm_verify.models import CausalRefiner

FACTORY = """
import torch, trm_verify as tv
print("noise on stdout")

def model(gain=0.5, readout=True):
    torch.manual_seed(0)
    w, u, r = (torch.nn.Linear(n, m, dtype=torch.float64) for n, m in ((3, 3), (2, 3), (3, 2)))
    with torch.no_grad():
        w.weight.copy_(gain * torch.eye(3))
    return tv.recursive(lambda z, x: w(z) + torch.tanh(u(x)), state_shape=(3,), input_shape=(2,),
                        readout=r if readout else None, domain=tv.Box(-1, 1))

def expanding(): return model(1.5)
def silent(): return model(0.5, readout=False)
def number(): return 7
def broken(): raise KeyError("inside")
instance = model()
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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained model with a certificate of the model and of three test images."""
    out = tmp_path_factory.mktemp("cli") / "model"
    small = ["--epochs", "2", "--state", "8", "--hidden", "12"]
    assert main(["train", "--out", str(out), "-q", "--json", *small]) == 0
    assert main(["certify", str(out), "-q", "--test-images", "3"]) == 0
    return out


@pytest.fixture
def saved(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module with model factories in the current directory; a name of its own for each test."""
    name = "factory_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return name


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


# the command line as a whole


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from trm_verify.cli import main\n"
        "codes = [main([*c.split(), '--help']) for c in ['', *sys.argv[1:]]]\n"
        "print(codes, sorted({'torch', 'numpy', 'rich.table', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == f"{[0] * (1 + len(COMMANDS))} []"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_parse(run: Any, command: str) -> None:
    from trm_verify.cli.arguments import parser

    text = run(command, "--help").out
    assert "exit codes:" in text and "130 interrupted" in text
    assert run(command, "--help", "--json").json["text"] == text
    for example in COMMANDS[command][1]:
        assert f"trm-verify {command} {example}".strip() in text
        assert parser().parse_args([command, *example.replace("'", "").split()]).command == command


def test_version(run: Any) -> None:
    assert run("--version").out == f"trm-verify {trm_verify.__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [], ["no-such-command"], ["certify"], ["certify", "x", "--norm", "l7"], ["certify", "x", "--test-images", "-1"],
        ["certify", "x", "--input", "a.npy", "--test-images", "3"], ["check"], ["train", "--epochs", "many"],
        ["check", "x", "--exp", "contraction"], ["train", "--task", "no-such-task"], ["train", "extra"],
        ["certify", "no/such/directory"], ["certify", "module-with-dash:make"], ["certify", "x", "--region", "1", "a"],
        ["certify", "x", "--region", "2", "1"], ["certify", "x", "--region", "0", "1", "--invariant-region"],
        ["audit", "no/such/directory"], ["show", "no-such.trmcert.json"],
        ["check", "no-such.trmcert.json"], ["check", "x", "--expect", "contraction(rate<0.9)"],
        ["check", "x", "--expect", "perfection"],
    ],
)  # fmt: skip
def test_usage_errors_exit_2_with_one_line(run: Any, argv: list[str]) -> None:
    plain = run(*argv)
    assert plain.code == 2
    assert "Traceback" not in plain.err
    said = (plain.out + plain.err).strip()
    assert (
        "expected" in said or "required" in said or "invalid" in said or "unrecognized" in said or "not allowed" in said
    )
    found = run(*argv, "--json")
    assert found.code == 2
    assert found.json.get("error", {"kind": "usage"})["kind"] == "usage"


def test_what_was_not_foreseen_exits_4(run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AttributeError("a defect")

    monkeypatch.setattr("trm_verify.api.verify_fixed_point", fail)
    found = run("certify", saved, "--json")
    assert found.code == 4
    assert found.json["error"]["kind"] == "internal" and "a defect" in found.json["error"]["message"]
    assert "Traceback" in found.err


def test_an_interrupted_command_exits_130(run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trm_verify.api.verify_fixed_point", interrupt)
    assert run("certify", saved, "--json").json["error"]["kind"] == "interrupted"


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "trm_verify.cli", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_a_terminal_that_knows_only_ascii(trained: Path) -> None:
    command = [sys.executable, "-m", "trm_verify.cli", "show", str(trained / "model.trmcert.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_infinite_bounds_are_null(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(Exit.GOOD, {"a": [float("inf"), {"b": float("nan")}], "c": 0.5}, lambda _: None)
    monkeypatch.setattr("trm_verify.cli.kernel_path.run", lambda _: outcome)
    assert run("kernel-path", "--json").json["a"] == [None, {"b": None}]


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 5), ([0, 0], 0), ([0, 3], 3), ([3, 1, 0], 1), ([1, 2, 3], 2), ([0, 1, 2, 3, 4], 4)],
)
def test_batches_end_with_the_first_of_4_2_1_3_0(codes: list[int], code: int) -> None:
    assert combined(codes) == Exit(code)


# train


def test_train_saves_a_model(trained: Path) -> None:
    assert {"model.safetensors", "checkpoint.safetensors", "config.json"} <= files(trained)


def test_train_is_reproducible(run: Any, trained: Path, tmp_path: Path) -> None:
    again = run("train", "--out", tmp_path, "-q", "--epochs", "2", "--state", "8", "--hidden", "12")
    assert again.code == 0 and "saved" in again.out
    assert (tmp_path / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_to_resume_needs_something_to_resume(run: Any, tmp_path: Path) -> None:
    found = run("train", "--out", tmp_path, "-q", "--json", "--resume")
    assert found.code == 2 and "--resume: expected --checkpoint FILE" in found.json["error"]["message"]


SHORT = """{"task": {"name": "parity", "length": 4, "train": 64}, "deploy": {"size": 6, "certify": 0},
 "model": {"name": "CausalRefiner", "features": 4, "hidden": 4}, "train": {"epochs": 1, "batch_size": 8}}"""


def test_test_inputs_are_those_of_the_task_that_the_model_was_trained_on(run: Any, tmp_path: Path) -> None:
    """Of the length that it was deployed at, too: neither has to be named again."""
    (tmp_path / "short.json").write_text(SHORT)
    out = tmp_path / "model"
    assert run("train", tmp_path / "short.json", "--out", out, "-q").code == 0
    assert len(run("certify", out, "-q", "--test-images", 2, "--json").json["inputs"]) == 2
    found = run("audit", out, "--test-image", 10**6, "-q", "--json")
    assert found.code == 2 and "in task parity" in found.json["error"]["message"]
    other = run("certify", out, "-q", "--test-images", 2, "--task", "digits", "--json")
    assert other.code == 2 and "shape" in other.json["error"]["message"]
    for record in ("[]", "{", '{"config": {"task": {"name": "no"}, "model": {"name": "CausalRefiner"}}}'):
        (out / "run.json").write_text(record)
        spoiled = run("certify", out, "-q", "--test-images", 2, "--json")
        assert spoiled.code == 2 and "name the task with --task" in spoiled.json["error"]["message"]


@pytest.mark.parametrize("where", [(), ("--test-image", 1)])
def test_a_row_is_of_a_batch(run: Any, trained: Path, where: tuple[object, ...]) -> None:
    found = run("audit", trained, "-q", "--json", "--index", 0, *where)
    assert found.code == 2 and "--index: expected --input FILE.npy" in found.json["error"]["message"]


@pytest.mark.parametrize(
    "option", [("--epochs", 0), ("--lr", "nan"), ("--rho", 1), ("--state", 0), ("--batch-size", 5000)]
)
def test_train_refuses_settings_out_of_range(run: Any, tmp_path: Path, option: tuple[str, object]) -> None:
    found = run("train", "--out", tmp_path, "-q", "--json", *option)
    assert found.code == 2 and "expected" in found.json["error"]["message"]
    assert files(tmp_path) == set()


def test_train_that_diverges_says_so(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(_: object) -> None:
        raise FloatingPointError("the loss became NaN")

    monkeypatch.setattr(trm_verify.train.loop._Run, "epoch", diverge)
    found = run("train", "--out", tmp_path, "-q", "--json")
    assert found.code == 2 and "smaller --lr" in found.json["error"]["message"]
    assert files(tmp_path) == set()


def test_an_unwritable_target_is_refused_before_training(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("trm_verify.train.train", lambda *_, **__: pytest.fail("trained"))
    found = run("train", "--out", tmp_path / "file" / "model", "--json")
    assert found.code == 2 and "choose another with --out" in found.json["error"]["message"]


def test_an_interrupted_training_keeps_the_best(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = trm_verify.train.loop._Run.epoch

    def second(self: Any) -> None:
        if self.state.history:
            raise KeyboardInterrupt
        epoch(self)

    monkeypatch.setattr(trm_verify.train.loop._Run, "epoch", second)
    found = run("train", "--out", tmp_path, "-q", "--json", "--state", "4", "--hidden", "6")
    assert found.code == 130
    assert found.json["interrupted"] and found.json["epochs"] == 1
    assert (tmp_path / "model.safetensors").is_file()


# certify


def test_certify_writes_beside_the_weights(run: Any, saved: Path) -> None:
    (saved / "model.trmcert.json").unlink()
    found = run("certify", saved, "-q", "--json")
    data = found.json
    assert (data["verdict"], found.code) == ("PROVED", 0)
    assert data["certificate"] == str(saved / "model.trmcert.json")
    assert data["rate"] < 0.91 and data["norm"] == "l2" and data["steps_to_1e-6"] > 10
    assert data["claims"]["exactly_one"]["verdict"] == "PROVED" and data["inputs"] == []
    assert run("check", data["certificate"], saved / "model.safetensors", "--model", saved).code == 0


def test_certify_says_why_not(run: Any, saved: Path) -> None:
    found = run("certify", saved, "-q", "--force", "--test-images", 2, "--eps", "0.5", "--timeout", 5)
    assert found.code == 1  # the ball is so large that other digits lie in it
    assert found.out.startswith("REFUTED") and "0 of 2 inputs proved" in found.out
    assert "certificate " in found.out  # what was proved of the model is written all the same


def test_a_wrong_answer_is_refuted(run: Any, saved: Path) -> None:
    right = run("certify", saved, "-q", "--test-images", 1, "--json").json["inputs"][0]["answer"][0]
    found = run("certify", saved, "-q", "--force", "--test-images", 1, "--answer", (right + 1) % 10, "--json")
    assert (found.code, found.json["verdict"]) == (1, "REFUTED")


def test_a_job_goes_on_from_its_ledger(run: Any, saved: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "job.jsonl"
    options = ["certify", saved, "-q", "--force", "--json", "--ledger", ledger, "--workers", "1"]
    first = run(*options, "--test-images", 2)
    assert first.code in (0, 3) and len(ledger.read_text().splitlines()) == 2
    again = run(*options, "--test-images", 3)
    assert again.json["inputs"][:2] == first.json["inputs"] and len(ledger.read_text().splitlines()) == 3


def test_where_inputs_are_answered_is_no_mystery(
    run: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for options, message in (
        (["--test-images", 2, "--executor", "ray"], "pip install 'trm-verify[ray]'"),
        (["--ledger", tmp_path / "job.jsonl"], "expected inputs x"),
        (["--test-images", 2, "--ledger", tmp_path / "missing" / "job.jsonl"], "job.jsonl"),
        (["--test-images", 2, "--workers", "0"], "auto or a whole number >= 1"),
        (["--test-images", 2, "--executor", "threads"], "process"),
    ):
        found = run("certify", saved, "-q", "--json", *options)
        assert found.code == 2 and message in found.json["error"]["message"], found.json


@pytest.mark.parametrize(
    ("array", "code", "message"),
    [
        (np.zeros((0, 64)), 5, "nothing to check"), (np.full(64, 2.0), 2, "domain"), (np.full(64, np.nan), 2, "finite"),
        (np.zeros(7), 2, "shape"), (np.array(["a"] * 64), 2, "expected"), (np.array([{}], dtype=object), 2, "expected"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(run: Any, saved: Path, tmp_path: Path, array: Any, code: int, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    (saved / "model.trmcert.json").unlink()
    found = run("certify", saved, "-q", "--json", "--input", tmp_path / "x.npy")
    assert found.code == code and message in found.json["error"]["message"]
    assert not (saved / "model.trmcert.json").exists()


def test_files_that_are_no_arrays(run: Any, saved: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npy.npz", a=np.zeros(64))
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v")
    for name in ("two.npy.npz", "text.npy", "cut.npy", "missing.npy"):
        found = run("certify", saved, "-q", "--json", "--input", tmp_path / name)
        assert found.code == 2 and "expected" in found.json["error"]["message"], name


def test_a_batch_from_a_file(run: Any, saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 64), 0.25, dtype=np.float32))
    out = tmp_path / "b.trmcert.json"
    found = run("certify", saved, "-q", "--json", "--input", tmp_path / "x.npy", "--out", out)
    assert found.code == 0 and [r["verdict"] for r in found.json["inputs"]] == ["PROVED", "PROVED"]
    assert out.is_file()


@pytest.mark.parametrize("out", ["x.json", "model.trmcert.json/", "weights/y.trmcert.json"])
def test_certificates_that_cannot_be_written(run: Any, saved: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "weights").write_text("a file, not a folder")
    (tmp_path / "model.trmcert.json").mkdir()
    before = files(tmp_path)
    found = run("certify", saved, "-q", "--json", "--out", f"{tmp_path}/{out}".rstrip("/"))
    assert found.code == 2 and "--out" in found.json["error"]["message"]
    assert files(tmp_path) == before


def test_a_disk_that_fills_up_leaves_the_old_certificate(
    run: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, before = (saved / "model.trmcert.json").read_bytes(), files(saved)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    found = run("certify", saved, "-q", "--force", "--json")
    assert found.code == 2 and "No space left" in found.json["error"]["message"]
    assert (saved / "model.trmcert.json").read_bytes() == old and files(saved) == before


def test_a_certificate_that_proves_more_is_not_replaced_by_the_way(run: Any, saved: Path) -> None:
    """The answers of three images are not lost because somebody certifies the model as a whole."""
    old, before = (saved / "model.trmcert.json").read_bytes(), files(saved)
    found = run("certify", saved, "-q", "--json")
    data = found.json
    assert found.code == 2 and data["certificate"] is None and data["verdict"] == "PROVED"
    message = data["error"]["message"]
    assert message.count("answer(") == 3 and "--force" in message and "--out" in message
    assert (saved / "model.trmcert.json").read_bytes() == old and files(saved) == before
    assert "does not prove answer(" in run("certify", saved, "-q", "--test-images", 1).out
    more = run("certify", saved, "-q", "--test-images", 4, "--json")  # proves all of it, and more
    assert more.code == 0 and more.json["certificate"] is not None
    assert run("certify", saved, "-q", "--force").code == 0
    assert (saved / "model.trmcert.json").read_bytes() != old


def test_other_regions_and_smaller_domains_are_losses(run: Any, factory: str, tmp_path: Path) -> None:
    options = ["certify", f"{factory}:model", "-q", "--json", "--norm", "linf"]
    half = ["--domain", "0", "1", "--region", "-9", "9"]
    assert run(*options, *half).code == 0
    assert run(*options).code == 2  # on all states there is no invariant box to speak of
    assert run(*options, "--force").code == 0
    found = run(*options, "--domain", "0", "1", "--json")
    assert found.code == 2 and "contraction(rate<=0.5" in found.json["error"]["message"]


def test_a_stale_or_broken_certificate_is_replaced(run: Any, factory: str, tmp_path: Path) -> None:
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write("\ndef slower(): return model(0.75)\n")
    out = tmp_path / "m.trmcert.json"
    assert run("certify", f"{factory}:model", "-q", "--out", out).code == 0
    assert run("certify", f"{factory}:slower", "-q", "--out", out).code == 0  # other weights: the old one is stale
    assert run("check", out, "--model", f"{factory}:slower").code == 0
    out.write_text("{}")
    assert run("certify", f"{factory}:slower", "-q", "--out", out).code == 0


def test_a_certificate_about_another_graph_of_the_weights_is_kept(run: Any, factory: str, tmp_path: Path) -> None:
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write(
            "\ndef twice():\n    m = model()\n    return tv.recursive(lambda z, x: m.step(z, x) / 2, state_shape=(3,),"
            " input_shape=(2,), readout=m.readout, domain=tv.Box(-1, 1))\n"
            "def once():\n    m = model()\n    return tv.recursive(lambda z, x: m.step(z, x) / 1, state_shape=(3,),"
            " input_shape=(2,), readout=m.readout, domain=tv.Box(-1, 1))\n"
        )
    out = tmp_path / "m.trmcert.json"
    assert run("certify", f"{factory}:once", "-q", "--out", out).code == 0
    found = run("certify", f"{factory}:twice", "-q", "--out", out, "--json")
    assert found.code == 2 and "another graph of the same weights" in found.json["error"]["message"]


def test_damaged_models_are_invalid(run: Any, saved: Path) -> None:
    weights = saved / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-100])
    found = run("certify", saved, "--json")
    assert found.code == 1 and "truncated" in found.json["error"]["message"]
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert run("certify", saved, "--json").code == 1
    weights.unlink()
    found = run("certify", saved, "--json")
    assert found.code == 2 and "trm-verify train" in found.json["error"]["message"]


def test_weights_with_nan_are_invalid(run: Any, factory: str, tmp_path: Path) -> None:
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write("\ndef nan():\n    m = model()\n    m.w.weight.data[0, 0] = float('nan')\n    return m\n")
    found = run("certify", f"{factory}:nan", "-q", "--json")
    assert found.code == 1 and "found nan" in found.json["error"]["message"]
    assert not list(tmp_path.glob("*.safetensors"))


# models from factories


def test_a_factory_gets_weights_and_certificate(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("certify", f"{factory}:model", "-q", "--json", "--norm", "linf")
    data = found.json  # the module prints while it is imported: not on stdout
    assert found.code == 0 and "noise" in found.err
    assert abs(data["rate"] - 0.5) < 1e-9
    assert (data["certificate"], data["weights_file"]) == ("model.trmcert.json", "model.safetensors")
    assert run("check", "model.trmcert.json", "--model", f"{factory}:instance").code == 0
    other = run("check", "model.trmcert.json", "--model", f"{factory}:expanding", "--json")
    assert other.code == 1 and "weight" in other.json["message"] and other.json["code"] == "EXPECTED"
    assert run("check", "model.trmcert.json", "--model", f"{factory}:silent", "--json").json["code"] == "EXPECTED"


def test_nothing_proved_means_nothing_written(run: Any, factory: str, tmp_path: Path) -> None:
    found = run("certify", f"{factory}:expanding", "-q", "--norm", "linf")
    assert found.code == 3 and "no certificate was written" in found.out and "what would help" in found.out
    assert not list(tmp_path.glob("*.trmcert.json")) and not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["number", "broken", "missing"])
def test_factories_that_give_no_model(run: Any, factory: str, name: str) -> None:
    found = run("certify", f"{factory}:{name}", "--json")
    assert found.code == 2 and f"{factory}:{name}" in found.json["error"]["message"]
    assert run("certify", f"no_such_module_{name}:make", "--json").code == 2


UNTRACEABLE = """
def one(): return tv.recursive(lambda z: z / 2, state_shape=(3,), input_shape=(2,))
def two(): return tv.recursive(lambda z, x: z / 2, state_shape=(3,))
def swapped():
    w, u = torch.nn.Linear(3, 3), torch.nn.Linear(2, 3)
    return tv.recursive(lambda z, x: torch.tanh(w(z) + u(x)), state_shape=(2,), input_shape=(3,))
def branching(): return tv.recursive(lambda z, x: z / 2 if z.sum() > 0 else z / 4, state_shape=(3,), input_shape=(2,))
def numpy(): return tv.recursive(lambda z: torch.from_numpy(z.numpy()) / 2, state_shape=(3,))
def raising():
    def step(z, x):
        raise KeyError("inside")
    return tv.recursive(step, state_shape=(3,), input_shape=(2,))
"""


@pytest.mark.parametrize(
    ("name", "found", "advice"),
    [
        ("one", "takes 1 positional argument but 2 were given", "the state, then the input"),
        ("two", "missing 1 required positional argument", "without input_shape the state alone"),
        ("swapped", "take 2 tensors of shape (2,) and (3,)", "compare it with state_shape and input_shape"),
        ("branching", "depends on values", "torch.where"), ("numpy", "numpy", "keep to torch operations"),
        ("raising", "KeyError: 'inside'", "compare it with"),
    ],
)  # fmt: skip
def test_steps_that_cannot_be_traced_are_one_line(
    factory: str, tmp_path: Path, name: str, found: str, advice: str
) -> None:
    """In a process of its own: torch writes to the handlers and the stderr that it met when it was imported."""
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write(UNTRACEABLE)
    command = [sys.executable, "-m", "trm_verify.cli", "certify", f"{factory}:{name}", "-q"]
    path = os.pathsep.join([str(Path(trm_verify.__file__).parents[1]), str(tmp_path)])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path
    )
    noise, *lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, noise, len(lines)) == (2, "", "noise on stdout", 1), done.stderr
    assert found in lines[0] and advice in lines[0] and "Traceback" not in lines[0]


def test_a_module_is_imported_only_when_so_spelled(run: Any, factory: str) -> None:
    for text in (factory, f"{factory}.py", f"./{factory}:model", f"{factory}:"):
        assert run("certify", text, "--json").code == 2
    assert factory not in sys.modules


# check


def test_check_compares_what_is_expected(run: Any, trained: Path) -> None:
    pair = (trained / "model.trmcert.json", trained / "model.safetensors")
    plain = run("check", *pair)
    assert plain.code == 0 and plain.out.startswith("VALID (claim and graph not compared)")
    assert "--expect" in plain.out and "--expect" not in run("check", *pair, "--model", trained, "--expect", "run").out
    claims = ["contraction(rate<=0.95,norm=l2)", "exactly_one(domain=box(0,1), region=all)"]
    met = run("check", *pair, "--model", trained, "--json", "--expect", claims[0], "--expect", claims[1])
    assert met.code == 0 and met.json["verdict"] == "VALID"
    assert met.json["not_compared"] == ["contraction.operator", "contraction.domain", "contraction.region"]
    unmet = run("check", *pair, "--json", "--expect", "contraction(rate<=0.1)")
    assert (unmet.code, unmet.json["code"]) == (1, "EXPECTED")


def test_check_refuses_other_weights(run: Any, saved: Path, tmp_path: Path) -> None:
    certificate = saved / "model.trmcert.json"
    tensors = load_file(saved / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1
    save_file(tensors, tmp_path / "other.safetensors")
    found = run("check", certificate, tmp_path / "other.safetensors", "--json")
    assert (found.code, found.json["code"]) == (1, "DIGEST")
    (tmp_path / "cut.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:50])
    assert run("check", certificate, tmp_path / "cut.safetensors", "--json").code == 1
    assert run("check", certificate, tmp_path / "missing.safetensors", "--json").code == 2
    (saved / "model.safetensors").unlink()
    assert "name them" in run("check", certificate, "--json").json["message"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("[" * 100_000, "LIMIT"), ('{"a":1,"a":2}', "JSON"), ("[]", "JSON"), ('{"a":NaN}', "JSON"), ("{}", "FIELD"),
     ('{"x":1' + "0" * 5000 + "}", "LIMIT")],
)  # fmt: skip
def test_hostile_json(run: Any, saved: Path, text: str, code: str) -> None:
    (saved / "model.trmcert.json").write_text(text)
    found = run("check", saved / "model.trmcert.json", "--json")
    assert (found.code, found.json["code"]) == (1, code)
    shown = run("show", saved / "model.trmcert.json", "--json")
    assert shown.code == 1
    assert code in (shown.json.get("code"), shown.json.get("error", {}).get("code"))


def test_a_directory_of_certificates(run: Any, saved: Path) -> None:
    shutil.copy(saved / "model.trmcert.json", saved / "model.again.trmcert.json")
    (saved / "model.bad.trmcert.json").write_text("{}")
    found = run("check", saved, "--json")
    assert found.code == 1
    verdicts = {Path(item["certificate"]).name: item["verdict"] for item in found.json["certificates"]}
    assert verdicts == {
        "model.again.trmcert.json": "VALID", "model.answers.trmcert.json": "VALID",
        "model.bad.trmcert.json": "INVALID", "model.trmcert.json": "VALID",
    }  # fmt: skip
    (saved / "orphan.trmcert.json").write_text("{}")
    assert run("check", saved).code == 2


def test_a_certificate_of_any_name_is_found_with_its_weights(run: Any, saved: Path) -> None:
    """What `certify --out` writes beside the weights, `check` of the directory checks."""
    assert run("certify", saved, "-q", "--out", saved / "mine.trmcert.json").code == 0
    found = run("check", saved, "--model", saved, "--json")
    verdicts = {Path(item["certificate"]).name: item["verdict"] for item in found.json["certificates"]}
    assert found.code == 0 and verdicts["mine.trmcert.json"] == "VALID"
    assert run("check", saved / "mine.trmcert.json").code == run("show", saved / "mine.trmcert.json").code == 0
    tensors = load_file(saved / "model.safetensors")
    tensors[sorted(tensors)[0]].view(-1)[0] += 1
    save_file(tensors, saved / "model.safetensors")  # now all of them are stale
    found = run("check", saved, "--json")
    said = {Path(i["certificate"]).name: i["message"] for i in found.json["certificates"]}
    assert found.code == 2 and "none with the digest that it states" in said["mine.trmcert.json"]
    assert said["model.trmcert.json"].startswith("DIGEST")


def test_valid_proofs_of_a_copy_say_nothing_of_the_model_that_is_there(run: Any, saved: Path) -> None:
    """The model was trained again, and its certificates lie beside a copy of what it was before."""
    shutil.copyfile(saved / "model.safetensors", saved / "before.safetensors")
    for old in saved.glob("*.trmcert.json"):
        old.rename(saved / old.name.replace("model", "rate"))
    assert run("check", saved).code == 0  # still about the model as well
    tensors = load_file(saved / "model.safetensors")
    tensors[sorted(tensors)[0]].view(-1)[0] += 1
    save_file(tensors, saved / "model.safetensors")
    found = run("check", saved, "--json")
    verdicts = {Path(i["certificate"]).name: i["verdict"] for i in found.json["certificates"]}
    assert found.code == 3 and verdicts["rate.trmcert.json"] == "VALID" and verdicts["model.trmcert.json"] == "MISSING"
    said = run("check", saved)
    assert "rate.trmcert.json, about before.safetensors" in said.out and "expected a certificate about" in said.out


def test_nothing_to_check(run: Any, tmp_path: Path) -> None:
    found = run("check", tmp_path, "--json")
    assert found.code == 5 and found.json["error"]["kind"] == "nothing to check"


def test_a_kernel_that_dies_is_no_verdict(run: Any, trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    dead = tmp_path / "dead.py"
    dead.write_text("import sys; sys.exit(0)")
    monkeypatch.setattr(archive, "path", lambda: dead)
    found = run("check", trained / "model.trmcert.json", "--json")
    assert found.code == 4 and "no report" in found.json["error"]["message"]


def test_the_kernel_is_isolated(trained: Path, tmp_path: Path) -> None:
    path = subprocess.run(
        [sys.executable, "-m", "trm_verify.cli", "kernel-path"], capture_output=True, text=True, check=True
    ).stdout
    assert path.count("\n") == 1
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    pair = [str(trained / name) for name in ("model.trmcert.json", "model.safetensors")]
    command = [sys.executable, "-I", "-S", path.strip(), *pair]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("VALID")


# show


def test_show_checks_and_describes(run: Any, trained: Path) -> None:
    found = run("show", trained / "model.trmcert.json", "--json")
    inside = found.json["contents"]
    assert found.code == 0 and found.json["verdict"] == "VALID"
    (rule,) = {"metric_contraction", "row_gain"} & set(inside["rules"])  # either shows it, at nearly the same rate
    assert inside["claimed"]["answer"] == 3 and inside["rules"][rule] == 1
    assert found.json["certificate_bytes"] == (trained / "model.trmcert.json").stat().st_size
    text = run("show", trained / "model.trmcert.json").out
    assert text.startswith("VALID") and rule in text
    assert (inside["state"], inside["input"]) == ("(8,)", "(64,) real") and "block (groups: 1 of 8)" in inside["norms"]


def test_show_without_weights_is_labelled(run: Any, trained: Path, tmp_path: Path) -> None:
    document = json.loads((trained / "model.trmcert.json").read_text())
    document["subject"][0]["name"] = "\x1b[2Jmodel"
    (tmp_path / "alone.trmcert.json").write_text(json.dumps(document))
    found = run("show", tmp_path / "alone.trmcert.json")
    assert found.code == 3 and found.out.startswith("NOT CHECKED") and "VALID" not in found.out
    assert "\x1b" not in found.out
    assert run("show", tmp_path / "alone.trmcert.json", "--json").json["verdict"] == "NOT CHECKED"


@pytest.mark.parametrize(
    "document", [{}, {"predicate": 3}, {"subject": [[]], "predicate": {"steps": [1, {"rule": []}]}}]
)
def test_show_survives_any_json(run: Any, tmp_path: Path, document: Any) -> None:
    (tmp_path / "odd.trmcert.json").write_text(json.dumps(document))
    assert run("show", tmp_path / "odd.trmcert.json").code == 3


# audit


def test_audit_traces_an_inference(run: Any, saved: Path, tmp_path: Path) -> None:
    figure = tmp_path / "run.png"
    found = run("audit", saved, "--test-image", 0, "--steps", 40, "--figure", figure, "--json")
    data = found.json
    assert (found.code, data["verdict"]) == (0, "PROVED")
    assert [row["step"] for row in data["trace"]] == list(range(41))
    assert data["trace"][data["final"]]["answer"] == data["answer"]
    assert data["trace"][0]["residual"] is None and data["trace"][40]["distance"] < data["trace"][0]["distance"]
    assert figure.stat().st_size > 5000
    assert data["certificate"] == str(saved / "model.run.trmcert.json")
    assert run("check", data["certificate"], "--expect", f"run(answer={data['answer'][0]})").code == 0


def test_audit_for_people(run: Any, saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 64), 0.5))
    found = run("audit", saved, "--input", tmp_path / "x.npy", "--index", 1, "--out", tmp_path / "x.trmcert.json")
    assert found.code in (0, 3)
    assert ("is final from step" in found.out) == (found.code == 0)


def test_audit_too_short_to_say(run: Any, saved: Path) -> None:
    found = run("audit", saved, "--test-image", 0, "--steps", 1, "--json")
    assert found.code == 3 and "--steps" in found.json["reason"]
    assert not (saved / "model.run.trmcert.json").exists()


def test_audit_of_what_does_not_converge_is_unknown(run: Any, factory: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(2))
    found = run("audit", f"{factory}:expanding", "--input", tmp_path / "x.npy", "--norm", "linf", "--json")
    assert found.code == 3 and "no norm was found" in found.json["reason"]


def test_audit_of_a_loop_that_settles(run: Any, tmp_path: Path) -> None:
    """No rate, so distances come from where it ends; by default it runs that far."""
    model = CausalRefiner(tokens=40, features=8, hidden=12, channels=2, seed=3)
    model.save_pretrained(tmp_path / "m")
    np.save(tmp_path / "x.npy", np.full((40, 2), 0.5, dtype=np.float32))
    found = run("audit", tmp_path / "m", "--input", tmp_path / "x.npy", "--json")
    data = found.json
    assert (found.code, data["verdict"], data["rate"], data["settles"]) == (0, "PROVED", None, 40)
    assert len(data["trace"]) == 41 and data["trace"][-1]["distance"] < 1e-5
    assert run("check", data["certificate"], "--expect", "run(norm=linf)", "--expect", "settles(steps<=40)").code == 0
    shown = run("audit", tmp_path / "m", "--input", tmp_path / "x.npy")
    assert shown.code == 0 and "settles exactly after 40 steps" in shown.out


def test_audit_usage(run: Any, saved: Path, factory: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 64)))
    np.save(tmp_path / "small.npy", np.zeros(2))
    for argv, message in [
        ([saved], "--input"), ([saved, "--test-image", 10_000], "at most 359"), ([saved, "--input", "x.npy"], "batch"),
        ([saved, "--input", "x.npy", "--index", 2], "row"), ([saved, "--test-image", 0, "--figure", "a.bmp"], ".png"),
        ([saved, "--test-image", 0, "--steps", 0], "steps"),
        ([f"{factory}:silent", "--input", "small.npy", "--norm", "linf"], "readout"),
    ]:  # fmt: skip
        found = run("audit", *argv, "--json")
        assert found.code == 2 and message in found.json["error"]["message"], argv


CELLS = """

def cells():
    def step(z, x):  # cell 1 copies what cell 0 shows, in the next round
        return z / 2 + torch.cat([x[:, :1, :2], x[:, :1, 1:]], dim=1)
    return tv.recursive(step, state_shape=(2, 2), input_shape=(2, 3), readout=lambda z: z / 1, domain=tv.Box(0, 1))
"""


def test_audit_of_rounds_that_commit(run: Any, factory: str, tmp_path: Path) -> None:
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write(CELLS)
    np.save(tmp_path / "x.npy", np.array([[1.0, 0, 0], [1, 0, 0]]))
    model = f"{factory}:cells"
    found = run("audit", model, "--input", "x.npy", "--commit", 0.5, "--json")
    data = found.json
    assert (found.code, data["verdict"]) == (0, "PROVED")
    assert (data["answer"], data["committed"], data["rounds"]) == ([0, 0], [1, 2], 3)
    assert data["certificate"].endswith("cells.commits.trmcert.json")
    expected = "commits(answer=0-0,rounds<=3,committed=1-2,threshold=0.5,blank=0)"
    assert run("check", data["certificate"], "--expect", expected).code == 0
    assert run("check", data["certificate"], "--expect", "commits(rounds<=2)").code == 1
    assert "commits(answer=0-0" in run("show", data["certificate"]).out
    said = run("audit", model, "--input", "x.npy", "--commit", 0.5)
    assert "round   1  commits 0" in said.out and "round   3  commits nothing more" in said.out
    Path(data["certificate"]).unlink()
    for more in (["--commit", 100], ["--commit", 0.5, "--steps", 1]):
        unknown = run("audit", model, "--input", "x.npy", *more, "--json")
        assert unknown.code == 3 and "in round 1 at cell" in unknown.json["reason"]
    assert not Path(data["certificate"]).exists()
    for argv, message in [
        (["--commit", -1], "threshold"), (["--commit", 0.5, "--blank", 3], "blank"),
        (["--commit", 0.5, "--attractors"], "--attractors"), (["--commit", 0.5, "--figure", "a.png"], "--figure"),
    ]:  # fmt: skip
        wrong = run("audit", model, "--input", "x.npy", *argv, "--json")
        assert wrong.code == 2 and message in wrong.json["error"]["message"], argv


def test_models_without_input(run: Any, factory: str, tmp_path: Path) -> None:
    with (tmp_path / f"{factory}.py").open("a") as file:
        file.write("\ndef cosine():\n    return tv.recursive(torch.cos, state_shape=(1,))\n")
    assert run("certify", f"{factory}:cosine", "-q", "--norm", "linf").code == 3
    local = run("certify", f"{factory}:cosine", "-q", "--norm", "linf", "--region", 0, 1, "--force", "--json")
    assert local.code == 0 and abs(local.json["rate"] - np.sin(1)) < 1e-9
    looked_for = run("certify", f"{factory}:cosine", "-q", "--norm", "linf", "--invariant-region", "--force", "--json")
    assert looked_for.code == 0 and 0.8 < looked_for.json["rate"] < 0.85, "within 0 and 1, of which init is one end"
    assert torch.get_default_dtype() == torch.float32
