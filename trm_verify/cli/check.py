"""`trm-verify check`: the isolated kernel on one certificate or on all of a directory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify import archive
from trm_verify.cli.loading import exported, load_model, model_errors
from trm_verify.cli.outcome import Exit, Failure, Outcome, combined, usage
from trm_verify.naming import SUFFIX, WEIGHTS, is_saved, weights_beside

if TYPE_CHECKING:
    from trm_verify.export import Exported


def require_claims(expected: Sequence[str]) -> None:
    """Every --expect is a claim.

    Raises:
        Failure: usage.
    """
    from trm_verify.kernel.expect import parse_expectation

    for text in expected:
        try:
            parse_expectation(text)
        except ValueError as error:
            raise usage(f"--expect: {error}") from error


def run(options: Any) -> Outcome:
    """Check each certificate in a process of its own that can import nothing but the standard library."""
    require_claims(options.expect)
    if options.bundle is not None:
        from trm_verify.cli.bundle import checked

        return checked(options)
    if options.certificate is None:
        raise usage("expected a certificate, a directory of them or --bundle FILE, found none of these")
    if options.key is not None or options.signature is not None:
        raise usage("--key, --signature: expected --bundle FILE with them, found none; certificates are not signed")
    source = Path(options.certificate)
    certificates = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else [source]
    if not certificates:
        raise Failure(Exit.NOTHING, f"expected certificates named *{SUFFIX} in {str(source)!r}, found none")
    model = None
    if options.model is not None:
        loaded = load_model(options.model)
        with model_errors(options.model):
            model = exported(loaded.module)
    found = [_one(c, options, model) for c in certificates]
    weights = str(source / WEIGHTS)
    if options.weights is None and is_saved(source) and all(item["weights_file"] != weights for item in found):
        message = f"expected a certificate about {WEIGHTS}, found none; make it with: trm-verify certify {source}"
        missing = {"verdict": "MISSING", "message": message, "exit_code": int(Exit.UNKNOWN)}
        found.append({"certificate": str(source / f"model{SUFFIX}"), "weights_file": weights, **missing})
    code = combined(item["exit_code"] for item in found)
    data = {"certificates": found} if source.is_dir() else {k: v for k, v in found[0].items() if k != "exit_code"}

    def show(console: Any) -> None:
        from trm_verify.report import print_check

        for item in found:
            print_check(console, item)
        open_ends = {name for item in found if item["verdict"] == "VALID" for name in item["not_compared"]}
        if open_ends & {"claim", "graph"}:
            console.out(
                "a valid proof of something else is valid too: name the claim you want with --expect, the model with "
                "--model", highlight=False,
            )  # fmt: skip

    return Outcome(code, data, show)


def _one(certificate: Path, options: Any, model: Exported | None) -> dict[str, Any]:
    """The verdict on one certificate, with its exit code."""
    weights = Path(options.weights) if options.weights is not None else weights_beside(certificate)
    named = {"certificate": str(certificate), "weights_file": None if weights is None else str(weights)}
    if not certificate.is_file():
        message = f"expected a certificate file, found none at {str(certificate)!r}"
        return {**named, "verdict": "UNREADABLE", "message": message, "exit_code": int(Exit.USAGE)}
    if weights is None:
        message = (
            f"expected the weights of {certificate.name} beside it, found none of its name and none with the digest "
            "that it states; name them: check CERT WEIGHTS"
        )
        return {**named, "verdict": "UNREADABLE", "message": message, "exit_code": int(Exit.USAGE)}
    code, said = isolated(certificate, weights, options.expect, None if model is None else model.digest)
    if code == Exit.GOOD and model is not None:
        differs = _differing_tensor(model, weights)
        if differs is not None:
            message = f"EXPECTED: expected tensor {differs} as in the given model; got other values in {weights}"
            code, said = 1, {"verdict": "INVALID", "code": "EXPECTED", "message": message}
    return {**named, **said, "exit_code": code}


def isolated(
    certificate: Path, weights: Path, expect: list[str] | tuple[str, ...] = (), graph: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the kernel's zipapp under `python -I -S`.

    Raises:
        RuntimeError: it ended without a report.
    """
    command = [sys.executable, "-I", "-S", str(archive.path()), str(certificate.absolute()), str(weights.absolute())]
    command += [f"--expect={text}" for text in expect] + ([] if graph is None else [f"--graph={graph}"]) + ["--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2, 4) or not done.stdout.startswith("{"):
        raise RuntimeError(f"the kernel ended with code {done.returncode} and no report: {done.stderr.strip()[-300:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, said


def _differing_tensor(model: Exported, weights: Path) -> str | None:
    """The first tensor of the model that the weights file does not hold bit for bit.

    The graph's digest covers names, shapes and operations, not values.
    """
    from trm_verify.pretrained import packed, read_tensors

    stored, _ = read_tensors(weights)
    for name, value in model.tensors.items():
        if name not in stored or packed({name: value}) != packed({name: stored[name]}):
            return name
    return None
