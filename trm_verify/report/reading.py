"""What a model directory holds: the model, its weights, and every certificate with the kernel's verdict on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trm_verify.export import ExportError
from trm_verify.kernel import document
from trm_verify.kernel.check import Valid, check
from trm_verify.kernel.claims import Conclusion, Run
from trm_verify.kernel.errors import CheckError
from trm_verify.naming import CONFIG, SUFFIX, WEIGHTS, weights_beside
from trm_verify.pretrained import from_pretrained
from trm_verify.provers.problem import floats
from trm_verify.report.accuracy import AccuracyCurve, AccuracyPoint
from trm_verify.verification.deployed import Deployed

ACCURACY = "accuracy.json"
MAX_ACCURACY = 1 << 20


@dataclass(frozen=True)
class ReadCertificate:
    """One file, and what the kernel says of it: `valid`, or the `error` it was rejected with."""

    name: str
    size: int
    digest: str
    valid: Valid | None
    error: str = ""
    runs: tuple[np.ndarray, ...] = ()  # the stored states of each claimed run, in the order of the claims

    @property
    def claims(self) -> tuple[Conclusion, ...]:
        return () if self.valid is None else self.valid.claims


@dataclass(frozen=True, eq=False)
class ModelDirectory:
    """A model and what is proved of it.

    Attributes:
        name: of the directory. weights: name, size and digest of the weights file.
        config: of the model; empty when the directory has no `config.json`.
        model: the baked model, or None without configuration. accuracy: certified accuracy, if it was measured.
    """

    name: str
    weights: tuple[str, int, str]
    config: dict[str, Any]
    model: nn.Module | None
    certificates: tuple[ReadCertificate, ...]
    accuracy: AccuracyCurve | None = None

    @property
    def rejected(self) -> tuple[ReadCertificate, ...]:
        return tuple(c for c in self.certificates if c.valid is None)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Digests of the graphs that valid certificates are about."""
        return tuple(dict.fromkeys(c.valid.graph.digest for c in self.certificates if c.valid is not None))

    @cached_property
    def deployed(self) -> Deployed | None:
        """The model's exact graph; None when there is no model or it cannot be exported."""
        try:
            return None if self.model is None else Deployed.of(self.model)
        except (ExportError, ValueError):
            return None

    @property
    def same_graph(self) -> bool | None:
        """Whether every certificate is about the graph that the saved model exports to; None: not compared."""
        if self.deployed is None or not self.graphs:
            return None
        return self.graphs == (self.deployed.exported.digest,)


def read_directory(directory: Path | str) -> ModelDirectory:
    """Read a model directory and check each certificate in it, against its own weights file.

    Raises:
        FileNotFoundError: no such directory, or no certificate or weights in it.
        PretrainedError: a configuration or weights that cannot be used.
        CheckError: the figures of certified accuracy are not the JSON that `trm-verify curve --json` prints.
        OSError: a file cannot be read.
    """
    source = Path(directory)
    if not source.is_dir():
        raise FileNotFoundError(f"expected a model directory written by save_pretrained, found none at {source}")
    files = sorted(source.glob(f"*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"expected certificates named *{SUFFIX} in {source}, found none; make one with: trm-verify certify {source}"
        )
    has_config = (source / CONFIG).is_file()
    weights = source / WEIGHTS if has_config else next((w for w in map(weights_beside, files) if w), None)
    if weights is None:
        raise FileNotFoundError(f"expected {WEIGHTS} in {source}, found none; copy it beside its certificates")
    model = from_pretrained(source) if has_config else None
    raw = weights.read_bytes()
    config = json.loads((source / CONFIG).read_bytes()) if has_config else {}
    return ModelDirectory(
        name=source.resolve().name,
        weights=(weights.name, len(raw), sha256(raw).hexdigest()),
        config=config,
        model=model,
        certificates=tuple(read_certificate(file, weights_beside(file) or weights) for file in files),
        accuracy=_accuracy(source / ACCURACY) if (source / ACCURACY).is_file() else None,
    )


def read_certificate(file: Path, weights: Path) -> ReadCertificate:
    """One certificate and the kernel's verdict.

    Raises:
        OSError: a file cannot be read.
    """
    raw = document.read_file(file, document.MAX_BYTES)
    facts = (file.name, len(raw), sha256(raw).hexdigest())
    try:
        valid = check(raw, weights.read_bytes())
    except CheckError as error:
        return ReadCertificate(*facts, None, str(error))
    predicate = document.load(raw)["predicate"]
    runs = [
        _states(predicate["steps"][entry["step"]], valid.graph.size)
        for entry, claim in zip(predicate["claims"], valid.claims, strict=True)
        if isinstance(claim, Run)
    ]
    return ReadCertificate(*facts, valid, runs=tuple(runs))


def _states(step: dict[str, Any], size: int) -> np.ndarray:
    """The stored states of a run, as the kernel read them. Shape: (steps + 1, n)."""
    ints, exp = document.vector(step["states"], None, "states")
    return floats(ints, exp).reshape(-1, size)


def _accuracy(file: Path) -> AccuracyCurve:
    """What `trm-verify curve --json` printed. JSON of another shape is refused."""
    where = f"{file.name}: written by trm-verify curve --json"
    found = document.load(document.read_file(file, MAX_ACCURACY))
    points = found.get("points")
    good = isinstance(points, list) and 0 < len(points) <= 1000
    if not good or not all(isinstance(p, dict) and isinstance(p.get("eps"), str) for p in points or ()):
        raise CheckError("FIELD", f"{where}, with its points")
    read = []
    for point in points or ():
        counts = [document.integer(point.get(name), 0, 10**9, where) for name in ("certified", "refuted", "inputs")]
        try:
            radius = float(point["eps"])
        except ValueError as error:
            raise CheckError("NUMBER", f"{where}: a radius", point["eps"]) from error
        if counts[0] + counts[1] > counts[2] or not counts[2] or not 0 <= radius < float("inf"):
            raise CheckError("NUMBER", f"{where}: certified and refuted inputs among all of them", counts)
        read.append(AccuracyPoint(point["eps"], *counts))
    return AccuracyCurve(tuple(sorted(read, key=lambda p: float(p.eps))))
