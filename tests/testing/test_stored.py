"""Stored certificates: the verdict is what they prove of the very question that is asked, no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, tanh_model
from trm_verify.claims import answer, contraction, exactly_one
from trm_verify.result import proves
from trm_verify.testing import AffineStep, CertificateProblem, certify
from trm_verify.testing.asked import asked
from trm_verify.verification.inputs import Inputs
from trm_verify.verification.session import Verification

TWO = AffineStep([[2.0]], [[1.0]], activation="tanh")
HALF = AffineStep([[0.5]], [[1.0]], C=[[1.0], [0.0]], c=[0.0, 0.25], activation="identity")  # z* = 2x, 0 from x = 1/8
CASES: dict[str, tuple[Any, Any, dict[str, Any], tv.Verdict]] = {
    "global": (tanh_model(), None, {}, tv.PROVED),
    "ball": (tanh_model(), torch.zeros(3), {"eps": "0.01"}, tv.PROVED),
    "batch": (tanh_model(), torch.zeros(2, 3), {"eps": "0.01"}, tv.PROVED),
    "autonomous": (autonomous(lambda z: z / 2), None, {}, tv.PROVED),
    "damped": (tanh_model(iteration=tv.Damped(0.5)), torch.zeros(3), {}, tv.PROVED),
    "implicit": (tanh_model(iteration="implicit"), torch.zeros(3), {}, tv.PROVED),
    "region": (autonomous(lambda z: torch.tanh(2 * z)), None, {"region": tv.Box(0.5, 1.5)}, tv.PROVED),
    "two fixed points": (TWO, None, {}, tv.REFUTED),
    "another answer": (HALF, torch.tensor([0.5]), {"answer": 1}, tv.REFUTED),
    "another answer in the ball": (HALF, torch.tensor([0.5]), {"eps": "0.5"}, tv.REFUTED),
    "no rate": (autonomous(lambda z: -z), None, {}, tv.UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stored_certificate_says_what_the_proof_said(name: str, tmp_path: Path) -> None:
    model, x, options, verdict = CASES[name]
    path = tmp_path / "a.trmcert.json"
    made = certify(model, x, path=path, update=True, **options)
    stored = certify(model, x, path=path, **options)
    assert made.verdict is stored.verdict is verdict
    assert not made.stored and stored.stored and made.digest == stored.digest
    assert made.rate == stored.rate and str(verdict) in repr(stored)
    if verdict is tv.PROVED and x is not None:
        assert made.margin is not None and (stored.margin is None or 0 < stored.margin <= made.margin + 1e-6)
    tv.check(path, path.with_name("a.safetensors"), model=model)


@pytest.fixture(scope="module")
def refuted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The answer 1 at 0.5 is refuted; that it is 0 there is proved beside it."""
    path = tmp_path_factory.mktemp("stored") / "a.trmcert.json"
    assert certify(HALF, torch.tensor([0.5]), path=path, update=True, answer=1).verdict is tv.REFUTED
    return path


@pytest.mark.parametrize(
    ("x", "options", "verdict"),
    [
        (0.5, {"answer": 1}, tv.REFUTED),
        (0.5, {"answer": 1, "eps": "0.25"}, tv.REFUTED),  # the refuting input lies in the ball
        (0.25, {"answer": 1}, tv.UNKNOWN),  # it is another input
        (0.25, {"answer": 1, "eps": "0.125"}, tv.UNKNOWN),  # it lies outside the ball
        (0.5, {"answer": 0, "eps": "0.25"}, tv.UNKNOWN),  # another label is refuted, at the centre alone
        (0.5, {}, tv.PROVED),
    ],
)
def test_a_refutation_counts_only_for_what_it_refutes(
    refuted: Path, x: float, options: dict[str, Any], verdict: tv.Verdict
) -> None:
    assert certify(HALF, torch.tensor([x]), path=refuted, **options).verdict is verdict


def test_two_fixed_points_in_a_region_do_not_count_for_another(tmp_path: Path) -> None:
    model, path = autonomous(lambda z: torch.tanh(2 * z)), tmp_path / "a.trmcert.json"
    assert certify(model, path=path, update=True).verdict is tv.REFUTED
    assert certify(model, path=path).verdict is tv.REFUTED
    assert certify(model, path=path, region=tv.Box(0.5, 1.5)).verdict is tv.UNKNOWN


def test_a_local_proof_does_not_count_for_all_states(tmp_path: Path) -> None:
    model, path = autonomous(lambda z: torch.tanh(2 * z)), tmp_path / "a.trmcert.json"
    certify(model, path=path, update=True, region=tv.Box(0.5, 1.5))
    assert certify(model, path=path).verdict is tv.UNKNOWN
    assert certify(model, path=path, region=tv.Box(0.25, 1.5)).verdict is tv.UNKNOWN


def bistable(**options: Any) -> Any:
    """Two attractors, near ±1; the loop begins at −1."""
    return tv.recursive(
        lambda z, x: torch.tanh(2 * z + x / 8), state_shape=(1,), input_shape=(1,), domain=tv.Box(0, 0),
        init=lambda x: -torch.ones_like(x), readout=lambda z: torch.cat([z, -z], -1), **options,
    )  # fmt: skip


UPPER, LOWER, ZERO = tv.Box("1/2", "3/2"), tv.Box("-3/2", "-1/2"), torch.tensor([0.0])


def covers(model: Any, region: Any, label: int, *calls: Any) -> bool:
    """Whether what several calls have proved, in one certificate, answers a call about ZERO."""
    found = [certify(model, ZERO, region=each).checked for each in calls]
    assert found[0] is not None
    valid = replace(found[0][1], claims=tuple(c for each in found if each is not None for c in each[1].claims))
    session = Verification(model, None, region)
    return all(
        any(all(any(proves((found[0][0], valid), c) for c in need) for need in reading) for reading in readings)
        for readings in asked(session, Inputs.of(session, ZERO, None, label), valid)
    )


def test_one_fixed_point_and_the_answer_of_another_cover_nothing() -> None:
    """Near 1 there is exactly one fixed point, which answers 0; the loop goes to the other one."""
    model = bistable()
    assert covers(model, LOWER, 1, LOWER) and covers(model, "invariant", 1, LOWER)
    for label in (0, 1):
        assert not covers(model, UPPER, label, UPPER, LOWER)
    assert not covers(model, "invariant", 0, UPPER, LOWER) and not covers(model, LOWER, 0, UPPER, LOWER)


REFLECTED = tv.recursive(lambda z: torch.abs(z / 2) + 2, state_shape=(1,))  # z* = 4


@pytest.mark.parametrize("model", [REFLECTED, AffineStep([[0.5]], b=[2.0])], ids=["refuted in the box", "open there"])
@pytest.mark.parametrize(("region", "inside"), [(tv.Box(0, 1), False), (tv.Box(0, 8), True)])
def test_one_fixed_point_of_all_states_is_none_of_a_box_that_it_lies_outside(
    model: Any, region: tv.Box, inside: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.trmcert.json"
    assert certify(model, path=path, update=True).verdict is tv.PROVED
    assert certify(model, path=path, region="invariant").verdict is tv.PROVED
    call, stored = tv.verify_fixed_point(model, region=region).verdict, certify(model, path=path, region=region).verdict
    assert (call is tv.PROVED) is inside
    assert stored is (tv.PROVED if inside else tv.UNKNOWN)


def test_an_implicit_model_answers_in_the_region_that_has_the_fixed_point() -> None:
    model = bistable(iteration="implicit")
    assert not covers(model, LOWER, 0, "invariant", UPPER) and not covers(model, "invariant", 0, "invariant", UPPER)


SQUARES = tv.recursive(
    lambda z, x: z * z / 2 + x, state_shape=(1,), input_shape=(1,), domain=tv.Box(-10, 10),
    readout=lambda z: torch.cat([z, 1 - z], -1),
)  # fmt: skip
TWOFOLD = tv.recursive(
    lambda z, x: torch.tanh(3 * z + x / 8), state_shape=(1,), input_shape=(1,), domain=tv.Box(0, 1),
    readout=lambda z: torch.cat([z, -z], -1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("region", "verdict"),
    [(tv.Box("-1/2", "5/8"), tv.PROVED), (tv.Box("1/4", "3/8"), tv.UNKNOWN)],  # init, which is 0, is not in the other
)
def test_any_region_that_the_loop_stays_in_from_init_is_one_that_a_call_may_find(
    region: tv.Box, verdict: tv.Verdict, tmp_path: Path
) -> None:
    """Whichever box a search finds, in this version or another: what counts is that it is such a box."""
    path, x = tmp_path / "a.trmcert.json", torch.tensor([0.25])
    made = certify(SQUARES, x, path=path, update=True, region=region)
    assert made.proves(exactly_one(domain=tv.Box("1/4", "1/4"), region=region))
    assert certify(SQUARES, x, path=path, region="invariant").verdict is verdict


@pytest.mark.slow
@pytest.mark.parametrize("model", [SQUARES, TWOFOLD], ids=["squares", "two attractors"])
def test_no_stored_certificate_says_what_the_call_itself_would_deny(model: Any, tmp_path: Path) -> None:
    """Of every question about states and inputs, beside every certificate: nothing holds for all states."""
    questions = [
        (x, region) for x in (None, torch.tensor([0.125]))
        for region in (None, tv.Box("-1/2", "1/2"), tv.Box("1/2", "3/2"), "invariant")
    ]  # fmt: skip
    calls = [
        certify(model, x, path=tmp_path / f"{i}.trmcert.json", update=True, region=region).verdict
        for i, (x, region) in enumerate(questions)
    ]
    assert {tv.PROVED, tv.REFUTED} <= set(calls)
    for stored in sorted(tmp_path.glob("*.trmcert.json")):
        for (x, region), call in zip(questions, calls, strict=True):
            said = certify(model, x, path=stored, region=region).verdict
            assert said is not tv.PROVED or call is tv.PROVED, (stored, x, region)
            assert said is not tv.REFUTED or call is not tv.PROVED, (stored, x, region)


def test_claims_by_their_names() -> None:
    found = certify(tanh_model(), torch.zeros(3))
    assert found.proves(contraction(rate=0.9)) and not found.proves(contraction(rate=0.1))
    assert found.proves(exactly_one(domain=tv.Box(-1, 1))) and not found.proves(exactly_one(domain="all"))
    assert found.proves(answer()) and found.proves("contraction(rate<=0.9)")
    with pytest.raises(ValueError, match="expected a claim"):
        found.proves("perfection")


def test_bad_calls_say_what_to_do(tmp_path: Path) -> None:
    model = autonomous(lambda z: z / 2)
    with pytest.raises(ValueError, match="a certificate named NAME"):
        certify(model, path=tmp_path / "a.json")
    with pytest.raises(CertificateProblem, match="found none"):
        certify(model, path=tmp_path / "a.trmcert.json")
    (tmp_path / "b.trmcert.json").mkdir()
    with pytest.raises(CertificateProblem, match="expected to read"):
        certify(model, path=tmp_path / "b.trmcert.json")
    certify(model, path=tmp_path / "c.trmcert.json", update=True)
    with pytest.raises(TypeError, match="options of verify_fixed_point, found .'epsilon'"):
        certify(model, path=tmp_path / "c.trmcert.json", epsilon=1)
    nothing = certify(TWO, norm="linf", timeout=0)
    assert nothing.verdict is tv.UNKNOWN and nothing.digest is None and not nothing.proves("exactly_one")
    with pytest.raises(ValueError, match="there is no certificate"):
        nothing.certificate  # noqa: B018
