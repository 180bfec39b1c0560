from __future__ import annotations

import pytest
import torch

from tests.train.toys import largest, refiner
from trm_verify.train import train
from trm_verify.train.halting import HaltingHead, fit_halting, halted


def test_the_head_saves_steps_and_changes_no_answer(tmp_path):
    task, model = largest(900), refiner(state=8, hidden=16)
    train(model, task, epochs=25, batch_size=16, depth=(4, 8), lr=0.02)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    head = fit_halting(model, task, steps=12, epochs=8)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    x = task.test.x
    stopped = halted(model, head, x, most=12, threshold=0.8)
    with torch.no_grad():
        states = model.trace(x, 12)
        full = model.readout(states[12])
        for row in range(0, len(x), 37):  # logits are those of the step at which the row was stopped
            there = model.readout(states[int(stopped.steps[row])])[row]
            assert torch.allclose(there, stopped.logits[row], atol=1e-5)
    assert int(stopped.steps.min()) >= 1 and float(stopped.steps.double().mean()) < 9
    assert task.metric(stopped.logits, task.test.y) > task.metric(full, task.test.y) - 0.03
    never = halted(model, head, x, most=12, threshold=1.0)
    assert torch.allclose(never.logits, full, atol=1e-6) and bool((never.steps == 12).all())
    head.save(tmp_path / "halting.safetensors")
    again = halted(model, HaltingHead.load(tmp_path / "halting.safetensors"), x, most=12, threshold=0.8)
    assert torch.equal(again.steps, stopped.steps)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="most >= 1"):
        halted(refiner(), HaltingHead(4), largest().test.x, most=0)
    with pytest.raises(ValueError, match="threshold"):
        halted(refiner(), HaltingHead(4), largest().test.x, most=1, threshold=1.5)
