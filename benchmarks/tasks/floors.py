"""The table: each floor with the number that was measured, the worst seed where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median

from benchmarks.table import Json, Measure
from benchmarks.tasks.jobs import FREE_VARIANTS, Job
from benchmarks.tasks.results import Results, average, best, listed, metric, proved, scale, seconds, where

EXACT: tuple[tuple[str, str, str, float | None], ...] = (
    ("parity", "certified", "exact at 512 bits, trained on 16", 99.0),
    ("addition", "certified", "exact at 64 bits, trained on 16", 99.0),
    ("mazes", "certified", "every move right, 9 × 9", 98.0),
    ("mazes-13", "fixed", "every move right, 13 × 13, trained on 9 to 13", 80.0),
    ("mazes-13", "learned", "the same, learned curriculum", None),
    ("sudoku", "certified", "exact at K, 2K and 5K, orbits never seen", 99.0),
    ("brackets", "certified", "exact", 95.0),
    ("snippets", "certified", "exact, lines of the standard library", None),
    ("characters", "certified", "masked characters, modules never seen", None),
    ("regions", "certified", "every move right", None),
)
RATES = {"sudoku": 0.9}
FINAL = ("parity", "sudoku", "mazes")
LIKE_FREE, WITHIN, ABOVE_TWIN, TWINS, STACKS = 5, 1.0, 20.0, 4, 2
GAIN, RATIO = 3.0, 10.0
DIGITS = 9  # of a decibel: smaller changes are the noise of doubles
JOB_SECONDS, ALL_HOURS, CORES = 15 * 60.0, 12.0, 2


def measures(jobs: Sequence[Job], known: dict[str, Json]) -> list[Measure]:
    """All rows; a quick run has no floors."""
    results = Results(jobs, known)
    rows = [
        *_exact(results), *_solvers(results), *_denoising(results), *_reported(results), *_constraint(results),
        *_recursion(results), *_stacks(results), *_curricula(results), *_answers(results), *_time(results),
    ]  # fmt: skip
    if any(job.quick for job in jobs):
        rows = [replace(row, least=None, most=None) for row in rows]
    return rows


def _exact(results: Results) -> list[Measure]:
    rows: list[Measure] = []
    for task, variant, what, floor in EXACT:
        at = {times: results.each(task, variant, metric(times, deployed=True)) for times in (1, 2, 5)}
        worst = 100 * min(map(min, at.values())) if all(at.values()) else None
        steps = results.each(task, variant, lambda k: where(k, True)["K"])
        note = "no result"
        if worst is not None:
            shown = "; ".join(f"{listed(100 * v for v in values)} at {t}K" for t, values in at.items())
            note = f"K = {steps[0]}; seeds: {shown}"
        rows.append(Measure(task, what, worst, "%", least=floor, note=note))
        if floor is not None:
            rows += _certified(results, task, variant)
    return rows


def _certified(results: Results, task: str, variant: str) -> list[Measure]:
    wanted = results.seeds(task, variant)
    verdicts = results.each(task, variant, proved)
    rates = [r for r in results.each(task, variant, lambda k: k["prove"]["rate"]) if r is not None]
    norms = sorted({n for n in results.each(task, variant, lambda k: k["prove"]["norm"]) if n is not None})
    note = f"rates {listed(rates, 9)} in {', '.join(norms)}" if rates else "no rate"
    rows = [Measure(task, "seeds certified", sum(verdicts), least=max(wanted, 1), note=f"of {wanted}; {note}")]
    if task in RATES:
        rows.append(Measure(task, "rate", max(rates, default=None), most=RATES[task], note=note))
    return rows


def _solvers(results: Results) -> list[Measure]:
    rows = []
    for task in ("jacobi", "pagerank"):
        found = [known["solve"] for known in results.of(task, "solver") if "ratio_median" in known.get("solve", {})]
        total = sum(f["instances"] for f in found)
        below = sum(f["bounds_below_the_error"] for f in found) if found else None
        note = f"of {total} instances at {found[0]['steps']} steps each" if found else "no result"
        rows.append(Measure(task, "certified bounds below the true error", below, most=0, note=note))
        ratio = max((f["ratio_median"] for f in found), default=None)
        note = f"seeds: {listed(f['ratio_median'] for f in found)}; worst {listed(f['ratio_worst'] for f in found)}"
        rows.append(Measure(task, "bound over true error, median", ratio, most=RATIO, note=note))
    return rows


def _denoising(results: Results) -> list[Measure]:
    task = "denoise"
    first, last = (results.each(task, "certified", metric(times)) for times in (0, 1))
    gains = [b - a for a, b in zip(first, last, strict=True)]
    drops = results.each(task, "certified", lambda k: _largest_drop(k["learn"]["trained"]["curve"]))
    smooth = results.each(task, "certified", lambda k: _largest_drop(k["learn"]["trained"]["smooth"]))
    baseline = results.each(task, "certified", lambda k: k["learn"]["baseline"])
    note = f"PSNR at K: {listed(last)}; after one step: {listed(first)}; best linear filter {listed(baseline[:1])}"
    filtered = min((a - b for a, b in zip(last, baseline, strict=True)), default=None)
    return [
        Measure(task, "over the best linear filter", filtered, "dB", note="below 0: the filter is better"),
        Measure(task, "over a single pass of the same model", min(gains, default=None), "dB", least=GAIN, note=note),
        Measure(task, "largest rise of the error between steps", max(smooth, default=None), "dB", most=0.0,
                note="each of the first steps, then geometric ones to 5K; of the mean level, in doubles, to 1e-9 dB"),
        Measure(task, "the same of the image rounded to its levels", max(drops, default=None), "dB",
                note="a pixel that changes its level"),
    ]  # fmt: skip


def _largest_drop(curve: Json) -> float:
    values = [curve[k] for k in sorted(curve, key=int)]
    return round(max([0.0, *(a - b for a, b in zip(values, values[1:], strict=False))]), DIGITS)


def _reported(results: Results) -> list[Measure]:
    """Tasks without a floor of their own: what they reach is what it is."""
    floored = {row[0] for row in EXACT} | {"denoise"}
    rows: list[Measure] = []
    for task in (t for t in results.tasks("certified") if t not in floored):
        factor, unit = scale(task)
        reached = results.each(task, "certified", metric(1, deployed=True))
        known = results.of(task)[0]
        baseline = results.each(task, "certified", lambda k: k["learn"]["baseline"])
        at = where(known, True)["at"][str(where(known, True)["K"])]
        others = {n: v for n, v in at.items() if n not in ("metric", "residual", "residual_median", "changed_since_K")}
        more = ", ".join(f"{name} {100 * value:.4g}" for name, value in others.items())
        note = f"seeds: {listed(factor * r for r in reached)}; baseline {listed(factor * b for b in baseline[:1])}"
        rows.append(Measure(task, "metric at K", factor * min(reached), unit, note=f"{note}; {more}".strip("; ")))
        rows += [replace(row, least=None) for row in _certified(results, task, "certified")]
    return rows


def _constraint(results: Results) -> list[Measure]:
    """The certified model at its K against the better of the published ones of the same size, at its best K."""
    row, differences, losses, kept = "constraint", {}, {}, {}
    for task in (t for t in results.tasks("certified") if scale(t)[1] == "%"):
        ours = results.each(task, "certified", metric(1))
        free = {variant: results.each(task, variant, best) for variant in FREE_VARIANTS}
        reached = {variant: mean(values) for variant, values in free.items() if values}
        if not reached or not ours:
            continue
        better = max(reached, key=lambda variant: reached[variant])
        differences[f"{task} {better}"] = 100 * (mean(ours) - reached[better])
        kept[task] = 100 * min(results.each(task, "certified", lambda k: metric(5)(k) - metric(1)(k)))
        for variant in reached:
            lost = results.each(task, variant, lambda k: best(k) - metric(5)(k))
            losses[f"{task} {variant}"] = 100 * max(lost)
    near = sum(d >= -WITHIN for d in differences.values())
    return [
        Measure(row, "tasks within 1 point of the better unconstrained one", near, least=LIKE_FREE,
                note="points ahead of: " + _named(differences)),
        Measure(row, "what the certified one loses from K to 5K, most", max((-v + 0.0 for v in kept.values()),
                default=None), "points", most=0.0, note="worst seed of each: " + _named(kept)),
        Measure(row, "what an unconstrained one loses from its best to 5K, most", max(losses.values(), default=None),
                "points", note="worst seed of each: " + _named(losses)),
    ]  # fmt: skip


def _recursion(results: Results) -> list[Measure]:
    row, alone, twin = "recursion", {}, {}
    for task in results.tasks("certified"):
        factor, _ = scale(task)
        alone[task] = factor * min(results.each(task, "certified", lambda k: metric(1)(k) - metric(0)(k)))
    for task in results.tasks("certified", "twin"):
        factor, _ = scale(task)
        ours, other = (results.each(task, v, metric(t)) for v, t in (("certified", 1), ("twin", 0)))
        twin[task] = factor * (average(ours) - average(other))  # type: ignore[operator]
    far = sum(d >= ABOVE_TWIN for task, d in twin.items() if scale(task)[1] == "%")
    units = "points, dB for denoise"
    return [
        Measure(row, "tasks where K steps are no better than one of the same weights", _count(alone), most=0,
                note=f"gain in the worst seed ({units}): " + _named(alone)),
        Measure(row, "tasks where K steps are no better than the twin trained at K = 1", _count(twin), most=0,
                note=f"mean gain ({units}): " + _named(twin)),
        Measure(row, "tasks at least 20 points above that twin", far, least=TWINS),
    ]  # fmt: skip


def _count(gains: dict[str, float]) -> int | None:
    return sum(gain <= 0 for gain in gains.values()) if gains else None


def _stacks(results: Results) -> list[Measure]:
    gains, costs = {}, []
    for task in results.tasks("stack", "single"):
        stack, single = (average(results.each(task, v, metric(1))) for v in ("stack", "single"))
        gains[task] = scale(task)[0] * (stack - single)  # type: ignore[operator]
        sizes = [results.of(task, v)[0]["learn"]["parameters"] for v in ("stack", "single")]
        spent = [average([seconds(k, "train") for k in results.of(task, v)]) or 0.0 for v in ("stack", "single")]
        costs.append(f"{task}: {sizes[0]} and {sizes[1]} parameters, {spent[0]:.0f} and {spent[1]:.0f} s of training")
    equal = sum(gain >= 0 for gain in gains.values())
    note = f"points ahead: {_named(gains)}; {'; '.join(costs)}".strip("; ")
    return [Measure("stack", "tasks equal or better than one larger model", equal if gains else None, least=STACKS,
                    note=note)]  # fmt: skip


def _curricula(results: Results) -> list[Measure]:
    rows = []
    for task in results.tasks("fixed", "learned"):
        reached = {
            v: results.each(task, v, metric(1, deployed=True)) for v in ("certified", "fixed", "learned")
        }  # fmt: skip
        said = "; ".join(f"{'none' if v == 'certified' else v}: {listed(100 * r for r in values)}"
                         for v, values in reached.items() if values)  # fmt: skip
        ahead = 100 * (average(reached["learned"]) - average(reached["fixed"]))  # type: ignore[operator]
        rows.append(Measure("curriculum", f"{task}: learned over fixed", ahead, "points", note=said))
    return rows


def _answers(results: Results) -> list[Measure]:
    rows = []
    for task in dict.fromkeys([*FINAL, *results.tasks("certified")]):
        found = [a for a in results.each(task, "certified", lambda k: k["prove"]["answers"]) if a["inputs"]]
        share = min((100 * a["proved"] / a["inputs"] for a in found), default=None)
        final = [k for a in found for k in a["final"]]
        note = "no result"
        if found:
            tried = sum(a["inputs"] for a in found)
            right = sum(a["proved_right"] for a in found)
            note = f"of {tried} inputs in all seeds, {right} of the proved answers right, {_seconds(found)} s an input"
        if final:
            note += f"; final from step {median(final):g} in the median, {max(final)} at most"
        floor = 95.0 if task in FINAL else None
        rows.append(Measure("answers", f"{task}: certified final answers", share, "%", least=floor, note=note))
    return rows


def _seconds(found: Sequence[Json]) -> str:
    return f"{max(a['seconds_each'] for a in found):.3g}"


def _time(results: Results) -> list[Measure]:
    spent = {job.name: seconds(results.known[job.name]) for job in results.jobs if results.known[job.name]}
    longest = max(spent, key=lambda name: spent[name], default=None)
    ends = {job.name for job in results.jobs if job.variant in ("certified", "solver")}
    whole = {name: value for name, value in spent.items() if name in ends}
    slowest = max(whole, key=lambda name: whole[name], default=None)
    missing = sum(not results.known[job.name] for job in results.jobs)
    return [
        Measure("time", "a task end to end, the longest", whole.get(slowest or ""), "s", most=JOB_SECONDS,
                note=f"{slowest}; any variant: {longest}, {spent.get(longest or '', 0):.0f} s"),
        Measure("time", "everything, on two cores", sum(spent.values()) / CORES / 3600 if spent else None, "h",
                most=ALL_HOURS, note=f"{len(spent)} jobs, {missing} of all not done"),
    ]  # fmt: skip


def _named(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:+.3g}" for name, value in values.items()) or "no result"
