"""What certificates say about a query: which graph they have to be about, over which inputs, with which answer.

A certificate does not name the file that it answers. Here its graph, domain and labels are compared with those that
follow from the model and the file, exactly; nothing is searched. Every verdict passes through this.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate
from trm_verify.deploy.vnnlib.asking import SATISFIED, VIOLATED, asking, labels_of
from trm_verify.deploy.vnnlib.specification import Clause, Specification
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Answer, FixedPointAnswer
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.operators import parse_operator
from trm_verify.kernel.tensor import Tensor
from trm_verify.verification.session import Deployed, admissible


def check_vnnlib(model: nn.Module | Deployed, specification: Specification, certificates: Sequence[Certificate]) -> str:
    """Re-check certificates of a query with the kernel: "unsat" or "sat", whichever they prove.

    Raises:
        CheckError: a certificate is not valid for the model's weights, or together they prove neither (code EXPECTED).
        ExportError: the model cannot be exported exactly. ValueError: its description is wrong.
    """
    deployed = Deployed.of(model)
    accepted = [kernel_check(each.to_bytes(), deployed.weights) for each in certificates]
    found = stated(deployed, specification, accepted)
    if found is None:
        raise CheckError("EXPECTED", "certificates that answer this query about this model", f"{len(accepted)} others")
    return found


def stated(deployed: Deployed, specification: Specification, accepted: Sequence[Valid]) -> str | None:
    """ "unsat" or "sat", whichever accepted certificates of this model's weights prove; None for neither."""

    def inputs(box: Box | None) -> Box | None:
        return None if box is None else admissible(box, deployed.spec.vocabulary)

    def all_violated(clauses: Sequence[Clause], boxes: Sequence[Box | None]) -> bool:
        domains = _domains(deployed, accepted, clauses, (VIOLATED,) * len(clauses))
        return all(any(_holds(domain, inputs(box)) for domain in domains) for box in boxes)

    def satisfied(clause: Clause, box: Box | None) -> bool:
        return any(_meet(domain, inputs(box)) for domain in _domains(deployed, accepted, [clause], (SATISFIED,)))

    if all(all_violated(clauses, boxes) for clauses, boxes in specification.properties.items()):
        return "unsat"
    if any(satisfied(clause, box) for box, clauses in specification.cases.items() for clause in clauses):
        return "sat"
    return None


def _domains(
    deployed: Deployed, accepted: Sequence[Valid], clauses: Sequence[Clause], labels: tuple[int, ...]
) -> list[Tensor]:
    """Over which inputs the outputs that stay are shown to answer the clauses so."""
    graphs = {asking(deployed, clauses, None).exported.digest: labels}
    own = labels_of(clauses, deployed.logits_shape or ()) if set(labels) == {VIOLATED} else None
    if own is not None:
        graphs[deployed.exported.digest] = own
    found = [
        (valid, claim)
        for valid in accepted
        if valid.weights_digest == deployed.problem.graph.weights.sha256 and valid.graph.digest in graphs
        for claim in valid.claims
    ]
    return [
        claim.domain
        for valid, claim in found
        if isinstance(claim, Answer | FixedPointAnswer)
        and claim.answer == graphs[valid.graph.digest]
        and _stays(deployed, claim)
    ]


def _stays(deployed: Deployed, claim: Answer | FixedPointAnswer) -> bool:
    """Whether a claim is about the outputs that stay: of the model's own loop, or at every fixed point."""
    if deployed.spec.iteration == "implicit":
        return isinstance(claim, FixedPointAnswer) and not claim.region.bounded
    operator = parse_operator(deployed.operator, deployed.spec.state_size)
    return isinstance(claim, Answer) and not claim.at and claim.operator == operator


def _ends(domain: Tensor, box: Box | None) -> list[tuple[Fraction, Fraction, Fraction, Fraction]]:
    """Coordinate by coordinate: lower and upper end of the domain, then of the box; none where all inputs are meant."""
    if box is None or not domain.bounded:
        return []
    return [(*domain.fraction(i), lo, hi) for i, (lo, hi) in enumerate(zip(box.lo, box.hi, strict=True))]


def _holds(domain: Tensor, box: Box | None) -> bool:
    """Whether all inputs of the box lie in the domain."""
    return all(low <= lo and hi <= high for low, high, lo, hi in _ends(domain, box))


def _meet(domain: Tensor, box: Box | None) -> bool:
    """Whether some input of the domain lies in the box."""
    return all(low <= hi and lo <= high for low, high, lo, hi in _ends(domain, box))
