"""Terms and scripts: spelling, intervals, and what is left out."""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path
from random import Random

import pytest

from tests.obligations.scripts import answer, needs_z3
from trm_verify.obligations import terms
from trm_verify.obligations.terms import (
    OPAQUE,
    ZERO,
    NotExported,
    Script,
    Term,
    absolute,
    add,
    at_most,
    below,
    equal,
    larger,
    negative,
    number,
    smaller,
    sub,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0"), (3, "3.0"), (-3, "(- 3.0)"), (F(3, 8), "(/ 3.0 8.0)"), (F(-1, 3), "(- (/ 1.0 3.0))")],
)
def test_numbers_are_spelled_exactly(value: F | int, text: str) -> None:
    assert number(value) == Term(text, F(value), True)


def test_zeros_and_ones_are_worked_in() -> None:
    script = Script()
    x = script.variable("x")
    assert script.mul(number(0), x) == ZERO and script.mul(number(1), x) == x
    assert add([ZERO, x, ZERO]) == x and add([]) == ZERO
    assert negative(number(F(1, 2))) == number(F(-1, 2)) and absolute(number(-2)) == number(2)
    assert not script.nonlinear
    script.mul(x, x)
    assert script.nonlinear


def test_a_term_without_variables_knows_its_value() -> None:
    script = Script()
    w = script.define("w", script.mul(number(F(3, 8)), number(F(-5, 7))))
    assert w.text == "w" and w.value == F(-15, 56) and not w.literal
    assert larger(w, ZERO).value == 0 and smaller(w, ZERO).value == w.value and absolute(w).value == F(15, 56)
    assert script.variable("w").text != "w"  # the name is taken


def test_intervals_hold_what_the_variables_can_do() -> None:
    """Random expressions over random points of random intervals."""
    rng = Random(5)

    def draw() -> F:
        return F(rng.randint(-40, 40), 8)

    for _ in range(300):
        script = Script(by_intervals=True)
        pairs = []
        for k in range(3):
            low, high = sorted((draw(), draw()))
            pairs.append((script.variable(f"x{k}", low, high), low + (high - low) * F(rng.randint(0, 8), 8)))
        for _ in range(6):
            (a, p), (b, q) = rng.sample(pairs, 2)
            c = draw()
            term, value = rng.choice(
                [
                    (add([a, b, number(c)]), p + q + c), (sub(a, b), p - q), (script.mul(number(c), a), c * p),
                    (larger(a, b), max(p, q)), (smaller(a, b), min(p, q)), (absolute(a), abs(p)),
                    (negative(a), -p),
                ]
            )  # fmt: skip
            pairs.append((script.define("y", term), value))
        for term, value in pairs:
            low, high = term.low.value, term.high.value
            assert low is not None and high is not None and low <= value <= high


def test_an_unbounded_value_stops_an_interval_script() -> None:
    script = Script(by_intervals=True)
    x, y = script.variable("x"), script.variable("y", F(0), F(1))
    assert add([x, y]) == larger(x, y) == script.mul(number(2), x) == negative(x) == absolute(x) == OPAQUE
    script.show(at_most(y, number(1)), "this needs no end of x")
    with pytest.raises(NotExported, match="unbounded"):
        script.show(at_most(add([x, y]), number(1)), "and this does")


def test_a_long_script_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "MAX_CHARACTERS", 100)
    script = Script()
    with pytest.raises(NotExported, match="longer than 100"):
        for k in range(20):
            script.variable(f"variable{k}")


@needs_z3
def test_some_goal_must_fail_for_a_counterexample(tmp_path: Path) -> None:
    script = Script()
    x = script.variable("x", F(-1), F(2))
    y = script.define("y", larger(x, ZERO))
    script.show(at_most(y, number(2)), "true")
    assert answer(script.text(["about x"]), tmp_path) == "unsat"
    script.show(below(y, number(2)), "false at x = 2 alone")
    assert answer(script.text(["about x"]), tmp_path) == "sat"


@needs_z3
def test_hints_that_are_too_small_are_found(tmp_path: Path) -> None:
    script = Script()
    assert script.length([number(1), number(1)], "a root").value is not None
    assert answer(script.text([]), tmp_path) == "unsat"
    script.show(at_most(number(2), script.mul(number(F(7, 5)), number(F(7, 5)))), "7/5 is below the root of 2")
    assert answer(script.text([]), tmp_path) == "sat"


def test_without_goals_there_is_nothing_to_answer() -> None:
    text = Script().text(["nothing", "to compute"])
    assert text == "; nothing\n; to compute\n"
    assert equal(ZERO, ZERO) == "(= 0.0 0.0)"
