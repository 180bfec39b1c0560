"""SMT-LIB 2 terms over the reals, and the script that they are written to.

A script is a list of definitions and assumptions, and of *goals* that must follow from them. It asserts that some goal
fails, so the answer to `(check-sat)` must be `unsat`. Of a term without variables the exporter knows the value too; it
serves as a hint (a root, a rounded bound) whose inequality is a goal of its own, and never in place of the term.

A variable is a real number for the solver to choose, or, in scripts about many of them, a pair of *ends*: terms without
variables between which it lies. Sums and products of ends are interval arithmetic, which solvers evaluate at any size.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from trm_verify.kernel.numbers import round_up, sqrt_up

MAX_CHARACTERS = 8_000_000  # of one script; what would be longer is not exported
MANY = 48  # goals about variables in one script
MOST_PARTS = 128  # scripts of one step
Formula = str
_SYMBOL = re.compile(r"[^\s()]+")


class NotExported(Exception):
    """Why a side condition is not written as a script."""


@dataclass(frozen=True)
class Term:
    """`value` is None where the term has variables in it. A literal is one number, spelled out."""

    text: str
    value: Fraction | None = None
    literal: bool = False
    ends: tuple[Term, Term] | None = None

    @property
    def is_zero(self) -> bool:
        return self.literal and self.value == 0

    @property
    def low(self) -> Term:
        return self if self.ends is None else self.ends[0]

    @property
    def high(self) -> Term:
        return self if self.ends is None else self.ends[1]


def number(value: Fraction | int) -> Term:
    """A literal."""
    exact = Fraction(value)
    text = f"{abs(exact.numerator)}.0"
    if exact.denominator != 1:
        text = f"(/ {text} {exact.denominator}.0)"
    return Term(f"(- {text})" if exact < 0 else text, exact, True)


ZERO, ONE = number(0), number(1)
OPAQUE = Term("(unbounded)")  # in interval arithmetic, a value without ends: no goal may depend on it


def _value(terms: Sequence[Term]) -> list[Fraction] | None:
    found = [t.value for t in terms if t.value is not None]
    return found if len(found) == len(terms) else None


def add(terms: Iterable[Term]) -> Term:
    """The sum; literal zeros are left out."""
    kept = [t for t in terms if not t.is_zero]
    if OPAQUE in kept:
        return OPAQUE
    if len(kept) < 2:
        return kept[0] if kept else ZERO
    known = _value(kept)
    text = f"(+ {' '.join(t.text for t in kept)})"
    spread = any(t.ends is not None for t in kept)
    ends = (add([t.low for t in kept]), add([t.high for t in kept])) if spread else None
    return Term(text, None if known is None else sum(known, Fraction(0)), ends=ends)


def negative(term: Term) -> Term:
    if term == OPAQUE:
        return OPAQUE
    if term.literal and term.value is not None:
        return number(-term.value)
    ends = None if term.ends is None else (negative(term.high), negative(term.low))
    return Term(f"(- {term.text})", None if term.value is None else -term.value, ends=ends)


def sub(a: Term, b: Term) -> Term:
    return add([a, negative(b)])


def choose(condition: Formula, yes: Term, no: Term, value: Fraction | None) -> Term:
    return Term(f"(ite {condition} {yes.text} {no.text})", value)


def larger(a: Term, b: Term) -> Term:
    known = _value([a, b])
    if OPAQUE in (a, b):
        return OPAQUE
    if a.ends is not None or b.ends is not None:
        return Term("(max)", ends=(larger(a.low, b.low), larger(a.high, b.high)))
    return choose(at_most(b, a), a, b, None if known is None else max(known))


def smaller(a: Term, b: Term) -> Term:
    return negative(larger(negative(a), negative(b)))


def absolute(term: Term) -> Term:
    if term.literal and term.value is not None:
        return number(abs(term.value))
    if term == OPAQUE:
        return OPAQUE
    if term.ends is not None:
        least, most = larger(term.low, negative(term.high)), larger(negative(term.low), term.high)
        return Term("(abs)", ends=(larger(least, ZERO), most))
    return choose(at_most(ZERO, term), term, negative(term), None if term.value is None else abs(term.value))


def at_most(a: Term, b: Term) -> Formula:
    return f"(<= {a.high.text} {b.low.text})"


def below(a: Term, b: Term) -> Formula:
    return f"(< {a.high.text} {b.low.text})"


def equal(a: Term, b: Term) -> Formula:
    return f"(= {a.text} {b.text})"


def every(formulas: Sequence[Formula]) -> Formula:
    return "true" if not formulas else formulas[0] if len(formulas) == 1 else f"(and {' '.join(formulas)})"


def some(formulas: Sequence[Formula]) -> Formula:
    return "false" if not formulas else formulas[0] if len(formulas) == 1 else f"(or {' '.join(formulas)})"


def between(low: Fraction | None, term: Term, high: Fraction | None) -> Formula:
    """low ≤ term ≤ high, without an end that is None."""
    ends = [] if low is None else [at_most(number(low), term)]
    return every(ends if high is None else [*ends, at_most(term, number(high))])


@dataclass
class Script:
    """One obligation in the making.

    Attributes:
        goals: what must follow, with its words.
        facts: what is assumed and not shown here, with how often.
        nonlinear: whether two terms that are no literals are multiplied.
        by_intervals: whether variables are pairs of ends.
    """

    lines: list[str] = field(default_factory=list)
    goals: list[tuple[str, Formula]] = field(default_factory=list)
    facts: Counter[str] = field(default_factory=Counter)
    variables: set[str] = field(default_factory=set)
    nonlinear: bool = False
    by_intervals: bool = False
    characters: int = 0
    _names: Counter[str] = field(default_factory=Counter)

    def write(self, line: str) -> None:
        self.characters += len(line) + 1
        if self.characters > MAX_CHARACTERS:
            raise NotExported(f"the script would be longer than {MAX_CHARACTERS} characters")
        self.lines.append(line)

    def fresh(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}.{self._names[name]}"

    def variable(self, name: str, low: Fraction | None = None, high: Fraction | None = None) -> Term:
        """A variable that lies between these numbers."""
        if self.by_intervals and (low is None or high is None):
            return OPAQUE
        if self.by_intervals and low is not None and high is not None:
            return Term(self.fresh(name), ends=(number(low), number(high)))
        found = self.real(name)
        self.assume(between(low, found, high))
        return found

    def real(self, name: str) -> Term:
        """A number for the solver to choose, in interval arithmetic, too."""
        own = self.fresh(name)
        self.write(f"(declare-const {own} Real)")
        self.variables.add(own)
        return Term(own)

    def define(self, name: str, term: Term) -> Term:
        """A name for the term, unless it is a name or a literal already."""
        if term.literal or term == OPAQUE or not term.text.startswith("("):
            return term
        own = self.fresh(name)
        if term.ends is not None:
            return Term(own, ends=(self.define(f"{own}.lo", term.low), self.define(f"{own}.hi", term.high)))
        if term.value is None:  # an equation, not an abbreviation: solvers then see sums of few terms
            self.write(f"(declare-const {own} Real)")
            self.write(f"(assert (= {own} {term.text}))")
            self.variables.add(own)
        else:
            self.write(f"(define-fun {own} () Real {term.text})")
        return Term(own, term.value)

    def mul(self, *factors: Term) -> Term:
        """The product; literal zeros and ones are worked in."""
        if any(f.is_zero for f in factors):
            return ZERO
        if OPAQUE in factors:
            return OPAQUE
        kept = [f for f in factors if not (f.literal and f.value == 1)]
        if len(kept) < 2:
            return kept[0] if kept else ONE
        if sum(not f.literal for f in kept) > 1:
            self.nonlinear = True
        known = _value(kept)
        value = None
        if known is not None:
            value = Fraction(1)
            for each in known:
                value *= each
        return Term(f"(* {' '.join(f.text for f in kept)})", value, ends=self._scaled(kept))

    def _scaled(self, factors: Sequence[Term]) -> tuple[Term, Term] | None:
        """The ends of a product of one term that has ends with others that have a value."""
        own = next((f for f in factors if f.ends is not None), None)
        if own is None:
            return None
        others = [f for f in factors if f is not own]
        if any(f.ends is not None for f in others):
            raise NotExported("a product of two intervals")
        signs = [f.value < 0 for f in others if f.literal and f.value is not None]
        low, high = self.mul(*others, own.low), self.mul(*others, own.high)
        if len(signs) == len(others):
            return (high, low) if sum(signs) % 2 else (low, high)
        return smaller(low, high), larger(low, high)

    def combine(self, name: str, pairs: Iterable[tuple[Term, Term]]) -> Term:
        """Σ coefficient · term, under a name."""
        return self.define(name, add([self.mul(c, t) for c, t in pairs]))

    def assume(self, formula: Formula, fact: str | None = None) -> None:
        """`fact`: a sentence of the header, unless this only says where a variable ranges."""
        if formula != "true":
            self.write(f"(assert {formula})")
        if fact is not None:
            self.facts[fact] += 1

    def show(self, formula: Formula, what: str) -> None:
        self.characters += len(formula)
        if OPAQUE.text in formula:
            raise NotExported("interval arithmetic with an unbounded value")
        self.goals.append((what, formula))

    # hints: literals found by the exporter, whose equation or inequality is a goal

    def exactly(self, term: Term) -> Term:
        """The literal that a term without variables is equal to: what is multiplied with it then stays linear."""
        if term.literal or term.value is None:
            return term
        literal = number(term.value)
        self.show(equal(term, literal), "constants that are computed from weights have these values")
        return literal

    def ceiling(self, term: Term, what: str) -> Term:
        """A literal ≥ a non-negative term without variables."""
        if term.literal:
            return term
        if term.value is None:
            raise NotExported("a bound of a term with variables")
        literal = number(round_up(max(term.value, Fraction(0))))
        self.show(at_most(term, literal), what)
        return literal

    def length(self, terms: Sequence[Term], what: str) -> Term:
        """A literal ≥ √Σ t² for non-negative terms without variables."""
        ends = [t for t in (self.ceiling(term, what) for term in terms) if not t.is_zero]
        if len(ends) < 2:
            return ends[0] if ends else ZERO
        root = number(sqrt_up(sum((t.value**2 for t in ends if t.value is not None), Fraction(0))))
        self.show(at_most(add([self.mul(t, t) for t in ends]), self.mul(root, root)), what)
        return root

    # the finished scripts

    def parts(self) -> list[list[int]]:
        """Goals by number, those of one script together.

        Many goals about variables are a search each, and solvers are far better at one at a time: every script has
        few of them then, and one more has all goals that are computed.
        """
        search = [k for k, (_, formula) in enumerate(self.goals) if not self.variables.isdisjoint(_words(formula))]
        if len(search) <= MANY:
            return [list(range(len(self.goals)))] if self.goals else []
        size = -(-len(search) // MOST_PARTS)
        rest = sorted(set(range(len(self.goals))) - set(search))
        return [*([rest] if rest else []), *(search[i : i + size] for i in range(0, len(search), size))]

    def text(self, header: Sequence[str], goals: Sequence[int] | None = None) -> str:
        """A script of some goals, or all: comments, definitions, goals, and the assertion that one of them fails."""
        head = [f"; {line}".rstrip() for line in header]
        chosen = range(len(self.goals)) if goals is None else goals
        if not chosen:
            return "\n".join(head) + "\n"
        lines = [*head, "(set-info :smt-lib-version 2.6)", f"(set-logic {self.logic})"]
        lines += self.lines if goals is None else self._needed(chosen)
        said = ""
        for k in chosen:
            what, formula = self.goals[k]
            lines += [f"; {what}"] if what != said else []
            lines.append(f"(define-fun goal{k} () Bool {formula})")
            said = what
        lines.append(f"(assert (not {every([f'goal{k}' for k in chosen])}))")
        return "\n".join([*lines, "(check-sat)", "(exit)"]) + "\n"

    @property
    def logic(self) -> str:
        return "QF_NRA" if self.nonlinear else "QF_LRA"

    def _needed(self, goals: Sequence[int]) -> list[str]:
        """The lines without definitions that these goals do not need; without variables, where the goals have none."""
        words = {word for k in goals for word in _words(self.goals[k][1])}
        search = not self.variables.isdisjoint(words)
        kept = []
        for line in reversed(self.lines):
            if line.startswith("(define-fun"):
                own = _words(line)
                if own[1] not in words:
                    continue
                words.update(own)
            elif not search:
                continue
            else:
                words.update(_words(line))
            kept.append(line)
        return kept[::-1]


def _words(text: str) -> list[str]:
    """The symbols in a formula or line."""
    return _SYMBOL.findall(text)
