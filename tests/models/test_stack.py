from __future__ import annotations

import pytest
import torch

import trm_verify as tv
from trm_verify.models import CausalRefiner, ConfiguredModel, Stack, TinyRecursive, commit
from trm_verify.pretrained import from_pretrained, save_pretrained

CAUSAL = {"name": "CausalRefiner", "tokens": 4, "features": 3, "hidden": 5, "classes": 2}
TINY = {
    "name": "TinyRecursive", "positions": [4], "features": 3, "hidden": 8, "inputs": 4, "classes": 2, "heads": 1,
    "mixing": "constant",
}  # fmt: skip


def cascade(first=CAUSAL, second=CAUSAL, **changes):
    return Stack([{**first, "channels": 1}, {**second, "channels": 3}], **changes)


def drawn(rows=5, channels=1, seed=0):
    return torch.rand((rows, 4, channels), generator=torch.Generator().manual_seed(seed))


def test_a_cascade_passes_answers_on():
    stack = cascade(temperature=0.5)
    assert stack.input_shape == (4, 1) and stack.state_shape == ((4, 3), (4, 3))
    first, second = stack.parts
    x, z = drawn(), (torch.randn(5, 4, 3), torch.randn(5, 4, 3))
    after = stack.step(z, x)
    seen = torch.cat([x, torch.softmax(first.readout(z[0]) / 0.5, dim=-1)], dim=-1)
    assert torch.equal(after[0], first.step(z[0], x)) and torch.equal(after[1], second.step(z[1], seen))
    assert torch.equal(stack.readout(z), second.readout(z[1]))
    assert stack.parameter_count == first.parameter_count + second.parameter_count


def test_a_ring_passes_the_last_answer_to_the_first():
    stack = Stack([{**TINY, "channels": 3, "inner": 1}, {**CAUSAL, "channels": 3}], wiring="feedback")
    assert stack.input_shape == (4, 1) and len(stack.state_shape) == 3
    first, second = stack.parts
    x, z = drawn(), tuple(torch.randn(5, 4, 3) for _ in range(3))
    after = stack.step(z, x)
    seen = torch.cat([x, torch.softmax(second.readout(z[2]), dim=-1)], dim=-1)
    assert all(torch.equal(a, b) for a, b in zip(after[:2], first.step(z[:2], seen), strict=True))
    assert stack.readout(stack.run(x, 3)).shape == (5, 4, 2)


def test_a_stack_is_saved_like_any_model(tmp_path):
    stack = cascade(second=TINY, seed=3)
    save_pretrained(stack, tmp_path)
    loaded, again = from_pretrained(tmp_path), from_pretrained(tmp_path, trainable=True)
    x, baked = drawn(), stack.bake()
    with torch.no_grad():
        expected = baked.readout(baked.run(x, 4))
        assert torch.equal(loaded.readout(loaded.run(x, 4)), expected)
        assert torch.equal(again.readout(again.run(x, 4)), stack.readout(stack.run(x, 4)))
        assert torch.allclose(stack.readout(stack.run(x, 4)), expected, atol=1e-4)


def test_a_cascade_of_causal_models_settles_exactly():
    stack = cascade()
    result = tv.verify_fixed_point(stack)
    assert result.verdict is tv.PROVED, result.explain()
    with torch.no_grad():
        x = drawn()
        assert all(torch.equal(a, b) for a, b in zip(stack.run(x, 8), stack.run(x, 9), strict=True))
        assert stack.settles == 8 and cascade(second=TINY).settles is None
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(stack.run(x, 8), stack.settled(x), strict=True))
    with pytest.raises(ValueError, match="settles exactly"):
        cascade(second=TINY).settled(x)


def test_a_cascade_of_tokenwise_models_contracts_as_its_parts_do():
    """What the second part sees is a free function of the first: its gain is large, and does not matter."""
    stack = cascade({**TINY, "heads": 2}, {**TINY, "heads": 2, "seed": 1}).bake()
    first = tv.verify_fixed_point(stack.parts[0], norm="tokens")
    found = tv.verify_fixed_point(stack, norm="tokens")
    assert found and first.rate <= found.rate < 0.95


def test_a_cascade_of_planners_contracts_in_a_box_that_it_does_not_leave():
    part = {"name": "GatedMaxPlanner", "height": 2, "width": 2, "channels": 2, "classes": 3, "features": 2, "hidden": 2}
    model = Stack([part, {**part, "channels": 5}])
    x = torch.rand(model.input_shape)
    assert not tv.verify_fixed_point(model, x, norm="linf"), "gates that move, times states of any size"
    found = tv.verify_fixed_point(model, x, norm="linf", region="invariant")
    assert found and found.rate < 1 and found.answer is not None, found.explain()


def test_parts_that_do_not_fit_are_refused():
    for parts in ([], [{**CAUSAL, "channels": 1}, {**CAUSAL, "channels": 2}], [{"name": "Oracle"}], [{"name": "Stack"}],
                  [{**CAUSAL, "channels": 1}, {**CAUSAL, "channels": 3, "tokens": 5}],
                  [{**CAUSAL, "vocabulary": 3}]):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            Stack(parts)
    with pytest.raises(ValueError, match="expected"):
        cascade(wiring="star")
    with pytest.raises(ValueError, match="expected"):
        cascade(wiring="feedback")
    with pytest.raises(ValueError, match="expected"):
        cascade(temperature=0.0)


def blanks(rows=40, classes=3, seed=1):
    source = torch.Generator().manual_seed(seed)
    return torch.nn.functional.one_hot(torch.randint(0, classes + 1, (rows, 4), generator=source), classes + 1).float()


def solver(seed=0):
    return TinyRecursive([4], 4, 10, 5, 3, channels=4, heads=1, key_size=3, seed=seed)


def test_committing_fixes_open_cells_and_nothing_else():
    model, x = solver(), blanks()
    with torch.no_grad():
        first = model.readout(model.run(x, 6)).topk(2, dim=-1).values
    threshold = float((first[..., 0] - first[..., 1]).median())
    done = commit(model, x, steps=6, threshold=threshold)
    open_cells = x[..., 0] == 1
    assert bool((done.committed <= open_cells).all())
    # what was given stays, what was committed shows its answer, everything else is still blank
    assert torch.equal(done.x[~done.committed], x[~done.committed])
    assert torch.equal(done.x[done.committed].argmax(dim=-1) - 1, done.answer[done.committed])
    assert bool((done.rounds <= open_cells.sum(dim=1) + 1).all())
    assert 0 < int(done.committed.sum()) < int(open_cells.sum())
    # a row that is done stays as it is
    again = commit(model, done.x, steps=6, threshold=threshold)
    assert torch.equal(again.x, done.x) and bool((again.rounds == 1).all())


class Chain(ConfiguredModel):
    """A cell is decided, like the one before it, as soon as that one is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.state_shape, self.input_shape = (4, 3), (4, 4)
        self.readout = torch.nn.Identity()

    def step(self, z, x):
        return 5 * torch.nn.functional.pad(x[..., 1:], (0, 0, 1, 0))[:, :4]


def test_what_was_committed_decides_the_next_round():
    x = torch.zeros(3, 4, 4)
    x[..., 0] = 1
    x[0, 0] = torch.tensor([0.0, 0.0, 1.0, 0.0])  # the first cell shows class 1
    x[1, 2] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # the third one class 2
    done = commit(Chain(), x, steps=1, threshold=4.0)
    assert done.rounds.tolist() == [4, 2, 1]
    assert done.committed.tolist() == [[False, True, True, True], [False, False, False, True], [False] * 4]
    assert done.x[0].argmax(dim=-1).tolist() == [2, 2, 2, 2] and done.answer[0, 1:].tolist() == [1, 1, 1]
    assert done.x[1].argmax(dim=-1).tolist() == [0, 0, 3, 3]
    assert torch.equal(commit(Chain(), x, steps=1, threshold=5.0).x, x)  # a margin of exactly the threshold is no more


def test_rows_do_not_interact_and_thresholds_decide():
    model, x = solver(2), blanks(12)
    together = commit(model, x, steps=4, threshold=0.05)
    for row in range(12):
        alone = commit(model, x[row : row + 1], steps=4, threshold=0.05)
        assert torch.equal(alone.x[0], together.x[row]) and alone.rounds[0] == together.rounds[row]
    never = commit(model, x, steps=4, threshold=1e9)
    assert torch.equal(never.x, x) and bool((never.rounds == 1).all()) and not bool(never.committed.any())
    with torch.no_grad():
        assert torch.equal(never.answer, model.readout(model.run(x, 4)).argmax(dim=-1))


def test_unusable_inputs_are_refused():
    with pytest.raises(ValueError, match="steps >= 1"):
        commit(solver(), blanks(), steps=0, threshold=0.0)
    with pytest.raises(ValueError, match="threshold"):
        commit(solver(), blanks(), steps=1, threshold=float("nan"))
    with pytest.raises(ValueError, match="blank"):
        commit(solver(), blanks(), steps=1, threshold=0.0, blank=4)
    with pytest.raises(ValueError, match="blank"):
        commit(CausalRefiner(4, 3, 5, 2, channels=4), blanks(), steps=1, threshold=0.0)
