"""Reads a certificate and its weights file for the oracle, from docs/format.md alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
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
        return self._floats

    @cached_property
    def _floats(self) -> tuple[Array, Array]:
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


Points = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Hints:
    """Where the steps of a certificate look: places to search at, which nobody has to believe.

    Attributes:
        inputs: inputs.
        states: states.
        pairs: (input, state) that a step says to be a fixed point.
        orbits: the states of one period each.
    """

    inputs: Points = ()
    states: Points = ()
    pairs: tuple[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], ...] = ()
    orbits: tuple[Points, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One claim with its boxes and norm written out."""

    name: str
    body: Json
    domain: Set
    region: Set | None = None
    start: Set | None = None
    norm: Json | None = None
    box: Set | None = None
    hints: Hints = field(default=Hints(), repr=False)

    def key(self) -> str:
        """Equal keys on one model are equal statements."""
        rest = {k: v for k, v in self.body.items() if k not in ("step", "domain", "region", "start", "norm", "box")}
        sets = map(str, (self.domain, self.region, self.start, self.box))
        return json.dumps([rest, *sets, self.norm], sort_keys=True)


def _middle(raw: Json, vocabulary: int | None) -> tuple[Fraction, ...] | None:
    """The midpoint of a box, or the corner below it where the inputs are integers."""
    if "all" in raw:
        return None
    lo, hi = (read_vector(raw.get(end, raw.get("point"))) for end in ("lo", "hi"))
    return tuple((a + b) / 2 if vocabulary is None else a for a, b in zip(lo, hi, strict=True))


def read_rationals(raw: Json) -> tuple[Fraction, ...]:
    """Numerators over one denominator."""
    return tuple(v / read_number(raw["denominator"]) for v in read_vector(raw["numerators"]))


def read_hints(predicate: Json, model: Model) -> Hints:
    """The places that the steps of a certificate name."""
    middles = [_middle(raw, model.vocabulary) for raw in predicate["boxes"]]
    spaces = [raw["space"] for raw in predicate["boxes"]]
    found = [(s, m) for s, m in zip(spaces, middles, strict=True) if m is not None]
    states = [m for space, m in found if space == "state"]
    pairs, orbits = [], []
    for step in predicate["steps"]:
        if step["rule"] == "fixed_point_at":
            pairs.append((read_rationals(step["input"]), read_rationals(step["state"])))
        elif step["rule"] == "cycle":
            ends = zip(read_vector(step["lo"]), read_vector(step["hi"]), strict=True)
            orbit = [(a + b) / 2 for a, b in ends]
            orbits.append(tuple(tuple(orbit[i : i + model.n]) for i in range(0, len(orbit), model.n)))
        elif step["rule"] == "expanding_pair":
            states += [tuple(read_vector(step[key])) for key in ("first", "second")]
    inputs = [m for space, m in found if space == "input"]
    return Hints(tuple(inputs), tuple(states), tuple(pairs), tuple(orbits))


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

    claims, hints = [], read_hints(predicate, model)
    for body in predicate["claims"]:
        if body["claim"] == "run":  # the claim speaks of the states that its step stores
            body = {**body, "states": predicate["steps"][body["step"]]["states"]}
        domain = box(body, "domain")
        if domain is None:
            raise ValueError("a claim without a domain")
        norm = norms[body["norm"]] if body.get("norm") is not None else None
        region, start, enclosed = (box(body, name) for name in ("region", "start", "box"))
        claims.append(Claim(body["claim"], body, domain, region, start, norm, enclosed, hints))
    return model, claims
