"""The register of certificates that must be refused: one way to be wrong each."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.corpus.good import GOOD
from tests.corpus.sheet import Json, Sheet, canonical

Files = tuple[bytes, bytes]  # certificate, weights


@dataclass(frozen=True)
class Bad:
    """One refusal: the code that the kernel must give, and why."""

    code: str
    why: str
    files: Callable[[], Files]
    arguments: tuple[str, ...] = field(default=())


BAD: dict[str, Bad] = {}


def refused(
    code: str, why: str, *arguments: str, name: str | None = None
) -> Callable[[Callable[[], Sheet | Files]], Callable[[], Sheet | Files]]:
    """Files a function that writes a refused certificate."""

    def register(build: Callable[[], Sheet | Files]) -> Callable[[], Sheet | Files]:
        def files() -> Files:
            made = build()
            return (made.certificate(), made.weights) if isinstance(made, Sheet) else made

        key = name or build.__name__
        if key in BAD:
            raise ValueError(f"two refusals named {key}")
        BAD[key] = Bad(code, why, files, arguments)
        return build

    return register


@cache
def _base(name: str) -> Files:
    sheet = GOOD[name]()
    return sheet.certificate(), sheet.weights


def base(name: str) -> tuple[Json, bytes]:
    """A good certificate as a document to change, and its weights."""
    certificate, weights = _base(name)
    return json.loads(certificate), weights


def changed(document: Json, path: str, value: Any) -> Json:
    """The document with the entry at a dotted path replaced, or removed when the value is `...`."""
    result = copy.deepcopy(document)
    *way, last = path.split(".")
    at: Any = result
    for key in way:
        at = at[int(key) if isinstance(at, list) else key]
    place: Any = int(last) if isinstance(at, list) else last
    if value is ...:
        del at[place]
    else:
        at[place] = value
    return result


def edit(code: str, why: str, name: str, good: str, /, *arguments: str, **changes: Any) -> None:
    """Files a good certificate with entries of its predicate changed; double underscores stand for dots."""

    def build() -> Files:
        document, weights = base(good)
        for path, value in changes.items():
            document = changed(document, "predicate." + path.replace("__", "."), value)
        return canonical(document) + b"\n", weights

    refused(code, why, *arguments, name=name)(build)


def text_edit(code: str, why: str, name: str, good: str, old: str, new: str) -> None:
    """Files a good certificate with its text changed once."""

    def build() -> Files:
        certificate, weights = _base(good)
        if old.encode() not in certificate:
            raise ValueError(f"{name}: {old!r} does not occur")
        return certificate.replace(old.encode(), new.encode(), 1), weights

    refused(code, why, name=name)(build)


def with_weights(document: Json, weights: bytes) -> Files:
    """A certificate for other weights: the digest is the right one."""
    digest = hashlib.sha256(weights).hexdigest()
    return canonical(changed(document, "subject.0.digest.sha256", digest)) + b"\n", weights


def weights_edit(code: str, why: str, name: str, make: Callable[[bytes], bytes], good: str = "linf_affine") -> None:
    """Files a good certificate with a malformed weights file and its right digest."""

    def build() -> Files:
        document, weights = base(good)
        return with_weights(document, make(weights))

    refused(code, why, name=name)(build)
