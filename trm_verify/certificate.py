"""Certificates: how a proof is put together, kept and written. Nothing here decides whether it holds; the kernel does.

A prover returns a `Derivation`: steps whose premises count within the derivation, with boxes and norms written out.
`CertificateBuilder` joins derivations into one document and shares equal boxes, norms and steps.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from errno import EISDIR, ENOENT
from pathlib import Path
from typing import Any

from trm_verify import __version__
from trm_verify.encode import Json
from trm_verify.kernel import document
from trm_verify.kernel.check import PREDICATE, STATEMENT

BOXES = ("domain", "region", "start", "box")  # fields that hold a box; `norm` holds a norm


@dataclass(frozen=True)
class Derivation:
    """Steps in order; the last one concludes. `premises` of a step are indices within the derivation."""

    steps: tuple[Json, ...]

    def then(self, rule: str, premises: Sequence[int] = (-1,), **witness: Any) -> Derivation:
        """The derivation followed by one more step; negative premises count from the end."""
        count = len(self.steps)
        cited = [p if p >= 0 else count + p for p in premises]
        return Derivation((*self.steps, {"rule": rule, "premises": cited, **witness}))

    def join(self, other: Derivation) -> tuple[Derivation, int, int]:
        """Both, one after the other, with the index of each conclusion."""
        shift = len(self.steps)
        moved = tuple({**s, "premises": [p + shift for p in s["premises"]]} for s in other.steps)
        return Derivation(self.steps + moved), shift - 1, shift + len(moved) - 1


@dataclass(frozen=True)
class Filing:
    """One claim for the certificate: its derivation, the kernel's name for it, its fields."""

    derivation: Derivation
    claim: str
    fields: Json


def derive(rule: str, **witness: Any) -> Derivation:
    """A derivation of one step without premises."""
    return Derivation(({"rule": rule, "premises": [], **witness},))


@dataclass(frozen=True)
class Certificate:
    """A finished certificate: the in-toto statement, ready to be checked or saved beside the weights."""

    statement: Json = field(repr=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Reads a certificate, without checking what it says.

        Raises:
            CheckError: not the strict JSON of the format, or no certificate.
            OSError: the file cannot be read.
        """
        statement = document.load(document.read_file(path, document.MAX_BYTES))
        document.fields(statement, "_type", "subject", "predicateType", "predicate", where="statement")
        return cls(statement)

    def to_bytes(self) -> bytes:
        return json.dumps(self.statement, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the certificate in one piece: to a temporary file in the same folder, then renamed.

        Raises:
            OSError: the folder is missing or cannot be written; nothing is left behind.
        """
        return write_atomic(Path(path), self.to_bytes())

    @property
    def predicate(self) -> Json:
        found: Json = self.statement["predicate"]
        return found

    @property
    def weights_digest(self) -> str:
        return str(self.statement["subject"][0]["digest"]["sha256"])


def write_atomic(path: Path, data: bytes) -> Path:
    """Write a file so that a reader sees the old one or the whole new one.

    Raises:
        OSError: the folder is missing or not writable.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(ENOENT, f"expected a folder to write {path.name} to, found none", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(EISDIR, "expected the name of a file, found a folder", str(path))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class CertificateBuilder:
    """Collects derivations and claims about one graph and one weights file."""

    def __init__(
        self, graph: Json, weights: bytes, unused: Sequence[str] = (), name: str = "model.safetensors"
    ) -> None:
        self._graph, self._unused, self._name = graph, sorted(unused), name
        self._digest = hashlib.sha256(weights).hexdigest()
        self._steps: dict[str, int] = {}
        self._filed: dict[tuple[int, ...], tuple[Json, int]] = {}  # by the identity of a step, which is kept alive
        self._claims: list[Json] = []

    def add(self, derivation: Derivation) -> int:
        """File a derivation; returns the index of its conclusion. Equal steps are filed once."""
        places: list[int] = []
        for step in derivation.steps:
            cited = [places[p] for p in step["premises"]]
            key = (id(step), *cited)
            if key not in self._filed:
                text = json.dumps({**step, "premises": cited}, sort_keys=True)
                self._filed[key] = step, self._steps.setdefault(text, len(self._steps))
            places.append(self._filed[key][1])
        return places[-1]

    def file(self, filing: Filing) -> None:
        """File a claim with its derivation."""
        self.claim(self.add(filing.derivation), filing.claim, **filing.fields)

    def claim(self, step: int, claim: str, **fields: Any) -> None:
        self._claims.append({"step": step, "claim": claim, **fields})

    def build(self) -> Certificate:
        """The certificate of all claims so far, without steps, boxes and norms that no claim needs."""
        steps = [json.loads(text) for text in self._steps]
        needed: set[int] = set()
        stack = [c["step"] for c in self._claims]
        while stack:
            step = stack.pop()
            if step not in needed:
                needed.add(step)
                stack += steps[step]["premises"]
        place = {old: new for new, old in enumerate(sorted(needed))}
        boxes: dict[str, int] = {}
        norms: dict[str, int] = {}

        def filed(fields: Json) -> Json:
            tables = {**{name: boxes for name in BOXES}, "norm": norms}
            for name, table in tables.items():
                if isinstance(fields.get(name), dict):
                    text = json.dumps(fields[name], sort_keys=True)
                    fields = {**fields, name: table.setdefault(text, len(table))}
            return fields

        kept = [filed({**steps[old], "premises": [place[p] for p in steps[old]["premises"]]}) for old in sorted(needed)]
        claims = [filed({**c, "step": place[c["step"]]}) for c in self._claims]
        return Certificate(
            {
                "_type": STATEMENT,
                "subject": [{"name": self._name, "digest": {"sha256": self._digest}}],
                "predicateType": PREDICATE,
                "predicate": {
                    "semantics": "real", "graph": self._graph, "unused": self._unused,
                    "boxes": [json.loads(b) for b in boxes], "norms": [json.loads(n) for n in norms],
                    "steps": kept, "claims": claims, "produced_by": {"name": "trm_verify", "version": __version__},
                },
            }
        )  # fmt: skip
