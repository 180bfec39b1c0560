"""Answers that stay: the number of steps is the smallest that the bound allows, and true of the real iteration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv
from trm_verify.certificate import Derivation
from trm_verify.export import export
from trm_verify.kernel.errors import CheckError
from trm_verify.provers.answers import prove_answer, prove_run
from trm_verify.provers.contraction.radius import prove_linf
from trm_verify.provers.problem import ALL_STATES, Problem, point

X = {"space": "input", "point": {"exp": -2, "int": "3"}}  # x = 3/4


def classifier() -> tuple[Problem, Derivation]:
    """z ← z/2 + x/2 from −1, whose fixed point is x; the answer is whether z exceeds 1/2."""

    def init(x: Tensor) -> Tensor:
        return torch.zeros_like(x) - 1

    def readout(z: Tensor) -> Tensor:
        return torch.cat([z, 1 - z], dim=1)

    half = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        half.weight.fill_(0.5)
    model = tv.recursive(
        lambda z, x: half(z) + x / 2,
        state_shape=(1,),
        input_shape=(1,),
        init=init,
        readout=readout,
        domain=tv.Box(-1, 1),
    )
    exported = export(model)
    problem = Problem(exported.graph, exported.to_bytes())
    domain = {"space": "input", "lo": {"exp": 0, "int": "-1"}, "hi": {"exp": 0, "int": "1"}}
    attempt = prove_linf(problem, domain, ALL_STATES)
    assert attempt.derivation is not None
    return problem, attempt.derivation.then("convergence", start=ALL_STATES)


def test_the_number_of_steps_is_the_first_that_the_bound_allows() -> None:
    """|z_k − x| ≤ 2^-k · 7/4 < 1/4 first at k = 3."""
    problem, convergence = classifier()
    found = prove_answer(problem, convergence, X, np.array([0.75]), [0])
    assert found.derivation is not None, found.reason
    assert found.steps == 3


def test_a_wrong_answer_is_not_proved() -> None:
    problem, convergence = classifier()
    found = prove_answer(problem, convergence, X, np.array([0.75]), [1])
    assert found.derivation is None and "MARGIN" in found.reason


def test_a_domain_with_both_answers_has_none() -> None:
    problem, convergence = classifier()
    both = {"space": "input", "lo": {"exp": 0, "int": "0"}, "hi": {"exp": 0, "int": "1"}}
    for label in (0, 1):
        assert prove_answer(problem, convergence, both, np.array([0.5]), [label]).derivation is None


def test_a_deadline_ends_the_search() -> None:
    problem, convergence = classifier()
    found = prove_answer(problem, convergence, X, np.array([0.75]), [1], deadline=0.0)
    assert found.derivation is None and "time" in found.reason


def test_a_run_is_final_where_the_ball_keeps_its_answer() -> None:
    problem, convergence = classifier()
    states = np.array([[-1.0]])
    for _ in range(8):
        states = np.vstack([states, states[-1] / 2 + 0.375])
    answers = [[0 if z > 0.5 else 1] for (z,) in states]
    _, run = prove_run(problem, convergence, X, states, answers)
    # z_k = 3/4 − 7/4 · 2^-k: its ball [z_k − 7/4 · 2^-k, 3/4] lies above 1/2 first at k = 4
    assert run.answer == (0,) and run.final == 4
    assert run.answers[0] == (1,)
    assert all(abs(z - 0.75) <= float(d) for (z,), d in zip(states, run.distances, strict=True))


def test_a_run_that_stops_too_early_is_an_error() -> None:
    problem, convergence = classifier()
    with pytest.raises(CheckError) as error:
        prove_run(problem, convergence, X, np.array([[-1.0], [-0.125]]), [[1], [1]])
    assert error.value.code == "MARGIN"


def test_points_are_exact() -> None:
    values = np.array([0.1, -3.5, 2.0**-1074, 1e300])
    exact = point(values)
    assert [float(exact.fraction(i)[0]) for i in range(4)] == values.tolist()
