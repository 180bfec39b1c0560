"""What an exact decision says: a verdict a claim, with a derivation that the kernel accepted, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass

from trm_verify.certificate import Derivation
from trm_verify.provers.exact.simplex import TimeUp
from trm_verify.provers.witnesses import FixedPoint
from trm_verify.result import PROVED, REFUTED, UNKNOWN, Verdict

__all__ = ["Decision", "Finding", "TimeUp", "Unprovable", "why"]


class Unprovable(Exception):
    """The truth may be known here, but no rule of the kernel says it; the message is the reason."""


def why(error: Exception) -> str:
    """The reason that a search which ended early leaves behind."""
    return "the time for this was used up" if isinstance(error, TimeUp) else str(error)


@dataclass(frozen=True)
class Finding:
    """One claim. PROVED and REFUTED come with a derivation, whose conclusion implies the claim or its refutation.

    `reason` says in words why a claim is refuted, or why nothing is known.
    """

    verdict: Verdict
    derivation: Derivation | None = None
    reason: str = ""

    @classmethod
    def proved(cls, derivation: Derivation) -> Finding:
        return cls(PROVED, derivation)

    @classmethod
    def refuted(cls, derivation: Derivation, reason: str) -> Finding:
        return cls(REFUTED, derivation, reason)

    @classmethod
    def unknown(cls, reason: str) -> Finding:
        return cls(UNKNOWN, None, reason)


@dataclass(frozen=True)
class Decision:
    """The claims about one domain and region.

    Attributes:
        answer: of `fixed_point_answer`; None when no answer was asked for. A model without any fixed point has this
            claim refuted too, by the same derivation as `exactly_one`.
        fixed_points: exact fixed points that were met: the only one, if `exactly_one` is proved at a single input.
        counterexample: a fixed point that does not strictly answer as claimed.
    """

    exactly_one: Finding
    at_most_one: Finding
    answer: Finding | None = None
    fixed_points: tuple[FixedPoint, ...] = ()
    counterexample: FixedPoint | None = None

    @classmethod
    def nothing(cls, reason: str, answered: bool) -> Decision:
        """UNKNOWN throughout, for one reason."""
        found = Finding.unknown(reason)
        return cls(found, found, found if answered else None)
