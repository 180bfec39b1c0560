"""Models and boxes: exact values, clear refusals, iterations."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from trm_verify.model import (
    Box,
    Damped,
    RecursiveModel,
    flatten_state,
    initial_state,
    recursive,
    spec_of,
    unflatten_state,
)


def test_floats_mean_their_binary_value_and_strings_their_decimal_one() -> None:
    assert Box(0.1, 1).lo == [Fraction(0.1)] != [Fraction(1, 10)]
    assert Box("0.1", "1/2").lo == [Fraction(1, 10)]
    assert Box(Decimal("0.1"), Fraction(1, 2)).hi == [Fraction(1, 2)]
    assert Box(["1/3", 0.5], [1, Decimal(2)]).lo == [Fraction(1, 3), Fraction(1, 2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_every_dtype_are_exact(dtype: torch.dtype) -> None:
    values = torch.tensor([[0.1, -2.5], [1e-3, 7.0]], dtype=dtype)
    box = Box.point(values)
    assert box.shape == (2, 2)
    assert box.lo == [Fraction(v) for v in values.double().ravel().tolist()]


def test_large_integers_are_exact() -> None:
    big = 2**53 + 1
    assert Box.point(torch.tensor([big])).lo == [Fraction(big)]
    assert Box.point(np.array([big])).hi == [Fraction(big)]
    assert Box.point(torch.tensor([2**62])) == Box.point([2**62])


@pytest.mark.parametrize(
    ("lo", "hi", "message"),
    [
        (float("nan"), 1, "finite"),
        (0, float("inf"), "finite"),
        ("nan", 1, "finite"),
        (Decimal("Infinity"), 1, "finite"),
        (torch.tensor([0.0, float("nan")]), 1, "finite"),
        (np.array([np.inf]), 1, "finite"),
        (1, 0, "lo <= hi"),
        ([0, 2], [1, 1], "lo <= hi"),
        ("1/3", "0.333", "lo <= hi"),
        ([], [], "at least one"),
        (torch.zeros(0), 1, "at least one"),
        ([[1, 2], [3]], 5, "ragged"),
        ([0, 0], [1, 1, 1], "one shape"),
        ("one", 2, "finite"),
        (1j, 2, "finite"),
    ],
)
def test_bad_boxes_are_refused(lo: object, hi: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Box(lo, hi)


def test_ball_is_exact() -> None:
    x = torch.tensor([0.25, 1.0])
    assert Box.ball(x, "0.02").lo == [Fraction(1, 4) - Fraction(1, 50), 1 - Fraction(1, 50)]
    assert Box.ball(x, 0.02).hi == [Fraction(1, 4) + Fraction(0.02), 1 + Fraction(0.02)]
    assert Box.ball(x, 0) == Box.point(x)
    assert Box.ball(x, 0).is_point and not Box.ball(x, "1e-400").is_point
    assert Box.ball(0.5, Fraction(1, 3)).lo == [Fraction(1, 6)]
    assert Box.ball(x, "1e400").hi == [Fraction(1, 4) + 10**400, 1 + 10**400]
    for eps in (-0.1, float("nan"), "inf"):
        with pytest.raises(ValueError, match="eps"):
            Box.ball(x, eps)


def test_box_is_a_value() -> None:
    box = Box([0, "1/3"], 1)
    assert box == Box(["0", Fraction(1, 3)], [1.0, 1])
    assert hash(box) == hash(Box([0, "1/3"], [1, 1])) and len({box, Box([0, "1/3"], 1)}) == 1
    assert Box(0, 1) == Box("0", Fraction(1)) and Box(-0.0, 1) == Box(0, 1)
    assert box != Box([0, 0.25], 1) and box != "box"
    with pytest.raises(AttributeError):
        box.lo = 3  # type: ignore[misc]
    with pytest.raises(ValueError):
        box._lo[0] = 5
    assert pickle.loads(pickle.dumps(box)) == box
    source = np.zeros(2)
    copied = Box(source, 1)
    source[0] = 0.5
    assert copied.lo == [0, 0]
    assert "1/3" in repr(box)


def test_intersection_and_inclusion() -> None:
    a, b = Box([0, 0], [1, 1]), Box(["1/3", -1], [2, "1/2"])
    assert a.intersect(b) == Box(["1/3", 0], [1, "1/2"])
    assert a.contains(a) and a.contains([1, 0]) and a.contains(a.intersect(b))
    assert not a.contains(b) and not a.contains([1, "1.0000000000000000000000001"])
    with pytest.raises(ValueError, match="do not meet"):
        a.intersect(Box([2, 0], [3, 1]))
    with pytest.raises(ValueError, match="one shape"):
        a.contains(Box(0, 1))
    assert Box(0, 1).expand((2,)) == a
    with pytest.raises(ValueError, match="shape"):
        a.expand((3,))


def test_outward_rounding_contains_and_keeps_dyadics() -> None:
    box = Box(["1/3", 0.1, "-1/3"], ["2/3", 0.1, "1/7"])
    out = box.outward(20)
    assert out.is_dyadic and not box.is_dyadic and out.contains(box)
    assert out.lo[1] == out.hi[1] == Fraction(0.1)
    assert all(abs(p - q) <= Fraction(1, 1 << 20) for p, q in zip(out.lo + out.hi, box.lo + box.hi, strict=True))
    assert out.lo[2] < Fraction(-1, 3)
    tiny = Box.point(torch.tensor([1e-45, 5e-324], dtype=torch.float64))
    assert tiny.outward(10) == tiny
    lo, hi = box.floats()
    assert Box(lo, hi).contains(box) and lo[1] == hi[1] == 0.1
    with pytest.raises(ValueError, match="bits"):
        box.outward(-1)
    with pytest.raises(ValueError, match="doubles"):
        Box(0, 10**400).floats()


def test_damped() -> None:
    assert Damped(0.5).alpha == (Fraction(1, 2),)
    assert Damped(torch.tensor([0.25, 1.0])).alpha == (Fraction(1, 4), Fraction(1))
    assert Damped(0.1) == Damped(torch.tensor(0.1, dtype=torch.float64)) and hash(Damped(0.5)) == hash(Damped("1/2"))
    for bad in (0, -0.5, 1.5, float("nan"), "1/3", []):
        with pytest.raises(ValueError):
            Damped(bad)


def test_flatten_follows_the_tuple() -> None:
    z = (torch.arange(12.0).reshape(2, 2, 3), torch.arange(8.0).reshape(2, 4))
    flat = flatten_state(z)
    assert flat.shape == (2, 10)
    assert flat[0].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    back = unflatten_state(flat, ((2, 3), (4,)))
    assert isinstance(back, tuple) and all(torch.equal(a, b) for a, b in zip(back, z, strict=True))
    single = unflatten_state(flat, (5, 2))
    assert isinstance(single, torch.Tensor) and torch.equal(flatten_state(single), flat)
    with pytest.raises(ValueError, match="flattened state"):
        unflatten_state(flat, (11,))


class Two(RecursiveModel):
    state_shape = ((3,), (2,))
    input_shape = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(5, 5)

    def step(self, z: tuple[torch.Tensor, ...], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = torch.split(torch.tanh(self.mix(flatten_state(z))), [3, 2], dim=1)
        return a, b + x


def test_subclass_defaults_and_trace() -> None:
    torch.manual_seed(0)
    model, x = Two(), torch.rand(4, 2)
    assert model.readout is None and model.input_kind == "real"
    spec = spec_of(model)
    assert spec.init is None and spec.readout is None and spec.state_size == 5 and spec.input_size == 2
    states = model.trace(x, 3)
    assert len(states) == 4 and all(torch.equal(p, torch.zeros_like(p)) for p in states[0])
    expected = model.step(model.step(states[0], x), x)
    assert torch.equal(flatten_state(states[2]), flatten_state(expected))
    assert torch.equal(flatten_state(model.run(x, 3)), flatten_state(states[3]))
    assert torch.equal(flatten_state(model(states[0], x)), flatten_state(states[1]))


def test_submodules_named_init_and_readout_are_found() -> None:
    class Named(RecursiveModel):
        state_shape, input_shape = (3,), (2,)

        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Bilinear(3, 2, 3)
            self.init = nn.Linear(2, 3)
            self.readout = nn.Linear(3, 4)

    model, x = Named(), torch.rand(5, 2)
    assert isinstance(model.readout, nn.Linear) and spec_of(model).init is model.init
    assert torch.equal(model.trace(x, 1)[0], model.init(x))
    with pytest.raises(AttributeError):
        _ = model.other


def test_damped_iteration() -> None:
    model = recursive(lambda z: -z + 3, state_shape=(2,), iteration=Damped(torch.tensor([0.5, 0.25])))
    assert model.trace(None, 2)[1].tolist() == [[1.5, 0.75]]
    assert initial_state(model, None, batch_size=4).shape == (4, 2)


def test_recursive_registers_what_a_function_closes_over() -> None:
    inner, shift = nn.Linear(2, 2), torch.ones(2)
    model = recursive(lambda z, x: inner(z) + x + shift, state_shape=(2,), input_shape=(2,))
    assert set(model.state_dict()) == {"inner.weight", "inner.bias", "shift"}
    step, layers = nn.Linear(2, 2), [nn.Linear(2, 2), nn.Tanh()]
    listed = recursive(lambda z: layers[1](layers[0](step(z))), state_shape=(2,))
    assert set(listed.state_dict()) == {"step_.weight", "step_.bias", "layers.0.weight", "layers.0.bias"}
    module = recursive(inner, state_shape=(2,), readout=nn.Linear(2, 3))
    assert "step.weight" in module.state_dict() and "readout.weight" in module.state_dict()
    net = Two()
    bound = recursive(net.step, state_shape=net.state_shape, input_shape=(2,))
    assert set(bound.state_dict()) == {"owner.mix.weight", "owner.mix.bias"}


def test_implicit_names_no_loop() -> None:
    model = recursive(lambda z: z / 2, state_shape=(1,), iteration="implicit")
    with pytest.raises(ValueError, match="override trace"):
        model.trace(None, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state_shape": (0,)}, "positive integers"),
        ({"state_shape": (2.5,)}, "positive integers"),
        ({"state_shape": ((2,), 3)}, "positive integers"),
        ({"state_shape": (2,), "input_shape": (2, -1)}, "input_shape"),
        ({"state_shape": (2,), "iteration": "newton"}, "iteration"),
        ({"state_shape": (2,), "iteration": Damped([0.5, 0.5, 0.5])}, "damping factors"),
        ({"state_shape": (2,), "domain": Box(0, 1)}, "domain"),
        ({"state_shape": (2,), "input_shape": (3,), "domain": Box([0, 0], 1)}, "shape"),
        ({"state_shape": (2,), "input_shape": (3,), "domain": (0, 1)}, "domain"),
        ({"state_shape": (2,), "vocabulary": 5}, "vocabulary"),
        ({"state_shape": (2,), "readout": 5}, "readout"),
    ],
)
def test_wrong_descriptions_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recursive(lambda z: z, **arguments)


def test_wrong_inputs_are_refused() -> None:
    model = Two()
    with pytest.raises(ValueError, match="expected x of shape"):
        model.trace(torch.zeros(2), 1)
    with pytest.raises(ValueError, match="no input"):
        model.trace(None, 1)
    with pytest.raises(ValueError, match="wrap a plain module"):
        spec_of(nn.Linear(2, 2))
