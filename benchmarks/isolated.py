"""The kernel by itself, started as in continuous integration."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from trm_verify import archive


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def isolated(certificate: bytes, weights: bytes) -> float:
    """Processor seconds of the kernel alone, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("model.trmcert.json", "model.safetensors")]
        for path, data in zip(files, (certificate, weights), strict=True):
            path.write_bytes(data)
        before = _children()
        command = [sys.executable, "-I", "-S", str(archive.path()), *map(str, files)]
        subprocess.run(command, check=True, capture_output=True)
        return _children() - before
