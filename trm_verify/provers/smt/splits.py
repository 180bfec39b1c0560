"""Which units a proof has to cut: those whose exact graph z3 needs, by the core of an `unsat`.

Every unit lies in the convex hull of its graph over its interval, and on the graph itself where that is assumed. When
the assumptions of a core rule a question out, then so do linear programs, once the units of the core are cut at their
kinks: `Pieces.cover` with `among` cuts no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.relaxation import Functional
from trm_verify.provers.exact.margins import Margins
from trm_verify.provers.problem import Problem
from trm_verify.provers.smt.process import Z3, Verdict
from trm_verify.provers.smt.text import Script, affine, number, row_term, value_of

ONE = Fraction(1)


def splits(
    problem: Problem, known: FixedPoints, answer: Sequence[int], z3: Z3, seconds: float = 20.0
) -> list[frozenset[int]] | str:
    """For each competitor of an answer, the units to cut at the fixed points that are known; or why there are none.

    Args:
        seconds: the hard limit of each query.

    Raises:
        CheckError: UNSUPPORTED, when step or readout is not piecewise linear.
    """
    margins, found = Margins(problem, known, answer, float("inf")), []
    for functional in margins.functionals:
        verdict = z3.ask(*_question(margins, functional), seconds, _assumptions(margins))
        if verdict.status != "unsat":
            return _reason(verdict)
        found.append(frozenset(int(name.removeprefix("exact")) for name in verdict.core))
    return found


def _reason(verdict: Verdict) -> str:
    if verdict.status == "sat":
        return "z3 finds a fixed point that does not answer so"
    return verdict.reason or "z3 does not know"


def _assumptions(margins: Margins) -> list[str]:
    return [f"exact{k}" for k in margins.system.active]


def _question(margins: Margins, functional: Functional) -> tuple[str, list[str]]:
    """A solution of the relaxed equations where the functional is not positive: (text, no names)."""
    script, system = Script(), margins.system
    hulls = margins.pieces.hulls.all(margins.arguments)
    if hulls is None:
        return "(assert false)", []
    values, arguments = script.reals("c", len(hulls)), script.reals("a", len(hulls))
    for part, hull in enumerate(hulls):
        generators = [*hull.corners, *hull.rays]
        weights = script.reals(f"w{part}_", len(generators))
        script.require(*(f"(>= {w} {number(Fraction(0))})" for w in weights))
        script.require(f"(= {number(ONE)} {affine(Fraction(0), [(ONE, w) for w in weights[: len(hull.corners)]])})")
        pairs = list(zip(generators, weights, strict=True))
        script.require(f"(= {values[part]} {affine(Fraction(0), [(g.value, w) for g, w in pairs])})")
        script.require(f"(= {arguments[part]} {affine(Fraction(0), [(g.argument, w) for g, w in pairs])})")
    first = len(hulls) - len(system.units)
    own = arguments[first:]
    for k, name in zip(system.active, _assumptions(margins), strict=True):
        script.lines.append(f"(declare-const {name} Bool)")
        script.require(f"(=> {name} (= {values[first + k]} {value_of(system.units[k], own[k])}))")
    ends = [number(Fraction(0))] * len(system.kept) + [own[k] for k in system.active]
    for row, end in zip(system.rows, ends, strict=True):
        script.require(f"(= {row_term(row, system.exp, values)} {end})")
    script.require(f"(<= {row_term(functional.row, functional.exp, values)} {number(Fraction(0))})")
    return script.text, []
