"""Boxes that a loop does not leave, found from where it starts: they are such, and small; or it is said why not."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trm_verify as tv
from trm_verify.auditing import attractors, refute
from trm_verify.certificate import derive
from trm_verify.encode import Json
from trm_verify.kernel.evaluate import initial_state, step
from trm_verify.kernel.operators import PICARD
from trm_verify.kernel.tensor import contains
from trm_verify.provers.invariant import UNBOUNDED, _box, _ends, _Search, invariant_box
from trm_verify.provers.problem import Problem
from trm_verify.verification import session
from trm_verify.verification.session import Verification

SQUARES = tv.Box("-1/8", "1/8")


def model(step: Callable[..., Tensor], size: int = 1, domain: tv.Box | None = None, **options: object) -> nn.Module:
    return tv.recursive(step, state_shape=(size,), input_shape=(size,), domain=domain or tv.Box(-1, 1), **options)


def found(module: nn.Module) -> tuple[list[tuple[float, float]], str]:
    """The ends of each entry, after the kernel has agreed that init lies inside and that no step leads out."""
    session = Verification(module)
    problem, operator = session.problem, session.deployed.operator
    box, why = invariant_box(problem, session.domain, operator)
    if box is None:
        return [], why
    problem.conclude(derive("invariant_box", operator=operator, domain=session.domain, region=box))
    states = problem.box(box)
    assert contains(states, initial_state(problem.graph, problem.box(session.domain)))
    return [(float(a), float(b)) for a, b in (states.fraction(i) for i in range(states.size))], why


@pytest.mark.parametrize("rate", ["0", "1/2", "-1/2", "7/8", "-7/8", "31/32", "255/256"])
def test_the_box_of_a_linear_loop_is_hardly_larger_than_what_it_reaches(rate: str) -> None:
    gain = float(Fraction(rate))
    (ends,), _ = found(model(lambda z, x: gain * z + x))
    least = 1 / (1 - abs(gain))  # of the intervals that do not grow
    assert ends[0] <= -least <= least <= ends[1] and max(map(abs, ends)) <= 2.1 * least


def test_entries_that_follow_each_other_take_their_turn() -> None:
    """A chain of eight, each of which is moved by the one before it."""
    chain = torch.diag(torch.full((8,), 0.9)) + torch.diag(torch.full((7,), 0.5), -1)
    ends, _ = found(model(lambda z, x: z @ chain.T + x, 8))
    reached = np.linalg.solve(np.eye(8) - chain.numpy().astype(float), np.ones(8))
    assert all(r <= hi <= 4 * r and lo == -hi for (lo, hi), r in zip(ends, reached, strict=True))


def test_a_box_is_not_pushed_over_the_edge_beyond_which_the_loop_expands() -> None:
    """z²/2 + x has a second fixed point just below 2, and intervals that hold it grow for ever."""
    (ends,), _ = found(model(lambda z, x: z * z / 2 + x, domain=SQUARES))
    assert -0.15 < ends[0] < 0 < ends[1] < 0.15


def test_what_grows_or_has_no_bounds_is_said() -> None:
    assert "grow on" in found(model(lambda z, x: 1.01 * z + x))[1]
    assert "grow on" in found(model(lambda z, x: z * z + 1 + x))[1]
    unbounded = tv.recursive(lambda z, x: z / 2 + x, state_shape=(1,), input_shape=(1,))
    unbounded.init = lambda x: x  # type: ignore[assignment]
    assert found(unbounded)[1] == UNBOUNDED
    start = tv.recursive(lambda z, x: z / 2 + x, state_shape=(1,), input_shape=(1,))
    assert "cannot be followed" in found(start)[1]


def test_no_round_begins_after_the_deadline() -> None:
    session = Verification(model(lambda z, x: z / 2 + x))
    late = invariant_box(session.problem, session.domain, "picard", time.monotonic() - 1)
    assert late[0] is None and "time" in late[1]


@pytest.mark.parametrize("seed", range(60))
def test_orbits_of_random_loops_stay_in_what_is_found(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    size = 1 + seed % 4
    weight = torch.randn(size, size, generator=draw) * (0.2 + seed % 5 / 4)
    bend = [torch.tanh, torch.relu, torch.sigmoid, lambda v: v * torch.tanh(v) / 2, torch.nn.functional.silu][seed % 5]
    damping = {"iteration": tv.Damped(0.5)} if seed % 7 == 0 else {}
    module = model(lambda z, x: bend(z @ weight.T + x), size, **damping)
    ends, why = found(module)
    if not ends:
        assert why
        return
    low, high = (torch.tensor(side, dtype=torch.float64) for side in zip(*ends, strict=True))
    x = torch.rand(200, size, generator=draw, dtype=torch.float64) * 2 - 1
    for z in (torch.zeros(200, size), low + (high - low) * torch.rand(200, size, generator=draw).double()):
        z = z.double()
        for _ in range(60):
            image = bend(z @ weight.double().T + x)
            z = (z + image) / 2 if damping else image
            assert (z >= low - 1e-9).all() and (z <= high + 1e-9).all()


def test_most_contracting_loops_have_one() -> None:
    """Of random steps that contract in ℓ∞, all: the search must not give up where there is one to be found."""
    for seed in range(30):
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn(5, 5, generator=draw)
        weight = 0.97 * weight / weight.abs().sum(dim=1, keepdim=True)
        module = model(lambda z, x, weight=weight: torch.relu(z @ weight.T + x), 5)
        assert found(module)[0], seed


def recurrent(kind: str) -> nn.Module:
    """Cells of torch as they are, with smaller weights; a gate that multiplies the state contracts in no norm."""
    torch.manual_seed(0)
    cell = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](2, 6)
    for p in cell.parameters():
        p.data *= 0.7
    read, several = torch.randn(3, 6), kind == "lstm"
    return tv.recursive(
        lambda z, x: cell(x, z), state_shape=((6,), (6,)) if several else (6,), input_shape=(2,), domain=tv.Box(-1, 1),
        readout=lambda z: (z[0] if several else z) @ read.T,
    )  # fmt: skip


class TestThroughTheCalls:
    """`region="invariant"`."""

    squares = staticmethod(lambda z, x: z * z / 2 + x)
    readout = staticmethod(lambda z: torch.cat([z, 1 - z], dim=-1))

    def test_a_loop_that_contracts_only_where_it_goes_is_proved_there_and_not_elsewhere(self) -> None:
        module = model(self.squares, domain=SQUARES, readout=self.readout)
        assert not tv.verify_fixed_point(module)
        result = tv.verify_fixed_point(module, region="invariant")
        assert result and result.rate is not None and result.rate < 0.2
        assert not result.proves("exactly_one(region=all)")
        assert "invariant box in region" in result.explain() and "entries between -0.1" in result.explain()
        for row in tv.verify_fixed_point(module, torch.tensor([[0.1], [-0.1]]), region="invariant"):
            assert row and row.answer == (1,)

    def test_inputs_have_a_box_of_their_own_where_the_domain_has_none(self) -> None:
        wide = model(self.squares, domain=tv.Box(-10, 10), readout=self.readout)
        assert not tv.verify_fixed_point(wide, region="invariant")
        near, far = tv.verify_fixed_point(wide, torch.tensor([[0.1], [3.0]]), region="invariant")
        assert near and near.answer == (1,) and near.claims["invariant"]
        assert not far and not far.claims.get("invariant")
        ball = tv.verify_fixed_point(wide, torch.tensor([0.1]), eps="1/100", region="invariant")
        assert ball and ball.answer == (1,)

    @pytest.mark.parametrize("kind", ["gru", "lstm"])
    def test_recurrent_cells_are_proved_at_their_inputs(self, kind: str) -> None:
        x = torch.rand(2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
        module = recurrent(kind)
        assert not tv.verify_fixed_point(module, x[0], timeout=1)
        results = tv.verify_fixed_point(module, x, region="invariant")
        assert all(results)
        assert tv.verify_fixed_point(module, x[0], eps="1/1000", region="invariant")
        z = torch.zeros(2, 6)
        z = (z, z) if kind == "lstm" else z
        for _ in range(200):
            z = module(z, x)
        assert [r.answer for r in results] == [(int(i),) for i in module.readout(z).argmax(-1)]

    @pytest.mark.parametrize("kind", ["gru", "lstm"])
    def test_recurrent_cells_are_audited_in_the_box_of_their_input(self, kind: str) -> None:
        """Balls about their states reach out of it, and rounded states lie in it."""
        module, x = recurrent(kind), torch.tensor([0.3, -0.2])
        run = tv.audit(module, x, steps=40, region="invariant")
        assert run.final < 10 and 0 < run.radius < 1e-5
        states = torch.from_numpy(run.states)
        parts = (states[:, :6], states[:, 6:]) if kind == "lstm" else states
        z = tuple(p.double() for p in parts) if kind == "lstm" else states.double()
        exact = module.double()
        for _ in range(300):
            z = exact(z, x.double().expand(len(states), 2))
        away = (torch.cat(z, 1) if kind == "lstm" else z)[-1] - states
        assert np.all(away.abs().max(dim=1).values.detach().numpy() <= run.distances + 1e-12)

    def test_a_loop_that_expands_first_is_audited_in_its_box(self) -> None:
        bistable = model(lambda z, x: torch.tanh(3 * z + x / 8), readout=lambda z: torch.cat([z, -z], -1))
        run = tv.audit(bistable, torch.tensor([0.5]), region="invariant")
        assert run.answer == (0,) and run.final < 12

    def test_without_one_it_is_all_states(self) -> None:
        module = tv.recursive(lambda z, x: z / 2 + x, state_shape=(1,), input_shape=(1,))
        result = tv.verify_fixed_point(module, region="invariant")
        assert result.proves("exactly_one(region=all)") and "tried invariant box" in result.explain()

    def test_two_attractors_are_never_one(self) -> None:
        """Where init is the repelling point between them, a box that holds it holds both."""
        for shift in (0.0, 0.01):
            module = model(lambda z, x, shift=shift: torch.tanh(3 * z + shift + x / 64))
            result = tv.verify_fixed_point(module, region="invariant")
            assert not result and not result.claims["contraction"]

    def test_an_input_alone_is_answered_in_it_where_nothing_holds_for_all_states(self) -> None:
        module = model(self.squares, domain=SQUARES, readout=self.readout)
        result = tv.verify_fixed_point(module, torch.tensor([0.1]))
        assert result.answer == (1,) and not result, "REFUTED or UNKNOWN for all states, and answered all the same"

    def test_an_input_is_answered_near_its_fixed_point_where_nothing_holds_in_the_box_that_was_found(self) -> None:
        """From so near the repelling point between two attractors the loop takes more steps than are composed."""
        bistable = model(lambda z, x: torch.tanh(3 * z + x / 8), readout=lambda z: torch.cat([z, -z], -1))
        for region in (None, "invariant"):
            result = tv.verify_fixed_point(bistable, torch.tensor([1e-10]), region=region)
            assert result.answer == (0,) and not result.claims["contraction"]
            assert result.claims["contraction in a region that was found"]

    def test_the_search_leaves_time_to_prove_something(self) -> None:
        def late(problem: Problem, domain: Json, operator: object, deadline: float) -> tuple[None, str]:
            time.sleep(max(deadline - time.monotonic(), 0))
            return None, "too late"

        turn = torch.tensor([[0.6, -0.6], [0.6, 0.6]])  # contracts in ℓ2 alone, which is not the first norm to be tried
        module = tv.recursive(lambda z, x: z @ turn.T + x, state_shape=(2,), input_shape=(2,))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "invariant_box", late)
            assert tv.verify_fixed_point(module, region="invariant", timeout=4)

    def test_that_none_was_found_is_said_everywhere(self) -> None:
        wide = model(self.squares, domain=tv.Box(-10, 10), readout=self.readout)
        found = refute(wide, torch.tensor([3.0]), region="invariant", timeout=5)
        assert any("all states were asked about: the boxes that" in text for text in found.reasons)
        seen = attractors(wide, torch.tensor([3.0]), starts=20, region="invariant", timeout=5)
        assert "all states were asked about: the boxes that" in seen.explain() and seen.own == 0
        near = attractors(wide, torch.tensor([0.1]), starts=20, region="invariant", timeout=5)
        assert near.reasons == () and near.own is None

    def test_other_calls_take_it(self) -> None:
        module = model(self.squares, domain=SQUARES, readout=self.readout)
        run = tv.audit(module, torch.tensor([0.125]), region="invariant")
        assert run.final == 0 and run.answer == (1,)
        assert refute(module, region="invariant").refutations == ()
        assert attractors(module, torch.tensor([0.0]), starts=20, region="invariant").refutations == ()
        with pytest.raises(ValueError, match="expected region as a Box"):
            tv.verify_fixed_point(module, region="everywhere")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected region as a Box"):
            tv.audit(module, torch.tensor([0.1]), region=np.zeros(2))  # type: ignore[arg-type]


def test_the_search_evaluates_as_the_kernel_does() -> None:
    """With an encoder of x, which is evaluated once, and a gate by it."""
    torch.manual_seed(0)
    encode, mix = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), nn.Linear(3, 3)
    session = Verification(model(lambda z, x: torch.sigmoid(encode(x)) * torch.tanh(mix(z)) + encode(x), 3))
    graph, given = session.problem.graph, session.problem.box(session.domain)
    first = [0] * 6
    search = _Search(session.problem, PICARD, given, first)
    for ends in (first, [-(1 << 40)] * 6, [-5, 3 << 38, -(7 << 40), 1, -(1 << 39), 1 << 41], first):
        assert search.image(ends) == _ends(step(graph, _box(ends), given))
