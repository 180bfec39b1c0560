"""ONNX files: every operation against torch, every family of models under onnxruntime, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from safetensors.numpy import load_file
from torch import nn

import trm_verify as tv
from tests.models.test_families import FAMILIES, drawn
from tests.small import autonomous, tanh_model
from tests.test_lowering import CASES, W, constant, graph_of
from trm_verify.deploy.onnx import OnnxError, export_onnx
from trm_verify.deploy.onnx.functions import step_model, unrolled_model
from trm_verify.deploy.onnx.operations import RULES
from trm_verify.export import Exported
from trm_verify.lowering import RULES as LOWERED
from trm_verify.model import flatten_state, spec_of
from trm_verify.models import LogNormEquilibrium, MonotoneEquilibrium, SandwichRefiner, Stack
from trm_verify.verification.deployed import Deployed


def run(model: onnx.ModelProto | Path, *values: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime makes of a model."""
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return list(session.run(None, dict(zip(names, values, strict=True))))


def deployed(graph: dict[str, Any]) -> Deployed:
    """A graph written by hand, as if it had been exported."""
    about = spec_of(tv.recursive(lambda z: z, state_shape=tuple(graph["state"][0])))
    return Deployed(nn.Module(), about, Exported(graph, {}), b"")


@pytest.mark.parametrize(("node", "more", "wanted"), CASES, ids=[c[0]["op"] for c in CASES])
def test_operations(node: dict[str, Any], more: list[dict[str, Any]], wanted: Any) -> None:
    z = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    model = step_model(deployed(graph_of(node, [3, 4], more)))
    onnx.checker.check_model(model, full_check=True)
    (found,) = run(model, z.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted(z.double()).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("node", "more", "wanted"), CASES, ids=[c[0]["op"] for c in CASES])
def test_operations_on_constants(node: dict[str, Any], more: list[dict[str, Any]], wanted: Any) -> None:
    """Constants have no batch axis: the first of the unrolled steps sees nothing else."""
    values = [1, -2, 3, 5, -8, 13, 21, -34, 2, -5, 7, 11]
    graph = graph_of(node, [3, 4], more)
    graph["init"] = {"nodes": [constant([3, 4], " ".join(f"{v:x}" for v in values), -4)], "outputs": [0]}
    (found,) = run(unrolled_model(deployed(graph), 1))
    z = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 4) / 16
    np.testing.assert_allclose(found, wanted(z).numpy(), rtol=1e-5, atol=1e-5)


def test_every_operation_of_the_table_is_translated_and_tested() -> None:
    assert set(RULES) == set(LOWERED)
    assert {c[0]["op"] for c in CASES} | {"expand", "unfold", "embedding"} == set(RULES)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [([2, 3], [1, 1], [0, 0], [1, 1]), ([3, 2], [2, 1], [1, 2], [1, 2]), ([1, 1], [3, 2], [0, 1], [1, 1])],
)
def test_unfold_is_im2col(kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> None:
    z = torch.randn(3, 2, 5, 6)
    node = {"op": "unfold", "in": [0], "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    wanted = F.unfold(z, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride)).transpose(1, 2)
    assert np.array_equal(run(step_model(deployed(graph_of(node, [2, 5, 6]))), z.numpy())[0], wanted.numpy())


def test_unfold_in_one_dimension() -> None:
    z = torch.randn(2, 3, 7)
    node = {"op": "unfold", "in": [0], "kernel": [3], "stride": [2], "padding": [1], "dilation": [1]}
    found = run(step_model(deployed(graph_of(node, [3, 7]))), z.numpy())[0]
    wanted = F.unfold(z[:, :, None], (1, 3), 1, (0, 1), (1, 2)).transpose(1, 2)
    assert np.array_equal(found, wanted.numpy())


def test_expand() -> None:
    node = {"op": "expand", "in": [0], "shape": [3, 4]}
    z = torch.randn(2, 3, 1)
    found = run(step_model(deployed(graph_of(node, [3, 1]))), z.numpy())[0]
    assert np.array_equal(found, z.expand(2, 3, 4).numpy())


def test_embedding_of_integers() -> None:
    """Slices of an integer input stay integers; the table is the graph's own."""
    table = constant([2, 4], "1 -2 3 -4 f -10 0 1", -1)
    tail = {"op": "slice", "in": [1], "axis": 0, "start": 1, "stop": 3, "step": 1}
    graph = graph_of({"op": "embedding", "in": [3, 2]}, [1], [{"op": "input", "in": []}, table, tail])
    graph["input"] = {"shape": [3], "kind": "integer", "size": 2}
    model = step_model(deployed(graph))
    assert model.graph.input[1].type.tensor_type.elem_type == onnx.TensorProto.INT64
    found = run(model, np.zeros((2, 1), np.float32), np.array([[1, 0, 1], [1, 1, 1]]))[0]
    assert np.array_equal(found, W[torch.tensor([[0, 1], [1, 1]])].numpy())


def test_integers_used_as_numbers() -> None:
    graph = graph_of({"op": "scale", "in": [1], "num": "1", "den": "2"}, [1], [{"op": "input", "in": []}])
    graph["input"] = {"shape": [3], "kind": "integer", "size": 9}
    found = run(step_model(deployed(graph)), np.zeros((2, 1), np.float32), np.array([[1, 2, 3], [8, 0, 1]]))[0]
    assert found.tolist() == [[0.5, 1, 1.5], [4, 0, 0.5]]


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(OnnxError, match="'exp'"):
        step_model(deployed(graph_of({"op": "exp", "in": [0]}, [3])))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_as_its_baked_model_does(name: str, tmp_path: Path) -> None:
    """An oracle of its own: the eager, baked model in float32, on a batch that export never saw."""
    model = FAMILIES[name](seed=2)
    files = {f.function: f for f in export_onnx(model, tmp_path, steps=4)}
    assert {"step", "readout", "unrolled"} <= set(files) and max(f.difference for f in files.values()) < 1e-5
    baked = model.bake()
    x = drawn(baked, 5, seed=11)
    with torch.no_grad():
        states = baked.trace(x, 4)
        logits = baked.readout(states[-1])
    given = x.numpy()
    found = run(files["unrolled"].path, given)[0]
    np.testing.assert_allclose(found, logits.numpy(), rtol=1e-4, atol=1e-4)
    z = states[0] if isinstance(states[0], tuple) else (states[0],)
    if "init" in files:
        start = run(files["init"].path, given)
        assert all(np.allclose(a, b.numpy(), atol=1e-6) for a, b in zip(start, z, strict=True))
    if name != "tiny-damped":
        after = run(files["step"].path, *(part.numpy() for part in z), given)
        flat = flatten_state(tuple(torch.from_numpy(part) for part in after))
        np.testing.assert_allclose(flat, flatten_state(states[1]), rtol=1e-4, atol=1e-4)


OTHERS: dict[str, Any] = {
    "sandwich": lambda: SandwichRefiner(state=4, hidden=6, inputs=3, classes=3, domain=None),
    "monotone": lambda: MonotoneEquilibrium(state=4, inputs=3, classes=3),
    "log-norm": lambda: LogNormEquilibrium(state=4, inputs=3, classes=3),
    "stack": lambda: Stack(
        [{"name": "Unconstrained", "positions": [3], "classes": 2, "features": 4, "channels": 2},
         {"name": "Unconstrained", "positions": [3], "classes": 2, "features": 4, "channels": 4}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_families(name: str, tmp_path: Path) -> None:
    model = OTHERS[name]()
    implicit = model.iteration == "implicit"
    files = export_onnx(model, tmp_path, steps=None if implicit else 3)
    assert max(f.difference for f in files) < 1e-5
    if implicit:
        with pytest.raises(OnnxError, match="any solver"):
            export_onnx(model, tmp_path / "none", steps=3)
        assert not (tmp_path / "none").exists()


def test_models_without_input_run_one_row(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    model = autonomous(lambda z: torch.tanh(layer(z) / 2), 2, init=lambda rows: torch.ones(rows, 2))
    export_onnx(model, tmp_path, steps=3)
    with torch.no_grad():
        wanted = model.run(None, 3).numpy()
    (found,) = run(tmp_path / "unrolled.onnx")
    assert found.shape == (1, 2) and np.allclose(found, wanted, atol=1e-6)


def test_the_file_is_tied_to_the_certificate_and_holds_the_stored_tensors(tmp_path: Path) -> None:
    model = SandwichRefiner(state=4, hidden=6, inputs=3, classes=3)
    tv.save_pretrained(model, tmp_path / "model")
    export_onnx(model, tmp_path / "onnx", steps=7)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    result = tv.verify_fixed_point(model)
    seen = set()
    for name in ("step", "readout", "unrolled"):
        made = onnx.load(tmp_path / "onnx" / f"{name}.onnx")
        about = {each.key: each.value for each in made.metadata_props}
        assert about["trm_verify.graph_sha256"] == result.graph_digest
        digest = hashlib.sha256((tmp_path / "model" / "model.safetensors").read_bytes()).hexdigest()
        assert about["trm_verify.weights_sha256"] == result.weights_digest == digest
        assert about["trm_verify.function"] == name and about["trm_verify.iteration"] == '"picard"'
        assert about.get("trm_verify.steps") == ("7" if name == "unrolled" else None)
        for each in made.graph.initializer:
            if each.name in stored:
                seen.add(each.name)
                assert np.array_equal(numpy_helper.to_array(each), stored[each.name])
        assert made.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert seen == set(stored)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_keep_their_tensors_and_compute_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    layer = nn.Linear(3, 3, bias=False, dtype=dtype)
    layer.weight = nn.Parameter(weight)
    model = tv.recursive(lambda z, x: torch.tanh(layer(z)) + x, state_shape=(3,), input_shape=(3,))
    files = export_onnx(model, tmp_path, steps=2)
    assert max(f.difference for f in files) < 1e-5
    (each,) = [i for i in onnx.load(tmp_path / "step.onnx").graph.initializer if "weight" in i.name]
    assert each.raw_data == weight.view(torch.uint8).numpy().tobytes()


def test_what_depends_on_the_input_alone_is_computed_once(tmp_path: Path) -> None:
    model = tanh_model()
    export_onnx(model, tmp_path, steps=6)
    ops = [node.op_type for node in onnx.load(tmp_path / "unrolled.onnx").graph.node]
    assert ops.count("Tanh") == 6
    # a product with x for the first step, which starts from constant zeros, one for the others; five with z; readout
    assert ops.count("Gemm") == 8


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        export_onnx(tanh_model(), tmp_path / folder, steps=3)
    for name in ("step", "readout", "unrolled"):
        assert (tmp_path / "a" / f"{name}.onnx").read_bytes() == (tmp_path / "b" / f"{name}.onnx").read_bytes()


def test_a_loop_that_amplifies_rounding_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    logistic = autonomous(lambda z: 3.9 * z * (1 - z), init=lambda rows: torch.full((rows, 1), 0.3))
    with pytest.raises(OnnxError, match="amplifies rounding"):
        export_onnx(logistic, tmp_path / "no", steps=60)
    assert not (tmp_path / "no").exists()
    export_onnx(logistic, tmp_path / "yes", steps=10)


@pytest.mark.parametrize("steps", [-1, True, 2.0])
def test_wrong_numbers_of_steps(steps: Any, tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="steps >= 0"):
        export_onnx(tanh_model(), tmp_path, steps=steps)


def test_a_wrong_translation_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "tanh", RULES["sigmoid"])
    with pytest.raises(OnnxError, match="of the exact graph"):
        export_onnx(tanh_model(), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_without_onnxruntime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"trm-verify\[onnx\]"):
        export_onnx(tanh_model(), tmp_path)


def test_without_onnx_the_rest_of_the_library_works_and_this_part_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import trm_verify.deploy.vnnlib, trm_verify.deploy.weights, trm_verify.deploy\n"
        "try:\n    import trm_verify.deploy.queries\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    root = Path(tv.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert "pip install 'trm-verify[onnx]'" in done.stdout, done.stderr
