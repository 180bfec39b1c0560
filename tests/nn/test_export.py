"""Every baked layer exports to operations of the format, with its tensors under their own names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trm_verify.export import export
from trm_verify.model import RecursiveModel
from trm_verify.nn import (
    ACTIVATIONS,
    Gated,
    L2Conv2d,
    LinfConv2d,
    LinfLinear,
    OrthogonalLinear,
    ResidualAveraged,
    RowStochasticMixing,
    SandwichStep,
    bake,
)


class Around(RecursiveModel):
    """A recursive model whose step is one layer."""

    def __init__(self, layer: nn.Module, state: tuple[int, ...], inputs: tuple[int, ...] | None) -> None:
        super().__init__()
        self.layer, self.state_shape, self.input_shape = layer, state, inputs

    def step(self, z: Tensor, *x: Tensor) -> Any:
        return self.layer(z, *x)


CASES = {
    "sandwich": (SandwichStep(4, 6, 3), (4,), (3,), {"linear", "add", "relu"}),
    "sandwich_autonomous": (SandwichStep(4, 6, act="tanh"), (4,), None, {"linear", "add", "tanh"}),
    "sandwich_tokens": (SandwichStep(4, 6, 3), (5, 4), (5, 3), {"linear", "add", "relu"}),
    "linf": (LinfLinear(4, 4, 0.9), (4,), None, {"linear", "add"}),
    "orthogonal": (OrthogonalLinear(4, 4, 0.9), (4,), None, {"linear", "add"}),
    "linf_conv": (LinfConv2d(2, 2, 3, padding=1), (2, 4, 4), None, {"unfold", "linear"}),
    "l2_conv": (L2Conv2d(2, 2, 3, padding=1), (2, 4, 4), None, {"unfold", "linear"}),
    "mixing": (
        RowStochasticMixing(4, 3, heads=2),
        (5, 4),
        (5, 3),
        {"linear", "softmax", "matmul", "concat"},
    ),
    "averaged": (ResidualAveraged(SandwichStep(4, 6, 3), 0.3), (4,), (3,), {"scale", "add", "relu"}),
    "gated": (Gated(LinfLinear(4, 4, 0.9), 3, 4), (4,), (3,), {"sigmoid", "mul", "add"}),
}


@pytest.mark.parametrize("name", CASES)
def test_baked_layers_export_with_their_own_tensors(name):
    layer, state, inputs, expected = CASES[name]
    model = bake(Around(layer, state, inputs))
    exported = export(model)
    operations = {node["op"] for node in exported.graph["step"]["nodes"]}
    assert expected <= operations
    own = model.state_dict()
    assert set(exported.tensors) == set(own)
    assert all(torch.equal(exported.tensors[key], own[key]) for key in own)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"identity"}))
def test_activations_export_to_one_operation(name):
    model = bake(Around(nn.Sequential(nn.Linear(4, 4), ACTIVATIONS[name].make()), (4,), None))
    operations = {node["op"] for node in export(model).graph["step"]["nodes"]}
    expected = {"hardtanh": {"clamp"}, "maxmin": {"max", "min", "concat"}}.get(name, {name})
    assert expected <= operations
