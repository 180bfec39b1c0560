"""What a verification returns: a verdict per claim, the numbers behind it, and a certificate anyone can re-check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from trm_verify.certificate import Certificate
from trm_verify.claims import Claim, expectation_of
from trm_verify.display import Plotted
from trm_verify.kernel.check import Valid
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import Expectation, find, rounded_up

CAVEAT = "real arithmetic; float32 rounding not covered"


class Verdict(Enum):
    """PROVED and REFUTED are said only after the kernel has accepted the certificate; everything else is UNKNOWN."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        return self is Verdict.PROVED

    def __str__(self) -> str:
        return self.name


PROVED, REFUTED, UNKNOWN = Verdict.PROVED, Verdict.REFUTED, Verdict.UNKNOWN


@dataclass(frozen=True)
class ClaimResult:
    """One claim: its verdict, the statement in the kernel's words when proved; when not, why, and what would help."""

    name: str
    verdict: Verdict
    statement: str = ""
    reason: str = ""
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.verdict)


@dataclass(frozen=True)
class Trial:
    """What one prover gave: a certified rate in some norm, or why not."""

    prover: str
    norm: str
    rate: float | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Enclosure:
    """Where the fixed points of all inputs of the domain lie: within `radius` of `center`, coordinate by coordinate.

    Shape: center and radius (n,), over the flattened state. Radii are rounded up.
    """

    center: np.ndarray
    radius: np.ndarray


@dataclass(frozen=True)
class Details:
    """The search over the fixed points of one box of inputs.

    Attributes:
        margin: every logit difference is at least this at every fixed point (when the answer is not proved: the best
            bound that was shown).
        rule: what closed the question: "enclosure", "branch and bound" or "counterexample"; "" when nothing did.
        width: mean width of the enclosure.
        unstable: activation units whose argument may have either sign.
        nodes: linear programs solved by branch and bound.
        seconds: of the search.
        kernel: of the kernel's rules on what it found.
        limit: the unit (in graph order) whose relaxation costs an open bound most, −1 if none.
    """

    margin: float | None = None
    rule: str = ""
    width: float | None = None
    unstable: int = 0
    nodes: int = 0
    seconds: float = 0.0
    kernel: float = 0.0
    limit: int = -1

    def lines(self) -> list[str]:
        """In words."""
        how = f"closed by {self.rule}" if self.rule else "left open"
        margin = "" if self.margin is None else f", margin at least {self.margin:.4g}"
        found = [f"  fixed points: {how}{margin} ({self.seconds:.2f} s, {self.nodes} linear programs)"]
        if self.width is not None:
            found.append(f"    enclosed within {self.width:.3g} on average; {self.unstable} units may have either sign")
        if self.limit >= 0:
            found.append(f"    the bound is limited most by unit {self.limit} (in graph order)")
        return found


Checked = tuple[Certificate, Valid]  # a certificate with what the kernel found in it
Number = float | str | Fraction | Decimal


def proves(checked: Checked | None, expected: Claim | Expectation | str) -> bool:
    """Whether a checked certificate proves the expected claim.

    Raises:
        ValueError: the text is not a claim.
    """
    expectation = expectation_of(expected)
    if checked is None:
        return False
    try:
        find(checked[1], expectation)
    except CheckError as error:
        if error.code != "EXPECTED":
            raise
        return False
    return True


class WithCertificate:
    """A result with a certificate, `checked` by the kernel, where there is anything to certify."""

    __slots__ = ()
    _certifies: ClassVar[str] = "proved"  # what its certificate holds is all that was so
    if TYPE_CHECKING:

        @property
        def checked(self) -> Checked | None: ...

        def explain(self) -> str: ...

    @property
    def certificate(self) -> Certificate:
        """The certificate of everything that was proved, or refuted.

        Raises:
            ValueError: nothing was.
        """
        checked = self.checked
        if checked is None:
            raise ValueError(f"there is no certificate: nothing was {self._certifies}\n{self.explain()}")
        return checked[0]

    def proves(self, expected: Claim | Expectation | str) -> bool:
        """Whether the certificate proves the expected claim: a `tv.claims` dataclass, or its text form.

        Raises:
            ValueError: the text is not a claim.
        """
        return proves(self.checked, expected)


class Certified(WithCertificate):
    """Such a result whose certificate is put together, and checked, when it is asked for: `certified` does it."""

    __slots__ = ()
    if TYPE_CHECKING:

        @property
        def certified(self) -> Callable[[], Checked] | None: ...

    @property
    def checked(self) -> Checked | None:
        """The certificate with what the kernel found in it; None when nothing was proved."""
        return None if self.certified is None else self.certified()


@dataclass(frozen=True, eq=False)
class VerificationResult(Certified, Plotted):
    """The outcome of `verify_fixed_point` for the model, or for one input.

    Attributes:
        verdict: PROVED only if every claim that the call asked for is proved.
        claims: verdict per claim, by name.
        rate: certified rate of the model's iteration, rounded up; or None. For an implicit model, of its step, or else
            of the damped iteration that was certified (the claim "convergence of …" says which).
        norm: family of the norm of that rate: linf, weighted_linf, l2, mixed or metric.
        trials: what each prover gave.
        enclosure: of the fixed points, when an input was given or the model has none.
        answer: proved labels, one per output position; None when no answer was proved.
        counterexample: when REFUTED, an input of the domain whose proved answer is another one. Shape: input_shape.
        details: what the search over an input's fixed points found, where there was one.
        answer_steps: number of steps after which the answer (of the counterexample, when REFUTED) cannot change.
        graph_digest: SHA-256 of the exact graph.
        weights_digest: of the weights file.
    """

    verdict: Verdict
    claims: Mapping[str, ClaimResult]
    graph_digest: str
    weights_digest: str
    rate: float | None = None
    norm: str | None = None
    trials: Sequence[Trial] = ()
    enclosure: Enclosure | None = None
    answer: tuple[int, ...] | None = None
    answer_steps: int | None = None
    counterexample: np.ndarray | None = None
    details: Details | None = None
    certified: Callable[[], Checked] | None = field(default=None, repr=False)
    convergence_steps: Callable[[Any, Any], int] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def steps(self, epsilon: Number, initial_error: Number | None = None) -> int:
        """K(ε): applications of the iteration after which every coordinate is within ε of the fixed point.

        For an implicit model the iteration is the one that the claim "convergence of …" names.

        Args:
            epsilon: in plain ℓ∞.
            initial_error: a bound on |z_0 − z*| in plain ℓ∞, of any z_0 from which convergence was proved; without it
                the count is from init(x), over the inputs in question, which must be bounded.

        Raises:
            ValueError: no convergence was proved, or the domain is unbounded and no initial error was given.
        """
        if self.convergence_steps is None:
            raise ValueError("expected a proved rate of convergence, found none; see result.explain()")
        return self.convergence_steps(epsilon, initial_error)

    def explain(self) -> str:
        """The verdict in words: each claim, what was tried, and what would help."""
        lines = [f"{self.verdict} ({CAVEAT})"]
        for claim in self.claims.values():
            lines.append(f"  {claim.verdict}: {claim.statement or claim.name}")
            if claim.reason:
                lines.append(f"    {claim.reason}")
        for trial in self.trials:
            gave = f"rate {rounded_up(Fraction(trial.rate))}" if trial.rate is not None else trial.reason
            lines.append(f"  tried {trial.prover} in {trial.norm} ({trial.seconds:.2f} s): {gave}")
        if self.details is not None:
            lines += self.details.lines()
        lines += [f"  what would help: {remedy}" for remedy in remedies([self])]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()


def remedies(results: Sequence[VerificationResult]) -> list[str]:
    """What would help, each thing once. A result that is PROVED needs no help: what it lacks was not asked for."""
    return list(dict.fromkeys(c.remedy for r in results if not r for c in r.claims.values() if c.remedy and not c))


class VerificationResults(Certified, Plotted, Sequence[VerificationResult]):
    """Results of a batch of inputs, in order; true when every one is PROVED. `certificate` holds all of them.

    A long job checks its inputs a few at a time; then the common certificate is made, and checked as a whole, when it
    is first asked for; a CheckError LIMIT says that it is more than one file may hold. Each result has its own.
    """

    def __init__(self, results: Sequence[VerificationResult], certified: Callable[[], Checked] | None) -> None:
        self._results, self._certified = tuple(results), certified

    @property
    def certified(self) -> Callable[[], Checked] | None:
        return self._certified

    @property
    def verdicts(self) -> list[Verdict]:
        return [r.verdict for r in self._results]

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> VerificationResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[VerificationResult]: ...
    def __getitem__(self, index: int | slice) -> VerificationResult | Sequence[VerificationResult]:
        return self._results[index]

    def __iter__(self) -> Iterator[VerificationResult]:
        return iter(self._results)

    def __bool__(self) -> bool:
        return bool(self._results) and all(self._results)

    def explain(self) -> str:
        """How many inputs have which verdict, and why the others are not PROVED."""
        counts = {v: self.verdicts.count(v) for v in Verdict}
        lines = [", ".join(f"{n} {v}" for v, n in counts.items() if n) + f" ({CAVEAT})"]
        for row, result in enumerate(self._results):
            for claim in result.claims.values():
                if claim.reason and not claim:
                    lines.append(f"  input {row}: {claim.verdict}: {claim.name}: {claim.reason}")
        return "\n".join(lines + [f"  what would help: {remedy}" for remedy in remedies(self._results)])

    __str__ = __repr__ = explain
