"""ONNX files of the certified functions, each checked against the exact graph before it is written.

`export_onnx` is the way in. It needs the extra `onnx`: importing this package without it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

try:
    import onnx  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"ONNX files need onnx, which is not installed ({error.name} is missing); run: pip install 'trm-verify[onnx]'",
        name=error.name,
    ) from error

from trm_verify.deploy.onnx.checking import TOLERANCE, difference
from trm_verify.deploy.onnx.functions import (
    OnnxDiffers,
    OnnxError,
    init_model,
    readout_model,
    step_model,
    unrolled_model,
)
from trm_verify.pretrained import write_files
from trm_verify.verification.deployed import Deployed

__all__ = ["TOLERANCE", "OnnxDiffers", "OnnxError", "OnnxFile", "checked_bytes", "export_onnx"]


@dataclass(frozen=True)
class OnnxFile:
    """A written file.

    Attributes:
        path: where it is.
        function: "step", "init", "readout" or "unrolled".
        difference: between onnxruntime in float32 and the exact graph in float64, on random inputs, relative to one
            plus the largest output.
    """

    path: Path
    function: str
    difference: float


def export_onnx(
    model: nn.Module,
    directory: Path | str,
    *,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> tuple[OnnxFile, ...]:
    """Write step.onnx, init.onnx and readout.onnx (where the model has them) and, with `steps`, unrolled.onnx.

    The files are written from the graph that certificates are about (see `functions`); their metadata name its digest
    and that of the weights. Nothing is written unless every file agrees with the graph.

    Args:
        model: see `verify_fixed_point`.
        directory: made if need be.
        steps: how many steps unrolled.onnx takes, from init to the logits.
        tolerance: the largest difference that is accepted, see `OnnxFile`.
        seed: of the random inputs.

    Raises:
        OnnxDiffers: a file differs from the graph. OnnxError: there is none of that kind.
        ExportError: the model cannot be exported exactly. ValueError: its description is wrong.
        ModuleNotFoundError: onnxruntime is not installed.
        OSError: the directory cannot be written.
    """
    deployed = Deployed.of(model, seed)
    made: dict[str, tuple[onnx.ModelProto, int]] = {"step": (step_model(deployed), 0)}
    if deployed.exported.graph["init"] is not None:
        made["init"] = (init_model(deployed), 0)
    if deployed.exported.graph["readout"] is not None:
        made["readout"] = (readout_model(deployed), 0)
    if steps is not None:
        made["unrolled"] = (unrolled_model(deployed, steps), steps)
    target = Path(directory)
    files, written = {}, []
    for function, (each, count) in made.items():
        data, found = checked_bytes(each, deployed, function, count, tolerance=tolerance, seed=seed)
        path = target / f"{function}.onnx"
        files[path] = data
        written.append(OnnxFile(path, function, found))
    target.mkdir(parents=True, exist_ok=True)
    write_files(files)
    return tuple(written)


def checked_bytes(
    model: onnx.ModelProto,
    deployed: Deployed,
    function: str,
    steps: int = 0,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> tuple[bytes, float]:
    """An ONNX model as the bytes of its file, once it is seen to agree with the exact graph, and how well it does.

    Raises:
        OnnxDiffers: it does not. OnnxError: it is no valid model.
    """
    found = difference(model, deployed, function, steps, seed)
    if not found <= tolerance:
        advice = "use fewer steps: this loop amplifies rounding" if function == "unrolled" else "look at its range"
        raise OnnxDiffers(
            f"expected {function} in float32 to be within {tolerance:g} of the exact graph, found {found:.2g} on "
            f"random inputs; {advice}, or accept a larger tolerance"
        )
    return model.SerializeToString(deterministic=True), found
