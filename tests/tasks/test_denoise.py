from __future__ import annotations

import math

import pytest
import torch

from trm_verify.tasks import denoise, digits
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.denoise import level_logits, psnr, psnr_mean

pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")


def test_targets_are_the_clean_images_of_the_digits_split():
    task, images = denoise(copies=2), digits()
    for noisy, clean in ((task.validation, images.validation), (task.test, images.test)):
        assert torch.equal(noisy.y.flatten(1) / 16, clean.x)
    assert torch.equal(task.train.y.flatten(1) / 16, images.train.x.repeat(2, 1))
    assert not torch.equal(task.train.x[:1257], task.train.x[1257:])
    train, test = ({tuple(row) for row in split.y.flatten(1).tolist()} for split in (task.train, task.test))
    assert not train & test
    assert task.input_shape == (8, 8, 1) and task.classes == 17


def test_noise_has_the_deviation_asked_for():
    task = denoise(0.25)
    error = task.train.x[..., 0] - task.train.y / 16
    assert float(error.std()) == pytest.approx(0.25, abs=0.003) and abs(float(error.mean())) < 0.003
    assert float(denoise(2.0).train.x.min()) == -1 and float(denoise(2.0).train.x.max()) == 2
    assert task.domain is not None and task.domain.contains(task.train.x[0])
    assert torch.equal(denoise().test.x, denoise().test.x)
    assert not torch.equal(denoise().test.x, denoise(seed=1).test.x)


def test_psnr_against_the_formula():
    target = torch.tensor([[[0, 16], [8, 4]]])
    answer = torch.tensor([[[4, 16], [8, 2]]])
    wanted = -10 * math.log10((0.25**2 + 0.125**2) / 4)
    assert psnr(one_hot(answer, 17), target) == pytest.approx(wanted)
    assert psnr_mean(1000 * one_hot(answer, 17), target) == pytest.approx(wanted)
    # Half 0 and half 8: the most likely level is either, the mean is 4.
    logits = torch.full((1, 1, 1, 17), -1000.0)
    logits[..., 0], logits[..., 8] = 0.001, 0.0
    assert psnr_mean(logits, torch.tensor([[[4]]])) > 60
    assert psnr(logits, torch.tensor([[[4]]])) == pytest.approx(-10 * math.log10(1 / 16))


def test_level_logits_answer_the_nearest_level():
    value = torch.linspace(-0.5, 1.5, 1001, dtype=torch.float64)
    nearest = (16 * value).round().clamp(0, 16).long()
    clear = ((16 * value) % 1 - 0.5).abs() > 1e-9
    assert torch.equal(level_logits(value).argmax(dim=-1)[clear], nearest[clear])
    # Cross-entropy on them is least at the mean of the targets (nearly: the levels end at 0 and 16).
    number = torch.tensor([0.2], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(level_logits(number.expand(2)), torch.tensor([4, 12]))
    (slope,) = torch.autograd.grad(loss, number)
    assert slope < 0
    at_mean = torch.tensor([0.5], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(level_logits(at_mean.expand(2)), torch.tensor([4, 12]))
    assert abs(float(torch.autograd.grad(loss, at_mean)[0])) < 1e-3


def test_linear_filter_is_far_better_than_the_noisy_image():
    task = denoise()
    noisy = psnr(level_logits(task.test.x[..., 0]), task.test.y)
    assert noisy + 3 < task.baseline() < noisy + 8


def test_refusals_and_text():
    for wrong in ({"noise": 0.0}, {"noise": math.inf}, {"copies": 0}):
        with pytest.raises(ValueError, match="denoise"):
            denoise(**wrong)
    task = denoise()
    lines = task.show(torch.ones(8, 8, 1), torch.zeros(8, 8, dtype=torch.long)).splitlines()
    assert lines == [f"{'@' * 16} │ {' ' * 16} │"] * 8
