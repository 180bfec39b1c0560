"""Signatures: by this key, of these bytes, or refused."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="model-signing is not installed (the extra sign)")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402

from tests.deploy.keys import write_keys  # noqa: E402
from trm_verify.deploy import SignatureError, sign, verify  # noqa: E402

DATA = b"what is signed" * 20


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_who_and_why(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    private, public = write_keys(tmp_path, curve=curve)
    signer = verify(DATA, sign(DATA, private, "a.trmbundle"), public)
    key = serialization.load_pem_public_key(public.read_bytes())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert signer.key == hashlib.sha256(der).hexdigest()
    assert signer.curve == curve.name and "signing.pub" in signer.why


def test_every_changed_byte_of_the_data_is_caught(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    signature, chance = sign(DATA, private, "a"), random.Random(0)
    for at in chance.sample(range(len(DATA)), 25):
        changed = bytearray(DATA)
        changed[at] ^= 1 << chance.randrange(8)
        with pytest.raises(SignatureError, match="changed after signing"):
            verify(bytes(changed), signature, public)
    for other in (b"", DATA[:-1], DATA + b"\n"):
        with pytest.raises(SignatureError, match="changed after signing"):
            verify(other, signature, public)


def test_a_changed_signature_never_speaks_for_other_bytes(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    signature, chance, refused = sign(DATA, private, "a"), random.Random(1), 0
    for at in chance.sample(range(len(signature)), 40):
        changed = bytearray(signature)
        changed[at] ^= 1 << chance.randrange(7)
        with pytest.raises(SignatureError):
            verify(DATA + b"x", bytes(changed), public)
        try:
            verify(DATA, bytes(changed), public)
        except SignatureError:
            refused += 1
    assert refused > 30, "what is not refused are fields that the signature does not cover"


def test_another_key(tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path)
    _, stranger = write_keys(tmp_path, "stranger")
    signature = sign(DATA, private, "a")
    with pytest.raises(SignatureError, match="by another key"):
        verify(DATA, signature, stranger)
    # the same with the hint at the key forged, so that only the mathematics can tell
    forged = json.loads(signature)
    pem = serialization.load_pem_public_key(stranger.read_bytes()).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(pem).hexdigest()
    with pytest.raises(SignatureError, match="does not verify"):
        verify(DATA, json.dumps(forged).encode(), stranger)
    del forged["verificationMaterial"]["publicKey"]["hint"]
    with pytest.raises(SignatureError, match="does not verify"):
        verify(DATA, json.dumps(forged).encode(), stranger)


def test_a_swapped_payload(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    forged = json.loads(sign(DATA, private, "a"))
    payload = base64.b64decode(forged["dsseEnvelope"]["payload"])
    other = payload.replace(hashlib.sha256(DATA).hexdigest().encode(), hashlib.sha256(b"evil").hexdigest().encode())
    assert other != payload
    forged["dsseEnvelope"]["payload"] = base64.b64encode(other).decode()
    with pytest.raises(SignatureError, match="does not verify"):
        verify(b"evil", json.dumps(forged).encode(), public)


def test_a_signature_of_a_folder_is_not_one_of_a_file(tmp_path: Path) -> None:
    from model_signing import signing

    private, public = write_keys(tmp_path)
    for names in ([], ["a"], ["bundle"]):
        folder = tmp_path / f"folder{len(names)}{''.join(names)}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(DATA)
        signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, tmp_path / "sig")
        with pytest.raises(SignatureError):
            verify(DATA, (tmp_path / "sig").read_bytes(), public)


def test_the_signature_does_not_choose_what_is_compared(tmp_path: Path) -> None:
    """A statement about nothing, with the file itself among the paths to ignore: the reference verifier accepts it."""
    from model_signing import hashing, verifying

    private, public = write_keys(tmp_path)
    forged = json.loads(sign(DATA, private, "a"))
    statement = json.loads(base64.b64decode(forged["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"] = []
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"").hexdigest()  # of all digests: there is none
    statement["predicate"]["serialization"]["ignore_paths"] = ["."]
    payload, kind = json.dumps(statement).encode(), forged["dsseEnvelope"]["payloadType"].encode()
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = key.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), ec.ECDSA(hashes.SHA256()))
    forged["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    forged["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signed).decode()
    file, signature = tmp_path / "any", tmp_path / "any.sig"
    file.write_bytes(b"anything at all")
    signature.write_text(json.dumps(forged))
    hashed = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    verifying.Config().set_hashing_config(hashed).use_elliptic_key_verifier(public_key=public).verify(file, signature)
    with pytest.raises(SignatureError, match="one of something else by the same key"):
        verify(file.read_bytes(), signature.read_bytes(), public)


def test_the_same_signature_satisfies_the_reference_tool(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    file, signature = tmp_path / "a.trmbundle", tmp_path / "a.trmbundle.sig"
    file.write_bytes(DATA)
    signature.write_bytes(sign(DATA, private, file.name))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(file), "--signature", str(signature),
               "--public_key", str(public)]  # fmt: skip
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    file.write_bytes(DATA + b"!")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("broken", [b"", b"{}", b"[]", b"null", b"\xff", b'{"verificationMaterial": 3}', b"[" * 100_000,
                                    b"x" * (1 << 20) + b"x"])  # fmt: skip
def test_files_that_are_no_signature(tmp_path: Path, broken: bytes) -> None:
    _, public = write_keys(tmp_path)
    with pytest.raises(SignatureError, match="expected a signature"):
        verify(DATA, broken, public)


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    signature = sign(DATA, private, "a")
    edwards = ed25519.Ed25519PrivateKey.generate()
    pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "ed.pub").write_bytes(edwards.public_key().public_bytes(pem, spki))
    (tmp_path / "ed.key").write_bytes(
        edwards.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    write_keys(tmp_path, "koblitz", ec.SECP256K1())
    (tmp_path / "text.pub").write_bytes(b"no key")
    (tmp_path / "large.pub").write_bytes(bytes(1 << 17))
    for name in ("signing.key", "ed.pub", "koblitz.pub", "text.pub", "large.pub"):
        with pytest.raises(SignatureError, match="expected a"):
            verify(DATA, signature, tmp_path / name)
    for name in ("signing.pub", "ed.key", "koblitz.key", "text.pub"):
        with pytest.raises(SignatureError, match="openssl"):
            sign(DATA, tmp_path / name, "a")
    with pytest.raises(FileNotFoundError):
        verify(DATA, signature, tmp_path / "none.pub")


def test_without_model_signing_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path)
    for name in ("model_signing", "model_signing.signing", "model_signing.hashing", "model_signing.verifying"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: sign(DATA, private, "a"), lambda: verify(DATA, b"{}", public)):
        with pytest.raises(ModuleNotFoundError, match=r"trm-verify\[sign\]"):
            call()
