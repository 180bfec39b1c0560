"""Models on their way to others: bundles of a model with its proof, and signatures that say who made them.

Formats of others are modules of their own: `onnx`, `vnnlib`, `queries` (both together) and `weights` (safetensors).
"""

from __future__ import annotations

from trm_verify.deploy.bundle import BundleError, collect, pack, unpack
from trm_verify.deploy.checking import CheckedBundle, check_bundle
from trm_verify.deploy.signature import SignatureError, Signer, sign, verify

__all__ = [
    "BundleError",
    "CheckedBundle",
    "SignatureError",
    "Signer",
    "check_bundle",
    "collect",
    "pack",
    "sign",
    "unpack",
    "verify",
]
