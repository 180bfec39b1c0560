"""`verify_fixed_point`: what it says of models of every kind, and that a simulation never contradicts it."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trm_verify as tv
from tests.small import autonomous, gate_model, iterates, linear, tanh_model
from trm_verify.kernel import document
from trm_verify.kernel.check import check as kernel_check
from trm_verify.model import RecursiveModel
from trm_verify.models import LogNormEquilibrium, MonotoneEquilibrium

X = torch.tensor([0.25, -0.5, 0.125])


# the calls of the design, on models of every kind


def test_the_library_s_own_model() -> None:
    model = tv.models.SandwichRefiner(state=6, hidden=9, inputs=4, classes=3, seed=2)
    result = tv.verify_fixed_point(model)
    assert result.verdict is tv.PROVED and bool(result)
    assert result.rate is not None and 0.9 * (1 - 1e-3) < result.rate <= 0.9 * (1 + 1e-5) and result.norm == "l2"
    assert {name for name, claim in result.claims.items() if claim} == {"contraction", "exactly_one", "convergence"}
    assert result.steps(1e-6) > result.steps("1e-3") > 0
    one = tv.verify_fixed_point(model, torch.full((4,), 0.5), eps="0.001")
    assert one and one.answer is not None and one.claims["answer"].verdict is tv.PROVED
    assert model.training and model.cell.training, "the model is left as it was"


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drive = linear(5, 5, 0.5, 0), linear(5, 3, 1.0, 100)

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.inner(z) + self.drive(x))


def halved(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return z / 2 + x


def test_a_module_a_function_and_a_closure_prove_alike() -> None:
    module = tv.verify_fixed_point(tv.recursive(Module(), state_shape=(5,), input_shape=(3,)))
    closure = tv.verify_fixed_point(tanh_model(readout=False, domain=None))
    assert module and closure and module.rate == closure.rate
    function = tv.verify_fixed_point(tv.recursive(halved, state_shape=(3,), input_shape=(3,)), X)
    assert function and function.rate == 0.5 and function.enclosure is not None
    np.testing.assert_allclose(function.enclosure.center, 2 * X.numpy(), atol=1e-12)


def test_layers_of_the_library_inside_somebody_s_own_step() -> None:
    # too large for the semidefinite program: only the layer's hint proves it
    cell = tv.nn.SandwichStep(40, 60, 3, 0.8)
    result = tv.verify_fixed_point(tv.recursive(lambda z, x: cell(z, x), state_shape=(40,), input_shape=(3,)))
    assert result and result.norm == "l2" and result.rate is not None and result.rate < 0.8 * (1 + 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_and_inputs_of_every_float_type(dtype: torch.dtype) -> None:
    result = tv.verify_fixed_point(tanh_model(dtype=dtype), X.to(dtype))
    assert result and len(result.answer or ()) == 1


def test_a_model_without_input_has_one_fixed_point_and_one_answer() -> None:
    inner = linear(3, 3, 0.5, 7)
    result = tv.verify_fixed_point(autonomous(lambda z: torch.cos(inner(z)), 3, readout=lambda z: z))
    assert result and result.answer is not None and result.enclosure is not None
    state = iterates(autonomous(lambda z: torch.cos(inner.double()(z)), 3, readout=lambda z: z), None, 200)[-1, 0]
    assert np.all(np.abs(state.numpy() - result.enclosure.center) <= result.enclosure.radius + 1e-14)
    assert result.answer == (int(state.argmax()),)
    assert result.steps("1e-9") > 0


def test_a_state_of_several_parts() -> None:
    a, b, c = linear(3, 3, 0.4, 1), linear(3, 2, 0.4, 2), linear(2, 2, 0.4, 3)
    model = tv.recursive(
        lambda z, x: (torch.tanh(a(z[0]) + b(z[1]) + x), torch.relu(c(z[1]))),
        state_shape=((3,), (2,)), input_shape=(3,), readout=lambda z: z[0], domain=tv.Box(-1, 1),
    )  # fmt: skip
    result = tv.verify_fixed_point(model, X)
    assert result and result.enclosure is not None and result.enclosure.center.shape == (5,)


def test_damping_by_one_factor_and_by_one_a_coordinate() -> None:
    plain = tv.verify_fixed_point(tanh_model(norm=0.5))
    damped = tv.verify_fixed_point(tanh_model(norm=0.5, iteration=tv.Damped(0.5)), X)
    assert damped and damped.rate == pytest.approx(0.5 + plain.rate / 2)
    assert "outer_damped(1/2)" in damped.claims["convergence"].statement
    # in ℓ2 these factors prove nothing, so another norm has to serve
    each = tv.verify_fixed_point(tanh_model(norm=0.3, iteration=tv.Damped([0.5, 0.25, 1, 0.5, 0.75])), X)
    assert each and each.norm in ("linf", "weighted_linf")


def test_damping_that_no_norm_allows_is_said_and_the_step_s_contraction_kept() -> None:
    model = tanh_model(iteration=tv.Damped([0.5, 0.25, 1, 0.5, 0.75]))
    result = tv.verify_fixed_point(model, norm="l2")
    assert result.verdict is tv.UNKNOWN and result.claims["exactly_one"]
    assert "operator=picard" in result.claims["contraction"].statement
    assert "norm=" in result.claims["convergence"].remedy
    assert result.rate is None, "the rate is that of the step, not of the iteration"


def test_an_implicit_model_claims_a_fixed_point_and_no_loop() -> None:
    assert tv.verify_fixed_point(tanh_model(iteration="implicit", readout=False), X)
    result = tv.verify_fixed_point(tanh_model(iteration="implicit"), X)
    assert result and result.claims["exactly_one"] and "convergence" not in result.claims
    assert result.claims["fixed_point_answer"] and "answer" not in result.claims and result.enclosure is not None
    assert result.proves(tv.claims.FixedPointAnswer(answer=result.answer[0]))


@pytest.mark.parametrize(
    ("family", "kind"), [(MonotoneEquilibrium, "inner_damped"), (LogNormEquilibrium, "outer_damped")]
)
def test_an_equilibrium_model_has_the_rate_and_the_steps_of_what_reaches_it(family: Any, kind: str) -> None:
    """No loop is stated; the damped one that was certified has a short name, a rate and a count of steps."""
    result = tv.verify_fixed_point(family(6, 4, 3))
    claim = result.claims[f"convergence of {kind}"]
    assert claim and f"operator={kind}(" in claim.statement and "convergence" not in result.claims
    assert result.rate is not None and f"rate<={result.rate:.6f}"[:12] in claim.statement
    assert f"norm={result.norm}" in claim.statement
    assert result.steps("1e-3", 1) < result.steps("1e-6", 1)
    if kind == "inner_damped":
        with pytest.raises(ValueError, match="inner damping .* pass initial_error=.*enclosure"):
            result.steps("1e-6")
    else:
        assert result.steps("1e-6") > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", [MonotoneEquilibrium, LogNormEquilibrium])
def test_so_many_damped_steps_do_reach_the_fixed_point(family: Any, seed: int) -> None:
    """The loop that the certificate names, run from every corner that the initial error allows, ends within ε."""
    model = family(4, 3, 3, seed=seed, dtype=torch.float64).bake()
    result = tv.verify_fixed_point(model)
    steps = result.certificate.predicate["steps"]  # a step that contracts needs no damping
    (alpha,) = {json.dumps(s["alpha"]) for s in steps if "alpha" in s} or {'{"exp": 0, "int": "1"}'}
    assert ("convergence of picard" in result.claims) == (not any("alpha" in s for s in steps))
    ints, exp = document.vector(json.loads(alpha), None, "alpha")
    alphas = torch.tensor([v * 2.0**exp for v in ints], dtype=torch.float64)
    x = torch.tensor([[0.25, 1.0, 0.5]], dtype=torch.float64)
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    with torch.no_grad():
        weight, drive = model.matrix(x), x @ model.U.T + model.b

        def moved(z: torch.Tensor) -> torch.Tensor:
            argument = z @ weight.T + drive
            if family is MonotoneEquilibrium:
                return torch.relu(z + alphas * (argument - z))
            return z + alphas * (torch.relu(argument) - z)

        fixed = torch.zeros(1, 4, dtype=torch.float64)
        for _ in range(result.steps("1e-9", 10)):
            fixed = moved(fixed)
        assert torch.allclose(model.step(fixed, x), fixed, atol=1e-8)
        for error, epsilon in ((1.0, "0.001"), (0.25, "0.2"), (3.0, "0.000001")):
            z = fixed + error * signs
            for _ in range(result.steps(epsilon, error)):
                z = moved(z)
            assert float((z - fixed).abs().max()) <= float(epsilon) + 1e-8


def test_an_implicit_model_that_contracts_has_the_steps_of_its_own_step() -> None:
    result = tv.verify_fixed_point(tanh_model(iteration="implicit", readout=False))
    assert result.claims["convergence of picard"]
    assert result.steps("1e-6") == tv.verify_fixed_point(tanh_model(readout=False)).steps("1e-6")


def test_a_rate_of_another_iteration_is_not_the_loop_s() -> None:
    """What inner damping reaches says nothing of a loop that is run without it."""
    result = tv.verify_fixed_point(autonomous(lambda z: 1 - 2 * z, 2))
    with pytest.raises(ValueError, match="expected a proved rate of convergence, found none"):
        result.steps("1e-6", 1)
    assert result.rate is None


def test_a_divergent_picard_loop_still_has_its_one_fixed_point() -> None:
    result = tv.verify_fixed_point(autonomous(lambda z: 1 - 2 * z, 2))
    assert result.verdict is tv.UNKNOWN and result.claims["exactly_one"] and not result.claims["convergence"]
    assert "Damped" in result.claims["convergence"].remedy
    assert tv.verify_fixed_point(autonomous(lambda z: 1 - 2 * z, 2, iteration=tv.Damped(0.25)))
    assert tv.verify_fixed_point(autonomous(lambda z: 1 - 2 * z, 2, iteration="implicit"))


def embedded() -> RecursiveModel:
    table, inner, logits = nn.Embedding(5, 4), linear(4, 4, 0.5, 3), linear(3, 4, 1.0, 4)
    with torch.no_grad():
        table.weight.copy_(torch.randn(5, 4, generator=torch.Generator().manual_seed(5)))
    return tv.recursive(
        lambda z, x: torch.tanh(inner(z) + table(x)), state_shape=(2, 4), input_shape=(2,), vocabulary=5, readout=logits
    )


def test_integer_inputs_and_several_output_positions() -> None:
    model, x = embedded(), torch.tensor([1, 4])
    everything = tv.verify_fixed_point(model)
    assert everything and everything.steps(1e-3) > 0, "a vocabulary bounds the domain"
    result = tv.verify_fixed_point(model, x)
    assert result and result.answer is not None and len(result.answer) == 2
    expected = model.readout(iterates(model, x[None], 100)[-1].reshape(1, 2, 4)).argmax(-1)
    assert list(result.answer) == expected[0].tolist()
    again = tv.verify_fixed_point(model, np.array([1.0, 4.0]), answer=expected[0].numpy())
    assert again and again.answer == result.answer
    wrong = tv.verify_fixed_point(model, x, answer=[(result.answer[0] + 1) % 3, result.answer[1]])
    assert wrong.verdict is tv.REFUTED and np.array_equal(wrong.counterexample, [1.0, 4.0])
    with pytest.raises(ValueError, match="no eps for integer inputs"):
        tv.verify_fixed_point(model, x, eps=1)
    box = tv.verify_fixed_point(model, tv.Box([1, "3.5"], ["1.5", 9]))  # which holds (1, 4) alone
    assert box and box.answer == result.answer


# what x and eps may be


def test_inputs_of_every_form_mean_the_same() -> None:
    model = tanh_model()
    forms: list[Any] = [
        X, X.numpy(), X.double(), X.tolist(), tv.Box.point(X), [Fraction(1, 4), Decimal("-0.5"), Fraction(1, 8)],
    ]  # fmt: skip
    results = [tv.verify_fixed_point(model, x) for x in forms]
    assert all(results) and len({(r.answer, r.answer_steps) for r in results}) == 1
    assert len({str(r.claims["answer"].statement) for r in results}) == 1


@pytest.mark.parametrize("eps", [0, 0.0, 1e-3, "0.001", Fraction(1, 1000), Decimal("0.001")])
def test_eps_of_every_form(eps: Any) -> None:
    result = tv.verify_fixed_point(tanh_model(), X, eps=eps)
    assert result and result.enclosure is not None
    assert (result.enclosure.radius.max() < 1e-9) == (float(eps) == 0)


def test_a_float_eps_means_its_exact_binary_value() -> None:
    model = tanh_model(domain=None)
    assert tv.verify_fixed_point(model, X, eps=0.001).proves(
        tv.claims.Answer(domain=tv.Box.ball(X, Fraction(0.001)))
    )  # fmt: skip
    smaller = tv.verify_fixed_point(model, X, eps=Fraction(0.001) - Fraction(1, 1 << 80))
    assert smaller and not smaller.proves(tv.claims.Answer(domain=tv.Box.ball(X, 0.001)))


def test_a_ball_larger_than_the_domain_is_the_domain() -> None:
    model = tanh_model(norm=0.2)
    inside = tv.verify_fixed_point(model, X, eps=100)
    assert inside.enclosure is not None
    assert inside.enclosure.radius.max() < 50, "the ball is cut to the domain [−1, 1]"
    assert inside.steps(1e-3) == tv.verify_fixed_point(model).steps(1e-3)


def test_a_domain_cuts_the_model_s_own() -> None:
    model = tanh_model()
    assert tv.verify_fixed_point(model, domain=tv.Box(0, "0.25")).proves("exactly_one(domain=box(0,0.25))")
    assert not tv.verify_fixed_point(model, domain=tv.Box(0, "0.25")).proves("exactly_one(domain=box(0,1))")
    with pytest.raises(ValueError, match="outside"):
        tv.verify_fixed_point(model, X, domain=tv.Box(0, 1))


def test_a_batch_of_one_is_a_sequence_of_what_a_single_input_gives() -> None:
    model = tanh_model()
    results, single = tv.verify_fixed_point(model, X[None]), tv.verify_fixed_point(model, X)
    assert isinstance(results, tv.VerificationResults) and isinstance(single, tv.VerificationResult)
    assert len(results) == 1 and results
    assert (results[0].answer, results[0].answer_steps, results[0].rate) == (
        single.answer, single.answer_steps, single.rate,
    )  # fmt: skip


def test_facts_that_need_the_ball_are_proved_over_the_ball() -> None:
    model = gate_model()
    assert tv.verify_fixed_point(model).verdict is tv.REFUTED  # for large x it runs away
    results = tv.verify_fixed_point(model, torch.tensor([[0.5, 0.25], [2.0, 0.125], [0.125, 0.25]]), eps="1/100")
    assert [r.verdict for r in results] == [tv.PROVED, tv.REFUTED, tv.PROVED] and not results
    assert [r.answer for r in results] == [(0,), None, (1,)]
    assert results[0].rate == pytest.approx(0.51) and results[2].rate == pytest.approx(0.26)
    assert results.proves("answer(answer=0)") and not results[2].proves("answer(answer=0)")
    kernel_check(results[2].certificate.to_bytes(), b"\x08\0\0\0\0\0\0\0{}      ")  # a model without weights


# local proofs


def test_a_region_that_the_step_maps_into_itself() -> None:
    result = tv.verify_fixed_point(autonomous(torch.cos), region=tv.Box(0, 1))
    assert result and result.claims["invariant"]
    assert result.rate == pytest.approx(np.sin(1), abs=1e-9) and result.rate >= np.sin(1)
    assert result.enclosure is not None
    assert abs(0.7390851332151607 - result.enclosure.center[0]) <= result.enclosure.radius[0] + 1e-16 < 1e-12
    assert "region=box of dimension 1" in result.claims["exactly_one"].statement


def test_a_region_that_holds_an_invariant_ball() -> None:
    # cos maps [0, 1.3] to [0.27, 1]; init = 0 lies on the edge, so no ball about z* = 0.74 holds it
    model = autonomous(torch.cos, init=lambda batch: 0.5 * torch.ones(batch, 1))
    region = tv.Box("0.3", "1.2")  # cos(0.3) = 0.955…, cos(1.2) = 0.36…: invariant as a box
    assert tv.verify_fixed_point(model, region=region).claims["invariant"]
    steep = autonomous(lambda z: 0.5 * z + torch.relu(z - 3), 2, init=lambda batch: torch.ones(batch, 2))
    ball = tv.verify_fixed_point(steep, region=tv.Box([-1, -2], [2, "1.5"]))
    assert ball and ball.rate == 0.5
    away = tv.verify_fixed_point(autonomous(lambda z: z / 2 + 10), region=tv.Box(0, 1))
    assert away.verdict is tv.UNKNOWN and away.claims["contraction"] and "at_most_one" in away.claims
    assert away.claims["exactly_one"], "by the log-norm, in all of R and not in the region"
    assert "region=all" in away.claims["exactly_one"].statement and "region" in away.claims["convergence"].remedy


def test_an_invariant_ball_where_the_box_is_not_invariant() -> None:
    # rotation by a quarter with a gain of 0.9: a wide flat box leaves itself, balls about 0 in linf do not
    turn = torch.tensor([[0.0, -0.9], [0.9, 0.0]])
    model = autonomous(lambda z: z @ turn.T, 2, init=lambda batch: torch.full((batch, 2), 0.5))
    result = tv.verify_fixed_point(model, region=tv.Box([-4, -1], [4, 1]))
    assert result and "invariant" not in result.claims
    assert result.steps("1e-6") > 0, "the ball was widened to hold init"
    bounded = tv.verify_fixed_point(model, region=tv.Box([-4, "-0.25"], [4, "0.25"]))
    assert bounded.claims["exactly_one"] and bounded.claims["convergence"]
    with pytest.raises(ValueError, match="initial"):
        bounded.steps("1e-6")  # init lies outside the region, where nothing was proved


def test_a_contraction_that_does_not_hold_its_fixed_point_says_nothing_of_it() -> None:
    # leaky(0.999z + 1): exactly one fixed point, 1000; a local contraction on [−3, −2], far from it
    leaky = nn.LeakyReLU(0.5)
    model = autonomous(lambda z: leaky(0.999 * z + 1), init=lambda batch: torch.full((batch, 1), -2.5))
    result = tv.verify_fixed_point(model, region=tv.Box(-3, -2))
    assert result.claims["contraction"] and result.claims["exactly_one"] and not result.claims["convergence"]
    assert result.verdict is tv.UNKNOWN
    # the enclosure rests on R4, over all states
    assert abs(result.enclosure.center[0] - 1000) <= result.enclosure.radius[0] < 1e-6


# PROVED comes from the kernel


def test_nothing_is_proved_when_the_kernel_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(certificate: bytes, weights: bytes) -> None:
        raise tv.CheckError("CLAIM", "something else", "this")

    monkeypatch.setattr("trm_verify.verification.session.kernel_check", reject)
    model = tanh_model()
    for call in (lambda: tv.verify_fixed_point(model), lambda: tv.verify_fixed_point(model, X)):
        with pytest.raises(tv.CheckError):
            call()
    with pytest.raises(tv.CheckError):
        tv.verify_fixed_point(model, X[None], answer=3)
    with pytest.raises(tv.CheckError):
        tv.audit(model, X)


def test_the_whole_certificate_is_checked_before_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watch(certificate: bytes, weights: bytes) -> Any:
        valid = kernel_check(certificate, weights)
        seen.append(len(valid.claims))
        return valid

    monkeypatch.setattr("trm_verify.verification.session.kernel_check", watch)
    results = tv.verify_fixed_point(tanh_model(), torch.stack([X, -X]))
    assert results and seen == [6], "two answers, and four claims on the model"


def test_a_wrong_answer_is_refuted_by_the_centre() -> None:
    model = tanh_model()
    right = tv.verify_fixed_point(model, X).answer
    assert right is not None
    result = tv.verify_fixed_point(model, X, eps=0.5, answer=(right[0] + 1) % 4)
    assert result.verdict is tv.REFUTED and not result and result.answer is None
    assert np.array_equal(result.counterexample, X.numpy())
    assert result.claims["answer"].verdict is tv.REFUTED and result.claims["exactly_one"]
    assert result.proves(tv.claims.Answer(answer=right[0], domain=tv.Box.point(X)))


def test_a_wrong_answer_at_a_tie_is_unknown() -> None:
    model = tv.recursive(lambda z, x: z / 2 + x, state_shape=(2,), input_shape=(2,), readout=lambda z: z)
    result = tv.verify_fixed_point(model, torch.tensor([0.5, 0.5]), answer=1)
    assert result.verdict is tv.UNKNOWN and result.counterexample is None
    assert not tv.verify_fixed_point(model, torch.tensor([0.5, 0.5]))


# simulation never contradicts a proof


def sampled(box: tv.Box, count: int, seed: int) -> torch.Tensor:
    lo, hi = (torch.from_numpy(end) for end in box.floats())
    return lo + (hi - lo) * torch.rand(count, *lo.shape, generator=torch.Generator().manual_seed(seed)).double()


KINDS = {
    "tanh": dict(activation=torch.tanh),
    "relu": dict(activation=torch.relu),
    "sin": dict(activation=torch.sin, norm=0.8),
    "gelu": dict(activation=nn.functional.gelu, norm=0.7),
    "damped": dict(activation=torch.relu, norm=0.6, iteration=tv.Damped(0.75)),
    "leaky": dict(activation=nn.functional.leaky_relu, norm=0.9),
}


SLOW = [pytest.param(kind, seed, marks=pytest.mark.slow) for kind in KINDS for seed in (1, 2)]


@pytest.mark.parametrize(("kind", "seed"), [*((kind, 0) for kind in ("relu", "sin", "damped")), *SLOW])
def test_simulation_never_contradicts_a_proof(kind: str, seed: int) -> None:
    model = tanh_model(10 * seed + 1, **KINDS[kind])
    ball = tv.Box.ball(X, "1/50").intersect(tv.Box(-1, 1).expand((3,)))
    result = tv.verify_fixed_point(model, X, eps="1/50")
    assert result.claims["convergence"] and result.rate is not None and result.enclosure is not None
    x = torch.cat([X.double()[None], sampled(ball, 40, seed)])
    path = iterates(model, x, 600)
    limit = path[-1]
    away = np.abs(limit.numpy() - result.enclosure.center)
    assert np.all(away <= result.enclosure.radius + 1e-12)
    for epsilon in (1e-1, 1e-3, 1e-6):
        k = result.steps(epsilon)
        assert (path[k:] - limit).abs().max() <= epsilon * (1 + 1e-9)
        start = float((path[0] - limit).abs().max())
        assert (path[result.steps(epsilon, start) :] - limit).abs().max() <= epsilon * (1 + 1e-9)
    if result.answer is not None and result.answer_steps is not None:
        answers = model.readout(path[result.answer_steps :]).argmax(-1)
        assert torch.all(answers == result.answer[0])
    if result.norm == "l2":
        z, w = 3 * torch.randn(2, 400, 5, generator=torch.Generator().manual_seed(seed)).double()
        given = sampled(tv.Box(-1, 1).expand((3,)), 400, seed)
        alpha = 0.75 if kind == "damped" else 1.0
        moved = (1 - alpha) * (z - w) + alpha * (model.step(z, given) - model.step(w, given))
        assert torch.all(moved.norm(dim=1) <= result.rate * (z - w).norm(dim=1) * (1 + 1e-9))


ESCAPES: dict[str, Any] = {
    "rotation": lambda z: torch.stack([-z[:, 1], z[:, 0]], dim=1),
    "barely expanding": lambda z: z * (1 + 1e-9),
    "two attractors": lambda z: torch.tanh(2 * z),
    "no fixed point": lambda z: z + 1,
    "period two": lambda z: 1 - z,
    "steep relu": lambda z: torch.relu(1 - 5 * z),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_what_does_not_converge_is_never_proved(name: str) -> None:
    calls: list[dict[str, Any]] = [
        {},
        {"region": tv.Box(-1, 1), "norm": "linf"},
        {"region": tv.Box(1, 2), "norm": "l2"},
    ]
    for kwargs in calls:
        result = tv.verify_fixed_point(autonomous(ESCAPES[name], 2), **kwargs)
        convergence = result.claims["convergence"]
        assert result.verdict is not tv.PROVED and not convergence and convergence.reason
        assert convergence.remedy or convergence.verdict is tv.REFUTED
        if name in ("two attractors", "no fixed point"):
            assert not result.claims["exactly_one"]


@pytest.mark.parametrize("seed", range(4))
def test_a_random_step_is_proved_only_if_it_contracts_on_its_orbit(seed: int) -> None:
    """Norms from 0.7 to 3: where the pieces of the step expand in every direction, nothing may be proved."""
    inner = linear(3, 3, 0.7 + 0.75 * seed, seed)
    result = tv.verify_fixed_point(autonomous(lambda z: torch.relu(inner(z)), 3))
    if result.claims["convergence"]:
        assert float(torch.linalg.eigvals(inner.weight.detach().double()).abs().max()) < 1
        path = iterates(autonomous(lambda z: torch.relu(inner.double()(z)), 3), None, 2000)
        assert (path[-1] - path[-2]).abs().max() < 1e-9
