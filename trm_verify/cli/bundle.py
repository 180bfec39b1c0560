"""`trm-verify bundle`: a model and its proof in one file; and `trm-verify check --bundle`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trm_verify.cli.loading import model_errors, writable
from trm_verify.cli.outcome import Exit, Failure, Outcome, cannot, usage


def run(options: Any) -> Outcome:
    """Check every certificate, write the report, pack all of it, and sign it if there is a key."""
    from trm_verify.deploy import BundleError, SignatureError, collect, pack, sign
    from trm_verify.deploy.bundle import BUNDLE_SUFFIX, REPORT
    from trm_verify.deploy.signature import SIGNATURE_SUFFIX
    from trm_verify.pretrained import write_files
    from trm_verify.report import read_directory, report_page

    source = Path(options.directory)
    target = Path(options.out) if options.out is not None else source / f"model{BUNDLE_SUFFIX}"
    if target.suffix != BUNDLE_SUFFIX:
        raise usage(f"--out: expected a name that ends in {BUNDLE_SUFFIX}, found {str(target)!r}")
    if not source.is_dir():
        raise usage(f"expected a model directory written by save_pretrained, found none at {str(source)!r}")
    writable(target.parent, "--out")
    try:
        files = collect(source)
    except BundleError as error:
        raise usage(str(error)) from error
    with model_errors("the model"), tempfile.TemporaryDirectory() as folder:
        # what is checked is the very copy that is packed
        copy = Path(folder, source.resolve().name or "model")
        copy.mkdir()
        for name, content in files.items():
            (copy / name).write_bytes(content)
        found = read_directory(copy)
        for each in found.rejected:
            raise Failure(
                Exit.INVALID,
                f"expected valid certificates only, the kernel rejects {each.name}: {each.error}; remove it, or prove "
                "it again with trm-verify certify",
            )
        if not found.same_graph:
            raise Failure(
                Exit.INVALID,
                f"expected certificates about the graph of the model in {source}, found another; prove it again with "
                "trm-verify certify",
            )
        files[REPORT] = report_page(found).encode()
    written = {target: pack(files)}
    signature = None
    if options.key is not None:
        signature = target.with_name(target.name + SIGNATURE_SUFFIX)
        try:
            written[signature] = sign(written[target], options.key, target.name)
        except SignatureError as error:
            raise usage(f"--key: {error}") from error
        except ModuleNotFoundError as error:
            raise usage(str(error)) from error
        except OSError as error:
            raise cannot("read the key", error, "name a private key with --key") from error
    write_files(written)
    data = {
        "model": str(source), "verdict": "BUNDLED", "bundle": str(target), "bytes": len(written[target]),
        "signature": None if signature is None else str(signature), "files": sorted(files),
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import size

        console.out(f"bundle     {target} ({size(len(written[target]))}, {len(files)} files)", highlight=False)
        console.out(f"signature  {signature or 'none: sign it with --key PRIVATE.pem'}", highlight=False)
        advice = " --key PUBLIC.pem" if signature else ""
        console.out(f"check it   trm-verify check --bundle {target}{advice}", highlight=False)

    return Outcome(Exit.GOOD, data, show)


def checked(options: Any) -> Outcome:
    """Signature, digests, proof, in that order; the first that does not hold is the verdict."""
    from trm_verify.cli.check import isolated
    from trm_verify.deploy import BundleError, SignatureError, check_bundle

    if options.certificate is not None or options.weights is not None or options.model is not None:
        raise usage("expected --bundle alone, found CERT, WEIGHTS or --model beside it; a bundle holds its own")
    if options.signature is not None and options.key is None:
        raise usage("--signature: expected --key PUBLIC.pem with it, found none; without a key nobody can be named")

    def kernel(
        certificate: Path, weights: Path, expect: Sequence[str], graph: str | None
    ) -> tuple[int, dict[str, Any]]:
        return isolated(certificate, weights, tuple(expect), graph)

    try:
        found = check_bundle(
            options.bundle, kernel, key=options.key, signature=options.signature, expect=options.expect
        )  # fmt: skip
    except SignatureError as error:
        raise Failure(Exit.INVALID, f"signature: {error}") from error
    except BundleError as error:
        raise Failure(Exit.INVALID, f"bundle: {error}") from error
    except ModuleNotFoundError as error:
        raise usage(str(error)) from error
    except OSError as error:
        raise cannot("read", error) from error
    signer = None
    if found.signer is not None:
        signer = {"key_sha256": found.signer.key, "curve": found.signer.curve, "why": found.signer.why}
    missing = [] if signer else ["signature"]
    data = {
        "bundle": str(options.bundle), "verdict": "VALID", "signer": signer, "not_compared": missing,
        "signature_found": found.signed, "graph": found.graph,
        "files": [{"name": name, "bytes": size} for name, size in found.files],
        "certificates": list(found.certificates), "expected": list(options.expect),
    }  # fmt: skip
    return Outcome(Exit.GOOD, data, lambda console: _show(console, data))


def _show(console: Any, data: dict[str, Any]) -> None:
    from trm_verify.report import print_check

    signer = data["signer"]
    note = "" if signer else " (signature not checked)"
    console.out(f"VALID{note}  {data['bundle']}", highlight=False)
    if signer:
        console.out(
            f"  signed     by the holder of the key sha256:{signer['key_sha256']} ({signer['curve']})", highlight=False
        )
        console.out(f"             {signer['why']}", highlight=False)
    else:
        advice = "there is a signature: name the key" if data["signature_found"] else "there is no signature beside it"
        console.out(
            f"  signed     not checked, so this may come from anyone; {advice} (--key PUBLIC.pem)", highlight=False
        )
    console.out(
        f"  digests    {len(data['files'])} files, as the manifest lists them; every byte accounted for",
        highlight=False,
    )
    console.out(
        f"  proof      {len(data['certificates'])} certificates, about the graph of the bundled model", highlight=False
    )
    for text in data["expected"]:
        console.out(f"  expected   {text}: proved", highlight=False)
    missing = [] if data["expected"] else ["claim"]
    for item in data["certificates"]:
        print_check(console, {**item, "not_compared": missing})
