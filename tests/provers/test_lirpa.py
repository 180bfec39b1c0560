"""auto_LiRPA as a prover: its bounds hold wherever one looks, what it lacks is named, and it leaves no traces."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

import trm_verify as tv
from tests.provers.steps import Case
from tests.small import linear
from trm_verify.encode import Json, vector
from trm_verify.export import export
from trm_verify.lowering import RULES, lower
from trm_verify.provers.lirpa import bounds as lirpa
from trm_verify.provers.lirpa import tape
from trm_verify.provers.lirpa.compat import running
from trm_verify.provers.problem import ALL_INPUTS, Problem

ROOT = Path(__file__).resolve().parents[2]
LACKING = {"gelu", "rms_norm", "layer_norm", "embedding"}
SLACK = {"sin": 2e-5, "cos": 2e-5}  # relaxed by interpolation in a table; everything else errs by rounding alone
every_method = pytest.mark.parametrize("method", lirpa.METHODS)

mix, pair, feed = linear(6, 6, 1.5, 1), linear(6, 6, 1.0, 2), linear(6, 4, 1.0, 3)


def argument(z: Tensor, x: Tensor) -> Tensor:
    return mix(z) + feed(x)


def rows(z: Tensor) -> Tensor:
    return z.reshape(-1, 2, 3)


STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda z, x: torch.relu(argument(z, x)),
    "abs": lambda z, x: torch.abs(argument(z, x)) - z,
    "leaky_relu": lambda z, x: F.leaky_relu(argument(z, x), 0.125),
    "clamp": lambda z, x: F.hardtanh(argument(z, x), -0.5, 0.75) + pair(z).clamp(min=0.25) - z.clamp(max=0.5),
    "tanh": lambda z, x: torch.tanh(argument(z, x)),
    "sigmoid": lambda z, x: torch.sigmoid(argument(z, x)) * 2,
    "softplus": lambda z, x: F.softplus(argument(z, x)),
    "silu": lambda z, x: F.silu(argument(z, x)),
    "sin": lambda z, x: torch.sin(3 * argument(z, x)),
    "cos": lambda z, x: torch.cos(3 * argument(z, x)),
    "max": lambda z, x: torch.maximum(argument(z, x), pair(z)),
    "min": lambda z, x: torch.minimum(argument(z, x), pair(z)),
    "amax": lambda z, x: z - rows(argument(z, x)).amax(-1).repeat(1, 3),
    "softmax": lambda z, x: torch.softmax(rows(argument(z, x)), -1).flatten(1),
    "mul": lambda z, x: argument(z, x) * pair(z) + z * z,
    "matmul": lambda z, x: (rows(argument(z, x)) @ rows(z).transpose(1, 2) @ rows(pair(z))).flatten(1),
}


@cache
def case_of(op: str) -> Case:
    return Case(STEPS[op], (6,), (4,), region=(-1, 0.5), domain=(-0.5, 1))


def ops(problem: Problem) -> set[str]:
    return {node.op for node in problem.graph.step.nodes}


def points(size: int, lo: Any, hi: Any, rng: np.random.Generator, count: int = 400) -> Tensor:
    """Points of a box, among them corners, the centre and what lies near it. Shape: (count, size)."""
    unit = rng.uniform(-1, 1, size=(count, size))
    unit[: count // 2] = np.sign(unit[: count // 2])
    unit[-count // 4 :] *= 0.01
    return torch.from_numpy((np.asarray(lo) + hi) / 2 + unit * (np.asarray(hi) - lo) / 2)


def assert_contained(found: lirpa.Bounds, values: Tensor, slack: float = 1e-9) -> None:
    flat = values.flatten(1).numpy()
    assert (found.lo - slack <= flat).all() and (flat <= found.hi + slack).all()
    assert np.isfinite(found.lo).all() and np.isfinite(found.hi).all()


def check_nodes(case: Case, method: str, slack: float = 1e-9) -> None:
    """Whether the bounds of all bounded nodes contain their values at random points."""
    rng, graph = np.random.default_rng(0), case.problem.graph
    assert case.limits is not None and case.inputs is not None
    flat = points(case.size, *case.limits, rng)
    sizes = [int(np.prod(shape)) for shape in graph.state]
    z = [part.reshape(-1, *s) for part, s in zip(torch.split(flat, sizes, 1), graph.state, strict=True)]
    x = points(graph.input_size, *case.inputs, rng).reshape(-1, *(case.given or ()))
    values = case.torch.values("step", z, x)
    found = lirpa.node_bounds(case.problem, case.domain, case.region, method)
    assert set(graph.step.outputs) <= set(found)
    for i, bounds in found.items():
        assert_contained(bounds, values[i], slack)


@every_method
@pytest.mark.parametrize("op", STEPS)
def test_bounds_hold_operation_by_operation(op: str, method: str) -> None:
    case = case_of(op)
    assert op in ops(case.problem)
    check_nodes(case, method, SLACK.get(op, 1e-9))


class Layouts(nn.Module):
    """Two parts, and every operation that only moves or adds numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, z: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        image, row = z
        moved = torch.roll(self.conv(image), 1, 2) + x.transpose(1, 2).unsqueeze(1).expand(-1, 2, 3, 3) / 4
        mean = torch.cat([moved.mean(-1).flatten(1), F.pad(row[:, ::2], (1, 0))], 1)
        return torch.relu(moved), torch.tanh(mean[:, :6].flip(1) - 0.5 * row) * torch.ones(6)


@every_method
def test_what_only_moves_numbers_is_folded_away(method: str) -> None:
    torch.manual_seed(0)
    case = Case(Layouts(), ((2, 3, 3), (6,)), (3, 3), region=(-1, 1), domain=(-1, 1))
    assert {"unfold", "concat", "pad", "permute", "reshape", "expand", "slice", "sum", "scale", "select"} <= ops(
        case.problem
    )
    check_nodes(case, method)


def test_every_operation_is_bounded_or_named() -> None:
    known = {*tape.JOINTLY, *tape.PRODUCTS, *tape.UNITS, *tape.COMPOSED}
    assert known - {"exp", "log", "square", "product"} == set(RULES) - LACKING
    assert {*tape.COMPOSED, *tape.UNITS} - {"exp", "log", "square", "product"} == set(STEPS)


@every_method
def test_bounds_of_affine_steps_are_attained(method: str) -> None:
    case = Case(lambda z, x: mix(z) - feed(x), (6,), (4,), region=(-1, 1), domain=(0, 1))
    (found,) = lirpa.node_bounds(case.problem, case.domain, case.region, method).values()
    a, b = (layer.weight.detach().double().numpy() for layer in (mix, feed))
    at, spread = (
        (mix.bias - feed.bias).detach().double().numpy() - b.sum(1) / 2,
        np.abs(a).sum(1) + np.abs(b).sum(1) / 2,
    )
    np.testing.assert_allclose(found.lo, at - spread, rtol=1e-6)
    np.testing.assert_allclose(found.hi, at + spread, rtol=1e-6)


def test_ibp_bounds_of_monotone_steps_are_attained() -> None:
    case = Case(lambda z: F.leaky_relu(torch.tanh(2 * z), 0.25).clamp(-0.125, 0.75), (3,), region=(-1, 0.25))
    found = lirpa.node_bounds(case.problem, case.domain, case.region, "ibp")[case.problem.graph.step.outputs[0]]
    np.testing.assert_allclose(found.lo, -0.125, rtol=1e-12)
    np.testing.assert_allclose(found.hi, np.tanh(0.5), rtol=1e-12)


def test_crown_is_tighter_than_ibp_and_alpha_crown_than_crown() -> None:
    def step(z: Tensor, x: Tensor) -> Tensor:
        return mix(torch.relu(pair(torch.relu(argument(z, x)))))

    case = Case(step, (6,), (4,), region=(-1, 1), domain=(-1, 1))
    (output,) = case.problem.graph.step.outputs
    widths = []
    for method in lirpa.METHODS:
        found = lirpa.node_bounds(case.problem, case.domain, case.region, method)[output]
        widths.append((found.hi - found.lo).sum())
    assert widths[0] > widths[1] > widths[2]


def test_points_are_folded_into_the_constants() -> None:
    """Attention by a fixed input is linear in the state, and tokens have no bounds other than themselves."""
    key, value = linear(3, 2, 1.0, 4), linear(3, 3, 1.0, 5)

    def attend(z: Tensor, x: Tensor) -> Tensor:
        return torch.relu(torch.softmax(key(x) @ key(x).transpose(1, 2), -1) @ value(z))

    case = Case(attend, (4, 3), (4, 2), region=(-1, 1), domain=(0.25, 0.25))
    check_nodes(case, "crown")

    tokens, table = torch.tensor([[2, 0, 1]]), nn.Embedding(5, 2)
    model = tv.recursive(lambda z, x: torch.tanh(z / 2 + table(x)), state_shape=(3, 2), input_shape=(3,), vocabulary=5)
    exported = export(model)
    problem = Problem(exported.graph, exported.to_bytes())
    found = lirpa.unrolled_bounds(problem, [{"space": "input", "point": vector(tokens.numpy().ravel())}], 30)
    z = torch.zeros(1, 3, 2)
    for _ in range(30):
        z = torch.tanh(z / 2 + table(tokens))
    np.testing.assert_allclose(found.lo, z.detach().flatten(1).numpy(), atol=1e-6)
    assert (found.lo == found.hi).all()
    with pytest.raises(lirpa.Unsupported, match="found 'embedding'"):
        lirpa.unrolled_bounds(problem, [ALL_INPUTS], 2)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("gelu", lambda z, x: F.gelu(z) + feed(x)),
        ("rms_norm", lambda z, x: F.rms_norm(z, (6,), eps=0.125) + feed(x)),
        ("layer_norm", lambda z, x: F.layer_norm(z, (6,), eps=0.125) + feed(x)),
        ("div", lambda z, x: z / (2 + feed(x) ** 2)),
    ],
)
def test_what_is_lacking_is_named(name: str, step: Callable[[Tensor, Tensor], Tensor]) -> None:
    case = Case(step, (6,), (4,), region=(-1, 1), domain=(-1, 1))
    assert name in ops(case.problem)
    with pytest.raises(lirpa.Unsupported, match=f"found '{name}'"):
        lirpa.node_bounds(case.problem, case.domain, case.region)


def test_unbounded_boxes_are_refused() -> None:
    case = Case(STEPS["relu"], (6,), (4,), domain=(-1, 1))
    with pytest.raises(lirpa.Unsupported, match="found an unbounded one"):
        lirpa.node_bounds(case.problem, case.domain, case.region)


@every_method
def test_what_overflows_has_no_bounds(method: str) -> None:
    """The library would take 0 for some of the NaNs, and 0 passes for a bound."""
    case = Case(lambda z: F.softplus(1024 * z), (2,), region=(-1, 1))
    (output,) = case.problem.graph.step.outputs
    found = lirpa.node_bounds(case.problem, case.domain, case.region, method)[output]
    assert np.isneginf(found.lo).all() and np.isposinf(found.hi).all()

    huge, tiny = {"num": format(1 << 600, "x"), "den": "1"}, {"num": "1", "den": format(1 << 600, "x")}
    nodes = [
        {"op": "state", "in": [], "part": 0}, {"op": "scale", "in": [0], **huge}, {"op": "abs", "in": [1]},
        {"op": "mul", "in": [1, 2]}, {"op": "scale", "in": [3], **tiny},
    ]  # fmt: skip
    step = {"nodes": nodes, "outputs": [4]}
    problem = Problem({"state": [[2]], "input": None, "step": step, "init": None, "readout": None}, save({}))
    if method == "ibp":
        assert np.isneginf(lirpa.node_bounds(problem, case.domain, case.region, method)[4].lo).all()
    else:
        with pytest.raises(lirpa.Unsupported, match="gave up"):
            lirpa.node_bounds(problem, case.domain, case.region, method)


# Unrolled


class Loop:
    """A loop with init and readout, small boxes of its inputs, and where random inputs of each of them lead."""

    def __init__(self, steps: int, activation: Callable[[Tensor], Tensor] = torch.relu, radius: float = 0.125) -> None:
        read = linear(6, 6, 1.0, 7)
        exported = export(
            tv.recursive(
                lambda z, x: activation(argument(z, x) / 2) + z / 8,
                init=lambda x: feed(x).abs(),
                readout=lambda z: torch.tanh(rows(read(z))),
                state_shape=(6,),
                input_shape=(4,),
            )
        )
        self.problem = Problem(exported.graph, exported.to_bytes())
        graph, rng = lower(exported.graph, exported.tensors), np.random.default_rng(0)
        centres = rng.uniform(-1, 1, size=(3, 4))
        self.boxes: list[Json] = [
            {"space": "input", "lo": vector(c - radius), "hi": vector(c + radius)} for c in centres
        ]
        self.states: list[Tensor] = []
        self.logits: list[Tensor] = []
        for centre in centres:
            x = points(4, centre - radius, centre + radius, rng)
            z = graph.init(x)
            for _ in range(steps):
                z = graph.step(z, x)
            self.states.append(z[0])
            self.logits.append(graph.readout(z).flatten(1))


loop_of = cache(Loop)


@pytest.mark.parametrize(("steps", "radius"), [(0, 0.125), (1, 0.125), (7, 0.125), (7, 0.0)])
@every_method
def test_unrolled_bounds_hold_for_trajectories(steps: int, radius: float, method: str) -> None:
    loop = loop_of(steps, radius=radius)
    found = lirpa.unrolled_bounds(loop.problem, loop.boxes, steps, method)
    specification = np.stack([lirpa.margins(loop.problem, labels) for labels in ([0, 2], [1, 1], [2, 0])])
    differences = lirpa.unrolled_bounds(loop.problem, loop.boxes, steps, method, specification)
    for i, (states, logits) in enumerate(zip(loop.states, loop.logits, strict=True)):
        assert_contained(lirpa.Bounds(found.lo[i], found.hi[i]), states)
        values = logits @ torch.from_numpy(specification[i]).T
        assert_contained(lirpa.Bounds(differences.lo[i], differences.hi[i]), values)


def test_one_box_is_bounded_as_in_a_batch() -> None:
    loop = loop_of(5, torch.tanh)
    together = lirpa.unrolled_bounds(loop.problem, loop.boxes, 5)
    alone = lirpa.unrolled_bounds(loop.problem, loop.boxes[1:2], 5)
    np.testing.assert_allclose(together.lo[1], alone.lo[0], rtol=1e-9)
    np.testing.assert_allclose(together.hi[1], alone.hi[0], rtol=1e-9)


def test_margins_are_differences_of_logits() -> None:
    problem = loop_of(0, radius=0.125).problem
    assert lirpa.margins(problem, [1, 2]).tolist() == [
        [-1, 1, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0], [0, 0, 0, -1, 0, 1], [0, 0, 0, 0, -1, 1]
    ]  # fmt: skip
    for wrong in ([1], [1, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"expected 2 label\(s\) from 0 to 2"):
            lirpa.margins(problem, wrong)


def test_wrong_arguments_are_named() -> None:
    loop, case = loop_of(0, radius=0.125), Case(torch.tanh, (2,), region=(-1, 1))
    with pytest.raises(ValueError, match=r"expected C of shape \(rows, 6\)"):
        lirpa.unrolled_bounds(loop.problem, loop.boxes, 1, C=np.eye(5))
    with pytest.raises(ValueError, match="expected a method among ibp"):
        lirpa.node_bounds(case.problem, case.domain, case.region, "forward")
    with pytest.raises(ValueError, match="at least 0 steps"):
        lirpa.unrolled_bounds(loop.problem, loop.boxes, -1)
    with pytest.raises(ValueError, match="readout"):
        lirpa.unrolled_bounds(case.problem, [case.domain], 1, C=np.eye(2))


# The library itself


def test_absence_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    assert "--no-deps auto-LiRPA" in (lirpa.available() or "")
    case = Case(torch.tanh, (2,), region=(-1, 1))
    with pytest.raises(lirpa.Unsupported, match="auto_LiRPA cannot be used"):
        lirpa.node_bounds(case.problem, case.domain, case.region)


def test_each_part_of_the_shim_is_still_needed() -> None:
    """Where this fails, torch or NumPy has the name again: drop that part of lirpa_compat."""
    from torch.onnx import symbolic_helper

    assert importlib.util.find_spec("numpy.lib.arraysetops") is None
    assert not hasattr(symbolic_helper, "_set_opset_version")
    assert not hasattr(torch._C.Node, "__getitem__")
    assert "remove_duplicate" in inspect.signature(nn.Module._named_members).parameters
    with running() as library:
        pass
    assert "remove_duplicate" not in inspect.signature(library.BoundedModule._named_members).parameters


TRACES = """
import logging, os, sys, warnings
import numpy, torch
from trm_verify.provers.lirpa import bounds as lirpa

def surroundings():
    switches = [torch._C._jit_set_profiling_executor, torch._C._jit_set_profiling_mode]
    states = [switch(True) for switch in switches]
    for switch, state in zip(switches, states):
        switch(state)
    names = (
        "numpy.lib.arraysetops" in sys.modules, hasattr(torch.onnx.symbolic_helper, "_set_opset_version"),
        hasattr(torch._C.Node, "__getitem__"), logging.basicConfig, warnings.simplefilter,
    )
    files = sorted(os.walk(os.environ["HOME"]))
    limits = torch.get_default_dtype(), sys.getrecursionlimit()
    return logging.root.handlers[:], warnings.filters[:], limits, states, names, files

import torch.onnx.symbolic_helper
before = surroundings()
assert "auto_LiRPA" not in sys.modules
sys.modules["appdirs"] = None
assert "appdirs" in lirpa.available()
del sys.modules["appdirs"]
assert lirpa.available() is None
assert "auto_LiRPA" in sys.modules
assert surroundings() == before
"""


def test_it_is_imported_late_and_leaves_no_traces(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("XDG_DATA_HOME", None)
    done = subprocess.run([sys.executable, "-c", TRACES], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    case = case_of("tanh")
    lirpa.node_bounds(case.problem, case.domain, case.region, "alpha-crown")
    assert capfd.readouterr() == ("", "")
