"""Planning on mazes: the best next move for every free cell."""

from __future__ import annotations

from functools import partial
from math import ceil, log2
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import IGNORE, Baseline, Task, check_sizes, cut, distinct, one_hot

_SIZES = (7, 9, 11, 13, 17, 21)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Up, right, down, left: the classes 0 to 3. Class 4 stays; that is right at the goal alone."""
STAY = 4
_SIGNS = "↑→↓←●"


def mazes(
    size: int = 9,
    *,
    loops: float = 0.2,
    seed: int = 0,
    train: int = 4096,
    validation: int = 256,
    test: int = 512,
) -> Task:
    """The next move on a shortest path to the goal, for every free cell of a random maze.

    Right is a maze in which every free cell has *a* best move (several may tie) and the goal stays. The target names
    the first of them in the order up, right, down, left; the metrics accept them all, see `best_moves`. Walls do not
    count. Rooms lie at even coordinates; a random spanning tree joins them and each further passage is open with
    probability `loops`, so every free cell reaches the goal, often in several ways. No two mazes are equal up to
    rotation and reflection, whatever their goals.

    Shape: x (rows, size, size, 3) one-hot of wall, free, goal; y (rows, size, size) moves, `IGNORE` at walls.

    Args:
        size: odd side of the maze; cells beyond it are as good as walls.

    Raises:
        ValueError: an even or small size, a probability outside [0, 1], or no rows.
    """
    check_sizes("mazes", size, 5, train=train, validation=validation, test=test)
    if size % 2 == 0 or not 0 <= loops <= 1:
        raise ValueError(f"mazes: expected an odd size and loops in [0, 1], found size={size} and loops={loops}")
    rng = np.random.default_rng([seed, size])
    rows = train + validation + test
    free = distinct(lambda count: _draw(rng, count, size, loops), canonical, rows, "mazes")
    goal = random_cell(rng, free)
    y = targets(legal_moves(free), goal)
    return Task(
        "mazes",
        *cut(cells(free, goal), torch.from_numpy(y), train, validation, test),
        classes=5,
        domain=Box(0, 1).expand((size, size, 3)),
        metric=plan_accuracy,
        metrics=MappingProxyType({"exact": plan_accuracy, "position": move_accuracy}),
        difficulty=size,
        difficulties=_SIZES,
        sized=partial(mazes, loops=loops, seed=seed, train=train, validation=validation, test=test),
        text=_text,
        reference=Baseline("a free move towards the goal as the crow flies", _compass),
        ties=best_moves,
    )


def spanning_trees(rng: np.random.Generator, rows: int, ends: np.ndarray) -> np.ndarray:
    """Random spanning trees of one graph: minimal ones for random weights, grown from vertex 0, all rows at once.

    Shape: ends (edges, 2), vertices of each edge; result (rows, edges), bool.
    """
    weights = rng.random((rows, len(ends)), dtype=np.float32)
    tree = np.zeros((rows, len(ends)), dtype=bool)
    inside = np.zeros((rows, int(ends.max()) + 1), dtype=bool)
    inside[:, 0] = True
    every = np.arange(rows)
    for _ in range(inside.shape[1] - 1):
        leaves = inside[:, ends[:, 0]] != inside[:, ends[:, 1]]
        edge = np.where(leaves, weights, np.inf).argmin(axis=1)
        tree[every, edge] = True
        inside[every[:, None], ends[edge]] = True
    return tree


def lattice(side: int) -> np.ndarray:
    """The edges between neighbours of a square lattice of vertices. Shape: (edges, 2)."""
    vertices = np.arange(side * side).reshape(side, side)
    across = np.stack([vertices[:, :-1], vertices[:, 1:]], axis=-1).reshape(-1, 2)
    down = np.stack([vertices[:-1], vertices[1:]], axis=-1).reshape(-1, 2)
    return np.concatenate([across, down])


def carved(passages: np.ndarray, ends: np.ndarray, side: int) -> np.ndarray:
    """The free cells: rooms at even coordinates, and the open passages between them.

    Shape: passages (rows, edges), bool; result (rows, 2·side − 1, 2·side − 1), bool.
    """
    free = np.zeros((len(passages), 2 * side - 1, 2 * side - 1), dtype=bool)
    free[:, ::2, ::2] = True
    between = (np.stack([ends // side, ends % side], axis=-1)).sum(axis=1)  # twice the middle of two rooms
    free[:, between[:, 0], between[:, 1]] = passages
    return free


def _draw(rng: np.random.Generator, rows: int, size: int, loops: float) -> np.ndarray:
    side = (size + 1) // 2
    ends = lattice(side)
    passages = spanning_trees(rng, rows, ends) | (rng.random((rows, len(ends))) < loops)
    return carved(passages, ends, side)


def canonical(free: np.ndarray) -> np.ndarray:
    """The same row for mazes that are rotations or reflections of each other. Shape: (rows, n, n) → (rows, bytes)."""
    images = []
    for view in (free, free.transpose(0, 2, 1)):
        for flipped in (view, view[:, ::-1], view[:, :, ::-1], view[:, ::-1, ::-1]):
            packed = np.packbits(flipped.reshape(len(free), -1), axis=1)
            images.append(np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel().tolist())
    least = b"".join(min(copies) for copies in zip(*images, strict=True))
    return np.frombuffer(least, dtype=np.uint8).reshape(len(free), -1)


def random_cell(rng: np.random.Generator, free: np.ndarray) -> np.ndarray:
    """The index of a random free cell of each row. Shape: (rows, n, n) → (rows,)."""
    flat = free.reshape(len(free), -1)
    return np.asarray((rng.random(flat.shape) * flat).argmax(axis=1))


def shifted(values: np.ndarray, move: tuple[int, int], outside: int | bool) -> np.ndarray:
    """At each cell the value of the cell that the move leads to. Shape: (rows, n, n) → the same."""
    down, right = move
    rows, columns = values.shape[1:]
    padded = np.pad(values, [(0, 0), (1, 1), (1, 1)], constant_values=outside)
    return padded[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + columns]


def legal_moves(free: np.ndarray) -> np.ndarray:
    """Moves from a free cell to a free cell. Shape: (rows, n, n) → (rows, n, n, 4), bool."""
    return np.stack([free & shifted(free, move, False) for move in MOVES], axis=-1)


def targets(legal: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The first best move of every cell that reaches the goal, `STAY` at the goal, `IGNORE` elsewhere.

    Breadth first from the goal, all rows at once: a cell joins in the round that is its distance.

    Shape: legal (rows, n, n, 4), goal (rows,) flat indices; result (rows, n, n).
    """
    rows, side = len(legal), legal.shape[1]
    y = np.full((rows, side, side), IGNORE, dtype=np.int64)
    y.reshape(rows, -1)[np.arange(rows), goal] = STAY
    fresh = y == STAY
    while fresh.any():
        reached = y != IGNORE
        joined = np.zeros_like(fresh)
        for label, move in enumerate(MOVES):
            step = legal[..., label] & shifted(fresh, move, False) & ~reached & ~joined
            y[step] = label
            joined |= step
        fresh = joined
    return y


def best_moves(target: Tensor) -> Tensor:
    """All moves that are as good as the target's, in a maze in which every free cell can be entered from the next.

    They follow from the targets alone: following a target leads to the goal in as many steps as the cell is away, and
    a neighbour one step nearer is a best move.

    Shape: target (rows, n, n); result (rows, n, n, 5), bool.
    """
    rows, side = len(target), target.shape[1]
    offsets = torch.tensor([down * side + right for down, right in MOVES] + [0], device=target.device)
    moving = (target >= 0) & (target != STAY)
    place = torch.arange(side * side, device=target.device).expand(rows, -1)
    after = place + torch.where(moving, offsets[target.clamp_min(0)], 0).flatten(1)
    distance = moving.flatten(1).long()
    for _ in range(ceil(log2(side * side))):  # doubling: 2ᵏ targets are followed after k rounds
        distance = distance + distance.gather(1, after)
        after = after.gather(1, after)
    steps = torch.where(target == IGNORE, -1, distance.view_as(target))
    far = torch.nn.functional.pad(steps, (1, 1, 1, 1), value=-1)
    nearer = [
        moving & (far[:, 1 + down : 1 + down + side, 1 + right : 1 + right + side] == steps - 1)
        for down, right in MOVES
    ]
    return torch.stack([*nearer, target == STAY], dim=-1)


def _right(logits: Tensor, target: Tensor) -> Tensor:
    return best_moves(target).gather(-1, logits.argmax(dim=-1, keepdim=True))[..., 0]


def plan_accuracy(logits: Tensor, target: Tensor) -> float:
    """Fraction of mazes in which every free cell has a best move.

    Shape: logits (rows, n, n, 5), target (rows, n, n).
    """
    return float((_right(logits, target) | (target == IGNORE)).flatten(1).all(dim=1).double().mean())


def move_accuracy(logits: Tensor, target: Tensor) -> float:
    """Fraction of free cells that have a best move. Shape: logits (rows, n, n, 5), target (rows, n, n)."""
    return float(_right(logits, target)[target != IGNORE].double().mean())


def cells(free: np.ndarray, goal: np.ndarray) -> Tensor:
    """One-hot wall, free, goal. Shape: free (rows, n, n), goal (rows,); result (rows, n, n, 3)."""
    kinds = free.astype(np.int64)
    kinds.reshape(len(kinds), -1)[np.arange(len(kinds)), goal] = 2
    return one_hot(torch.from_numpy(kinds), 3)


def _compass(task: Task) -> Tensor:
    x = task.test.x if task.vocabulary is not None else task.test.x.argmax(dim=-1)
    return compass(x.numpy())


def compass(kinds: np.ndarray) -> Tensor:
    """Logits of a planner that looks at the next cell and the direction of the goal alone.

    Shape: (rows, n, n) of 0 wall, 1 free, 2 goal; result (rows, n, n, 5).
    """
    rows, side = len(kinds), kinds.shape[1]
    goal = np.stack(np.divmod((kinds == 2).reshape(rows, -1).argmax(axis=1), side), axis=-1)
    here = np.indices((side, side)).transpose(1, 2, 0)
    apart = goal[:, None, None, :] - here
    gains = np.stack([(apart * np.array(move)).sum(axis=-1) for move in MOVES], axis=-1).astype(float)
    gains[~legal_moves(kinds > 0)] = -np.inf
    return torch.from_numpy(np.concatenate([gains, np.where(kinds == 2, np.inf, -np.inf)[..., None]], axis=-1))


def _text(x: Tensor, y: Tensor) -> str:
    return arrows(x.argmax(dim=-1), y)


def arrows(kinds: Tensor, y: Tensor) -> str:
    """A maze with an arrow in every free cell. Shape: kinds (n, n) of 0 wall, 1 free, 2 goal; y (n, n)."""
    return "\n".join(
        "".join(
            "█" if kind == 0 else _SIGNS[label] if 0 <= label <= STAY else "?" for kind, label in zip(*row, strict=True)
        )
        for row in zip(kinds.tolist(), y.tolist(), strict=True)
    )
