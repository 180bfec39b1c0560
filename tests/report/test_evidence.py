"""What is drawn as proved has to be true: bounds hold for the fixed points themselves, computed another way."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import trm_verify as tv
from tests.report.saved import save
from trm_verify.kernel.claims import Convergence, Run
from trm_verify.kernel.tensor import from_fractions
from trm_verify.report.evidence import bound, box_margin, certified_traces, enclosures, measured_traces, settling
from trm_verify.report.reading import ModelDirectory, read_directory
from trm_verify.report.words import plain
from trm_verify.verification.deployed import Deployed


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    return read_directory(save(tmp_path_factory.mktemp("saved")))


def test_bars_enclose_the_logits_at_the_fixed_point(directory: ModelDirectory) -> None:
    (trace,) = certified_traces(directory)
    exact = directory.model.double() if directory.model is not None else None
    assert exact is not None and trace.low is not None and trace.high is not None and trace.distances is not None
    x = torch.tensor([[0.25, 0.5, 0.75]], dtype=torch.float64)
    with torch.no_grad():
        fixed = exact.run(x, 400)
        logits = exact.readout(fixed).numpy().reshape(1, -1)
    assert (trace.low[:, 0] <= logits + 1e-12).all() and (logits - 1e-12 <= trace.high[:, 0]).all()
    assert (np.abs(trace.states - fixed.numpy()).max(axis=1) <= trace.distances + 1e-12).all()
    widths = (trace.high - trace.low)[:, 0].max(axis=1)
    assert widths[-1] < 1e-3 < widths[0], "the bars close as the run goes on"
    assert trace.final is not None and trace.answers[-1] == (int(logits.argmax()),)


def test_the_proved_line_lies_above_every_measured_run(directory: ModelDirectory) -> None:
    line = bound(directory)
    assert line is not None
    traces = measured_traces(directory, 12)
    assert len(traces) == 6
    for trace in traces:
        assert all(trace.errors[k] <= line.at(k) for k in range(12))
    assert line.at(line.steps) == pytest.approx(line.epsilon)


def test_runs_are_read_as_the_kernel_read_them(directory: ModelDirectory) -> None:
    certificate = next(c for c in directory.certificates if c.runs)
    run = next(c for c in certificate.claims if isinstance(c, Run))
    assert [Fraction(float(v)) for v in certificate.runs[0][-1]] == [a for a, _ in map(run.state.fraction, range(4))]


def test_each_answer_counts_once(directory: ModelDirectory) -> None:
    assert len(settling(directory)) == 2


def test_margins_hold_at_every_corner() -> None:
    torch.manual_seed(3)
    readout = torch.nn.Linear(2, 3, dtype=torch.float64)
    model = tv.recursive(lambda z: z / 2 + 1, state_shape=(2,), readout=readout)
    graph = tv.verify_fixed_point(model).certified()[1].graph  # type: ignore[misc]
    low, high = np.array([0.5, 1.0]), np.array([0.75, 1.25])
    box = from_fractions([(Fraction(a), Fraction(b)) for a, b in zip(low, high, strict=True)])
    corners = torch.tensor([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])], dtype=torch.float64)
    logits = readout(corners).detach().numpy()
    answer = int(logits[0].argmax())
    true = min(row[answer] - row[other] for row in logits for other in range(3) if other != answer)
    margin = box_margin(graph, box, (answer,))
    assert margin is not None
    assert margin <= true + 1e-12 and margin == pytest.approx(true, abs=1e-9), "of an affine readout it is exact"


def test_a_bound_of_another_iteration_is_not_drawn(tmp_path: Path) -> None:
    """The certificate of an implicit model bounds a damped iteration, which is not the model's own solver."""
    model = tv.models.MonotoneEquilibrium(6, 4, 3)
    tv.save_pretrained(model, tmp_path)
    results = tv.verify_fixed_point(model, torch.tensor([[0.5, 0.25, 0.75, 0.0]]), eps="1/1024")
    results.certificate.save(tmp_path / "model.trmcert.json")
    found = read_directory(tmp_path)
    converging = [c for c in found.certificates[0].claims if isinstance(c, Convergence)]
    assert converging and all(c.operator.kind == "inner_damped" for c in converging)
    assert bound(found) is None
    assert all("damped step" in plain(c) for c in converging)
    boxes = enclosures(found)
    assert boxes and all(b.margin is not None for b in boxes)
    shown = np.asarray(results.plot().axes[0].collections[0].get_offsets())
    assert shown.tolist() == [[results[0].details.margin, 0]]


def test_a_damped_model_owns_its_bound(tmp_path: Path) -> None:
    model = tv.recursive(lambda z, x: x - z / 2, state_shape=(2,), input_shape=(2,), domain=tv.Box(-1, 1),
                         iteration=tv.Damped(0.5))  # fmt: skip
    tv.verify_fixed_point(model).certificate.save(tmp_path / "m.trmcert.json")
    deployed = Deployed.of(model)
    (tmp_path / "m.safetensors").write_bytes(deployed.weights)
    found = replace(read_directory(tmp_path), model=model)
    line = bound(found)
    assert line is not None
    traces = measured_traces(found, 8)
    assert traces and all(t.errors[k] <= line.at(k) for t in traces for k in range(8))
    assert bound(replace(found, model=tv.recursive(model.step, state_shape=(2,), input_shape=(2,),
                                                   domain=tv.Box(-1, 1)))) is None  # fmt: skip


def test_enclosures_hold_the_fixed_points(tmp_path: Path) -> None:
    torch.manual_seed(0)
    step = torch.nn.Linear(3, 3)
    with torch.no_grad():
        step.weight.mul_(0.5)
    model = tv.recursive(lambda z, x: torch.tanh(step(z) + x), state_shape=(3,), input_shape=(3,),
                         domain=tv.Box(-1, 1), iteration="implicit", readout=lambda z: z)  # fmt: skip
    x = torch.tensor([0.5, -0.25, 0.125])
    result = tv.verify_fixed_point(model, x, eps="1/1024")
    if result.enclosure is None:
        pytest.skip("nothing was enclosed")
    result.certificate.save(tmp_path / "m.trmcert.json")
    (tmp_path / "m.safetensors").write_bytes(Deployed.of(model).weights)
    found = enclosures(read_directory(tmp_path))
    z = torch.zeros(1, 3)
    for _ in range(200):
        z = torch.tanh(step(z) + x)
    assert found
    for box in found:
        assert (box.low <= z.detach().numpy() + 1e-6).all() and (z.detach().numpy() - 1e-6 <= box.high).all()
