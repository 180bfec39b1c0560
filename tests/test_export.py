"""Every operation against eager torch; every trap refused by its own error; models left as they were."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import trm_verify.export as ex
import trm_verify.kernel.tensor as kernel
from trm_verify.api import verify_fixed_point
from trm_verify.export import export
from trm_verify.kernel.evaluate import step as exact_step
from trm_verify.kernel.graph import parse
from trm_verify.kernel.weights import Weights
from trm_verify.lowering import RULES, lower
from trm_verify.model import Box, RecursiveModel, flatten_state, recursive

torch.manual_seed(0)
A = torch.randn(4, 4, dtype=torch.float64)
V = torch.randn(4, dtype=torch.float64)
SYSTEM = 2 * torch.eye(4)
MASK = torch.tensor([True, False, True, True])
GRU = nn.GRUCell(4, 4).double()
W34 = torch.randn(3, 4, dtype=torch.float64)
HEADS = torch.randn(2, 4, 3, dtype=torch.float64)
TABLE = torch.randn(5, 4, dtype=torch.float64)

ATTRIBUTES = {
    "state": ["part"], "input": [], "tensor": ["name"], "constant": ["shape", "value"], "reshape": ["shape"],
    "permute": ["axes"], "slice": ["axis", "start", "stop", "step"], "select": ["axis", "indices"], "expand": ["shape"],
    "pad": ["pads"], "concat": ["axis"], "unfold": ["kernel", "stride", "padding", "dilation"],
    "scale": ["num", "den"], "rms_norm": ["eps"], "layer_norm": ["eps"], "leaky_relu": ["slope"], "clamp": ["lo", "hi"],
}  # fmt: skip


def well_formed(graph: dict) -> None:
    """Exactly the keys of docs/format.md, earlier references only, every node reachable."""
    assert set(graph) == {"state", "input", "step", "init", "readout"}
    for name in ("step", "init", "readout"):
        function = graph[name]
        if function is None:
            continue
        assert set(function) == {"nodes", "outputs"}
        needed = set(function["outputs"])
        for index in range(len(function["nodes"]) - 1, -1, -1):
            node = function["nodes"][index]
            assert index in needed, f"{name} node {index} is unused"
            assert node["op"] in RULES or node["op"] in ("state", "input", "tensor", "constant")
            assert set(node) == {"op", "in", *ATTRIBUTES.get(node["op"], [])}
            assert all(0 <= i < index for i in node["in"])
            needed.update(node["in"])
            assert not re.search(r": -?\d+\.\d|NaN|Infinity", json.dumps(node))


def encloses(exported: ex.Exported, z: tuple[Tensor, ...], x: Tensor | None, wanted: Tensor) -> None:
    """The kernel's exact evaluator accepts the graph, and its enclosure of one step lies at torch's result."""
    graph = parse(json.loads(ex.canonical(exported.graph)), Weights(safetensors.torch.save(exported.tensors)))
    assert graph.digest == exported.digest and graph.tensors == set(exported.tensors)

    def point(values: Tensor | None) -> kernel.Tensor:
        exact = [] if values is None else [Fraction(v) for v in values.reshape(-1).tolist()]
        return kernel.from_fractions([(v, v) for v in exact], -1100)

    result = exact_step(graph, point(flatten_state(z)), point(x))
    for index, value in enumerate(wanted.reshape(-1).tolist()):
        lo, hi = result.fraction(index)
        slack = Fraction(1 + abs(value)) / 10**9
        assert lo - slack <= Fraction(value) <= hi + slack and hi - lo <= slack


def agrees(model: RecursiveModel, batch: int = 3, fold: bool = True, tolerance: float = 1e-12) -> ex.Exported:
    """Export a float64 model and compare every function with eager, at random points and several batch sizes."""
    exported = export(model, fold=fold)
    well_formed(exported.graph)
    lowered = lower(exported.graph, exported.tensors)
    assert set(exported.tensors) == set(lowered.tensors)
    generator = torch.Generator().manual_seed(1)
    for size in (1, batch):
        z = tuple(2 * torch.randn(size, *s, generator=generator, dtype=torch.float64) for s in lowered.state_shapes)
        x = None
        if model.input_shape is not None and model.vocabulary is None:
            x = torch.randn(size, *model.input_shape, generator=generator, dtype=torch.float64)
        elif model.input_shape is not None:
            x = torch.randint(model.vocabulary, (size, *model.input_shape), generator=generator)
        state = z if isinstance(model.state_shape[0], tuple) else z[0]
        with torch.no_grad():
            want = model.step(state) if x is None else model.step(state, x)
            got = lowered.step(z, x)
            torch.testing.assert_close(
                got, want if isinstance(want, tuple) else (want,), rtol=tolerance, atol=tolerance
            )
            if model.readout is not None:
                torch.testing.assert_close(lowered.readout(z), model.readout(state), rtol=tolerance, atol=tolerance)
            if size == 1:
                encloses(exported, z, x, flatten_state(want))
            start = model.init(size if x is None else x)
            if exported.graph["init"] is not None:
                torch.testing.assert_close(flatten_state(lowered.init(x, size)), flatten_state(start))
    return exported


def assigned(z: Tensor) -> Tensor:
    new = torch.zeros_like(z)
    new[:, 0] = z[:, 1]
    new[:, 1:3] = z[:, :2] * 2
    new[:, 3] = 0.5
    return new


def glued(z: Tensor) -> Tensor:
    flat = z.reshape(-1, 4)  # batch and tokens merged
    return torch.tanh(flat @ A + V).view(z.shape[0], 3, 4)


POINTWISE: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("relu", torch.relu),
    ("abs", torch.abs),
    ("tanh", torch.tanh),
    ("sigmoid", torch.sigmoid),
    ("silu", F.silu),
    ("gelu", F.gelu),
    ("sin", torch.sin),
    ("cos", torch.cos),
    ("softplus", F.softplus),
    ("softplus beta", lambda z: F.softplus(z, beta=0.5)),
    ("leaky_relu", F.leaky_relu),
    ("log_sigmoid", F.logsigmoid),
    ("leaky_relu slope", lambda z: F.leaky_relu(z, 0.3)),
    ("hardtanh", F.hardtanh),
    ("relu6", lambda z: F.relu6(4 * z)),
    ("hardtanh bounds", lambda z: F.hardtanh(z, -0.25, 0.75)),
    ("clamp", lambda z: z.clamp(-0.5, 1)),
    ("clamp one side", lambda z: z.clamp(min=-0.5) + z.clamp(max=0.5)),
    ("clamp tensor", lambda z: z.clamp(-V.abs(), V.abs())),
    ("clamp_min", lambda z: torch.clamp_min(z, 0.1)),
    ("clamp_max", lambda z: torch.clamp_max(z, 0.1)),
    ("hardsigmoid", F.hardsigmoid),
    ("hardswish", F.hardswish),
    ("threshold by relu", lambda z: F.relu(z - 0.3) + 0.3),
    ("add scalar", lambda z: z + 0.1),
    ("scalar minus", lambda z: 1 - z),
    ("add alpha", lambda z: torch.add(z, V, alpha=0.5)),
    ("sub", lambda z: z - V),
    ("sub alpha", lambda z: torch.sub(V, z, alpha=3)),
    ("rsub", lambda z: torch.rsub(z, V)),
    ("mul", lambda z: z * V),
    ("mul scalar", lambda z: 0.3 * z),
    ("div scalar", lambda z: z / 3),
    ("neg", lambda z: -z),
    ("div constant", lambda z: z / (V.abs() + 1)),
    ("scalar over constant", lambda z: z + 1 / (V.abs() + 1)),
    ("square", lambda z: z**2 + z.square()),
    ("cube", lambda z: z**3 + z.pow(4)),
    ("product", lambda z: z * z.flip(-1)),
    ("addcmul", lambda z: torch.addcmul(V, z, z, value=0.5)),
    ("lerp", lambda z: torch.lerp(z, V.expand_as(z), 0.25)),
    ("lerp tensor", lambda z: torch.lerp(z, V.expand_as(z), torch.sigmoid(V))),
    ("gate", lambda z: z + torch.sigmoid(z.flip(-1)) * (V - z)),
    ("gate, the other way round", lambda z: (z.tanh() - z) * torch.sigmoid(z + V) + z),
    ("gate of a constant", lambda z: V + torch.sigmoid(z) * (z - V)),
    ("no gate", lambda z: z + torch.sigmoid(z) * (z - V)),
    ("gru_cell", lambda z: GRU(z.flip(-1), z)),
    ("maximum", lambda z: torch.maximum(z, V)),
    ("minimum", lambda z: torch.minimum(V, z)),
    ("max other", lambda z: torch.max(z, -z)),
    ("dropout", lambda z: F.dropout(z, 0.5, False)),
    ("softmax", lambda z: z.softmax(-1)),
    ("layer_norm", lambda z: F.layer_norm(z, (4,), V, V, 1e-3)),
    ("rms_norm", lambda z: F.rms_norm(z, (4,), V, 1e-3)),
    ("rms_norm default", lambda z: F.rms_norm(z, (4,), V)),
    ("rms by hand", lambda z: V * (z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-5))),
    ("rms by hand pow", lambda z: z * torch.rsqrt(1e-5 + z.pow(2).mean(-1, keepdim=True))),
    ("rms by root", lambda z: z / torch.sqrt((z * z).sum(-1, keepdim=True) / 4 + 0.5)),
    ("where", lambda z: torch.where(MASK, z, -z)),
    ("where scalar", lambda z: torch.where(MASK, z, 0.25)),
    ("masked_fill", lambda z: z.masked_fill(MASK, 0.5)),
    ("prelu", lambda z: F.prelu(z, V)),
    ("glu", lambda z: F.glu(torch.cat([z, z * V], -1))),
    ("elementwise types", lambda z: z.double() + z.type_as(V)),
    ("detach", lambda z: z.detach() + z.clone()),
    ("no_grad", torch.no_grad()(lambda z: 2 * z)),
    ("arange", lambda z: z + torch.arange(4)),
    (
        "factories",
        lambda z: (
            z + torch.ones(4) + torch.zeros_like(z) + torch.full((z.shape[0], 4), 0.5) + torch.eye(4, dtype=z.dtype)[1]
        ),
    ),
    ("literal", lambda z: z + torch.tensor([0.1, 0.2, 0.3, 0.4])),
    ("full_like", lambda z: z + torch.full_like(z, 0.1)),
    ("new", lambda z: z + z.new_ones(4) * z.new_full((z.shape[0], 4), 2.0)),
]


@pytest.mark.parametrize(("name", "function"), POINTWISE, ids=[n for n, _ in POINTWISE])
def test_pointwise(name: str, function: Callable[[Tensor], Tensor]) -> None:
    agrees(recursive(function, state_shape=(4,)).double(), tolerance=1e-11)


LAYOUT: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("view", lambda z: (z.view(z.shape[0], 2, 6) * 2).view(-1, 3, 4)),
    ("flatten", lambda z: z.flatten(1).unflatten(1, (3, 4))),
    ("squeeze", lambda z: z.unsqueeze(1).squeeze(1) + z[..., None].squeeze(-1) + z.unsqueeze(2).squeeze()),
    ("merged", glued),
    ("permute", lambda z: (z.permute(2, 0, 1) * V[:, None, None]).permute(1, 2, 0)),
    ("transpose", lambda z: z.transpose(1, 2).mT * 2),
    ("sequence first", lambda z: (z.transpose(0, 1) @ A).transpose(0, 1)),
    ("movedim", lambda z: torch.movedim(z, 1, 2).swapaxes(1, 2)),
    ("movedim list", lambda z: torch.movedim(z, (1, 2), (2, 1)).transpose(1, 2) + 1),
    ("cat", lambda z: torch.cat([z[:, 1:], z[:, :1]], 1)),
    ("stack", lambda z: torch.stack([z[:, 2], z[:, 0], z[:, 1]], dim=1)),
    ("stack last", lambda z: torch.stack([z, -z], -1).sum(-1) + z),
    ("slice", lambda z: torch.cat([z[:, :, ::2], z[:, :, 1::2]], 2)),
    ("negative slice", lambda z: z[:, -1:] + z[..., -4:]),
    ("select", lambda z: z[:, 1].unsqueeze(1) + z[:, :, -1:]),
    ("narrow", lambda z: z.narrow(1, 1, 1) + z),
    ("flip", lambda z: z.flip(1, 2)),
    ("roll", lambda z: z.roll(1, 1) + torch.roll(z, (-1, 2), (1, 2))),
    ("index", lambda z: z[:, [2, 0, 0]]),
    ("index two", lambda z: z[:, [2, 0, 1], [0, 1, 3]][..., None] + z),
    ("index grid", lambda z: z[:, torch.tensor([[0, 1, 2]] * 3)].sum(1) + z),
    ("index_select", lambda z: z.index_select(2, torch.tensor([3, 3, 0, 1]))),
    ("expand", lambda z: z[:, :1].expand(-1, 3, 4) + z.new_zeros(1).expand(3, 4)),
    ("repeat", lambda z: z[:, :1].repeat(1, 3, 1) + z[:, :, :2].repeat(1, 1, 2)),
    ("tile", lambda z: z[:, :, :2].tile(2)),
    ("split", lambda z: torch.cat(z.split([1, 3], 2)[::-1], 2)),
    ("chunk", lambda z: torch.cat(z.chunk(2, -1)[::-1], -1)),
    ("unbind", lambda z: torch.stack(z.unbind(1)[::-1], 1)),
    ("pad", lambda z: F.pad(z, (1, 0))[..., :4]),
    ("pad two", lambda z: F.pad(z, (1, -1, 0, 1))[:, 1:]),
    ("circular", lambda z: F.pad(z, (1, 1), mode="circular")[..., 2:]),
    ("constants expand", lambda z: torch.cat([z[:, 1:], V.expand(z.shape[0], 1, 4)], 1)),
    ("constant repeat", lambda z: z + V.repeat(z.shape[0], 3, 1)),
    ("sum", lambda z: z.sum(1, keepdim=True) + z.sum((1, 2))[:, None, None] + z.sum(-1)[..., None]),
    ("mean", lambda z: z - z.mean(1, keepdim=True) + z.mean((1, 2), keepdim=True)),
    ("amax", lambda z: z - z.amax(2, keepdim=True) + z.amax((1, 2))[:, None, None]),
    ("amin", lambda z: z + z.amin(1, keepdim=True)),
    ("max dim", lambda z: z + z.max(1).values[:, None] + z.max(-1, keepdim=True)[0]),
    ("min dim", lambda z: z + z.min(2, keepdim=True).values),
    ("softmax over tokens", lambda z: z.softmax(1)),
    ("tril", lambda z: torch.tril(A)[:3, :3] @ z + torch.triu(z, 1)),
    ("two axis norm", lambda z: F.layer_norm(z, (3, 4), W34, W34)),
    ("group_norm", lambda z: F.group_norm(z, 3, V[:3], V[:3])),
    ("broadcast left", lambda z: W34 + z * W34[:, :1]),
    ("matmul right", lambda z: z @ A),
    ("matmul left", lambda z: A[:3, :3] @ z),
    ("matmul state", lambda z: (z @ z.transpose(1, 2)) @ z),
    ("linear", lambda z: F.linear(z, A, V)),
    ("vector", lambda z: (z @ V)[..., None] + z),
    ("vector left", lambda z: (V[:3] @ z)[:, None] + z),
    ("bmm", lambda z: torch.bmm(z, A.expand(z.shape[0], 4, 4))),
    ("einsum", lambda z: torch.einsum("bti,oi->bto", z, A)),
    ("einsum tokens", lambda z: torch.einsum("bti,st->bsi", z, A[:3, :3])),
    ("heads", lambda z: (z.unsqueeze(1) @ HEADS).sum(1) @ W34),
    ("attention", lambda z: F.scaled_dot_product_attention(z, z * 2, z @ A)),
    ("attention mask", lambda z: F.scaled_dot_product_attention(z, z, z, attn_mask=A[:3, :3], scale=0.25)),
    (
        "merged heads",
        lambda z: (
            torch.bmm(
                z.reshape(z.shape[0], 3, 2, 2).transpose(1, 2).reshape(-1, 3, 2),
                z.reshape(z.shape[0], 3, 2, 2).transpose(1, 2).reshape(-1, 2, 3),
            )
            .view(z.shape[0], 2, 9)[:, :, :6]
            .reshape(-1, 3, 4)
        ),
    ),
]


@pytest.mark.parametrize(("name", "function"), LAYOUT, ids=[n for n, _ in LAYOUT])
def test_layout_and_products(name: str, function: Callable[[Tensor], Tensor]) -> None:
    agrees(recursive(function, state_shape=(3, 4)).double(), tolerance=1e-11)


def test_a_gate_between_two_values_that_are_large_and_close_stays_as_it_is_written() -> None:
    """What it moves is small, and that is what contracts: σ′ · |b − a| + σ · ¼, of a = x about 10."""

    def step(z: Tensor, x: Tensor) -> Tensor:
        return x + torch.sigmoid(z - x) * (x + torch.tanh(z) / 4 - x)

    result = verify_fixed_point(recursive(step, state_shape=(1,), input_shape=(1,), domain=Box(10, 11)))
    assert result and result.rate is not None and result.rate <= 0.5625


@pytest.mark.parametrize("seed", range(40))
def test_a_gate_is_the_number_that_was_written(seed: int) -> None:
    """Random orders, signs, factors and shapes of gates, some of them none."""
    draw = random.Random(seed)
    a, b = draw.sample(
        [lambda z: z, lambda z: V, lambda z: z.tanh(), lambda z: z.flip(-1), lambda z: z * V, lambda z: z[..., :1]], 2
    )
    weight = draw.choice([lambda z: torch.sigmoid(z), lambda z: torch.sigmoid(z[..., 1:2] + V), lambda z: V.sigmoid()])
    turned, order, first = (draw.random() < share for share in (0.3, 0.5, 0.5))
    alpha = draw.choice([1, 1, 1, -1, 2, 0.5])

    def step(z: Tensor) -> Tensor:
        change = a(z) - b(z) if turned else b(z) - a(z)
        moved = weight(z) * change if order else change * weight(z)
        return (torch.add(a(z), moved, alpha=alpha) if first else torch.add(moved, a(z), alpha=alpha)).expand_as(z)

    agrees(recursive(step, state_shape=(4,)).double(), tolerance=1e-12)


def test_a_gate_is_a_mean_of_two_values_however_it_is_written() -> None:
    """Intervals see that it stays between the two where both weights are between 0 and 1."""

    def ops(function: Callable[[Tensor], Tensor]) -> list[str]:
        graph = export(recursive(function, state_shape=(4,)).double()).graph
        return [node["op"] for node in graph["step"]["nodes"]]

    mean = lambda z: (1 - torch.sigmoid(z)) * z + torch.sigmoid(z) * V  # noqa: E731
    for same in (
        lambda z: z + torch.sigmoid(z) * (V - z),
        lambda z: (V - z) * torch.sigmoid(z) + z,
        lambda z: torch.lerp(z, V.expand_as(z), torch.sigmoid(z)),
    ):
        assert sorted(ops(same)) == sorted(ops(mean))
    assert ops(lambda z: z + torch.sigmoid(z) * (z - V)).count("sub") == 1, "away from V is no mean"
    assert ops(lambda z: z.cos() + torch.sigmoid(z) * (z.sin() - z.cos())).count("mul") == 1, "the state is neither"
    assert ops(lambda z: z + torch.tanh(z) * (V - z)).count("mul") == 1, "nor are weights that may be negative"


VECTOR: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("mm", lambda z: torch.mm(z, A)),
    ("addmm", lambda z: torch.addmm(V, z, A, beta=0.5, alpha=2)),
    ("column batch", lambda z: (A @ z.T).T),
    ("mv", lambda z: (z @ V)[:, None] * V),
    ("einsum", lambda z: torch.einsum("bi,ij->bj", z, A)),
    ("assignment", assigned),
    ("in-place on a copy", lambda z: z.clone().mul_(0.5).add_(1)),
    ("batched table", lambda z: (z @ HEADS).sum(0) @ W34),
    ("row dot", lambda z: (z * V).sum(-1, keepdim=True) + z),
    ("parameter transpose", lambda z: z @ A.T @ A[:, :2].repeat(1, 2)),
]


@pytest.mark.parametrize(("name", "function"), VECTOR, ids=[n for n, _ in VECTOR])
def test_vector_states(name: str, function: Callable[[Tensor], Tensor]) -> None:
    agrees(recursive(function, state_shape=(4,)).double(), tolerance=1e-11)


MODULES: list[tuple[str, nn.Module, tuple[int, ...]]] = [
    ("conv1d", nn.Conv1d(3, 3, 3, padding=1), (3, 5)),
    ("conv1d groups", nn.Conv1d(4, 4, 3, padding=2, dilation=2, groups=2), (4, 6)),
    ("conv2d", nn.Conv2d(2, 2, 3, padding=1), (2, 4, 5)),
    ("conv2d same", nn.Conv2d(2, 2, (3, 5), padding="same", bias=False), (2, 4, 5)),
    ("conv2d circular", nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 4, 4)),
    ("depthwise", nn.Conv2d(3, 3, 3, padding=1, groups=3), (3, 4, 4)),
    ("conv2d stride", nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.Flatten(), nn.Unflatten(1, (1, 4, 4))), (1, 4, 4)),
    ("conv3d", nn.Conv3d(1, 1, 3, padding=1), (1, 3, 3, 3)),
    ("max_pool2d", nn.Sequential(nn.MaxPool2d(2, stride=1), nn.ZeroPad2d((0, 1, 0, 1))), (2, 4, 4)),
    ("max_pool1d", nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 8), nn.Unflatten(1, (2, 4))), (2, 4)),
    ("avg_pool2d", nn.AvgPool2d(3, stride=1, padding=1), (2, 4, 4)),
    ("avg_pool1d", nn.AvgPool1d(3, stride=1, padding=1), (2, 4)),
    ("batch_norm", nn.BatchNorm1d(4), (4,)),
    ("batch_norm2d", nn.BatchNorm2d(2), (2, 3, 3)),
    ("batch_norm plain", nn.BatchNorm1d(3, affine=False), (3, 4)),
    ("rms", nn.RMSNorm(4, eps=1e-3), (3, 4)),
    ("layer_norm", nn.LayerNorm(4), (3, 4)),
    ("prelu", nn.PReLU(3), (3, 4)),
    ("prelu one", nn.PReLU(), (3, 4)),
    ("mish-free mlp", nn.Sequential(nn.Linear(4, 7), nn.GELU(), nn.Linear(7, 4), nn.Dropout(0.3)), (4,)),
]


@pytest.mark.parametrize(("name", "module", "shape"), MODULES, ids=[m[0] for m in MODULES])
def test_modules(name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    agrees(recursive(module, state_shape=shape).double().eval(), tolerance=1e-11)


# --- graphs ----------------------------------------------------------------------------------------------------


def test_plain_linear_model_is_the_obvious_graph() -> None:
    lin, out = nn.Linear(2, 2), nn.Linear(2, 3)
    model = recursive(lambda z, x: torch.tanh(lin(z) + x), state_shape=(2,), input_shape=(2,), readout=out)
    exported = export(model)
    well_formed(exported.graph)
    assert [n["op"] for n in exported.graph["step"]["nodes"]] == [
        "state", "input", "tensor", "linear", "tensor", "add", "add", "tanh",
    ]  # fmt: skip
    assert set(exported.tensors) == {"lin.weight", "lin.bias", "readout.weight", "readout.bias"}
    assert torch.equal(exported.tensors["lin.weight"], lin.weight)
    assert exported.graph["init"] is None
    assert (
        len(exported.digest) == 64
        and exported.digest == export(model, seed=5).digest == export(model, fold=False).digest
    )
    lin.weight.data[0, 0] += 1
    assert export(model).digest == exported.digest and not torch.equal(exported.tensors["lin.weight"], lin.weight)


def test_transposed_parameters_keep_their_names_and_storage() -> None:
    class Shared(RecursiveModel):
        state_shape = (3,)

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))
            self.tied = self.weight

        def step(self, z: Tensor) -> Tensor:
            return torch.relu(z @ self.weight.t()) @ self.tied + self.weight[0]

    exported = export(Shared())
    assert set(exported.tensors) == {"weight"}
    ops = [n["op"] for n in exported.graph["step"]["nodes"]]
    assert ops.count("tensor") == 1 and ops.count("permute") == 1


def test_scalars_are_exact() -> None:
    model = recursive(lambda z: (0.1 * z + 0.3).clamp(-0.7, None) / 3, state_shape=(1,))
    nodes = export(model).graph["step"]["nodes"]
    scales = [Fraction(int(n["num"], 16), int(n["den"], 16)) for n in nodes if n["op"] == "scale"]
    assert scales == [Fraction(0.1), Fraction(1, 3)]
    (constant,) = (n["value"] for n in nodes if n["op"] == "constant")
    assert int(constant["int"], 16) * Fraction(2) ** constant["exp"] == Fraction(0.3)
    (clamp,) = (n for n in nodes if n["op"] == "clamp")
    assert int(clamp["lo"]["int"], 16) * Fraction(2) ** clamp["lo"]["exp"] == Fraction(-0.7) and clamp["hi"] is None


class Inner(RecursiveModel):
    """n updates of z_L, then one of z_H."""

    state_shape = ((4,), (3,))
    input_shape = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(7, 3), nn.Linear(7, 4)
        self.start = nn.Parameter(torch.randn(4))

    def init(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.start.expand(x.shape[0], -1), torch.zeros_like(x)

    def step(self, z: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        high, low = z
        for _ in range(3):
            low = torch.tanh(self.low(torch.cat([high, low], 1)) + x)
        return torch.tanh(self.high(torch.cat([high, low], 1))), low

    def readout(self, z: tuple[Tensor, Tensor]) -> Tensor:
        return z[0]


def test_inner_loop_of_a_tuple_state_is_one_graph() -> None:
    exported = agrees(Inner().double())
    assert exported.graph["state"] == [[4], [3]]
    assert [n["op"] for n in exported.graph["step"]["nodes"]].count("tanh") == 4
    assert [n["op"] for n in exported.graph["step"]["nodes"]].count("tensor") == 4
    assert set(exported.tensors) == {"low.weight", "low.bias", "high.weight", "high.bias", "start"}


def test_autonomous_init() -> None:
    start = nn.Parameter(torch.randn(3, dtype=torch.float64))
    for init in (
        lambda n: start.expand(n, 3), lambda n: torch.full((n, 3), 0.25, dtype=torch.float64),
        lambda n: start.repeat(n, 1) + torch.zeros(n, 3), lambda n: torch.tanh(start)[None].expand(n, -1),
    ):  # fmt: skip
        assert agrees(recursive(lambda z: z / 2, state_shape=(3,), init=init).double()).graph["init"]["outputs"]


def test_attention_with_weights_from_the_input_only() -> None:
    class Mixing(RecursiveModel):
        state_shape, input_shape = (3, 4), (3, 4)

        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def step(self, z: Tensor, x: Tensor) -> Tensor:
            weights = (self.q(x) @ self.k(x).transpose(-1, -2) / 2).softmax(-1)
            heads = F.scaled_dot_product_attention(
                self.q(x).view(-1, 3, 2, 2).transpose(1, 2), self.k(x).view(-1, 3, 2, 2).transpose(1, 2),
                self.v(z).view(-1, 3, 2, 2).transpose(1, 2),
            )  # fmt: skip
            return weights @ self.v(z) + heads.transpose(1, 2).reshape(-1, 3, 4)

    nodes = agrees(Mixing().double()).graph["step"]["nodes"]
    state = []
    for node in nodes:
        state.append(node["op"] == "state" or any(state[i] for i in node["in"]))
    mixed = [n for n in nodes if n["op"] == "matmul" and any(state[i] for i in n["in"])]
    assert len(mixed) == 2 and all(not state[n["in"][0]] and state[n["in"][1]] for n in mixed)


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(batch_first: bool) -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=batch_first).double().eval()

    def step(z: Tensor) -> Tensor:
        tokens = z if batch_first else z.transpose(0, 1)
        out = layer(tokens, tokens, tokens, need_weights=False)[0]
        return out if batch_first else out.transpose(0, 1)

    agrees(recursive(step, state_shape=(3, 4)).double().eval(), tolerance=1e-11)


def test_integer_inputs() -> None:
    class Tokens(RecursiveModel):
        state_shape, input_shape, vocabulary = (3, 4), (3,), 5

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Embedding(5, 4), nn.Linear(4, 4)

        def step(self, z: Tensor, x: Tensor) -> Tensor:
            extra = TABLE[x] + F.one_hot(x, 5).to(z.dtype)[..., :4] + self.embed(x[:, :1])
            return torch.tanh(self.mix(z)) + self.embed(x) + extra + x.unsqueeze(-1)

        def init(self, x: Tensor) -> Tensor:
            return self.embed(x)

    exported = agrees(Tokens().double())
    assert exported.graph["input"] == {"shape": [3], "kind": "integer", "size": 5}
    assert "embed.weight" in exported.tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_keep_their_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    lin = nn.Linear(4, 4)
    model = recursive(lambda z, x: torch.tanh(lin(z) + x), state_shape=(4,), input_shape=(4,)).to(dtype)
    exported = export(model)
    assert {t.dtype for t in exported.tensors.values()} == {dtype}
    exported.save(tmp_path / "model.safetensors")
    loaded = load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == exported.tensors.keys()
    assert all(torch.equal(loaded[k], v) for k, v in exported.tensors.items())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_save_leaves_nothing_behind(tmp_path: Path) -> None:
    exported = export(recursive(nn.Linear(2, 2), state_shape=(2,)))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        exported.save(tmp_path / "taken")
    with pytest.raises(OSError):
        exported.save(tmp_path / "missing" / "model.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


# --- folding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parametrize", [parametrizations.weight_norm, parametrizations.orthogonal, parametrizations.spectral_norm]
)
def test_parametrizations_are_baked_and_the_model_still_trains(parametrize: Callable[..., Any]) -> None:
    layer = parametrize(nn.Linear(4, 4).double())
    model = recursive(
        lambda z, x: torch.tanh(layer(torch.tanh(layer(z))) + x), state_shape=(4,), input_shape=(4,)
    ).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    exported = agrees(model)
    assert set(exported.tensors) == {"layer.weight", "layer.bias"}
    assert torch.equal(exported.tensors["layer.weight"], layer.weight)
    after = model.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model.step(torch.rand(2, 4).double(), torch.rand(2, 4).double()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    optimiser.step()
    model.eval()
    assert not torch.equal(export(model).tensors["layer.weight"], exported.tensors["layer.weight"])


class Free(RecursiveModel):
    """W = (1 − m) I − AᵀA + B − Bᵀ, the monotone parametrization."""

    state_shape, input_shape = (4,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4))

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        eye = torch.eye(4, dtype=z.dtype)
        return torch.relu(F.linear(z, 0.5 * eye - self.a.T @ self.a + self.b - self.b.T) + x)


def test_fold_false_keeps_exact_expressions() -> None:
    exported = agrees(Free().double(), fold=False)
    assert set(exported.tensors) == {"a", "b"}
    assert {"matmul", "linear"} & {n["op"] for n in exported.graph["step"]["nodes"]}
    folded = agrees(Free().double())
    assert set(folded.tensors) == {"baked.step.0"} and folded.digest != exported.digest
    layer = parametrizations.orthogonal(nn.Linear(4, 4))
    with pytest.raises(ex.UnknownOperation, match="fold=True"):
        export(recursive(layer, state_shape=(4,)), fold=False)
    with pytest.raises(ex.UnknownOperation, match="fold=True"):
        export(recursive(nn.BatchNorm1d(4), state_shape=(4,)).eval(), fold=False)


def test_only_used_tensors_are_stored() -> None:
    class Unused(RecursiveModel):
        state_shape = (2,)

        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)
            self.idle.weight.data.fill_(float("nan"))

        def step(self, z: Tensor) -> Tensor:
            self.idle(z)
            return self.used(z)

    assert set(export(Unused()).tensors) == {"used.weight", "used.bias"}


# --- traps -----------------------------------------------------------------------------------------------------

COUNTER = itertools.count(1)


class Counting(RecursiveModel):
    state_shape = (4,)
    calls = 0

    def step(self, z: Tensor) -> Tensor:
        self.calls += 1
        return z * 0.5


class Remembering(RecursiveModel):
    state_shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def step(self, z: Tensor) -> Tensor:
        self.seen.add_(1)
        return z * 0.5 + self.seen


class Logging(RecursiveModel):
    state_shape = (4,)

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []

    def step(self, z: Tensor) -> Tensor:
        self.log.append(1)
        return z * 0.5


def drawn_rarely(z: Tensor) -> Tensor:
    return z * 0.5 if random.random() < 2 else z


def frozen_batch(z: Tensor) -> Tensor:
    return z * 0.25 if z.shape[0] == 1 else z * 0.5


def infinite_mask(z: Tensor) -> Tensor:
    return z.masked_fill(MASK, float("-inf")).softmax(-1)


NAN = torch.full((4,), float("nan"))

TRAPS: list[tuple[str, Callable[[Tensor], Any], type[ex.ExportError]]] = [
    ("python random", lambda z: z * random.random(), ex.NotDeterministic),
    ("unused python random", drawn_rarely, ex.RandomInStep),
    ("numpy random", lambda z: z * float(np.random.rand()), ex.NotDeterministic),
    ("counter", lambda z: z / next(COUNTER), ex.NotDeterministic),
    ("clock", lambda z: z * (time.perf_counter_ns() % 1000003), ex.NotDeterministic),
    ("attribute counter", Counting(), ex.NotDeterministic),
    ("log", Logging(), ex.NotDeterministic),
    ("frozen batch size", frozen_batch, ex.BatchMixing),
    ("batch size branch", lambda z: z if z.shape[0] > 8 else -z, ex.BatchMixing),
    ("randn_like", lambda z: z + torch.randn_like(z), ex.RandomInStep),
    ("rand", lambda z: z + torch.rand(4), ex.RandomInStep),
    ("bernoulli", lambda z: z * torch.bernoulli(torch.full((4,), 0.5)), ex.RandomInStep),
    ("buffer", Remembering(), ex.BufferUpdate),
    ("argument in place", lambda z: z.mul_(0.5), ex.BufferUpdate),
    ("dropout", nn.Dropout(0.5), ex.TrainingMode),
    ("functional dropout", lambda z: F.dropout(z, 0.5), ex.TrainingMode),
    ("batch norm", nn.BatchNorm1d(4), ex.TrainingMode),
    ("spectral norm", parametrizations.spectral_norm(nn.Linear(4, 4)), ex.BufferUpdate),
    ("batch mean", lambda z: z - z.mean(0), ex.BatchMixing),
    ("batch norm by hand", lambda z: z - z.mean(0, keepdim=True), ex.BatchMixing),
    ("total", lambda z: z / 2 + z.sum(), ex.BatchMixing),
    ("batch softmax", lambda z: z.softmax(0), ex.BatchMixing),
    ("batch roll", lambda z: z.roll(1, 0), ex.BatchMixing),
    ("flat roll", lambda z: z.roll(1), ex.BatchMixing),
    ("batch flip", lambda z: z.flip(0), ex.BatchMixing),
    ("gram", lambda z: (z @ z.T) @ z, ex.BatchMixing),
    ("first row", lambda z: z + z[0], ex.BatchMixing),
    ("first row kept", lambda z: z + z[:1], ex.BatchMixing),
    ("batch size as a number", lambda z: z / z.shape[0], ex.BatchMixing),
    ("row number", lambda z: z + torch.arange(z.shape[0])[:, None], ex.BatchMixing),
    ("appended rows", lambda z: torch.cat([z, z])[: z.shape[0]], ex.BatchMixing),
    ("interleaved", lambda z: z.T.reshape(z.shape[0], 4), ex.BatchMixing),
    ("pairs", lambda z: (z[:, None] - z[None]).sum(1), ex.BatchMixing),
    ("merged softmax", lambda z: z.reshape(-1).softmax(0).reshape(z.shape), ex.BatchMixing),
    ("if", lambda z: z if z.sum() > 0 else -z, ex.DataDependent),
    ("item", lambda z: z * z.sum().item(), ex.DataDependent),
    ("while", lambda z: z * len([0 for _ in range(int(z.abs().max()) + 1)]), ex.DataDependent),
    ("computed index", lambda z: z + z.gather(1, z.argmax(-1, keepdim=True)), ex.UnknownOperation),
    ("boolean index", lambda z: torch.cat([z[:, MASK], z[:, ~MASK]], 1), ex.DataDependent),
    ("numpy", lambda z: z * float(z.sum().numpy()), ex.ExportError),
    ("narrower", lambda z: z[:, :2], ex.ShapeChanged),
    ("wider", lambda z: torch.cat([z, z], 1), ex.ShapeChanged),
    ("tuple", lambda z: (z, z), ex.ShapeChanged),
    ("none", lambda z: None, ex.ShapeChanged),
    ("without rows", lambda z: torch.zeros(4), ex.ShapeChanged),
    ("without batch", lambda z: torch.zeros(3, 4), ex.ShapeChanged),
    ("nan weight", lambda z: z + NAN, ex.NonFiniteWeights),
    ("infinite mask", infinite_mask, ex.UnknownOperation),
    ("exp", torch.exp, ex.UnknownOperation),
    ("tanh gelu", lambda z: F.gelu(z, approximate="tanh"), ex.UnknownOperation),
    ("state divisor", lambda z: z / (z.abs() + 1), ex.UnknownOperation),
    ("square root", lambda z: torch.sqrt(z.square() + 1), ex.UnknownOperation),
    ("unit vector", lambda z: z * torch.rsqrt(z.square().sum(-1, keepdim=True) + 1e-5), ex.UnknownOperation),
    ("step function", lambda z: (z > 0).double(), ex.UnknownOperation),
    ("sort", lambda z: z.sort(-1)[0], ex.UnknownOperation),
    ("solve", lambda z: torch.linalg.solve(2 * torch.eye(4, dtype=z.dtype), z.T).T, ex.UnknownOperation),
    ("solve with a constant", lambda z: torch.linalg.solve(SYSTEM.to(z.dtype), z.T).T, ex.UnknownOperation),
    ("rounding", torch.round, ex.UnknownOperation),
    ("power", lambda z: z**0.5, ex.UnknownOperation),
    ("narrow cast", lambda z: z.half().to(z.dtype), ex.UnknownOperation),
    ("steep leaky", lambda z: F.leaky_relu(z, 2.0), ex.UnknownOperation),
    ("empty memory", lambda z: z + torch.empty(4), ex.UnknownOperation),
    ("inverted clamp", lambda z: z.clamp(1, 0), ex.UnknownOperation),
    ("division by zero", lambda z: z / 0, ex.UnknownOperation),
    (
        "causal",
        lambda z: F.scaled_dot_product_attention(z[:, None], z[:, None], z[:, None], is_causal=True)[:, 0],
        ex.UnknownOperation,
    ),
    ("autocast", lambda z: torch.autocast("cpu", torch.bfloat16)(torch.matmul)(z, A.float()), ex.UnknownOperation),
    ("arg-max", lambda z: z + z.max(-1, keepdim=True).indices, ex.DataDependent),
    ("logical", lambda z: torch.where(z > 0, z, -z), ex.UnknownOperation),
]


@pytest.mark.parametrize(("name", "step", "error"), TRAPS, ids=[t[0] for t in TRAPS])
def test_traps(name: str, step: Any, error: type[ex.ExportError]) -> None:
    model = step if isinstance(step, RecursiveModel) else recursive(step, state_shape=(4,))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {k: (list(v) if isinstance(v, list) else v) for k, v in vars(model).items()}
    generators = random.getstate(), torch.get_rng_state()
    with pytest.raises(ex.ExportError) as caught:
        export(model)
    assert type(caught.value) is error, repr(caught.value)
    assert "expected" in str(caught.value) or "could not" in str(caught.value)
    assert all(torch.equal(before[k], v) or before[k].isnan().any() for k, v in model.state_dict().items())
    assert vars(model) == attributes and model.training
    assert random.getstate() == generators[0] and torch.equal(torch.get_rng_state(), generators[1])


def test_errors_name_the_operation_and_the_line() -> None:
    def step(z: Tensor) -> Tensor:
        y = torch.tanh(z)
        return torch.exp(y)  # the line to name

    with pytest.raises(ex.UnknownOperation) as caught:
        export(recursive(step, state_shape=(2,)))
    assert caught.value.op == "aten.exp.default"
    assert "test_export.py" in str(caught.value) and "return torch.exp(y)" in str(caught.value)
    with pytest.raises(ex.BatchMixing) as mixed:
        export(recursive(lambda z: z - z.mean(0), state_shape=(2,)))
    assert mixed.value.op == "aten.mean.dim" and "test_export.py" in str(mixed.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_named(value: float) -> None:
    lin = nn.Linear(3, 3)
    lin.weight.data[1, 2] = value
    with pytest.raises(ex.NonFiniteWeights, match=r"'step.weight'.*\[1, 2\]"):
        export(recursive(lin, state_shape=(3,)))


READOUTS: list[tuple[str, Callable[[Tensor], Any], type[ex.ExportError]]] = [
    ("no class axis", lambda z: z.sum(-1), ex.WrongOutput),
    ("arg-max", lambda z: z.argmax(-1, keepdim=True), ex.WrongOutput),
    ("tuple", lambda z: (z, z), ex.WrongOutput),
    ("batch", lambda z: z.mean(0), ex.WrongOutput),
    ("rows", lambda z: z - z.mean(0), ex.BatchMixing),
    ("random", lambda z: z + torch.rand_like(z), ex.RandomInStep),
]


@pytest.mark.parametrize(("name", "readout", "error"), READOUTS, ids=[r[0] for r in READOUTS])
def test_bad_readouts(name: str, readout: Callable[[Tensor], Any], error: type[ex.ExportError]) -> None:
    with pytest.raises(error):
        export(recursive(lambda z: z / 2, state_shape=(4,), readout=readout))


def test_bad_inits() -> None:
    def model(init: Callable[[Tensor], Any]) -> RecursiveModel:
        return recursive(lambda z, x: z / 2 + x, state_shape=(4,), input_shape=(4,), init=init)

    with pytest.raises(ex.ShapeChanged):
        export(model(lambda x: x[:, :3]))
    with pytest.raises(ex.ShapeChanged):
        export(model(lambda x: torch.zeros(4)))
    with pytest.raises(ex.RandomInStep):
        export(model(torch.rand_like))
    with pytest.raises(ex.BatchMixing):
        export(model(lambda x: x * x.amax()))


def test_tuple_states_must_come_back_as_tuples() -> None:
    for step in (lambda z: z[0], lambda z: (z[0],), lambda z: (z[1], z[0])):
        with pytest.raises(ex.ShapeChanged, match="tuple"):
            export(recursive(step, state_shape=((2,), (3,))))


def test_user_mistakes_are_not_disguised() -> None:
    with pytest.raises(ValueError, match="wrap a plain module"):
        export(nn.Linear(2, 2))
    domain = recursive(lambda z, x: z / 2 + x, state_shape=(2,), input_shape=(2,), domain=Box(-1, "1/3"))
    assert export(domain).graph["input"] == {"shape": [2], "kind": "real"}


class _Configured(nn.Module):
    """A model with plain Python attributes, which tracing may replace by equal ones."""

    state_shape, input_shape = (4,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.config = {"gain": 0.5, "layers": [1, [2, 3]]}
        self.names = ["z"]
        self.linear = nn.Linear(4, 4)

    def step(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(z) * self.config["gain"] + x)


def test_plain_attributes_are_no_memory_and_stay_the_same_objects() -> None:
    model = _Configured()
    config, nested, names = model.config, model.config["layers"], model.names
    export(model)
    assert model.config is config and model.config["layers"] is nested and model.names is names
    assert config == {"gain": 0.5, "layers": [1, [2, 3]]}
