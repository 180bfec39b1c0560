"""A step is derived once, whichever derivations hold it."""

from __future__ import annotations

import pytest

from tests.small import tanh_model
from trm_verify.certificate import Derivation
from trm_verify.encode import Json
from trm_verify.kernel.claims import Conclusion
from trm_verify.provers.problem import Problem
from trm_verify.verification.session import Effort, Verification


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rules that were applied, in order."""
    rules: list[str] = []
    apply = Problem._apply

    def noted(self: Problem, step: Json, premises: list[Conclusion]) -> Conclusion:
        rules.append(step["rule"])
        return apply(self, step, premises)

    monkeypatch.setattr(Problem, "_apply", noted)
    return rules


def proved() -> tuple[Problem, Derivation]:
    session = Verification(tanh_model())
    facts = session.facts(Effort())
    assert facts.convergence is not None and len(facts.convergence.steps) > 1
    return Problem(session.problem.raw_graph, session.problem.weights), facts.convergence


def test_a_derivation_that_goes_on_from_another_derives_the_rest_alone(applied: list[str]) -> None:
    problem, whole = proved()
    applied.clear()
    begun = Derivation(whole.steps[:-1])
    problem.conclude(begun)
    assert applied == [step["rule"] for step in begun.steps]
    concluded = problem.conclude(whole)
    assert len(applied) == len(whole.steps)
    copied = Derivation(tuple(dict(step) for step in whole.steps))
    assert problem.conclude(copied) is concluded and len(applied) == len(whole.steps)


def test_what_was_worked_out_inside_is_forgotten(applied: list[str]) -> None:
    problem, whole = proved()
    applied.clear()
    with problem.forgetting():
        problem.conclude(whole)
    assert not problem._keys and not problem._known
    problem.conclude(whole)
    assert len(applied) == 2 * len(whole.steps)
