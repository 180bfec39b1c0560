"""How far the logits at the fixed point can move with the input: over a whole domain, or in a ball about one input."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Derivation, Filing
from trm_verify.display import Displayed
from trm_verify.encode import Json, box_json, dyadic, state_json
from trm_verify.kernel.claims import Lipschitz
from trm_verify.kernel.expect import describe
from trm_verify.provers.fixed_points.search import FixedPointSearch
from trm_verify.provers.lipschitz.constant import LipschitzAttempt, prove_lipschitz
from trm_verify.provers.problem import ALL_STATES
from trm_verify.result import CAVEAT, PROVED, UNKNOWN, Certified, Checked, Verdict
from trm_verify.verification.facts import Facts
from trm_verify.verification.inputs import Input, Inputs, Number, Row
from trm_verify.verification.rounding import up
from trm_verify.verification.session import Effort, Region, Verification
from trm_verify.verification.threads import single_threaded

ONE_LAYER = "one layer z = φ(Wz + Ux + b) with slopes in [0, 1] and a linear readout, with exactly one fixed point"


@dataclass(frozen=True, eq=False)
class LipschitzResult(Certified, Displayed):
    """The outcome of `verify_lipschitz`.

    Attributes:
        verdict: PROVED with a constant, or UNKNOWN; a Lipschitz constant is never refuted here.
        constant: `‖logits(z*(x)) − logits(z*(x'))‖₂ ≤ constant · ‖x − x'‖₂` over the domain in question, rounded up.
        statement: the claim in the kernel's words.
        reason: why there is none, or why a ball has only a global one.
        local: whether the constant uses where the fixed points of these inputs are.
        varying: units whose slope was not known; the slopes of all others are used as they are.
        seconds: by part: "one fixed point", "enclosure" (of the fixed points of a ball), "constant".
        graph_digest: SHA-256 of the exact graph.
        weights_digest: of the weights file.
    """

    verdict: Verdict
    graph_digest: str
    weights_digest: str
    constant: float | None = None
    statement: str = ""
    reason: str = ""
    local: bool = False
    varying: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    certified: Callable[[], Checked] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def explain(self) -> str:
        """The verdict in words."""
        lines = [f"{self.verdict} ({CAVEAT})"]
        if self.statement:
            lines.append(f"  {self.verdict}: {self.statement}")
            where = "at the fixed points of these inputs" if self.local else "everywhere"
            lines.append(f"    the slopes of {self.varying} units may be anything in [0, 1] {where}")
        if self.reason:
            lines.append(f"    {self.reason}")
        lines += [f"  {what}: {seconds:.2f} s" for what, seconds in self.seconds.items()]
        return "\n".join(lines if self else [*lines, f"  what would help: {ONE_LAYER}"])

    __str__ = explain


def verify_lipschitz(
    model: nn.Module, x: Input | None = None, *, eps: Number | None = None, domain: Box | None = None,
    region: Region | None = None, timeout: float | None = None, seed: int = 0,
) -> LipschitzResult:  # fmt: skip
    """Prove an ℓ2 Lipschitz constant of the map from the input to the logits at the fixed point.

    For single-layer models `z = φ(Wz + Ux + b)` with slopes in [0, 1] and a linear readout that have exactly one fixed
    point for each input: implicit models (monDEQ), and loops that contract. How the fixed point is computed does not
    matter. Without `x` the constant holds over the domain; with `x` over the ball, or the box, about it, where the
    fixed points are enclosed first so that units whose sign is settled there count with their own slope.

    Args:
        model: see `verify_fixed_point`, as for the next four.
        x: one input, or a `Box`.
        eps: radius of the ball about x.
        domain: further bounds on x.
        region: bounds on z, or "invariant", see `verify_fixed_point`.
        timeout: seconds for the searches.
        seed: of the random inputs on which the exported graph is compared with the model.

    Norm: ℓ2 in the model's own input, ℓ2 over all logits (of all output positions together).

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: x, eps or model do not fit together, or the model has no input or no readout.
        CheckError: the kernel rejects what the prover found, which is a defect of this library; nothing is PROVED.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected timeout >= 0 seconds, found {timeout!r}")
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    session = Verification(model, domain, region, seed)
    if session.spec.input_shape is None or session.deployed.logits_shape is None:
        raise ValueError("expected a model with an input and a readout(z), found one without")
    task = Inputs.of(session, x, eps, None)
    if task is not None and task.batch:
        raise ValueError(f"expected one input of shape {session.spec.input_shape}, found a batch; call it for each")
    with single_threaded():
        return _Search(session, deadline).run(task)


class _Search:
    """One call."""

    def __init__(self, session: Verification, deadline: float) -> None:
        self.session, self.deadline = session, deadline
        self.seconds: dict[str, float] = {}
        self.reason = ""

    def run(self, task: Inputs | None) -> LipschitzResult:
        row = None if task is None else task.rows[0]
        started = time.perf_counter()
        facts = self.ground(row)
        self.seconds["one fixed point"] = time.perf_counter() - started
        if facts is None or facts.anchor is None:
            return self.result(row, LipschitzAttempt(0.0, reason="exactly one fixed point was not proved"), False)
        enclosed = None if task is None else self.enclosed(facts.anchor, facts.region, task)
        attempt = prove_lipschitz(self.session.problem, enclosed or facts.anchor, self.deadline)
        self.seconds["constant"] = attempt.seconds
        return self.result(row, attempt, enclosed is not None)

    def ground(self, row: Row | None) -> Facts | None:
        """Exactly one fixed point for each input: by R4, which is cheap, or by a norm in which the step contracts."""
        box = None if row is None else row.box
        for norms, where in ((False, None), (True, None), *(((True, box),) if box is not None else ())):
            effort = Effort(deadline=self.deadline, norms=norms, thorough=False)
            found = self.session.facts(effort, where)
            if found.anchor is not None:
                return found
        return None

    def enclosed(self, ground: Derivation, region: Json, task: Inputs) -> Derivation | None:
        """The fixed points of a ball, with the intervals of their units; None where they did not close."""
        session, row = self.session, task.rows[0]
        started = time.perf_counter()
        state = session.deployed.fixed_points(task.centres)[0]
        search = FixedPointSearch(session.problem, ground, self.inputs(row), region, state)
        found = search.run(None, self.deadline)
        self.seconds["enclosure"] = time.perf_counter() - started
        self.reason = "" if found.enclosure is not None else f"the fixed points were not enclosed: {found.reason}"
        return found.enclosure

    def inputs(self, row: Row | None) -> Json:
        """The inputs in question."""
        return self.session.domain if row is None or row.box is None else box_json("input", row.box)

    def result(self, row: Row | None, attempt: LipschitzAttempt, local: bool) -> LipschitzResult:
        """The constant, once the whole certificate has been checked."""
        session = self.session
        digests = session.problem.graph.digest, session.problem.graph.weights.sha256
        if attempt.derivation is None:
            return LipschitzResult(UNKNOWN, *digests, reason=attempt.reason, seconds=self.seconds)
        record = session.problem.conclude_as(attempt.derivation, Lipschitz)
        fields = {
            "domain": self.inputs(row), "constant": dyadic(record.constant),
            "region": state_json(record.region) if record.region.bounded else ALL_STATES,
        }  # fmt: skip
        checked = session.certify([Filing(attempt.derivation, "lipschitz", fields)])
        return LipschitzResult(
            PROVED, *digests, up(record.constant), describe(checked[1].claims[0]), self.reason, local, attempt.varying,
            self.seconds, lambda: checked,
        )  # fmt: skip
