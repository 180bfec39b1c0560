"""Properties: each fails on a model for which it is false, with a small counterexample that runs as printed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

import trm_verify as tv
from tests.small import autonomous, tanh_model
from trm_verify.testing import (
    AffineStep,
    Counterexample,
    Subject,
    adversarial,
    answer_is_final,
    ball,
    chain_machine,
    enclosure_holds,
    half,
    inputs,
    never_expands,
    quantized,
    runs_agree,
    states,
    steps,
    variants,
)
from trm_verify.testing.checks import check_answer, check_contraction, check_enclosure

FEW = settings(deadline=None, max_examples=20, derandomize=True, database=None)
ROOT = Path(__file__).parents[2]


def fails(run: Callable[[], object]) -> Counterexample:
    """The counterexample that a property ends with; its code raises the same one again, in this process."""
    with pytest.raises(Counterexample) as caught:
        run()
    found = caught.value
    with pytest.raises(Counterexample) as again:
        exec(compile(found.code, "<counterexample>", "exec"), {})
    assert again.value.what == found.what
    assert found.code in str(found)
    return found


def expanding() -> AffineStep:
    return AffineStep([[0.5, 0.75], [0.0, 0.5]], [[1.0], [0.0]], activation="identity")


# never_expands


def test_never_expands_holds_at_a_proved_rate_in_every_norm() -> None:
    model = tanh_model()
    for norm in ("linf", "l2", "metric"):
        result = tv.verify_fixed_point(model, norm=norm)
        assert result
        never_expands(model, result, settings=FEW)()


def test_never_expands_holds_in_a_region_and_fails_around_it() -> None:
    model = autonomous(lambda z: torch.tanh(2 * z))
    result = tv.verify_fixed_point(model, region=tv.Box(0.5, 1.5))
    assert result
    never_expands(model, result, settings=FEW)()
    with pytest.raises(Counterexample):
        never_expands(model, rate=result.rate, settings=FEW)()


def test_never_expands_fails_above_the_rate_with_a_small_pair() -> None:
    found = fails(never_expands(expanding, rate=1.0, settings=FEW))
    assert "from tests.testing.test_properties import expanding" in found.code
    assert "1.25 times" in found.what
    # Hypothesis has shrunk it: one of the two states is the origin
    assert "z=[0.0, 0.0]" in found.code and "x=[0.0]" in found.code


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_find_what_expands_in_one_direction_only(norm: str) -> None:
    """Of 16 coordinates one pair expands, by 1.3: random pairs hardly ever see it."""
    matrix = [[1 / 8 * (i == j) for j in range(16)] for i in range(16)]
    matrix[3][11], matrix[3][3] = 1.3, 0.0
    fails(never_expands(AffineStep(matrix, activation="identity"), rate=1.0, norm=norm, settings=FEW))


def test_a_rate_is_needed() -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        never_expands(expanding)
    with pytest.raises(ValueError, match="expected a result that proves a contraction"):
        never_expands(expanding, tv.verify_fixed_point(autonomous(lambda z: 2 * z)))


# answer_is_final


def test_answer_is_final_holds_where_it_is_proved() -> None:
    model, x = tanh_model(), torch.zeros(3)
    result = tv.verify_fixed_point(model, x, eps="0.001")
    assert result.answer is not None
    answer_is_final(model, x, eps="0.001", result=result, settings=FEW)()


def test_answer_is_final_fails_in_a_larger_ball() -> None:
    """The answer changes within 0.5 of x; gradients or corners find an input."""
    model = AffineStep([[0.5]], [[1.0]], C=[[1.0], [0.0]], c=[0.0, 0.25], activation="identity")
    answer_is_final(model, [0.5], eps=0.25, answer=0, steps=8, settings=FEW)()
    found = fails(answer_is_final(model, [0.5], eps=0.5, answer=0, steps=8, settings=FEW))
    assert "more=0" in found.code and "AffineStep(A=[[0.5]]" in found.code


def test_answer_is_final_fails_for_a_loop_that_oscillates() -> None:
    """z ← −z + x: 0, 1, 0, 1: right at step 8, wrong at step 9."""
    model = AffineStep([[-1.0]], [[1.0]], C=[[0.0], [1.0]], c=[0.5, 0.0], activation="identity")
    found = fails(answer_is_final(model, [1.0], answer=0, steps=8, settings=FEW))
    assert "more=1" in found.code and "found (1,) at step 9" in found.what


def test_a_tie_is_not_reported_but_a_wrong_answer_is() -> None:
    model = AffineStep([[0.0]], C=[[1.0], [1.0]])
    check_answer(model, answer=1, steps=0, more=3)
    with pytest.raises(Counterexample):
        check_answer(AffineStep([[0.0]], C=[[1.0], [1.0]], c=[1e-6, 0.0]), answer=1, steps=0, more=3)


# enclosure_holds


def test_enclosure_holds_where_it_is_proved() -> None:
    model, x = tanh_model(), torch.zeros(3)
    result = tv.verify_fixed_point(model, x, eps="0.01")
    assert result.enclosure is not None
    enclosure_holds(model, x, eps="0.01", result=result, settings=FEW)()


def test_enclosure_fails_in_a_larger_ball_and_for_a_second_fixed_point() -> None:
    model = AffineStep([[0.5]], [[1.0]], activation="identity")  # z* = 2x
    enclosure_holds(model, [0.25], eps=0.125, center=[0.5], radius=[0.25], settings=FEW)()
    fails(enclosure_holds(model, [0.25], eps=0.25, center=[0.5], radius=[0.25], settings=FEW))
    two = AffineStep([[2.0]], activation="tanh")  # 0, and ±0.957…
    found = fails(enclosure_holds(two, center=[0.0], radius=[0.5], settings=FEW))
    assert "start=[" in found.code


def test_a_start_from_which_nothing_settles_shows_nothing() -> None:
    check_enclosure(AffineStep([[-1.0]], activation="identity"), center=[9.0], radius=[0.0], start=[1.0])


# runs_agree


def batch_mixing() -> torch.nn.Module:
    return tv.recursive(lambda z, x: z / 2 + (x - x.mean(0)), state_shape=(1,), input_shape=(1,), domain=tv.Box(-1, 1))


def counting() -> torch.nn.Module:
    calls = [0]

    def step(z: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return z / 2 + calls[0]

    return tv.recursive(step, state_shape=(1,))


def chaotic_run() -> torch.nn.Module:
    """The logistic map in float32: no longer that of float64 after some thirty steps."""
    return tv.recursive(
        lambda z: 3.9 * z * (1 - z), state_shape=(1,), init=lambda batch: torch.full((batch, 1), 0.3)
    )  # fmt: skip


def test_runs_agree_for_a_contractive_model() -> None:
    runs_agree(tanh_model, steps=20, settings=settings(FEW, max_examples=5))()


@pytest.mark.parametrize(
    ("make", "what"),
    [(batch_mixing, "to end alone as in the batch"), (counting, "the same state"), (chaotic_run, "exact graph")],
)
def test_runs_agree_fails(make: Callable[[], torch.nn.Module], what: str) -> None:
    found = fails(runs_agree(make, steps=60, rows=2, settings=settings(FEW, max_examples=10)))
    assert what in found.what
    if make is batch_mixing:
        assert "steps=1," in found.code and found.code.count("[0.0]") == 1  # two rows, one of them plain


# strategies


@settings(FEW, max_examples=8)
@given(model=steps(gain=0.75), data=st.data())
def test_drawn_steps_contract_at_their_gain_and_are_spelled_as_code(model: AffineStep, data: st.DataObject) -> None:
    made = eval(repr(model), {"AffineStep": AffineStep})
    z, other, x = (data.draw(s) for s in (states(model), states(model), inputs(model)))
    assert torch.equal(model.step(_row(z), _row(x)), made.step(_row(z), _row(x)))
    check_contraction(made, z, other, x, rate=0.75)


def _row(x: list[float] | None) -> torch.Tensor | None:
    return None if x is None else torch.tensor([x], dtype=torch.float64)


BALL = [1.0, 0.1, -0.3]
MODEL = Subject.of(tanh_model())


def test_drawn_steps_shrink_to_a_small_one() -> None:
    def expands(model: AffineStep) -> bool:
        with torch.no_grad():
            return float(model.mix.weight.abs().sum(1).max()) > 1

    found = find(steps(gain=2.0), expands, settings=settings(FEW, phases=[Phase.generate, Phase.shrink]))
    assert found.state_shape == (1,) and found.mix.weight.abs().tolist() == [[1.125]]
    assert not found.mix.bias.any()


@settings(FEW, max_examples=10)
@given(data=st.data())
def test_balls_stay_inside_ball_and_domain(data: st.DataObject) -> None:
    for strategy in (ball(MODEL, BALL, 0.2), adversarial(MODEL, BALL, 0.2)):
        box = tv.Box.ball(torch.tensor(BALL, dtype=torch.float64), 0.2).intersect(tv.Box(-1, 1).expand((3,)))
        assert box.contains(tv.Box.point(torch.tensor(data.draw(strategy), dtype=torch.float64)))


def test_adversarial_inputs_lie_closer_to_another_answer_than_random_ones() -> None:
    model = tanh_model(2)
    x, eps = [0.25, -0.25, 0.5], 0.125

    def closest(strategy: st.SearchStrategy[list[float]]) -> float:
        best = float("inf")

        @settings(FEW, phases=[Phase.generate])
        @given(x=strategy)
        def look(x: list[float]) -> None:
            nonlocal best
            logits = model.readout(model.run(torch.tensor([x]), 20))[0].detach()
            own = int(model.readout(model.run(torch.tensor([[0.25, -0.25, 0.5]]), 20))[0].argmax())
            others = torch.cat([logits[:own], logits[own + 1 :]])
            best = min(best, float(logits[own] - others.max()))

        look()
        return best

    assert closest(adversarial(model, x, eps)) < closest(ball(model, x, eps).filter(lambda p: max(map(abs, p)) < 9))


# variants


def test_variants_are_models_of_their_own_that_can_be_certified() -> None:
    model = tanh_model()
    for variant in (half(model), quantized(model, bits=8)):
        result = tv.verify_fixed_point(variant)
        assert result and result.weights_digest != tv.verify_fixed_point(model).weights_digest
        z, x = torch.ones(1, 5, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
        apart = (variant.step(z, x) - model.double().step(z, x)).abs().max()
        assert 0 < apart < 0.05
        model.float()


def test_quantized_weights_are_few_and_near() -> None:
    variant = quantized(AffineStep([[0.75, -0.3], [0.07, 0.0]], b=[0.0, 0.0]), bits=4)
    (weight,) = [t for _, t in variant.named_buffers() if t.dim() == 2]
    assert weight.tolist() == [[0.75, -0.25], [0.125, 0.0]]
    with pytest.raises(ValueError, match="bits >= 2"):
        quantized(tanh_model(), bits=1)


def test_rounding_can_break_what_was_proved_and_the_property_sees_it() -> None:
    """0.98 rounds to 1 at four bits: the original contracts, its variant does not."""
    model = AffineStep([[0.99, 0.0], [0.0, 0.5]], activation="identity")
    never_expands(model, rate=0.99, settings=FEW)()
    found = fails(never_expands(quantized(model, bits=3), rate=0.49, settings=FEW))
    assert "model = quantized(AffineStep(" in found.code


@settings(FEW, max_examples=6)
@given(data=st.data())
def test_variants_are_drawn(data: st.DataObject) -> None:
    model = AffineStep([[0.3, 0.1], [0.0, 0.2]], C=[[1.0, 0.0], [0.0, 1.0]])
    variant = data.draw(variants(model))
    assert variant.readout(variant.run(None, 5)).shape == (1, 2)


# the chain of models


def gentle_first() -> AffineStep:
    return AffineStep([[0.3, -0.2], [0.1, 0.4]], [[1.0], [0.5]], activation="tanh")


def gentle_second() -> AffineStep:
    return AffineStep([[0.1, 0.3], [-0.4, 0.2]], activation="relu", b=[0.1, 0.7])


def growing() -> AffineStep:
    return AffineStep([[64.0, 0.3], [0.0, 0.7]], b=[1 / 3, 0.1], activation="identity")


def chaotic() -> torch.nn.Module:
    return tv.recursive(lambda z: 3.9 * z * (1 - z), state_shape=(2,))


MACHINE = settings(FEW, max_examples=8, stateful_step_count=4)


def test_contractive_models_in_a_chain_do_not_drift() -> None:
    run_state_machine_as_test(chain_machine([gentle_first, gentle_second], tolerance=1e-5, steps=60), settings=MACHINE)


@pytest.mark.parametrize("bad", [growing, pytest.param(chaotic, marks=pytest.mark.slow)])
def test_one_bad_model_in_a_chain_is_found(bad: Callable[[], torch.nn.Module]) -> None:
    machine = chain_machine([gentle_first, bad], tolerance=1e-2, steps=60)
    found = fails(lambda: run_state_machine_as_test(machine, settings=MACHINE))
    assert "check_chain(models, [" in found.code
    assert "('run', 1, None" in found.code


def test_models_of_different_sizes_make_no_chain() -> None:
    with pytest.raises(ValueError, match=r"states of one size, found sizes \[1, 2\]"):
        chain_machine([AffineStep([[0.5]]), gentle_second])


# as tests that pytest collects


@pytest.mark.slow
def test_under_pytest_a_failure_prints_code_that_runs_by_itself(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(
        "from trm_verify.testing import AffineStep\n\n\ndef make():\n    return AffineStep([[1.5]])\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "from my_models import make\nfrom trm_verify.testing import never_expands\n\n"
        "test_mine = never_expands(make, rate=0.9)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1 and "1 failed" in done.stdout
    lines = [line.removeprefix("E").strip() for line in done.stdout.splitlines() if line.startswith("E")]
    first = next(i for i, line in enumerate(lines) if line.startswith("from trm_verify.testing.checks"))
    last = next(i for i, line in enumerate(lines) if line.startswith("check_contraction("))
    code = "\n".join(lines[first : last + 1])
    assert "from my_models import make" in code
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(Counterexample):
            exec(code, {})
    finally:
        sys.path.remove(str(tmp_path))
