"""What a prover works on: the exact graph, where it is asked to hold, and the kernel's own rules to try a step on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trm_verify.certificate import BOXES, Derivation
from trm_verify.encode import Json, vector
from trm_verify.kernel.check import _box
from trm_verify.kernel.claims import Conclusion
from trm_verify.kernel.context import Context
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph, parse
from trm_verify.kernel.norms import Norm, parse_norm
from trm_verify.kernel.numbers import Rows
from trm_verify.kernel.rules import RULES
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.weights import Weights

C = TypeVar("C")
T = TypeVar("T")
Floats = NDArray[np.float64]

ALL_STATES: Json = {"space": "state", "all": True}
ALL_INPUTS: Json = {"space": "input", "all": True}
NOTHING = "null"  # how a key of `Problem.once` ends that is about no box
NO_INPUT: Json = {"space": "input", "point": {"exp": 0, "int": ""}}


@dataclass
class Problem:
    """One graph over one weights file.

    Attributes:
        graph: the kernel's own parsed graph; provers read shapes, constants and linear forms from it.
        hints: multiplier vectors that layers suggest for `metric_contraction`; nobody has to believe them.
    """

    raw_graph: Json
    weights: bytes
    hints: Sequence[Floats] = ()
    graph: Graph = field(init=False)
    _tables: dict[str, Any] = field(init=False, default_factory=dict)
    _known: dict[str, Conclusion] = field(init=False, default_factory=dict)
    _keys: dict[tuple[object, ...], tuple[Json, str]] = field(init=False, default_factory=dict)
    _lately: dict[int, tuple[Derivation, Conclusion]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = parse(self.raw_graph, Weights(self.weights))

    @property
    def unused(self) -> list[str]:
        return sorted(set(self.graph.weights.names) - self.graph.tensors)

    def box(self, raw: Json) -> Tensor:
        """A box, as the kernel reads it."""
        return self.once("box", raw, lambda: _box(raw, self.graph)[1])

    def norm(self, raw: Json) -> Norm:
        """A norm, as the kernel reads it."""
        return self.once("norm", raw, lambda: parse_norm(raw, self.graph.size))

    def ranges(self, domain: Json, region: Json) -> list[Tensor]:
        """Enclosures of all nodes of the step over region × domain."""
        return self.once(
            "ranges", [domain, region],
            lambda: evaluate(self.graph, self.graph.step, self.box(region), self.box(domain)),
        )  # fmt: skip

    def once(self, what: str, about: object, make: Callable[[], T]) -> T:
        """What `make` returns, made once for each `what` and JSON value `about`."""
        key = what + json.dumps(about, sort_keys=True)
        if key not in self._tables:
            self._tables[key] = make()
        found: T = self._tables[key]
        return found

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """What is worked out inside about some box is dropped at the end: a long job must not fill the memory."""
        known, tables = set(self._known), set(self._tables)
        keys, lately = set(self._keys), set(self._lately)
        try:
            yield
        finally:
            self._known = {key: found for key, found in self._known.items() if key in known}
            self._keys = {key: found for key, found in self._keys.items() if key in keys}
            self._lately = {key: found for key, found in self._lately.items() if key in lately}
            self._tables = {k: found for k, found in self._tables.items() if k in tables or k.endswith(NOTHING)}

    def conclude(self, derivation: Derivation) -> Conclusion:
        """What the kernel's rules conclude from the derivation, each step derived once.

        Raises:
            CheckError: a rule rejects its step.
        """
        if id(derivation) in self._lately:  # the same object: there is no need to spell it out
            return self._lately[id(derivation)][1]
        keys: list[str] = []
        for step in derivation.steps:
            cited = [keys[p] for p in step["premises"]]
            key = self._key(step, cited)
            if key not in self._known:
                self._known[key] = self._apply(step, [self._known[k] for k in cited])
            keys.append(key)
        concluded = self._known[keys[-1]]
        self._lately[id(derivation)] = derivation, concluded  # holds the object, so that no other one gets its id
        return concluded

    def _key(self, step: Json, cited: list[str]) -> str:
        """The name of a step that cites others: a digest, since nested names would double in length with every step.

        Derivations share the steps they begin with, so it is worked out once for each object.
        """
        place = (id(step), *cited)
        if place not in self._keys:
            spelled = json.dumps([{**step, "premises": []}, cited], sort_keys=True)
            self._keys[place] = step, sha256(spelled.encode()).hexdigest()  # holds the object, as above
        return self._keys[place][1]

    def conclude_as(self, derivation: Derivation, kind: type[C]) -> C:
        """The conclusion, of the kind that its last rule always gives.

        Raises:
            CheckError: a rule rejects its step. TypeError: another kind, a defect of the caller.
        """
        concluded = self.conclude(derivation)
        if not isinstance(concluded, kind):
            raise TypeError(f"expected a derivation of {kind.__name__}, found {type(concluded).__name__}")
        return concluded

    def _apply(self, step: Json, premises: list[Conclusion]) -> Conclusion:
        boxes: list[tuple[str, Tensor]] = []
        norms: list[Norm] = []
        witness = {k: v for k, v in step.items() if k not in ("rule", "premises")}
        for name in BOXES:
            if isinstance(witness.get(name), dict):
                boxes.append((witness[name]["space"], self.box(witness[name])))
                witness[name] = len(boxes) - 1
        if isinstance(witness.get("norm"), dict):
            norms.append(self.norm(witness["norm"]))
            witness["norm"] = 0
        return RULES[step["rule"]](Context(self.graph, tuple(boxes), tuple(norms)), premises, witness)


@dataclass(frozen=True)
class Attempt:
    """What one strategy gave for contraction: a rate with its derivation, or the reason why not."""

    prover: str
    norm: str
    seconds: float
    rate: Fraction | None = None
    derivation: Derivation | None = None
    reason: str = ""

    @property
    def proved(self) -> bool:
        return self.derivation is not None


def floats(ints: Sequence[int] | Rows, exp: int) -> Floats:
    """Kernel integers, a vector or rows, as doubles, for searching only: what is too large becomes infinite."""
    try:
        array = np.array(ints, dtype=np.float64)
    except OverflowError:
        long = np.array(ints, dtype=object)
        shift = max(v.bit_length() for v in long.flat) - 1000
        array, exp = (long >> shift).astype(np.float64), exp + shift
    with np.errstate(over="ignore"):
        found: Floats = np.ldexp(array, exp)
    return found


def point(values: Floats) -> Tensor:
    """An exact flat tensor of these doubles."""
    raw = vector(values)
    ints = [int(token, 16) for token in raw["int"].split()]
    return Tensor((len(ints),), raw["exp"], ints, ints)
