"""What has to hold of a bundle, in this order: its signature, its digests, its proof.

The signature comes first, over the raw bytes: nothing of an unsigned file is parsed when a key was given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trm_verify.deploy.bundle import MAX_BYTES, BundleError, unpack
from trm_verify.deploy.signature import MAX_SIGNATURE, SIGNATURE_SUFFIX, SignatureError, Signer, verify
from trm_verify.export import ExportError
from trm_verify.kernel.document import read_file
from trm_verify.naming import SUFFIX, WEIGHTS, weights_beside
from trm_verify.pretrained import PretrainedError, from_pretrained, packed, read_tensors
from trm_verify.verification.deployed import Deployed

# certificate, weights, expected claims, digest of the graph ↦ exit code and report
Kernel = Callable[[Path, Path, Sequence[str], str | None], tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle whose digests and proof hold.

    Attributes:
        signer: who signed it, or None when no key was given (`signed`: whether a signature lay beside it).
        files: name and size of each. certificates: the kernel's report on each. graph: digest of the model's graph.
    """

    signer: Signer | None
    signed: bool
    files: tuple[tuple[str, int], ...]
    certificates: tuple[dict[str, Any], ...]
    graph: str


def check_bundle(
    bundle: Path | str, kernel: Kernel, *, key: Path | str | None = None, signature: Path | str | None = None,
    expect: Sequence[str] = (),
) -> CheckedBundle:  # fmt: skip
    """Check a bundle: signature, then digests, then every certificate with the kernel, about the bundled model.

    Args:
        kernel: how a certificate is checked.
        key: the public key that must have signed; None: the signature is not checked.
        signature: where the signature is (default: beside the bundle).
        expect: claims in text form; each must be proved by one of the certificates.

    Raises:
        SignatureError: not signed by this key, or changed since.
        BundleError: a broken bundle, an invalid certificate, or one about another model.
        ModuleNotFoundError: model-signing is not installed. OSError: a file cannot be read.
    """
    file = Path(bundle)
    beside = Path(signature) if signature is not None else file.with_name(file.name + SIGNATURE_SUFFIX)
    data = read_file(file, MAX_BYTES)
    signer = None
    if key is not None:
        if not beside.is_file():
            raise SignatureError(f"expected a signature in {beside}, found none; name it, or ask the sender for it")
        signer = verify(data, read_file(beside, MAX_SIGNATURE), key)
    files = unpack(data)
    with tempfile.TemporaryDirectory() as folder:  # readable by this user only, gone at the end
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        certificates, graph = _proof(Path(folder), kernel, expect)
    sizes = tuple((name, len(content)) for name, content in sorted(files.items()))
    return CheckedBundle(signer, beside.is_file(), sizes, certificates, graph)


def _proof(folder: Path, kernel: Kernel, expect: Sequence[str]) -> tuple[tuple[dict[str, Any], ...], str]:
    """The kernel accepts every certificate, about the graph and the tensors of the bundled model."""
    found = sorted(folder.glob(f"*{SUFFIX}"))
    weights = folder / WEIGHTS
    reports = []
    for certificate in found:
        if weights_beside(certificate) not in (weights, None):
            raise BundleError(f"expected {certificate.name} to be about {WEIGHTS}, found other weights beside it")
        reports.append(_accepted(certificate, kernel(certificate, weights, (), None)))
    graph = _model(folder)
    for report in reports:
        if report["graph"] != graph:
            raise BundleError(
                f"expected {report['certificate']} to be about the bundled model, whose graph is {graph}, found one "
                f"about {report['graph']}; bundle the model with its own certificates"
            )
    for text in expect:
        said = [kernel(certificate, weights, (text,), graph) for certificate in found]
        if all(code for code, _ in said):
            raise BundleError(f"expected a certificate that proves {text}, found none: {said[0][1].get('message', '')}")
    return tuple(reports), graph


def _accepted(certificate: Path, said: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    code, report = said
    if code:
        raise BundleError(
            f"expected a valid certificate in {certificate.name}, found: {report.get('message', report['verdict'])}"
        )
    return {"certificate": certificate.name, **report}


def _model(folder: Path) -> str:
    """The digest of the graph that the bundled configuration and weights export to, tensors compared bit for bit."""
    try:
        deployed = Deployed.of(from_pretrained(folder))
    except (PretrainedError, ExportError, ValueError, RuntimeError, OSError) as error:
        raise BundleError(f"expected a saved model in the bundle, found one that cannot be used: {error}") from error
    stored, _ = read_tensors(folder / WEIGHTS)
    for name, value in deployed.exported.tensors.items():
        if name not in stored or packed({name: value}) != packed({name: stored[name]}):
            raise BundleError(f"expected tensor {name} of the model as in {WEIGHTS}, found other values")
    return deployed.exported.digest
