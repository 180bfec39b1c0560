"""An ONNX model against the exact graph: the reference checker, then onnxruntime on random inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from trm_verify.deploy.onnx.functions import OnnxDiffers, OnnxError
from trm_verify.export.selfcheck import Samples
from trm_verify.model import Damped, flatten_state, unflatten_state
from trm_verify.verification.deployed import Deployed

TOLERANCE = 1e-4
BATCHES = (1, 3)


def difference(model: onnx.ModelProto, deployed: Deployed, function: str, steps: int = 0, seed: int = 0) -> float:
    """The largest difference between the file under onnxruntime, in float32, and the exact graph in float64.

    It is relative: a difference d in an output whose largest entry is m counts as d / (1 + m). States are drawn from a
    normal distribution, inputs from the model's domain; batches of one row and of three are tried.

    Raises:
        OnnxError: the reference checker or onnxruntime refuses the file.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    runtime = _runtime()
    try:
        onnx.checker.check_model(model, full_check=True)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # both raise whatever their C++ parts do
        raise OnnxError(f"expected {function} to be a valid ONNX model, found: {error}") from error
    samples = Samples(deployed.model, deployed.spec, seed)
    worst = 0.0
    for batch in BATCHES if session.get_inputs() else (1,):
        z, x = samples.draw(batch)
        z = tuple(part.float() for part in z)
        x = x if x is None or deployed.spec.vocabulary is not None else x.float()
        given = [*z, x] if function == "step" else list(z) if function == "readout" else [x]
        feed = {
            each.name: value.cpu().numpy()
            for each, value in zip(session.get_inputs(), (v for v in given if v is not None), strict=True)
        }
        try:
            found = session.run(None, feed)
        except Exception as error:
            raise OnnxError(f"expected onnxruntime to run {function} on {batch} rows, found: {error}") from error
        with torch.no_grad():
            wanted = reference(deployed, function, z, x, steps, batch)
        worst = max([worst, *map(_distance, found, wanted, [function] * len(wanted))])
    return worst


def reference(
    deployed: Deployed, function: str, z: Sequence[Tensor], x: Tensor | None, steps: int, batch: int
) -> list[np.ndarray]:
    """The same function by the exact graph in float64."""
    graph = deployed.lowered
    parts: Sequence[Tensor]
    if function == "step":
        parts = graph.step(z, x)
    elif function == "readout":
        parts = (graph.readout(z),)
    else:
        parts = graph.init(x, batch)
        for _ in range(steps):
            parts = _damped(deployed, parts, graph.step(parts, x))
        if function == "unrolled" and graph.graph["readout"] is not None:
            parts = (graph.readout(parts),)
    return [part.numpy() for part in parts]


def _damped(deployed: Deployed, z: Sequence[Tensor], after: Sequence[Tensor]) -> Sequence[Tensor]:
    iteration = deployed.spec.iteration
    if not isinstance(iteration, Damped):
        return after
    old = flatten_state(tuple(z))
    alpha = iteration.tensor(old)
    mixed = unflatten_state((1 - alpha) * old + alpha * flatten_state(tuple(after)), deployed.spec.parts)
    return mixed if isinstance(mixed, tuple) else (mixed,)


def _distance(found: np.ndarray, wanted: np.ndarray, function: str) -> float:
    if found.shape != wanted.shape:
        raise OnnxDiffers(f"expected {function} to return shape {wanted.shape}, found {found.shape}")
    if not np.isfinite(wanted).all() or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max() / (1 + np.abs(wanted).max()))


def _runtime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an ONNX file is checked before it is written, which needs onnxruntime, which is not installed; run: "
            "pip install 'trm-verify[onnx]'",
            name=error.name,
        ) from error
    return onnxruntime
