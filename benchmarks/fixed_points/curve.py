"""Certified accuracy of h40 against ε, between what is proved and what an attack leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.fixed_points.images import CERTIFIED, ENCLOSURE, EXACT, REFUTED, Decider, Row
from benchmarks.fixed_points.setting import Setting
from benchmarks.table import Json, Measure

RADII = ("0.01", "0.02", "0.03", "0.04", "0.05", "0.06", "0.07", "0.08", "0.1")
FIRST = ("0.05", "0.02")  # these are rows of their own, and settle many images for other radii
LIMIT = 120.0


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """Balls about one image are nested: proved for one radius is proved for smaller ones, refuted for larger ones."""
    total = len(setting.test)
    safe, broken = np.zeros(total), np.full(total, np.inf)
    known = {EXACT.eps: EXACT, ENCLOSURE.eps: ENCLOSURE}
    radii = ("0.02", "0.05") if setting.quick else RADII
    right = Decider(setting, EXACT).right
    for eps in sorted(radii, key=lambda e: (e not in FIRST, e)):
        _settle(setting, known.get(eps), eps, right, safe, broken)
    least = np.full(total, np.inf)
    points: list[Json] = []
    for eps in radii:
        least = np.minimum(least, setting.attacked(setting.model("h40"), eps))
        proved, refuted = safe >= float(eps), broken <= float(eps)
        points.append({
            "eps": float(eps), "certified": int((right & proved).sum()), "refuted": int((refuted | ~right).sum()),
            "attack": int((least > 0).sum()), "contradictions": int((proved & (least < 0)).sum()), "total": total,
        })  # fmt: skip
    contradictions = sum(p["contradictions"] for p in points)
    opened = sum(total - p["certified"] - p["refuted"] for p in points)
    note = f"ε = {radii[0]} to {radii[-1]}"
    measures = [
        Measure("curve", "images left open, over all radii", opened, note=f"of {total * len(radii)}; {note}"),
        Measure("curve", "certified images that the attack refutes", contradictions, most=0, note=note),
    ]
    return measures, {"points": points}


def _settle(
    setting: Setting, row: Row | None, eps: str, right: np.ndarray, safe: np.ndarray, broken: np.ndarray
) -> None:  # fmt: skip
    """Decides the images that no other radius has settled; a row of the table is asked first."""
    chosen = replace(EXACT, name=f"h40-{eps}-curve", eps=eps, limit=LIMIT)
    for each in (row, chosen) if row is not None else (chosen,):
        left = [i for i in np.flatnonzero(right) if not safe[i] >= float(eps) and not broken[i] <= float(eps)]
        for f in Decider(setting, each).all([int(i) for i in left]):
            if f["verdict"] == CERTIFIED:
                safe[f["key"]] = max(safe[f["key"]], float(eps))
            elif f["verdict"] == REFUTED:
                broken[f["key"]] = min(broken[f["key"]], float(eps))
