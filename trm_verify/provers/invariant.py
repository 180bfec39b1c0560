"""A box of states that holds init and that the loop does not leave (R8), for models that contract only where it is."""

from __future__ import annotations

import time
from fractions import Fraction
from operator import sub

from trm_verify.encode import Json, state_json
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import LONG, evaluate, flatten, initial_state, step
from trm_verify.kernel.evaluate import _leaf as leaf
from trm_verify.kernel.graph import STATE
from trm_verify.kernel.operations import apply_operation
from trm_verify.kernel.operators import PICARD, Operator, apply, parse_operator
from trm_verify.kernel.tensor import Tensor
from trm_verify.provers.problem import Problem

GRID = -40  # the last binary place of a box's ends
ROUNDS = 256  # that the loop is followed; at 2, 3, 5, 8, 12, … of them the box is widened to see whether it closes
ENOUGH = 90  # rounds after which a loop is given up that grows four times as fast as after half of them
FEWER = Fraction(
    3, 4
)  # of the ends that an image passes are left by each round of pushing them out, as long as it goes on
SHRINKS = 12  # rounds in which a box that was found becomes smaller
GAIN = Fraction(15, 16)  # as long as a round leaves at most this share of the widths
LARGEST = 1 << 48  # of an end that is looked at
ROOM, ROUNDING = 8, 20  # binary places of a width, and of an end, by which a box is wider than it has to be
UNBOUNDED = "init(x) is unbounded: give the model a domain, or ask about inputs x"
LATE = "no box was found that the loop stays in within the time that there was for it"
GROWING = "the boxes that the loop was followed through from init grow on, and none was found that it stays in"


Ends = list[int]
"""The lower ends of z, then those of −z: a box is smaller where they are larger."""


def invariant_box(
    problem: Problem, domain: Json, operator: object, deadline: float = float("inf")
) -> tuple[Json | None, str]:  # fmt: skip
    """The box as certificates write it; or None, and why. The deadline is on the monotonic clock.

    The hull of init(X) and of its images lies in every such box. It is followed, and now and then widened along its
    last growth, which is where a contraction brings it back from, to see whether the image of the wider box lies
    inside. If so, then the image itself, with init(X), is such a box too, and a smaller one.
    """
    loop = parse_operator("picard" if operator == "implicit" else operator, problem.graph.size)
    try:
        given = problem.box(domain)
        initial = initial_state(problem.graph, given)
        if not initial.bounded:
            return None, UNBOUNDED
        search = _Search(problem, loop, given, _ends(initial))
        found = search.closed(deadline)
    except CheckError as error:
        return None, f"the loop cannot be followed from init: {error}"
    if found is None:
        return None, LATE if time.monotonic() > deadline else GROWING
    return state_json(_box(search.roomy(search.shrunk(found)))), ""


class _Search:
    def __init__(self, problem: Problem, loop: Operator, given: Tensor, initial: Ends) -> None:
        self.graph, self.loop, self.given, self.initial = problem.graph, loop, given, initial
        self.moving = [i for i, node in enumerate(self.graph.step.nodes) if node.kind == STATE]
        self.values = evaluate(self.graph, self.graph.step, _box(initial), given)

    def image(self, ends: Ends) -> Ends:
        """Of a box, by interval evaluation, as the kernel's `invariant_box` will do it."""
        self.graph.spent.clear()  # the kernel's cap is on one certificate, not on a search
        box = _box(ends)
        return _ends(self.stepped(box) if self.loop == PICARD else apply(self.graph, self.loop, box, self.given))

    def stepped(self, box: Tensor) -> Tensor:
        """The kernel's `step`; what depends on the input alone, such as a large encoder, is worked out only once."""
        nodes, values = self.graph.step.nodes, self.values
        for i in self.moving:
            args = [values[j] for j in nodes[i].args]
            values[i] = apply_operation(nodes[i], args) if args else leaf(nodes[i], self.graph, box, self.given)
            if values[i].bits > LONG:  # then the kernel counts what it costs, and refuses what would take for ever
                return step(self.graph, box, self.given)
        return flatten([values[i] for i in self.graph.step.outputs])

    def wider(self, ends: Ends) -> Ends:
        """The hull of a box and its image."""
        return list(map(min, ends, self.image(ends)))

    def closed(self, deadline: float) -> Ends | None:
        """A box that its image lies in."""
        ends, next_time = self.initial, 2
        seen = [0]  # the most that any end has grown, round by round
        for done in range(1, ROUNDS + 1):
            if time.monotonic() > deadline:
                return None
            last, ends = ends, self.wider(ends)
            growth = list(map(sub, last, ends))
            before, most = seen[-1], max(growth)
            seen.append(most)
            if not most:
                return ends
            if max(map(abs, ends)) >> -GRID > LARGEST or (done > ENOUGH and most > 4 * seen[done // 2]):
                return None
            if done == next_time:
                next_time += (next_time + 1) // 2
                # at this ratio each end still gets most / (before - most) times its last growth ahead; twice that
                if most < before:
                    times = 2 * most // (before - most) + 1
                    tried = self.repaired([a - times * grown for a, grown in zip(ends, growth, strict=True)])
                    if tried is not None:
                        return tried
        return None

    def repaired(self, ends: Ends) -> Ends | None:
        """A box that its image lies in: this one, or one with the few ends pushed out that the image passes."""
        before = len(ends) + 1
        while True:
            try:
                growth = list(map(sub, ends, self.wider(ends)))
            except CheckError:  # so wide that something overflows, or divides by zero
                return None
            passed = sum(map(bool, growth))
            if not passed:
                return ends
            if passed > FEWER * before:
                return None
            before, ends = passed, [a - 2 * grown for a, grown in zip(ends, growth, strict=True)]

    def shrunk(self, ends: Ends) -> Ends:
        """What the loop stays in from init on, by the image of the box, and the image of that."""
        for _ in range(SHRINKS):
            last, ends = ends, list(map(min, self.initial, self.image(ends)))
            if sum(ends) < GAIN * sum(last):  # minus the widths
                break
        return ends

    def roomy(self, ends: Ends) -> Ends:
        """A box a little wider on all sides, so that rounded iterates lie in it, too; the same where that is left."""
        half = len(ends) // 2
        sides = list(zip(ends[:half], ends[half:], strict=True))  # lo and −hi: the width is −lo − (−hi)
        room = [(-low - high >> ROOM) + (max(abs(low), abs(high)) >> ROUNDING) + 1 for low, high in sides]
        asked = [a - r for a, r in zip(ends, room * 2, strict=True)]
        wider = self.repaired(asked)
        return ends if wider is None or GAIN * sum(wider) < sum(asked) else wider  # minus the widths


def _box(ends: Ends) -> Tensor:
    size = len(ends) // 2
    return Tensor((size,), GRID, ends[:size], [-v for v in ends[size:]])


def _ends(state: Tensor) -> Ends:
    """Rounded outward, to the grid."""
    lo, hi = state.snapped(GRID)
    return [*lo, *(-v for v in hi)]
