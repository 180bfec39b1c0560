"""What a prover must do to be of use, and must never do: the test that third-party provers run.

    def test_my_prover():
        prover_conformance(my_prover)

A prover cannot make anything PROVED that is not: the kernel decides. But one that proposes what the kernel refuses, or
that states a better rate than it derives, wastes its users' time and misleads them; both are failures here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor

from trm_verify.box import Box
from trm_verify.certificate import CertificateBuilder, Derivation
from trm_verify.encode import Json, box_json, dyadic
from trm_verify.export import Exported, export
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Contraction
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.tensor import contains
from trm_verify.model import RecursiveModel, recursive
from trm_verify.provers.contraction.norms import Prover
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, NO_INPUT, Attempt, Problem
from trm_verify.testing.checks import Counterexample, check_contraction, norm_of
from trm_verify.testing.subjects import AffineStep, Subject


class ConformanceError(AssertionError):
    """Everything that the prover did wrong, one line a problem."""


@dataclass(frozen=True)
class Conformance:
    """What a conforming prover gave: the rates it proved and the reasons it gave, by case."""

    proved: dict[str, Fraction]
    declined: dict[str, str]


@dataclass(frozen=True)
class Case:
    """A model that the prover is asked about.

    Attributes:
        contracts: whether it contracts in some block or metric norm on the region at all.
    """

    name: str
    make: Callable[[], RecursiveModel]
    contracts: bool
    region: tuple[float, float] | None = None


def _plain(step: Callable[..., Any], size: int = 2, **options: Any) -> Callable[[], RecursiveModel]:
    return lambda: recursive(step, state_shape=(size,), **options)


def _rotation(z: Tensor) -> Tensor:
    return torch.stack([0.6 * z[:, 0] - 0.8 * z[:, 1], 0.8 * z[:, 0] + 0.6 * z[:, 1]], dim=1)


def _shear(z: Tensor) -> Tensor:
    return torch.stack([z[:, 0] + z[:, 1], z[:, 1]], dim=1)


def _two_parts(z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    low, high = z
    return torch.tanh(low / 4 + high / 8), torch.relu(high / 4 + low[:, :2] / 8)


GENTLE = (
    Case("z/2", _plain(lambda z: z / 2), True),
    Case("tanh of a gentle layer", lambda: AffineStep([[0.25, -0.125], [0.0, 0.25]], [[1.0], [0.5]], [0.5, 0.0],
                                                       activation="tanh"), True),
    Case("relu of a gentle layer", lambda: AffineStep([[0.25, 0.25], [-0.25, 0.125]], None, [1.0, -1.0]), True),
    Case("one coordinate", _plain(lambda z: torch.sin(z) / 2, 1), True),
    Case("a constant step", _plain(lambda z: 0 * z + 1), True),
    Case("two parts", lambda: recursive(_two_parts, state_shape=((2,), (2,))), True),
    Case("gated", _plain(lambda z, x: torch.sigmoid(x) * z / 2, input_shape=(2,), domain=Box(-1, 1)), True),
    Case("tanh(2z) away from 0", _plain(lambda z: torch.tanh(2 * z), 1), True, (0.75, 1.5)),
)  # fmt: skip
WRONG = (
    Case("the identity", _plain(lambda z: z * 1.0), False),
    Case("z(1 + 2^-20)", _plain(lambda z: z * (1 + 2.0**-20)), False),
    Case("a rotation", _plain(_rotation), False),
    Case("a shear", _plain(_shear), False),
    Case("relu(z)", _plain(torch.relu), False),
    Case("tanh(z), which contracts at no single rate", _plain(torch.tanh), False),
    Case("gelu(z), whose slope exceeds 1", _plain(torch.nn.functional.gelu), False),
    Case("a residual block", _plain(lambda z: z + torch.relu(z) / 8), False),
    Case("one coordinate copied, and doubled", _plain(lambda z: torch.cat([z[:, :1], 2 * z[:, 1:]], dim=1)), False),
    Case("tanh(2z) about 0", _plain(lambda z: torch.tanh(2 * z), 1), False, (-0.5, 0.5)),
    Case("gated by an unbounded input", _plain(lambda z, x: x * z, 1, input_shape=(1,)), False),
    Case("z² where it expands", _plain(lambda z: z * z, 1), False, (0.25, 0.75)),
)


def prover_conformance(prover: Prover, *, seed: int = 0, gentle: Sequence[Case] = GENTLE) -> Conformance:
    """Ask a contraction prover about models that contract and models that do not, and check everything it says.

    Args:
        prover: `(problem, domain, region, limit=None) -> Attempt`.
        seed: of the pairs of states on which a proved rate is tried.
        gentle: models of which it must prove at least one; a specialist brings its own.

    Returns:
        What it proved and declined.

    Raises:
        ConformanceError: it proves nothing at all, raises, states more than it derives, derives what the kernel
            refuses, answers another question, gives no reason, changes the problem, or changes its mind.
    """
    problems: list[str] = []
    proved: dict[str, Fraction] = {}
    declined: dict[str, str] = {}
    for case in (*gentle, *WRONG):
        found = _ask(prover, case, problems, seed)
        if found is None:
            continue
        if found.rate is None:
            declined[case.name] = found.reason
        else:
            proved[case.name] = found.rate
            if not case.contracts:
                problems.append(f"{case.name}: expected no rate below 1, since there is none; found {found.rate}")
    if not any(case.name in proved for case in gentle):
        problems.append(f"expected a rate for at least one of {', '.join(c.name for c in gentle)}; found none")
    if problems:
        raise ConformanceError("this prover does not conform:\n" + "\n".join(f"  {text}" for text in problems))
    return Conformance(proved, declined)


@cache
def _exported(case: Case) -> tuple[RecursiveModel, Exported]:
    """Made once; every question gets a copy of the graph."""
    model = case.make()
    return model, export(model)


def _ask(prover: Prover, case: Case, problems: list[str], seed: int) -> Attempt | None:
    """The prover's answer about one case, after everything in it was looked at."""
    model, exported = _exported(case)
    problem, other = (Problem(copy.deepcopy(exported.graph), exported.to_bytes()) for _ in range(2))
    domain, region = _sets(model, problem, case)

    def fail(expected: str, got: object) -> None:
        problems.append(f"{case.name}: expected {expected}, found {got}")

    try:
        attempt: Any = prover(problem, domain, region)
        again = prover(other, domain, region)
    except Exception as error:  # somebody else's code, which can raise anything
        fail("an Attempt with a reason where there is no proof", f"{type(error).__name__}: {error}")
        return None
    if not isinstance(attempt, Attempt):
        fail("an Attempt", type(attempt).__name__)
        return None
    if problem.raw_graph != exported.graph:
        fail("an unchanged problem", "another graph")
    if (attempt.rate, attempt.derivation) != (again.rate, again.derivation):
        fail("the same answer to the same question", f"rates {attempt.rate} and {again.rate}")
    if attempt.rate is None or attempt.derivation is None:
        if attempt.rate is not None or attempt.derivation is not None:
            fail("a rate together with its derivation", "one of the two")
        if not attempt.reason:
            fail("a reason where nothing is proved", "none")
        return Attempt(attempt.prover, attempt.norm, attempt.seconds, reason=attempt.reason)
    _examine(attempt.rate, attempt.derivation, problem, domain, region, Subject.of(model), fail, seed)
    return attempt


def _sets(model: RecursiveModel, problem: Problem, case: Case) -> tuple[Json, Json]:
    size = problem.graph.size
    region = ALL_STATES if case.region is None else box_json("state", Box(*case.region).expand((size,)))
    if model.input_shape is None:
        return NO_INPUT, region
    return ALL_INPUTS if model.domain is None else box_json("input", model.domain.expand(model.input_shape)), region


def _examine(
    rate: Fraction, derivation: Derivation, problem: Problem, domain: Json, region: Json, subject: Subject,
    fail: Callable[[str, object], None], seed: int,
) -> None:  # fmt: skip
    """A derivation must be accepted, be about the question, and show the rate that is stated."""
    try:
        concluded = problem.conclude_as(derivation, Contraction)
        builder = CertificateBuilder(problem.raw_graph, problem.weights, problem.unused)
        norm = derivation.steps[-1].get("norm")
        builder.claim(
            builder.add(derivation), "contraction", operator="picard", domain=domain, region=region, norm=norm,
            rate=dyadic(concluded.rate),
        )  # fmt: skip
        kernel_check(builder.build().to_bytes(), problem.weights)
    except (CheckError, TypeError, LookupError, ValueError) as error:
        fail("a derivation of this contraction that the kernel accepts", f"{type(error).__name__}: {error}")
        return
    if not (contains(concluded.domain, problem.box(domain)) and contains(concluded.region, problem.box(region))):
        fail("a contraction over all that was asked", "one over less")
    if rate < concluded.rate:
        fail(f"a rate that the derivation shows, {concluded.rate}", f"the smaller {rate}")
    if not 0 <= rate < 1:
        fail("a rate in [0, 1)", rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        z, other = (_sample(problem, region, generator) for _ in range(2))
        x = None if subject.spec.input_shape is None else (torch.rand(subject.input_size, generator=generator) * 2 - 1)
        try:
            check_contraction(
                subject, z, other, None if x is None else x.tolist(), rate=float(rate), norm=norm_of(concluded.norm)
            )
        except Counterexample as found:
            fail("a rate that sampled pairs keep to", found.what)
            return


def _sample(problem: Problem, region: Json, generator: torch.Generator) -> list[float]:
    box = problem.box(region)
    unit = torch.rand(problem.graph.size, generator=generator, dtype=torch.float64)
    if not box.bounded:
        found: list[float] = (unit * 8 - 4).tolist()
        return found
    ends = [box.fraction(i) for i in range(box.size)]
    return [float(lo) + u * float(hi - lo) for (lo, hi), u in zip(ends, unit.tolist(), strict=True)]
