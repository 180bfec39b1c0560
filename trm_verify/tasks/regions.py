"""Coarse to fine: plan in a maze along a given map of its regions."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from trm_verify.model import Box
from trm_verify.tasks.base import Baseline, Task, check_sizes, cut, distinct
from trm_verify.tasks.mazes import (
    MOVES,
    arrows,
    canonical,
    carved,
    cells,
    lattice,
    legal_moves,
    random_cell,
    spanning_trees,
    targets,
)

_SIZES = (3, 4, 5)


def regions(
    side: int = 3,
    *,
    rooms: int = 2,
    seed: int = 0,
    train: int = 4096,
    validation: int = 256,
    test: int = 512,
) -> Task:
    """The next move to the goal for every free cell of a maze, where the way from region to region is prescribed.

    The maze has `side × side` regions of `rooms × rooms` rooms. Its coarse map is a tree of regions: it says which
    borders may be crossed. Doors are everywhere, also in borders that may not be crossed; a plan that looks at the maze
    alone goes astray, and one that looks at the map alone does not find the doors. Inside a region, and along the map,
    the ways form a tree as well, so every free cell has exactly one best move: right is a maze whose free cells all
    have it. Walls do not count. No two mazes are equal up to rotation and reflection, whatever their maps and goals.

    The map reaches every cell as four channels: whether the border of its region is open up, right, down and left.

    Shape: x (rows, n, n, 7) wall, free, goal and the map; y (rows, n, n) moves as in `mazes`; n = 2·side·rooms − 1.

    Raises:
        ValueError: fewer than 2 regions a side, no rooms, no rows, or fewer mazes than rows.
    """
    check_sizes("regions", side, 2, make_rooms=rooms, train=train, validation=validation, test=test)
    rng = np.random.default_rng([seed, side, rooms])
    # A maze and its map are drawn together and told apart by the maze.
    drawn = distinct(
        lambda rows: _draw(rng, rows, side, rooms), lambda both: canonical(both[..., 0]), train + validation + test,
        "regions",
    )  # fmt: skip
    free, open_ = drawn[..., 0], drawn[..., 1:]
    goal = random_cell(rng, free)
    y = targets(legal_moves(free) & _inside(open_, rooms), goal)
    x = torch.cat([cells(free, goal), torch.from_numpy(open_).float()], dim=-1)
    return Task(
        "regions",
        *cut(x, torch.from_numpy(y), train, validation, test),
        classes=5,
        domain=Box(0, 1).expand(tuple(x.shape[1:])),
        difficulty=side,
        difficulties=_SIZES,
        sized=partial(regions, rooms=rooms, seed=seed, train=train, validation=validation, test=test),
        text=partial(_text, rooms=rooms),
        reference=Baseline("the shortest way through the maze, without the map", _mapless),
    )


def _region(places: np.ndarray, rooms: int) -> np.ndarray:
    """The region, along one axis, of cells at these coordinates; a door belongs to the region before it."""
    return places // (2 * rooms)


def _draw(rng: np.random.Generator, rows: int, side: int, rooms: int) -> np.ndarray:
    """Free cells and, for every cell, the open borders of its region. Shape: (rows, n, n, 5), bool."""
    per_side = side * rooms
    ends = lattice(per_side)
    where = np.stack([ends // per_side // rooms, ends % per_side // rooms], axis=-1)  # (edges, 2 ends, 2 axes)
    crossing = (where[:, 0] != where[:, 1]).any(axis=1)
    flat = where[..., 0] * side + where[..., 1]
    passages = np.zeros((rows, len(ends)), dtype=bool)
    for region in range(side * side):
        own = np.flatnonzero(~crossing & (flat[:, 0] == region))
        names = np.unique(ends[own], return_inverse=True)[1].reshape(-1, 2)
        if len(own):
            passages[:, own] = spanning_trees(rng, rows, names)
    coarse = lattice(side)
    borders = spanning_trees(rng, rows, coarse)
    for border, pair in enumerate(coarse):
        doors = np.flatnonzero(crossing & (flat == pair).all(axis=1))
        luck = rng.random((rows, len(doors)))
        # One door where the map leads through, so that the way is unique; elsewhere any number.
        one = luck == luck.max(axis=1, keepdims=True)
        passages[:, doors] = np.where(borders[:, [border]], one, luck < 0.5)
    free = carved(passages, ends, per_side)
    at = _region(np.arange(2 * per_side - 1), rooms)
    return np.concatenate([free[..., None], _borders(borders, coarse, side)[:, at[:, None], at[None, :]]], axis=-1)


def _borders(borders: np.ndarray, coarse: np.ndarray, side: int) -> np.ndarray:
    """Open borders of each region, in the order of `MOVES`. Shape: (rows, edges) → (rows, side, side, 4), bool."""
    open_ = np.zeros((len(borders), side, side, len(MOVES)), dtype=bool)
    for border, (a, b) in enumerate(coarse.tolist()):
        step = (b // side - a // side, b % side - a % side)
        for region, move in ((a, step), (b, (-step[0], -step[1]))):
            open_[:, region // side, region % side, MOVES.index(move)] = borders[:, border]
    return open_


def _inside(open_: np.ndarray, rooms: int) -> np.ndarray:
    """Moves that stay in a region or cross an open border. Shape: (rows, n, n, 4) → the same, bool."""
    size = open_.shape[1]
    places = np.indices((size, size))
    here = _region(places, rooms)
    crosses = [(_region(places + np.array(move)[:, None, None], rooms) != here).any(axis=0) for move in MOVES]
    return np.asarray(open_ | ~np.stack(crosses, axis=-1))


def _mapless(task: Task) -> Tensor:
    kinds = task.test.x[..., :3].argmax(dim=-1).numpy()
    goal = (kinds == 2).reshape(len(kinds), -1).argmax(axis=1)
    found = torch.from_numpy(targets(legal_moves(kinds > 0), goal)).clamp_min(0)
    return torch.nn.functional.one_hot(found, task.classes)


def _text(x: Tensor, y: Tensor, rooms: int) -> str:
    """The plan, and beside it the map: regions as dots, open borders as lines."""
    plan = arrows(x[..., :3].argmax(dim=-1), y).splitlines()
    side = (len(plan) + 1) // (2 * rooms)
    corner = x[:: 2 * rooms, :: 2 * rooms, 3:].bool()
    rows: list[str] = []
    for i in range(side):
        rows.append("".join("o" + ("──" if corner[i, j, 1] else "  ") for j in range(side)))
        rows.append("".join(("│" if corner[i, j, 2] else " ") + "  " for j in range(side)))
    return "\n".join(f"{line}   {part}".rstrip() for line, part in zip(plan, rows + [""] * len(plan), strict=False))
