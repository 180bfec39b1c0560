"""`trm-verify show`: what a certificate states, checked if its weights are there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from trm_verify.cli.check import isolated
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage
from trm_verify.naming import weights_beside


def run(options: Any) -> Outcome:
    """Check the certificate, then describe it; without weights describe it as not checked."""
    from trm_verify.kernel.document import MAX_BYTES, load, read_file

    certificate = Path(options.certificate)
    if not certificate.is_file():
        raise usage(f"expected a certificate file, found none at {str(certificate)!r}")
    try:
        raw = read_file(certificate, MAX_BYTES)
    except OSError as error:
        raise cannot("read the certificate", error) from error
    document = load(raw)
    weights = Path(options.weights) if options.weights is not None else weights_beside(certificate)
    if weights is None:
        code, said = int(Exit.UNKNOWN), {"verdict": "NOT CHECKED", "message": "the weights are not there"}
    else:
        code, said = isolated(certificate, weights)
    data = {
        "certificate": str(certificate), "certificate_bytes": len(raw),
        "weights_file": None if weights is None else str(weights), **said, "contents": contents(document),
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import print_certificate

        print_certificate(console, data)

    return Outcome(Exit(code), data, show)


def contents(document: dict[str, Any]) -> dict[str, Any]:
    """What the file says about itself. Nothing of it is believed: it may be any JSON at all."""
    predicate = _dict(document.get("predicate"))
    graph = _dict(predicate.get("graph"))
    subject = _dict((_list(document.get("subject")) or [None])[0])
    functions = {name: _list(_dict(graph.get(name)).get("nodes")) for name in ("step", "init", "readout")}
    boxes, norms = (_list(predicate.get(name)) for name in ("boxes", "norms"))
    return {
        "subject": _short(subject.get("name")), "weights_sha256": _short(_dict(subject.get("digest")).get("sha256")),
        "semantics": _short(predicate.get("semantics")),
        "produced_by": " ".join(map(_short, _dict(predicate.get("produced_by")).values())),
        "state": ", ".join(map(_shape, _list(graph.get("state"))[:8])), "input": _input(graph.get("input")),
        "nodes": {name: len(nodes) for name, nodes in functions.items() if nodes},
        "operations": _counted((node for nodes in functions.values() for node in nodes), key="op"),
        "rules": _counted(_list(predicate.get("steps")), key="rule"),
        "claimed": _counted(_list(predicate.get("claims")), key="claim"),
        "norms": [_norm(n) for n in norms[:8]], "boxes": len(boxes), "unused": len(_list(predicate.get("unused"))),
    }  # fmt: skip


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _short(value: object) -> str:
    """Any JSON value in at most 200 printable characters."""
    text = value if isinstance(value, str) else repr(value)
    return ascii(text[:200])[1:-1]


def _counted(items: Any, key: str) -> dict[str, int]:
    return dict(Counter(_short(_dict(item).get(key)) for item in items).most_common(40))


def _shape(value: object) -> str:
    return _short(tuple(value) if isinstance(value, list) else value)


def _input(value: object) -> str:
    if value is None:
        return "none"
    given = _dict(value)
    of = f" below {_short(given['size'])}" if "size" in given else ""
    return f"{_shape(given.get('shape'))} {_short(given.get('kind'))}{of}"


def _norm(value: object) -> str:
    """A block norm with its groups: how many, of how many coordinates."""
    norm = _dict(value)
    runs = [_list(run) for run in _list(norm.get("runs"))[:8]]
    groups = ", ".join(f"{_short(run[0])} of {_short(run[1])}" for run in runs if len(run) == 2)
    return _short(norm.get("kind")) + (f" (groups: {groups})" if groups else "")
