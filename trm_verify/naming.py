"""What the files of a model are called. Standard library only: what checks certificates needs nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from trm_verify.kernel.document import MAX_BYTES, load, read_file
from trm_verify.kernel.errors import CheckError

SUFFIX, WEIGHTS, CONFIG = ".trmcert.json", "model.safetensors", "config.json"


def is_saved(folder: Path) -> bool:
    """Whether save_pretrained wrote this folder."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "trm_verify" and (folder / WEIGHTS).is_file()


def weights_beside(certificate: Path) -> Path | None:
    """The weights that a certificate lies beside: those of its name, else those that it says it is about.

    NAME.trmcert.json and NAME.run.trmcert.json lie beside NAME.safetensors. A certificate of another name, as `certify
    --out` writes it, is about the file with the digest that it states. What is found is for the kernel to compare.
    """
    name = certificate.name.removesuffix(SUFFIX)
    while name:
        candidate = certificate.with_name(f"{name}.safetensors")
        if candidate.is_file():
            return candidate
        name = name.rpartition(".")[0]
    wanted = _stated(certificate)
    files = [] if wanted is None else sorted(certificate.parent.glob("*.safetensors"))
    files.sort(key=lambda file: file.name != WEIGHTS)  # of equal files, the model's own
    return next((file for file in files if _digest(file) == wanted), None)


def _stated(certificate: Path) -> str | None:
    """The digest of the weights that a certificate names, if it is one."""
    try:
        return str(load(read_file(certificate, MAX_BYTES))["subject"][0]["digest"]["sha256"])
    except (CheckError, OSError, LookupError, TypeError):
        return None


def _digest(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
