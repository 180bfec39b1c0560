"""Baking, gradients, caching, seeds and refusals, layer by layer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trm_verify.nn import (
    ACTIVATIONS,
    BoundedLayer,
    Gated,
    L2Conv2d,
    LinfConv2d,
    LinfLinear,
    MaxMin,
    OrthogonalLinear,
    Proof,
    ResidualAveraged,
    RowStochasticMixing,
    SandwichBlock,
    SandwichStep,
    activation,
    bake,
    cached_weights,
    cayley,
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(sum(shape)))


LAYERS = {
    "sandwich": (lambda **k: SandwichStep(6, 10, 3, 0.8, **k), (random(4, 6), random(4, 3))),
    "sandwich_autonomous": (lambda **k: SandwichStep(6, 10, act="tanh", **k), (random(4, 6),)),
    "sandwich_no_offset": (
        lambda **k: SandwichStep(6, 10, 3, 0.8, offset=False, **k),
        (random(4, 6), random(4, 3)),
    ),
    "sandwich_block": (
        lambda **k: SandwichBlock(5, 10, (6, 3), gains=(0.8, 0.2), **k),
        (random(4, 6), random(4, 3)),
    ),
    "linf": (lambda **k: LinfLinear(6, 5, 0.9, **k), (random(4, 6),)),
    "linf_conv": (lambda **k: LinfConv2d(2, 3, 3, 0.9, padding=1, **k), (random(4, 2, 5, 5),)),
    "orthogonal": (lambda **k: OrthogonalLinear(6, 5, 0.9, **k), (random(4, 6),)),
    "l2_conv": (lambda **k: L2Conv2d(2, 3, 3, 0.9, padding=1, **k), (random(4, 2, 5, 5),)),
    "mixing": (
        lambda **k: RowStochasticMixing(6, 3, bound=0.9, heads=2, **k),
        (random(4, 5, 6), random(4, 5, 3)),
    ),
    "averaged": (
        lambda **k: ResidualAveraged(SandwichStep(6, 10, 3, 0.8, **k), 0.3),
        (random(4, 6), random(4, 3)),
    ),
    "gated": (
        lambda **k: Gated(LinfLinear(6, 6, 0.9, **k), 3, 6, **k),
        (random(4, 6), random(4, 3)),
    ),
}
EVERY = pytest.mark.parametrize("name", LAYERS)


@EVERY
def test_bake_equals_forward_and_holds_plain_tensors_only(name):
    make, inputs = LAYERS[name]
    layer = make(generator=generator(1))
    baked = layer.bake()
    assert not any(isinstance(module, BoundedLayer) for module in baked.modules())
    assert all(p.is_contiguous() and not p.requires_grad for p in baked.parameters())
    assert torch.allclose(baked(*inputs), layer(*inputs), rtol=1e-4, atol=1e-4)
    assert not torch.equal(baked(*inputs), torch.zeros_like(baked(*inputs)))


@EVERY
def test_baking_again_gives_the_same_bits_and_leaves_the_layer_alone(name):
    make, _ = LAYERS[name]
    layer = make(generator=generator(1))
    before = copy.deepcopy(layer.state_dict())
    first, second = layer.bake().state_dict(), layer.bake().state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    after = layer.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for value in layer.bake().parameters():
        value.data.fill_(7)
    assert all(torch.equal(before[key], after[key]) for key in before)


@EVERY
def test_gradients_reach_every_parameter(name):
    make, inputs = LAYERS[name]
    layer = make(generator=generator(2))
    z = inputs[0].clone().requires_grad_()
    layer(z, *inputs[1:]).square().sum().backward()
    assert z.grad is not None and z.grad.abs().max() > 0
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, key


@EVERY
def test_weights_depend_on_the_generator_alone(name):
    make, _ = LAYERS[name]
    torch.manual_seed(1)
    first = make(generator=generator(3)).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = make(generator=generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    second.bake()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], value) for key, value in second.state_dict().items())
    other = make(generator=generator(4)).state_dict()
    assert not all(torch.equal(first[key], other[key]) for key in first)


@EVERY
def test_dtype_and_default_generator(name):
    make, inputs = LAYERS[name]
    layer = make(dtype=torch.float64)
    assert all(p.dtype == torch.float64 for p in layer.parameters())
    doubles = [value.double() for value in inputs]
    assert layer(*doubles).dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in layer.bake().parameters())
    assert torch.allclose(layer.bake()(*doubles), layer(*doubles), rtol=1e-11, atol=1e-11)
    default, zero = make().state_dict(), make(generator=None).state_dict()
    assert all(torch.equal(default[key], zero[key]) for key in default)


@EVERY
def test_caching_changes_no_value_and_no_gradient(name):
    make, inputs = LAYERS[name]
    layer = make(generator=generator(5))
    plain = layer(*inputs)
    plain.sum().backward()
    expected = {key: p.grad.clone() for key, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    with cached_weights(layer):
        layer(*inputs)
        cached = layer(*inputs)
        cached.sum().backward()
    assert torch.equal(plain, cached)
    for key, parameter in layer.named_parameters():
        if key in expected:
            assert torch.allclose(parameter.grad, expected[key], atol=1e-6), key
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(layer(*inputs), cached)


def test_cached_weights_are_computed_once_and_nesting_is_refused():
    layer = OrthogonalLinear(3, 3, generator=generator(0))
    with cached_weights(layer):
        assert layer.current_weights()[0] is layer.current_weights()[0]
        with pytest.raises(RuntimeError, match="do not nest"), cached_weights(layer):
            pass
    assert layer.current_weights()[0] is not layer.current_weights()[0]


def test_a_second_context_sees_changed_parameters():
    layer, z = OrthogonalLinear(3, 3, generator=generator(0)), random(2, 3)
    with cached_weights(layer):
        before = layer(z)
    with torch.no_grad():
        layer.free.add_(1.0)
    with cached_weights(layer):
        after = layer(z)
    assert not torch.equal(before, after)
    assert torch.equal(after, layer(z))


def test_proofs_name_rule_norm_and_bound():
    assert SandwichStep(2, 3, rho=0.7).proof == Proof("metric_contraction", "l2", 0.7)
    assert LinfLinear(2, 2, 0.5).proof == Proof("radius_contraction", "linf", 0.5)
    assert LinfConv2d(2, 2, 3).proof == Proof("radius_contraction", "linf", 1.0)
    assert OrthogonalLinear(2, 2).proof == Proof("radius_contraction", "l2", 1.0)
    assert L2Conv2d(2, 2, 3, 0.5).proof == Proof("radius_contraction", "l2", 0.5)
    assert RowStochasticMixing(2, 2).proof == Proof("radius_contraction", "tokens_l2", 1.0)
    averaged = ResidualAveraged(OrthogonalLinear(2, 2, 0.5), 0.25)
    assert averaged.proof == Proof("radius_contraction", "l2", 0.875)
    assert Gated(averaged, 2, 2).proof == averaged.proof


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 1), (4, 1)])
def test_cayley_gives_orthonormal_frames(shape):
    frame = cayley(torch.randn(shape, generator=generator(0), dtype=torch.float64))
    assert frame.shape == shape
    tall = frame if shape[0] >= shape[1] else frame.T
    identity = torch.eye(min(shape), dtype=torch.float64)
    assert torch.allclose(tall.T @ tall, identity, atol=1e-12)


@pytest.mark.parametrize(("shape", "scale"), [((44, 40), 1e4), ((41, 40), 1e6), ((40, 41), 1e6)])
def test_exact_frames_survive_huge_parameters(shape, scale):
    """The Cayley solve alone is off by 1e-11 in the first case and by 1e-4 in the others."""
    layer = OrthogonalLinear(shape[1], shape[0], dtype=torch.float64, generator=generator(0))
    with torch.no_grad():
        layer.free.copy_(torch.randn(shape, generator=generator(0), dtype=torch.float64) * scale)
    (weight,) = layer.weights(exact=True)
    tall = weight if shape[0] > shape[1] else weight.T
    assert float((tall.T @ tall - torch.eye(40, dtype=torch.float64)).abs().max()) < 1e-13


def test_bake_of_a_whole_module_replaces_every_bounded_layer_and_keeps_sharing():
    shared = OrthogonalLinear(4, 4, 0.9, generator=generator(0))
    module = nn.Sequential(shared, nn.Tanh(), nn.Sequential(shared), ResidualAveraged(shared, 0.5), nn.Linear(4, 2))
    z = random(3, 4)
    baked = bake(module)
    assert not any(isinstance(m, BoundedLayer) for m in baked.modules())
    assert baked[0] is baked[2][0]
    assert torch.allclose(baked(z), module(z), atol=1e-5)
    assert isinstance(module[0], OrthogonalLinear) and module.training and not baked.training
    assert all(p.requires_grad for p in module.parameters())
    again = bake(baked)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in baked.state_dict().items())


def test_averaging_factor_is_exact_in_float32():
    layer = ResidualAveraged(OrthogonalLinear(2, 2), 0.1)
    for factor in (layer.alpha, 1.0 - layer.alpha):
        assert float(torch.tensor(factor, dtype=torch.float32)) == factor
    assert abs(layer.alpha - 0.1) < 1e-6
    z = random(1, 2)
    assert torch.equal(ResidualAveraged(nn_identity(), 1.0)(z), z)


def nn_identity() -> nn.Module:
    layer = nn.Identity()
    layer.proof = Proof("radius_contraction", "l2", 1.0)
    return layer


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5, float("nan"), 1e-9])
def test_averaging_factor_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        ResidualAveraged(OrthogonalLinear(2, 2), alpha)


def test_wrappers_refuse_what_they_cannot_vouch_for():
    with pytest.raises(TypeError, match="`proof`"):
        ResidualAveraged(nn.Linear(2, 2), 0.5)
    with pytest.raises(TypeError, match="`proof`"):
        Gated(nn.Linear(2, 2), 2, 2)
    with pytest.raises(ValueError, match="metric_contraction"):
        Gated(SandwichStep(2, 3), 2, 2)


def test_gate_never_expands():
    layer = Gated(LinfLinear(5, 5, 0.9, generator=generator(0)), 3, 5, generator=generator(1))
    with torch.no_grad():
        layer.gate.weight.mul_(100)
    baked = layer.bake().double()
    z, w, x = random(64, 5).double(), random(64, 5).double() * 2 + 1, random(64, 3).double() * 10
    ratio = (baked(z, x) - baked(w, x)).abs().amax(1) / (z - w).abs().amax(1)
    assert 0.1 < float(ratio.max()) <= 0.9


def test_gate_can_hand_the_input_to_its_layer():
    inner = RowStochasticMixing(4, 3, generator=generator(0))
    layer = Gated(inner, 3, 4, inner_input=True, generator=generator(1))
    z, x = random(2, 5, 4), random(2, 5, 3)
    expected = torch.sigmoid(layer.gate(x)) * inner(z, x) + layer.shift(x)
    assert torch.equal(layer(z, x), expected)
    assert torch.allclose(layer.bake()(z, x), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "make",
    [
        lambda b: LinfLinear(2, 2, b),
        lambda b: LinfConv2d(2, 2, 3, b),
        lambda b: OrthogonalLinear(2, 2, b),
        lambda b: L2Conv2d(2, 2, 3, b),
        lambda b: RowStochasticMixing(2, 2, bound=b),
        lambda b: SandwichStep(2, 3, rho=b),
    ],
)
def test_bounds_must_be_positive_and_finite(make, bad):
    with pytest.raises(ValueError, match="positive finite"):
        make(bad)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_norm_weights_must_be_strictly_positive(weights):
    with pytest.raises(ValueError, match="strictly positive"):
        LinfLinear(2, 2, input_weights=torch.tensor(weights))
    with pytest.raises(ValueError, match="strictly positive"):
        LinfConv2d(2, 2, 3, output_weights=torch.tensor(weights))


@pytest.mark.parametrize("act", ["abs", "sin", "maxmin", "gelu"])
def test_sandwich_refuses_activations_that_its_rule_cannot_take(act):
    with pytest.raises(ValueError, match="activation"):
        SandwichStep(2, 3, act=act)


def test_sandwich_refuses_bad_sizes_and_a_missing_or_surplus_input():
    for sizes in [(0, 1, 1), (1, 0, 1), (1, 1, -1)]:
        with pytest.raises(ValueError, match="SandwichStep"):
            SandwichStep(*sizes)
    with pytest.raises(ValueError, match="without an input"):
        SandwichStep(2, 3, 4)(random(1, 2))
    with pytest.raises(ValueError, match="with an input"):
        SandwichStep(2, 3)(random(1, 2), random(1, 4))


def test_heads_must_divide_the_outputs():
    with pytest.raises(ValueError, match="multiple of heads"):
        RowStochasticMixing(6, 2, heads=4)


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.elementwise])
def test_slopes_between_any_two_points_lie_in_the_stated_range(name):
    entry = activation(name)
    points = torch.cat([torch.linspace(-30, 30, 4001), torch.linspace(-2, 2, 4001)]).double().unique()
    values = entry.make()(points)
    other = torch.roll(torch.arange(len(points)), 1234)
    for i, j in [(slice(1, None), slice(None, -1)), (slice(None), other)]:
        slopes = (values[i] - values[j]) / (points[i] - points[j])
        assert entry.low - 1e-6 <= slopes.min() and slopes.max() <= entry.high + 1e-6
    close = (values[1:] - values[:-1]) / (points[1:] - points[:-1])
    assert close.min() < entry.low + 1e-2 and close.max() > entry.high - 1e-2


def test_maxmin_keeps_l2_distances_from_growing_and_sorts_pairs():
    layer = MaxMin()
    assert torch.equal(layer(torch.tensor([[1.0, 2.0, 5.0, 4.0]])), torch.tensor([[2.0, 5.0, 1.0, 4.0]]))
    z, w = random(200, 6).double(), random(200, 8).double()[:, 2:]
    for order in (2, float("inf")):
        before = torch.linalg.vector_norm(z - w, order, dim=1)
        after = torch.linalg.vector_norm(layer(z) - layer(w), order, dim=1)
        assert bool((after <= before + 1e-12).all())
    with pytest.raises(ValueError, match="even number"):
        layer(random(1, 3))


def test_unknown_activation_lists_the_known_ones():
    with pytest.raises(ValueError, match="relu"):
        activation("swish")
