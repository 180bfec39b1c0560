"""`trm-verify audit --commit`: rounds that fill in cells, proved one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trm_verify.cli.certify import targets, write
from trm_verify.cli.loading import Loaded, model_errors
from trm_verify.cli.outcome import Exit, Outcome

if TYPE_CHECKING:
    from trm_verify.verification.commits import CommitResult

SUFFIX = ".commits.trmcert.json"


def committed(options: Any, loaded: Loaded, x: Any) -> Outcome:
    """The rounds as an outcome, with their certificate where they are proved."""
    from trm_verify.api import verify_commit

    target, weights = targets(options.out, loaded, SUFFIX)
    with model_errors(options.model):
        found = verify_commit(
            loaded.module, x, threshold=options.commit, steps=options.steps, blank=options.blank, norm=options.norm,
            seed=options.seed,
        )  # fmt: skip
    if found:
        write(target, weights, found.certificate, loaded)
    data = {
        "model": options.model, **contents(found), "certificate": str(target) if found else None,
        "weights_file": str(weights),
    }  # fmt: skip

    def show(console: Any) -> None:
        console.out(found.explain(), highlight=False)
        for r in range(1, (found.rounds or 0) + 1):
            cells = [str(cell) for cell, own in enumerate(found.committed or ()) if own == r]
            console.out(f"round {r:3d}  commits {', '.join(cells) or 'nothing more'}", highlight=False)
        if found:
            console.out(f"certificate  {target}", highlight=False)

    return Outcome(Exit.GOOD if found else Exit.UNKNOWN, data, show)


def contents(found: CommitResult) -> dict[str, Any]:
    """The result, as JSON."""
    return {
        "verdict": str(found.verdict), "answer": None if found.answer is None else list(found.answer),
        "committed": None if found.committed is None else list(found.committed), "rounds": found.rounds,
        "steps": found.steps, "statement": found.statement, "reason": found.reason or None, "graph": found.graph_digest,
        "weights": found.weights_digest,
    }  # fmt: skip
