from __future__ import annotations

import pytest
import torch

from tests.train.toys import causal, largest, parity, refiner
from trm_verify.models import CausalRefiner, LogNormEquilibrium, TinyRecursive
from trm_verify.train import train
from trm_verify.train.objectives import cross_entropy
from trm_verify.train.unrolling import fixed_point, jacobian_norm, readouts, recalled, unrolled

STEPS = 7


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def close(first, second, tolerance=1e-5):
    return all(torch.allclose(g, second[n], atol=tolerance) for n, g in first.items())


def case(name):
    if name == "refiner":
        return refiner(features=5), largest().train.x[:8], largest().train.y[:8]
    if name == "causal":
        return causal(), parity().train.x[:8], parity().train.y[:8]
    model = TinyRecursive((6,), 4, 10, 5, channels=1, heads=1, key_size=3, inner=2, temperature=0.5)
    return model, parity().train.x[:8], parity().train.y[:8]


@pytest.mark.parametrize("name", ["refiner", "causal", "tiny"])
def test_the_phantom_gradient_of_all_recursions_is_the_full_gradient(name):
    model, x, y = case(name)
    found = {}
    for gradient in ("full", STEPS, STEPS + 3, 1):
        logits, _ = readouts(model, x, STEPS, gradient=gradient)
        found[gradient] = gradients(model, cross_entropy(logits[-1], y))
    assert close(found["full"], found[STEPS], 0) and close(found["full"], found[STEPS + 3], 0)
    assert not close(found["full"], found[1])


def test_the_phantom_gradient_is_that_of_the_last_recursions_from_a_detached_state():
    model, x, y = case("refiner")
    with torch.no_grad():
        z = model.run(x, STEPS - 2)
    for _ in range(2):
        z = model.step(z, x)
    expected = gradients(model, cross_entropy(model.readout(z), y))
    logits, state = readouts(model, x, STEPS, gradient=2)
    assert len(logits) == 2 and torch.equal(state, z)
    assert close(gradients(model, cross_entropy(logits[-1], y)), expected, 0)


@pytest.mark.parametrize(("gradient", "first"), [("full", 4), (5, 4), (2, 6)])
def test_supervision_begins_where_it_is_said_to(gradient, first):
    """Of 7 iterates z_1 … z_7, `supervise_from=0.5` leaves z_4 … z_7, and a detached start leaves fewer."""
    model, x, _ = case("refiner")
    logits, _ = readouts(model, x, STEPS, supervise_from=0.5, gradient=gradient)
    states = model.trace(x, STEPS)
    assert len(logits) == STEPS - first + 1
    for values, z in zip(logits, states[first:], strict=True):
        assert torch.equal(values, model.readout(z))


@pytest.mark.parametrize("name", ["refiner", "causal", "tiny"])
def test_the_implicit_gradient_is_the_limit_of_the_full_one(name):
    model, x, y = case(name)
    model = model.double()
    x = x.double()
    full = gradients(model, cross_entropy(model.readout(unrolled(model, x, 300)[-1]), y))
    z = fixed_point(model, x, 300)
    assert close(gradients(model, cross_entropy(model.readout(z), y)), full, 1e-5)
    assert max(float(g.abs().max()) for g in full.values()) > 1e-2
    logits, _ = readouts(model, x, 300, gradient="implicit")
    assert len(logits) == 1
    one = gradients(model, cross_entropy(readouts(model, x, 300, gradient=1)[0][-1], y))
    assert name == "causal" or not close(one, full, 1e-4)


def test_the_settled_gradient_is_the_full_one_of_a_causal_model():
    x, y = parity().train.x[:8].double(), parity().train.y[:8]
    for model in (causal(), CausalRefiner(6, 4, 8, channels=1, passes=2)):
        model = model.double()
        logits, z = readouts(model, x, 1, gradient="settled")
        found = gradients(model, cross_entropy(logits[-1], y))
        full, _ = readouts(model, x, model.settles)
        assert len(logits) == 1 and torch.equal(model.readout(z), logits[0])
        assert close(found, gradients(model, cross_entropy(full[-1], y)), 1e-12)
    with pytest.raises(ValueError, match="settles exactly"):
        readouts(case("tiny")[0], x.float(), 4, gradient="settled")


def test_a_run_with_the_settled_gradient_learns():
    model = causal()
    result = train(model, parity(), epochs=60, batch_size=8, lr=0.02, gradient="settled", flatness=0.1)
    assert result.best_validation is not None and result.best_validation > 0.5
    with pytest.raises(ValueError, match="settles exactly"):
        train(refiner(), largest(), epochs=1, batch_size=8, gradient="settled")


def test_without_gradients_the_fixed_point_is_the_last_iterate():
    model, x, _ = case("tiny")
    with torch.no_grad():
        last, found = model.run(x, 9), fixed_point(model, x, 8)
    assert all(torch.equal(a, b) for a, b in zip(last, found, strict=True))


def test_an_implicit_model_has_one_readout():
    model = LogNormEquilibrium(4, 3, 3)
    x = largest().train.x[:8]
    logits, state = readouts(model, x, 5)
    assert state is None and len(logits) == 1 and torch.allclose(logits[0], model.logits(x))


def test_recall_goes_on_from_a_detached_state():
    model, x, y = case("refiner")
    logits = recalled(model, x, 3, 4)
    assert torch.allclose(logits, model.readout(model.run(x, 7)))
    phantom, _ = readouts(model, x, 7, gradient=4)
    first = gradients(model, cross_entropy(logits, y))
    assert close(first, gradients(model, cross_entropy(phantom[-1], y)), 0)


def test_the_jacobian_estimate_is_unbiased_and_differentiable():
    model, x, _ = case("refiner")
    z = model.run(x, 3).detach()
    exact = torch.func.vmap(torch.func.jacrev(lambda s, e: model.step(s[None], e[None])[0]))(z, x)
    wanted = float(exact.detach().square().sum(dim=(1, 2)).mean() / z.shape[1])
    source = torch.Generator().manual_seed(0)
    drawn = [float(jacobian_norm(model, x, z, source).detach()) for _ in range(400)]
    mean = sum(drawn) / len(drawn)
    assert abs(mean - wanted) < 0.1 * wanted
    assert max(float(g.abs().max()) for g in gradients(model, jacobian_norm(model, x, z, source)).values()) > 0
