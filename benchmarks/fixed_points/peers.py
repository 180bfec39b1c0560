"""Against a plain mixed-integer program of the same question, image by image in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

import numpy as np

from benchmarks.fixed_points import milp
from benchmarks.fixed_points.images import CERTIFIED, REFUTED, Decider, Row
from benchmarks.fixed_points.setting import Setting
from benchmarks.table import Json, Measure

IMAGES, LIMIT, FASTER = 20, 300.0, 10.0
ROW = Row("milp", "h40", "0.05", LIMIT)


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """The first 20 images that the model classifies rightly."""
    decider = Decider(setting, ROW)
    limit = 30.0 if setting.quick else LIMIT
    low, high = (end.numpy() for end in setting.test.ends(ROW.eps))
    right = [int(i) for i in np.flatnonzero(decider.right)]

    def both(index: int) -> Json:
        label = int(setting.test.labels[index])
        question = decider.model, low[index], high[index], label, limit
        enclosure = decider.enclosure(index)
        return {
            "ours": decider.one(index), "milp": asdict(milp.decide(*question)),
            "enclosed": None if enclosure is None else asdict(milp.decide(*question, enclosure)),
        }  # fmt: skip

    ledger = setting.ledger(ROW.name, model=decider.model.digest, eps=ROW.eps, limit=limit)
    found = ledger.measured(
        right[: 3 if setting.quick else IMAGES], both,
        lambda f: setting.tick(f"milp {f['key']}: {f['milp']['verdict']}, ours {f['ours']['verdict']}"),
    )  # fmt: skip
    return measures(found, limit), {"images": found}


def measures(found: Sequence[Json], limit: float) -> list[Measure]:
    ended = [f for f in found if f["milp"]["verdict"] != milp.TIME_OUT]
    answers = [(f["ours"]["verdict"], f[name]) for f in found for name in ("milp", "enclosed") if f[name] is not None]
    other = sum(p["verdict"] not in (milp.TIME_OUT, own) for own, p in answers)
    left = [f for f in found if f["ours"]["rule"] == "branch and bound"]
    row, late = ROW.name, len(found) - len(ended)
    ours = sum(f["ours"]["verdict"] in (CERTIFIED, REFUTED) for f in found)
    rows = [
        Measure(row, "other verdicts than the program's", other, most=0, note="with either kind of bounds"),
        Measure(row, "decided by us", ours, note=f"of {len(found)} images"),
        Measure(row, "decided by the program", len(ended), note=f"{late} ended at the limit of {limit:.0f} s"),
        Measure(row, "the program, median", median(f["milp"]["seconds"] for f in found), "s"),
        Measure(row, "our search, median", median(f["ours"]["search_seconds"] for f in found), "s"),
        Measure(row, "times faster, median", _ratio(found), least=FASTER, note=_search_only(late)),
        Measure(row, "times faster, kernel included, median", _ratio(found, True), note=_late(late)),
    ]
    if left:
        late = sum(f["milp"]["verdict"] == milp.TIME_OUT for f in left)
        note = f"{len(left)} images, {_search_only(late)}"
        what = "times faster where enclosure and attack leave it open"
        rows += [
            Measure(row, what, _ratio(left), least=FASTER, note=note),
            Measure(
                row, "times faster there, kernel included", _ratio(left, True), note=f"the same {len(left)} images"
            ),
        ]
    return rows + _given(left)


def _given(left: Sequence[Json]) -> list[Measure]:
    """Branch and bound alone: the program has the bounds of our enclosure as well."""
    given = [f for f in left if f["enclosed"] is not None]
    if not given:
        return []
    late = sum(f["enclosed"]["verdict"] == milp.TIME_OUT for f in given)
    seconds = median(f["enclosed"]["seconds"] for f in given)
    note = f"the same {len(given)} images, {seconds:.3g} s in the median, {_search_only(late)}"
    what = "times faster there than the program given our enclosure"
    return [
        Measure(ROW.name, what, _ratio(given, program="enclosed"), note=note),
        Measure(ROW.name, "the same, kernel included", _ratio(given, True, "enclosed"), note=_late(late)),
    ]


def _ratio(found: Sequence[Json], kernel: bool = False, program: str = "milp") -> float | None:
    """Processor seconds of the program over ours, in the median of the images that we decided."""

    def ours(f: Json) -> float:
        return f["ours"]["search_seconds"] + (f["ours"]["kernel_seconds"] if kernel else 0.0)

    ratios = [f[program]["seconds"] / ours(f) for f in found if f["ours"]["verdict"] in (CERTIFIED, REFUTED)]
    return median(ratios) if ratios else None


def _search_only(late: int) -> str:
    """The program's verdict is not checked by anything, so its seconds are set against those of our search."""
    return f"our search alone, without the kernel's check{'; ' if late else ''}{_late(late)}"


def _late(count: int) -> str:
    return f"at least: {count} of the program's times end at its limit" if count else ""
