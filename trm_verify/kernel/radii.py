"""Radii: bounds on the difference of two tensors, group by group, and how they move between partitions.

Groups of one entry make weighted ℓ∞; one group makes ℓ2. Proof: proofs/radius_propagation.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import mul

from trm_verify.kernel import enclosures
from trm_verify.kernel.numbers import ceil_at, dot, rescale, shift_up, sqrt_up
from trm_verify.kernel.tensor import GRID


@dataclass(frozen=True)
class Radii:
    """`values[g] · 2^exp` bounds ‖Δ_g‖₂ for group g; `groups` gives each entry's group, None: entry i is group i."""

    groups: list[int] | None
    values: list[int]
    exp: int

    def of_entries(self) -> list[int]:
        """Per entry, a bound of |Δ|."""
        return self.values if self.groups is None else [self.values[g] for g in self.groups]


def settle_radii(groups: list[int] | None, values: list[int], exp: int) -> Radii:
    if exp >= GRID:
        return Radii(groups, values, exp)
    return Radii(groups, shift_up(values, GRID - exp), GRID)


def compact(keys: Sequence[Hashable]) -> list[int]:
    """Any keys, renumbered 0, 1, … in order of appearance."""
    number: dict[Hashable, int] = {}
    return [number.setdefault(k, len(number)) for k in keys]


GUARD = 64  # extra bits for roots, so that rounding them up to the shared exponent costs nothing that matters


def hypot(values: list[int]) -> int:
    """A bound of √Σ v², at an exponent finer by GUARD."""
    if len(values) == 1:
        return values[0] << GUARD
    return ceil_at(sqrt_up(Fraction(dot(values, values))), -GUARD)


def regroup(r: Radii, groups: list[int] | None) -> Radii:
    """The same bound over another partition: a piece of a group is at most the group, pieces add up in ℓ2."""
    if groups is None or groups == r.groups:
        return Radii(groups, r.of_entries() if groups is None else r.values, r.exp)
    sources: list[set[int]] = [set() for _ in range(max(groups) + 1)]
    for entry, target in enumerate(groups):
        sources[target].add(entry if r.groups is None else r.groups[entry])
    return settle_radii(groups, [hypot([r.values[g] for g in s]) for s in sources], r.exp - GUARD)


def row_groups(size: int, width: int) -> list[int]:
    return [i // width for i in range(size)]


def by_row(r: Radii, width: int) -> Radii:
    """Singletons stay; any other partition becomes one group per last-axis row."""
    return r if r.groups is None else regroup(r, row_groups(len(r.groups), width))


def times(r: Radii, factors: list[int], exp: int) -> Radii:
    """Each group times the largest of its entries' factors (non-negative)."""
    if r.groups is None:
        return settle_radii(None, list(map(mul, r.values, factors)), r.exp + exp)
    largest = [0] * len(r.values)
    for g, f in zip(r.groups, factors, strict=True):
        largest[g] = max(largest[g], f)
    return settle_radii(r.groups, list(map(mul, r.values, largest)), r.exp + exp)


def constant_times(r: Radii, factor: Fraction) -> Radii:
    scaled = ceil_at(factor, -enclosures.BITS) if factor.denominator & (factor.denominator - 1) else factor.numerator
    exp = -enclosures.BITS if factor.denominator & (factor.denominator - 1) else 1 - factor.denominator.bit_length()
    return settle_radii(r.groups, [v * scaled for v in r.values], r.exp + exp)


def together(a: Radii, b: Radii) -> tuple[Radii, list[int], list[int], int]:
    """Two radii over one partition (the one with fewer groups) and one exponent."""
    target = a.groups if len(a.values) <= len(b.values) else b.groups
    a, b = regroup(a, target), regroup(b, target)
    exp = min(a.exp, b.exp)
    return a, rescale(a.values, a.exp, exp), rescale(b.values, b.exp, exp), exp


def add(a: Radii | None, b: Radii | None) -> Radii | None:
    if a is None or b is None:
        return a or b
    first, x, y, exp = together(a, b)
    return settle_radii(first.groups, [p + q for p, q in zip(x, y, strict=True)], exp)


def by_gains(args: list[tuple[Radii, Fraction]], count: int, width: int) -> Radii:
    """√(Σ γ_i² ‖Δa_i‖²) for a result of `count` rows, over the smallest sets of rows that no argument's group leaves.

    The inequality holds row by row, hence for any set of rows; a group across rows says nothing about one of them.
    """
    component = list(range(count))  # union-find over rows that share a group

    def find(t: int) -> int:
        while component[t] != t:
            component[t] = component[component[t]]
            t = component[t]
        return t

    for r, _ in args:
        first: dict[int, int] = {}
        for entry, g in enumerate(r.groups or ()):
            if not r.values[g]:  # nothing moves there, in whichever rows: the padding of a shift
                continue
            t = entry * count // len(r.groups or ())
            component[find(t)] = find(first.setdefault(g, t))
    of_row = compact([find(t) for t in range(count)])
    terms = []
    for r, gain in args:
        size = len(r.values if r.groups is None else r.groups)
        terms.append(regroup(constant_times(r, gain), [of_row[entry * count // size] for entry in range(size)]))
    exp = min(term.exp for term in terms)
    values = [hypot(list(parts)) for parts in zip(*(rescale(t.values, t.exp, exp) for t in terms), strict=True)]
    return settle_radii([t for t in of_row for _ in range(width)], values, exp - GUARD)


def tighter(a: Radii, b: Radii) -> Radii:
    """Of two bounds on one tensor: the smaller one group by group, or the one with more groups."""
    if a.groups != b.groups:
        return a if len(a.values) >= len(b.values) else b
    exp = min(a.exp, b.exp)
    return Radii(a.groups, list(map(min, rescale(a.values, a.exp, exp), rescale(b.values, b.exp, exp))), exp)
