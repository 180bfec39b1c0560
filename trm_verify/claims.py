"""Claims that a caller can expect of a certificate: one frozen dataclass each, with one text form for `--expect`.

    >>> str(Contraction(rate=0.9, norm="linf"))
    'contraction(rate<=0.9,norm=linf)'

A field that is None is not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

from trm_verify.box import Box
from trm_verify.kernel.expect import BOUNDS, Expectation, parse_expectation
from trm_verify.kernel.tensor import Tensor, from_fractions

Number = float | str | Fraction | Decimal
Set = Box | str


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
        return tensor_of(value)
    if name in BOUNDS:
        return _exact(value)
    return "-".join(str(int(v)) for v in _labels(value)) if name == "answer" else value


def _exact(value: Any) -> Fraction:
    """Floats are read as they print: a caller who writes 0.9 means nine tenths."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _labels(value: Any) -> Sequence[int]:
    return [value] if isinstance(value, int) else list(value)


def _spelled(name: str, value: Any, claim: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Box):
        value = (
            f"box({value.lo[0]},{value.hi[0]})" if len(set(zip(value.lo, value.hi, strict=True))) == 1 else repr(value)
        )
    if name == "answer":
        value = "-".join(str(int(v)) for v in _labels(value))
    return f"{name}{'<=' if name in BOUNDS and claim != 'answer_at' else '='}{value}"


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
class Answer(Claim):
    """From step `steps` on, for every input of the domain, the answer is `answer`."""

    name: ClassVar[str] = "answer"
    answer: int | Sequence[int] | None = None
    steps: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class AnswerAt(Claim):
    """At exactly `steps` steps the answer is `answer`."""

    name: ClassVar[str] = "answer_at"
    answer: int | Sequence[int] | None = None
    steps: int | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


@dataclass(frozen=True)
class Run(Claim):
    """The audit of one inference: its last state is within `radius` of the fixed point, and `answer` is final."""

    name: ClassVar[str] = "run"
    answer: int | Sequence[int] | None = None
    radius: Number | None = None
    norm: str | None = None
    operator: str | None = None
    domain: Set | None = None

    __str__ = Claim.__str__


def expectation_of(claim: Claim | Expectation | str) -> Expectation:
    """Any spelling of an expected claim.

    Raises:
        ValueError: the text is not a claim.
    """
    if isinstance(claim, str):
        return parse_expectation(claim)
    return claim if isinstance(claim, Expectation) else claim.expectation()
