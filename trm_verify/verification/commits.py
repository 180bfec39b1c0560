"""Contract, then commit, proved: which cells every round fills in, when it stops, and what it answers in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from trm_verify.box import exact_number
from trm_verify.certificate import Derivation, Filing
from trm_verify.claims import Number
from trm_verify.display import Displayed
from trm_verify.encode import Json, box_json, dyadic
from trm_verify.kernel.claims import Commits
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.expect import describe
from trm_verify.kernel.rules.committing import classes_of
from trm_verify.provers.commits import CommitAttempt, Rounds, Sight, prove_commits
from trm_verify.result import CAVEAT, PROVED, UNKNOWN, Certified, Checked, Verdict
from trm_verify.verification.facts import Facts
from trm_verify.verification.inputs import Input, Inputs, Row
from trm_verify.verification.outcomes import global_result
from trm_verify.verification.session import Effort, Verification
from trm_verify.verification.threads import single_threaded

ANOTHER = "another threshold=, a smaller box of inputs, or a model whose logits are further apart (more training)"
CONVERGE = "a loop that is proved to converge at a rate, from its own start, for all inputs that commitments lead to"


@dataclass(frozen=True, eq=False)
class CommitResult(Certified, Displayed):
    """The outcome of `verify_commit`.

    Attributes:
        verdict: PROVED, or UNKNOWN; that a model commits otherwise is never claimed.
        answer: per output position, the class it ends with; None when nothing was proved.
        committed: per output position, the round that commits it; 0 for cells that are given or stay open.
        rounds: how many, the last one, without a commitment, included.
        steps: each round may have any number of steps from this one on.
        statement: the claim in the kernel's words. reason, remedy: why there is none, and what would help.
        seconds: of the search.
        graph_digest: SHA-256 of the exact graph. weights_digest: of the weights file.
    """

    verdict: Verdict
    graph_digest: str
    weights_digest: str
    answer: tuple[int, ...] | None = None
    committed: tuple[int, ...] | None = None
    rounds: int | None = None
    steps: int | None = None
    statement: str = ""
    reason: str = ""
    remedy: str = ""
    seconds: float = 0.0
    certified: Callable[[], Checked] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def explain(self) -> str:
        """The verdict in words."""
        lines = [f"{self.verdict} ({CAVEAT})", *([f"  {self.statement}"] if self.statement else [])]
        lines += [f"    {self.reason}"] if self.reason else []
        return "\n".join([*lines, *([f"  what would help: {self.remedy}"] if self.remedy else [])])

    __str__ = explain


def verify_commit(
    model: nn.Module, x: Input, *, threshold: Number, steps: int | None = None, blank: int = 0, norm: str = "auto",
    timeout: float | None = None, seed: int = 0,
) -> CommitResult:  # fmt: skip
    """Prove what `models.commit` does: every round, every commitment, and the answer it ends with.

    The claim is about rounds of *any* number of steps from `steps` on, so more steps a round change nothing, and about
    all inputs of a box. Cells are open, or not, for all of these inputs alike, and every margin is strict, of the cells
    that are committed and of those that are not.

    Args:
        x: one input, or a `Box` of inputs, one-hot over a blank and every class on the last axis.
        threshold: by how much a largest logit exceeds the others of its cell to be committed. A float means its exact
            binary value; it has to be a binary fraction.
        steps: the claim's number of steps a round; the least that can be shown, if left out.
        blank: the channel of the blank.
        norm: "auto" or one of linf, l2, parts, tokens, metric, to look for a contraction in.
        timeout: seconds for the searches.
        seed: of the random inputs on which the exported graph is compared with the model.

    Shape: x (*positions, 1 + classes).

    Raises:
        ExportError: the step cannot be exported exactly.
        ValueError: model, x, steps, threshold or blank do not fit together.
        CheckError: the kernel rejects what the prover found, which is a defect of this library; nothing is PROVED.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected timeout >= 0 seconds, found {timeout!r}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"expected steps >= 1, or None for the least that can be shown; found {steps!r}")
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    effort = Effort(norm, deadline=deadline, thorough=False)
    effort.names  # noqa: B018  (refuses an unknown norm before any work)
    session = Verification(model, seed=seed)
    try:
        classes = classes_of(session.problem.graph)
    except CheckError as error:
        raise ValueError(f"expected a model whose cells commit: {error}") from None
    wanted = Rounds(steps, _threshold(threshold), blank)
    if isinstance(blank, bool) or not isinstance(blank, int) or not 0 <= blank <= classes:
        raise ValueError(f"expected blank, a channel from 0 to {classes}, found {blank!r}")
    task = Inputs.of(session, x, None, None)
    if task is None or task.batch:
        given = "a batch; call it for each" if task else "none"
        raise ValueError(f"expected one input of shape {session.spec.input_shape}, found {given}")
    with single_threaded():
        return _decide(session, session.facts(effort), task.rows[0], wanted, deadline)


def _threshold(given: Number) -> Fraction:
    exact = exact_number(given, "threshold")
    if exact < 0 or exact.denominator & (exact.denominator - 1):
        raise ValueError(f"expected a threshold >= 0 that is a binary fraction, such as 0.5, found {given!r}")
    return exact


def _decide(session: Verification, facts: Facts, row: Row, wanted: Rounds, deadline: float) -> CommitResult:
    """The rounds, once the whole certificate has been checked."""
    started = time.perf_counter()
    digests = session.problem.graph.digest, session.problem.graph.weights.sha256
    if row.box is None:
        raise ValueError("expected a model with an input, found none")
    if facts.convergence is None:
        why = global_result(session, facts).explain()
        return CommitResult(UNKNOWN, *digests, reason=f"convergence at a rate was not proved:\n{why}", remedy=CONVERGE)
    domain = box_json("input", row.box)
    found = prove_commits(session.problem, facts.convergence, domain, wanted, _sight(session), deadline)
    seconds = time.perf_counter() - started
    if found.derivation is None:
        return CommitResult(UNKNOWN, *digests, reason=found.reason, remedy=_remedy(found), seconds=seconds)
    record = session.problem.conclude_as(found.derivation, Commits)
    filings = [*(filing for _, filing in facts.filings), commit_filing(found.derivation, record, facts, domain)]
    checked = session.certify(filings)
    return CommitResult(
        PROVED, *digests, record.answer, record.committed, record.rounds, record.steps,
        describe(checked[1].claims[-1]), seconds=seconds, certified=lambda: checked,
    )  # fmt: skip


def _remedy(found: CommitAttempt) -> str:
    if found.more is not None:
        return f"steps={found.more} or more: then this round is certain"
    return CONVERGE if found.reason.startswith(("CONTEXT", "INCLUSION")) else ANOTHER


def commit_filing(derivation: Derivation, record: Commits, facts: Facts, domain: Json) -> Filing:
    """The claim of the rounds."""
    return Filing(derivation, "commits", {
        "operator": facts.operator, "domain": domain, "answer": list(record.answer),
        "committed": list(record.committed), "steps": record.steps, "threshold": dyadic(record.threshold),
        "blank": record.blank,
    })  # fmt: skip


def _sight(session: Verification) -> Sight:
    """The model in float64."""
    shape = session.spec.input_shape or ()

    def state(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.deployed.fixed_points(torch.from_numpy(x.reshape(1, *shape)))[0]
        return found

    def logits(z: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.deployed.logits(z[None])[0]
        return found

    return Sight(state, logits)
