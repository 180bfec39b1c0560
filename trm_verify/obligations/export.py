"""From a certificate and its weights file to one script per step and claim."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trm_verify.kernel import document
from trm_verify.kernel.check import _box, check, parse_claim
from trm_verify.kernel.claims import Conclusion
from trm_verify.kernel.context import Context
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import parse
from trm_verify.kernel.norms import parse_norm
from trm_verify.kernel.rules import RULES
from trm_verify.kernel.weights import Weights
from trm_verify.obligations import (
    committing,
    contraction,
    enclosures,
    fixed_points,
    lipschitz,
    loops,
    refutations,
    row_gains,
    runs,
    triangular,
)
from trm_verify.obligations.claims import claim
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.stated import STATED
from trm_verify.obligations.terms import NotExported, Script

EXPORTED, NO_ARITHMETIC, NOT_EXPORTED = "exported", "no arithmetic", "not exported"

MALFORMED = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)  # what a refused step can bring about

CONDITIONS: dict[str, Callable[[Scene], None]] = {
    rule.__name__: rule
    for rule in (
        contraction.spectral, contraction.spectral_abs, contraction.radius_contraction, contraction.damping,
        contraction.metric_contraction, row_gains.row_gain,
        contraction.monotone, contraction.log_norm, contraction.monotone_convergence,
        contraction.log_norm_convergence, loops.invariant_box, loops.invariant_radius, loops.invariant_ball,
        loops.at_most_one, loops.exactly_one, loops.convergence, loops.initial_bound, loops.several_steps,
        loops.answer_by_convergence, loops.answer_by_invariance, loops.answer_when_settled,
        loops.answer_at, committing.commits, runs.run, runs.settled_run,
        loops.answer_by_fixed_point, enclosures.enclosure, enclosures.located,
        enclosures.reach,
        fixed_points.exhibited, triangular.triangular, triangular.settled_in,
        lipschitz.lipschitz, fixed_points.fixed_points_in, fixed_points.duality, fixed_points.by_continuity,
        fixed_points.fixed_point_answer, fixed_points.no_fixed_point, fixed_points.joined_domains,
        refutations.fixed_point_at, refutations.two_fixed_points, refutations.other_answer, refutations.cycle,
        refutations.expanding_pair, refutations.divergence,
    )
}  # fmt: skip


# Rules that look at one evaluation at a time: for many variables interval arithmetic shows as much as the kernel does.
EITHER_WAY = {
    name
    for name, rule in CONDITIONS.items()
    if rule.__module__
    in (
        contraction.__name__,
        loops.__name__,
        runs.__name__,
        lipschitz.__name__,
        row_gains.__name__,
        triangular.__name__,
        committing.__name__,
    )
}
SMALL = 16  # state and input entries together


@dataclass(frozen=True)
class Obligation:
    """One side condition: the script, or why there is none.

    Attributes:
        name: of the file, `step_003_spectral.smt2` or `claim_000_contraction.smt2`; `…_part_002.smt2` of several.
        rule: of the step, or the name of the claim.
        status: `exported`, `no arithmetic` (nothing to compute), or `not exported` for the given reason.
        goals: how many inequalities the script shows.
        refused: what the kernel says against the step, if it does.
    """

    name: str
    rule: str
    status: str
    text: str
    reason: str = ""
    logic: str = ""
    goals: int = 0
    refused: str = ""

    @property
    def index(self) -> int:
        return int(self.name.split("_")[1])

    @property
    def of_claim(self) -> bool:
        return self.name.startswith("claim")


@dataclass(frozen=True)
class Obligations:
    """All side conditions of one certificate, and the kernel's own verdict on it (empty: valid)."""

    certificate: str
    weights: str
    kernel: str
    items: tuple[Obligation, ...]


def export(certificate: bytes, weights: bytes, small: int = SMALL) -> Obligations:
    """Scripts for every step and claim.

    Args:
        small: models with more state and input entries than that are exported in interval arithmetic, but for rules
            about fixed points.

    Raises:
        CheckError: the certificate, its graph or its tables cannot be read at all.
    """
    statement = document.load(certificate)
    predicate = document.fields(
        statement, "_type", "subject", "predicateType", "predicate", where="statement"
    )[3]  # fmt: skip
    tables = ("graph", "boxes", "norms", "steps", "claims")
    if not isinstance(predicate, dict) or not set(tables) <= predicate.keys():
        raise CheckError("FIELD", f"a predicate with {', '.join(tables)}", type(predicate).__name__)
    stored = Weights(weights)
    graph = parse(predicate["graph"], stored)
    boxes = tuple(_box(raw, graph) for raw in document.items(predicate["boxes"], "boxes"))
    norms = tuple(parse_norm(raw, graph.size) for raw in document.items(predicate["norms"], "norms"))
    large = graph.size + graph.input_size > small
    digest = hashlib.sha256(certificate).hexdigest()
    writer = _Writer(Context(graph, boxes, norms), digest, stored.sha256, large)
    for raw in document.items(predicate["steps"], "steps"):
        writer.step(raw)
    for raw in document.items(predicate["claims"], "claims"):
        writer.claim(raw)
    verdict = ""
    try:
        check(certificate, weights)
    except CheckError as error:
        verdict = str(error)
    return Obligations(writer.digest, stored.sha256, verdict, tuple(writer.items))


class _Writer:
    """Goes through the steps and claims in order."""

    def __init__(self, context: Context, digest: str, weights: str, large: bool) -> None:
        self.context, self.digest, self.weights, self.large = context, digest, weights, large
        self.conclusions: list[Conclusion | None] = []
        self.claims = 0
        self.items: list[Obligation] = []

    def step(self, raw: Any) -> None:
        """The script of the next step; what the step concludes is kept for those that cite it."""
        place = len(self.conclusions)
        rule, cited, witness = _read(raw, place)
        premises = [self.conclusions[j] for j in cited]
        known = [p for p in premises if p is not None]
        conclusion, refused = None, ""
        if len(known) == len(premises):
            conclusion, refused = self._conclude(rule, known, witness)
        self.conclusions.append(conclusion)
        scene = Scene(self.context, known, witness, conclusion, large=self.large)
        scene.script.by_intervals = self.large and rule in EITHER_WAY

        def write() -> None:
            if len(known) < len(premises):
                raise NotExported("a premise concludes nothing")
            if rule not in CONDITIONS:
                raise NotExported("a rule for which the exporter has no script")
            CONDITIONS[rule](scene)

        self._file(f"step_{place:03d}_{rule}", rule, scene.script, write, refused, f"proofs/{rule}.md")

    def _conclude(
        self, rule: str, premises: list[Conclusion], witness: dict[str, Any]
    ) -> tuple[Conclusion | None, str]:
        try:
            return RULES[rule](self.context, premises, dict(witness)), ""
        except CheckError as error:
            refused = str(error)
        except MALFORMED as error:  # a premise that was read off a refused step lacks what the kernel would have put in
            return None, f"nothing, as a premise is refused ({type(error).__name__})"
        try:
            return STATED[rule](self.context, premises, witness) if rule in STATED else None, refused
        except (CheckError, *MALFORMED):
            return None, refused

    def claim(self, raw: Any) -> None:
        """The script of the next claim."""
        place, self.claims = self.claims, self.claims + 1
        name = str(raw.get("claim", "unknown")) if isinstance(raw, dict) else "unknown"
        name = name if name.isidentifier() else "unknown"
        scene = Scene(self.context, [], {}, None)

        def write() -> None:
            step, wanted = parse_claim(self.context, raw, len(self.conclusions))
            done = self.conclusions[step]
            if done is None:
                raise NotExported(f"step {step} concludes nothing")
            claim(scene, done, wanted)

        self._file(f"claim_{place:03d}_{name}", name, scene.script, write, "", "proofs/claims.md")

    def _file(self, name: str, rule: str, script: Script, write: Callable[[], None], refused: str, page: str) -> None:
        reason, status = "", EXPORTED
        try:
            write()
        except NotExported as error:
            reason = str(error)
        except CheckError as error:  # the kernel's own evaluation, used for intervals and hints, refuses
            reason = f"the kernel cannot evaluate it: {error}"
        except MALFORMED as error:
            if not refused:
                raise
            reason = f"a malformed step: {type(error).__name__}"
        if reason:
            script, status = Script(), NOT_EXPORTED
            reason = f"{reason}; the kernel says {refused}" if refused else reason
        elif not script.goals:
            status = NO_ARITHMETIC
        parts = script.parts() or [[]]
        for number, goals in enumerate(parts, 1):
            where = "" if len(parts) == 1 else f", part {number} of {len(parts)}"
            header = self._header(name, f"{rule}{where}", script, page, status, reason, refused, goals)
            text = script.text(header, goals if len(parts) > 1 else None)
            own = f"{name}.smt2" if len(parts) == 1 else f"{name}_part_{number:03d}.smt2"
            logic = script.logic if status == EXPORTED else ""
            self.items.append(Obligation(own, rule, status, text, reason, logic, len(goals), refused))

    def _header(
        self, name: str, rule: str, script: Script, page: str, status: str, reason: str, refused: str,
        goals: list[int],
    ) -> list[str]:  # fmt: skip
        kind, number = name.split("_")[:2]
        lines = [
            "trm_verify obligation; the answer to it must be unsat", f"certificate  sha256:{self.digest}",
            f"weights      sha256:{self.weights}", f"{kind:<11}  {int(number)}, {rule}", f"proof page   {page}",
        ]  # fmt: skip
        if refused:
            lines.append(f"kernel       refuses this step: {_plain(refused)}")
        if status == NOT_EXPORTED:
            return [*lines, f"NOT EXPORTED: {_plain(reason)}"]
        if status == NO_ARITHMETIC:
            return [*lines, "nothing to compute: the conclusion follows from the premises' kinds alone"]
        for what in dict.fromkeys(script.goals[k][0] for k in goals):
            lines.append(f"shown        {what}")
        for fact, count in sorted(script.facts.items()):
            lines.append(f"assumed      {fact}" + (f" ({count} times)" if count > 1 else ""))
        return lines if script.facts else [*lines, "assumed      nothing"]


def _plain(text: str) -> str:
    """One line without control characters: a comment must not end early."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _read(raw: Any, place: int) -> tuple[str, list[int], dict[str, Any]]:
    """Rule, premises and witness of a step."""
    if not isinstance(raw, dict) or "rule" not in raw or "premises" not in raw:
        raise CheckError("FIELD", "a step with rule and premises", type(raw).__name__, place)
    witness = dict(raw)
    rule, cited = witness.pop("rule"), document.items(witness.pop("premises"), "premises")
    if not isinstance(rule, str) or rule not in RULES:
        raise CheckError("RULE", "a rule of the format", rule, place)
    if any(type(j) is not int or not 0 <= j < place for j in cited):
        raise CheckError("PREMISE", "indices of earlier steps", cited, place)
    return rule, cited, witness
