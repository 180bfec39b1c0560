"""Reads a certificate and its weights file for the oracle, from docs/format.md alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

Json = dict[str, Any]
Array = np.ndarray[Any, np.dtype[Any]]

ITEM = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1"}


def read_number(raw: Json) -> Fraction:
    return Fraction(int(raw["int"], 16)) * Fraction(2) ** raw["exp"]


def read_vector(raw: Json) -> list[Fraction]:
    return [Fraction(int(token, 16)) * Fraction(2) ** raw["exp"] for token in raw["int"].split()]


def read_tensors(raw: bytes) -> dict[str, Array]:
    """Every tensor as exact numbers. Shape: as stored; entries are `Fraction`, or None where not finite."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    body = raw[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            halves = np.frombuffer(body[first:last], dtype="<u2").astype("<u4") << 16
            values = halves.view("<f4")
        else:
            values = np.frombuffer(body[first:last], dtype=ITEM[entry["dtype"]])
        exact = np.empty(len(values), dtype=object)
        exact[:] = [Fraction(v.item()) if np.isfinite(v) else None for v in values]
        tensors[name] = exact.reshape(entry["shape"])
    return tensors


@dataclass(frozen=True)
class Model:
    """The graph with its tensors."""

    graph: Json
    tensors: dict[str, Array] = field(repr=False)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(s) for s in self.graph["state"]]

    @property
    def n(self) -> int:
        return sum(prod(s) for s in self.shapes)

    @property
    def m(self) -> int:
        return 0 if self.graph["input"] is None else prod(self.graph["input"]["shape"])

    @property
    def vocabulary(self) -> int | None:
        given = self.graph["input"]
        return given["size"] if given is not None and given["kind"] == "integer" else None


@dataclass(frozen=True)
class Set:
    """A box; both ends None for the whole space."""

    lo: tuple[Fraction, ...] | None
    hi: tuple[Fraction, ...] | None

    @property
    def bounded(self) -> bool:
        return self.lo is not None

    def floats(self) -> tuple[Array, Array]:
        """The ends in double precision, rounded into the box where it holds a double at all."""
        if self.lo is None or self.hi is None:
            raise ValueError("expected a bounded set")
        lo, hi = (np.array([float(v) for v in end]) for end in (self.lo, self.hi))
        low = np.array([np.nextafter(d, np.inf) if d < v else d for d, v in zip(lo, self.lo, strict=True)])
        high = np.array([np.nextafter(d, -np.inf) if d > v else d for d, v in zip(hi, self.hi, strict=True)])
        fits = low <= high
        return np.where(fits, low, lo), np.where(fits, high, lo)


def read_box(raw: Json, vocabulary: int | None, size: int) -> Set:
    if "all" in raw:
        if raw["space"] == "input" and vocabulary is not None:
            return Set((Fraction(0),) * size, (Fraction(vocabulary - 1),) * size)
        return Set(None, None)
    if "point" in raw:
        point = tuple(read_vector(raw["point"]))
        return Set(point, point)
    return Set(tuple(read_vector(raw["lo"])), tuple(read_vector(raw["hi"])))


@dataclass(frozen=True)
class Claim:
    """One claim with its boxes and norm written out."""

    name: str
    body: Json
    domain: Set
    region: Set | None = None
    start: Set | None = None
    norm: Json | None = None

    def key(self) -> str:
        """Equal keys on one model are equal statements."""
        rest = {k: v for k, v in self.body.items() if k not in ("step", "domain", "region", "start", "norm")}
        return json.dumps([rest, str(self.domain), str(self.region), str(self.start), self.norm], sort_keys=True)


def read_claims(certificate: bytes, weights: bytes) -> tuple[Model, list[Claim]]:
    """The model and the claims of a certificate that the kernel has accepted."""
    predicate = json.loads(certificate)["predicate"]
    model = Model(predicate["graph"], read_tensors(weights))
    boxes, norms = predicate["boxes"], predicate["norms"]

    def box(body: Json, name: str) -> Set | None:
        index = body.get(name)
        if not isinstance(index, int):
            return None
        raw = boxes[index]
        space = raw["space"]
        return read_box(raw, model.vocabulary, model.m if space == "input" else model.n)

    claims = []
    for body in predicate["claims"]:
        if body["claim"] == "run":  # the claim speaks of the states that its step stores
            body = {**body, "states": predicate["steps"][body["step"]]["states"]}
        domain = box(body, "domain")
        if domain is None:
            raise ValueError("a claim without a domain")
        norm = norms[body["norm"]] if "norm" in body else None
        claims.append(Claim(body["claim"], body, domain, box(body, "region"), box(body, "start"), norm))
    return model, claims
