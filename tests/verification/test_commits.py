"""`verify_commit` against `models.commit`: the same rounds, proved; and what it says where they cannot be."""

from __future__ import annotations

import runpy
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import trm_verify as tv
from tests.small import tanh_model
from trm_verify.export import export
from trm_verify.kernel.errors import CheckError
from trm_verify.model import RecursiveModel
from trm_verify.models import TinyRecursive, commit
from trm_verify.tasks import sudoku
from trm_verify.tasks.base import Split

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sudoku_rounds.py"


@cache
def eliminating() -> RecursiveModel:
    """The constraint-propagating Sudoku model of the examples."""
    model: RecursiveModel = runpy.run_path(str(EXAMPLE))["eliminating"]()
    return model


@cache
def puzzles() -> Split:
    return sudoku((4, 8), train=16, validation=16, test=6).test


@pytest.mark.parametrize("row", range(6))
def test_sudoku_is_filled_in_as_it_is_in_torch(row: int) -> None:
    x, y = puzzles().x[row], puzzles().y[row]
    result = tv.verify_commit(eliminating(), x, threshold=0.5)
    assert result and result.answer == tuple(y.tolist())
    for steps in (result.steps or 0, 40):
        found = commit(eliminating(), x[None], steps=steps, threshold=0.5)
        assert found.answer[0].tolist() == list(result.answer or ())
        assert found.rounds.item() == result.rounds
        assert found.committed[0].tolist() == [r > 0 for r in result.committed or ()]
    assert [r == 0 for r in result.committed or ()] == (x[:, 0] == 0).tolist()


@cache
def solved() -> Any:
    return tv.verify_commit(eliminating(), puzzles().x[0], threshold=0.5)


def test_the_certificate_proves_the_claim_and_no_other() -> None:
    result, model = solved(), eliminating()
    point = tv.Box.point(puzzles().x[0].numpy())
    claim = tv.claims.Commits(
        answer=result.answer, committed=result.committed, rounds=result.rounds, steps=result.steps, threshold=0.5,
        blank=0, operator="picard", domain=point,
    )  # fmt: skip
    assert result.proves(claim) and result.proves(tv.claims.commits(steps=1000)) and str(result) == result.explain()
    for wrong in ("commits(threshold=1/4)", "commits(rounds<=1)", "commits(blank=1)", "commits(steps<=0)", "answer"):
        assert not result.proves(wrong)
    weights = exported(model)
    checked = tv.check(result.certificate, weights, expect=claim, model=model)
    assert checked.not_compared == () and checked.claims[-1] == result.statement
    with pytest.raises(CheckError, match="EXPECTED"):
        tv.check(result.certificate, weights, expect="commits(rounds<=1)")


def exported(model: RecursiveModel) -> bytes:
    return export(model).to_bytes()


def test_the_isolated_kernel_accepts_it(tmp_path: Path) -> None:
    from trm_verify.kernel import __file__ as kernel

    certificate, weights = tmp_path / "rounds.trmcert.json", tmp_path / "rounds.safetensors"
    solved().certificate.save(certificate)
    weights.write_bytes(exported(eliminating()))
    expected = f"commits(rounds<={solved().rounds},threshold=1/2)"
    argv = [sys.executable, "-E", "-S", "-m", "trm_verify.kernel", certificate, weights, "--expect", expected]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, cwd=Path(kernel).parents[2])
    assert done.returncode == 0 and solved().statement in done.stdout, done.stdout + done.stderr


def test_a_box_of_inputs() -> None:
    """Noise on the givens: the same rounds for every input, and for samples in torch."""
    x = puzzles().x[0]
    given = (x[:, :1] == 0).expand_as(x)
    noise = given / 64.0
    result = tv.verify_commit(eliminating(), tv.Box((x - noise).numpy(), (x + noise).numpy()), threshold=0.5)
    assert result and (result.answer, result.committed) == (solved().answer, solved().committed)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = x + noise * (2 * torch.rand(x.shape, generator=generator) - 1)
        found = commit(eliminating(), other.clamp(0, 1)[None], steps=result.steps or 0, threshold=0.5)
        assert (tuple(found.answer[0].tolist()), found.rounds.item()) == (result.answer, result.rounds)
    blanks = (x[:, :1] == 1).expand_as(x) / 64.0
    open_or_not = tv.verify_commit(eliminating(), tv.Box((x - blanks).numpy(), x.numpy()), threshold=0.5)
    assert not open_or_not and open_or_not.reason.startswith("BOX")


def recurrent(**changes: Any) -> TinyRecursive:
    options: Any = {"features": 4, "hidden": 6, "inputs": 4, "classes": 2, "channels": 3, "rho": 0.6, "seed": 1,
                    "domain": (0.0, 1.0), **changes}  # fmt: skip
    return TinyRecursive([3], **options)


GRID = torch.tensor([[0.0, 1, 0], [1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("changes", [{}, {"inner": 1}, {"damping": 0.5}])
def test_tiny_recursive_models(changes: dict[str, Any]) -> None:
    model = recurrent(**changes)
    result = tv.verify_commit(model, GRID, threshold="1/64")
    assert result, result.explain()
    found = commit(model, GRID[None], steps=60, threshold=1 / 64)
    assert tuple(found.answer[0].tolist()) == result.answer and found.rounds.item() == result.rounds
    assert ("outer_damped" in result.statement) == ("damping" in changes)


def test_the_blank_may_be_any_channel() -> None:
    moved = GRID[:, [1, 2, 0]]
    model = recurrent()
    result = tv.verify_commit(model, moved, threshold="1/64", blank=2)
    found = commit(model, moved[None], steps=60, threshold=1 / 64, blank=2)
    assert result and tuple(found.answer[0].tolist()) == result.answer and found.rounds.item() == result.rounds


# what is not proved, and why


def test_a_gap_that_tends_to_the_threshold_is_left_open() -> None:
    """The gap of a candidate without rivals is 1 − 2⁻ᵏ: below 1 at every step, and 1 in the end."""
    result = tv.verify_commit(eliminating(), puzzles().x[0], threshold=1)
    assert result.verdict is tv.UNKNOWN and "in round 1 at cell" in result.reason and "threshold" in result.remedy
    with pytest.raises(ValueError, match="no certificate"):
        result.certificate  # noqa: B018
    assert not result.proves("commits")


def test_a_tie_at_the_end_is_no_answer() -> None:
    x = torch.nn.functional.one_hot(torch.tensor([0] * 15 + [1]), 5).float()
    result = tv.verify_commit(eliminating(), x, threshold=0.5)
    assert not result and "by more than 0 in round 1 at cell" in result.reason


def test_too_few_steps_say_how_many_are_enough() -> None:
    result = tv.verify_commit(eliminating(), puzzles().x[0], threshold=0.5, steps=1)
    assert not result and f"steps={solved().steps}" in result.remedy
    more = tv.verify_commit(eliminating(), puzzles().x[0], threshold=0.5, steps=77)
    assert more and more.steps == 77 and more.proves("commits(steps<=77)") and not more.proves("commits(steps<=76)")


def cells(step: Any, **rest: Any) -> RecursiveModel:
    options: Any = {"state_shape": (2, 2), "input_shape": (2, 3), "readout": lambda z: z / 1, **rest}
    return tv.recursive(step, **options)


def test_without_convergence_nothing_is_said() -> None:
    result = tv.verify_commit(cells(lambda z, x: 2 * z + x[..., 1:]), GRID[:2], threshold=0.5)
    assert not result and "convergence" in result.reason and "converge" in result.remedy


def test_the_loop_has_to_converge_for_the_committed_inputs_too() -> None:
    """x∘z + b contracts while x is at most 1/2: not once a cell shows its class."""
    limits = tv.Box(torch.zeros(2, 3).numpy(), torch.tensor([[1, 0.5, 0.5]] * 2).numpy())
    model = cells(lambda z, x: x[..., 1:] * z + torch.tensor([2.0, 0.0]), domain=limits)
    result = tv.verify_commit(model, torch.tensor([[1.0, 0, 0], [1, 0, 0]]), threshold=0.5)
    assert not result and result.reason.startswith("CONTEXT") and "commitments lead to" in result.remedy


def test_no_time_is_no_proof() -> None:
    result = tv.verify_commit(eliminating(), puzzles().x[0], threshold=0.5, timeout=0)
    assert not result and "time was used up" in result.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": -1}, "threshold"),
        ({"threshold": Fraction(1, 3)}, "binary fraction"),
        ({"threshold": float("nan")}, "threshold"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"blank": 5}, "blank"),
        ({"blank": -1}, "blank"),
        ({"timeout": -1}, "timeout"),
        ({"norm": "l7"}, "norms"),
        ({"x": torch.zeros(2, 16, 5)}, "a batch"),
        ({"x": torch.zeros(16, 4)}, "shape"),
    ],
)
def test_what_does_not_fit_is_an_error(changes: dict[str, Any], message: str) -> None:
    given: Any = {"x": puzzles().x[0], "threshold": 0.5, **changes}
    with pytest.raises(ValueError, match=message):
        tv.verify_commit(eliminating(), **given)


def test_models_whose_cells_do_not_commit() -> None:
    with pytest.raises(ValueError, match="a blank and every class"):
        tv.verify_commit(tanh_model(), torch.zeros(3), threshold=0.5)


def test_results_show_themselves() -> None:
    shown = solved()._repr_html_()
    assert "PROVED" in shown and "cells committed" in shown
    unknown = tv.verify_commit(eliminating(), puzzles().x[0], threshold=1)
    assert "UNKNOWN" in unknown._repr_html_()
