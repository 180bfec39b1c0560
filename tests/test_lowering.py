"""The lowering against torch, operation by operation, on graphs written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trm_verify.lowering import RULES, LoweredGraph, lower

STATE = {"op": "state", "in": [], "part": 0}
EPS = {"exp": -3, "int": "1"}


def graph_of(node: dict[str, Any], shape: list[int], more: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A graph with one operation on the state (and on what `more` adds); its output is not of the state's shape."""
    nodes = [STATE, *(more or []), node]
    function = {"nodes": nodes, "outputs": [len(nodes) - 1]}
    return {"state": [shape], "input": None, "step": function, "init": None, "readout": None}


def constant(shape: list[int], values: str, exp: int = 0) -> dict[str, Any]:
    return {"op": "constant", "in": [], "shape": shape, "value": {"exp": exp, "int": values}}


ONES = constant([3, 4], " ".join(["1"] * 12))
WEIGHT = constant([2, 4], "1 -2 3 -4 f -10 0 1", -1)
W = torch.tensor([[0.5, -1, 1.5, -2], [7.5, -8, 0, 0.5]], dtype=torch.float64)

CASES: list[tuple[dict[str, Any], list[dict[str, Any]], Any]] = [
    ({"op": "reshape", "in": [0], "shape": [2, 6]}, [], lambda z: z.reshape(-1, 2, 6)),
    ({"op": "permute", "in": [0], "axes": [1, 0]}, [], lambda z: z.transpose(1, 2)),
    ({"op": "slice", "in": [0], "axis": 1, "start": 1, "stop": 4, "step": 2}, [], lambda z: z[:, :, 1:4:2]),
    ({"op": "select", "in": [0], "axis": 0, "indices": [2, 0, 0]}, [], lambda z: z[:, [2, 0, 0]]),
    ({"op": "pad", "in": [0], "pads": [[1, 0], [0, 2]]}, [], lambda z: F.pad(z, (0, 2, 1, 0))),
    ({"op": "concat", "in": [0, 1, 0], "axis": 0}, [ONES], lambda z: torch.cat([z, torch.ones_like(z), z], 1)),
    ({"op": "linear", "in": [0, 1]}, [WEIGHT], lambda z: z @ W.T),
    (
        {"op": "matmul", "in": [1, 0]},
        [constant([2, 3], "1 0 -1 2 3 0")],
        lambda z: torch.tensor([[1.0, 0, -1], [2, 3, 0]]).double() @ z,
    ),
    ({"op": "sum", "in": [0]}, [], lambda z: z.sum(-1)),
    ({"op": "scale", "in": [0], "num": "-a", "den": "3"}, [], lambda z: z * (-10 / 3)),
    ({"op": "add", "in": [0, 1]}, [ONES], lambda z: z + 1),
    ({"op": "sub", "in": [1, 0]}, [ONES], lambda z: 1 - z),
    ({"op": "mul", "in": [0, 0]}, [], lambda z: z * z),
    (
        {"op": "div", "in": [0, 1]},
        [constant([3, 4], " ".join("123456789abc"))],
        lambda z: z / torch.arange(1, 13).reshape(3, 4),
    ),
    ({"op": "max", "in": [0, 1]}, [ONES], lambda z: z.clamp(min=1)),
    ({"op": "min", "in": [0, 1]}, [ONES], lambda z: z.clamp(max=1)),
    ({"op": "amax", "in": [0]}, [], lambda z: z.amax(-1)),
    ({"op": "softmax", "in": [0]}, [], lambda z: z.softmax(-1)),
    ({"op": "rms_norm", "in": [0], "eps": EPS}, [], lambda z: F.rms_norm(z, (4,), eps=0.125)),
    ({"op": "layer_norm", "in": [0], "eps": EPS}, [], lambda z: F.layer_norm(z, (4,), eps=0.125)),
    ({"op": "leaky_relu", "in": [0], "slope": EPS}, [], lambda z: F.leaky_relu(z, 0.125)),
    ({"op": "clamp", "in": [0], "lo": {"exp": -3, "int": "-1"}, "hi": None}, [], lambda z: z.clamp(min=-0.125)),
    ({"op": "clamp", "in": [0], "lo": None, "hi": EPS}, [], lambda z: z.clamp(max=0.125)),
    ({"op": "clamp", "in": [0], "lo": None, "hi": None}, [], lambda z: z),
    ({"op": "relu", "in": [0]}, [], F.relu),
    ({"op": "abs", "in": [0]}, [], torch.abs),
    ({"op": "tanh", "in": [0]}, [], torch.tanh),
    ({"op": "sigmoid", "in": [0]}, [], torch.sigmoid),
    ({"op": "silu", "in": [0]}, [], F.silu),
    ({"op": "gelu", "in": [0]}, [], F.gelu),
    ({"op": "sin", "in": [0]}, [], torch.sin),
    ({"op": "cos", "in": [0]}, [], torch.cos),
    ({"op": "softplus", "in": [0]}, [], lambda z: torch.log1p(torch.exp(z))),
]


@pytest.mark.parametrize(("node", "more", "wanted"), CASES, ids=[c[0]["op"] for c in CASES])
def test_operations(node: dict[str, Any], more: list[dict[str, Any]], wanted: Any) -> None:
    z = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (got,) = lower(graph_of(node, [3, 4], more), {}).step((z,))
    torch.testing.assert_close(got, wanted(z), rtol=1e-13, atol=1e-13)


def test_every_operation_has_a_case() -> None:
    assert {c[0]["op"] for c in CASES} == set(RULES) - {"expand", "unfold", "embedding"}


def test_expand() -> None:
    node = {"op": "expand", "in": [0], "shape": [3, 4]}
    z = torch.randn(2, 3, 1, dtype=torch.float64)
    assert torch.equal(lower(graph_of(node, [3, 1]), {}).step((z,))[0], z.expand(2, 3, 4))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [([2, 3], [1, 1], [0, 0], [1, 1]), ([3, 2], [2, 1], [1, 2], [1, 2]), ([1, 1], [3, 2], [0, 1], [1, 1])],
)
def test_unfold_is_im2col(kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> None:
    z = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    node = {"op": "unfold", "in": [0], "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    wanted = F.unfold(z, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride)).transpose(1, 2)
    assert torch.equal(lower(graph_of(node, [2, 5, 6]), {}).step((z,))[0], wanted)


def small(kind: str = "real") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Two parts, an input, an init and a readout."""
    x = {"op": "input", "in": []}
    step = [
        STATE, {"op": "state", "in": [], "part": 1}, x, {"op": "tensor", "in": [], "name": "w"},
        {"op": "linear", "in": [0, 3]}, {"op": "add", "in": [4, 2]}, {"op": "scale", "in": [1], "num": "1", "den": "2"},
    ]  # fmt: skip
    init = [x, constant([1], "3", -1), {"op": "scale", "in": [0], "num": "2", "den": "1"}]
    given = {"shape": [2], "kind": kind, **({"size": 7} if kind == "integer" else {})}
    graph = {
        "state": [[2], [1]], "input": given, "step": {"nodes": step, "outputs": [5, 6]},
        "init": {"nodes": init, "outputs": [2, 1]}, "readout": {"nodes": [STATE], "outputs": [0]},
    }  # fmt: skip
    return graph, {"w": torch.tensor([[1, 2], [3, 4]], dtype=torch.float16)}


def run(lowered: LoweredGraph, x: Tensor) -> list[Tensor]:
    z = lowered.init(x)
    return [*z, *lowered.step(z, x), lowered.readout(z)]


def test_parts_input_init_readout() -> None:
    graph, tensors = small()
    lowered = lower(graph, tensors)
    a, b, c, d, logits = run(lowered, torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
    assert lowered.state_shapes == [(2,), (1,)] and lowered.input_shape == (2,)
    assert a.tolist() == logits.tolist() == [[2, 0], [0, 2], [2, 2]] and a.dtype == torch.float64
    assert b.tolist() == [[1.5]] * 3 and d.tolist() == [[0.75]] * 3
    assert c.tolist() == [[3, 6], [4, 9], [7, 15]]
    assert len(lowered.values("step", (a, b), torch.zeros(3, 2))) == 7


def test_dtype_and_integer_inputs() -> None:
    graph, tensors = small("integer")
    single = run(lower(graph, tensors, dtype=torch.float32), torch.tensor([[1, 2]]))
    assert {t.dtype for t in single} == {torch.float32} and single[0].tolist() == [[2, 4]]


def test_embedding() -> None:
    graph = graph_of({"op": "embedding", "in": [1, 2]}, [1], [{"op": "input", "in": []}, WEIGHT])
    graph["input"] = {"shape": [3], "kind": "integer", "size": 2}
    lowered = lower(graph, {})
    assert torch.equal(lowered.step((torch.zeros(1, 1),), torch.tensor([[1, 0, 1]]))[0][0], W[[1, 0, 1]])


def test_gradients_flow() -> None:
    graph, tensors = small()
    lowered = lower(graph, tensors)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: lowered.step((z, torch.zeros(1, 1)), torch.zeros(1, 2))[0], torch.zeros(1, 2, dtype=torch.float64)
    )
    assert jacobian.reshape(2, 2).tolist() == [[1, 2], [3, 4]]


def test_without_init_the_start_is_zero() -> None:
    lowered = lower(graph_of({"op": "relu", "in": [0]}, [3]), {})
    (start,) = lowered.init(batch_size=2)
    assert start.tolist() == [[0, 0, 0]] * 2
    with pytest.raises(ValueError, match="readout"):
        lowered.readout((start,))


def test_wrong_arguments_are_refused() -> None:
    graph, tensors = small()
    with pytest.raises(ValueError, match="none called"):
        lower(graph, {})
    lowered, x, z = lower(graph, tensors), torch.zeros(1, 2), (torch.zeros(1, 2), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="state parts"):
        lowered.step((z[0],), x)
    with pytest.raises(ValueError, match="state parts"):
        lowered.step((z[1], z[0]), x)
    with pytest.raises(ValueError, match="input of shape"):
        lowered.step(z, None)
    with pytest.raises(ValueError, match="input of shape"):
        lowered.step(z, torch.zeros(1, 3))
    graph["step"]["nodes"][6]["op"] = "exp"
    with pytest.raises(ValueError, match="'exp'"):
        lower(graph, tensors).step(z, x)
