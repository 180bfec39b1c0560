"""What a call of `verify_fixed_point` asks, as claims that a stored certificate can be compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trm_verify import claims
from trm_verify.box import Box
from trm_verify.claims import Claim
from trm_verify.encode import Json, box_json
from trm_verify.kernel.check import Valid
from trm_verify.kernel.claims import Invariant, Refuted, equal
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.operators import Operator, parse_operator
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.provers.problem import ALL_STATES
from trm_verify.verification.inputs import Inputs
from trm_verify.verification.session import Verification

Answered = tuple[int, ...]


def boxes(session: Verification, task: Inputs | None) -> Iterator[Box | str | None]:
    """The inputs that are asked about, as expected claims name them."""
    if session.spec.input_shape is None:
        yield None  # the one empty input
    elif task is None:
        yield session.domain_box or "all"
    else:
        for row in task.rows:
            if row.error or row.box is None:
                raise ValueError(row.error or "expected a box of inputs, found none")
            yield row.box


def asked(session: Verification, task: Inputs | None, valid: Valid) -> Iterator[tuple[Claim, ...]]:
    """What a PROVED verdict of the call needs; each entry is a choice of claims, any of which will do.

    Args:
        valid: what the certificate says; a region that the call would look for may be any that it shows to be one.
    """
    operator = session.deployed.operator
    implicit = operator == "implicit"
    for domain in boxes(session, task):
        # what holds for all states holds in a region, too
        regions: list[Box | str] = [*_regions(session, domain, valid), "all"]
        yield tuple(claims.ExactlyOne(domain=domain, region=region) for region in regions)
        if not implicit:
            # from where the loop starts, or from all of the region; convergence from elsewhere says nothing about it
            starts: list[Box | str] = ["init", *(region for region in regions if isinstance(region, Box))]
            yield tuple(claims.Convergence(operator=_named(session), domain=domain, start=s) for s in starts)
    if task is None or session.deployed.logits_shape is None:
        return
    own = session.deployed.labels(session.deployed.fixed_points(task.centres))
    for row, labels, domain in zip(task.rows, own, boxes(session, task), strict=True):
        wanted = row.wanted or tuple(int(v) for v in labels)
        if implicit:
            yield (claims.FixedPointAnswer(answer=wanted, domain=domain),)
        else:
            yield (claims.Answer(answer=wanted, operator=_named(session), domain=domain),)


def _regions(session: Verification, domain: Box | str | None, valid: Valid) -> Iterator[Box]:
    """Where one fixed point is asked for: the region of the call, or each that is what it would look for."""
    where = box_json("input", domain) if isinstance(domain, Box) else session.domain
    if session.finds_region:
        invariants = [c for c in valid.claims if isinstance(c, Invariant) and c.ball is None]
        found = [c.region for c in invariants if _is_kept(session, c, session.problem.box(where))]
    else:
        states = session.region(where)[0]
        found = [] if states == ALL_STATES else [session.problem.box(states)]
    yield from (_as_box(region, (region.size,)) for region in found)


def _is_kept(session: Verification, claim: Invariant, domain: Tensor) -> bool:
    """Whether the loop starts in the region of the claim, and does not leave it, for all inputs of the domain."""
    if claim.operator != own_operator(session) or not contains(claim.domain, domain):
        return False
    try:
        return contains(claim.region, initial_state(session.problem.graph, domain))
    except CheckError:  # init cannot be evaluated there
        return False


def _states(session: Verification, domain: Box | str | None) -> list[Json]:
    """The region that was asked for; of those that are to be found, that for these inputs, and that for all."""
    own = session.region(box_json("input", domain))[0] if isinstance(domain, Box) else None
    whole = session.region(session.domain)[0]
    return [whole] if own is None or own == whole else [own, whole]


def refuted(session: Verification, task: Inputs | None, valid: Valid) -> bool:
    """Whether the certificate refutes something that was asked, at an input that was asked about."""
    asked: list[tuple[Box | str | None, Answered | None]]
    asked = [(domain, None) for domain in boxes(session, task)]
    if task is not None and session.deployed.logits_shape is not None:
        own = session.deployed.labels(session.deployed.fixed_points(task.centres))
        wanted = [row.wanted or tuple(int(v) for v in labels) for row, labels in zip(task.rows, own, strict=True)]
        asked = [(domain, labels) for (domain, _), labels in zip(asked, wanted, strict=True)]
    return any(_refutes(session, c, *each) for c in valid.claims if isinstance(c, Refuted) for each in asked)


def _refutes(session: Verification, claim: Refuted, domain: Box | str | None, answer: Answered | None) -> bool:
    """Whether a claim that fails where `claim` says would be one that was asked, for inputs of the domain."""
    if isinstance(domain, Box) and not (claim.domain.bounded and domain.contains(_as_box(claim.domain, domain.shape))):
        return False
    return all(_refutes_in(session, claim, session.problem.box(each), answer) for each in _states(session, domain))


def _refutes_in(session: Verification, claim: Refuted, region: Tensor, answer: Answered | None) -> bool:
    inside = claim.region is None or contains(region, claim.region)
    if claim.of in ("answer", "fixed_point_answer"):
        implicit = session.deployed.operator == "implicit"
        if implicit != (claim.of == "fixed_point_answer") or claim.answer != answer:
            return False
        return inside and (implicit or claim.operator == own_operator(session))
    if claim.of == "convergence":
        return inside and claim.operator == own_operator(session)
    if claim.of == "at_most_one":  # two in a part are two in the whole
        return inside
    return claim.of == "exactly_one" and claim.region is not None and equal(region, claim.region)


def _as_box(tensor: Tensor, shape: tuple[int, ...]) -> Box:
    ends = np.array([tensor.fraction(i) for i in range(tensor.size)], dtype=object)
    return Box(ends[:, 0].reshape(shape), ends[:, 1].reshape(shape))


def _named(session: Verification) -> str:
    return str(own_operator(session))


def own_operator(session: Verification) -> Operator:
    """The operator of the model's stated iteration; of the step, for an implicit model, which states none."""
    operator = session.deployed.operator
    return parse_operator("picard" if operator == "implicit" else operator, session.problem.graph.size)
