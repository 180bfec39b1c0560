"""`implies`: what one statement may stand for, field by field."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F
from typing import Any

import pytest

from tests.kernel.test_evaluate import box, flat
from trm_verify.kernel.claims import (
    Answer,
    AtMostOne,
    Commits,
    Conclusion,
    Contraction,
    Convergence,
    Encloses,
    ExactlyOne,
    FixedPointAnswer,
    FixedPointAt,
    FixedPoints,
    Invariant,
    Refuted,
    Run,
    Spectral,
    WellPosed,
    implies,
)
from trm_verify.kernel.norms import BlockNorm, MetricNorm
from trm_verify.kernel.operators import IMPLICIT, PICARD, Operator
from trm_verify.kernel.tensor import Tensor

ALL = Tensor((2,))
WIDE = box([(F(-2), F(2)), (F(-2), F(2))])
MID = box([(F(-1), F(1)), (F(-1), F(1))])
SMALL = box([(F(0), F(1)), (F(-1), F(0))])
POINT = flat([F(0), F(0)])
LONGER = box([(F(-1), F(1))] * 3)
SETS = {"all": ALL, "wide": WIDE, "mid": MID, "small": SMALL, "point": POINT, "longer": LONGER}
NEST = ["point", "small", "mid", "wide", "all"]  # each inside the next

LINF, L2 = BlockNorm((1, 1), (1, 1), 0), BlockNorm((2,), (1,), 0)
DAMPED = Operator("outer_damped", (F(1, 2), F(1, 2)))
ULP = F(1, 2**80)

CONTRACTION = Contraction(PICARD, MID, MID, LINF, F(1, 2))
CONVERGENCE = Convergence(PICARD, MID, MID, LINF, F(1), F(1, 2), region=WIDE)
FROM_INIT = Convergence(PICARD, MID, None, LINF, F(1), F(1, 2), initial=F(8), region=WIDE)
ANSWER = Answer(PICARD, MID, (1, 0), 10)
AT = Answer(PICARD, POINT, (1, 0), 10, at=True)
RUN = Run(PICARD, POINT, LINF, POINT, F(1), (1,), 2, (F(0), F(1)), (F(3), F(1)), (None, (1,)))
COMMITS = Commits(PICARD, MID, (1, 0), (2, 1), 10, F(1, 4), 0)
INVARIANT = Invariant(PICARD, MID, MID)
ENCLOSES = {kind: Encloses(kind, MID, MID, MID) for kind in ("all", "one", "the")}
FIXED_ANSWER = FixedPointAnswer(MID, MID, (1, 0))
REFUTED = Refuted("contraction", MID, MID, PICARD, LINF, F(1, 2))
RECORDS: list[Conclusion] = [
    CONTRACTION,
    AtMostOne(MID, MID),
    ExactlyOne(MID, MID),
    INVARIANT,
    replace(CONVERGENCE, region=None),
    ANSWER,
    AT,
    COMMITS,
    RUN,
    *ENCLOSES.values(),
    FIXED_ANSWER,
]


def inside(small: str, large: str) -> bool:
    return small in NEST and large in NEST and NEST.index(small) <= NEST.index(large)


def test_every_record_implies_itself_and_no_other() -> None:
    for i, done in enumerate(RECORDS):
        for j, claim in enumerate(RECORDS):
            assert implies(done, claim) == (i == j), (done, claim)


@pytest.mark.parametrize("done", SETS)
@pytest.mark.parametrize("claimed", SETS)
def test_domains_may_shrink_in_every_claim(done: str, claimed: str) -> None:
    holds = inside(claimed, done) or done == claimed
    for record in RECORDS:
        pair = replace(record, domain=SETS[done]), replace(record, domain=SETS[claimed])  # type: ignore[type-var]
        assert implies(*pair) == holds


@pytest.mark.parametrize("done", SETS)
@pytest.mark.parametrize("claimed", SETS)
def test_regions_shrink_for_uniqueness_and_contraction_only(done: str, claimed: str) -> None:
    shrinks = inside(claimed, done) or done == claimed
    for record, expected in (
        (CONTRACTION, shrinks),
        (AtMostOne(MID, MID), shrinks),
        (ExactlyOne(MID, MID), done == claimed),
        (INVARIANT, done == claimed),
    ):
        assert implies(replace(record, region=SETS[done]), replace(record, region=SETS[claimed])) == expected


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"rate": F(3, 4)}, True),
        ({"rate": F(1, 2) - ULP}, False),
        ({"rate": F(1)}, False),
        ({"rate": F(2)}, False),
        ({"rate": 1 - ULP}, True),
        ({"operator": DAMPED}, False),
        ({"operator": IMPLICIT}, False),
        ({"norm": L2}, False),
        ({"norm": BlockNorm((1, 1), (1, 2), 0)}, False),
        ({"norm": BlockNorm((1, 1), (2, 2), 0)}, False),
    ],
)
def test_contraction(change: dict[str, Any], holds: bool) -> None:
    assert implies(CONTRACTION, replace(CONTRACTION, **change)) == holds


@pytest.mark.parametrize("done", [*SETS, None])
@pytest.mark.parametrize("claimed", [*SETS, None])
def test_starts(done: str | None, claimed: str | None) -> None:
    """None is init(x): implied by itself and by a start of all states, and no set follows from it."""
    pair = [replace(CONVERGENCE, start=None if s is None else SETS[s]) for s in (done, claimed)]
    if claimed is None:
        expected = done in (None, "all")
    else:
        expected = done is not None and (inside(claimed, done) or done == claimed)
    assert implies(*pair) == expected


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"constant": F(2)}, True),
        ({"constant": 1 - ULP}, False),
        ({"constant": F(-1)}, False),
        ({"rate": F(3, 4)}, True),
        ({"rate": F(1, 2) - ULP}, False),
        ({"rate": F(1)}, False),
        ({"norm": L2}, False),
        ({"operator": DAMPED}, False),
        ({"epsilon": F(9), "steps": 9}, False),
        ({"epsilon": F(9)}, False),
        ({"steps": 9}, False),
    ],
)
def test_convergence(change: dict[str, Any], holds: bool) -> None:
    assert implies(CONVERGENCE, replace(CONVERGENCE, **change)) == holds


@pytest.mark.parametrize(
    ("epsilon", "steps", "holds"),
    [
        (F(8), 0, True),
        (8 - ULP, 0, False),
        (F(1), 3, True),
        (1 - ULP, 3, False),
        (F(1), 2, False),
        (F(1), 100, True),
        (F(0), 10**6, False),
        (F(-1), 5, False),
        (None, 5, False),
        (F(9), None, False),
        (None, None, True),
    ],
)
def test_steps_to_an_accuracy(epsilon: F | None, steps: int | None, holds: bool) -> None:
    assert implies(FROM_INIT, replace(FROM_INIT, epsilon=epsilon, steps=steps)) == holds


def test_accuracy_is_counted_in_coordinates_with_the_constant_from_init_only() -> None:
    claim = replace(FROM_INIT, epsilon=F(8), steps=0)
    weighted = BlockNorm((1, 1), (1, 4), 0)
    assert not implies(replace(FROM_INIT, norm=weighted), replace(claim, norm=weighted))
    assert implies(replace(FROM_INIT, norm=weighted), replace(claim, norm=weighted, epsilon=F(32)))
    flat_metric = MetricNorm((1, 0, 0, 1), 0, F(1, 4), 2)
    assert not implies(replace(FROM_INIT, norm=flat_metric), replace(claim, norm=flat_metric, epsilon=16 - ULP))
    assert implies(replace(FROM_INIT, norm=flat_metric), replace(claim, norm=flat_metric, epsilon=F(16)))
    assert not implies(replace(FROM_INIT, constant=F(2)), replace(claim, constant=F(2)))
    assert implies(replace(FROM_INIT, constant=F(2)), replace(claim, constant=F(2), epsilon=F(16)))
    assert not implies(FROM_INIT, replace(claim, start=POINT))
    assert not implies(replace(FROM_INIT, initial=None), claim)
    assert not implies(replace(FROM_INIT, start=ALL), claim)
    assert implies(replace(FROM_INIT, rate=F(0)), replace(claim, rate=F(0), epsilon=F(0), steps=1))
    assert not implies(replace(FROM_INIT, rate=F(0)), replace(claim, rate=F(0), epsilon=F(0)))


def test_the_claimed_rate_does_not_decide_the_accuracy() -> None:
    """A weaker rate may be claimed beside an accuracy that follows from the proved one."""
    assert implies(FROM_INIT, replace(FROM_INIT, rate=F(3, 4), epsilon=F(1), steps=3))


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"steps": 11}, True),
        ({"steps": 9}, False),
        ({"answer": (1, 1)}, False),
        ({"answer": (1,)}, False),
        ({"answer": (1, 0, 0)}, False),
        ({"operator": DAMPED}, False),
        ({"at": True}, False),
    ],
)
def test_answer(change: dict[str, Any], holds: bool) -> None:
    assert implies(ANSWER, replace(ANSWER, **change)) == holds


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"steps": 11}, True),
        ({"domain": SMALL}, True),
        ({"steps": 9}, False),
        ({"domain": WIDE}, False),
        ({"domain": ALL}, False),
        ({"answer": (1, 1)}, False),
        ({"committed": (1, 2)}, False),
        ({"committed": (2, 1, 0)}, False),
        ({"committed": (0, 0)}, False),
        ({"committed": ()}, False),
        ({"threshold": F(1, 4) + ULP}, False),
        ({"threshold": F(1, 4) - ULP}, False),
        ({"blank": 1}, False),
        ({"operator": DAMPED}, False),
    ],
)
def test_commits(change: dict[str, Any], holds: bool) -> None:
    assert implies(COMMITS, replace(COMMITS, **change)) == holds
    assert not implies(COMMITS, ANSWER) and not implies(ANSWER, COMMITS)


@pytest.mark.parametrize(
    "change", [{"steps": 11}, {"steps": 9}, {"answer": (0, 0)}, {"operator": DAMPED}, {"at": False}]
)
def test_answer_at_holds_at_one_depth(change: dict[str, Any]) -> None:
    assert implies(AT, AT) and not implies(AT, replace(AT, **change))


def test_a_ball_is_no_invariant_region() -> None:
    assert not implies(replace(INVARIANT, ball=(LINF, POINT, F(1))), INVARIANT)
    assert not implies(INVARIANT, replace(INVARIANT, operator=DAMPED))


def test_well_posed_models_have_exactly_one_fixed_point_in_all_states() -> None:
    posed = WellPosed(MID, ALL, slack=F(1))
    assert implies(posed, ExactlyOne(MID, ALL)) and implies(posed, ExactlyOne(POINT, ALL))
    for claim in (
        ExactlyOne(MID, WIDE),
        ExactlyOne(WIDE, ALL),
        Contraction(PICARD, MID, ALL, LINF, F(1, 2)),
        Invariant(PICARD, MID, ALL),
        Convergence(PICARD, MID, ALL, LINF, F(1), F(1, 2)),
    ):
        assert not implies(posed, claim)


def test_spectral_bounds_imply_nothing() -> None:
    assert not implies(Spectral(1, F(1)), Spectral(1, F(1)))
    for record in RECORDS:
        assert not implies(Spectral(1, F(1)), record)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"radius": F(2)}, True),
        ({"radius": 1 - ULP}, False),
        ({"drifts": (F(1), F(1))}, True),
        ({"drifts": (F(0), 1 - ULP)}, False),
        ({"drifts": (F(0),)}, False),
        ({"drifts": (F(0), F(1), F(1))}, False),
        ({"drifts": ()}, False),
        ({"distances": (F(3), 1 - ULP)}, False),
        ({"distances": (F(4), F(1))}, True),
        ({"distances": (F(3),)}, False),
        ({"distances": ()}, False),
        ({"drifts": (F(9),), "distances": (F(9), F(9), F(9))}, False),  # as many numbers in all
        ({"answers": (None, None)}, False),
        ({"answers": ((1,), (1,))}, False),
        ({"answers": (None,)}, False),
        ({"final": 1}, False),
        ({"final": 3}, False),
        ({"answer": (0,)}, False),
        ({"state": MID}, False),
        ({"state": flat([F(0), F(1)])}, False),
        ({"norm": L2}, False),
        ({"operator": DAMPED}, False),
    ],
)
def test_run(change: dict[str, Any], holds: bool) -> None:
    assert implies(RUN, replace(RUN, **change)) == holds


# fixed points


def known(**change: Any) -> FixedPoints:
    return replace(FixedPoints(MID, MID, SMALL), **change)


@pytest.mark.parametrize("kind", ["all", "one", "the"])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("unique", [False, True])
def test_what_is_known_of_fixed_points(kind: str, exists: bool, unique: bool) -> None:
    done = known(exists=exists, unique=unique)
    holds = {"all": True, "one": exists, "the": exists and unique}[kind]
    assert implies(done, Encloses(kind, MID, MID, SMALL)) == holds
    assert implies(done, Encloses(kind, POINT, MID, WIDE)) == holds
    assert implies(done, ExactlyOne(MID, MID)) == (exists and unique)
    assert implies(done, AtMostOne(MID, MID)) == unique
    assert implies(done, AtMostOne(MID, SMALL)) == unique
    for claim in (FIXED_ANSWER, ANSWER, CONTRACTION, CONVERGENCE, INVARIANT, REFUTED):
        assert not implies(done, claim)


@pytest.mark.parametrize("done", SETS)
@pytest.mark.parametrize("claimed", SETS)
def test_sets_of_an_enclosure(done: str, claimed: str) -> None:
    """The domain shrinks and the box grows; the region shrinks for `all` alone."""
    smaller, larger = (inside(a, b) or a == b for a, b in ((claimed, done), (done, claimed)))
    for kind, record in ENCLOSES.items():
        pairs = {key: (replace(record, **{key: SETS[done]}), replace(record, **{key: SETS[claimed]})) for key in
                 ("domain", "region", "box")}  # fmt: skip
        assert implies(*pairs["domain"]) == smaller
        assert implies(*pairs["box"]) == larger
        assert implies(*pairs["region"]) == (smaller if kind == "all" else done == claimed)
    assert implies(replace(FIXED_ANSWER, region=SETS[done]), replace(FIXED_ANSWER, region=SETS[claimed])) == (
        done == claimed
    )


@pytest.mark.parametrize("kind", ["all", "one", "the"])
@pytest.mark.parametrize("other", ["all", "one", "the"])
def test_kinds_of_enclosure_are_told_apart(kind: str, other: str) -> None:
    """As claims: only what a step knows says which others follow."""
    assert implies(ENCLOSES[kind], ENCLOSES[other]) == (kind == other)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"answer": (1, 1)}, False),
        ({"answer": (1,)}, False),
        ({"margins": (F(9),)}, True),  # margins and boxes are the kernel's own, not part of the statement
        ({"box": POINT}, True),
        ({"domain": POINT}, True),
        ({"domain": WIDE}, False),
    ],
)
def test_fixed_point_answers(change: dict[str, Any], holds: bool) -> None:
    assert implies(FIXED_ANSWER, replace(FIXED_ANSWER, **change)) == holds


def test_an_exact_fixed_point_implies_nothing() -> None:
    done = FixedPointAt((F(1, 3),), (F(0), F(0)), ((0,),))
    for record in [*RECORDS, REFUTED, Encloses("one", POINT, ALL, ALL)]:
        assert not implies(done, record)


# refutations: what fails for some input of a set fails for some input of a larger set

REFUTATIONS = {
    "contraction": REFUTED,
    "at_most_one": Refuted("at_most_one", MID, MID),
    "exactly_one": Refuted("exactly_one", MID, MID),
    "convergence": Refuted("convergence", MID, MID, PICARD),
    "fixed_point_answer": Refuted("fixed_point_answer", MID, MID, answer=(1, 0)),
    "answer": Refuted("answer", MID, operator=PICARD, answer=(1, 0)),
}


@pytest.mark.parametrize("done", SETS)
@pytest.mark.parametrize("claimed", SETS)
def test_sets_of_a_refutation_grow(done: str, claimed: str) -> None:
    larger = inside(done, claimed) or done == claimed
    for name, record in REFUTATIONS.items():
        assert implies(replace(record, domain=SETS[done]), replace(record, domain=SETS[claimed])) == larger
        if name != "answer":
            pair = replace(record, region=SETS[done]), replace(record, region=SETS[claimed])
            assert implies(*pair) == (done == claimed if name == "exactly_one" else larger), name


@pytest.mark.parametrize("name", REFUTATIONS)
def test_everything_else_of_a_refutation_is_the_same(name: str) -> None:
    record = REFUTATIONS[name]
    changes: list[dict[str, Any]] = [
        {"of": "robustness"}, {"domain": None}, {"operator": DAMPED}, {"norm": L2}, {"rate": F(3, 4)},
        {"rate": F(1, 4)}, {"answer": (0, 0)}, {"region": None if record.region is not None else ALL},
    ]  # fmt: skip
    changes += [{"of": other} for other in REFUTATIONS if other != name]
    changes += [{key: None} for key in ("operator", "norm", "rate", "answer") if getattr(record, key) is not None]
    assert implies(record, record)
    for change in changes:
        assert not implies(record, replace(record, **change)), change


def test_refutations_and_claims_are_not_confused() -> None:
    for record in RECORDS:
        for refuted in REFUTATIONS.values():
            assert not implies(record, refuted) and not implies(refuted, record)
