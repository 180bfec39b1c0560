"""Writes graphs, weights files and certificates for the corpora.

Integers and correctly rounded operations only, so that the same bytes come out on every machine.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any

Json = dict[str, Any]
F = Fraction
Matrix = list[list[Fraction]]

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://trm-verify.dev/certificate/v1"
NOTHING: Json = {"exp": 0, "int": ""}


def dyadic(value: Fraction | int | float) -> Json:
    """A binary fraction in the spelling of the format."""
    q = F(value)
    exp = 1 - q.denominator.bit_length()
    if q.denominator != 1 << -exp:
        raise ValueError(f"expected a binary fraction, found {q}")
    return {"exp": exp, "int": format(q.numerator, "x")}


def vector(values: Iterable[Any]) -> Json:
    """A vector of binary fractions, or of lists of them."""
    entries = [F(v) for v in flat(values)]
    exp = 1 - max((q.denominator.bit_length() for q in entries), default=1)
    ints = [q * (1 << -exp) for q in entries]
    if any(v.denominator != 1 for v in ints):
        raise ValueError("expected binary fractions")
    return {"exp": exp, "int": " ".join(format(v.numerator, "x") for v in ints)}


def flat(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [v for part in values for v in flat(part)]
    return [values]


def round_up(value: float | Fraction, bits: int = 40) -> Fraction:
    return F(-(-F(value) * (1 << bits) // 1), 1 << bits)


def canonical(obj: object) -> bytes:
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


# weights files

CODES = {
    "F64": "d", "F32": "f", "F16": "e", "BF16": "H", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One tensor of a weights file."""

    shape: tuple[int, ...]
    values: tuple[Fraction, ...]
    dtype: str = "F32"

    def data(self) -> bytes:
        if self.dtype[0] in "IU":
            return struct.pack(f"<{len(self.values)}{CODES[self.dtype]}", *map(int, self.values))
        if self.dtype == "BF16":
            wide = struct.pack(f"<{len(self.values)}f", *map(float, self.values))
            return b"".join(wide[i + 2 : i + 4] for i in range(0, len(wide), 4))
        return struct.pack(f"<{len(self.values)}{CODES[self.dtype]}", *map(float, self.values))


def stored(values: Any, dtype: str = "F32") -> Stored:
    """Nested lists as a tensor."""
    shape: list[int] = []
    inner = values
    while isinstance(inner, (list, tuple)):
        shape.append(len(inner))
        inner = inner[0]
    return Stored(tuple(shape), tuple(F(v) for v in flat(values)), dtype)


def safetensors(tensors: dict[str, Stored]) -> bytes:
    header: Json = {}
    data = b""
    for name, tensor in sorted(tensors.items()):
        part = tensor.data()
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    return weights_file(canonical(header), data)


def weights_file(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """The raw layout; `length` overrides the length that the file states for its header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def draw(seed: int, rows: int, columns: int, size: Fraction | int = 1, bits: int = 6) -> list[list[Fraction]]:
    """A matrix of multiples of 2^-bits between -size and size."""
    rng = Random(seed)
    most = int(F(size) * (1 << bits))
    return [[F(rng.randint(-most, most), 1 << bits) for _ in range(columns)] for _ in range(rows)]


# graphs


class Nodes:
    """Nodes of one function, in order."""

    def __init__(self) -> None:
        self.nodes: list[Json] = []

    def add(self, op: str, /, *args: int, **attrs: Any) -> int:
        self.nodes.append({"op": op, "in": list(args), **attrs})
        return len(self.nodes) - 1

    def state(self, part: int = 0) -> int:
        return self.add("state", part=part)

    def tensor(self, name: str) -> int:
        return self.add("tensor", name=name)

    def constant(self, values: Any, shape: Sequence[int] | None = None) -> int:
        own = list(stored(values).shape) if shape is None else list(shape)
        return self.add("constant", shape=own, value=vector(values if isinstance(values, (list, tuple)) else [values]))

    def scale(self, a: int, num: int, den: int = 1) -> int:
        return self.add("scale", a, num=format(num, "x"), den=format(den, "x"))

    def clamp(self, a: int, lo: Any, hi: Any) -> int:
        ends = {k: None if v is None else dyadic(v) for k, v in (("lo", lo), ("hi", hi))}
        return self.add("clamp", a, **ends)

    def linear(self, a: int, weight: str, bias: str | None = None) -> int:
        out = self.add("linear", a, self.tensor(weight))
        return out if bias is None else self.add("add", out, self.tensor(bias))

    def function(self, *outputs: int) -> Json:
        return {"nodes": self.nodes, "outputs": list(outputs)}


def real(*shape: int) -> Json:
    return {"shape": list(shape), "kind": "real"}


def graph(
    step: Json, state: Sequence[Sequence[int]], given: Json | None = None, init: Json | None = None,
    readout: Json | None = None,
) -> Json:  # fmt: skip
    return {"state": [list(s) for s in state], "input": given, "step": step, "init": init, "readout": readout}


def identity_readout(part: int = 0) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.scale(nodes.state(part), 1))


# certificates


@dataclass
class Sheet:
    """One certificate in the making, about one graph over one weights file."""

    graph: Json
    tensors: dict[str, Stored] = field(default_factory=dict)
    boxes: list[Json] = field(default_factory=list)
    norms: list[Json] = field(default_factory=list)
    steps: list[Json] = field(default_factory=list)
    claims: list[Json] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def weights(self) -> bytes:
        return safetensors(self.tensors)

    @staticmethod
    def _index(table: list[Json], entry: Json) -> int:
        if entry not in table:
            table.append(entry)
        return table.index(entry)

    def all(self, space: str = "state") -> int:
        return self._index(self.boxes, {"space": space, "all": True})

    def nothing(self) -> int:
        """The domain of a model without input."""
        return self._index(self.boxes, {"space": "input", "point": NOTHING})

    def point(self, values: Any, space: str = "input") -> int:
        return self._index(self.boxes, {"space": space, "point": vector(values)})

    def box(self, lo: Any, hi: Any, space: str = "state") -> int:
        return self._index(self.boxes, {"space": space, "lo": vector(lo), "hi": vector(hi)})

    def block(self, weights: Sequence[Any], runs: Sequence[Sequence[int]] | None = None) -> int:
        own = [[len(weights), 1]] if runs is None else [list(r) for r in runs]
        return self._index(self.norms, {"kind": "block", "runs": own, "weights": vector(weights)})

    def metric(self, matrix: Matrix, floor: Any) -> int:
        return self._index(self.norms, {"kind": "metric", "matrix": vector(matrix), "floor": dyadic(floor)})

    def step(self, rule: str, *premises: int, **witness: Any) -> int:
        self.steps.append({"rule": rule, "premises": list(premises), **witness})
        return len(self.steps) - 1

    def claim(self, step: int, name: str, **fields: Any) -> None:
        self.claims.append({"step": step, "claim": name, **fields})

    def contraction(self, rate: Any, norm: int, domain: int, region: int | None = None, premises: Any = ()) -> int:
        """A `radius_contraction` step."""
        return self.step(
            "radius_contraction", *premises, domain=domain, region=self.all() if region is None else region, norm=norm,
            rate=dyadic(rate),
        )  # fmt: skip

    def claim_contraction(
        self, step: int, rate: Any, norm: int, domain: int, region: int | None = None, operator: Any = "picard"
    ) -> None:
        self.claim(
            step, "contraction", operator=operator, domain=domain, region=self.all() if region is None else region,
            norm=norm, rate=dyadic(rate),
        )  # fmt: skip

    def claim_convergence(
        self, step: int, start: int | str, norm: int, rate: Any, domain: int, operator: Any = "picard",
        epsilon: Any = None, steps: int | None = None,
    ) -> None:  # fmt: skip
        self.claim(
            step, "convergence", operator=operator, domain=domain, start=start, norm=norm, constant=dyadic(1),
            rate=dyadic(rate), epsilon=None if epsilon is None else dyadic(epsilon), steps=steps,
        )  # fmt: skip

    def statement(self) -> Json:
        digest = hashlib.sha256(self.weights).hexdigest()
        predicate = {
            "semantics": "real", "graph": self.graph, "unused": self.unused, "boxes": self.boxes, "norms": self.norms,
            "steps": self.steps, "claims": self.claims, "produced_by": {"name": "trm_verify", "version": "corpus"},
        }  # fmt: skip
        subject = [{"name": "model.safetensors", "digest": {"sha256": digest}}]
        statement = {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}
        return copy.deepcopy(statement)

    def certificate(self) -> bytes:
        return canonical(self.statement()) + b"\n"


def operator_name(operator: object) -> str:
    return operator if isinstance(operator, str) else next(iter(operator))  # type: ignore[call-overload]


def changed_number(raw: Json, factor: Fraction, bits: int = 80) -> Json:
    """A number, or every entry of a vector, times a factor (rounded down to `bits` more bits)."""
    ints = [(int(token, 16) * factor.numerator << bits) // factor.denominator for token in raw["int"].split()]
    return {"exp": raw["exp"] - bits, "int": " ".join(format(v, "x") for v in ints)}
