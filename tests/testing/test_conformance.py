"""The conformance test of provers: the library's own pass, and each way to be wrong is found."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import Any

import pytest

from trm_verify.encode import Json
from trm_verify.provers.contraction.norms import PROVERS
from trm_verify.provers.problem import ALL_STATES, Attempt, Problem
from trm_verify.testing import ConformanceError, prover_conformance
from trm_verify.testing.conformance import GENTLE, WRONG

linf = PROVERS["linf"]


def complaint(prover: Any) -> str:
    with pytest.raises(ConformanceError) as caught:
        prover_conformance(prover)
    return str(caught.value)


@pytest.mark.parametrize("name", ["linf", "l2", "metric"])
def test_the_librarys_provers_conform(name: str) -> None:
    found = prover_conformance(PROVERS[name])
    assert {case.name for case in WRONG} <= set(found.declined)
    assert "z/2" in found.proved and found.proved["z/2"] >= Fraction(1, 2)
    assert set(found.proved) | set(found.declined) == {case.name for case in (*GENTLE, *WRONG)}


def test_a_better_rate_than_is_derived_is_found() -> None:
    def boastful(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        attempt = linf(problem, domain, region, limit)
        return attempt if attempt.rate is None else replace(attempt, rate=attempt.rate / 2)

    assert "expected a rate that the derivation shows, 1/2, found the smaller 1/4" in complaint(boastful)


def test_a_rate_out_of_thin_air_is_found_on_models_that_expand() -> None:
    def forger(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        """Whatever the graph, the witness of a step that contracts."""
        attempt = linf(problem, domain, region, limit)
        if attempt.derivation is not None:
            return attempt
        norm = {"kind": "block", "runs": [[problem.graph.size, 1]],
                "weights": {"exp": 0, "int": " ".join(["1"] * problem.graph.size)}}  # fmt: skip
        from trm_verify.certificate import derive

        derivation = derive("radius_contraction", norm=norm, domain=domain, region=region, rate={"exp": -1, "int": "1"})
        return Attempt("forger", "linf", 0.0, Fraction(1, 2), derivation)

    said = complaint(forger)
    assert "the identity: expected a derivation of this contraction that the kernel accepts" in said
    assert "the identity: expected no rate below 1" in said


def test_an_answer_to_another_question_is_found() -> None:
    """Over a region alone, although all states were asked about."""
    small: Json = {
        "space": "state", "lo": {"exp": 0, "int": "1"}, "hi": {"exp": 0, "int": "1"},
    }  # fmt: skip

    def narrow(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        if region == ALL_STATES:
            lo = {"exp": -1, "int": " ".join(["1"] * problem.graph.size)}
            hi = {"exp": 0, "int": " ".join(["1"] * problem.graph.size)}
            region = {**small, "lo": lo, "hi": hi}
        return linf(problem, domain, region, limit)

    said = complaint(narrow)
    assert "expected a derivation of this contraction that the kernel accepts" in said


def test_silence_and_exceptions_are_found() -> None:
    def silent(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        return Attempt("silent", "linf", 0.0)

    said = complaint(silent)
    assert "expected a reason where nothing is proved" in said
    assert "expected a rate for at least one of z/2" in said

    def raising(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        raise KeyError("inside")

    assert "found KeyError: 'inside'" in complaint(raising)
    assert "expected an Attempt, found float" in complaint(lambda *_: 0.5)


def test_half_an_answer_is_found() -> None:
    def half(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        return replace(linf(problem, domain, region, limit), derivation=None)

    assert "expected a rate together with its derivation, found one of the two" in complaint(half)


def test_a_prover_that_changes_its_mind_is_found() -> None:
    calls = count()

    def moody(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        if next(calls) % 2:
            return Attempt("moody", "linf", 0.0, reason="not today")
        return linf(problem, domain, region, limit)

    assert "expected the same answer to the same question" in complaint(moody)


def test_a_prover_that_writes_into_the_problem_is_found() -> None:
    def careless(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        attempt = linf(problem, domain, region, limit)
        problem.raw_graph["step"]["nodes"][0]["op"] = "input"
        return attempt

    assert "expected an unchanged problem, found another graph" in complaint(careless)


def test_cautious_provers_conform() -> None:
    """Soundness asks for no strength: one case is enough."""

    def cautious(problem: Problem, domain: Json, region: Json, limit: Fraction | None = None) -> Attempt:
        attempt = linf(problem, domain, region, limit)
        if attempt.rate is None or attempt.rate > Fraction(1, 2):
            return Attempt("cautious", "linf", 0.0, reason=attempt.reason or "too near to one")
        return attempt

    assert prover_conformance(cautious).proved
