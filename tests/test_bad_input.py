"""Models and targets that cannot be: each a clear error at the public calls, and nothing half-written."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv
from tests.small import autonomous, linear, tanh_model
from trm_verify.export import (
    BatchMixing,
    DataDependent,
    ExportError,
    NonFiniteWeights,
    NotDeterministic,
    RandomInStep,
    ShapeChanged,
    UnknownOperation,
    WrongOutput,
)

X = torch.zeros(3)


def broken_weights(value: float) -> nn.Module:
    layer = linear(3, 3, 0.5, 0)
    with torch.no_grad():
        layer.weight[1, 2] = value
    return tv.recursive(lambda z, x: layer(z) + x, state_shape=(3,), input_shape=(3,), readout=lambda z: z)


def stepping(step: Callable[..., Any], **kwargs: Any) -> nn.Module:
    return tv.recursive(step, state_shape=(3,), input_shape=(3,), readout=lambda z: z, **kwargs)


def branching(z: Tensor, x: Tensor) -> Tensor:
    return z / 2 + x if float(z.sum()) > 0 else z / 3 + x


def drawing(z: Tensor, x: Tensor) -> Tensor:
    return z / 2 + x * random.random()


def counting(z: Tensor, x: Tensor) -> Tensor:
    return z / 2 + x if z.shape[0] == 1 else z / 3 + x


WIDE = nn.Bilinear(4, 4, 3)
MODELS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "NaN weights": (lambda: broken_weights(float("nan")), NonFiniteWeights, "NaN|finite"),
    "infinite weights": (lambda: broken_weights(float("inf")), NonFiniteWeights, "inf|finite"),
    "step widens the state": (lambda: stepping(lambda z, x: torch.cat([z, x], 1)), ShapeChanged, "expected step"),
    "step returns a tuple": (lambda: stepping(lambda z, x: (z / 2, x)), ShapeChanged, "expected step"),
    "random tensor": (lambda: stepping(lambda z, x: z / 2 + torch.rand_like(x)), RandomInStep, "random"),
    "random number": (lambda: stepping(drawing), NotDeterministic, "twice|determin|same"),
    "branch on a value": (lambda: stepping(branching), DataDependent, "control flow|values"),
    "branch on the batch": (lambda: stepping(counting), BatchMixing, "batch"),
    "rows interact": (lambda: stepping(lambda z, x: z / 2 + x.mean(0, keepdim=True)), BatchMixing, "batch|row"),
    "unknown operation": (lambda: stepping(lambda z, x: torch.erfinv(z / 9) + x), UnknownOperation, "erfinv"),
    "wrong readout": (
        lambda: tv.recursive(torch.tanh, state_shape=(3,), readout=lambda z: (z, z)), WrongOutput, "readout",
    ),
    "layers do not fit": (lambda: stepping(WIDE), ExportError, "to take 2 tensors"),
    "a function": (lambda: torch.tanh, ValueError, "tv.recursive"),
    "a module without step": (lambda: nn.Linear(3, 3), ValueError, "tv.recursive"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_verified_is_refused_by_every_call(name: str) -> None:
    make, error, message = MODELS[name]
    model = make()
    given = None if getattr(model, "input_shape", None) is None else X
    for call in (lambda: tv.verify_fixed_point(model), lambda: tv.audit(model, given)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    "arguments",
    [
        {"state_shape": (0,)}, {"state_shape": 3}, {"state_shape": (-1,)}, {"state_shape": (3,), "iteration": "newton"},
        {"state_shape": (3,), "domain": tv.Box(0, 1)}, {"state_shape": (3,), "input_shape": (2,), "domain": (0, 1)},
        {"state_shape": (3,), "iteration": tv.Damped([0.5, 0.5])}, {"state_shape": (3,), "vocabulary": 4},
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        tv.recursive(torch.tanh, **arguments)


@pytest.mark.parametrize("alpha", [0, -0.5, 1.5, float("nan"), "1/3", []])
def test_damping_factors_lie_between_zero_and_one(alpha: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        tv.Damped(alpha)


@pytest.mark.parametrize(
    ("lo", "hi"), [(1, 0), (float("nan"), 1), (0, float("inf")), ([], []), ([0, 0], [1, 1, 1]), ("a", "b")]
)
def test_boxes_are_finite_and_not_empty(lo: Any, hi: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        tv.Box(lo, hi)


def test_the_model_is_left_as_it_was() -> None:
    model = tanh_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    state = torch.random.get_rng_state(), random.getstate()
    tv.verify_fixed_point(model, X)
    assert model.training and all(torch.equal(v, model.state_dict()[n]) for n, v in before.items())
    assert torch.equal(torch.random.get_rng_state(), state[0]) and random.getstate() == state[1]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_readout_is_needed_for_an_answer_only() -> None:
    model = tanh_model(readout=False)
    assert tv.verify_fixed_point(model, X)
    with pytest.raises(ValueError, match=r"expected a model with a readout\(z\)"):
        tv.verify_fixed_point(model, X, answer=1)
    with pytest.raises(ValueError, match=r"expected a model with a readout\(z\)"):
        tv.audit(model, X)


def test_a_state_that_overflows_is_no_proof() -> None:
    result = tv.verify_fixed_point(autonomous(lambda z: 3 * z + 1, readout=lambda z: torch.cat([z, -z], 1)))
    assert result.verdict is tv.REFUTED and result.enclosure is None
    huge = autonomous(lambda z: z / 2 + 1e38, 2, readout=lambda z: z)
    with pytest.raises(ValueError, match="finite trace"):
        tv.audit(autonomous(lambda z: z / 2 + 2e38, 2, readout=lambda z: z), steps=400)
    assert tv.verify_fixed_point(huge).claims["convergence"]


def test_weights_at_the_edges_of_their_type_are_exact() -> None:
    tiny = torch.tensor([[5e-324, 0.0], [0.0, 2.0**-1022]], dtype=torch.float64)
    result = tv.verify_fixed_point(autonomous(lambda z: z @ tiny.T + 1, 2), norm="linf")
    assert result and result.rate is not None and 0 < result.rate < 1e-70


def test_nothing_is_half_written(tmp_path: Path) -> None:
    result = tv.verify_fixed_point(tanh_model(), X)
    for target in (tmp_path / "missing" / "c.trmcert.json", tmp_path):
        with pytest.raises(OSError, match="expected"):
            result.certificate.save(target)
    assert os.listdir(tmp_path) == []


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    result = tv.verify_fixed_point(tanh_model(), X)
    path = result.certificate.save(tmp_path / "c.trmcert.json")
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        tv.check(path, tmp_path / "none.safetensors")
    (tmp_path / "short.safetensors").write_bytes(b"\x10")
    with pytest.raises(tv.CheckError, match="WEIGHTS"):
        tv.check(path, tmp_path / "short.safetensors")
    (tmp_path / "c.json").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(tv.CheckError, match="JSON"):
        tv.check(tmp_path / "c.json", np.zeros(1).tobytes())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": torch.tensor(1.0)}, r"found \(\)"), ({"x": X, "timeout": "5"}, "timeout >= 0 seconds, a number"),
        ({"region": (-1, 1)}, "region as a Box"), ({"domain": [0, 1]}, "domain as a Box"),
        ({"norm": ["l2"]}, "one name of a norm"),
    ],
)  # fmt: skip
def test_arguments_of_other_kinds(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tv.verify_fixed_point(tanh_model(), **given)
    with pytest.raises(ValueError, match="state_shape to be a tuple"):
        tv.recursive(lambda z: z / 2, state_shape=16)  # type: ignore[arg-type]
