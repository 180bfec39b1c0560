"""`trm-verify audit --attractors`: where many starts of the loop end, and what that refutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_verify.cli.certify import targets, write
from trm_verify.cli.loading import Loaded, model_errors
from trm_verify.cli.outcome import Exit, Outcome, cannot, usage
from trm_verify.cli.refute import SUFFIX

if TYPE_CHECKING:
    from trm_verify.auditing import Attractor, AttractorMap

STEPS = 2000
COORDINATES = 64  # of a state, in the JSON object


def mapped(
    options: Any, loaded: Loaded, x: Any, region: Any, figure: Path | None, reason: str | None = None
) -> Outcome:
    """The map as an outcome: REFUTED if the kernel accepted a refutation, else UNKNOWN.

    Args:
        reason: why there is a map and no audited run, where a run was asked for.
    """
    from trm_verify.auditing import attractors

    out = options.out if reason is None else None  # a name that was given is the name of a run's certificate
    target, weights = targets(out, loaded, SUFFIX)
    steps = STEPS if options.steps is None or reason is not None else options.steps
    with model_errors(options.model):
        found = attractors(loaded.module, x, starts=options.starts, steps=steps, region=region, seed=options.seed)
    if found.refutations:
        write(target, weights, found.certificate, loaded)
    if figure is not None:
        draw(found, figure)
    data = {
        "model": options.model, "verdict": str(found.verdict), "reason": reason, **contents(found),
        "certificate": str(target) if found.refutations else None, "weights_file": str(weights),
        "figure": None if figure is None else str(figure),
    }  # fmt: skip

    def show(console: Any) -> None:
        from trm_verify.report import print_attractors

        if reason is not None:
            console.out(f"UNKNOWN: {reason}\n", highlight=False)
        print_attractors(console, found)
        if found.refutations:
            console.out(f"certificate  {target}", highlight=False)
        if figure is not None:
            console.out(f"figure       {figure}", highlight=False)

    return Outcome(Exit.INVALID if found.refutations else Exit.UNKNOWN, data, show)


def contents(found: AttractorMap) -> dict[str, Any]:
    """The map, as JSON; long states are cut."""
    return {
        "starts": len(found.starts), "own": found.own,
        "attractors": [_entry(each) for each in found.attractors],
        "unreached": [_entry(each) for each in found.unreached],
        "claims": {
            c.name: {"verdict": str(c.verdict), "statement": c.statement, "reason": c.reason}
            for c in found.claims.values()
        },
        "graph": found.graph_digest, "weights": found.weights_digest,
    }  # fmt: skip


def _entry(each: Attractor) -> dict[str, Any]:
    states = [] if each.period is None else each.states[:, :COORDINATES].tolist()
    return {
        "kind": each.kind, "period": each.period, "share": each.share, "repels": each.repels, "growth": each.growth,
        "exponent": each.exponent, "states": states,
    }  # fmt: skip


def draw(found: AttractorMap, figure: Path) -> None:
    """Save the figure of a map.

    Raises:
        Failure: matplotlib is missing, or the file cannot be written.
    """
    from trm_verify.report import attractor_figure, save_figure

    try:
        save_figure(attractor_figure(found), figure)
    except ModuleNotFoundError as error:
        raise usage(str(error)) from error
    except OSError as error:
        raise cannot("write the figure", error, "choose another file with --figure") from error
