"""Seeded mutants of the good certificates.

Half of them change one field, digit or index of a certificate. The other half change the weights or the graph and state
the right digests, so that only the rules can tell. `python -m tests.corpus.mutants COUNT` prints how many stay valid.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.corpus.changes import changed, changed_graph, changed_weights
from tests.corpus.sheet import Json, canonical
from tests.oracle.judge import TRUE, verdicts
from trm_verify.kernel.check import check
from trm_verify.kernel.errors import CheckError

GOOD = Path(__file__).resolve().parents[2] / "certificates" / "good"
Path_ = tuple[Any, ...]


@dataclass(frozen=True)
class Mutant:
    """One changed certificate. `field` says what was changed, `good` in which certificate."""

    seed: int
    good: str
    field: str
    certificate: bytes
    weights: bytes

    @property
    def rules(self) -> set[str]:
        """The rules of the original certificate."""
        return {step["rule"] for step in originals()[self.good][0]["predicate"]["steps"]}


@cache
def originals() -> dict[str, tuple[Json, bytes]]:
    """Every good certificate and its weights, by name."""
    found = {}
    for path in sorted(GOOD.glob("*.trmcert.json")):
        name = path.name.removesuffix(".trmcert.json")
        found[name] = json.loads(path.read_bytes()), (GOOD / f"{name}.safetensors").read_bytes()
    return found


# where certificates can change


def _places(predicate: Json) -> Iterator[tuple[str, Path_]]:
    """Every field outside the graph, with its label."""
    for i, step in enumerate(predicate["steps"]):
        for key in step:
            yield f"step {step['rule']}.{key}", ("steps", i, key)
    for i, claim in enumerate(predicate["claims"]):
        for key in claim:
            yield f"claim {claim['claim']}.{key}", ("claims", i, key)
    for table in ("boxes", "norms"):
        for i, row in enumerate(predicate[table]):
            for key in row:
                kind = "" if table == "boxes" else f" {row['kind']}"
                yield f"{table}{kind}.{key}", (table, i, key)
    for table in ("steps", "claims", "boxes", "norms"):
        yield f"{table} (one removed, doubled or moved)", (table,)
    for key in ("semantics", "unused", "produced_by"):
        yield key, (key,)


EVERYWHERE = (
    "rate", "steps", "answer", "operator", "domain", "region", "norm", "final", "committed", "threshold", "blank",
)  # fmt: skip


def _everywhere(document: Json, key: str, rng: Random) -> Json:
    """One value of a field changed in the same way wherever steps and claims have it, so that they still agree."""
    result = copy.deepcopy(document)
    entries = [e for table in ("steps", "claims") for e in result["predicate"][table] if key in e]
    old = copy.deepcopy(rng.choice(entries)[key])
    new = changed(key, old, rng)
    for entry in entries:
        if entry[key] == old:
            entry[key] = copy.deepcopy(new)
    return result


@cache
def sites() -> dict[str, list[tuple[str, Path_]]]:
    """Label of a field to the certificates and places that have it."""
    found: dict[str, list[tuple[str, Path_]]] = defaultdict(list)
    for name, (document, _) in originals().items():
        for label, path in _places(document["predicate"]):
            found[label].append((name, path))
        for key in EVERYWHERE:
            if any(key in step for step in document["predicate"]["steps"]):
                found[f"everywhere {key}"].append((name, (key,)))
        for key in ("_type", "predicateType", "subject"):
            found[f"statement {key}"].append((name, ("..", key)))
    return dict(sorted(found.items()))


def _at(document: Json, path: Path_) -> tuple[Any, Any]:
    """The container of a place, and its key."""
    at: Any = document if path[0] == ".." else document["predicate"]
    for key in path[path[0] == ".." : -1]:
        at = at[key]
    return at, path[-1]


def _rearranged(table: list[Any], rng: Random) -> list[Any]:
    result = copy.deepcopy(table)
    way = rng.randrange(3)
    i = rng.randrange(len(result)) if result else 0
    if way == 0 and result:
        del result[i]
    elif way == 1 and result:
        result.insert(rng.randrange(len(result) + 1), copy.deepcopy(result[i]))
    elif len(result) > 1:
        j = rng.randrange(len(result))
        result[i], result[j] = result[j], result[i]
    return result


def certificate_mutant(seed: int, label: str) -> Mutant:
    """A certificate with one field changed; the weights stay."""
    rng = Random(f"certificate {seed} {label}")
    while True:
        name, path = rng.choice(sites()[label])
        document, weights = originals()[name]
        result = copy.deepcopy(document)
        container, key = _at(result, path)
        if label.startswith("everywhere"):
            result = _everywhere(document, path[0], rng)
        elif len(path) == 1 and path[0] in ("steps", "claims", "boxes", "norms"):
            container[key] = _rearranged(container[key], rng)
        elif rng.random() < 0.04:
            del container[key]
        elif rng.random() < 0.02:
            container[f"{key}_"] = container[key]
        else:
            container[key] = changed(key, container[key], rng)
        if canonical(result) != canonical(document):
            return Mutant(seed, name, label, canonical(result), weights)


def _with_digest(document: Json, weights: bytes) -> bytes:
    result = copy.deepcopy(document)
    result["subject"][0]["digest"]["sha256"] = hashlib.sha256(weights).hexdigest()
    return canonical(result)


def model_mutant(seed: int, name: str) -> Mutant:
    """A certificate whose weights or graph were changed and whose digests are right."""
    rng = Random(f"model {seed} {name}")
    document, weights = originals()[name]
    stored = json.loads(weights[8 : 8 + struct.unpack("<Q", weights[:8])[0]])
    while True:
        if stored and rng.random() < 0.65:
            label, after = changed_weights(weights, rng)
            if after != weights:
                return Mutant(seed, name, label, _with_digest(document, after), after)
        else:
            label, graph = changed_graph(document["predicate"]["graph"], rng)
            if canonical(graph) != canonical(document["predicate"]["graph"]):
                result = {**document, "predicate": {**document["predicate"], "graph": graph}}
                return Mutant(seed, name, label, canonical(result), weights)


def mutant(seed: int) -> Mutant:
    """Even seeds change a field of a certificate, odd seeds its model; both take turns over everything."""
    labels, names = list(sites()), list(originals())
    turn = seed // 2
    return (
        model_mutant(seed, names[turn % len(names)])
        if seed % 2
        else certificate_mutant(seed, labels[turn % len(labels)])
    )


def rejection(m: Mutant) -> str | None:
    """The code of the refusal, None when the mutant is valid. Any other exception comes through."""
    try:
        check(m.certificate, m.weights)
    except CheckError as error:
        str(error)  # the message must be printable too
        return error.code
    return None


def main(count: int) -> None:
    """Prints how many mutants stay valid, by field, and every claim that the oracle does not call true."""
    valid: Counter[str] = Counter()
    total: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for m in map(mutant, range(count)):
        total[m.field] += 1
        code = rejection(m)
        codes[code or "VALID"] += 1
        if code is None:
            valid[m.field] += 1
            for claim, verdict in verdicts(m.certificate, m.weights):
                if verdict.value != TRUE:
                    print(m.seed, m.good, m.field, claim.name, verdict)
    for field in sorted(total):
        print(f"{field:50} {valid[field]:4} of {total[field]:4} valid")
    print(dict(codes))


if __name__ == "__main__":
    main(int(sys.argv[1]))
