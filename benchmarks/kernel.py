"""The isolated kernel on large steps: time to re-check, time to prove, size of the certificate.

The steps have an input. Without one the call would look for the one fixed point as well, which is another question.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench import Json, Row, linear
from torch import nn

import trm_verify as tv
from trm_verify import archive
from trm_verify.export import export


def two_layers(n: int) -> nn.Module:
    """z ← W₂ ReLU(W₁ z) + x, both n × n, with a norm product of about 0.8."""
    rng = np.random.default_rng(2)
    first, second = (linear(rng.normal(size=(n, n)) * 0.45 / n**0.5, torch.float32) for _ in range(2))
    return tv.recursive(lambda z, x: second(torch.relu(first(z))) + x, state_shape=(n,), input_shape=(n,))


def dense(n: int) -> nn.Module:
    """z ← ReLU(W z + x), n × n."""
    layer = linear(np.random.default_rng(3).normal(size=(n, n)) * 0.8 / n, torch.float32)
    return tv.recursive(lambda z, x: torch.relu(layer(z) + x), state_shape=(n,), input_shape=(n,))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(name: str, model: nn.Module, norm: str, most: dict[str, float]) -> list[Row]:
    """Prove, save, and re-check with nothing but Python."""
    before, wall = time.process_time(), time.perf_counter()
    result = tv.verify_fixed_point(model, norm=norm)
    proving, proving_wall = time.process_time() - before, time.perf_counter() - wall
    with tempfile.TemporaryDirectory() as folder:
        certificate, weights = Path(folder) / "model.trmcert.json", Path(folder) / "model.safetensors"
        result.certificate.save(certificate)
        export(model).save(weights)
        size = os.path.getsize(certificate) / 1e6
        before, wall = _children(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-I", "-S", str(archive.path()), str(certificate), str(weights)],
            check=True, capture_output=True,
        )  # fmt: skip
        checking, checking_wall = _children() - before, time.perf_counter() - wall
    note = f"rate {result.rate:.6f} in {result.norm}; "
    return [
        Row("kernel", f"{name}: isolated kernel", checking, "s", most["check"], f"{note}{checking_wall:.1f} s elapsed"),
        Row("kernel", f"{name}: export, prove, check", proving, "s", most.get("prove"), f"{proving_wall:.1f} s"),
        Row("kernel", f"{name}: certificate", size, "MB", most["size"]),
    ]  # fmt: skip


def run(out: Path) -> tuple[list[Row], Json]:
    """Processor seconds; both limits hold on one core."""
    rows = measure("two 512 × 512 layers, l2", two_layers(512), "l2", {"check": 10, "size": 6})
    rows += measure("7.0 million parameters, weighted linf", dense(2646), "linf", {"check": 10, "prove": 60, "size": 1})
    return rows, {}
