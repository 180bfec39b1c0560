"""What a sample, and the refutations that came of it, say about the claims of a loop; and their certificate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from trm_verify.certificate import Filing
from trm_verify.kernel.expect import describe
from trm_verify.provers.refutation.orbits import Orbit
from trm_verify.provers.refutation.search import Refutation, observed
from trm_verify.provers.refutation.survey import Survey
from trm_verify.result import REFUTED, UNKNOWN, Checked, ClaimResult
from trm_verify.verification.session import Verification

SEVERAL = "started at either of its fixed points, the loop stays there"
ONLY_A_SAMPLE = "a sample cannot show that there is nothing else; tv.verify_fixed_point can"


def deadline_of(timeout: float | None) -> float:
    """The end of a search that begins now, on the monotonic clock.

    Raises:
        ValueError: no number of seconds.
    """
    if timeout is None:
        return float("inf")
    if not timeout >= 0:
        raise ValueError(f"expected timeout >= 0 seconds, found {timeout!r}")
    return time.monotonic() + timeout


def certified(session: Verification, refutations: Sequence[Refutation]) -> Checked | None:
    """The certificate of the refutations, accepted by the kernel; None if there are none."""
    if not refutations:
        return None
    return session.certify([Filing(r.derivation, "refutation", r.fields) for r in refutations])


def judged(
    operator: object, seen: Survey, unreached: Sequence[Orbit], refutations: Sequence[Refutation],
    reasons: Sequence[str], checked: Checked | None,
) -> Mapping[str, ClaimResult]:  # fmt: skip
    """A verdict for each claim about all starts: REFUTED by what the kernel accepted, or UNKNOWN, and why."""
    words = {} if checked is None else {r.of: describe(c) for r, c in zip(refutations, checked[1].claims, strict=True)}
    found = {r.of: r for r in refutations}
    claims: dict[str, ClaimResult] = {}
    if "at_most_one" in found:
        claims["exactly_one"] = _refuted("exactly_one", words["at_most_one"], found["at_most_one"].sentence)
    else:
        count = sum(orbit.period == 1 for orbit in seen.orbits) + len(unreached)
        claims["exactly_one"] = _unknown("exactly_one", _counted(count, reasons))
    if operator == "implicit":
        return claims
    if "convergence" in found:
        claims["convergence"] = _refuted("convergence", words["convergence"], found["convergence"].sentence)
    elif "at_most_one" in found:
        claims["convergence"] = _refuted("convergence", words["at_most_one"], SEVERAL)
    else:
        claims["convergence"] = _unknown("convergence", _ends(seen))
    return claims


def _refuted(name: str, statement: str, reason: str) -> ClaimResult:
    return ClaimResult(name, REFUTED, statement=f"refuted by {statement}", reason=reason)


def _unknown(name: str, reason: str) -> ClaimResult:
    return ClaimResult(name, UNKNOWN, reason=reason)


def _counted(count: int, reasons: Sequence[str]) -> str:
    if count == 0:
        return "no fixed point was found"
    if count == 1:
        return f"one fixed point was found; {ONLY_A_SAMPLE}"
    why = f": {reasons[-1]}" if reasons else ""
    return f"{count} fixed points were found in floating point, and no two of them proved{why}"


def _ends(seen: Survey) -> str:
    """What was seen against convergence, or that nothing was."""
    words = observed(seen)
    ended = sorted({orbit.period for k, orbit in enumerate(seen.orbits) if k in seen.fates})
    if len(ended) and ended[-1] > 1:
        words.append("starts end in cycles (observed in floating point, not proved)")
    elif len({fate for fate in seen.fates if fate >= 0}) > 1:
        words.append("starts end in several fixed points (observed in floating point, not proved)")
    return "; ".join(words) or f"every start ended in the same fixed point; {ONLY_A_SAMPLE}"
