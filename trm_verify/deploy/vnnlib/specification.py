"""VNN-LIB 1.0 queries as data: boxes of inputs, and for each the outputs that would be unsafe.

A file asserts a formula over inputs X_i and outputs Y_j: it describes the *unsafe* pairs. The property holds if the
formula has no solution ("unsat"). Formulas are brought into the form OR over cases of (X in a box AND all of some
linear inequalities over Y), exactly: decimals are read as the rational numbers that they are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from trm_verify.box import Box
from trm_verify.deploy.vnnlib.syntax import (
    MAX_BYTES,
    Expression,
    Form,
    Unsupported,
    VnnlibError,
    exact,
    forms,
    is_number,
)
from trm_verify.kernel.document import read_file
from trm_verify.kernel.errors import CheckError

MAX_CASES, MAX_BOUNDS = 10_000, 1 << 22
MAX_BITS = 1 << 14  # of a product of numbers
LARGEST = 1 << 400  # of what is left of an inequality: searches run in doubles
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,7})", re.ASCII)
_IGNORED = ("set-logic", "set-info")
Interval = tuple[Fraction | None, Fraction | None]


@dataclass(frozen=True)
class Atom:
    """The inequality `Σ coefficients[j] · Y_j ≤ bound`, true of unsafe outputs.

    Attributes:
        coefficients: pairs (j, coefficient), none of them 0, j ascending.
    """

    coefficients: tuple[tuple[int, Fraction], ...]
    bound: Fraction


Clause = tuple[Atom, ...]  # all of them: one way to be unsafe


@dataclass(frozen=True)
class Specification:
    """A query.

    Attributes:
        inputs, outputs: how many X and Y are declared.
        cases: the clauses that make an output unsafe, for each box of inputs. Its ends are exactly those of the file.
            None stands for the only input of a model without any.
    """

    inputs: int
    outputs: int
    cases: dict[Box | None, tuple[Clause, ...]]

    @property
    def properties(self) -> dict[tuple[Clause, ...], list[Box | None]]:
        """The boxes that the same clauses are asked about."""
        found: dict[tuple[Clause, ...], list[Box | None]] = defaultdict(list)
        for box, clauses in self.cases.items():
            found[clauses].append(box)
        return dict(found)


def read(path: Path | str) -> Specification:
    """The query in a file.

    Raises:
        VnnlibError: see `parse`. OSError: the file cannot be read.
    """
    try:
        return parse(read_file(path, MAX_BYTES).decode("ascii"))
    except CheckError as error:
        raise VnnlibError(f"expected a file of at most {MAX_BYTES} bytes, found more ({error})") from error
    except UnicodeDecodeError as error:
        raise VnnlibError(f"expected ASCII text, found another byte at offset {error.start}") from error


def parse(text: str) -> Specification:
    """The query in a text.

    Raises:
        Unsupported: constraints between inputs, between inputs and outputs, strict ones, or too many cases.
        VnnlibError: no VNN-LIB 1.0, or an input without bounds, or one that leaves nothing to ask.
    """
    reader = _Reader()
    for form in forms(text):
        reader.command(form)
    return reader.specification()


@dataclass(frozen=True)
class _Case:
    """A conjunction: intervals of inputs, and inequalities over outputs."""

    intervals: dict[int, Interval] = field(default_factory=dict)
    atoms: tuple[Atom, ...] = ()


def _together(cases: Iterable[_Case]) -> _Case | None:
    """All of them at once; None where their intervals do not meet."""
    intervals: dict[int, Interval] = {}
    atoms: list[Atom] = []
    for case in cases:
        atoms += case.atoms
        for i, (lo, hi) in case.intervals.items():
            old_lo, old_hi = intervals.get(i, (None, None))
            lo = lo if old_lo is None else old_lo if lo is None else max(lo, old_lo)
            hi = hi if old_hi is None else old_hi if hi is None else min(hi, old_hi)
            if lo is not None and hi is not None and lo > hi:
                return None
            intervals[i] = lo, hi
    return _Case(intervals, tuple(atoms))


_Linear = dict[str, Fraction]  # by variable; "" is the constant


class _Reader:
    """Reads commands one after the other; the formula so far is a list of cases."""

    def __init__(self) -> None:
        self.declared: dict[str, int] = {"X": 0, "Y": 0}
        self.asserted: list[list[_Case]] = []

    def command(self, form: Form) -> None:
        if form.head == "declare-const":
            self._declare(form)
        elif form.head == "assert" and len(form.items) == 2:
            self.asserted.append(self._formula(form.items[1], form.line))
        elif form.head not in _IGNORED:
            raise VnnlibError(
                f"line {form.line}: expected (declare-const NAME Real) or (assert FORMULA), as in VNN-LIB 1.0, found "
                f"{form.head[:80] or 'something else'!r}"
            )

    def _declare(self, form: Form) -> None:
        name = form.items[1] if len(form.items) == 3 else ""
        found = _VARIABLE.fullmatch(name) if isinstance(name, str) else None
        if found is None or form.items[2] != "Real":
            raise VnnlibError(f"line {form.line}: expected (declare-const X_i Real) or (declare-const Y_j Real)")
        kind, index = found.group(1), int(found.group(2))
        if index != self.declared[kind]:
            raise VnnlibError(
                f"line {form.line}: expected {kind}_{self.declared[kind]} to be declared next, found {name}"
            )
        self.declared[kind] += 1

    def _formula(self, expression: Expression, line: int) -> list[_Case]:
        """The cases of a formula; none where it has no solution."""
        if isinstance(expression, str) or not expression.items:
            raise VnnlibError(f"line {line}: expected a formula in parentheses, found {_shown(expression)}")
        head, rest, line = expression.head, expression.items[1:], expression.line
        if head in ("<=", ">="):
            return self._inequality(head, rest, line)
        if head == "and":
            return self._all([self._formula(each, line) for each in rest], line)
        if head == "or":
            return _limited([case for each in rest for case in self._formula(each, line)], line)
        if head in ("<", ">", "=", "not", "=>", "distinct"):
            raise Unsupported(f"line {line}: not supported: {head!r}; VNN-LIB 1.0 has <=, >=, and, or")
        raise VnnlibError(f"line {line}: expected <=, >=, and, or, found {_shown(expression)}")

    def _all(self, parts: Sequence[list[_Case]], line: int) -> list[_Case]:
        """The cases of a conjunction, by multiplying out."""
        several = [part for part in parts if len(part) != 1]
        first = _together(part[0] for part in parts if len(part) == 1)
        found = [] if first is None else [first]
        for part in several:
            if len(found) * len(part) > MAX_CASES:
                raise Unsupported(f"line {line}: not supported: a formula of more than {MAX_CASES} cases")
            found = [both for a in found for b in part if (both := _together((a, b))) is not None]
        return found

    def _inequality(self, head: str, terms: Sequence[Expression], line: int) -> list[_Case]:
        """`(<= a b)`: at most one case."""
        if len(terms) != 2:
            raise VnnlibError(f"line {line}: expected two terms in {head}, found {len(terms)}")
        low, high = (self._term(each, line) for each in (terms if head == "<=" else reversed(terms)))
        sides = _sum([low, _times(high, Fraction(-1))])  # ≤ 0
        bound = -sides.pop("", Fraction(0))
        names = sorted(name for name, value in sides.items() if value)
        if not names:
            return [_Case()] if bound >= 0 else []
        if any(abs(value) > LARGEST for value in (bound, *sides.values())):
            raise Unsupported(f"line {line}: not supported: numbers above 2^400")
        kinds = {name[0] for name in names}
        if kinds == {"Y"}:
            pairs = sorted((int(name[2:]), sides[name]) for name in names)
            return [_Case({}, (Atom(tuple(pairs), bound),))]
        if kinds == {"X"} and len(names) == 1:
            factor = sides[names[0]]
            end = bound / factor
            if abs(end) > LARGEST:
                raise Unsupported(f"line {line}: not supported: numbers above 2^400")
            return [_Case({int(names[0][2:]): (None, end) if factor > 0 else (end, None)})]
        what = "between inputs (only boxes are)" if kinds == {"X"} else "between inputs and outputs"
        raise Unsupported(f"line {line}: not supported: a constraint {what}, on {', '.join(names[:4])}")

    def _term(self, expression: Expression, line: int) -> _Linear:
        """A linear term."""
        if isinstance(expression, str):
            if is_number(expression):
                return {"": exact(expression, line)}
            found = _VARIABLE.fullmatch(expression)
            if found is None or int(found.group(2)) >= self.declared[found.group(1)]:
                raise VnnlibError(f"line {line}: expected a number or a declared X_i or Y_j, found {expression[:80]!r}")
            return {expression: Fraction(1)}
        terms = [self._term(each, expression.line) for each in expression.items[1:]]
        if expression.head == "+" and terms:
            return _sum(terms)
        if expression.head == "-" and terms:
            negated = [_times(each, Fraction(-1)) for each in terms[1:] or terms]
            return _sum([*(terms[:1] if len(terms) > 1 else []), *negated])
        if expression.head == "*" and terms:
            product: _Linear = {"": Fraction(1)}
            for each in terms:
                if set(each) != {""}:
                    product, each = each, product
                if set(each) != {""}:
                    raise Unsupported(f"line {expression.line}: not supported: a product of variables")
                product = _times(product, each[""])
                if any(max(v.numerator.bit_length(), v.denominator.bit_length()) > MAX_BITS for v in product.values()):
                    raise VnnlibError(
                        f"line {expression.line}: expected numbers of at most {MAX_BITS} bits, found more"
                    )
            return product
        raise VnnlibError(f"line {expression.line}: expected +, - or * of terms, found {_shown(expression)}")

    def specification(self) -> Specification:
        """The whole query.

        Raises:
            VnnlibError: there is nothing to ask, or an input without bounds.
        """
        inputs, outputs = self.declared["X"], self.declared["Y"]
        if not outputs or not self.asserted:
            raise VnnlibError("expected declared outputs Y_j and assertions, found none")
        cases = self._all(self.asserted, 1)
        if not cases:
            raise VnnlibError(
                "expected inputs and outputs that the assertions allow, found that they contradict one another: there "
                "is nothing to check"
            )
        if len(cases) * inputs > MAX_BOUNDS:
            raise Unsupported(f"not supported: more than {MAX_BOUNDS} bounds of inputs in all cases")
        found: dict[Box | None, dict[Clause, None]] = defaultdict(dict)
        for case in cases:
            if not case.atoms:
                raise VnnlibError("expected a constraint on outputs in every case, found a case with none")
            lo, hi = [], []
            for i in range(inputs):
                low, high = case.intervals.get(i, (None, None))
                if low is None or high is None:
                    raise VnnlibError(f"expected a lower and an upper bound of every input, found none of X_{i}")
                lo.append(low)
                hi.append(high)
            clause = tuple(sorted(set(case.atoms), key=lambda atom: (atom.coefficients, atom.bound)))
            found[Box(lo, hi) if inputs else None][clause] = None
        return Specification(inputs, outputs, {box: tuple(clauses) for box, clauses in found.items()})


def _limited(cases: list[_Case], line: int) -> list[_Case]:
    if len(cases) > MAX_CASES:
        raise Unsupported(f"line {line}: not supported: a formula of more than {MAX_CASES} cases")
    return cases


def _sum(terms: Iterable[_Linear]) -> _Linear:
    total: _Linear = defaultdict(Fraction)
    for term in terms:
        for name, value in term.items():
            total[name] += value
    return dict(total)


def _times(term: _Linear, factor: Fraction) -> _Linear:
    return {name: value * factor for name, value in term.items()}


def _shown(expression: Expression) -> str:
    if isinstance(expression, str):
        return repr(expression[:80])
    return f"({expression.head[:80]} …)" if expression.head else "a list without a first word"
