"""What holds for every family of recursive models, and what each family says of itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import trm_verify as tv
from trm_verify.model import flatten_state, initial_state, unflatten_state
from trm_verify.models import (
    MODELS,
    CausalRefiner,
    ConfiguredModel,
    ConvRefiner,
    DeepThinking,
    GatedMaxPlanner,
    TinyRecursive,
    distance,
    iteration,
)
from trm_verify.models import Unconstrained as Published
from trm_verify.nn import BoundedLayer, cached_weights
from trm_verify.pretrained import from_pretrained, save_pretrained

SMALL = {"features": 4, "hidden": 12, "inputs": 5}
FAMILIES: dict[str, Any] = {
    "causal": lambda **k: CausalRefiner(**{"tokens": 5, "features": 3, "hidden": 6, "channels": 2, **k}),
    "causal-symbols": lambda **k: CausalRefiner(**{"tokens": 5, "features": 3, "vocabulary": 4, "reach": 2, **k}),
    "causal-passes": lambda **k: CausalRefiner(5, 3, 6, channels=2, passes=3, reach=2, **k),
    "conv": lambda **k: ConvRefiner(**{"height": 4, "width": 3, "channels": 2, "classes": 3, **SMALL, **k}),
    "conv-ordered": lambda **k: ConvRefiner(4, 3, 1, 5, **{**SMALL, "ordered": True, **k}),
    "planner": lambda **k: GatedMaxPlanner(
        **{"height": 4, "width": 3, "channels": 2, "classes": 3, "features": 4, "hidden": 5, **k}
    ),
    "planner-period": lambda **k: GatedMaxPlanner(**{"height": 4, "width": 3, "period": 2, **k}, channels=2, classes=3),
    "tiny": lambda **k: TinyRecursive(**{"positions": (5,), "channels": 2, "heads": 2, "key_size": 3, **SMALL, **k}),
    "tiny-constant": lambda **k: TinyRecursive((5,), channels=2, heads=2, mixing="constant", **SMALL, **k),
    "tiny-two": lambda **k: TinyRecursive(
        **{"positions": (2, 3), "vocabulary": 4, "inner": 2, "heads": 1, "key_size": 3, **SMALL, **k}
    ),
    "tiny-feedback": lambda **k: TinyRecursive(
        (4,), channels=2, classes=3, heads=1, key_size=3, inner=1, temperature=0.25, window=1, **SMALL, **k
    ),
    "tiny-history": lambda **k: TinyRecursive(
        (4,), channels=2, classes=3, heads=1, key_size=3, temperature=0.5, history=3, **SMALL, **k
    ),
    "tiny-damped": lambda **k: TinyRecursive((4,), channels=2, heads=1, key_size=3, damping=0.5, **SMALL, **k),
    "unconstrained": lambda **k: Published((5,), 4, 6, channels=2, **k),
    "thinking": lambda **k: DeepThinking((5,), 4, 1, channels=2, **k),
    "thinking-grid": lambda **k: DeepThinking((4, 3), 4, 2, 3, channels=2, **k),
    "unconstrained-mlp": lambda **k: Published((5,), 4, 6, vocabulary=3, mixing="mlp", **k),
}
CONTRACTING = [name for name in FAMILIES if not name.startswith(("causal", "thinking", "unconstrained"))]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(model: ConfiguredModel, rows: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random inputs of the model's domain."""
    shape = (rows, *(model.input_shape or ()))
    if model.vocabulary is not None:
        return torch.randint(0, model.vocabulary, shape, generator=generator(seed))
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def state(model: ConfiguredModel, rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Any:
    size = flatten_state(initial_state(model, drawn(model, 1, dtype=dtype))).shape[1]
    return unflatten_state(torch.randn((rows, size), generator=generator(seed), dtype=dtype), model.state_shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_configuration_seed_and_count(name):
    model = FAMILIES[name](seed=3)
    torch.manual_seed(7)
    again = type(model)(**model.config)
    assert again.config == model.config and MODELS[type(model).__name__] is type(model)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    other = FAMILIES[name](seed=4)
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert model.parameter_count == sum(p.numel() for p in model.parameters()) > 20


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loop_is_the_step_again_and_again(name):
    model = FAMILIES[name]()
    x = drawn(model)
    z = initial_state(model, x)
    states = model.trace(x, 3)
    for k in range(3):
        after = flatten_state(model.step(z, x))
        if name == "tiny-damped":
            after = 0.5 * flatten_state(z) + 0.5 * after
        assert torch.allclose(flatten_state(states[k + 1]), after, atol=1e-6)
        z = states[k + 1]
    logits = model.readout(z)
    assert logits.shape[0] == 3 and tuple(logits.shape[1:-1]) in {(5,), (4,), (2, 3), (4, 3)}


@pytest.mark.parametrize("name", FAMILIES)
def test_baking_and_saving_keep_the_function(name, tmp_path):
    model = FAMILIES[name](seed=1)
    x = drawn(model)
    save_pretrained(model, tmp_path)
    loaded, trainable = from_pretrained(tmp_path), from_pretrained(tmp_path, trainable=True)
    assert loaded.baked and not any(isinstance(m, BoundedLayer) for m in loaded.modules())
    baked = model.bake()
    with torch.no_grad():
        expected = model.readout(model.run(x, 4))
        assert torch.equal(loaded.readout(loaded.run(x, 4)), baked.readout(baked.run(x, 4)))
        assert torch.allclose(baked.readout(baked.run(x, 4)), expected, atol=1e-4)
        assert torch.equal(trainable.readout(trainable.run(x, 4)), expected)


@pytest.mark.parametrize("name", CONTRACTING)
def test_steps_contract_at_the_stated_rate(name):
    model = FAMILIES[name](rho=0.8, seed=2)
    with torch.no_grad():  # far from the initial parameters as well
        for parameter in model.parameters():
            parameter.add_(0.7 * torch.randn(parameter.shape, generator=generator(5)))
    baked = model.bake().double()
    assert baked.rate == (0.9 if name == "tiny-damped" else 0.8)
    x = drawn(baked, 64, dtype=torch.float64)
    step = iteration(baked, x)
    for seed in range(4):
        z, w = state(baked, 64, seed), state(baked, 64, seed + 50)
        for _ in range(3):
            before = distance(baked.norm, z, w)
            z, w = step(z), step(w)
            assert bool((distance(baked.norm, z, w) <= baked.rate * before * (1 + 1e-9)).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_is_trained(name):
    """Nothing in the model is without effect on the answer."""
    model = FAMILIES[name](seed=6)
    x = drawn(model, 8)
    with cached_weights(model):
        logits = model.readout(model.run(x, 4))
    (logits * torch.randn(logits.shape, generator=generator(1))).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # Softmax does not see a bias that is the same for all keys of a query.
    assert [n for n in silent if n != "attention.query.bias"] == [] or silent == ["attention.key.bias"]


@pytest.mark.parametrize("name", ["causal", "causal-symbols"])
def test_causal_models_settle_exactly_and_never_look_ahead(name):
    model = FAMILIES[name](seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # nothing contracts here
        x = drawn(model, 6)
        step = iteration(model, x)
        settled = model.run(x, 5)
        far = state(model, 6, 3, torch.float32)
        for _ in range(5):
            far = step(far)
        assert torch.equal(step(settled), settled) and torch.equal(far, settled)
        assert not torch.equal(model.run(x, 4), settled)
        for token in range(5):
            changed = x.clone()
            changed[:, token] = (changed[:, token] + 1) % 4 if model.vocabulary else 1 - changed[:, token]
            moved = (model.run(changed, 5) != settled).any(dim=-1).any(dim=0)
            assert not bool(moved[:token].any()) and bool(moved[token])


def test_passes_in_both_directions_settle_exactly_and_see_both_sides():
    model = FAMILIES["causal-passes"](seed=2)
    assert model.settles == 15 and len(model.state_shape) == 3
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # nothing contracts here
        x = drawn(model, 6)
        step = iteration(model, x)
        settled = model.run(x, 15)
        far = state(model, 6, 3, torch.float32)
        for _ in range(15):
            far = step(far)
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(settled, step(settled), far, strict=True))
        exact = FAMILIES["causal-passes"](seed=2).double()
        states = exact.trace(x.double(), 15)
        assert not torch.equal(flatten_state(states[14]), flatten_state(states[15]))
        for token in range(5):
            changed = x.clone()
            changed[:, token] = 1 - changed[:, token]
            moved = [(a != b).any(-1).any(0) for a, b in zip(model.run(changed, 15), settled, strict=True)]
            assert not bool(moved[0][:token].any()) and bool(moved[0][token])  # forwards
            assert bool(moved[1].all()) and bool(moved[2].all())  # and back


@pytest.mark.parametrize("name", [n for n in FAMILIES if n.startswith("causal")])
def test_forward_substitution_finds_where_the_loop_settles(name):
    model = FAMILIES[name](seed=4).double()
    x = drawn(model, 6, dtype=torch.float64)
    found, run = flatten_state(model.settled(x)), flatten_state(model.run(x, model.settles))
    assert torch.allclose(found, run, atol=1e-12) and model.bake().settles == model.settles


def test_models_that_do_not_settle_say_so():
    assert FAMILIES["tiny"]().settles is None
    with pytest.raises(ValueError, match="expected a model that settles exactly"):
        FAMILIES["tiny"]().settled(torch.zeros(1, 5, 2))


def test_a_planner_with_a_period_knows_rows_and_columns_modulo_that():
    model = FAMILIES["planner-period"](height=12, width=12)
    with torch.no_grad():
        model.encoder.places.copy_(torch.randn(model.encoder.places.shape, generator=generator(1)))
    blank = torch.zeros(1, 12, 12, 2)
    inside = model.step(model.zero_state(blank), blank)[0, :, 3:9, 3:9]  # far from the edge
    assert torch.allclose(inside[:, :4, :4], inside[:, 2:, 2:], atol=1e-6)
    assert not torch.allclose(inside[:, :5], inside[:, 1:]) and not torch.allclose(inside[..., :5], inside[..., 1:])
    assert model.at(height=5, width=7).input_shape == (5, 7, 2)


def test_the_same_weights_at_other_sizes():
    for name, size in [("causal", {"tokens": 9}), ("planner", {"height": 6, "width": 7}), ("conv", {"width": 8})]:
        model = FAMILIES[name](seed=3)
        with torch.no_grad():
            next(model.parameters()).add_(0.1)
        larger = model.at(**size)
        assert larger.input_shape != model.input_shape
        before, after = model.bake().state_dict(), larger.bake().state_dict()
        assert before.keys() == after.keys() and all(torch.equal(v, after[k]) for k, v in before.items())
        assert all(torch.equal(v, model.bake().at(**size).state_dict()[k]) for k, v in after.items())
        assert larger.run(drawn(larger), 2).shape[0] == 3
        with torch.no_grad():
            next(model.parameters()).add_(0.1)
        assert not torch.equal(next(larger.parameters()), next(model.parameters()))
        shared = model.at(shared=True, **size)
        assert all(p is q for p, q in zip(model.parameters(), shared.parameters(), strict=True))


def test_a_causal_model_answers_prefixes_alike_at_every_length():
    model = FAMILIES["causal"](seed=1)
    longer = model.at(tokens=9)
    x = drawn(longer)
    with torch.no_grad():
        assert torch.allclose(longer.run(x, 9)[:, :5], model.run(x[:, :5], 5), atol=1e-6)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="train a model of that size"):
        FAMILIES["tiny"]().at(positions=[6])
    with pytest.raises(ValueError, match="arguments among"):
        FAMILIES["tiny"]().at(tokens=6)
    with pytest.raises(ValueError, match="train a model of that size"):
        FAMILIES["causal"]().at(features=7)


@pytest.mark.parametrize("mixing", ["attention", "constant"])
def test_the_answer_of_a_token_depends_on_the_others(mixing):
    model = TinyRecursive((5,), channels=2, heads=2, mixing=mixing, **SMALL)
    x = drawn(model, 4)
    changed = x.clone()
    changed[:, 4] = 1 - changed[:, 4]
    with torch.no_grad():
        assert bool((model.run(x, 3)[:, 0] != model.run(changed, 3)[:, 0]).any())


def test_a_window_hides_what_is_far_away():
    model = TinyRecursive((6,), channels=2, heads=2, window=1, **SMALL)
    x = drawn(model, 4)
    changed = x.clone()
    changed[:, 5] = 1 - changed[:, 5]
    with torch.no_grad():
        near, far = (model.run(x, k) != model.run(changed, k) for k in (3, 6))
    assert not bool(near[:, :3].any())  # three steps of one token
    assert bool(far[:, 0].any())


def test_earlier_answers_wait_in_the_state():
    model = FAMILIES["tiny-history"](seed=3)
    x = drawn(model)
    states = [model.init(x)]
    for _ in range(4):
        states.append(model.step(states[-1], x))
    for before, after in zip(states[1:], states[2:], strict=False):
        answer = torch.softmax(model.feedback(before[0]) / model.temperature, dim=-1)
        torch.testing.assert_close(after[1], 2 * model.temperature * model.rate * answer)
        torch.testing.assert_close(after[2], model.rate * before[1])
    forgetful = FAMILIES["tiny-history"](seed=3)
    with torch.no_grad():
        moved = model.step((states[-1][0], states[-1][1], states[-1][2] + 0.5), x)[0]
        same = forgetful.step(states[-1], x)[0]
    assert not torch.equal(moved, same)  # the oldest answer is seen


def test_the_temperature_of_fed_back_answers_enters_the_gains():
    cold, warm = (TinyRecursive((3,), channels=1, temperature=t, **SMALL) for t in (0.1, 1.0))
    assert cold.mixer.gains[:-1] == warm.mixer.gains[:-1]
    assert cold.mixer.gains[-1] == pytest.approx(0.1 * warm.mixer.gains[-1])
    # softmax(C z / τ) moves by at most 1/(2τ): what it contributes is the same share of rho² at every temperature
    assert cold.mixer.gains[-1] / (2 * 0.1) == pytest.approx(0.9 / 2**0.5)


def test_ordered_classes_are_one_number_rounded():
    model = FAMILIES["conv-ordered"]()
    z = model.run(drawn(model, 8), 3)
    with torch.no_grad():
        model.head.weight.mul_(3)
        value = model.head(z)[..., 0]
        nearest = (value.clamp(0, 1) * 4).round().long()
        assert torch.equal(model.readout(z).argmax(dim=-1), nearest)
        assert len(nearest.unique()) > 2
        logits, weight = model.readout(z), model.head_weight
        other = torch.randn(z.shape, generator=generator(2))
        moved = model.readout(z + other) - logits
        assert torch.allclose(moved, other @ weight.T, atol=1e-3)


BAD = {
    "causal": [
        {"tokens": 0}, {"reach": 0}, {"passes": 0}, {"bound": "relu"}, {"classes": 1}, {"channels": None},
        {"vocabulary": 3},
    ],
    "conv": [{"height": 0}, {"rho": 1.0}, {"classes": 1}, {"act": "sin"}],
    "planner": [{"rho": 0.0}, {"period": 0}, {"rho": float("nan")}, {"layers": 0}, {"classes": 1}],
    "tiny": [
        {"rho": 1.0}, {"heads": 0}, {"inner": -1}, {"mixing": "other"}, {"temperature": 0.0}, {"damping": 2.0},
        {"history": 2}, {"window": -1}, {"window": 1, "mixing": "constant"}, {"positions": ()}, {"channels": 0},
        {"act": "abs"},
    ],
    "unconstrained": [{"heads": 3}, {"mixing": "conv"}, {"inner": 0}, {"classes": 1}],
}  # fmt: skip


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, all_ in BAD.items() for wrong in all_])
def test_arguments_out_of_range_are_refused(name, wrong):
    with pytest.raises(ValueError, match="expected"):
        FAMILIES[name](**wrong)


@pytest.mark.parametrize(
    ("family", "shape", "vocabulary", "wanted"),
    [
        ("CausalRefiner", (7, 2), None, {"tokens": 7, "channels": 2, "vocabulary": None}),
        ("CausalRefiner", (7,), 5, {"tokens": 7, "channels": None, "vocabulary": 5}),
        ("TinyRecursive", (4, 3, 2), None, {"positions": [4, 3], "channels": 2, "vocabulary": None}),
        ("Unconstrained", (4, 3), 6, {"positions": [4, 3], "channels": None, "vocabulary": 6}),
        ("GatedMaxPlanner", (4, 3, 2), None, {"height": 4, "width": 3, "channels": 2}),
        ("ConvRefiner", (4, 3, 2), None, {"height": 4, "width": 3, "channels": 2}),
        ("SandwichRefiner", (9,), None, {"inputs": 9}),
    ],
)
def test_inputs_decide_the_arguments(family, shape, vocabulary, wanted):
    assert MODELS[family].arguments(shape, vocabulary) == wanted


@pytest.mark.parametrize(
    ("family", "shape", "vocabulary"),
    [("CausalRefiner", (4, 3, 2), None), ("TinyRecursive", (4,), None), ("ConvRefiner", (4, 3), 2),
     ("GatedMaxPlanner", (4, 3), None), ("SandwichRefiner", (4, 2), None), ("MonotoneEquilibrium", (4,), None)],
)  # fmt: skip
def test_inputs_that_a_family_does_not_take(family, shape, vocabulary):
    with pytest.raises(ValueError, match="expected"):
        MODELS[family].arguments(shape, vocabulary)


PROVED = {
    "planner": (lambda: FAMILIES["planner"](seed=4), 0.9),
    "tiny": (lambda: FAMILIES["tiny"](seed=1), 0.93),
    "tiny-constant": (lambda: FAMILIES["tiny-constant"](seed=1), 0.93),
    "tiny-two": (lambda: FAMILIES["tiny-two"](seed=1), 0.93),
    "tiny-feedback": (lambda: TinyRecursive((4,), channels=2, heads=1, temperature=0.5, **SMALL), 0.95),
    "tiny-history": (lambda: FAMILIES["tiny-history"](seed=1), 0.95),
    "tiny-damped": (lambda: FAMILIES["tiny-damped"](seed=1), 0.97),
}


@pytest.mark.parametrize("name", PROVED)
def test_the_stated_rule_proves_the_family(name):
    make, most = PROVED[name]
    norm = "linf" if name == "planner" else "tokens"
    result = tv.verify_fixed_point(make(), norm=norm)
    assert result.verdict is tv.PROVED and result.rate <= most, result.explain()


def test_what_is_not_bounded_is_not_proved():
    model = FAMILIES["unconstrained-mlp"](seed=1)
    assert tv.verify_fixed_point(model, norm="linf").verdict is not tv.PROVED
    wide = FAMILIES["tiny"](seed=1).bake()
    with torch.no_grad():
        wide.mixer.outer.weight.mul_(3)
    assert tv.verify_fixed_point(wide, norm="tokens").verdict is not tv.PROVED
