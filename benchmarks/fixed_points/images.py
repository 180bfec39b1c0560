"""The monDEQ rows: every image decided by the public call, one line of the ledger each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import torch

import trm_verify as tv
from benchmarks.fixed_points.setting import Setting
from benchmarks.fixed_points.watch import watching
from benchmarks.ledger import Ledger
from benchmarks.table import Json, Measure
from trm_verify.kernel.check import check
from trm_verify.result import Enclosure
from trm_verify.verification.deployed import Deployed
from trm_verify.verification.search import INTERRUPTED

CERTIFIED, REFUTED, OPEN, MISCLASSIFIED, FAILED = "certified", "refuted", "open", "misclassified", "failed"
VERDICTS = {tv.PROVED: CERTIFIED, tv.REFUTED: REFUTED, tv.UNKNOWN: OPEN}
ATTEMPTS, ENOUGH, SLOWEST = 3, 0.9, 8.0  # calls, of the limit, wall-clock seconds for one of the processor
NOTHING: Json = {"search_seconds": 0.0, "kernel_seconds": 0.0, "rule": ""}


@dataclass(frozen=True)
class Row:
    """One model and radius. `limit`: seconds an image. `branch`: whether the search may branch."""

    name: str
    model: str
    eps: str
    limit: float
    branch: bool = True

    def limited(self, limit: float) -> Row:
        return replace(self, limit=limit)


ENCLOSURE = Row("h40-0.02", "h40", "0.02", 60.0, branch=False)
LEFT = Row("h40-0.02-exact", "h40", "0.02", 300.0)  # what the enclosure leaves open
EXACT = Row("h40-0.05", "h40", "0.05", 300.0)
WIDE = Row("h100-0.05", "h100", "0.05", 120.0)


class Decider:
    """Decides images of one row, each by a public call of its own."""

    def __init__(self, setting: Setting, row: Row) -> None:
        self.setting, self.row, self.model = setting, row, setting.model(row.model)
        self.answers = self.model.answers(setting.test.normalised)

    @cached_property
    def weights(self) -> bytes:
        return Deployed.of(self.model.model).weights

    def all(self, indices: Sequence[int]) -> list[Json]:
        """The results of these images, from the ledger where it has them."""
        name, tick = self.row.name, self.setting.tick
        return self.ledger.measured(indices, self.one, lambda f: tick(f"{name} {f['key']}: {f['verdict']}"))

    @property
    def ledger(self) -> Ledger:
        row = self.row
        return self.setting.ledger(row.name, model=self.model.digest, eps=row.eps, limit=row.limit, branch=row.branch)

    @property
    def right(self) -> np.ndarray:
        """Which images the model classifies rightly. Shape: (images,)."""
        return self.answers == self.setting.test.labels

    def one(self, index: int) -> Json:
        """One image. A call that fails says so in the table, and the others go on."""
        try:
            return self._one(index)
        except Exception as error:
            return {"verdict": FAILED, **NOTHING, "reason": f"{type(error).__name__}: {error}"}

    def _one(self, index: int) -> Json:
        """Verdict, bounds, sizes and seconds."""
        label = int(self.setting.test.labels[index])
        if not self.right[index]:
            return {"verdict": MISCLASSIFIED, **NOTHING}
        box, row = self.setting.test.box(index, self.row.eps), self.row
        allowed = row.limit
        for _ in range(ATTEMPTS):
            wall, started = time.perf_counter(), time.process_time()
            with watching(row.branch) as watch:
                result = tv.verify_fixed_point(self.model.model, box, answer=label, timeout=allowed)
            passed, spent = time.perf_counter() - wall, time.process_time() - started
            if result.verdict is not tv.UNKNOWN or passed < allowed or spent > ENOUGH * row.limit:
                break
            allowed *= min(passed / spent, SLOWEST)  # others had the processor: the limit is of processor seconds
        if any(claim.reason == INTERRUPTED for claim in result.claims.values()):
            raise KeyboardInterrupt  # the call keeps what it has; that is no result of this image
        found: Json = {
            "verdict": VERDICTS[result.verdict], **NOTHING, **_details(result),
            "search_seconds": watch.seconds, "kernel_seconds": watch.kernel,
            "call_seconds": spent, "wall_seconds": passed,
        }  # fmt: skip
        if result.certified is not None:
            raw, started = result.certificate.to_bytes(), time.process_time()
            check(raw, self.weights)
            found |= {"certificate_bytes": len(raw), "check_seconds": time.process_time() - started}
        if result.counterexample is not None:
            found["confirmed"] = self._confirmed(result.counterexample, box, label)
        return found

    def enclosure(self, index: int) -> Enclosure | None:
        """Where the fixed points of one image's box lie."""
        with watching(branch=False):
            result = tv.verify_fixed_point(self.model.model, self.setting.test.box(index, self.row.eps))
        return result.enclosure

    def _confirmed(self, x: np.ndarray, box: tv.Box, label: int) -> bool:
        """A counterexample lies in the box, and the model answers otherwise there in floating point, too."""
        low, high = box.floats()
        inside = bool(((low <= x) & (x <= high)).all())
        return inside and int(self.model.answers(torch.from_numpy(x)[None])[0]) != label


def _details(result: Any) -> Json:
    claim = result.claims.get("fixed_point_answer")
    reason = "" if claim is None else claim.reason
    details = result.details
    if details is None:
        return {"reason": reason}
    margin = None if details.margin is None or not np.isfinite(details.margin) else details.margin
    rule = details.rule
    if result.verdict is tv.REFUTED:
        rule = "branch and bound" if details.nodes else "attack"
    return {
        "margin": margin, "width": details.width, "unstable": details.unstable, "nodes": details.nodes, "rule": rule,
        "limit": details.limit, "reason": reason,
    }  # fmt: skip


def count(found: Sequence[Json], verdict: str) -> int:
    return sum(f["verdict"] == verdict for f in found)


def searched(found: Sequence[Json]) -> list[Json]:
    """Those that were searched."""
    return [f for f in found if f["verdict"] not in (MISCLASSIFIED, FAILED)]


def enclosure(setting: Setting) -> tuple[list[Measure], Json]:
    """h40 at ε = 0.02 without branching; what that leaves open is decided by exact search as well."""
    row = ENCLOSURE
    found = Decider(setting, row).all(range(len(setting.test)))
    left = [f["key"] for f in found if f["verdict"] == OPEN]
    exact = Decider(setting, LEFT).all(left)
    missed = sum(f["verdict"] != REFUTED for f in exact) + count(found, FAILED)
    correct = searched(found)
    right = len(found) - count(found, MISCLASSIFIED)
    note = f"of {right} correct ones; {count(found, REFUTED)} refuted, {len(left)} left to exact search"
    measures = [
        Measure(row.name, "certified without branching", count(found, CERTIFIED), note=note),
        Measure(row.name, "not certified, and not refuted by exact search", missed, most=0),
        *_seconds(row.name, correct, most=0.1),
        *_wrong(setting, row, [*found, *exact]),
    ]  # fmt: skip
    return measures, {"images": found, "exact": exact}


def exact(setting: Setting) -> tuple[list[Measure], Json]:
    """h40 at ε = 0.05: everything decided."""
    row = EXACT
    found = Decider(setting, row).all(range(len(setting.test)))
    measures = [
        *_decided(row.name, found, least=len(found)),
        *_seconds(row.name, searched(found), most=1.0, longest=300.0),
        *_wrong(setting, row, found),
    ]
    return measures, {"images": found}


def wide(setting: Setting) -> tuple[list[Measure], Json]:
    """h100 at ε = 0.05, with a limit an image."""
    row = WIDE.limited(setting.limit)
    found = Decider(setting, row).all(range(len(setting.test)))
    least = 75 if len(found) == 100 else None
    late = [f["search_seconds"] for f in found if f.get("search_seconds", 0.0) > setting.limit]
    on_time = [f | {"verdict": OPEN} if f.get("search_seconds", 0.0) > setting.limit else f for f in found]
    measures = [*_decided(row.name, on_time, least), *_seconds(row.name, searched(found)), *_wrong(setting, row, found)]
    if late:  # on a crowded machine the clock on the wall lets some go on for longer
        note = ", ".join(f"{seconds:.0f} s" for seconds in sorted(late))
        measures.append(
            Measure(row.name, f"beyond the limit of {setting.limit:.0f} s, not counted", len(late), note=note)
        )
    settled = [f for f in found if f["verdict"] in (CERTIFIED, REFUTED)]
    for seconds in (1, 10, 60):
        soon = sum(f["search_seconds"] <= seconds for f in settled)
        measures.append(Measure(row.name, f"decided after at most {seconds} s of search", soon))
    for what, group in (("decided", settled), ("left open", [f for f in found if f["verdict"] == OPEN])):
        if units := sorted(f.get("unstable", 0) for f in group):
            note = f"{units[0]} to {units[-1]}, of {len(group)} images"
            measures.append(Measure(row.name, f"units of either sign, {what}, median", median(units), note=note))
    return measures, {"images": found, "limit": setting.limit}


def _decided(name: str, found: Sequence[Json], least: float | None) -> list[Measure]:
    kinds = (CERTIFIED, REFUTED, MISCLASSIFIED)
    parts = ", ".join(f"{count(found, kind)} {kind}" for kind in kinds)
    total = sum(count(found, kind) for kind in kinds)
    rules: dict[str, int] = {}
    for f in found:
        if f["verdict"] in (CERTIFIED, REFUTED):
            rules[f["rule"]] = rules.get(f["rule"], 0) + 1
    closed = ", ".join(f"{number} by {rule}" for rule, number in rules.items())
    return [Measure(name, f"decided of {len(found)}", total, least=least, note=f"{parts}; {closed}")]


def _seconds(
    name: str, found: Sequence[Json], most: float | None = None, longest: float | None = None
) -> list[Measure]:
    if not found:
        return []

    def middle(key: str) -> float:
        return median(f.get(key, 0.0) for f in found)

    note = (
        f"kernel {middle('kernel_seconds'):.3g} s, whole call {middle('call_seconds'):.3g} s, "
        f"re-check of its certificate {middle('check_seconds'):.3g} s"
    )
    return [
        Measure(name, "search, median", middle("search_seconds"), "s", most=most, note=note),
        Measure(name, "search, longest", max(f["search_seconds"] for f in found), "s", most=longest),
    ]


def _wrong(setting: Setting, row: Row, found: Sequence[Json]) -> list[Measure]:
    """What would contradict the verdicts."""
    margins = setting.attacked(setting.model(row.model), row.eps)
    unconfirmed = sum(f.get("confirmed") is False for f in found)
    broken = sum(f["verdict"] == CERTIFIED and margins[f["key"]] < 0 for f in found)
    note = f"{sum(m > 0 for m in margins)} of {len(margins)} survive the attack"
    return [
        Measure(row.name, "counterexamples that the float model does not confirm", unconfirmed, most=0),
        Measure(row.name, "certified images that the attack refutes", broken, most=0, note=note),
        Measure(row.name, "calls that failed", count(found, FAILED), most=0),
    ]
