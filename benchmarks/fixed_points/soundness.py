"""Random models, balls and points: no fixed point outside its proved enclosure, no other answer than the proved one."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

import trm_verify as tv
from benchmarks.fixed_points.setting import Setting
from benchmarks.fixed_points.zoo import Specimen, fixed_points, moved_by, specimen
from benchmarks.table import Json, Measure
from trm_verify.result import VerificationResult

TRIPLES, QUICK = 100_000, 3_000
BALLS, POINTS, SECONDS = 6, 150, 3.0  # of a model; of a ball; for a ball
INSIDE = 1 - 1e-12  # so that no rounding leaves a ball
CLOSE = 1e-7  # a point whose fixed point is not known so well is not counted


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """Models one after the other, until so many triples have been compared with something that was proved."""
    wanted = QUICK if setting.quick else TRIPLES
    ledger = setting.ledger("soundness", balls=BALLS, points=POINTS, seconds=SECONDS)
    found: list[Json] = []
    while sum(f["triples"] for f in found) < wanted:
        found += ledger.measured([len(found)], one, lambda f: setting.tick(f"soundness {f['key']}: {f['kind']}"))
    total: Counter[str] = Counter()
    for f in found:
        total.update({key: value for key, value in f.items() if isinstance(value, int) and key != "key"})
    kinds = len({f["kind"] for f in found})
    fill = sorted(value for f in found for value in f["fill"])
    row, balls = "soundness", f"{total['balls']} balls of {len(found)} models, {kinds} kinds"
    measures = [
        Measure(row, "(model, ball, point) triples", total["triples"], least=wanted, note=balls),
        Measure(row, "fixed points outside their enclosure", total["outside"], most=0),
        Measure(row, "other answers than the proved one", total["wrong"], most=0),
        Measure(row, "counterexamples that answer as was asked", total["false"], most=0),
        Measure(
            row, "enclosures, of these balls", total["enclosed"],
            note=f"answers proved for {total['answered']}, refuted for {total['refuted']}",
        ),
        Measure(row, "points not counted, their fixed point unknown", total["unclear"]),
        Measure(
            row, "share of an enclosure that the points fill, median", fill[len(fill) // 2] if fill else None,
            note="of a ball's radii, the mean over the coordinates",
        ),
    ]  # fmt: skip
    return measures, {"models": found}


def one(seed: int) -> Json:
    """One model: some balls of one radius, many points in each."""
    kind = specimen(seed)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    centres = torch.randn(BALLS, kind.inputs, generator=generator, dtype=torch.float64)
    eps = 10.0 ** float(-2.5 * torch.rand((), generator=generator, dtype=torch.float64))
    results = tv.verify_fixed_point(kind.model, centres, eps=eps, timeout=SECONDS)
    count: Counter[str] = Counter(balls=BALLS)
    fill: list[float] = []
    for centre, result in zip(centres, results, strict=True):
        count["enclosed"] += result.enclosure is not None
        count["answered"] += result.answer is not None
        count["refuted"] += result.verdict is tv.REFUTED
        if result.counterexample is not None:
            count["false"] += not _answers_otherwise(kind, centre, torch.from_numpy(result.counterexample))
        if result.enclosure is not None or result.answer is not None:
            fill += _compare(kind, points(kind, centre, eps, generator), result, count)
    return {"kind": kind.kind, "eps": eps, "fill": fill, **count}


def points(kind: Specimen, centre: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Points of a ball: random ones, random corners, and corners that move some coordinate of the fixed point most."""
    third = POINTS // 3
    shape = (third, kind.inputs)
    inside = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    corners = torch.sign(torch.randn(shape, generator=generator, dtype=torch.float64))
    around = centre + eps * 0.5 * inside
    z, _ = fixed_points(kind.model, around)
    slopes = moved_by(kind.model, z, around)
    row = torch.randint(z.shape[1], (third,), generator=generator)
    sign = torch.sign(torch.randn(third, 1, generator=generator, dtype=torch.float64))
    extreme = sign * torch.sign(slopes[torch.arange(third), row])
    return centre + eps * INSIDE * torch.cat([inside, corners, extreme])


def _answers_otherwise(kind: Specimen, centre: Tensor, x: Tensor) -> bool:
    both = torch.stack([centre, x.reshape(-1)])
    z, _ = fixed_points(kind.model, both)
    own, other = kind.model.readout(z).argmax(1).tolist()
    return own != other


def _compare(kind: Specimen, x: Tensor, result: VerificationResult, count: Counter[str]) -> list[float]:
    """Counts what contradicts the result; returns how much of the enclosure is filled."""
    z, unsure = fixed_points(kind.model, x)
    clear = (unsure <= CLOSE * (1 + z.abs())).all(dim=1)
    z, unsure = z[clear], unsure[clear]
    count["unclear"] += int((~clear).sum())
    count["triples"] += len(z)
    if result.answer is not None:
        logits = kind.model.readout(z)
        own = logits[:, list(result.answer)]
        rivals = logits.index_fill(1, torch.tensor(result.answer), -torch.inf).amax(dim=1, keepdim=True)
        blur = (unsure @ kind.reading.abs().T).amax(dim=1, keepdim=True)
        count["wrong"] += int((own + 2 * blur < rivals).sum())
    if result.enclosure is None or not len(z):
        return []
    away = (z - torch.from_numpy(result.enclosure.center)).abs()
    radius = torch.from_numpy(result.enclosure.radius)
    count["outside"] += int((away > radius + unsure).any(dim=1).sum())
    wide = radius > 0
    return [float((away.amax(dim=0)[wide] / radius[wide]).mean())] if bool(wide.any()) else []
