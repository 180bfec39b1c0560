"""A model's certificate in a test: proved and stored when asked, else the stored one re-checked against the model.

Checking proves nothing anew: the kernel re-checks the stored certificate against the weights of the very model that the
test has, the graph is exported again and compared, and the verdict is whether its claims cover what the call asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import nn

from trm_verify.api import verify_fixed_point
from trm_verify.certificate import Certificate
from trm_verify.encode import box_json
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Contraction, Convergence
from trm_verify.kernel.document import MAX_BYTES, read_file
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe
from trm_verify.naming import SUFFIX
from trm_verify.pretrained import write_files
from trm_verify.provers.problem import NO_INPUT
from trm_verify.result import (
    CAVEAT,
    PROVED,
    REFUTED,
    UNKNOWN,
    Checked,
    Verdict,
    VerificationResult,
    VerificationResults,
    WithCertificate,
    proves,
)
from trm_verify.testing.asked import asked, own_operator, refuted
from trm_verify.testing.margins import around, fixed_points_near, logit_margin
from trm_verify.verification.inputs import Inputs
from trm_verify.verification.rounding import up
from trm_verify.verification.session import Verification

Found = VerificationResult | VerificationResults
OUTSIDE = "an answer of the fixed point in the region, in which the loop does not start"


class CertificateProblem(Exception):
    """A stored certificate that is missing, unreadable, of another model, or not valid."""


@dataclass(frozen=True, eq=False, repr=False)
class Certified(WithCertificate):
    """What `certify` gives.

    Attributes:
        verdict: PROVED if the certificate covers everything that the call asks.
        checked: the certificate with what the kernel found in it; None when nothing was proved.
        rate: the largest rate that is proved of the model's own iteration (of the step, for an implicit model), rounded
            up; None when none is.
        margin: every logit difference in favour of the proved answers is at least this at the fixed points, rounded
            down; None where no such bound is known.
        path: the certificate's file; None when it was not stored.
        stored: whether it was read from there rather than proved now.
        result: of the proof; None for a stored certificate.
        reason: what the stored certificate does not cover.
    """

    verdict: Verdict
    checked: Checked | None
    rate: float | None = None
    margin: float | None = None
    path: Path | None = None
    stored: bool = False
    result: Found | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def __repr__(self) -> str:
        return f"<{self.explain()}>"

    @property
    def digest(self) -> str | None:
        """SHA-256 of the certificate's file."""
        return None if self.checked is None else hashlib.sha256(self.checked[0].to_bytes()).hexdigest()

    def explain(self) -> str:
        """The verdict in words, and every claim that holds."""
        if self.result is not None:
            return self.result.explain()
        lines = [f"{self.verdict} by a stored certificate ({CAVEAT})"]
        lines += [f"  {self.reason}"] if self.reason else []
        return "\n".join(lines + [f"  proved: {describe(c)}" for c in (self.checked[1].claims if self.checked else ())])


def certify(
    model: nn.Module, x: Any = None, *, path: Path | None = None, update: bool = False, **options: Any
) -> Certified:
    """Prove what `verify_fixed_point(model, x, **options)` asks, or find it proved in a stored certificate.

    Args:
        path: where the certificate is stored, named `NAME.trmcert.json`; None proves and stores nothing.
        update: prove, and store the certificate with the weights beside it as `NAME.safetensors`.
        options: of `verify_fixed_point`. Those that say what to prove (eps, answer, domain, region) count for stored
            certificates too; those that say how to search (norm, provers, timeout, …) do not.

    Raises:
        CertificateProblem: the stored certificate is missing, unreadable, of another model, or not valid.
        ExportError, ValueError: as `verify_fixed_point`.
    """
    if path is not None and not path.name.endswith(SUFFIX):
        raise ValueError(f"expected a certificate named NAME{SUFFIX}, found {path.name!r}")
    if path is not None and not update:
        return _stored(model, x, path, options)
    found = verify_fixed_point(model, x, **options)
    verdict = found.verdict if isinstance(found, VerificationResult) else _common(found)
    rate = max((r.rate for r in _each(found) if r.rate is not None), default=None)
    margin = _least(_margin(r) for r in _each(found) if r)
    if path is None or found.checked is None:
        return Certified(verdict, found.checked, rate, margin, result=found)
    weights = Verification(model, seed=options.get("seed", 0)).deployed.weights
    if hashlib.sha256(weights).hexdigest() != found.certificate.weights_digest:
        raise RuntimeError("expected a model that exports to the same weights twice, found other weights")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name.removesuffix(SUFFIX) + ".safetensors")
    write_files({beside: weights, path: found.certificate.to_bytes()})
    return Certified(verdict, found.checked, rate, margin, path, result=found)


def _each(found: Found | None) -> Sequence[VerificationResult]:
    return [found] if isinstance(found, VerificationResult) else found or ()


def _common(results: VerificationResults) -> Verdict:
    return PROVED if results else REFUTED if REFUTED in results.verdicts else UNKNOWN


def _least(margins: Iterable[Fraction | None]) -> float | None:
    """The smallest, as a double that is not above it; a bound that says nothing is left out."""
    known = [margin for margin in margins if margin is not None and margin > 0]
    return -up(-min(known)) if known else None


def _margin(result: VerificationResult) -> Fraction | None:
    """By the search for the proof, or over the proved enclosure, whichever is larger."""
    found = []
    if result.details is not None and result.details.margin is not None:
        found.append(Fraction(result.details.margin))
    if result.enclosure is not None and result.answer is not None and result.checked is not None:
        states = around(result.enclosure.center, result.enclosure.radius.tolist())
        over = logit_margin(result.checked[1], states, result.answer)
        found += [] if over is None else [over]
    return max(found, default=None)


def _margins(session: Verification, task: Inputs | None, valid: Valid) -> Iterator[Fraction | None]:
    """Of each input, over where its fixed points are proved to lie."""
    if task is None or session.deployed.logits_shape is None:
        return
    states = session.deployed.fixed_points(task.centres)
    labels = session.deployed.labels(states)
    for row, state, own in zip(task.rows, states, labels, strict=True):
        domain = NO_INPUT if row.box is None else box_json("input", row.box)
        box = fixed_points_near(valid, domain, state)
        yield None if box is None else logit_margin(valid, box, row.wanted or [int(v) for v in own])


def _stored(model: nn.Module, x: Any, path: Path, options: dict[str, Any]) -> Certified:
    what = {name: options.pop(name, None) for name in ("eps", "answer", "domain", "region")}
    known = verify_fixed_point.__kwdefaults__ or {}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"expected options of verify_fixed_point, found {unknown}")
    session = Verification(model, what["domain"], what["region"], options.get("seed", 0))
    task = Inputs.of(session, x, what["eps"], what["answer"])
    certificate, valid = _read(path, session)
    checked, rate = (certificate, valid), _rate(session, valid)
    missing: list[str] = []
    for readings in asked(session, task, valid):
        lacking = [[str(need[0]) for need in each if not any(proves(checked, c) for c in need)] for each in readings]
        if all(lacking):
            fewest: list[str] = min(lacking, key=len, default=[OUTSIDE])
            missing += fewest
    if not missing:
        margin = _least(_margins(session, task, valid))
        return Certified(PROVED, checked, rate, margin, path, stored=True)
    reason = f"the certificate does not cover: {'; '.join(missing)}"
    return Certified(
        REFUTED if refuted(session, task, valid) else UNKNOWN, checked, rate, None, path, stored=True, reason=reason
    )


def _read(path: Path, session: Verification) -> tuple[Certificate, Valid]:
    """The stored certificate, accepted by the kernel against the model's own weights and graph."""
    try:
        raw = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise CertificateProblem(f"expected a certificate at {path}, found none") from None
    except OSError as error:
        raise CertificateProblem(f"expected to read {path}, found: {error.strerror or error}") from error
    try:
        valid = kernel_check(raw, session.deployed.weights)
        certificate = Certificate.load(path)
    except CheckError as error:
        if error.code == "DIGEST":
            raise CertificateProblem(
                f"stale certificate: expected one of this model's weights, found one of other weights in {path}"
            ) from error
        raise CertificateProblem(f"expected a valid certificate in {path}, found: {error}") from error
    if valid.graph.digest != session.problem.graph.digest:
        raise CertificateProblem(
            f"stale certificate: expected one of this model's graph, {session.problem.graph.digest[:12]}…, found "
            f"{valid.graph.digest[:12]}… in {path}: the code of the step, the start or the readout has changed"
        )
    return certificate, valid


def _rate(session: Verification, valid: Valid) -> float | None:
    own = own_operator(session)
    rates = [c.rate for c in valid.claims if isinstance(c, (Contraction, Convergence)) and c.operator == own]
    return up(max(rates)) if rates else None
