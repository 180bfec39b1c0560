"""What z3 finds is replayed exactly; what it does not find in time, or cannot look for, is named and never fatal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from tests.provers.patterns import Layer, Tiny
from trm_verify.certificate import Derivation
from trm_verify.encode import Json, fractions
from trm_verify.kernel.claims import FixedPoints, Refuted
from trm_verify.provers.exact.decide import decide
from trm_verify.provers.exact.margins import Margins
from trm_verify.provers.exact.narrowing import tree_json
from trm_verify.provers.exact.pieces import Tree
from trm_verify.provers.problem import ALL_STATES, NO_INPUT, Problem
from trm_verify.provers.smt import process as z3_process
from trm_verify.provers.smt.counterexamples import Smt, Sought
from trm_verify.provers.smt.process import MISSING, Z3
from trm_verify.provers.smt.splits import splits
from trm_verify.result import PROVED

F = Fraction
NO_WEIGHTS = b"\x02\0\0\0\0\0\0\0{}"


@pytest.fixture(scope="module")
def z3() -> Iterator[Z3]:
    with Z3() as process:
        yield process


def affine(rows: list[list[float]], bias: list[float], kind: str = "affine") -> Layer:
    return Layer(kind, tuple(tuple(map(F, row)) for row in rows), tuple(map(F, bias)))


def model(rows: list[list[float]], bias: list[float], activation: str = "relu", **sets: object) -> Tiny:
    """z ← φ(Wz + b), with logits (z_0, 1, …)."""
    n = len(bias)
    first = [1.0] + [0.0] * (n - 1)
    return Tiny(n, (affine(rows, bias), Layer(activation)), affine([first, [0.0] * n], [0.0, 1.0]), **sets)  # type: ignore[arg-type]


def smt(tiny: Tiny, z3: Z3, seconds: float = 20.0) -> Smt:
    return Smt(Problem(tiny.graph(), NO_WEIGHTS), *tiny.boxes(), z3, seconds)


def linf(*weights: float) -> Json:
    return {"kind": "block", "runs": [[len(weights), 1]], "weights": fractions([F(w) for w in weights])}


def refuted(query: Smt, found: Sought) -> Refuted:
    assert found.derivation is not None, found.reason
    return query.problem.conclude_as(found.derivation, Refuted)


def test_an_expanding_pair_refutes_a_rate(z3: Z3) -> None:
    """In plain ℓ∞ the step of slopes (1/2, 10) expands; with weights (40, 1) it contracts at 3/4."""
    query = smt(model([[0.5, 10.0], [0.0, 0.5]], [1.0, 1.0]), z3)
    found = query.expanding_pair(linf(1, 1), F(15, 16))
    assert refuted(query, found).of == "contraction"
    (a, b) = found.states
    assert a != b
    weighted = query.expanding_pair(linf(40, 1), F(3, 4))
    assert weighted.unsat and weighted.derivation is None and "z3 says" in weighted.reason


def test_equal_states_are_no_expanding_pair(z3: Z3) -> None:
    """A constant step, at rate 0: the only pair without growth excuses is none."""
    assert smt(model([[0.0]], [1.0]), z3).expanding_pair(linf(1), F(0)).unsat


def test_an_expanding_pair_of_the_damped_step(z3: Z3) -> None:
    """z ← z/2 + ReLU(−z + 4)/2 is constant on one side and halves on the other; undamped it is rigid."""
    query = smt(model([[-1.0]], [4.0]), z3)
    half = {"outer_damped": fractions([F(1, 2)])}
    assert query.expanding_pair(linf(1), F(1, 2), half).unsat
    assert refuted(query, query.expanding_pair(linf(1), F(1, 4), half)).operator is not None
    assert refuted(query, query.expanding_pair(linf(1), F(1, 2))).of == "contraction"


def test_pairs_stay_inside_the_region(z3: Z3) -> None:
    """|z| expands nowhere; ReLU(3z − 6) expands only above 2."""
    tiny = model([[3.0]], [-6.0])
    inside = Tiny(1, tiny.layers, tiny.readout, ((F(-2), F(2)),))
    assert smt(inside, z3).expanding_pair(linf(1), F(1, 2)).unsat
    assert smt(tiny, z3).expanding_pair(linf(1), F(1, 2)).derivation is not None


def test_what_cannot_be_asked_is_said(z3: Z3) -> None:
    query = smt(model([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), z3)
    two = {"kind": "block", "runs": [[1, 2]], "weights": fractions([F(1)])}
    assert "ℓ∞" in query.expanding_pair(two, F(1, 2)).reason
    assert "binary" in query.expanding_pair(linf(1, 1), F(1, 3)).reason
    assert "picard" in query.expanding_pair(linf(1, 1), F(1, 2), "implicit").reason
    smooth = model([[1.0]], [0.0], "tanh").graph()
    bounded: Json = {"space": "state", "lo": fractions([F(-1)]), "hi": fractions([F(1)])}
    found = Smt(Problem(smooth, NO_WEIGHTS), NO_INPUT, bounded, z3).expanding_pair(linf(1), F(1, 2))
    assert found.derivation is None and "tanh" in found.reason


@pytest.mark.parametrize("seed", range(3))
def test_fixed_points_and_answers_agree_with_every_pattern(seed: int, z3: Z3) -> None:
    rng = np.random.default_rng(seed)
    for trial in range(12):
        n = int(rng.integers(1, 4))
        draw = (lambda *s: rng.integers(-2, 3, s)) if trial % 2 else (lambda *s: np.float32(rng.normal(size=s)))
        tiny = model(draw(n, n).astype(float).tolist(), draw(n).astype(float).tolist())
        tiny = Tiny(n, tiny.layers, affine(draw(3, n).astype(float).tolist(), draw(3).astype(float).tolist()))
        query, label = smt(tiny, z3), int(rng.integers(3))
        other = query.other_answer([label])
        assert (other.derivation is None) == other.unsat == tiny.answers(label)
        if other.derivation is not None:
            assert refuted(query, other).of == "fixed_point_answer"
        met = decide(query.problem, NO_INPUT, ALL_STATES).fixed_points
        if met:
            second = query.second_fixed_point(met[0])
            assert (second.derivation is None) == second.unsat == (tiny.count() == 1)
            if second.derivation is not None:
                assert refuted(query, second).of == "at_most_one" and second.states[1] != met[0].z


def test_another_answer_somewhere_in_a_box_of_inputs(z3: Z3) -> None:
    """z ← ReLU(z/2 + x) settles at 2x, and answers 0 above 1."""
    layers = (affine([[0.5]], [0.0]), affine([[1.0]], [0.0], "drive"), Layer("relu"))
    readout = affine([[1.0], [0.0]], [0.0, 1.0])
    wide, narrow = (Tiny(1, layers, readout, domain=((F(lo), F(1)),)) for lo in (F(1, 4), F(3, 4)))
    found = smt(wide, z3).other_answer([0])
    assert found.derivation is not None and found.x[0] <= F(1, 2)
    assert smt(narrow, z3).other_answer([0]).unsat


def test_a_cycle_refutes_convergence(z3: Z3) -> None:
    """z ← ReLU(1 − 5z): 0, 1, 0, …; half-damped it settles; so does a contraction."""
    query = smt(model([[-5.0]], [1.0]), z3)
    found = query.cycle(2)
    assert refuted(query, found).of == "convergence"
    assert {z[0] for z in found.states} == {0, 1}
    assert smt(model([[-0.5]], [1.0]), z3).cycle(2).unsat
    assert query.cycle(2, {"outer_damped": fractions([F(1, 4)])}).unsat


def test_a_cycle_that_is_not_isolated_is_reported_with_its_orbit(z3: Z3) -> None:
    """z ← |z − 1| turns [0, 1] around: every point but 1/2 has period 2, and no box has only one of them."""
    found = smt(model([[1.0]], [-1.0], "abs"), z3).cycle(2)
    assert found.derivation is None and "R5" in found.reason
    (a,), (b,) = found.states
    assert a + b == 1


def test_periods_are_lengths_of_orbits(z3: Z3) -> None:
    """(z, w) ↦ (−w, z − w) turns by a third: every orbit but 0 has period 3."""
    turn = Tiny(2, (affine([[0.0, -1.0], [1.0, -1.0]], [0.0, 0.0]),))
    found = smt(turn, z3).cycle(3)
    assert len(found.states) == 3 and found.states[0] != found.states[1]
    assert smt(turn, z3).cycle(2).unsat


def test_the_units_of_a_core_are_enough_to_cut(z3: Z3) -> None:
    """The proof that cuts only what z3 needed passes the kernel."""
    rng = np.random.default_rng(1)
    done = 0
    for _ in range(30):
        weights, bias = np.float32(rng.normal(size=(3, 3)) / 3), np.float32(rng.normal(size=3))
        first = affine(weights.astype(float).tolist(), bias.astype(float).tolist())
        drive = affine([[1.0], [1.0], [-1.0]], [0.0] * 3, "drive")
        readout = affine(rng.integers(-2, 3, (2, 3)).astype(float).tolist(), [0.0, 0.0])
        tiny = Tiny(3, (first, drive, Layer("relu")), readout, domain=((F(-1), F(1)),))
        problem = Problem(tiny.graph(), NO_WEIGHTS)
        answered = decide(problem, *tiny.boxes(), [0])
        if answered.exactly_one.verdict is not PROVED or answered.exactly_one.derivation is None:
            continue
        located: Derivation = answered.exactly_one.derivation
        known = problem.conclude_as(located, FixedPoints)
        needed = splits(problem, known, [0], z3)
        assert answered.answer is not None
        assert isinstance(needed, list) == (answered.answer.verdict is PROVED)
        if isinstance(needed, list):
            margins = Margins(problem, known, [0], float("inf"))
            tree = margins.pieces.cover(margins.arguments, margins.functionals[0], among=needed[0])
            assert isinstance(tree, Tree) and {k for k in tree.splits if k >= 0} <= needed[0]
            problem.conclude(located.then("fixed_point_answer", answer=[0], **tree_json([tree])))
            done += 1
    assert done >= 3


def test_without_z3_the_reason_is_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "z3", None)
    with Z3() as absent:
        found = smt(model([[-5.0]], [1.0]), absent).cycle(2)
    assert found.reason == MISSING and "trm-verify[smt]" in MISSING


def test_a_query_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(z3_process, "GRACE", 0.1)
    monkeypatch.setattr(z3_process, "_WORKER", "import time\nprint('{}', flush=True)\ntime.sleep(60)")
    with Z3() as slow:
        found = smt(model([[-5.0]], [1.0]), slow, seconds=0.1).cycle(2)
        assert "killed" in found.reason
        monkeypatch.undo()
        assert smt(model([[-5.0]], [1.0]), slow).cycle(2).derivation is not None  # the next one has a new process


def test_a_solver_that_crashes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(z3_process, "_WORKER", "import os\nprint('{}', flush=True)\ninput()\nos.abort()")
    with Z3() as broken:
        assert "unexpectedly" in smt(model([[-5.0]], [1.0]), broken).cycle(2).reason
    monkeypatch.setattr(z3_process, "_WORKER", "raise SystemExit(1)")
    with Z3() as absent:
        assert "did not start" in smt(model([[-5.0]], [1.0]), absent).cycle(2).reason


def test_the_solver_s_own_limit_is_named(z3: Z3) -> None:
    """The product of two Mersenne primes, which z3 does not factor in a moment."""
    product = (2**61 - 1) * (2**31 - 1)
    text = f"(declare-const a Int)(declare-const b Int)(assert (and (> a 1) (> b 1) (= (* a b) {product})))"
    verdict = z3.ask(text, [], 0.05)
    assert verdict.status == "unknown" and verdict.reason
    assert z3.ask(text, [], 0.0).reason == "the time for z3 was used up"
