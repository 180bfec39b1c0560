"""Writes `certificates/good`, `certificates/bad` and `certificates/corpus.json`.

    python -m tests.corpus.build            everything that integers alone determine: the same bytes on every machine
    python -m tests.corpus.build --search   also the certificates that provers search for in floating point

A certificate that a prover found is golden too, but a machine with other rounding may find another witness.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.corpus.registers import BAD, GOOD
from tests.corpus.sheet import canonical

ROOT = Path(__file__).resolve().parents[2] / "certificates"
SEARCHED = "searched_"  # first letters of certificates that depend on floating point


def arguments(certificate: bytes) -> list[str]:
    """What the caller of a good certificate expects: its graph, and each kind of claim in it."""
    predicate = json.loads(certificate)["predicate"]
    names = dict.fromkeys(claim["claim"] for claim in predicate["claims"])
    expected = [part for name in names for part in ("--expect", name)]
    return ["--graph", sha256(canonical(predicate["graph"])).hexdigest(), *expected]


def entry(certificate: str, weights: str, given: list[str], code: str | None, why: str) -> dict[str, Any]:
    return {"certificate": certificate, "weights": weights, "arguments": given, "code": code, "why": why}


def build(searched: dict[str, tuple[bytes, bytes, str]]) -> dict[str, bytes]:
    """Every file of the corpora by its path, with `corpus.json` about all of them.

    Args:
        searched: certificate, weights and description of what the provers found, by name.
    """
    files: dict[str, bytes] = {}
    corpus = []
    weights_at: dict[bytes, str] = {}
    found = {
        name: (sheet.certificate(), sheet.weights, make.__doc__ or "")
        for name, make in GOOD.items()
        for sheet in [make()]
    }
    for name, (certificate, weights, why) in {**found, **searched}.items():
        paths = f"good/{name}.trmcert.json", f"good/{name}.safetensors"
        files.update(zip(paths, (certificate, weights), strict=True))
        weights_at.setdefault(weights, paths[1])
        corpus.append(entry(*paths, arguments(certificate), None, " ".join(why.split())))
    for name, bad in BAD.items():
        certificate, weights = bad.files()
        path = f"bad/{name}.trmcert.json"
        at = weights_at.setdefault(weights, f"bad/{name}.safetensors")
        files[path], files[at] = certificate, weights
        corpus.append(entry(path, at, list(bad.arguments), bad.code, bad.why))
    text = ",\n".join(json.dumps(e, ensure_ascii=False, sort_keys=True) for e in corpus)
    files["corpus.json"] = f"[\n{text}\n]\n".encode()
    return files


def committed() -> dict[str, tuple[bytes, bytes, str]]:
    """The searched certificates as they are in the folder."""
    corpus = json.loads((ROOT / "corpus.json").read_text(encoding="utf-8")) if (ROOT / "corpus.json").exists() else []
    kept = {}
    for case in corpus:
        name = Path(case["certificate"]).name.removesuffix(".trmcert.json")
        if name.startswith(SEARCHED):
            kept[name] = (*((ROOT / case[key]).read_bytes() for key in ("certificate", "weights")), case["why"])
    return kept


def main(argv: list[str]) -> int:
    searched = committed()
    if "--search" in argv:
        from tests.corpus.searched import search

        searched = search()
    files = build(searched)
    old = {str(p.relative_to(ROOT)) for folder in ("good", "bad") for p in (ROOT / folder).glob("*") if p.is_file()}
    for path in sorted(old - set(files)):
        (ROOT / path).unlink()
    for path, data in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files.values())) / 1e6:.2f} MB, in {ROOT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
