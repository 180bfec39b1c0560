"""Our own question, asked of other verifiers: an unrolled ONNX network and a VNN-LIB query for each ball of inputs.

The layout is that of the competitions of neural-network verifiers: `onnx/`, `vnnlib/` and `instances.csv`, so that a
tool that takes part in them can be run on the directory as it is. What they are asked is whether K steps answer as
stated, `answer_at(y, K)`; whether the loop goes on answering so afterwards is not a question about a finite network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box
from trm_verify.deploy.onnx import TOLERANCE, OnnxError, checked_bytes
from trm_verify.deploy.onnx.checking import reference
from trm_verify.deploy.onnx.functions import unrolled_model
from trm_verify.deploy.vnnlib.writing import arg_max_query
from trm_verify.pretrained import write_files
from trm_verify.verification.deployed import Deployed
from trm_verify.verification.inputs import Inputs, Number
from trm_verify.verification.session import Verification

TIMEOUT = 60


@dataclass(frozen=True)
class Query:
    """One question.

    Attributes:
        path: of the VNN-LIB file. labels: the answer that is asked about, one a position.
    """

    path: Path
    labels: tuple[int, ...]


def export_queries(
    model: nn.Module,
    x: torch.Tensor | np.ndarray | Sequence[Any] | Box,
    directory: Path | str,
    *,
    steps: int,
    eps: Number | None = None,
    answer: Any = None,
    timeout: int = TIMEOUT,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> tuple[Query, ...]:
    """Write onnx/unrolled.onnx, a vnnlib/query_I.vnnlib for each input, and instances.csv.

    Args:
        model, x, eps, answer: see `verify_fixed_point`; the default answer is that of the network at the centre.
        directory: made if need be.
        steps: how many steps the network takes.
        timeout: whole seconds that instances.csv allows for each query.
        tolerance, seed: see `export_onnx`.

    Raises:
        OnnxError: no network, or one that differs from the exact graph; integer inputs; a model without readout.
        ValueError: x, eps, answer and the model do not fit together. ExportError: the model cannot be exported.
        OSError: the directory cannot be written.
    """
    deployed = Deployed.of(model, seed)
    logits = deployed.logits_shape
    if logits is None or logits[-1] < 2:
        raise OnnxError("expected a model with a readout(z) of at least two classes, found none")
    if deployed.spec.vocabulary is not None or deployed.spec.input_shape is None:
        raise OnnxError("expected a model whose input is real numbers, which is what VNN-LIB has variables for")
    rows = Inputs.of(Verification(deployed), x, eps, answer)
    if rows is None or any(row.error or row.box is None for row in rows.rows):
        errors = [] if rows is None else [row.error for row in rows.rows if row.error]
        raise ValueError(errors[0] if errors else "expected an input x, found none")
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 1:
        raise ValueError(f"expected a whole number of seconds >= 1, found {timeout!r}")
    network = unrolled_model(deployed, steps)
    data, _ = checked_bytes(network, deployed, "unrolled", steps, tolerance=tolerance, seed=seed)
    centres = rows.centres
    with torch.no_grad():
        (scores,) = reference(deployed, "unrolled", (), centres, steps, len(rows.rows))
    own = scores.argmax(-1).reshape(len(rows.rows), -1)
    target = Path(directory)
    network_file = target / "onnx" / "unrolled.onnx"
    files, queries, lines = {network_file: data}, [], []
    for i, row in enumerate(rows.rows):
        labels = row.wanted or tuple(int(v) for v in own[i])
        about = (
            f"is the answer {labels} after {steps} steps, for every input of the box? unsat: yes\n"
            f"graph {deployed.exported.digest}"
        )
        path = target / "vnnlib" / f"query_{i}.vnnlib"
        files[path] = arg_max_query(row.box, logits, labels, about).encode("ascii")
        queries.append(Query(path, labels))
        lines.append(f"onnx/{network_file.name},vnnlib/{path.name},{timeout}\n")
    files[target / "instances.csv"] = "".join(lines).encode("ascii")
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
    write_files(files)
    return tuple(queries)
