"""What a call of `verify_fixed_point` asks, as claims that a stored certificate can be compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trm_verify import claims
from trm_verify.box import Box
from trm_verify.claims import Claim
from trm_verify.encode import Json, box_json
from trm_verify.kernel.check import Valid
from trm_verify.kernel.claims import Encloses, Invariant, Refuted, equal
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.operators import Operator, parse_operator
from trm_verify.kernel.tensor import Tensor, contains
from trm_verify.provers.problem import ALL_STATES
from trm_verify.verification.inputs import Inputs
from trm_verify.verification.session import Verification

Answered = tuple[int, ...]
Reading = tuple[tuple[Claim, ...], ...]
"""All that has to be proved, each as a choice of claims any of which will do."""


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


def asked(session: Verification, task: Inputs | None, valid: Valid) -> Iterator[list[Reading]]:
    """For each domain that is asked about, what a PROVED verdict may rest on: all that one of the readings needs.

    Args:
        valid: what the certificate says; a region that the call would look for may be any that it shows to be one.
    """
    answers: list[Answered | None] = [None]
    if task is not None and session.deployed.logits_shape is not None:
        own = session.deployed.labels(session.deployed.fixed_points(task.centres))
        answers = [row.wanted or tuple(int(v) for v in labels) for row, labels in zip(task.rows, own, strict=True)]
    elif task is not None:
        answers = [None] * len(task.rows)
    for domain, answer in zip(boxes(session, task), answers, strict=True):
        yield list(_readings(session, domain, answer, valid))


def _readings(
    session: Verification, domain: Box | str | None, answer: Answered | None, valid: Valid
) -> Iterator[Reading]:  # fmt: skip
    """One for each region that will do, or for all states; each in several ways.

    What a reading needs is about one and the same fixed point, and that lies in the region that was named: all states
    may have one elsewhere. A loop that starts in the region has to stay there, or the region to be where it converges
    from, for another attractor may answer otherwise.
    """
    where = session.problem.box(box_json("input", domain) if isinstance(domain, Box) else session.domain)
    implicit, loop = session.deployed.operator == "implicit", _named(session)

    def reading(region: Box | str, one: Claim, starts: Sequence[Box | str]) -> Reading:
        """`one`: that there is exactly one fixed point; `starts`: where it may be converged from."""
        needs: list[tuple[Claim, ...]] = [(one,)]
        if not implicit:
            needs.append(tuple(claims.Convergence(operator=loop, domain=domain, start=start) for start in starts))
        if answer is not None and implicit:
            needs.append((claims.FixedPointAnswer(answer=answer, domain=domain, region=region),))
        elif answer is not None:
            needs.append((claims.Answer(answer=answer, operator=loop, domain=domain),))
        return tuple(needs)

    everywhere = claims.ExactlyOne(domain=domain, region="all")
    for tensor in _regions(session, where, valid):
        region = _as_box(tensor, (tensor.size,))
        kept = _is_kept(session, valid, tensor, where)
        # where the loop does not start in the region, its answer is not that of what is converged to from there
        own: list[Box | str] = [region] if answer is None or implicit or _begins_in(session, tensor, where) else []
        if own:
            one = claims.ExactlyOne(domain=domain, region=region)
            yield reading(region, one, ["init", *own] if kept else own)
        if (kept and not implicit) or _encloses(valid, tensor, where):
            yield reading("all", everywhere, ["init", *own])
    if session.finds_region or session.region(session.domain)[0] == ALL_STATES:
        yield reading("all", everywhere, ["init"])


def _regions(session: Verification, domain: Tensor, valid: Valid) -> list[Tensor]:
    """Where one fixed point is asked for: the region of the call, or each that is what it would look for."""
    if not session.finds_region:
        states = session.region(session.domain)[0]
        return [] if states == ALL_STATES else [session.problem.box(states)]
    found = [c.region for c in valid.claims if isinstance(c, Invariant) and c.ball is None and c.region.bounded]
    return [region for region in found if _is_kept(session, valid, region, domain)]


def _is_kept(session: Verification, valid: Valid, region: Tensor, domain: Tensor) -> bool:
    """Whether the certificate shows that the loop does not leave the region, in which it starts."""
    own = own_operator(session)
    shown = any(
        isinstance(c, Invariant) and c.ball is None and c.operator == own and contains(c.domain, domain)
        and equal(c.region, region)
        for c in valid.claims
    )  # fmt: skip
    return shown and _begins_in(session, region, domain)


def _encloses(valid: Valid, region: Tensor, domain: Tensor) -> bool:
    """Whether the certificate shows that the only fixed point of all lies in the region."""
    found = (c for c in valid.claims if isinstance(c, Encloses) and c.kind == "the" and not c.region.bounded)
    return any(contains(c.domain, domain) and contains(region, c.box) for c in found)


def _begins_in(session: Verification, region: Tensor, domain: Tensor) -> bool:
    try:
        return contains(region, initial_state(session.problem.graph, domain))
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
