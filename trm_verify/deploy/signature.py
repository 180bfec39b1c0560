"""Detached signatures of bundles, through sigstore's `model-signing`, with an elliptic-curve key.

What is signed is an in-toto statement about the digest of the whole file, so that `model_signing verify` accepts the
same signature. Keys are PEM files on the curves P-256, P-384 or P-521; nothing goes over the network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNATURE_SUFFIX = ".sig"
MAX_SIGNATURE, MAX_KEY = 1 << 20, 1 << 16
_MAKE_KEYS = (
    "openssl ecparam -name prime256v1 -genkey -noout -out signing.key && "
    "openssl ec -in signing.key -pubout -out signing.pub"
)


class SignatureError(ValueError):
    """A signature that does not hold, or a key that cannot be used."""


@dataclass(frozen=True)
class Signer:
    """Who signed: the holder of this key.

    Attributes:
        key: SHA-256 of the public key (its DER form). curve: of the key. why: what was verified, in words.
    """

    key: str
    curve: str
    why: str


def sign(data: bytes, private_key: Path | str, name: str) -> bytes:
    """The signature of a file's bytes, as the JSON of a sigstore bundle.

    Raises:
        SignatureError: the key cannot be used. ModuleNotFoundError: model-signing is not installed.
        OSError: the key cannot be read.
    """
    key = _read(Path(private_key), MAX_KEY)
    with _model_signing(), tempfile.TemporaryDirectory() as folder:
        from model_signing import signing

        file, signature = Path(folder, Path(name).name), Path(folder, "signature")
        file.write_bytes(data)
        Path(folder, "key").write_bytes(key)
        Path(folder, "key").chmod(0o600)
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=Path(folder, "key"))
        except (ValueError, TypeError, AttributeError) as error:
            raise SignatureError(
                f"expected a private key in PEM form, without password, on the curve P-256, P-384 or P-521 in "
                f"{private_key}, found: {error}; make one: {_MAKE_KEYS}"
            ) from error
        config.sign(file, signature)
        return signature.read_bytes()


def verify(data: bytes, signature: bytes, public_key: Path | str) -> Signer:
    """Who signed these bytes, and why that holds.

    Raises:
        SignatureError: the signature is not by this key, or not of these bytes.
        ModuleNotFoundError: model-signing is not installed. OSError: the key cannot be read.
    """
    raw = _read(Path(public_key), MAX_KEY)
    if len(signature) > MAX_SIGNATURE:
        raise SignatureError(f"expected a signature of at most {MAX_SIGNATURE} bytes, found {len(signature)}")
    with _model_signing(), tempfile.TemporaryDirectory() as folder:
        from model_signing import hashing, verifying

        fingerprint, curve = _key(raw, public_key)
        paths = [Path(folder, part) for part in ("bundle", "signature", "key")]
        for path, content in zip(paths, (data, signature, raw), strict=True):
            path.write_bytes(content)
        # SHA-256 of the whole file, whatever the signature asks for
        hashed = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
        config = verifying.Config().set_hashing_config(hashed).use_elliptic_key_verifier(public_key=paths[2])
        try:
            config.verify(paths[0], paths[1])
        except Exception as error:  # the reader of a hostile signature raises whatever its parsers do
            raise SignatureError(_refusal(error)) from error
    digest = hashlib.sha256(data).hexdigest()
    if _signed(signature) != [{"algorithm": "sha256", "digest": digest, "name": "."}]:
        raise SignatureError(
            f"expected a signature of one file with SHA-256 {digest}, found one of something else by the same key; "
            "sign the bundle again"
        )
    why = f"the ECDSA signature over the SHA-256 of the whole file verifies with the public key {Path(public_key).name}"
    return Signer(fingerprint, curve, why)


def _signed(signature: bytes) -> Any:
    """What a signature that was verified is about."""
    try:
        payload = base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"], validate=True)
        return json.loads(payload)["predicate"]["resources"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise SignatureError(f"expected a signature as model-signing writes it, found: {error}") from error


def _key(raw: bytes, where: Path | str) -> tuple[str, str]:
    """Fingerprint and curve of a public key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            f"expected a public key in PEM form in {where}, found something else (is it the private key?); "
            "write it with: openssl ec -in signing.key -pubout -out signing.pub"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise SignatureError(f"expected a key on the curve P-256, P-384 or P-521 in {where}, found another kind")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest(), key.curve.name


def _refusal(error: Exception) -> str:
    from cryptography.exceptions import InvalidSignature

    text = str(error)
    if "Key mismatch" in text:
        return "expected a signature by the given key, found one by another key; ask the signer for the public key"
    if "Signature mismatch" in text:
        return "expected the file that was signed, found another: it was changed after signing; get the file again"
    if isinstance(error, InvalidSignature):
        return "expected a valid signature by the given key, found one that does not verify; get the signature again"
    kind = f"{type(error).__name__}: {text}".splitlines()[0][:160]
    return f"expected a signature as model-signing writes it, found a file that is not one ({kind})"


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise SignatureError(f"expected a key of at most {limit} bytes in {path}, found more")
    return data


@contextmanager
def _model_signing() -> Iterator[None]:
    """model-signing is there, and what it prints stays out of our output."""
    try:
        with redirect_stdout(io.StringIO()):
            import model_signing.hashing
            import model_signing.signing
            import model_signing.verifying  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"signatures need model-signing, which is not complete ({error.name} is missing); run: "
            "pip install 'trm-verify[sign]'",
            name=error.name,
        ) from error
    with redirect_stdout(io.StringIO()):
        yield
