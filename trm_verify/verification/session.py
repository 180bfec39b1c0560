"""One model under verification: its domain, what is proved over it, and the certificate of all that.

Provers search, the kernel's rules conclude, and the collected certificate is checked as a whole before any verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, floor
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate, CertificateBuilder, Derivation, Filing
from trm_verify.encode import Json, box_json
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import CONSTANT, STATE
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.contraction import norms
from trm_verify.provers.invariant import invariant_box
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, NO_INPUT, Attempt, Problem
from trm_verify.provers.triangular import prove_settled
from trm_verify.verification.deployed import Deployed
from trm_verify.verification.facts import Facts
from trm_verify.verification.threads import single_threaded

__all__ = ["INVARIANT", "Deployed", "Effort", "Progress", "Region", "Verification", "admissible", "prove_facts"]

MOST_FOR_A_RATE = 256  # state entries up to which a norm is looked for where the loop settles exactly anyway
REFUTING = 10.0  # seconds to look for a counterexample
SHARE = 0.5  # of the time that is left may go into looking for a region: proofs in it need some, too
GUESS_ITERATIONS = 2000  # for a likely fixed point, about which regions and initial errors are tried
INVARIANT = "invariant"
Region = Box | Literal["invariant"]
"""Where z may be: a box, or one to be found that holds init and that the loop does not leave."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Effort:
    """How to search: norms and provers by name, until when (on the monotonic clock), and whom to tell.

    Attributes:
        norms: whether to look for a norm in which the step contracts.
        branch: whether answers may be decided by branch and bound.
        thorough: whether to look for case splits and counterexamples where no norm shows the facts.
    """

    norm: str = "auto"
    provers: Sequence[str] | None = None
    deadline: float = float("inf")
    progress: Progress | None = None
    norms: bool = True
    branch: bool = True
    thorough: bool = True
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """The strategies that will be tried.

        Raises:
            ValueError: an unknown name, or none.
        """
        if isinstance(self.provers, str):
            raise ValueError(f"expected a sequence of prover names, found the text {self.provers!r}")
        known = ", ".join(norms.PROVERS)
        for name in (*(self.provers or ()), *(() if self.norm == "auto" else (self.norm,))):
            if name not in norms.PROVERS:
                raise ValueError(f"expected norms and provers among auto, {known}; found {name!r}")
        names = list(norms.PROVERS) if self.provers is None else list(self.provers)
        names = [name for name in names if self.norm in ("auto", name)]
        if not names:
            raise ValueError(f"expected provers that work in norm={self.norm!r}, found {list(self.provers or ())}")
        return names


class Verification:
    """One model under verification, over its domain; a model that was deployed already is taken as it is.

    Attributes:
        deployed: the model as it is certified.
        domain_box: the inputs in question, None for all of Rᵐ (or for a model without input).
        domain: the same, as certificates write it.

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: the model, the domain or the region do not fit together.
    """

    def __init__(
        self, model: nn.Module | Deployed, domain: Box | None = None, region: Region | None = None, seed: int = 0
    ) -> None:
        found = isinstance(region, str) and region == INVARIANT
        if not (region is None or isinstance(region, Box) or found):
            raise ValueError(f"expected region as a Box, such as tv.Box(lo, hi), or {INVARIANT!r}; found {region!r}")
        self.deployed = Deployed.of(model, seed)
        self.spec, self.problem = self.deployed.spec, self.deployed.problem
        self.domain_box = self._domain(domain)
        self.domain: Json = (
            NO_INPUT if self.spec.input_shape is None
            else ALL_INPUTS if self.domain_box is None else box_json("input", self.domain_box)
        )  # fmt: skip
        self._region: Json | None = (
            None if found else box_json("state", self._flat(region)) if isinstance(region, Box) else ALL_STATES
        )  # fmt: skip

    def _domain(self, given: Box | None) -> Box | None:
        domain, shape = self.spec.domain, self.spec.input_shape
        if given is not None:
            if shape is None:
                raise ValueError("expected no domain for a model without input; region= bounds the state")
            given = given.expand(shape)
            domain = given if domain is None else domain.intersect(given)
        return domain if domain is None else admissible(domain, self.spec.vocabulary)

    def _flat(self, region: Box) -> Box:
        size, parts = self.spec.state_size, self.spec.parts
        if region.shape not in ((), (size,), parts[0] if len(parts) == 1 else ()):
            raise ValueError(f"expected a region of shape () or ({size},), the flattened state; found {region.shape}")
        return region.expand((size,)) if region.size == 1 else Box(region.lo, region.hi)

    def facts(self, effort: Effort, box: Box | None = None) -> Facts:
        """What holds over the whole domain, or over a box of inputs inside it."""
        domain = self.domain if box is None else box_json("input", box)
        guess = cache(lambda: self._likely_fixed_point(box or self.domain_box))
        with single_threaded():
            region, looked = self.region(domain, effort.deadline)
            facts = prove_facts(self.problem, domain, region, self.deployed.operator, guess, effort)
        facts.attempts = [*looked, *facts.attempts]
        return facts

    @property
    def finds_region(self) -> bool:
        """Whether the region is to be found, for each domain one of its own."""
        return self._region is None

    def region(self, domain: Json, deadline: float = float("inf")) -> tuple[Json, tuple[Attempt, ...]]:
        """Where z may be for the inputs of a domain, as certificates write it; if it was to be found, how that went."""
        if self._region is not None:
            return self._region, ()
        return self.problem.once("region", domain, lambda: self._invariant(domain, deadline))

    def region_or_why(self, domain: Json, deadline: float = float("inf")) -> tuple[Json, tuple[str, ...]]:
        """The same; and, where a region was to be found and was not, why all states are asked about instead."""
        region, looked = self.region(domain, deadline)
        return region, tuple(f"all states were asked about: {each.reason}" for each in looked if region == ALL_STATES)

    def _invariant(self, domain: Json, deadline: float) -> tuple[Json, tuple[Attempt, ...]]:
        started, now = time.perf_counter(), time.monotonic()
        until = now + SHARE * (deadline - now)
        found, why = invariant_box(self.problem, domain, self.deployed.operator, until)
        how = why if found is None else _extent(self.problem.box(found))
        return found or ALL_STATES, (Attempt("invariant box", "region", time.perf_counter() - started, reason=how),)

    def _likely_fixed_point(self, box: Box | None) -> np.ndarray:
        shape, given = self.spec.input_shape, None
        if shape is not None:
            middle = np.zeros(shape) if box is None else box.center()
            given = torch.from_numpy(middle if self.spec.vocabulary is None else np.floor(middle))[None]
        found: np.ndarray = self.deployed.fixed_points(given, GUESS_ITERATIONS)[0]
        return found

    def depends_on(self, box: Box, deadline: float = float("inf")) -> bool:
        """Whether anything that a prover looks at gets smaller when the inputs are only those of the box.

        A contraction rests on the enclosures of what depends on the state, and of what multiplies it. Where the box
        changes none of them, there is no point in trying again.
        """
        nodes = self.problem.graph.step.nodes
        seen = {i for i, n in enumerate(nodes) if n.kind == STATE}
        seen |= {j for i in seen if nodes[i].op not in ("add", "sub", "concat") for j in nodes[i].args}
        narrow = box_json("input", box)
        if narrow == self.domain:
            return False
        graph = self.problem.graph
        try:
            region = self.region(self.domain, deadline)[0]
            if self.region(narrow, deadline)[0] != region:
                return True
            wide = self.problem.ranges(self.domain, region)
            small = evaluate(graph, graph.step, self.problem.box(region), self.problem.box(narrow))
        except CheckError:
            return True
        return any(wide[i] != small[i] for i in seen if nodes[i].kind != CONSTANT)

    def certify(self, filings: Iterable[Filing]) -> tuple[Certificate, Valid]:
        """The certificate of these claims, accepted by the kernel; its claims are in the order of the filings.

        Raises:
            CheckError: the kernel rejects it, which is a defect of this library.
        """
        builder = CertificateBuilder(self.deployed.exported.graph, self.deployed.weights, self.problem.unused)
        for filing in filings:
            builder.file(filing)
        certificate = builder.build()
        return certificate, kernel_check(certificate.to_bytes(), self.deployed.weights)


def _extent(box: Tensor) -> str:
    """What box was found, in the words of a trial."""
    ends = [box.fraction(i) for i in range(box.size)]
    lo, hi = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    return f"found, its entries between {lo:.3g} and {hi:.3g}"


def admissible(box: Box, vocabulary: int | None) -> Box:
    """The box itself; for integer inputs, the smallest box of the integers from 0 to V − 1 that it holds.

    Raises:
        ValueError: it holds none.
    """
    if vocabulary is None:
        return box
    ends = [(max(ceil(a), 0), min(floor(b), vocabulary - 1)) for a, b in zip(box.lo, box.hi, strict=True)]
    if any(a > b for a, b in ends):
        raise ValueError(f"expected integers from 0 to {vocabulary - 1}, found {box}, which holds none in some entry")
    return Box(*(np.array([Fraction(e[side]) for e in ends], dtype=object).reshape(box.shape) for side in (0, 1)))


def prove_facts(
    problem: Problem, domain: Json, region: Json, operator: object, guess: Callable[[], np.ndarray], effort: Effort
) -> Facts:  # fmt: skip
    """All provers that were asked for; then the best contraction from which everything follows that is required.

    Raises:
        ValueError: an unknown norm or prover.
    """
    names, attempts = effort.names, []
    problem.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
    settled: Derivation | None = None
    asked = operator == "picard" and region == ALL_STATES and effort.norm == "auto" and effort.provers is None
    if asked and time.monotonic() <= effort.deadline:
        first = prove_settled(problem, domain)
        settled = first.derivation
        if settled is not None:  # needs no norm; a rate is a cheap extra
            attempts, names = [first], ["linf"] if problem.graph.size <= MOST_FOR_A_RATE else []
    provers = effort.provers if settled is None else names
    found = iter(()) if not effort.norms or not names else norms.contraction_attempts(
        problem, domain, region, effort.norm, provers
    )  # fmt: skip
    for done, attempt in enumerate(found, 1):
        attempts.append(attempt)
        if effort.progress is not None:
            effort.progress(done, len(names), f"{attempt.prover} {attempt.norm}")
        if done < len(names) and time.monotonic() > effort.deadline:
            attempts += [Attempt(name, name, 0.0, reason="not tried: the time was used up") for name in names[done:]]
            break
    best: Facts | None = None
    for attempt in sorted((a for a in attempts if a.rate is not None), key=lambda a: a.rate or 0):
        facts = Facts(problem, domain, region, operator, guess)
        facts.from_contraction(cast(Derivation, attempt.derivation))
        if best is None or facts.complete:
            best = facts
        if facts.complete:
            break
    if settled is not None and (best is None or not best.complete):
        best = Facts(problem, domain, region, operator, guess)
    best = best or Facts(problem, domain, region, operator, guess)
    best.attempts = attempts
    if settled is not None:
        best.from_settling(settled)
    if not best.complete:
        best.from_well_posedness()
    if not best.complete and effort.thorough and effort.norm == "auto" and effort.provers is None:
        best.from_several_steps()
    if not best.complete and effort.thorough:
        best.from_cases(effort.deadline)
    if not best.complete and effort.thorough:
        best.from_counterexamples(min(effort.deadline, time.monotonic() + REFUTING), effort.seed)
    best.fill()
    return best
