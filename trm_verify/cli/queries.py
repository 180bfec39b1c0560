"""`trm-verify queries`: our own question as ONNX and VNN-LIB files, for other verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.certify import inputs
from trm_verify.cli.loading import load_model, model_errors, writable
from trm_verify.cli.outcome import Exit, Failure, Outcome, usage


def run(options: Any) -> Outcome:
    """Write one network, and one query for each input."""
    try:
        from trm_verify.deploy.onnx import OnnxDiffers
        from trm_verify.deploy.queries import export_queries
    except ModuleNotFoundError as error:
        raise usage(str(error)) from error

    loaded = load_model(options.model)
    x = inputs(options)
    if x is None:
        raise usage("expected inputs to ask about, found none; give --input FILE.npy or --test-images N")
    writable(Path(options.out), "--out")
    with model_errors(options.model):
        try:
            written = export_queries(
                loaded.module, x, options.out, steps=options.steps, eps=options.eps, timeout=options.timeout
            )
        except ModuleNotFoundError as error:
            raise usage(str(error)) from error
        except OnnxDiffers as error:
            raise Failure(Exit.INVALID, str(error)) from error
    data = {
        "model": options.model, "steps": options.steps, "eps": options.eps,
        "instances": str(Path(options.out) / "instances.csv"),
        "queries": [{"path": str(each.path), "answer": list(each.labels)} for each in written],
    }  # fmt: skip

    def show(console: Any) -> None:
        many = "query" if len(written) == 1 else "queries"
        about = f"about the answer after exactly {options.steps} steps"
        console.out(f"{len(written)} {many} {about}: {data['instances']}", highlight=False)

    return Outcome(Exit.GOOD, data, show)
