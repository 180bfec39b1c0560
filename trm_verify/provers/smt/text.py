"""Piecewise-linear steps as SMT-LIB 2 text over the reals: exact rationals, one `ite` (or two) a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import PIECEWISE

MAX_BITS = 12_000


def number(value: Fraction) -> str:
    """A rational literal.

    Raises:
        CheckError: LIMIT, a number too long to write in decimal.
    """
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise CheckError("LIMIT", f"numbers of at most {MAX_BITS} bits for a solver", value)
    size = f"{abs(value.numerator)}.0"
    size = size if value.denominator == 1 else f"(/ {size} {value.denominator}.0)"
    return f"(- {size})" if value < 0 else size


def affine(constant: Fraction, terms: Iterable[tuple[Fraction, str]]) -> str:
    """constant + Σ coefficient · term, zeros left out."""
    parts = [number(constant)] if constant else []
    parts += [name if c == 1 else f"(* {number(c)} {name})" for c, name in terms if c]
    return parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})" if parts else "0.0"


def value_of(unit: Unit, a: str) -> str:
    """φ(a) for a name a.

    Raises:
        CheckError: UNSUPPORTED, a unit that is not piecewise linear.
    """
    if unit.op == "relu":
        return f"(ite (>= {a} 0.0) {a} 0.0)"
    if unit.op == "abs":
        return f"(ite (>= {a} 0.0) {a} (- {a}))"
    if unit.op == "leaky_relu":
        return f"(ite (>= {a} 0.0) {a} (* {number(unit.attrs['slope'])} {a}))"
    if unit.op == "scale":
        return f"(* {number(unit.attrs['factor'])} {a})"
    if unit.op == "clamp":
        found = a
        for relation, end in (("<=", unit.attrs["lo"]), (">=", unit.attrs["hi"])):
            if end is not None:
                found = f"(ite ({relation} {a} {number(end)}) {number(end)} {found})"
        return found
    if unit.range is not None and unit.range[0] == unit.range[1]:
        return number(unit.range[0])
    raise CheckError("UNSUPPORTED", f"one of {sorted(PIECEWISE)} for an exact encoding", unit.op)


class Script:
    """Declarations and assertions, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def reals(self, tag: str, count: int) -> list[str]:
        names = [f"{tag}{i}" for i in range(count)]
        self.lines += [f"(declare-const {name} Real)" for name in names]
        return names

    def require(self, *conditions: str) -> None:
        self.lines += [f"(assert {condition})" for condition in conditions]

    def either(self, conditions: Sequence[str]) -> None:
        """At least one of them holds."""
        self.require(f"(or {' '.join(conditions)})" if conditions else "false")

    def inside(self, names: Sequence[str], box: Tensor) -> None:
        """A box of an input or a state; nothing when it is unbounded."""
        for name, (lo, hi) in zip(names, map(box.fraction, range(box.size)) if box.bounded else (), strict=False):
            self.require(f"(>= {name} {number(lo)})", f"(<= {name} {number(hi)})")

    def function(self, forms: AffineForms, states: Sequence[str], inputs: Sequence[str], tag: str) -> list[str]:
        """The outputs of a function, as terms, at named states and inputs. One name for each argument and each unit."""
        known = [*states, *inputs]
        for k, (unit, row) in enumerate(zip(forms.units, forms.arguments.rows, strict=True)):
            a, u = self.reals(f"{tag}a{k}_", 1)[0], self.reals(f"{tag}u{k}_", 1)[0]
            if unit.op is not None:
                self.require(f"(= {a} {row_term(row, forms.arguments.exp, known)})")
            self.require(f"(= {u} {value_of(unit, a)})")
            known.append(u)
        return [row_term(row, forms.outputs.exp, known) for row in forms.outputs.rows]


def row_term(row: Sequence[int], exp: int, known: Sequence[str]) -> str:
    """A row over (1, names); it may end before the names do."""
    return affine(row[0] * dyadic(1, exp), [(v * dyadic(1, exp), n) for v, n in zip(row[1:], known, strict=False)])
