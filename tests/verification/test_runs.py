"""The audit of one inference: distances, drifts and the final answer, against what the model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.small import autonomous, gate_model, iterates, tanh_model
from trm_verify.export import export
from trm_verify.provers.answers import NotFinal

X = torch.tensor([0.25, -0.5, 0.125])


@pytest.fixture(scope="module")
def run() -> Any:
    return tv.audit(tanh_model(), X, steps=25)


def test_the_shapes_of_a_run(run: Any) -> None:
    assert run.states.shape == (26, 5) and run.residuals.shape == (25,)
    assert run.distances.shape == run.drifts.shape == (26,) and len(run.answers) == 26
    assert run.radius == run.distances[-1] and run.answers[-1] == run.answer


def test_distances_and_drifts_bound_the_true_ones(run: Any) -> None:
    model = tanh_model()
    exact = iterates(model, X[None], 3000)[-1, 0].numpy()  # in float64, whose own error is far below float32's
    away = np.abs(run.states - exact).max(axis=1)
    assert np.all(away <= run.distances + 1e-13)
    assert run.radius < 1e-5 and np.all(np.diff(run.distances[:10]) < 0)
    states = torch.from_numpy(run.states)
    after = model.step(states[:-1], X.double().expand(25, 3)).detach().numpy()
    assert np.all(np.abs(run.states[1:] - after).max(axis=1) <= run.drifts[1:] + 1e-13)
    assert run.drifts[0] == 0 and 0 < run.drifts.max() < 1e-6, "float32 steps are not exact"


def test_the_answer_is_final(run: Any) -> None:
    model = tanh_model()
    path = iterates(model, X[None], 500)
    assert torch.all(model.readout(path[run.final :]).argmax(-1) == run.answer[0])
    assert all(a == run.answer for a in run.answers[run.final :])
    assert 0 < run.rate < 1 and run.norm == "l2"


def test_the_certificate_stands_on_its_own(run: Any) -> None:
    model = tanh_model()
    weights = export(model).to_bytes()
    expected = tv.claims.Run(
        answer=run.answer, radius=run.radius, drift=run.drifts.max(), final=run.final, domain=tv.Box.point(X)
    )
    tv.check(run.certificate, weights, expect=expected, model=model)
    for wrong in (
        tv.claims.Run(radius=run.radius / 2), tv.claims.Run(answer=(run.answer[0] + 1) % 4),
        tv.claims.Run(drift=run.drifts.max() / 2), tv.claims.Run(domain=tv.Box.point(-X)),
    ):  # fmt: skip
        with pytest.raises(tv.CheckError, match="EXPECTED"):
            tv.check(run.certificate, weights, expect=wrong)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: tanh_model(dtype=torch.float64), X.double()),
        (lambda: tanh_model(dtype=torch.bfloat16), X.bfloat16()),
        (lambda: tanh_model(iteration=tv.Damped(0.5)), X),
        (lambda: tanh_model(norm=0.3, iteration=tv.Damped([0.5, 0.25, 1, 0.5, 0.75])), X.numpy()),
        (lambda: gate_model(), torch.tensor([0.5, 0.25])),
        (lambda: autonomous(lambda z: 1 - 2 * z + 0, 2, iteration=tv.Damped(0.25), readout=two), None),
        (lambda: autonomous(torch.cos, 2, readout=two), None),
    ],
    ids=["float64", "bfloat16", "damped", "damped by coordinate", "facts at x", "log-norm", "region"],
)
def test_models_of_every_kind(make: Any, x: Any) -> None:
    model = make()
    arguments = {"region": tv.Box(0, 1)} if x is None and model.iteration == "picard" else {}
    run = tv.audit(model, x, steps=60, **arguments)
    assert run.answers[-1] == run.answer and run.radius <= 0.2
    tv.check(run.certificate, export(model).to_bytes(), expect=tv.claims.Run(answer=run.answer), model=model)


def two(z: torch.Tensor) -> torch.Tensor:
    return z * torch.tensor([1.0, 2.0])


def test_the_dottie_number() -> None:
    model = autonomous(torch.cos, readout=lambda z: torch.cat([z, 1 - z], dim=1)).double()
    run = tv.audit(model.double(), steps=120, region=tv.Box(0, 1))
    assert run.answer == (0,) and run.radius <= 1e-5
    assert abs(run.states[-1, 0] - 0.7390851332151607) <= run.radius + 1e-16


def test_integer_inputs() -> None:
    table = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    model = tv.recursive(
        lambda z, x: z / 2 + torch.nn.functional.embedding(x, table), state_shape=(2, 4), input_shape=(2,),
        vocabulary=5, readout=lambda z: z,
    )  # fmt: skip
    run = tv.audit(model, np.array([1, 3]))
    assert run.answer == tuple(table[[1, 3]].argmax(1).tolist())


@pytest.mark.parametrize(
    ("model", "x", "arguments", "message"),
    [
        (tanh_model, X, {"steps": 0}, "steps >= 1"),
        (tanh_model, X, {"steps": 2.5}, "steps >= 1"),
        (tanh_model, None, {}, "expected one input"),
        (tanh_model, X[None], {}, "found a batch"),
        (tanh_model, torch.zeros(4), {}, "expected x of shape"),
        (tanh_model, X * float("nan"), {}, "finite numbers in x"),
        (tanh_model, X * 9, {}, "outside"),
        (tanh_model, tv.Box(0, 1), {}, "binary fractions"),
        (tanh_model, X, {"norm": "l9"}, "found 'l9'"),
        (tanh_model, X, {"region": (-2, 2)}, "region as a Box"),
        (lambda: tanh_model(readout=False), X, {}, "no answer to audit"),
        (lambda: tanh_model(iteration="implicit"), X, {}, "says how it is iterated"),
        (lambda: gate_model(), torch.ones(2), {}, "convergence can be proved"),
        (lambda: autonomous(torch.cos, 2, readout=two), X, {}, "the model has no input"),
    ],
)
def test_what_cannot_be_audited_is_refused(model: Any, x: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tv.audit(model(), x, **arguments)


def test_an_answer_that_is_not_final_yet_is_refused() -> None:
    with pytest.raises(tv.CheckError, match="MARGIN"):
        tv.audit(tanh_model(norm=0.9), X, steps=1)


# loops that settle


def causal(**changes: Any) -> tv.models.CausalRefiner:
    sizes = {"tokens": 40, "features": 8, "hidden": 12, "channels": 2, "seed": 3}
    return tv.models.CausalRefiner(**{**sizes, **changes})


def rules(run: Any) -> list[str]:
    return [step["rule"] for step in run.certificate.predicate["steps"]]


@pytest.mark.parametrize("bound", ["tanh", "hardtanh"])
def test_a_loop_that_settles_without_a_rate_is_audited_by_its_end(bound: str) -> None:
    model = causal(bound=bound)
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    run = tv.audit(model, x)
    assert run.rate is None and run.settles == 40 and run.norm == "linf" and len(run.states) == 41
    assert rules(run)[-2:] == ["invariant_box", "settled_run"]
    assert run.final < 20, "long before the last part has settled"
    assert run.final <= tv.audit(model, x, steps=25).final, "more steps leave it as early as fewer do"
    exact = iterates(model, x[None], 40)[-1, 0].numpy().ravel()
    assert np.all(np.abs(run.states - exact).max(axis=1) <= run.distances + 1e-12) and run.radius < 1e-5
    assert run.answer == tuple(model.double().readout(model.settled(x[None].double()))[0].argmax(-1).tolist())
    expected = tv.claims.Run(answer=run.answer, radius=run.radius, final=run.final, drift=run.drifts.max(), norm="linf")
    weights = export(causal(bound=bound)).to_bytes()
    tv.check(run.certificate, weights, expect=[expected, tv.claims.Settles(steps=40)], model=causal(bound=bound))
    with pytest.raises(tv.CheckError, match="EXPECTED"):
        tv.check(run.certificate, weights, expect=tv.claims.Run(final=run.final - 1))


def steep(tokens: int, factor: int) -> tuple[Any, torch.Tensor]:
    """z_t ← clamp(factor · z_{t−1} − x_t), and an input for which entry t settles at (−1)ᵗ/1024: read as the sign."""
    signs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    pad = torch.nn.functional.pad
    model = tv.recursive(
        lambda z, x: (factor * pad(z[:, :-1], (0, 0, 1, 0)) - x).clamp(-1, 1), state_shape=(tokens, 1),
        input_shape=(tokens, 1), readout=lambda z: torch.nn.functional.linear(z, signs),
    )  # fmt: skip
    ends = [(-1.0) ** t / 1024 for t in range(tokens)]
    x = torch.tensor([[factor * a - b] for a, b in zip([0.0, *ends], ends, strict=False)], dtype=torch.float64)
    return model.double(), x


def test_where_no_box_holds_it_the_last_state_is_followed() -> None:
    model, x = steep(9, 500)
    run = tv.audit(model, x)
    assert "invariant_box" not in rules(run) and rules(run)[-1] == "settled_run"
    assert run.answer == tuple(t % 2 for t in range(9)) and run.final == 9 and run.radius == 0
    assert len(run.states) == 31, "the usual number of steps, which is more than it needs"
    with pytest.raises(NotFinal, match="MARGIN") as refused:
        tv.audit(model, x, steps=5)
    assert refused.value.remedy.startswith("run 9 steps")


def test_a_loop_whose_exact_iterates_grow_too_long_is_left_open() -> None:
    """z_t ← 4 z_{t−1}(1 − z_{t−1}) from x: every part doubles the digits of the one before."""

    def step(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        before = torch.cat([x, z[:, :-1]], dim=1)
        return 4 * before * (1 - before)

    model = tv.recursive(
        step, state_shape=(170,), input_shape=(1,), domain=tv.Box(0, 1),
        readout=lambda z: torch.stack([z[:, -1], 0 * z[:, -1] + 0.5], dim=1),
    )  # fmt: skip
    with pytest.raises(NotFinal):
        tv.audit(model.double(), torch.tensor([0.3], dtype=torch.float64))


def test_a_float_trace_that_ends_elsewhere_is_not_final() -> None:
    """Doubles lose a factor of 500 a token after six tokens: the exact loop goes on to another answer."""
    model, x = steep(24, 500)
    noisy = x.clone()
    noisy[0, 0] += 2.0**-45  # the exact loop leaves (−1)ᵗ/1024 behind, too, and every double of it is exact no longer
    for given in (x.float().double() + 2.0**-30, noisy):
        exact = tv.verify_fixed_point(model, given).answer
        try:
            assert tv.audit(model, given).answer == exact
        except NotFinal as error:
            assert error.code == "MARGIN" and "rounding" in error.remedy


def test_the_end_is_preferred_to_a_rate_in_a_norm_of_enormous_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighted ℓ∞ gives a chain any rate, and distances that say nothing; where the end does not do, the rate may."""
    chain = tv.recursive(
        lambda z: torch.nn.functional.pad(8 * z[:, :-1], (1, 0)) + torch.tensor([0.25, -1.0, -1.0]),
        state_shape=(3,), readout=lambda z: torch.stack([z[:, 2], 0 * z[:, 2] + 3], dim=1),
    ).double()  # fmt: skip
    whole = tv.verify_fixed_point(chain)
    assert whole.rate is not None and whole.norm == "weighted_linf"
    run = tv.audit(chain, steps=4)
    assert rules(run)[-1] == "settled_run" and (run.rate, run.norm, run.settles) == (None, "linf", 3)
    assert run.distances.tolist() == [7, 8, 16, 0, 0] and run.final == 3

    def refused(*arguments: Any) -> Any:
        raise NotFinal(tv.CheckError("MARGIN", "margins", "none"), "run more steps")

    monkeypatch.setattr("trm_verify.verification.runs.prove_settled_run", refused)
    by_rate = tv.audit(chain, steps=4)
    assert rules(by_rate)[-1] == "run" and by_rate.rate == whole.rate and by_rate.distances[0] > 1e20
