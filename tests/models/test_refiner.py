from __future__ import annotations

import pytest
import torch

from trm_verify.model import Box, spec_of
from trm_verify.models import MODELS, SandwichRefiner
from trm_verify.nn import BoundedLayer


def small(**changes):
    return SandwichRefiner(**{"state": 6, "hidden": 10, "inputs": 5, "classes": 3, **changes})


def test_description_and_shapes():
    model = small(rho=0.8)
    spec = spec_of(model)
    assert (spec.parts, spec.input_shape, spec.iteration) == (((6,),), (5,), "picard")
    assert spec.domain == Box(0, 1).expand((5,))
    assert spec.init is None
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    states = model.trace(x, 3)
    assert torch.equal(states[0], torch.zeros(4, 6))
    assert model.readout(states[-1]).shape == (4, 3)
    assert small(domain=None).domain is None


@pytest.mark.parametrize("changes", [{}, {"features": 7}, {"offset": True}, {"act": "tanh", "features": 3}])
def test_config_rebuilds_the_same_model(changes):
    model = small(seed=3, rho=0.7, **changes)
    again = SandwichRefiner(**model.config)
    assert again.config == model.config
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    model.config["state"] = 99
    assert model.config["state"] == 6
    assert MODELS["SandwichRefiner"] is SandwichRefiner


def test_seed_decides_the_parameters():
    torch.manual_seed(5)
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(first.cell.free, second.cell.free)
    assert not torch.equal(first.cell.free, other.cell.free)


@pytest.mark.parametrize("changes", [{}, {"features": 7, "offset": True}])
def test_baked_model_runs_the_same_loop_and_contracts(changes):
    model = small(**changes)
    baked = model.bake()
    assert type(baked) is SandwichRefiner and baked.baked and not model.baked
    assert not any(isinstance(module, BoundedLayer) for module in baked.modules())
    assert not any(p.requires_grad for p in baked.parameters())
    source = torch.Generator().manual_seed(0)
    x = torch.rand(8, 5, generator=source)
    assert torch.allclose(baked.run(x, 10), model.run(x, 10), atol=1e-4)
    double = baked.double()
    x, z = x.double(), torch.randn(8, 6, generator=source, dtype=torch.float64)
    w = torch.randn(8, 6, generator=source, dtype=torch.float64)
    for _ in range(5):
        before = (z - w).norm(dim=1)
        z, w = double.step(z, x), double.step(w, x)
        assert bool(((z - w).norm(dim=1) <= 0.9 * before).all())


def test_baking_a_baked_model_gives_an_equal_copy():
    baked = small().bake()
    again = baked.bake()
    assert again is not baked
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in baked.state_dict().items())
    assert torch.equal(baked.cell.psi, again.cell.psi)


@pytest.mark.parametrize(
    "changes",
    [{"state": 0}, {"classes": 1}, {"features": -1}, {"rho": 1.0}, {"rho": 0.0}, {"rho": float("nan")},
     {"act": "sin"}, {"domain": (1.0, 0.0)}],
)  # fmt: skip
def test_bad_arguments_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        small(**changes)
