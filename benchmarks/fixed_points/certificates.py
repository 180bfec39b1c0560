"""How long the kernel takes for certificates of fixed points, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence

import trm_verify as tv
from benchmarks.fixed_points.images import EXACT, WIDE, Decider
from benchmarks.fixed_points.setting import Setting
from benchmarks.isolated import isolated
from benchmarks.table import Json, Measure

ENCLOSURE_SECONDS, BRANCHING_SECONDS, BRANCHING_SIZE = 5.0, 60.0, 20.0
SMALL = "0.02"  # a radius at which the enclosure suffices
MB = 1e6


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """One enclosure at n = 100 by the isolated kernel; and whatever the other rows have in their ledgers."""
    row, decider = "certificates", Decider(setting, WIDE.limited(setting.limit))
    result = tv.verify_fixed_point(decider.model.model, setting.test.box(0, SMALL))
    raw = result.certificate.to_bytes()
    alone = {"verdict": str(result.verdict), "seconds": isolated(raw, decider.weights), "bytes": len(raw)}
    known = [*Decider(setting, EXACT).ledger.known, *decider.ledger.known]
    trees = [f for f in known if f["rule"] == "branch and bound" and "check_seconds" in f]
    note = f"image 0, ε = {SMALL}, {result.verdict}; {len(raw) / MB:.3g} MB; isolated"
    measures = [Measure(row, "enclosure at n = 100", alone["seconds"], "s", most=ENCLOSURE_SECONDS, note=note)]
    return measures + _trees(row, trees), {"enclosure": alone, "trees": trees}


def _trees(row: str, trees: Sequence[Json]) -> list[Measure]:
    """Every branch-and-bound certificate against its own limit; the table has the worst one."""
    if not trees:
        return []
    worst = max(trees, key=lambda f: f["check_seconds"] / max(f["search_seconds"], BRANCHING_SECONDS))
    limit = max(worst["search_seconds"], BRANCHING_SECONDS)
    largest = max(f["certificate_bytes"] for f in trees) / MB
    note = f"of {len(trees)}, the worst against max(its search, {BRANCHING_SECONDS:.0f} s); {worst['nodes']} nodes"
    return [
        Measure(row, "branch and bound", worst["check_seconds"], "s", most=limit, note=note),
        Measure(row, "branch and bound, the largest", largest, "MB", most=BRANCHING_SIZE),
    ]
