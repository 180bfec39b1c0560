"""What the files of a model are called. Standard library only: what checks certificates needs nothing else."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".trmcert.json"


def weights_beside(certificate: Path) -> Path | None:
    """The weights that a certificate lies beside: NAME.trmcert.json or NAME.run.trmcert.json, NAME.safetensors."""
    name = certificate.name.removesuffix(SUFFIX)
    while name:
        candidate = certificate.with_name(f"{name}.safetensors")
        if candidate.is_file():
            return candidate
        name = name.rpartition(".")[0]
    return None
