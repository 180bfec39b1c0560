"""The pytest plugin: what a test gets from `certify`, what is stored, and what a stale certificate does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import tanh_model
from trm_verify.cli import main
from trm_verify.testing import certify

pytest_plugins = ["pytester"]

PLUGIN = Path(__file__).parents[2] / "pytest_trm_verify.py"
MODELS = """
import pytest, torch, trm_verify as tv
from trm_verify.claims import answer, contraction, exactly_one

def model(gain=0.5, offset=0.0):
    mix, read = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with torch.no_grad():
        mix.weight.copy_(gain * torch.eye(2)); mix.bias.fill_(offset)
        read.weight.copy_(torch.eye(2)); read.bias.zero_()
    return tv.recursive(lambda z, x: torch.tanh(mix(z) + x), state_shape=(2,), input_shape=(2,), readout=read,
                        domain=tv.Box(-1, 1))
"""
SETTLES = """
def test_it_settles(certify):
    assert certify(model()).proves(contraction(rate=0.9))
"""


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """pytester forgets what was imported inside it, and torch cannot be imported twice: import all of it before."""
    certify(tanh_model(), torch.zeros(3), eps="0.01")


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """pytest with the plugin, in this process: torch is imported once."""
    return pytester.runpytest_inprocess(
        "-p", "pytest_trm_verify", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:logging", *args
    )


def text(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines)


def certificates(pytester: pytest.Pytester) -> list[Path]:
    return sorted((pytester.path / "certs").glob("*.trmcert.json"))


def update(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    pytester.makepyfile(MODELS + source)
    result = run(pytester, "--trm-certificates", "certs", "--trm-update")
    result.assert_outcomes(passed=1)
    return result


# what a test gets


def test_a_claim_that_holds_passes_and_the_summary_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODELS + SETTLES)
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*certificates of recursive models*", "1 proved", "weakest rate 0.5 in *it_settles"])
    assert not (pytester.path / "certs").exists()


def test_a_claim_that_does_not_hold_fails_and_shows_what_was_proved(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODELS + SETTLES.replace("0.9", "0.4"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured trm_verify call*", "PROVED*", "*PROVED: contraction(rate<=0.5*"])


def test_verdicts_are_counted_and_the_weakest_are_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MODELS
        + """
def test_strong(certify):
    assert certify(model(0.25))

def test_weak(certify):
    assert certify(model(0.75), torch.tensor([0.5, 0.0]), eps="0.01").proves(answer(answer=0))

def test_two_fixed_points(certify):
    found = certify(model(2.0))
    assert found.verdict is tv.REFUTED and not found

def test_nothing_is_said(certify):
    assert not certify(model(2.0), norm="linf", timeout=0)
"""
    )
    result = run(pytester)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["2 proved, 1 refuted, 1 unknown", "weakest rate 0.75 in *::test_weak", "weakest margin 0.* in *::test_weak"]
    )


def test_the_marker_gives_defaults_and_selects(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MODELS
        + """
@pytest.mark.trm(norm="l2")
def test_marked(certify):
    found = certify(model())
    assert found.proves(contraction(norm="l2")) and not found.proves(contraction(norm="linf"))
    assert certify(model(), norm="linf").proves(contraction(norm="linf"))

def test_unmarked(certify):
    assert certify(model())

def test_other():
    pass
"""
    )
    result = run(pytester, "--strict-markers", "-m", "trm")
    result.assert_outcomes(passed=2, deselected=1)
    assert "3 proved" in text(result)


def test_a_marker_with_positions_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.trm('l2')\ndef test_it(certify): pass")
    assert "expected keyword options in the marker trm" in text(run(pytester))


# what is stored


def test_update_stores_what_the_kernel_accepts_and_a_later_run_only_checks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = update(pytester, SETTLES)
    assert "1 proved and stored in certs" in text(result)
    (stored,) = certificates(pytester)
    assert main(["check", str(stored), "--json"]) == 0
    import trm_verify.testing.stored as module

    monkeypatch.setattr(module, "verify_fixed_point", lambda *a, **k: pytest.fail("proved although it is stored"))
    again = run(pytester, "--trm-certificates", "certs")
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["1 proved", "weakest rate 0.5 in*", "1 re-checked in certs"])


def test_junit_has_path_and_digest(pytester: pytest.Pytester) -> None:
    update(pytester, SETTLES)
    (stored,) = certificates(pytester)
    run(pytester, "--trm-certificates", "certs", "--junit-xml", "out.xml").assert_outcomes(passed=1)
    tree = ElementTree.parse(pytester.path / "out.xml")
    found = {p.get("name"): p.get("value") for p in tree.iter("property")}
    assert found["trm_verify.certificate"] == str(stored)
    assert found["trm_verify.sha256"] == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert found["trm_verify.verdict"] == "proved" and float(found["trm_verify.rate"] or 1) == 0.5


def test_each_call_and_each_parameter_has_a_certificate_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MODELS
        + """
@pytest.mark.parametrize("name", ["a/b", "a-b"])
def test_gains(certify, name):
    plain = [tv.recursive(lambda z, k=k: z * k, state_shape=(1,)) for k in (0.5, 0.25, 0.125)]
    assert certify(plain[0]) and certify(plain[1]) and certify(plain[2], name="an eighth")
"""
    )
    run(pytester, "--trm-certificates", "certs", "--trm-update").assert_outcomes(passed=2)
    assert len(certificates(pytester)) == 6
    run(pytester, "--trm-certificates", "certs").assert_outcomes(passed=2)


# what a stale or unfitting certificate does


@pytest.mark.parametrize(
    ("changed", "what"),
    [("model(offset=0.25)", "found one of other weights"), ("with_other_code()", "the code of the step")],
)
def test_a_stale_certificate_fails_with_the_command_that_renews_it(
    pytester: pytest.Pytester, changed: str, what: str
) -> None:
    other = """
def with_other_code():
    made = model()
    step = made.step
    return tv.recursive(lambda z, x: step(z, x) * 0.5, state_shape=(2,), input_shape=(2,), readout=made.readout,
                        domain=tv.Box(-1, 1))
"""
    update(pytester, other + SETTLES)
    pytester.makepyfile(MODELS + other + SETTLES.replace("certify(model())", f"certify({changed})"))
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    said = text(result)
    if changed.startswith("model"):
        assert "stale certificate" in said and what in said and "1 stale" in said
    else:  # a captured step names its tensors otherwise, so already the weights file is another one
        assert "stale certificate" in said
    command = next(line for line in result.outlines if line.startswith("renew it: "))
    arguments = command.removeprefix("renew it: pytest ").split()
    run(pytester, *arguments).assert_outcomes(passed=1)
    run(pytester, "--trm-certificates", "certs").assert_outcomes(passed=1)


def test_a_change_of_code_alone_is_stale_too(pytester: pytest.Pytester) -> None:
    update(pytester, SETTLES)
    pytester.makepyfile(MODELS.replace("torch.tanh(", "torch.relu(") + SETTLES)
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    assert "stale certificate" in text(result) and "the code of the step" in text(result)


def test_a_missing_certificate_fails_with_the_command(pytester: pytest.Pytester) -> None:
    update(pytester, SETTLES)
    (stored,) = certificates(pytester)
    stored.unlink()
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["expected a certificate at *found none", "renew it: pytest *--trm-update"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"_type": 1}'])
def test_what_is_no_certificate_fails(pytester: pytest.Pytester, content: bytes) -> None:
    update(pytester, SETTLES)
    (stored,) = certificates(pytester)
    stored.write_bytes(content)
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    assert "expected a valid certificate" in text(result) and "1 invalid" in text(result)


def test_a_changed_proof_fails(pytester: pytest.Pytester) -> None:
    update(pytester, SETTLES)
    (stored,) = certificates(pytester)
    statement = json.loads(stored.read_text())
    for claim in statement["predicate"]["claims"]:
        if "rate" in claim:
            claim["rate"] = {"exp": -3, "int": "1"}
    stored.write_text(json.dumps(statement))
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    assert "expected a valid certificate" in text(result)


@pytest.mark.parametrize(
    "asked",
    [
        'certify(model(), torch.tensor([0.5, 0.0]), eps="0.05")',
        'certify(model(), torch.tensor([0.5, 0.25]), eps="0.01")',
        'certify(model(), torch.tensor([0.5, 0.0]), eps="0.01", answer=1)',
    ],
)
def test_a_valid_certificate_of_another_question_does_not_pass(pytester: pytest.Pytester, asked: str) -> None:
    """A larger ball, another input, another label: the stored proof is valid, and no proof of that."""
    template = "\ndef test_answer(certify):\n    assert {}\n"
    update(pytester, template.format('certify(model(), torch.tensor([0.5, 0.0]), eps="0.01")'))
    pytester.makepyfile(MODELS + template.format(asked))
    result = run(pytester, "--trm-certificates", "certs")
    result.assert_outcomes(failed=1)
    assert "the certificate does not cover: answer(" in text(result)
    pytester.makepyfile(MODELS + template.format('certify(model(), torch.tensor([0.5, 0.0]), eps="0.005")'))
    run(pytester, "--trm-certificates", "certs").assert_outcomes(passed=1)


# options


def test_options_that_do_not_fit_are_usage_errors(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODELS + SETTLES)
    (pytester.path / "file").write_text("")
    for arguments, message in (
        (["--trm-update"], "expected --trm-certificates DIR"),
        (["--trm-certificates", "file"], "expected a folder, found the file"),
        (["--trm-certificates", "absent"], "make it with --trm-update"),
    ):
        result = run(pytester, *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert message in "\n".join(result.errlines)


def test_an_unreadable_folder_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(MODELS + SETTLES)
    (pytester.path / "certs").mkdir()

    def refuse(self: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)  # root reads whatever the mode says
    result = run(pytester, "--trm-certificates", "certs")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Permission denied" in "\n".join(result.errlines)


@pytest.mark.slow
def test_under_xdist_everything_reaches_the_summary_and_the_junit_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PLUGIN.parent))
    pytester.makepyfile(
        MODELS
        + """
@pytest.mark.parametrize("gain", [0.25, 0.5, 0.75])
def test_gains(certify, gain):
    assert certify(model(gain))
"""
    )
    arguments = ["-p", "pytest_trm_verify", "-n", "2", "--junit-xml", "out.xml", "--trm-certificates", "certs"]
    result = pytester.runpytest_subprocess(*arguments, "--trm-update")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["3 proved", "weakest rate 0.75 in *0.75]", "3 proved and stored in certs"])
    assert len(certificates(pytester)) == 3
    names = [p.get("name") for p in ElementTree.parse(pytester.path / "out.xml").iter("property")]
    assert names.count("trm_verify.sha256") == 3


# start-up


def test_loading_the_plugin_imports_nothing_heavy_and_takes_no_time() -> None:
    code = (
        "import time, sys, pytest; before = set(sys.modules); start = time.process_time(); import pytest_trm_verify; "
        "print(time.process_time() - start, sorted({'torch', 'numpy', 'trm_verify', 'hypothesis'} & set(sys.modules)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PLUGIN.parent)
        for _ in range(2)
    ]
    outputs = [done.stdout.strip().split(" ", 1) for done in runs]
    assert {loaded for _, loaded in outputs} == {"[]"}
    assert min(float(seconds) for seconds, _ in outputs) < 0.1


def test_pytest_starts_at_most_a_fifth_of_a_second_later(pytester: pytest.Pytester) -> None:
    """Processor time of the whole of pytest on an empty test, with and without the plugin; the best of three."""
    pytester.makepyfile("def test_nothing(): pass")
    (pytester.path / "certs").mkdir()

    def seconds(*arguments: str) -> float:
        code = (
            "import sys, time, pytest; sys.path.insert(0, sys.argv.pop(1)); "
            "code = pytest.main(sys.argv[1:]); print('took', time.process_time()); sys.exit(code)"
        )
        plain = ["-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider"]
        command = [sys.executable, "-c", code, str(PLUGIN.parent), *plain, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=pytester.path)
        return float(done.stdout.split("took ")[1])

    start = time.monotonic()
    without, with_plugin = [], []
    for _ in range(3):
        without.append(seconds("-p", "no:pytest_trm_verify"))
        with_plugin.append(seconds("-p", "pytest_trm_verify", "--trm-certificates", "certs"))
    assert min(with_plugin) - min(without) <= 0.2, (with_plugin, without, time.monotonic() - start)
