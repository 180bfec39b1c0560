"""Claims that a caller can expect of a certificate: one frozen dataclass each, with one text form for `--expect`.

    >>> str(Contraction(rate=0.9, norm="linf"))
    'contraction(rate<=0.9,norm=linf)'

A field that is None is not compared. In the text form a box whose coordinates differ is named by its digest, which only
that very box meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from trm_verify.box import Box, exact_number, is_tensor
from trm_verify.kernel.expect import BOUNDS, EXACT, LABELS, Expectation, box_digest, norm_named, parse_expectation
from trm_verify.kernel.tensor import Tensor, from_fractions

if TYPE_CHECKING:
    import torch

Number = float | str | Fraction | Decimal
Set = Box | str
Labels: TypeAlias = "int | Sequence[int] | np.ndarray | torch.Tensor"


class Claim:
    """What all claims share."""

    name: ClassVar[str]

    def __str__(self) -> str:
        parts = [_spelled(f.name, getattr(self, f.name), self.name) for f in fields(self)]  # type: ignore[arg-type]
        return f"{self.name}({','.join(p for p in parts if p)})"

    def expectation(self) -> Expectation:
        """The kernel's form."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]
        return Expectation(self.name, tuple((n, _read(n, v)) for n, v in given if v is not None))


def _read(name: str, value: Any) -> object:
    if isinstance(value, Box):
        return _uniform(value) or tensor_of(value)
    if name in BOUNDS:
        return _exact(value, name)
    if name in EXACT:
        return exact_number(value, name)
    if name == "norm":
        return norm_named(value)
    return _spelled_labels(value) if name in LABELS else value


def _exact(value: Any, name: str) -> Fraction:
    """Floats are read as they print: a caller who writes 0.9 means nine tenths."""
    if isinstance(value, float):
        value = repr(float(value))
    return exact_number(int(value) if isinstance(value, np.integer) else value, name)


def _spelled_labels(value: Any) -> str:
    """Labels joined by hyphens, as the kernel's text form has them."""
    array = np.asarray(value.cpu() if is_tensor(value) else value)
    if array.dtype.kind not in "iu" or array.size == 0 or array.min() < 0:
        raise ValueError(f"expected labels, integers from 0, found {value!r}")
    return "-".join(str(int(v)) for v in array.ravel())


def _spelled(name: str, value: Any, claim: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Box):
        text = _uniform(value) or f"sha256:{box_digest(tensor_of(value))}"
    elif name in LABELS:
        text = _spelled_labels(value)
    elif name in EXACT:
        text = str(exact_number(value, name))
    elif name in BOUNDS:
        exact = _exact(value, name)
        text = repr(float(value)) if isinstance(value, float) and abs(value) < 1e16 else str(exact)
    else:
        text = str(value)
    return f"{name}{'<=' if name in BOUNDS and claim != 'answer_at' else '='}{text}"


def _uniform(box: Box) -> str | None:
    """`box(lo,hi)` when all coordinates have the same ends, short enough for the text form; it fits any dimension."""
    ends = set(zip(box.lo, box.hi, strict=True))
    text = [str(end) for end in ends.pop()]
    return f"box({text[0]},{text[1]})" if not ends and max(map(len, text)) < 30 else None


def tensor_of(box: Box) -> Tensor:
    """A flat kernel box that holds the given one."""
    return from_fractions(list(zip(box.lo, box.hi, strict=True)))


@dataclass(frozen=True)
class Contraction(Claim):
    """The iteration contracts at `rate` or less, uniformly over the domain."""

    name: ClassVar[str] = "contraction"
    rate: Number | None = None
    norm: str | None = None
    operator: str | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class AtMostOne(Claim):
    """At most one fixed point in the region, for each input."""

    name: ClassVar[str] = "at_most_one"
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class ExactlyOne(Claim):
    """Exactly one fixed point in the region, for each input."""

    name: ClassVar[str] = "exactly_one"
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Invariant(Claim):
    """The iteration maps the region into itself."""

    name: ClassVar[str] = "invariant"
    operator: str | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Convergence(Claim):
    """The iteration converges at `rate`; with `epsilon`, within `steps` steps to that distance in plain ℓ∞."""

    name: ClassVar[str] = "convergence"
    rate: Number | None = None
    constant: Number | None = None
    norm: str | None = None
    operator: str | None = None
    domain: Set | None = None
    start: Set | None = None
    epsilon: Number | None = None
    steps: int | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Settles(Claim):
    """From every state the iteration is at its only fixed point, exactly, after `steps` steps and ever after."""

    name: ClassVar[str] = "settles"
    steps: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Answer(Claim):
    """From step `steps` on, for every input of the domain, the answer is `answer`."""

    name: ClassVar[str] = "answer"
    answer: Labels | None = None
    steps: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class AnswerAt(Claim):
    """At exactly `steps` steps the answer is `answer`."""

    name: ClassVar[str] = "answer_at"
    answer: Labels | None = None
    steps: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Commits(Claim):
    """Rounds of at least `steps` steps commit open cells as `committed` says, and end with `answer`.

    `committed` has, per output position, the round that commits it, 0 for never; there are at most `rounds` rounds,
    the last one, without a commitment, included. A float `threshold` means its exact binary value.
    """

    name: ClassVar[str] = "commits"
    answer: Labels | None = None
    rounds: int | None = None
    committed: Labels | None = None
    steps: int | None = None
    threshold: Number | None = None
    blank: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Run(Claim):
    """The audit of one inference: `answer` is what it answers from step `final` on.

    In every coordinate its last state is within `radius` of the fixed point, and every stored state within `drift` of
    the exact step of the one before.
    """

    name: ClassVar[str] = "run"
    answer: Labels | None = None
    radius: Number | None = None
    drift: Number | None = None
    final: int | None = None
    norm: str | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class EnclosesAll(Claim):
    """Every fixed point in the region lies within `radius` of one point, in every coordinate; there may be none."""

    name: ClassVar[str] = "encloses_all"
    radius: Number | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class EnclosesOne(Claim):
    """Some fixed point in the region lies within `radius` of one point, in every coordinate, for each input."""

    name: ClassVar[str] = "encloses_one"
    radius: Number | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class EnclosesThe(Claim):
    """The region has exactly one fixed point, and it lies within `radius` of one point, in every coordinate."""

    name: ClassVar[str] = "encloses_the"
    radius: Number | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class FixedPointAnswer(Claim):
    """Every fixed point in the region answers `answer`, and there is one, for each input; no loop need reach it."""

    name: ClassVar[str] = "fixed_point_answer"
    answer: Labels | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Lipschitz(Claim):
    """The logits at the fixed point move at most `constant` times as far as the input, both in ℓ2."""

    name: ClassVar[str] = "lipschitz"
    constant: Number | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Refutation(Claim):
    """A claim of the name `of` fails for some input of the domain.

    `domain` and `region` name the very sets of the certificate; a contraction refuted at a larger rate than `rate` is
    refuted at that rate too.
    """

    name: ClassVar[str] = "refutation"
    of: str | None = None
    answer: Labels | None = None
    rate: Number | None = None
    norm: str | None = None
    operator: str | None = None
    domain: Set | None = None
    region: Set | None = None

    __str__ = Claim.__str__


# The same under the names that certificates and --expect have: `result.proves(contraction(rate=0.9))`.
contraction, convergence, invariant = Contraction, Convergence, Invariant
at_most_one, exactly_one = AtMostOne, ExactlyOne
encloses_all, encloses_one, encloses_the = EnclosesAll, EnclosesOne, EnclosesThe
answer, answer_at, fixed_point_answer = Answer, AnswerAt, FixedPointAnswer
commits, run, lipschitz, refutation = Commits, Run, Lipschitz, Refutation


def expectation_of(claim: Claim | Expectation | str) -> Expectation:
    """Any spelling of an expected claim.

    Raises:
        ValueError: the text is not a claim.
    """
    if isinstance(claim, str):
        return parse_expectation(claim)
    if not isinstance(claim, (Claim, Expectation)):
        raise ValueError(f"expected a claim of tv.claims or its text form, found {claim!r}")
    return claim if isinstance(claim, Expectation) else claim.expectation()
