"""Averages, curricula, objectives: each does what it says."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.train.toys import causal, largest, parity, refiner
from trm_verify.models import SandwichRefiner, distance, iteration
from trm_verify.tasks.base import IGNORE
from trm_verify.train import Settings, train
from trm_verify.train.curricula import FixedCurriculum, LearnedCurriculum, OneLevel, curriculum
from trm_verify.train.ema import Average
from trm_verify.train.levels import levels_of
from trm_verify.train.objectives import cross_entropy, objective, provable_logits, rises


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# moving averages


def test_the_average_is_the_weighted_sum_of_what_it_saw():
    model = refiner()
    parameter = model.readout.bias
    average = Average(model, 0.5)
    seen = [parameter.detach().clone()]
    for step in range(6):
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator(step)))
        seen.append(parameter.detach().clone())
        average.update(model)
    expected = seen[0].double()
    for step, value in enumerate(seen[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value.double()
    assert torch.allclose(average.values["readout.bias"].double(), expected, atol=1e-6)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(RuntimeError), average.applied(model):
        assert torch.equal(model.readout.bias, average.values["readout.bias"])
        raise RuntimeError
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_what_is_kept_are_the_averaged_parameters():
    plain, averaged = refiner(), refiner()
    short = {"epochs": 3, "batch_size": 8, "depth": (2, 4)}
    train(plain, largest(), **short)
    train(averaged, largest(), **short, ema=0.99)
    assert not torch.equal(plain.readout.weight, averaged.readout.weight)


# curricula


def test_the_fixed_curriculum_goes_through_its_levels_in_order():
    fixed, source = FixedCurriculum(3), generator()
    chosen = [fixed.choose(k / 400, source) for k in range(400)]
    assert chosen[:100] == [0] * 100 and chosen[100:200] == [1] * 100 and chosen[200:300] == [2] * 100
    assert set(chosen[300:]) == {0, 1, 2}
    assert {OneLevel(3).choose(k / 10, source) for k in range(10)} == {0}


def learner(progressing, steps=600, levels=4):
    """Losses of a learner that gets better on one level alone, and how often each level was drawn at the end."""
    bandit, source, losses = LearnedCurriculum(levels), generator(3), [2.0] * levels
    drawn = [0] * levels
    for step in range(steps):
        level = bandit.choose(step / steps, source)
        bandit.learn(level, losses[level])
        if level == progressing:
            losses[level] *= 0.99
        drawn[level] += step >= steps // 4
    return bandit, drawn


@pytest.mark.parametrize("progressing", range(4))
def test_the_bandit_prefers_the_level_where_progress_is(progressing):
    bandit, drawn = learner(progressing)
    assert drawn[progressing] > 0.7 * sum(drawn)
    assert min(drawn) > 0  # the others are looked at now and then
    assert sum(bandit.probabilities()) == pytest.approx(1)


def test_a_bandit_without_progress_draws_evenly_and_restores_its_state():
    bandit, drawn = learner(None)
    assert min(drawn) > 0.6 * max(drawn)
    again = LearnedCurriculum(4)
    again.restore(learner(1)[0].state())
    assert again.probabilities() == learner(1)[0].probabilities() != bandit.probabilities()


def test_unusable_curricula_are_refused():
    with pytest.raises(ValueError, match="at least one level"):
        FixedCurriculum(0)
    with pytest.raises(ValueError, match="explore"):
        LearnedCurriculum(2, explore=0)
    assert isinstance(curriculum(Settings(curriculum="learned"), 2), LearnedCurriculum)


def test_levels_share_the_parameters_of_the_model():
    model = causal()
    settings = Settings(curriculum="fixed", levels=(4, 6), batch_size=4)
    small, same = levels_of(model, parity(), settings)
    assert same.model is model and small.model.input_shape == (4, 1) and small.x.shape[1:] == (4, 1)
    assert all(p is q for p, q in zip(small.model.parameters(), model.parameters(), strict=True))
    with pytest.raises(ValueError, match="several difficulties"):
        levels_of(refiner(), largest(), Settings(curriculum="learned"))
    with pytest.raises(ValueError, match="at least 64 rows"):
        levels_of(model, parity(), Settings(curriculum="learned", levels=(4,)))


@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_training_on_levels_moves_the_model(kind):
    model, before = causal(), causal()
    train(model, parity(), epochs=3, batch_size=8, depth=(6, 8), curriculum=kind, levels=(4, 6), lr=0.01)
    assert not torch.equal(model.head.weight, before.head.weight)
    assert model.input_shape == (6, 1)


# objectives


def test_any_right_class_will_do_and_only_counted_positions_count():
    logits = torch.randn(5, 3, 4, generator=generator(3), requires_grad=True)
    target = torch.tensor([[0, 1, IGNORE]] * 5)
    right = torch.zeros(5, 3, 4, dtype=torch.bool)
    right[:, 0, [0, 2]] = right[:, 1, 1] = True
    chances = logits.detach().softmax(-1)
    expected = -torch.cat([(chances[:, 0, 0] + chances[:, 0, 2]).log(), chances[:, 1, 1].log()]).mean()
    loss = cross_entropy(logits, target, right)
    loss.backward()
    assert torch.allclose(loss, expected) and torch.isfinite(logits.grad).all()
    assert not logits.grad[:, 2].any()
    alone = torch.nn.functional.one_hot(target.clamp_min(0), 4).bool()
    assert torch.allclose(cross_entropy(logits, target, alone), cross_entropy(logits, target))


def test_training_asks_for_any_of_several_right_answers():
    """Every class is right at the last position: nothing is learned there, and something is elsewhere."""
    task = largest()

    def ties(target):
        found = torch.nn.functional.one_hot(target, task.classes).bool()
        found[:, -1] = True
        return found

    model, rows = refiner(), slice(0, 8)
    x, y = task.train.x[rows], task.train.y[rows]
    values = (Settings(), generator(1))
    every = objective(model, x, y, 5, *values, ties=lambda t: torch.ones(*t.shape, task.classes, dtype=torch.bool))
    assert float(every.detach()) == pytest.approx(0, abs=1e-6)
    some, alone = (float(objective(model, x, y, 5, *values, ties=t).detach()) for t in (ties, None))
    assert 0 < some < alone
    plain, tied = (
        train(refiner(), dataclasses.replace(task, ties=t), epochs=1, batch_size=16, seed=0).history[0]
        for t in (None, ties)
    )
    assert tied.loss < plain.loss and tied.validation_loss < plain.validation_loss


def test_terms_are_added_with_their_weights():
    model, x, y = refiner(), largest().train.x[:8], largest().train.y[:8]

    def loss(**changes):
        return float(objective(model, x, y, 5, Settings(**changes), generator(1)).detach())

    plain = loss()
    for term in ("margin", "jacobian"):
        one, two = loss(**{term: 1.0}) - plain, loss(**{term: 2.0}) - plain
        assert one > 0 and two == pytest.approx(2 * one, rel=1e-4)
    assert loss(recall=0.5) != plain
    assert loss(recall=0.5) == pytest.approx(loss(recall=0.5))


def test_provable_logits_decide_what_no_further_step_changes():
    """Where they still favour the target, it stays the answer of every later iterate, in the loop that is run."""
    model = refiner(rho=0.7, offset=True).double()
    with torch.no_grad():
        model.readout.weight.mul_(3)
    x = torch.rand(4000, 3, generator=generator(5), dtype=torch.float64)
    decided = undecided = 0
    with torch.no_grad():
        states = model.trace(x, 60)
        answers = torch.stack([model.readout(z).argmax(dim=1) for z in states])
        for k in (1, 2, 4, 8):
            target = answers[k]
            final = provable_logits(model, x, target, states[k]).argmax(dim=1) == target
            assert bool((answers[k:, final] == target[final]).all())
            decided, undecided = decided + int(final.sum()), undecided + int((~final).sum())
            r = distance(model.norm, iteration(model, x)(states[k]), states[k]) / (1 - model.rate)
            assert bool(((states[60] - states[k]).norm(dim=1) <= r + 1e-9).all())
    assert decided > 1000 and undecided > 1000


def test_margin_training_makes_answers_final_earlier():
    task = largest(600)
    final = {}
    for margin in (0.0, 1.0):
        model = SandwichRefiner(6, 10, 3, 3, seed=1)
        train(model, task, epochs=15, batch_size=16, depth=(4, 6), lr=0.02, margin=margin)
        with torch.no_grad():
            z = model.run(task.test.x, 5)
            raised = provable_logits(model, task.test.x, task.test.y, z)
        final[margin] = float((raised.argmax(dim=1) == task.test.y).double().mean())
    assert final[1.0] > final[0.0] + 0.1


def test_flatness_makes_the_layers_of_a_causal_step_contract_where_it_runs():
    found = {}
    for flatness in (0.0, 2.0):
        model, task = causal(seed=1), parity()
        train(model, task, epochs=60, batch_size=16, depth=(6, 8), lr=0.02, flatness=flatness)
        z = model.run(task.test.x, 6)
        gain = model.local_gain(z, task.test.x)
        found[flatness] = float(gain.detach().mean())
        # it bounds what a step really does to a small change of its state
        moved = (
            1e-4
            * torch.rand(z.shape, generator=generator(2))
            * torch.sign(torch.randn(z.shape, generator=generator(3)))
        )
        after = (model.step(z + moved, task.test.x) - model.step(z, task.test.x)).abs()
        assert bool((after <= 1.05 * 1e-4 * gain + 1e-6).all())
    assert found[2.0] < 0.8 * found[0.0]
    with pytest.raises(ValueError, match="local gain"):
        train(refiner(), largest(), epochs=1, batch_size=8, flatness=1.0)


def test_rises_are_what_the_loss_of_each_row_gains_from_step_to_step():
    logits = [torch.randn(5, 4, 3, generator=generator(seed)) for seed in range(4)]
    y = torch.randint(0, 3, (5, 4), generator=generator(9))
    y[0, 1:], y[2, 0] = IGNORE, IGNORE
    right = torch.nn.functional.one_hot(y.clamp_min(0), 3).bool() | (torch.rand(5, 4, 3, generator=generator(4)) > 0.7)
    for ties in (None, right):
        expected = 0.0
        for row in range(5):
            own = None if ties is None else ties[row : row + 1]
            losses = [float(cross_entropy(values[row : row + 1], y[row : row + 1], own)) for values in logits]
            expected += sum(max(b - a, 0.0) for a, b in zip(losses, losses[1:], strict=False)) / 5
        assert float(rises(logits, y, ties)) == pytest.approx(expected, rel=1e-5)
    assert float(rises(logits[:1], y)) == 0.0


def test_a_position_that_does_not_count_adds_nothing_to_rises():
    logits = [torch.randn(2, 3, 4, generator=generator(seed)).requires_grad_() for seed in (0, 1)]
    y = torch.tensor([[0, 1, IGNORE], [IGNORE, IGNORE, IGNORE]])
    right = torch.nn.functional.one_hot(y.clamp_min(0), 4).bool() & (y != IGNORE)[..., None]
    for ties in (None, right):
        rises(logits, y, ties).backward()
        for values in logits:
            assert bool(values.grad.isfinite().all()) and not values.grad[y == IGNORE].any()


def test_descent_makes_the_error_fall_from_step_to_step():
    found = {}
    for descent in (0.0, 20.0):
        model, task = refiner(offset=True), largest()
        train(model, task, epochs=20, batch_size=16, depth=(6, 8), lr=0.02, descent=descent)
        with torch.no_grad():
            logits = [model.readout(z) for z in model.trace(task.test.x, 30)[1:]]
            found[descent] = float(rises(logits, task.test.y))
    assert found[20.0] < 0.5 * found[0.0]


def test_margins_need_a_rate_and_a_linear_readout():
    with pytest.raises(ValueError, match="margin"):
        train(causal(), parity(), epochs=1, batch_size=8, margin=1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"gradient": 0}, {"gradient": "some"}, {"gradient": True}, {"recall": 1.0}, {"jacobian": -1.0}, {"ema": 1.0},
     {"descent": -1.0}, {"descent": 1.0, "gradient": "implicit"}, {"descent": 1.0, "gradient": "settled"},
     {"clip": float("inf")}, {"curriculum": "random"}, {"levels": (3,)}, {"depth": (1,)}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Settings(**wrong)


def test_settings_from_lists_are_the_same_settings():
    assert Settings(depth=[3, 4], curriculum="fixed", levels=[8, 16]) == Settings(
        depth=(3, 4), curriculum="fixed", levels=(8, 16)
    )
    assert dataclasses.replace(Settings(), epochs=3).epochs == 3
