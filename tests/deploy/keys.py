"""Keys for the tests of signatures, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_keys(folder: Path, name: str = "signing", curve: Any = None) -> tuple[Path, Path]:
    """A private key and its public one, as PEM files."""
    # here and not above: tests that are skipped without the extra `sign` import this module all the same
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(curve or ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
