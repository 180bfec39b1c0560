"""`trm-verify certify`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify.cli.keeping import refusal
from trm_verify.cli.loading import (
    Loaded,
    box,
    exported,
    load_array,
    load_model,
    load_task_named,
    model_errors,
    region_of,
    writable,
)
from trm_verify.cli.outcome import Exit, Failure, Outcome, cannot, combined, usage
from trm_verify.naming import SUFFIX

if TYPE_CHECKING:
    from trm_verify.certificate import Certificate
    from trm_verify.result import VerificationResult

CODES = {"PROVED": Exit.GOOD, "REFUTED": Exit.INVALID, "UNKNOWN": Exit.UNKNOWN}


def run(options: Any) -> Outcome:
    """Prove, write the certificate beside the weights, say what was proved and why the rest was not."""
    from trm_verify.api import verify_fixed_point
    from trm_verify.result import VerificationResults

    region, domain = region_of(options), box(options.domain, "domain")
    loaded = load_model(options.model)
    x = inputs(options)
    target, weights = targets(options.out, loaded, SUFFIX)
    with model_errors(options.model):
        found: Any = verify_fixed_point(
            loaded.module, x, eps=options.eps, answer=options.answer, norm=options.norm, timeout=options.timeout,
            budget=options.budget, workers=options.workers, executor=options.executor, ledger=options.ledger,
            progress=not options.quiet, region=region, domain=domain,
        )  # fmt: skip
    results: list[VerificationResult] = list(found) if isinstance(found, VerificationResults) else [found]
    proved = [r for r in results if any(r.claims.values())]
    kept = None  # why the certificate that is there already stays
    written = None
    if proved:
        if target.exists() and not options.force:
            kept = refusal(target, _weights_of(weights, loaded), found.checked[1])
        if kept is None:
            write(target, weights, found.certificate, loaded)
            written = target
    data = {
        "model": options.model, **summary(results, whole=x is None), "eps": options.eps,
        "certificate": None if written is None else str(written), "weights_file": str(weights),
        "certificate_bytes": None if written is None else written.stat().st_size,
        "inputs": [] if x is None else [row(i, r) for i, r in enumerate(results)],
    }  # fmt: skip
    code = combined(CODES[str(r.verdict)] for r in results)
    data["verdict"] = {Exit.GOOD: "PROVED", Exit.INVALID: "REFUTED"}.get(code, "UNKNOWN")
    if kept is not None:
        data["error"] = {"kind": "usage", "message": kept}
        code = Exit.USAGE

    def show(console: Any) -> None:
        from trm_verify.report import print_results

        print_results(console, results, data["verdict"], batch=x is not None)
        if written is None:
            console.out(f"no certificate was written: {kept or 'nothing was proved'}", highlight=False)
        else:
            console.out(f"certificate  {written} ({written.stat().st_size / 1000:.0f} kB)", highlight=False)
            console.out(f"check it     trm-verify check {written} {weights} --model {options.model}", highlight=False)

    return Outcome(code, data, show)


def inputs(options: Any) -> Any:
    """The inputs that were asked for; None for the model as a whole.

    Raises:
        Failure: there are none (exit code 5), or they cannot be read.
    """
    x = None
    if options.input is not None:
        x = load_array(options.input)
    elif options.test_images is not None:
        task = load_task_named(options.task, options.model)
        test = task.test
        if options.test_images > len(test):
            raise usage(
                f"--test-images: expected at most the {len(test)} of task {task.name}, found {options.test_images}"
            )
        x = test.x[: options.test_images].numpy()
    if x is not None and x.size == 0:
        raise Failure(Exit.NOTHING, "expected at least one input, found none; there is nothing to check")
    return x


def targets(out: str | None, loaded: Loaded, suffix: str) -> tuple[Path, Path]:
    """Where the certificate and the weights go, refused before any work if that cannot be written.

    Raises:
        Failure: an unwritable folder, or a name that is no certificate's.
    """
    if out is not None and not out.endswith(SUFFIX):
        raise usage(f"--out: expected a file named NAME{SUFFIX}, found {out!r}")
    base = loaded.weights or Path(f"{loaded.name}.safetensors")
    target = Path(out) if out is not None else base.with_name(base.name.removesuffix(".safetensors") + suffix)
    if target.is_dir():
        raise usage(f"--out: expected a file, found the directory {str(target)!r}")
    writable(target.parent, "--out")
    weights = loaded.weights
    if weights is None:
        weights = target.with_name(target.name.removesuffix(suffix).removesuffix(SUFFIX) + ".safetensors")
    return target, weights


def write(target: Path, weights: Path, certificate: Certificate, loaded: Loaded) -> None:
    """The certificate, and the weights of a model that has no file of them yet: both whole, or neither.

    Raises:
        Failure: the target cannot be written.
        RuntimeError: the certificate is not about the saved weights.
    """
    from trm_verify.pretrained import write_files

    data = _weights_of(weights, loaded)
    files = {weights: data} if loaded.weights is None else {}
    if hashlib.sha256(data).hexdigest() != certificate.weights_digest:
        raise RuntimeError(f"expected a certificate of {weights}, found one of other weights")
    files[target] = certificate.to_bytes()
    try:
        write_files(files)
    except OSError as error:
        raise cannot("write the certificate", error, "choose another file with --out") from error


def _weights_of(weights: Path, loaded: Loaded) -> bytes:
    """What the weights file holds, or will hold once it is written."""
    return exported(loaded.module).to_bytes() if loaded.weights is None else weights.read_bytes()


def summary(results: list[VerificationResult], *, whole: bool) -> dict[str, Any]:
    """What the results share, as JSON: rate, norm and claims are left empty where inputs have their own."""
    from trm_verify.report import statements
    from trm_verify.result import CAVEAT

    first = results[0]
    shared = all(r.rate == first.rate and statements(r) == statements(first) for r in results)
    return {
        "caveat": CAVEAT, "rate": first.rate if shared else None, "norm": first.norm if shared else None,
        "steps_to_1e-6": steps(first) if whole else None,
        "graph": first.graph_digest, "weights": first.weights_digest,
        "claims": {n: c for n, c in claims(first).items() if "answer" not in n} if shared else {},
        "tried": [
            {"prover": t.prover, "norm": t.norm, "rate": t.rate, "reason": t.reason}
            for t in (first.trials if shared else ())
        ],
    }  # fmt: skip


def row(number: int, result: VerificationResult) -> dict[str, Any]:
    """What holds for one input, as JSON."""
    radius = None if result.enclosure is None else float(result.enclosure.radius.max())
    return {
        "input": number, "verdict": str(result.verdict),
        "answer": None if result.answer is None else list(result.answer), "final_after_steps": result.answer_steps,
        "steps_to_1e-6": steps(result), "rate": result.rate, "norm": result.norm, "enclosure_radius": radius,
        "search": None if result.details is None else asdict(result.details),
        "counterexample": None if result.counterexample is None else result.counterexample.tolist(),
        "claims": claims(result),
    }  # fmt: skip


def claims(result: VerificationResult) -> dict[str, Any]:
    """The claims of one result, as JSON."""
    return {
        c.name: {"verdict": str(c.verdict), "statement": c.statement, "reason": c.reason, "remedy": c.remedy}
        for c in result.claims.values()
    }


def steps(result: VerificationResult) -> int | None:
    """K(1e-6), None where it is not known: without convergence, or without a bound on the initial error."""
    try:
        return result.steps("1e-6")
    except ValueError:
        return None
