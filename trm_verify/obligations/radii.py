"""Radii as terms: bounds on the difference of two tensors, group by group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.obligations.terms import NotExported, Term, larger


@dataclass(frozen=True)
class Radii:
    """`values[g]` bounds ‖Δ_g‖₂; `groups` gives each entry's group, None: entry i is group i."""

    groups: list[int] | None
    values: list[Term]

    def of_entries(self) -> list[Term]:
        return self.values if self.groups is None else [self.values[g] for g in self.groups]


def compact(keys: Sequence[Hashable]) -> list[int]:
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(k, len(seen)) for k in keys]


def size_of(term: Term) -> Fraction:
    """The exporter's own value, where it has to choose."""
    if term.value is None:
        raise NotExported("a radius that depends on variables")
    return term.value


def greatest(terms: Sequence[Term]) -> Term:
    """The largest: by value among literals, else a term."""
    found = terms[0]
    for term in terms[1:]:
        found = max(found, term, key=size_of) if found.literal and term.literal else larger(found, term)
    return found
