"""VNN-LIB answers against oracles of their own: linear programs, closed forms, ties, and every kind of model."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import trm_verify as tv
from tests.small import autonomous, gate_model, tanh_model
from trm_verify.deploy.vnnlib import VnnlibError, answering, arg_max_query, check_vnnlib, parse, verify_vnnlib
from trm_verify.deploy.vnnlib.asking import asking, labels_of
from trm_verify.deploy.vnnlib.rechecking import stated
from trm_verify.deploy.vnnlib.specification import Atom
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Answer
from trm_verify.model import RecursiveModel
from trm_verify.models import MonotoneEquilibrium
from trm_verify.verification.deployed import Deployed


def query(bounds: list[tuple[Any, Any]], outputs: int, *assertions: str) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(len(bounds))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    lines += [f"(assert (>= X_{i} {lo})) (assert (<= X_{i} {hi}))" for i, (lo, hi) in enumerate(bounds)]
    return "\n".join([*lines, *(f"(assert {each})" for each in assertions)])


def affine(drive: np.ndarray, read: np.ndarray, **more: Any) -> RecursiveModel:
    """z ← z/2 + Bx/2, whose fixed point is Bx; the logits there are CBx."""
    b, c = torch.tensor(drive / 2), torch.tensor(read)
    return tv.recursive(
        lambda z, x: z / 2 + x @ b.T, readout=lambda z: z @ c.T, state_shape=(len(drive),),
        input_shape=(drive.shape[1],), **more,
    )  # fmt: skip


def checked(found: Any, model: nn.Module | Deployed) -> bool:
    """Whether the kernel accepts every certificate over the model's own weights file."""
    weights = Deployed.of(model).weights
    return bool(found.certificates) and all(tv.check(each, weights).claims for each in found.certificates)


def most_room(matrix: np.ndarray, clause: list[tuple[np.ndarray, float]], box: list[tuple[float, float]]) -> float:
    """How much room all the inequalities of a clause leave at best, by a linear program over the inputs."""
    rows = [[*(a @ matrix), 1.0] for a, _ in clause]
    solved = linprog([0.0] * len(box) + [-1.0], rows, [b for _, b in clause], bounds=[*box, (None, None)])
    assert solved.status == 0
    return float(solved.x[-1])


@pytest.mark.slow
def test_random_linear_queries_agree_with_linear_programs() -> None:
    rng, seen = random.Random(1), {"sat": 0, "unsat": 0}
    for trial in range(24):
        generator = np.random.default_rng(trial)
        drive, read = (np.round(generator.normal(size=(3, n)) * 16) / 16 for n in (2, 3))
        box = [(-1.0, 0.5), (0.25, 1.0)]
        clauses = [
            [(np.array([rng.randrange(-2, 3) for _ in range(3)]), rng.randrange(-40, 10) / 8) for _ in range(size)]
            for size in rng.choice([(1,), (2,), (1, 3), (2, 2), (3,)])
        ]
        clauses = [[(a, b) for a, b in clause if a.any()] or [(np.array([1, 0, 0]), -9.0)] for clause in clauses]
        text = " ".join(
            "(and "
            + " ".join(f"(<= (+ {' '.join(f'(* {v} Y_{j})' for j, v in enumerate(a))}) {b})" for a, b in c)
            + ")"
            for c in clauses
        )
        model = Deployed.of(affine(drive, read))
        found = verify_vnnlib(model, parse(query(box, 3, f"(or {text})")))
        room = max(most_room(read @ drive, clause, box) for clause in clauses)
        assert abs(room) > 1e-6, "an unlucky seed: a tie"
        assert found.word == ("sat" if room > 0 else "unsat"), (trial, room, found)
        assert checked(found, model)
        if found.counterexample is not None:
            x = [float(v) for v in found.counterexample.x]
            y = read @ drive @ x
            assert all(lo <= v <= hi for v, (lo, hi) in zip(x, box, strict=True))
            assert any(all(a @ y < b for a, b in clause) for clause in clauses)
            np.testing.assert_allclose(found.counterexample.y, y, atol=1e-9)
        seen[found.word] += 1
    assert min(seen.values()) >= 6


IDENTITY = {"drive": np.array([[1.0]]), "read": np.array([[1.0], [-1.0]])}


@cache
def identity() -> Deployed:
    """The model of most queries here, exported once."""
    return Deployed.of(affine(**IDENTITY))


@pytest.mark.parametrize(
    ("high", "assertion", "word"),
    [
        ("0.5", "(>= Y_0 0.5)", "unknown"),  # attained exactly at the end of the box: a tie is unsafe
        ("0.5", "(>= Y_0 0.5000001)", "unsat"),
        ("0.5", "(>= Y_0 0.4999999)", "sat"),
        ("0.1", "(>= Y_0 0.1)", "unknown"),  # 0.1 is no binary fraction
        ("0.1", "(>= Y_0 0.10000000000000000001)", "unsat"),  # nor is it the double that is nearest to it
        ("0.1", "(>= (* 3 Y_0) 0.3000000001)", "unsat"),
        ("0.1", "(>= (* 3 Y_0) 0.2999999999)", "sat"),
        ("1", "(and (<= Y_0 0.4) (>= Y_0 0.6))", "unsat"),  # neither inequality fails throughout
        ("1", "(and (<= Y_0 0.6) (>= Y_0 0.4))", "sat"),
        ("1", "(and (<= Y_0 0.5) (>= Y_0 0.5))", "unknown"),  # one input alone, without room
        ("1", "(>= Y_1 Y_0)", "unknown"),
    ],
)
def test_the_border_is_where_the_file_says(high: str, assertion: str, word: str) -> None:
    found = verify_vnnlib(identity(), parse(query([("0", high)], 2, assertion)), timeout=20)
    assert found.word == word and str(found.verdict) == {"sat": "REFUTED", "unsat": "PROVED"}.get(word, "UNKNOWN")
    assert bool(found) == (word == "unsat") and (found.counterexample is not None) == (word == "sat")
    if found.counterexample is not None:
        assert 0 <= found.counterexample.x[0] <= Fraction(high)
        assert found.text().startswith("sat\n((X_0 ") and found.text().count("(") == 4


def test_the_counterexample_is_exact_where_the_box_holds_no_double() -> None:
    end = "0.10000000000000000000000001"
    found = verify_vnnlib(identity(), parse(query([("0.1", end)], 2, "(>= Y_0 0)")))
    assert found.counterexample is not None
    (x,) = found.counterexample.x
    assert Fraction("0.1") <= x <= Fraction(end)
    written = found.text().split("(X_0 ")[1].split(")")[0]
    assert Fraction(written) == x


def test_an_arg_max_query_is_about_the_graph_as_it_is() -> None:
    model = tanh_model(1)
    x = torch.tensor([0.5, -0.5, 0.25])
    plain = tv.verify_fixed_point(model, x, eps="0.01")
    assert plain.answer is not None
    found = verify_vnnlib(model, parse(arg_max_query(tv.Box.ball(x, "0.01"), (4,), plain.answer, "")))
    assert found.word == "unsat" and found.proved == found.boxes == 1
    (certificate,) = found.certificates
    assert tv.check(certificate, Deployed.of(model).weights, model=model).graph_digest == plain.graph_digest
    other = (plain.answer[0] + 1) % 4
    wrong = verify_vnnlib(model, parse(arg_max_query(tv.Box.ball(x, "0.01"), (4,), (other,), "")))
    assert wrong.word == "sat" and checked(wrong, model)


def atom(winner: int, loser: int, bound: int = 0, factor: int = 1) -> Atom:
    pairs = sorted({winner: Fraction(factor), loser: Fraction(-factor)}.items())
    return Atom(tuple(pairs), Fraction(bound))


def test_which_clauses_are_an_arg_max() -> None:
    both = [(atom(1, 0),), (atom(1, 2, factor=3),), (atom(5, 3),), (atom(5, 4),)]
    assert labels_of(both, (2, 3)) == (1, 2) and labels_of(both[:2], (3,)) == (1,)
    for clauses, shape in [
        (both[:3], (2, 3)),  # a competitor is missing
        (both[:2], (2, 3)),  # a position is missing
        ([(atom(1, 0),), (atom(1, 2),), (atom(2, 0),)], (3,)),  # two winners
        ([(atom(1, 0), atom(1, 2))], (3,)),  # both at once
        ([(atom(1, 0),), (atom(1, 2, bound=1),)], (3,)),
        ([(atom(1, 0),), (Atom(((1, Fraction(2)), (2, Fraction(-1))), Fraction(0)),)], (3,)),
        ([(atom(1, 0),), (Atom(((1, Fraction(1)),), Fraction(0)),)], (3,)),
        ([(atom(1, 0),), (atom(1, 3),)], (2, 2)),  # across positions
    ]:
        assert labels_of(clauses, shape) is None


def test_the_readout_that_asks_computes_the_margins() -> None:
    deployed = Deployed.of(tanh_model())
    clauses = [(atom(1, 0, bound=2),), (Atom(((0, Fraction(1, 3)), (3, Fraction(2))), Fraction(1, 7)), atom(2, 1))]
    asked = asking(deployed, clauses, None)
    z = torch.randn(6, 5, dtype=torch.float64)
    y = deployed.lowered.readout((z,)).numpy()
    found = asked.lowered.readout((z,)).numpy()
    assert asked.weights == deployed.weights and asked.exported.graph["step"] == deployed.exported.graph["step"]
    assert found.shape == (6, 2, 2) and (found[..., 1] == 0).all() and asked.logits_shape == (2, 2)
    np.testing.assert_allclose(found[:, 0, 0], y[:, 1] - y[:, 0] - 2, atol=1e-12)
    scale = 21 / 16  # the common denominator, brought between 1 and 2
    first = scale * (y[:, 0] / 3 + 2 * y[:, 3] - 1 / 7)
    np.testing.assert_allclose(found[:, 1, 0], np.maximum(first, y[:, 2] - y[:, 1]), atol=1e-12)


def test_several_boxes_share_a_certificate_and_one_unsafe_box_is_enough() -> None:
    model = identity()
    union = "(or (and (>= X_0 0) (<= X_0 0.2)) (and (>= X_0 0.4) (<= X_0 0.6)))"
    found = verify_vnnlib(model, parse(query([(0, 1)], 2, union, "(>= Y_0 0.7)")))
    assert found.word == "unsat" and found.boxes == found.proved == 2 and len(found.certificates) == 1
    found = verify_vnnlib(model, parse(query([(0, 1)], 2, union, "(>= Y_0 0.5)")))
    assert found.word == "sat" and found.counterexample is not None
    assert Fraction(1, 2) < found.counterexample.x[0] <= Fraction(6, 10)
    own = "(or (and (<= X_0 0.4) (>= Y_0 0.5)) (and (>= X_0 0.4) (<= Y_0 0.3)))"
    found = verify_vnnlib(model, parse(query([(0, 1)], 2, own)))
    assert found.word == "unsat" and found.boxes == 2 and len(found.certificates) == 2


def test_the_box_of_the_file_counts_not_the_domain_of_the_model() -> None:
    model = Deployed.of(affine(**IDENTITY, domain=tv.Box(0, 1)))
    assert verify_vnnlib(model, parse(query([(0, 2)], 2, "(>= Y_0 1.5)"))).word == "sat"
    assert verify_vnnlib(model, parse(query([(0, 2)], 2, "(>= Y_0 2.5)"))).word == "unsat"


def test_an_implicit_model() -> None:
    torch.manual_seed(0)
    model = MonotoneEquilibrium.from_tensors(
        A=torch.randn(5, 5) / 2, B=torch.randn(5, 5), U=torch.randn(5, 2), b=torch.zeros(5), C=torch.randn(3, 5),
        c=torch.zeros(3), m=1.0, domain=(-1, 1),
    )  # fmt: skip
    x = torch.tensor([0.5, -0.25])
    deployed = Deployed.of(model)
    with torch.no_grad():
        y = deployed.lowered.readout((torch.from_numpy(deployed.fixed_points(x[None].double())),))[0]
    box = [("0.49", "0.51"), ("-0.26", "-0.24")]
    top = float(y[0])
    safe = verify_vnnlib(deployed, parse(query(box, 3, f"(or (>= Y_0 {top + 0.2}) (<= Y_0 {top - 0.2}))")))
    unsafe = verify_vnnlib(deployed, parse(query(box, 3, f"(and (>= Y_0 {top - 0.2}) (<= Y_0 {top + 0.2}))")))
    assert (safe.word, unsafe.word) == ("unsat", "sat") and checked(safe, deployed) and checked(unsafe, deployed)


def test_a_model_without_input() -> None:
    model = Deployed.of(autonomous(lambda z: z / 2 + 1, readout=lambda z: torch.cat([z, -z], 1)))  # z* = 2
    for bound, word in (("1.9", "sat"), ("2.1", "unsat")):
        found = verify_vnnlib(model, parse(query([], 2, f"(>= Y_0 {bound})")))
        assert found.word == word and checked(found, model)


def test_integer_inputs_are_the_integers_of_the_box() -> None:
    table = torch.tensor([[0.0, 1.0], [0.25, 0.5], [1.0, 0.0], [5.0, 5.0]], dtype=torch.float64)
    model = tv.recursive(
        lambda z, x: z / 2 + table[x][:, 0] / 2, readout=lambda z: z, state_shape=(2,), input_shape=(1,), vocabulary=4
    )
    for bounds, assertion, word in [
        (("-0.5", "1.75"), "(>= Y_0 0.9)", "unsat"),  # 0 and 1 alone; the row of 3 has 5
        (("-0.5", "1.75"), "(>= Y_0 0.2)", "sat"),
        (("0", "2"), "(and (>= Y_0 0.2) (>= Y_1 0.4))", "sat"),
    ]:
        found = verify_vnnlib(model, parse(query([bounds], 2, assertion)))
        assert found.word == word, (bounds, assertion, found.reason)
        if found.counterexample is not None:
            assert found.counterexample.x == (1,)
    with pytest.raises(VnnlibError, match="nothing to check"):
        verify_vnnlib(model, parse(query([("1.25", "1.75")], 2, "(<= Y_0 9)")))


def test_what_cannot_be_answered() -> None:
    model = affine(**IDENTITY)
    with pytest.raises(VnnlibError, match="1 inputs X and 2 outputs Y"):
        verify_vnnlib(model, parse(query([(0, 1)], 3, "(>= Y_0 1)")))
    with pytest.raises(VnnlibError, match="readout"):
        verify_vnnlib(tanh_model(readout=False), parse(query([(0, 1)] * 3, 4, "(>= Y_0 1)")))
    with pytest.raises(ValueError, match="timeout"):
        verify_vnnlib(model, parse(query([(0, 1)], 2, "(>= Y_0 1)")), timeout=-1)
    late = verify_vnnlib(model, parse(query([(0, 1)], 2, "(>= Y_0 2)")), timeout=0)
    assert late.word == "timeout" and not late and "time was used up" in late.reason


def test_a_loop_that_does_not_settle_is_never_unsat() -> None:
    """z ← x∘z + 1 runs away for x ≥ 1; its fixed point 1/(1 − x) there is nobody's output."""
    model = gate_model()
    found = verify_vnnlib(model, parse(query([("1.5", "2"), ("0", "0.5")], 2, "(>= Y_0 0)")), timeout=30)
    assert found.word in ("unknown", "timeout") and found.reason
    inside = verify_vnnlib(model, parse(query([("0", "0.5"), ("0", "0.5")], 2, "(>= Y_0 2.5)")), timeout=60)
    assert inside.word == "unsat"


@pytest.mark.slow
def test_dense_samples_never_meet_what_is_unsat() -> None:
    """ReLU loops: whatever is said to be impossible is met at none of a thousand inputs, and "sat" at its own."""
    seen = {"sat": 0, "unsat": 0}
    for seed in range(6):
        deployed = Deployed.of(tanh_model(seed, n=4, m=2, activation=torch.relu))
        x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
        y = deployed.lowered.readout((torch.from_numpy(deployed.fixed_points(x)),)).numpy()
        both = np.maximum(y[:, 0] - y[:, 1], y[:, 2] - y[:, 3])
        for offset in (-0.02, 0.05):
            bound = float(both.min()) + offset
            clause = f"(and (<= (- Y_0 Y_1) {bound:.12f}) (<= (- Y_2 Y_3) {bound:.12f}))"
            found = verify_vnnlib(deployed, parse(query([("-0.5", "0.5")] * 2, 4, clause)), timeout=60)
            assert found.word == ("sat" if offset > 0 else "unsat"), (seed, offset, found.reason)
            assert checked(found, deployed)
            seen[found.word] += 1
    assert seen == {"sat": 6, "unsat": 6}


def test_certificates_of_another_property_do_not_pass(tmp_path: Path) -> None:
    model = affine(**IDENTITY)
    found = verify_vnnlib(model, parse(query([(0, 1)], 2, "(>= Y_0 1.5)")))
    other = verify_vnnlib(model, parse(query([(0, 1)], 2, "(>= Y_0 1.25)")))
    first, second = (each.certificates[0] for each in (found, other))
    weights = Deployed.of(model).weights
    assert tv.check(first, weights).graph_digest != tv.check(second, weights).graph_digest
    with pytest.raises(tv.CheckError) as caught:  # nor for the model's own graph
        tv.check(first, weights, model=model)
    assert caught.value.code == "EXPECTED"


CHECKED: list[tuple[Any, tuple[str, str], str, str]] = [
    ("picard", ("0", "0.5"), "(>= Y_0 0.75)", "unsat"),
    ("implicit", ("0", "0.1"), "(or (>= Y_0 0.2) (and (<= Y_0 0.04) (>= Y_0 0.06)))", "unsat"),
    (tv.Damped(0.5), ("0", "0.1"), "(and (>= Y_0 0.04) (<= Y_0 0.06))", "sat"),
    ("implicit", ("0.1", "0.10000000000000000000000001"), "(>= Y_0 0)", "sat"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("iteration", "bounds", "assertion", "word"), CHECKED)
def test_certificates_are_checked_against_the_query(
    iteration: Any, bounds: tuple[str, str], assertion: str, word: str
) -> None:
    model = Deployed.of(affine(**IDENTITY, iteration=iteration))
    asked = parse(query([bounds], 2, assertion))
    found = verify_vnnlib(model, asked)
    assert found.word == word and check_vnnlib(model, asked, found.certificates) == word
    wider = parse(query([("-0.25", bounds[1])], 2, assertion))  # another box; a counterexample is in it as well
    shifted = parse(query([bounds], 2, assertion.replace("Y_0", "(+ Y_0 0.0000001)")))
    iterated = Deployed.of(affine(**IDENTITY, iteration="picard" if iteration == "implicit" else "implicit"))
    for other_model, other in [
        *([(model, wider)] if word == "unsat" else []),
        (model, shifted),
        (iterated, asked),
        (model, parse(query([("7", "8")], 2, assertion))),
    ]:
        with pytest.raises(tv.CheckError) as caught:
            check_vnnlib(other_model, other, found.certificates)
        assert caught.value.code == "EXPECTED"
    if word == "sat":
        assert check_vnnlib(model, wider, found.certificates) == "sat"
    with pytest.raises(tv.CheckError) as caught:
        check_vnnlib(model, asked, [])
    assert caught.value.code == "EXPECTED"
    with pytest.raises(tv.CheckError):  # other weights
        check_vnnlib(affine(np.array([[0.5]]), IDENTITY["read"], iteration=iteration), asked, found.certificates)


def test_an_answer_at_one_depth_is_no_answer_to_a_query() -> None:
    model = affine(**IDENTITY)
    asked = parse(query([("0", "0.25")], 2, "(>= Y_0 0.75)"))
    certificate = verify_vnnlib(model, asked).certificates[0]
    deployed = Deployed.of(model)
    valid = kernel_check(certificate.to_bytes(), deployed.weights)
    assert stated(deployed, asked, [valid]) == "unsat"
    claims = tuple(replace(c, at=True) if isinstance(c, Answer) else c for c in valid.claims)
    assert stated(deployed, asked, [replace(valid, claims=claims)]) is None


def test_a_search_that_says_more_than_its_certificates_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering._Search, "_why_not", lambda *_: "")
    with pytest.raises(RuntimeError, match="expected certificates that say unsat, found that they say None"):
        verify_vnnlib(affine(**IDENTITY), parse(query([("0", "0.5")], 2, "(>= Y_0 0.5)")))
