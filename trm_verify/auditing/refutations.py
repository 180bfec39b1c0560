"""Look for exact reasons why a loop does not do what is hoped of it, and certify them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from torch import nn

from trm_verify.auditing.claims import certified, deadline_of
from trm_verify.box import Box, exact_number
from trm_verify.display import Displayed
from trm_verify.encode import box_json
from trm_verify.kernel.expect import describe
from trm_verify.provers.refutation.search import Expansion, Refutation, expanding, plain_norm, search
from trm_verify.result import CAVEAT, REFUTED, UNKNOWN, Checked, Verdict, WithCertificate
from trm_verify.verification.inputs import Input, Inputs
from trm_verify.verification.session import Region, Verification

Number = float | str | Fraction | Decimal


@dataclass(frozen=True, eq=False)
class RefutationResult(WithCertificate, Displayed):
    """What was found against a loop.

    Attributes:
        refutations: accepted by the kernel.
        statements: the same in its words, from the certificate.
        observations: what was seen in floating point and is not proved.
        reasons: why the kernel did not accept more, and why no region was found where one was to be.
        expansion: the largest ratio of distances that was met in the norm that was asked for; None if none was.
    """

    _certifies: ClassVar[str] = "refuted"
    refutations: tuple[Refutation, ...]
    statements: tuple[str, ...]
    observations: tuple[str, ...]
    reasons: tuple[str, ...]
    expansion: float | None
    graph_digest: str
    weights_digest: str
    checked: Checked | None = field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """REFUTED if anything is; that nothing was found proves nothing."""
        return REFUTED if self.refutations else UNKNOWN

    def explain(self) -> str:
        """The verdict in words."""
        lines = [f"{self.verdict} ({CAVEAT})"]
        for found, said in zip(self.refutations, self.statements, strict=True):
            lines += [f"  {found.of} is false: {found.sentence}", f"    {said}"]
        lines += [f"  {text}" for text in (*self.observations, *self.reasons)]
        if self.expansion is not None:
            lines.append(f"  the largest expansion that was met: {self.expansion:.6g}")
        return "\n".join(lines)

    __str__ = explain


def refute(
    model: nn.Module,
    x: Input | None = None,
    *,
    eps: Number | None = None,
    domain: Box | None = None,
    region: Region | None = None,
    norm: str | None = None,
    rate: Number | None = None,
    timeout: float | None = 60.0,
    seed: int = 0,
) -> RefutationResult:
    """Look for two fixed points, for a cycle of the model's iteration, and in a norm for states that move apart.

    Args:
        x: one input, with `eps` a ball about it; default: the model's whole domain, of which a few inputs are tried.
        domain: further bounds on x.
        region: bounds on z, or "invariant", see `verify_fixed_point`.
        norm: linf, l2, parts or tokens, with equal weights: refute a contraction in it as well.
        rate: at this rate (default 1: at any rate below 1).
        timeout: seconds, after which nothing new is begun; None: no limit.

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: the arguments do not fit the model.
    """
    least = _rate(norm, rate)
    deadline = deadline_of(timeout)
    session = Verification(model, domain, region, seed)
    problem, operator = session.problem, session.deployed.operator
    task = None if x is None and eps is None else Inputs.of(session, x, eps, None)
    if task is not None and (task.batch or len(task.rows) != 1):
        raise ValueError(f"expected one input of shape {session.spec.input_shape}, found a batch")
    box = None if task is None else task.rows[0].box
    where = session.domain if box is None else box_json("input", box)
    wanted = None if norm is None else plain_norm(problem, norm)
    states, why = session.region_or_why(where, deadline)
    found = search(problem, where, states, operator, deadline, seed)
    refutations: list[Refutation] = list(found.refutations)
    expansion: Expansion | None = None
    if wanted is not None:
        expansion = expanding(problem, where, states, wanted, least, operator, deadline, seed)
        refutations += [] if expansion.refutation is None else [expansion.refutation]
    checked = certified(session, refutations)
    return RefutationResult(
        tuple(refutations),
        () if checked is None else tuple(map(describe, checked[1].claims)),
        found.observations,
        (*why, *found.reasons),
        None if expansion is None else expansion.ratio,
        problem.graph.digest,
        problem.graph.weights.sha256,
        checked,
    )


def _rate(norm: str | None, rate: Number | None) -> Fraction:
    if rate is None:
        return Fraction(1)
    exact = exact_number(rate, "rate")
    if norm is None:
        raise ValueError("expected a norm to go with rate, found none")
    if exact < 0:
        raise ValueError(f"expected rate >= 0, found {rate!r}")
    return exact
