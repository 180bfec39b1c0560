"""Margins of our enclosure against those of CROWN on 40 unrolled steps: the same images, one after the other.

CROWN speaks of the 40th iterate, we of the fixed point, and the margins at the centre of a ball differ between the two.
So each is measured by what it loses of its own margin at the centre; the bounds themselves are in the table as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

import trm_verify as tv
from benchmarks.fixed_points.recursion import RATE, STEPS, Crown, trained
from benchmarks.fixed_points.setting import Setting
from benchmarks.fixed_points.watch import watching
from benchmarks.table import Json, Measure
from trm_verify.encode import box_json
from trm_verify.kernel.claims import FixedPointAnswer
from trm_verify.provers.fixed_points.search import FixedPointSearch
from trm_verify.provers.lirpa import bounds as lirpa
from trm_verify.provers.problem import ALL_STATES
from trm_verify.verification.session import Effort, Verification

EPS, IMAGES, QUICK, WARM_UP = "0.01", 40, 5, 2
FASTER, FASTER_CHECKED = 50.0, 10.0
SETTLED = 160  # steps after which CROWN's bounds change no more
SAME = 1e-4  # margins this much below CROWN's are the same: its float32 rounds logits of about 20, over 40 steps


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and its processor seconds (see `watch`)."""
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


class Contest:
    """One trained model, on which each image is bounded by both."""

    def __init__(self) -> None:
        self.model, self.training = timed(trained)
        self.session = Verification(self.model)
        self.facts, self.proving = timed(lambda: self.session.facts(Effort()))
        test = tv.tasks.digits().test
        self.images, self.labels = test.x, test.y
        with torch.no_grad():
            self.answers = self.model.readout(self.model.run(test.x, STEPS)).argmax(1)

    def one(self, index: int, crown: Crown) -> Json:
        """Margins and seconds, all on one image."""
        label, problem = int(self.answers[index]), self.session.problem
        box = tv.Box.ball(self.images[index], EPS)
        domain, differences = box_json("input", box), lirpa.margins(problem, [label])
        state = self.session.deployed.fixed_points(torch.from_numpy(box.center())[None])[0]
        problem.graph.spent.clear()
        search = FixedPointSearch(problem, self.facts.convergence, domain, ALL_STATES, state)
        with watching(branch=False):
            ours = search.run([label])
        bounded = ours.margin is not None and np.isfinite(ours.margin)
        proved = None if ours.answer is None else problem.conclude_as(ours.answer, FixedPointAnswer).margins
        low, high = (end[None] for end in box.floats())
        peer, peer_seconds = timed(lambda: crown.margins(low, high, differences[None])[0])
        flat, flat_seconds = timed(lambda: lirpa.unrolled_bounds(problem, [domain], STEPS, "crown", differences))
        centre, iterate = (differences @ self.logits(z) for z in (state, self.iterate(index)))
        return {
            "image": index, "label": label, "unstable": ours.unstable, "centre": centre.tolist(),
            "crown_centre": iterate.tolist(),
            "least": ours.margin if bounded else None, "reason": ours.reason,
            "ours": None if proved is None else [float(m) for m in proved],
            "crown": peer.tolist(), "crown_float64": flat.lo[0].tolist(), "seconds": ours.seconds,
            "kernel_seconds": ours.kernel, "crown_seconds": peer_seconds, "crown_float64_seconds": flat_seconds,
        }  # fmt: skip

    def settled(self, index: int, crown: Crown) -> Json:
        """CROWN's margins on so many steps that they are those of the fixed point."""
        label = int(self.answers[index])
        differences = lirpa.margins(self.session.problem, [label])
        low, high = (end[None] for end in tv.Box.ball(self.images[index], EPS).floats())
        found = crown.margins(low, high, differences[None])[0]
        centre = differences @ self.logits(self.iterate(index, SETTLED))
        return {"crown_settled": found.tolist(), "crown_settled_centre": centre.tolist()}

    def iterate(self, index: int, steps: int = STEPS) -> np.ndarray:
        """What some steps make of an image, in doubles. Shape: (87,)."""
        x, lowered = self.images[index][None].double(), self.session.deployed.lowered
        z = lowered.init(x)
        for _ in range(steps):
            z = lowered.step(z, x)
        return z[0].double().numpy()[0]

    def logits(self, state: np.ndarray) -> np.ndarray:
        weight, bias = (p.detach().double().numpy() for p in self.model.reading.parameters())
        return weight @ state + bias

    def batched(self, indices: Sequence[int], crown: Crown) -> float:
        """Seconds an image of CROWN on all of them at once."""
        boxes = [tv.Box.ball(self.images[i], EPS).floats() for i in indices]
        low, high = (np.stack([box[side] for box in boxes]) for side in (0, 1))
        differences = np.stack([lirpa.margins(self.session.problem, [int(self.answers[i])]) for i in indices])
        return timed(lambda: crown.margins(low, high, differences))[1] / len(indices)


def run(setting: Setting) -> tuple[list[Measure], Json]:
    """The table's rows and all that was measured."""
    contest = Contest()
    count = min(setting.images, QUICK if setting.quick else IMAGES)
    with Crown.ready(contest.model) as crown:
        for index in range(WARM_UP):
            contest.one(len(contest.images) - 1 - index, crown)
        found = [setting.step(contest.one(index, crown)) for index in range(count)]
        batched = contest.batched(range(count), crown)
    with Crown.ready(contest.model, SETTLED) as crown:
        for each in found:
            each |= setting.step(contest.settled(each["image"], crown))
    return measures(contest, found, batched), {"images": found, "crown_batched_seconds": batched}


def losses(found: Sequence[Json], peer: str = "crown") -> np.ndarray:
    """What our bounds lose of the margin at the centre, what CROWN's lose, and how far ours lie below CROWN's.

    One column for each competitor; for the least margin alone where an answer stays open. Shape: (3, margins).
    """
    columns: list[np.ndarray] = []
    for f in found:
        names = ("ours", peer, "centre", f"{peer}_centre")
        if f["least"] is None:
            continue
        if f["ours"] is None:
            ours, crown, centre, iterate = f["least"], *(min(f[name]) for name in names[1:])
        else:
            ours, crown, centre, iterate = (np.array(f[name]) for name in names)
        columns.append(np.array([centre - ours, iterate - crown, crown - ours]).reshape(3, -1))
    return np.concatenate(columns, axis=1)


def measures(contest: Contest, found: Sequence[Json], batched: float) -> list[Measure]:
    ours, crown, below = losses(found)
    middle = {key: median(f[key] for f in found) for key in found[0] if key.endswith("seconds")}
    search, both = middle["seconds"], median(f["seconds"] + f["kernel_seconds"] for f in found)
    accuracy = float((contest.answers == contest.labels).double().mean())
    proved = sum(f["ours"] is not None for f in found)
    row, rate = "recursion", contest.facts.converging
    own, settled, _ = losses(found, "crown_settled")
    return [
        Measure(row, "training", contest.training, "s", most=60, note=f"test accuracy {accuracy:.4f}"),
        Measure(row, "images without bounds", sum(f["least"] is None for f in found), most=0),
        Measure(row, "proved ℓ2 rate", None if rate is None else float(rate.rate), most=RATE),
        Measure(
            row, "margins: most that we lose more than CROWN", float((ours - crown).max()), most=SAME,
            note=f"{ours.size} margins of {len(found)} images ({proved} proved), each from its own centre",
        ),
        Measure(
            row, f"margins: most that we lose more than CROWN on {SETTLED} steps", float((own - settled).max()),
            note=f"{STEPS} steps are not at rest: on {SETTLED}, CROWN itself loses up to "
                 f"{float((settled - crown).max()):.3g} more",
        ),
        Measure(
            row, "margins: CROWN's loss over ours, median", float(np.median(crown / ours)),
            note=f"losses {np.median(crown):.3g} and {np.median(ours):.3g} in the median",
        ),
        Measure(
            row, "margins: most that our bounds lie below CROWN's", float(below.max()),
            note="its bounds are those of the 40th iterate",
        ),
        Measure(row, "enclosure and margins, median", search, "s", note=f"kernel {both - search:.3g} s more"),
        Measure(row, f"CROWN, {STEPS} steps, median", middle["crown_seconds"], "s", note="float32, graph built once"),
        Measure(row, "times faster, search alone", middle["crown_seconds"] / search, least=FASTER),
        Measure(row, "times faster, kernel included", middle["crown_seconds"] / both, least=FASTER_CHECKED),
        Measure(
            row, "CROWN through provers.lirpa, median", middle["crown_float64_seconds"], "s",
            note=f"float64, graph built each time; {middle['crown_float64_seconds'] / search:.3g} times the search",
        ),
        Measure(row, "CROWN in one batch, an image", batched, "s",
                note=f"{len(found)} images at once: {batched / search:.3g} times the search, {batched / both:.3g} "
                     "times with the kernel; ours are searched one by one"),
    ]  # fmt: skip
