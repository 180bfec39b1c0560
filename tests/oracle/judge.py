"""Whether one claim about one model is true, as far as an honest search can tell.

`TRUE` comes with the evidence: how hard was tried to break the claim, and how near the search came. `FALSE` comes with
a counterexample. Shares no code with the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracle import fixed_points as found
from tests.oracle.commits import commits
from tests.oracle.evaluate import ERROR, FLOAT, HIGH, REAL, Evaluator, norm_of, to_high, to_real
from tests.oracle.files import Array, Claim, Model, Set, read_claims, read_number, read_vector
from tests.oracle.lipschitz import lipschitz
from tests.oracle.search import Loop, fixed_points, inside, jacobians, loop, samples, stretched

TRUE, FALSE, UNKNOWN = "true", "false", "cannot tell"
LONG = 4000  # iterations after which an orbit that has not become stationary is given up


@dataclass(frozen=True)
class Verdict:
    """What the search found, in words."""

    value: str
    evidence: str


def holds(where: Set, point: Any, slack: Any) -> bool:
    """Whether the point lies in the set, up to the error of its evaluation."""
    if where.lo is None or where.hi is None:
        return True
    ends = zip(map(to_real, where.lo), point, map(to_real, where.hi), strict=True)
    return all(lo - slack <= v <= hi + slack for lo, v, hi in ends)


class Judge:
    """One model, judged claim by claim. The seed fixes every sample: of each claim, whatever was judged before it."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.model, self.seed, self.rng = model, seed, np.random.default_rng(seed)
        self.fast, self.high = Evaluator(model, FLOAT), Evaluator(model, HIGH)
        self._found: dict[Any, Any] = {}  # searches with their results: the claims of one certificate ask for the same

    def judge(self, claim: Claim) -> Verdict:
        """Raises nothing but programming errors: an operator without a loop is `cannot tell`."""
        self.rng = np.random.default_rng(self.seed)
        rules: dict[str, Callable[[Claim], Verdict]] = {
            "contraction": self.contraction, "at_most_one": self.uniqueness, "exactly_one": self.uniqueness,
            "invariant": self.invariant, "convergence": self.convergence, "answer": self.answer,
            "answer_at": self.answer, "run": self.run, "fixed_point_answer": self.sought(found.answer),
            "settles": self.settles, "commits": self.sought(commits), "lipschitz": self.sought(lipschitz),
            "refutation": self.sought(found.refutation),
            **{f"encloses_{kind}": self.sought(found.encloses) for kind in ("all", "one", "the")},
        }  # fmt: skip
        try:
            with np.errstate(all="ignore"):
                return rules[claim.name](claim)
        except NotImplementedError as error:
            return Verdict(UNKNOWN, str(error))

    def sought(self, search: Callable[[Judge, Claim], tuple[bool | None, str]]) -> Callable[[Claim], Verdict]:
        """A search that says true, false or nothing, as a rule."""

        def rule(claim: Claim) -> Verdict:
            value, evidence = search(self, claim)
            return Verdict({True: TRUE, False: FALSE, None: UNKNOWN}[value], evidence)

        return rule

    # samples

    def inputs(self, claim: Claim, count: int) -> Array:
        return samples(claim.domain, self.model.m, count, self.rng, self.model.vocabulary is not None)

    def states(self, where: Set, count: int) -> Array:
        return samples(where, self.model.n, count, self.rng)

    def inputs_exactly(self, claim: Claim, x: Array) -> Array:
        """The inputs with 240 bits; where the domain is one number, that number and not the double nearest to it."""
        high = to_high(x)
        for i, (lo, hi) in enumerate(zip(claim.domain.lo or (), claim.domain.hi or (), strict=True)):
            if lo == hi:
                high[:, i] = to_real(lo)
        return high

    def exactly(self, operator: Any, z: Array, x: Array) -> Array:
        """One application with 240 bits."""
        return self.high.apply(operator, z, x)

    # claims

    def contraction(self, claim: Claim) -> Verdict:
        region, rate, operator = claim.region, read_number(claim.body["rate"]), claim.body["operator"]
        if region is None or claim.norm is None:
            raise ValueError("a contraction without region or norm")
        f, size = loop(self.fast, operator), norm_of(claim.norm, FLOAT)
        x = self.inputs(claim, 240)
        z, w = self.states(region, 240), self.states(region, 240)
        near = inside(region, z + 1e-3 * self.rng.normal(size=z.shape) * (self.rng.random(z.shape) < 0.6))
        pairs = [(z, w, x), (z, near, x)]
        for at, given in zip(self.states(region, 12), self.inputs(claim, 12), strict=True):
            directions = np.array(list(stretched(claim.norm, jacobians(f.at(given), at), self.rng)))
            for reach in (1e-4, 0.5, 4.0):
                ahead = inside(region, at + reach * directions)
                behind = inside(region, at - reach * directions)
                pairs.append((ahead, behind, np.repeat(given[None], len(ahead), axis=0)))
        first, second, given = (np.concatenate(part) for part in zip(*pairs, strict=True))
        apart = size(first - second)
        ratios = np.where(apart > 1e-9, size(f(first, given) - f(second, given)) / np.maximum(apart, 1e-9), 0.0)
        if not np.isfinite(ratios).all():
            return Verdict(FALSE, "the step has no finite value at some sample")
        worst = np.argsort(ratios)[-4:]
        exact = norm_of(claim.norm, HIGH)
        a, b, xs = to_high(first[worst]), to_high(second[worst]), self.inputs_exactly(claim, given[worst])
        before, after = exact(a - b), exact(self.exactly(operator, a, xs) - self.exactly(operator, b, xs))
        limit = REAL.mpf(rate.numerator) / rate.denominator
        for p, q in zip(before, after, strict=True):
            if q > limit * p + ERROR * (1 + p + q):
                return Verdict(FALSE, f"a pair at distance {float(p):.6g} expands by {float(q / p):.17g}")
        return Verdict(TRUE, f"{len(ratios)} pairs, largest ratio {ratios.max():.9g}, rate {float(rate):.9g}")

    def _roots(self, claim: Claim, where: Set, x: Array) -> list[Array]:
        starts = np.concatenate([self.states(where, 16), self.fast.init(x[None])])
        return self.fixed_points(x, starts, where)

    def fixed_points(self, x: Array, starts: Array, where: Set, newton: int = 6) -> list[Array]:
        """What `search.fixed_points` finds for one input; the same search is made once."""
        key = x.tobytes(), starts.tobytes(), where, newton
        if key not in self._found:
            self._found[key] = fixed_points(loop(self.fast, "picard").at(x), starts, where, newton)
        found: list[Array] = self._found[key]
        return found

    def uniqueness(self, claim: Claim) -> Verdict:
        if claim.region is None:
            raise ValueError("a claim of uniqueness without a region")
        missing = 0
        inputs = self.inputs(claim, 3 if self.model.m else 1)
        for x in inputs:
            roots = self._roots(claim, claim.region, x)
            if len(roots) > 1:
                return Verdict(FALSE, f"{len(roots)} fixed points")
            if claim.name == "exactly_one":
                missing += not self._confirmed(roots, self.inputs_exactly(claim, x[None]), claim.region)
        if missing:
            return Verdict(UNKNOWN, f"no fixed point found for {missing} of {len(inputs)} inputs")
        return Verdict(TRUE, f"{len(inputs)} inputs, 34 orbits and 6 Newton runs each, one fixed point at most")

    def _confirmed(self, roots: list[Array], given: Array, where: Set) -> bool:
        """Whether a fixed point with a tiny residual at 240 bits lies in the set."""
        for z in roots:
            root = self.polish(z, given)
            if root is not None and holds(where, root, REAL.mpf(2) ** -40):
                return True
        return False

    def polish(self, z: Array, given: Array) -> Array | None:
        """A fixed point of the step with residual below 2^-110, by Newton's method with a fixed Jacobian."""
        key = z.tobytes(), tuple(given.ravel())
        if key not in self._found:
            self._found[key] = self._polished(z, given)
        root: Array | None = self._found[key]
        return root

    def _polished(self, z: Array, given: Array) -> Array | None:
        x = given[0].astype(np.float64)
        jacobian = np.eye(len(z)) - jacobians(loop(self.fast, "picard").at(x), z)
        inverse, high = to_high(np.linalg.pinv(jacobian)), to_high(z)
        for _ in range(250):  # at a kink the Jacobian is half right, and an iteration gains a factor only
            residual = self.high.step(high[None], given)[0] - high
            if max(map(abs, residual)) < REAL.mpf(2) ** -110 * (1 + max(map(abs, high))):
                return high
            high = high + inverse @ residual
            if max(map(abs, high)) > 1e15 * (1 + np.abs(z).max()):
                return None
        return None

    def invariant(self, claim: Claim) -> Verdict:
        region, operator = claim.region, claim.body["operator"]
        if region is None or not region.bounded:
            return Verdict(TRUE, "all of the space") if region is not None else Verdict(UNKNOWN, "no region")
        f = loop(self.fast, operator)
        lo, hi = region.floats()
        z, x = self.states(region, 400), self.inputs(claim, 400)
        for at, given in zip(self.states(region, 3), self.inputs(claim, 3), strict=True):
            signs = np.sign(jacobians(f.at(given), at))
            corners = np.concatenate([np.where(signs > 0, hi, lo), np.where(signs > 0, lo, hi)])
            pushed = self._pushed(claim, f, at, given)
            z = np.concatenate([z, corners, corners])
            x = np.concatenate([x, np.repeat(given[None], len(corners), axis=0), pushed])
        image = f(z, x)
        excess = np.maximum(lo - image, image - hi).max(axis=1)
        worst = np.argsort(excess)[-6:]
        exact = self.exactly(operator, to_high(z[worst]), self.inputs_exactly(claim, x[worst]))
        for row in exact:
            if not holds(region, row, ERROR * (1 + max(map(abs, row)))):
                return Verdict(FALSE, "a state of the box leaves it")
        return Verdict(TRUE, f"{len(z)} states, the image keeps {-excess.max():.3g} from the border")

    def _pushed(self, claim: Claim, f: Loop, at: Array, given: Array) -> Array:
        """Corners of the domain that move each coordinate of the image most. Shape: (2n, m)."""
        m, n = self.model.m, self.model.n
        if not m or not claim.domain.bounded or self.model.vocabulary is not None:
            return np.repeat(given[None], 2 * n, axis=0)
        lo, hi = claim.domain.floats()
        slopes = jacobians(lambda x: f(np.repeat(at[None], len(x), axis=0), x), (lo + hi) / 2)
        return np.concatenate([np.where(slopes > 0, hi, lo), np.where(slopes > 0, lo, hi)])

    def orbit_end(self, f: Loop, z: Array, x: Array, most: int = 400) -> Array | None:
        """Where the orbit of the operator has come after some hundred steps; None when it has left for infinity."""
        reach = 1 + np.abs(z).max() + np.abs(f(z[None], x[None])).max()  # the size of the step's own numbers
        for _ in range(most):
            after = f(z[None], x[None])[0]
            if not np.isfinite(after).all() or np.abs(after).max() > 1e14 * reach:
                return None
            if np.abs(after - z).max() <= 1e-15 * (1 + np.abs(z).max()):
                return after
            z = after
        return z

    def convergence(self, claim: Claim) -> Verdict:
        operator, body, norm = claim.body["operator"], claim.body, claim.norm
        if norm is None:
            raise ValueError("convergence without a norm")
        f, size, exact = loop(self.fast, operator), norm_of(norm, FLOAT), norm_of(norm, HIGH)
        rate, constant = read_number(body["rate"]), read_number(body["constant"])
        tried, nearest = 0, 0.0
        for x in self.inputs(claim, 4 if self.model.m else 1):
            start = self.fast.init(x[None])
            states = start if claim.start is None else np.concatenate([self.states(claim.start, 30)])
            arrived = self.orbit_end(f, states[0], x)
            if arrived is None:
                return Verdict(FALSE, "the orbit of the first start diverges")
            root = self.polish(arrived, self.inputs_exactly(claim, x[None]))
            if root is None:  # a slow loop, or a kink on the way: go on until it has settled
                arrived = self.orbit_end(f, arrived, x, 10_000)
                root = None if arrived is None else self.polish(arrived, self.inputs_exactly(claim, x[None]))
            if root is None:
                return Verdict(UNKNOWN, "no fixed point near the end of the first orbit")
            end = root.astype(np.float64)
            z = states
            first, length = size(z - end), size(end[None])[0]
            for k in range(1, 151):
                z = f(z, x[None])
                bound = float(constant) * float(rate) ** k * first
                apart = size(z - end)
                over = apart - bound * (1 + 1e-9)
                if (over > 1e-11 * (1 + length + first)).any():
                    return Verdict(FALSE, f"after {k} steps the distance is {over.max():.3g} above the bound")
                if (apart < 1e-13 * (1 + np.abs(end).max())).all():
                    break
                nearest = max(nearest, float(np.max(apart / np.maximum(bound, 1e-6 * (1 + np.abs(end).max())))))
            high, given = to_high(states[-1:]), self.inputs_exactly(claim, x[None])
            distance = exact(high - root[None])[0]
            for _ in range(6):  # the same without rounding
                high = self.exactly(operator, high, given)
                distance = distance * REAL.mpf(rate.numerator) / rate.denominator
                limit = distance * REAL.mpf(constant.numerator) / constant.denominator
                if exact(high - root[None])[0] > limit + REAL.mpf(2) ** -70 * (1 + distance):
                    return Verdict(FALSE, "an orbit is slower than the bound, at 240 bits")
            tried += len(states)
            if body["epsilon"] is not None and not self._reached(f, start[0], x, end, body):
                return Verdict(FALSE, f"not within epsilon after {body['steps']} steps")
        return Verdict(TRUE, f"{tried} orbits; nearest to the bound {nearest:.6g}")

    def _reached(self, f: Loop, z: Array, x: Array, end: Array, body: Any) -> bool:
        for _ in range(min(body["steps"], LONG)):
            z = f(z[None], x[None])[0]
        allowed = float(read_number(body["epsilon"]))
        return bool(np.abs(z - end).max() <= allowed * (1 + 1e-9) + 1e-13 * (1 + np.abs(end).max()))

    def settles(self, claim: Claim) -> Verdict:
        """Orbits from far apart are one state after the stated steps, and it stays."""
        operator, steps = claim.body["operator"], claim.body["steps"]
        f, worst = loop(self.fast, operator), 0.0
        if steps > LONG:
            return Verdict(UNKNOWN, f"more than {LONG} steps")
        for x in self.inputs(claim, 12):
            z = self.rng.normal(size=(24, self.model.n)) * 10.0 ** self.rng.uniform(-2, 3, size=(24, 1))
            given = np.repeat(x[None], len(z), axis=0)
            for _ in range(steps):
                z = f(z, given)
            if not np.isfinite(z).all():
                return Verdict(UNKNOWN, "an orbit that leaves the doubles")
            apart = max(float(np.abs(z - z[0]).max()), float(np.abs(f(z, given) - z).max()))
            worst = max(worst, apart / (1 + float(np.abs(z).max())))
        if worst > 1e-9:
            return Verdict(FALSE, f"orbits are {worst:.3g} apart after {steps} steps")
        return Verdict(TRUE, f"12 inputs, 24 starts each, {worst:.3g} apart")

    def answer(self, claim: Claim) -> Verdict:
        operator, steps = claim.body["operator"], claim.body["steps"]
        f, label = loop(self.fast, operator), np.array(claim.body["answer"])
        x = self.inputs(claim, 1 if claim.name == "answer_at" else 48)
        x = np.concatenate([x, self._hardest(f, claim, x[0])])
        z = self.fast.init(x)
        least, at = np.inf, (0, 0)
        at_once = claim.name == "answer_at"
        last = steps if at_once else steps + 60
        before: Array | None = None
        for k in range(last + 1):
            if k > LONG:
                return Verdict(UNKNOWN, f"no periodic orbit after {LONG} steps")
            settled = before is not None and np.array_equal(before, z)
            if k == steps or k > steps and not at_once or settled:
                margin = self.margins(z, label)
                if margin.min() < least:
                    least, at = float(margin.min()), (int(margin.argmin()), k)
            if settled:  # fixed in doubles, or close to it: nothing new comes
                break
            before, z = z, f(z, x)
        if at[1] <= 200:
            given = self.inputs_exactly(claim, x[at[0]][None])
            least = min(least, self._exact_margin(operator, given, at[1], label))
        if not least > 0:
            return Verdict(FALSE, f"after {at[1]} steps a margin is {least:.3g}")
        return Verdict(TRUE, f"{len(x)} inputs, least margin {least:.6g}")

    def _hardest(self, f: Loop, claim: Claim, x: Array) -> Array:
        """Corners of the domain that lower each margin most, to first order."""
        if not self.model.m or not claim.domain.bounded or self.model.vocabulary is not None:
            return np.zeros((0, self.model.m))
        label = np.array(claim.body["answer"])
        lo, hi = claim.domain.floats()
        if (lo == hi).all():
            return np.zeros((0, self.model.m))

        def margins(x: Array) -> Array:
            z = self.fast.init(x)
            for _ in range(min(claim.body["steps"], 200)):
                z = f(z, x)
            return self.differences(z, label)

        slopes = jacobians(margins, x)
        return np.concatenate([np.where(slopes > 0, lo, hi), np.where(slopes > 0, hi, lo)])

    def differences(self, z: Array, label: Array) -> Array:
        """Logit differences in favour of the labels. Shape: (batch, positions · (classes − 1))."""
        logits = self.fast.readout(z)
        own = np.take_along_axis(logits, np.broadcast_to(label[None, :, None], (len(z), len(label), 1)), axis=2)
        others = [np.delete(own[:, p] - logits[:, p], label[p], axis=1) for p in range(len(label))]
        return np.concatenate(others, axis=1)

    def margins(self, z: Array, label: Array) -> Array:
        return np.nan_to_num(self.differences(z, label).min(axis=1), nan=-np.inf)

    def _exact_margin(self, operator: Any, given: Array, steps: int, label: Array) -> float:
        z = self.high.init(given)
        for _ in range(steps):
            z = self.exactly(operator, z, given)
        return self.margin_at(z, label)

    def margin_at(self, z: Array, label: Array) -> float:
        """The least margin at one state, with 240 bits."""
        logits = self.high.readout(z)[0]
        pairs = [row[y] - v for row, y in zip(logits, label, strict=True) for j, v in enumerate(row) if j != y]
        return float(min(pairs))

    def run(self, claim: Claim) -> Verdict:
        body, operator, norm = claim.body, claim.body["operator"], claim.norm
        if norm is None or claim.domain.lo is None:
            raise ValueError("a run without a norm or a point")
        f, exact = loop(self.fast, operator), norm_of(norm, HIGH)
        x = np.array([float(v) for v in claim.domain.lo])
        drifts, distances = read_vector(body["drifts"]), read_vector(body["distances"])
        state = read_vector(body["state"])
        arrived = self.orbit_end(f, np.array([float(v) for v in state]), x)
        root = None if arrived is None else self.polish(arrived, self.inputs_exactly(claim, x[None]))
        if root is None:
            return Verdict(UNKNOWN, "the orbit of the last state does not settle")
        limit = {"radius": read_number(body["radius"]), "last distance": distances[-1]}
        high = HIGH.array(state, (1, len(state)))
        for name, bound in limit.items():
            if exact(high - root[None])[0] > REAL.mpf(bound.numerator) / bound.denominator + REAL.mpf(2) ** -90:
                return Verdict(FALSE, f"the {name} is smaller than the distance of the last state")
        label = np.array(body["answer"])
        z = np.array([[float(v) for v in state]])
        for _ in range(200):
            if not self.margins(z, label)[0] > 0:
                return Verdict(FALSE, "a later iterate answers otherwise")
            z = f(z, x[None])
        if not self.margin_at(high, label) > 0:
            return Verdict(FALSE, "the last state answers otherwise")
        trace = self._trace(claim, drifts, distances, root, self.inputs_exactly(claim, x[None]))
        return trace or Verdict(TRUE, f"{len(distances)} states, later iterates followed for 200 steps")

    def _trace(self, claim: Claim, drifts: Any, distances: Any, root: Array, given: Array) -> Verdict | None:
        """What a run says about the states before the last, which only the step holds; None when nothing is wrong."""
        states = claim.body.get("states")
        if states is None:
            return None
        values, n = read_vector(states), self.model.n
        exact = norm_of(claim.norm or {}, HIGH)
        expected = self.high.init(given)
        for k, (drift, distance) in enumerate(zip(drifts, distances, strict=True)):
            z = HIGH.array(values[k * n : (k + 1) * n], (1, n))
            moved = max(map(abs, (z - expected)[0]))
            if moved > REAL.mpf(drift.numerator) / drift.denominator + ERROR * (1 + moved):
                return Verdict(FALSE, f"drift {k} is larger than claimed")
            if exact(z - root[None])[0] > REAL.mpf(distance.numerator) / distance.denominator + REAL.mpf(2) ** -90:
                return Verdict(FALSE, f"distance {k} is larger than claimed")
            answer = claim.body["answers"][k]
            if answer is not None and not self.margin_at(z, np.array(answer)) > 0:
                return Verdict(FALSE, f"state {k} does not answer so")
            expected = self.exactly(claim.body["operator"], z, given)
        return None


def verdicts(certificate: bytes, weights: bytes, seed: int = 0) -> list[tuple[Claim, Verdict]]:
    """Every claim of a certificate with its verdict."""
    model, claims = read_claims(certificate, weights)
    judge = Judge(model, seed)
    return [(claim, judge.judge(claim)) for claim in claims]
