"""`trm-verify ci`: certify the models that have no certificate, re-check the others; with `--check`, prove nothing.

`--check` needs the standard library alone, so that it runs from a bare checkout where nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trm_verify import __version__, archive
from trm_verify.cli.cache import Cache
from trm_verify.cli.check import isolated, require_claims
from trm_verify.cli.loading import is_factory
from trm_verify.cli.outcome import Exit, Failure, Outcome, cannot, combined, usage
from trm_verify.cli.summary import lines, markdown
from trm_verify.naming import SUFFIX, WEIGHTS, is_saved, weights_beside

Item = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A certificate to check, or to make.

    Attributes:
        certificate: its file; None for a factory's, whose name follows from the model.
        model: the saved model (or factory) that it is about, as `certify` takes it; None if only the files are known.
    """

    certificate: Path | None
    model: str | None = None

    @property
    def missing(self) -> bool:
        return self.certificate is None or not self.certificate.exists()


def run(options: Any) -> Outcome:
    """Every certificate that the paths name; the exit code is that of the batch."""
    require_claims(options.expect)
    targets = list(dict.fromkeys(t for path in options.paths or ["."] for t in found(path, options.check)))
    if not targets or (options.check and all(t.missing for t in targets)):
        without = f" ({len(targets)} saved models without one)" if targets else ""
        raise Failure(
            Exit.NOTHING,
            f"expected certificates named *{SUFFIX} in {', '.join(options.paths) or 'the current directory'}, found "
            f"none{without}; make one with trm-verify certify MODEL",
        )
    cache = None if options.cache is None else Cache.open(Path(options.cache))
    items = [_one(target, options, cache) for target in targets]
    code = combined(item["exit_code"] for item in items)
    if options.summary is not None:
        try:
            with open(options.summary, "a", encoding="utf-8") as file:  # steps of one job share the file
                file.write(markdown(items))
        except OSError as error:
            raise cannot("write the summary", error, "choose another file with --summary") from error

    def show(console: Any) -> None:
        for line in lines(items):
            console.out(line, highlight=False)

    return Outcome(code, {"certificates": items}, show)


def found(path: str, check: bool) -> Iterator[Target]:
    """The certificates and saved models of one argument.

    Raises:
        Failure: a path that does not exist, cannot be read, or is of another kind.
    """
    source = Path(path)
    if source.is_dir():
        yield from _inside(source)
    elif not source.exists():
        if check or not is_factory(path):
            known = "a folder or a file" + ("" if check else ", or package.module:factory")
            raise usage(f"expected PATH to be {known}, found no {path!r}")
        yield Target(None, path)
    elif source.name.endswith(SUFFIX):
        yield Target(source, _model_of(source))
    elif source.suffix == ".safetensors":
        beside = sorted(c for c in source.parent.glob(f"*{SUFFIX}") if weights_beside(c) == source)
        for certificate in beside:
            yield Target(certificate, _model_of(certificate))
        if not beside:
            yield Target(source.with_name(source.name.removesuffix(".safetensors") + SUFFIX), _model_of(source))
    else:
        raise usage(f"expected certificates (*{SUFFIX}), weights (*.safetensors) or folders of them, found {path!r}")


def _inside(folder: Path) -> Iterator[Target]:
    """Every certificate below a folder, and every saved model without one; hidden folders are left out."""

    def refuse(error: OSError) -> None:
        raise cannot("read the folder", error)

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        here = Path(root)
        certificates = [here / name for name in sorted(files) if name.endswith(SUFFIX)]
        for certificate in certificates:
            yield Target(certificate, _model_of(certificate))
        if is_saved(here) and not any(weights_beside(c) == here / WEIGHTS for c in certificates):
            yield Target(here / f"model{SUFFIX}", str(here))


def _model_of(file: Path) -> str | None:
    weights = file if file.suffix == ".safetensors" else weights_beside(file)
    return str(file.parent) if weights == file.parent / WEIGHTS and is_saved(file.parent) else None


def _one(target: Target, options: Any, cache: Cache | None) -> Item:
    """The verdict on one certificate, which is made first if it is missing; with an exit code."""
    try:
        if target.missing and (options.check or target.model is None):
            return _absent(target)
        return _checked(target, options, cache) if options.check else _proved(target, options, cache)
    except Failure as failure:  # of one of several: the others go on
        return {**_named(target), "verdict": failure.kind.upper(), "message": failure.message,
                "exit_code": int(failure.code)}  # fmt: skip


def _named(target: Target) -> Item:
    return {"certificate": None if target.certificate is None else str(target.certificate), "model": target.model}


def _absent(target: Target) -> Item:
    """Nothing was proved about this model: unknown."""
    model = target.model or "MODEL"
    message = f"expected a certificate, found none; make it with: trm-verify certify {model}"
    return {**_named(target), "verdict": "MISSING", "message": message, "exit_code": int(Exit.UNKNOWN)}


def _checked(target: Target, options: Any, cache: Cache | None, graph: str | None = None) -> Item:
    """The isolated kernel's verdict on a certificate, or its verdict on the very same bytes from the cache."""
    certificate = target.certificate
    if certificate is None:
        raise RuntimeError("expected a certificate to check, found none")
    weights = weights_beside(certificate)
    named: Item = {**_named(target), "weights_file": None if weights is None else str(weights)}
    if weights is None:
        message = f"expected the weights of {certificate.name} beside it, found none"
        return {**named, "verdict": "UNREADABLE", "message": message, "exit_code": int(Exit.USAGE)}
    try:
        about = {
            "certificate": _digest(certificate), "weights": _digest(weights), "graph": graph,
            "expect": sorted(options.expect), "kernel": hashlib.sha256(archive.contents()).hexdigest(),
        }  # fmt: skip
    except OSError as error:
        raise cannot("read", error) from error
    known = None if cache is None else cache.verdict(about)
    if known is not None:
        return _judged({**named, **known, "cached": True, "exit_code": 0})
    code, said = isolated(certificate, weights, options.expect, graph)
    if code == Exit.GOOD and cache is not None:
        cache.remember(about, said)
    if said.get("code") == "DIGEST":
        said["message"] = f"stale certificate, of other weights; renew it with: {_renewal(target)}"
    return _judged({**named, **said, "cached": False, "exit_code": code})


def _judged(item: Item) -> Item:
    """A valid certificate of a refutation is no good news: the model was shown to be wrong."""
    refuted = [claim for claim in item.get("claims", ()) if claim.startswith("refutation(")]
    if item["exit_code"] != Exit.GOOD or not refuted:
        return item
    message = f"the certificate is valid, and what it proves is {refuted[0]}"
    return {**item, "verdict": "REFUTED", "message": message, "exit_code": int(Exit.INVALID)}


def _renewal(target: Target) -> str:
    return f"trm-verify certify {target.model or 'MODEL'} --out {target.certificate}"


def _proved(target: Target, options: Any, cache: Cache | None) -> Item:
    """Check a certificate against its model; make it first if there is none."""
    from trm_verify.cli.certify import targets as places
    from trm_verify.cli.loading import exported, load_model, model_errors
    from trm_verify.pretrained import packed, read_tensors

    if target.model is None:
        return _checked(target, options, cache)
    loaded = load_model(target.model)
    with model_errors(target.model):
        own = exported(loaded.module)
    certificate = target.certificate or places(None, loaded, SUFFIX)[0]
    target = Target(certificate, target.model)
    made: Item = {}
    if target.missing:
        made = _certify(target, loaded, own.digest, own.to_bytes(), options, cache)
        if not certificate.exists():
            return made
    item = _checked(target, options, cache, own.digest)
    if item["exit_code"] == Exit.GOOD:
        stored, _ = read_tensors(Path(item["weights_file"]))
        for name, value in own.tensors.items():  # the graph's digest covers names and operations, not values
            if name not in stored or packed({name: value}) != packed({name: stored[name]}):
                message = f"expected tensor {name} as in the model, found other values; renew it: {_renewal(target)}"
                return {**item, "verdict": "INVALID", "message": message, "exit_code": int(Exit.INVALID)}
    return {**made, **item}


def _certify(target: Target, loaded: Any, graph: str, tensors: bytes, options: Any, cache: Cache | None) -> Item:
    """Prove, or take the certificate of the same weights, graph and question from the cache; nothing is believed yet.

    Whatever is written here is checked by the kernel afterwards.
    """
    from trm_verify.api import verify_fixed_point
    from trm_verify.certificate import Certificate
    from trm_verify.cli.certify import CODES, targets, write
    from trm_verify.cli.loading import model_errors
    from trm_verify.kernel.errors import CheckError

    certificate, weights = targets(str(target.certificate), loaded, SUFFIX)
    about = {
        "weights": hashlib.sha256(tensors if loaded.weights is None else weights.read_bytes()).hexdigest(),
        "graph": graph, "norm": options.norm, "claims": "global", "version": __version__,
        "kernel": hashlib.sha256(archive.contents()).hexdigest(),
    }  # fmt: skip
    known = None if cache is None else cache.certificate(about)
    if known is not None:
        try:
            restored = Certificate.load(known)
            if restored.weights_digest == about["weights"]:
                write(certificate, weights, restored, loaded)
                return {**_named(target), "made": "restored from the cache"}
        except (CheckError, LookupError, OSError, TypeError):
            pass  # a spoiled cache is no reason to fail: prove it again
    with model_errors(str(target.model)):
        result: Any = verify_fixed_point(
            loaded.module, norm=options.norm, timeout=options.timeout, progress=not options.quiet
        )
    code = CODES[str(result.verdict)]
    item = {**_named(target), "verdict": str(result.verdict), "made": "proved now", "exit_code": int(code)}
    if code != Exit.GOOD:  # nothing is written: a later run would find a valid certificate of less, and pass
        return {**item, "message": " ".join(result.explain().split())}
    write(certificate, weights, result.certificate, loaded)
    if cache is not None:
        cache.keep(about, result.certificate.to_bytes())
    return item


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
