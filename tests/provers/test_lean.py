"""Enclosures where few units bend: the small system against the whole one, and what the kernel says of the result."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import trm_verify as tv
from trm_verify.certificate import Derivation
from trm_verify.encode import box_json, vector
from trm_verify.kernel.claims import FixedPointAnswer, FixedPoints
from trm_verify.kernel.columns import Sets
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.relaxation import Functional, bounds
from trm_verify.kernel.spans import tables_of
from trm_verify.provers.fixed_points import lean, relaxed
from trm_verify.provers.fixed_points.continuity import Continuity, solve
from trm_verify.provers.fixed_points.enclosed import Enclosed
from trm_verify.provers.fixed_points.lean import Tree, bounded
from trm_verify.provers.fixed_points.newton import slopes_at
from trm_verify.provers.fixed_points.reduced import Ascent, Linearised, Reduced, SmallDual, bending
from trm_verify.provers.fixed_points.relaxed import Dual, Functionals
from trm_verify.provers.fixed_points.search import FixedPointSearch
from trm_verify.provers.problem import ALL_STATES, Floats, point
from trm_verify.testing import AffineStep
from trm_verify.verification.session import Effort, Verification

SIZE = 12


def case(seed: int, activation: str = "relu", eps: str = "1/32") -> tuple[FixedPointSearch, Continuity]:
    """A contraction with random weights over a small ball, and the search for its fixed points."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(SIZE, SIZE))
    w *= 0.8 / np.linalg.norm(w, 2)
    model = AffineStep(
        w.tolist(), b=rng.normal(size=SIZE).tolist(), B=rng.normal(size=(SIZE, 3)).tolist(), activation=activation,
        C=rng.normal(size=(3, SIZE)).tolist(), c=[4.0, 0.0, 0.0],
    )  # fmt: skip
    session = Verification(model)
    domain = box_json("input", tv.Box.ball(torch.zeros(3, dtype=torch.float64), eps))
    state = session.deployed.fixed_points(torch.zeros(1, 3, dtype=torch.float64))[0]
    search = FixedPointSearch(session.problem, session.facts(Effort()).convergence, domain, ALL_STATES, state)
    return search, Continuity(session.problem, domain, ALL_STATES)


def enclosed(seed: int, **given: Any) -> tuple[FixedPointSearch, Continuity, Enclosed]:
    search, continuity = case(seed, **given)
    found = continuity.lean(search.state, float("inf"))
    assert found is not None
    return search, continuity, found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_the_kernel_accepts_them(seed: int, activation: str) -> None:
    search, continuity, found = enclosed(seed, activation=activation)
    known = search.problem.conclude_as(continuity.derivation(search.premise, found), FixedPoints)
    assert known.exists and known.unique
    ends = known.arguments if activation == "relu" else [known.box.fraction(i) for i in range(SIZE)]
    for (lo, hi), low, high in zip(ends, found.low.tolist(), found.high.tolist(), strict=True):
        assert lo is not None and hi is not None
        assert (float(lo), float(hi)) == pytest.approx((low, high), abs=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_they_are_as_small_as_those_of_the_whole_system(seed: int) -> None:
    search, continuity, found = enclosed(seed)
    whole = continuity.consistent(search.state, float("inf"))
    assert isinstance(whole, Enclosed)
    small = found.high - found.low <= 1.1 * (whole.high - whole.low) + 1e-5
    assert bool((small.numpy() | idle(found)).all())


def idle(found: Enclosed) -> Floats:
    """The unknowns that one row of the equations shows alone."""
    shown = np.zeros(len(found.low), dtype=bool)
    for (unknown, sign), row in zip(found.sides, found.multipliers, strict=True):
        shown[unknown] = sign == 0 and row[unknown] == 1.0 and np.count_nonzero(row) == 1
    return shown


def test_units_that_interval_arithmetic_shows_to_be_constant_are_left_as_wide_as_that() -> None:
    """Nothing depends on how wide they are, and the kernel takes their rows as it takes the others (see above)."""
    count = 0
    for seed in range(8):
        _, _, found = enclosed(seed)
        for k in np.flatnonzero(idle(found)):
            assert found.lo[k] < found.low[k] < found.high[k] < found.hi[k] < 0
            count += 1
    assert count > 8


@pytest.mark.parametrize("seed", range(4))
def test_lifted_multipliers_give_the_bounds_of_the_small_system(seed: int) -> None:
    _, _, found = enclosed(seed)
    shown = bounded(*asked(found, seed))
    for j, tree in enumerate(shown):
        if tree.cut is None:
            assert whole_bound(found, seed, j, tree, found.lo, found.hi) == pytest.approx(tree.least, abs=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_cuts_are_made_where_units_cost_much_and_gain_by_it(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of a tree is the least of those of its leaves, each in the whole system over its own intervals."""
    cuts = 0
    monkeypatch.setattr(lean, "DEPTH", depth)
    for seed in range(12):
        _, _, found = enclosed(seed, eps="1/16")
        for j, tree in enumerate(bounded(*asked(found, seed))):
            cuts += sum(node.cut is not None for node in tree.preorder())
            ends = [whole_bound(found, seed, j, leaf, lo, hi) for leaf, lo, hi in leaves(tree, found.lo, found.hi)]
            assert tree.least == pytest.approx(min(ends), abs=1e-9)
            if tree.cut is not None:
                assert tree.least > whole_bound(found, seed, j, tree, found.lo, found.hi)
    assert cuts > 9 * depth


def leaves(tree: Tree, lo: torch.Tensor, hi: torch.Tensor) -> Iterator[tuple[Tree, torch.Tensor, torch.Tensor]]:
    """The leaves of a tree, and where the arguments lie in each."""
    if tree.cut is None:
        yield tree, lo, hi
        return
    unit, kink = tree.cut
    assert lo[unit] < kink < hi[unit]
    below, above = hi.clone(), lo.clone()
    below[unit] = above[unit] = kink
    for part, first, last in zip(tree.parts, (lo, above), (below, hi), strict=True):
        yield from leaves(part, first, last)


def whole_bound(found: Enclosed, seed: int, row: int, tree: Tree, lo: torch.Tensor, hi: torch.Tensor) -> float:
    multipliers = np.tile(tree.multipliers, (ROWS, 1))
    return float(whole_bounds(found, seed, multipliers, lo, hi)[row])


def test_the_kernel_accepts_answers_with_a_cut() -> None:
    cut = 0
    for seed in range(30):
        search, _ = case(seed, eps="1/16")
        attempt = search.run("own")
        if attempt.answer is None:
            continue
        splits = attempt.answer.steps[-1]["splits"]
        cut += max(splits) >= 0
        margins = search.problem.conclude_as(attempt.answer, FixedPointAnswer).margins
        assert attempt.margin == float(min(margins)) > 0
    assert cut


@pytest.mark.parametrize("seed", [4, 6, 15])
def test_what_the_kernel_makes_of_forged_cuts_is_true(seed: int) -> None:
    """A tree whose parts do not fit may be refused or prove less; what it proves holds at fixed points of the ball."""
    search, continuity = case(seed, eps="1/16")
    attempt = search.run("own")
    assert attempt.answer is not None
    witness = attempt.answer.steps[-1]
    true = margins_met(search, continuity, witness["answer"])
    rng, accepted, refused = random.Random(seed), 0, 0
    for _ in range(150):
        forged = forgery(witness, rng, len(continuity.system.units), len(continuity.system.rows))
        steps = Derivation((*attempt.answer.steps[:-1], forged))
        try:
            margins = search.problem.conclude_as(steps, FixedPointAnswer).margins
        except CheckError:
            refused += 1
            continue
        accepted += 1
        assert all(float(m) <= least + 1e-9 for m, least in zip(margins, true, strict=True))
    assert accepted and refused


def forgery(witness: Any, rng: random.Random, units: int, width: int) -> Any:
    """The answer's step with one thing wrong about its trees."""
    forged = copy.deepcopy(witness)
    splits, ints, exp = forged["splits"], forged["multipliers"]["int"].split(), forged["multipliers"]["exp"]
    leaves = [ints[i : i + width] for i in range(0, len(ints), width)]
    cuts = [i for i, split in enumerate(splits) if split >= 0]
    kind = rng.randrange(4)
    if kind == 0 or not cuts:  # rows change places
        i, j = rng.randrange(len(leaves)), rng.randrange(len(leaves))
        leaves[i], leaves[j] = leaves[j], leaves[i]
    elif kind == 1:  # another unit is cut
        splits[rng.choice(cuts)] = rng.randrange(units)
    elif kind == 2:  # somewhere else, also beyond all that its argument reaches
        forged["at"] = vector([rng.choice([-9.0, -0.1, 0.0, 0.1, 9.0]) for _ in cuts])
    else:  # a part is called empty
        weights = [1] * len(leaves)
        weights[rng.randrange(len(leaves))] = 0
        forged["weights"] = vector(weights)
    forged["multipliers"] = {"exp": exp, "int": " ".join(token for row in leaves for token in row)}
    return forged


def margins_met(search: FixedPointSearch, continuity: Continuity, answer: list[int]) -> list[float]:
    """The least margins at many fixed points of the ball, in doubles."""
    lo, hi = continuity.inputs
    shares = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=(200, len(lo)))
    read = readout_of(search)
    values = np.array([read(solve(search.problem, lo + share * (hi - lo))) for share in shares])
    return [float((values[:, answer[0]] - values[:, j]).min()) for j in range(values.shape[1]) if j != answer[0]]


def readout_of(search: FixedPointSearch) -> Callable[[Floats], Floats]:
    """The logits at a state, through the kernel's own evaluation of the readout."""
    graph = search.problem.graph
    assert graph.readout is not None

    def logits(z: Floats) -> Floats:
        found = evaluate(graph, graph.readout, point(z), point(np.zeros(graph.input_size)))
        last = found[graph.readout.outputs[0]]
        return np.array([float(sum(last.fraction(i)) / 2) for i in range(last.size)])

    return logits


ROWS = 5


def asked(found: Enclosed, seed: int) -> tuple[Reduced, Floats, Floats, Floats]:
    """Functionals in the small system, and where its units lie."""
    assert found.reduced is not None
    rows = np.random.default_rng(seed).normal(size=(ROWS, found.relaxed.system.width))
    return found.reduced, rows, *(end.numpy()[found.reduced.rest] for end in (found.lo, found.hi))


def whole_bounds(found: Enclosed, seed: int, multipliers: Floats, lo: torch.Tensor, hi: torch.Tensor) -> Floats:
    """The same functionals in the whole system."""
    r = found.relaxed
    dual = Dual(r, Functionals.of(r, asked(found, seed)[1]), *r.places(lo.expand(ROWS, -1), hi.expand(ROWS, -1)))
    return dual.bound(torch.from_numpy(multipliers))[0].numpy()


def test_ascent_follows_the_derivative_of_the_small_dual() -> None:
    search, continuity = case(1)
    r = continuity.equations.relaxed.over(continuity.inputs, np.zeros((2, SIZE)))
    about = Linearised.at(r, continuity.unknown(r, search.state)[0].numpy())
    assert about is not None
    lo, hi = about.arguments - 0.5, about.arguments + 0.4
    reduced = Reduced(about, bending(r, lo, hi))
    rng, size = np.random.default_rng(0), len(reduced.rest)
    assert size
    rows, shift = rng.normal(size=(4, reduced.small.shape[1])), rng.normal(size=(4, size))
    dual = SmallDual(reduced, rows, shift, lo[None, reduced.rest], hi[None, reduced.rest])
    at, away = rng.normal(size=(4, size)), rng.normal(size=(4, size)) * 1e-7
    _, total, terms = dual.bound(at)
    change = dual.bound(at + away)[0] - dual.bound(at - away)[0]
    np.testing.assert_allclose(change, 2 * (dual.slope(total, terms) * away).sum(axis=1), rtol=1e-3, atol=1e-12)


def test_changing_one_unit_at_a_time_comes_close_to_a_long_ascent() -> None:
    """Its multipliers have the bounds that rank-one changes promise: never below those of chords, nearly the best."""
    lost, before = 0.0, 0.0
    for seed in range(8):
        _, _, found = enclosed(seed, eps="1/16")
        reduced, rows, lo, hi = asked(found, seed)
        own, _ = reduced.functionals(rows)
        dual = SmallDual(reduced, own, np.zeros((1, len(lo))), lo[None], hi[None])
        chords, changed = (
            dual.best(*reduced.tangents(lo, hi), 2),
            dual.vertex(*reduced.tangents(lo, hi), 2, reduced.ends(lo, hi), 4),
        )
        long = Ascent(0.02, 0.99).run(dual, changed, 500)
        first, mine, best = (dual.bound(multipliers)[0] for multipliers in (chords, changed, long))
        assert (mine >= first - 1e-12).all() and (best >= mine).all()
        lost, before = lost + float((best - mine).sum()), before + float((best - first).sum())
    assert lost < 0.3 * before


def test_too_many_units_that_bend_are_left_to_the_whole_system() -> None:
    search, continuity = case(0, activation="tanh")
    assert continuity.lean(search.state, float("inf")) is None
    attempt = search.run([0])
    assert attempt.enclosure is not None
    assert isinstance(search.problem.conclude(attempt.enclosure), FixedPoints)


def test_an_answer_that_the_small_system_shows_is_the_kernels() -> None:
    search, _ = case(2)
    attempt = search.run("own")
    assert attempt.answer is not None and attempt.rule == "enclosure"
    margins = search.problem.conclude_as(attempt.answer, FixedPointAnswer).margins
    assert attempt.margin == float(min(margins)) > 0


def test_the_kernel_bounds_what_the_search_bounds() -> None:
    """Exactly, with the multipliers rounded: the two differ by that alone."""
    search, _, found = enclosed(3)
    system = found.relaxed.system
    sets = Sets(search.problem.box(search.domain), search.problem.box(ALL_STATES), tables_of(system, exact(found)))
    rows = [[round(v * 2**40) for v in row] for row in found.multipliers.tolist()]
    given = [Functional([0] * system.width, 0, i, sign or 1, sign == 0) for i, sign in found.sides]
    for (i, sign), (least, most) in zip(
        found.sides, bounds(system, [sets] * len(given), given, rows, -40), strict=True
    ):
        assert least is not None
        if sign == 0:
            assert most is not None and (float(least), float(most)) == pytest.approx(
                (float(found.low[i]), float(found.high[i]))
            )


def exact(found: Enclosed) -> list[Any]:
    return [
        tuple(dyadic(round(end * 2**40), -40) for end in ends)
        for ends in zip(found.lo.tolist(), found.hi.tolist(), strict=True)
    ]


def test_a_refuted_ball_stays_refuted_inside_a_larger_one() -> None:
    """At x = 0 all logits tie: the attack passes by such a point, which no exact proof confirms."""
    torch.manual_seed(0)
    model = tv.models.MonotoneEquilibrium.from_tensors(
        A=torch.randn(12, 12) / 2, B=torch.randn(12, 12), U=torch.randn(12, 6), b=torch.zeros(12),
        C=torch.randn(3, 12), c=torch.zeros(3), m=1.0, domain=(-1, 1),
    )  # fmt: skip
    x = torch.tensor([0.5, -0.5, 0.25, -0.25, 0.0, 0.5])
    for eps in ("0.5", "1", "2"):
        result = tv.verify_fixed_point(model, x, eps=eps)
        assert result.verdict is tv.Verdict.REFUTED and result.counterexample is not None


def test_multipliers_are_kept_where_adapting_them_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    search, continuity = case(0, eps="1/2")
    kept, adapted = [], relaxed.Chords.adapted

    def seen(chords: relaxed.Chords, functionals: Functionals, start: torch.Tensor) -> torch.Tensor:
        found = adapted(chords, functionals, start)
        kept.append(found is start)
        return found

    monkeypatch.setattr(relaxed.Chords, "adapted", seen)
    assert isinstance(continuity.consistent(search.state, float("inf")), Enclosed) and not all(kept)
    kept.clear()
    monkeypatch.setattr(relaxed, "MOST_ADAPTED", 0)
    assert isinstance(continuity.consistent(search.state, float("inf")), Enclosed) and kept and all(kept)


@pytest.mark.parametrize("activation", ["relu", "abs", "leaky_relu", "clamp", "tanh"])
def test_units_of_one_kind_are_worked_out_as_among_others(activation: str) -> None:
    """Where all units are of one kind nothing is picked out and put back; the numbers are the same."""
    _, continuity = case(0, "relu" if activation in ("leaky_relu", "clamp", "abs") else activation)
    attrs = {"leaky_relu": {"slope": Fraction(1, 8)}, "clamp": {"lo": Fraction(-1), "hi": Fraction(1, 2)}}
    unit = replace(continuity.system.units[0], op=activation, attrs=attrs.get(activation, {}))
    points = relaxed._grid_points(unit)
    alone = replace(continuity.equations.relaxed, kinds=[(torch.arange(SIZE), unit)], points=points)
    split = replace(alone, kinds=[(torch.arange(0, SIZE, 2), unit), (torch.arange(1, SIZE, 2), unit)])
    assert alone.only == unit and split.only is None
    lo = torch.randn(4, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hi = lo + torch.rand(4, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for both in zip(alone.places(lo, hi), split.places(lo, hi), strict=True):
        assert torch.equal(*both)
    assert torch.equal(alone.values(lo), split.values(lo))
    assert torch.equal(slopes_at(alone, lo), slopes_at(split, lo))
    ends = torch.stack([lo - 1e-6, lo + 1e-6])  # no argument is that near a kink
    difference = (relaxed.apply(unit, ends[1]) - relaxed.apply(unit, ends[0])) / 2e-6
    assert torch.allclose(slopes_at(alone, lo), difference, atol=1e-8)
