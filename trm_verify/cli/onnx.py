"""`trm-verify onnx`: the certified functions as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trm_verify.cli.loading import load_model, model_errors, writable
from trm_verify.cli.outcome import Exit, Failure, Outcome, usage


def run(options: Any) -> Outcome:
    """Write the files, each compared with the exact graph under onnxruntime."""
    try:
        from trm_verify.deploy.onnx import OnnxDiffers, export_onnx
    except ModuleNotFoundError as error:
        raise usage(str(error)) from error

    loaded = load_model(options.model)
    writable(Path(options.out), "--out")
    with model_errors(options.model):
        try:
            files = export_onnx(loaded.module, options.out, steps=options.steps, tolerance=options.tolerance)
        except ModuleNotFoundError as error:
            raise usage(str(error)) from error
        except OnnxDiffers as error:
            raise Failure(Exit.INVALID, str(error)) from error
    data = {
        "model": options.model, "steps": options.steps,
        "files": [{"path": str(f.path), "function": f.function, "difference": f.difference} for f in files],
    }  # fmt: skip

    def show(console: Any) -> None:
        for each in files:
            console.out(
                f"{each.function:10}{each.path}  (onnxruntime is within {each.difference:.1e} of the exact graph)",
                highlight=False,
            )

    return Outcome(Exit.GOOD, data, show)
