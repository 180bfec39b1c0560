"""The fast propagation that provers search with agrees with the kernel's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.provers.steps import Case
from trm_verify.encode import vector
from trm_verify.kernel.norms import BlockNorm
from trm_verify.kernel.rules.contraction import propagate
from trm_verify.provers.contraction.gains import Gains, NotCovered
from trm_verify.provers.problem import floats

torch.manual_seed(0)
A, B = nn.Linear(6, 6), nn.Linear(6, 6)
CONVOLUTION = nn.Conv2d(1, 1, 3, padding=1)
KEY = nn.Linear(6, 5)


def attention(z: Tensor, x: Tensor) -> Tensor:
    return torch.softmax(x @ x.transpose(-2, -1), dim=-1) @ z


def gate(z: Tensor, x: Tensor) -> Tensor:
    return torch.sigmoid(KEY.weight[:, 0].sum() + x) * torch.tanh(A(z))


STEPS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...] | None]] = {
    "layer": (lambda z: torch.relu(A(z)), (6,), None),
    "two layers and a residual": (lambda z: 0.5 * z - B(torch.tanh(A(z))), (6,), None),
    "product of two": (lambda z: torch.sigmoid(A(z)) * torch.tanh(B(z)), (6,), None),
    "maximum": (lambda z: torch.maximum(A(z), torch.minimum(B(z), z)), (6,), None),
    "amax": (lambda z: A(z).reshape(-1, 3, 2).amax(-1).repeat(1, 2), (6,), None),
    "sum": (lambda z: z.flip(1) * z.sum(-1, keepdim=True), (6,), None),
    "softmax": (lambda z: torch.softmax(A(z).reshape(-1, 2, 3), dim=-1).reshape(-1, 6), (6,), None),
    "shift and pad": (lambda z: torch.nn.functional.pad(A(z)[:, 1:4], (2, 1)), (6,), None),
    "convolution": (lambda z: CONVOLUTION(z.reshape(-1, 1, 2, 3)).reshape(-1, 6), (6,), None),
    "attention by the input": (attention, (4, 6), (4, 3)),
    "attention by the state": (lambda z: torch.softmax(A(z) @ z.transpose(-2, -1), dim=-1) @ z, (3, 6), None),
    "gate by the input": (gate, (6,), (6,)),
    "division by the input": (lambda z, x: A(z) / (2 + torch.sigmoid(x)), (6,), (6,)),
}


@pytest.mark.parametrize("name", STEPS)
def test_agrees_with_the_kernel(name: str) -> None:
    step, state, given = STEPS[name]
    case = Case(step, state, given, region=(-0.5, 0.75), domain=None if given is None else (-1, 1))
    ranges = case.problem.ranges(case.domain, case.region)
    gains, rng = Gains(case.problem, ranges), np.random.default_rng(5)
    columns = rng.uniform(0.1, 2, (case.size, 3)) ** 3
    found = gains(columns)
    raw = vector(columns[:, -1])
    ints = [int(v, 16) for v in raw["int"].split()]
    shape = BlockNorm((1,) * case.size, (1,) * case.size, 0)
    exact = propagate(case.problem.graph, shape, ranges, [], (ints, raw["exp"]))
    np.testing.assert_allclose(found[:, -1], floats(exact.values, exact.exp), rtol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_the_columns_are_linear_in_the_branch_of_the_last(name: str) -> None:
    step, state, given = STEPS[name]
    case = Case(step, state, given, region=(-0.5, 0.75), domain=None if given is None else (-1, 1))
    gains = Gains(case.problem, case.problem.ranges(case.domain, case.region))
    d = np.random.default_rng(6).uniform(0.1, 2, (case.size, 1))
    matrix = gains(np.column_stack([np.eye(case.size), d]))
    np.testing.assert_allclose(matrix[:, :-1] @ d[:, 0], matrix[:, -1], rtol=1e-12)


def test_normalisations_are_left_to_the_kernel() -> None:
    case = Case(nn.LayerNorm(6), (6,), region=(-1, 1))
    with pytest.raises(NotCovered):
        Gains(case.problem, case.problem.ranges(case.domain, case.region))(np.ones((6, 1)))
