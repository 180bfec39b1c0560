"""Side conditions of rounds that commit (R13): what each cell shows, and its margins in every round."""

from __future__ import annotations

from fractions import Fraction

from trm_verify.kernel.claims import Commits
from trm_verify.kernel.tensor import Tensor, from_fractions
from trm_verify.obligations.loops import later_radius, premise_of
from trm_verify.obligations.scene import MOST_STEPS, Margin, Scene
from trm_verify.obligations.terms import ONE, NotExported, at_most, below, number, some

Ends = list[tuple[Fraction, Fraction]]


def commits(scene: Scene) -> None:
    """Cells are open or not; in every round each margin holds on the ball in which the round ends."""
    done, premise = scene.conclusion, premise_of(scene)
    if not isinstance(done, Commits):
        raise NotExported("no rounds are stated")
    cells, readout = len(done.answer), scene.readout()
    classes = readout.nodes[readout.outputs[0]].shape[-1]
    width = 1 + classes
    if len(done.committed) != cells or done.domain.size != cells * width or done.rounds > MOST_STEPS:
        raise NotExported("other inputs than one channel for every class and the blank")
    scene.script.show(at_most(number(0), number(done.threshold)), "the threshold is not negative")
    for r in range(1, done.rounds):
        if r not in done.committed:
            scene.script.show("false", "every round but the last commits a cell")
    ends = [done.domain.fraction(i) for i in range(done.domain.size)]
    opened = [_is_open(scene, ends[cell * width + done.blank], done.committed[cell]) for cell in range(cells)]
    ints, n = scene.witness["centers"]["int"].split(), scene.graph.size
    rivals = iter(scene.witness["rivals"])
    for r in range(1, done.rounds + 1):
        row = {"exp": scene.witness["centers"]["exp"], "int": " ".join(ints[(r - 1) * n : r * n])}
        centre = scene.context.state(row)
        margins: list[Margin] = []
        for cell, (label, turn) in enumerate(zip(done.answer, done.committed, strict=True)):
            first = cell * classes
            if opened[cell] and (turn == 0 or turn > r):
                margins += [_rival(scene, first, c, next(rivals, c), done.threshold) for c in range(classes)]
            if turn == r or (turn == 0 and r == done.rounds):
                least = done.threshold if turn else Fraction(0)
                margins += [(first + label, first + c, least) for c in range(classes) if c != label]
        given = _box(ends, done.domain)
        radius = later_radius(scene, premise, given, centre, done.steps)
        scene.ball_margins(premise.norm, centre, radius, margins, f"g{r}.")
        for cell, turn in enumerate(done.committed):
            if turn == r:
                shown = [c for c in range(width) if c != done.blank][done.answer[cell]]
                ends[cell * width : (cell + 1) * width] = [(Fraction(c == shown),) * 2 for c in range(width)]


def _is_open(scene: Scene, ends: tuple[Fraction, Fraction], turn: int) -> bool:
    """The blank channel is 1 for all inputs, or for none; a cell that is committed is open."""
    low, high = map(number, ends)
    if turn or ends[0] == ends[1] == 1:
        scene.script.show(f"(and (= {low.text} 1.0) (= {high.text} 1.0))", "a committed cell is open for all inputs")
        return True
    scene.script.show(some([below(high, ONE), below(ONE, low)]), "a cell is open for all inputs or for none")
    return False


def _rival(scene: Scene, first: int, own: int, rival: int, threshold: Fraction) -> Margin:
    if own == rival:
        scene.script.show("false", "a rival is another class")
    return first + rival, first + own, -threshold


def _box(ends: Ends, domain: Tensor) -> Tensor:
    """The inputs of a round, exactly."""
    exp = min(domain.exp, 0)
    found = from_fractions(ends, exp)
    return Tensor(domain.shape, exp, found.lo, found.lo) if found.lo == found.hi else found
