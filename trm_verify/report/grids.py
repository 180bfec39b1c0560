"""Grids of answers, a panel a step: mazes, Sudoku, images, coloured grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trm_verify.report.figures import FINAL, GRID, INK, MEASURED, MUTED, PROVED, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Answers = Mapping[int, np.ndarray]
"""After so many steps, these labels."""

PANELS = 6
SIDE = 1.9  # inches of a panel
RIGHT_FILL, WRONG_FILL, GIVEN_FILL = "#dff0e6", "#f7ddd6", "#ffffff"
WALL = "#3b4148"
ARROWS = "↑→↓←●"
ROOMS = 2  # a side, of a region of a maze
ARC = ("#1b1f24", "#2a6fb0", "#c4472b", "#2f8f5b", "#e0b53a", "#9aa1ab", "#b3489a", "#e2873c", "#6fb7d6", "#7a3340")


def chosen(answers: Answers, most: int) -> list[int]:
    """Steps worth showing: those where the answer changes, thinned out evenly, with the first and the last one."""
    steps = sorted(answers)
    changing = [k for k, before in zip(steps[1:], steps, strict=False) if (answers[k] != answers[before]).any()]
    kept = list(dict.fromkeys([steps[0], *changing, steps[-1]]))
    return kept if len(kept) <= most else [kept[round(i * (len(kept) - 1) / (most - 1))] for i in range(most)]


def pictures(task: str, x: np.ndarray, y: np.ndarray, answers: Answers) -> Figure:
    """The input, the answers and the target as images: grey levels, or the colours of ARC."""
    from matplotlib.colors import ListedColormap

    steps = chosen(answers, PANELS)
    if task.startswith("arc"):
        symbols = ListedColormap([*ARC, "white"])  # the last symbol lies outside
        style: dict[str, Any] = {"cmap": symbols, "vmin": 0, "vmax": len(ARC)}
        used = np.argwhere(np.minimum(x[-1], y) < len(ARC)).max(axis=0) + 1
        x, levels = x[-1], 1
    else:
        from trm_verify.tasks.denoise import LEVELS

        style, used, levels, x = {"cmap": "gray_r", "vmin": 0, "vmax": 1}, y.shape, LEVELS - 1, x[..., 0]
    shown = [("input", x), *((f"step {k}", answers[k] / levels) for k in steps), ("target", y / levels)]
    figure, axes = _row(len(shown), 1.5)
    for each, (title, image) in zip(axes, shown, strict=True):
        each.imshow(image[: used[0], : used[1]], **style)
        _bare(each, title)
    return figure


def board(task: str, x: np.ndarray, y: np.ndarray, answers: Answers) -> Figure:
    """A grid a step, each cell with its answer, right or wrong."""
    steps = chosen(answers, PANELS)
    figure, axes = _row(len(steps), SIDE)
    moves = task.startswith(("mazes", "regions"))
    for each, k in zip(axes, steps, strict=True):
        right = _right(task, answers[k], y)
        each.set(xlim=(-0.5, y.shape[1] - 0.5), ylim=(y.shape[0] - 0.5, -0.5), aspect="equal")
        for (i, j), label in np.ndenumerate(answers[k]):
            _cell(each, task, i, j, int(label), bool(right[i, j]), y, _given(task, x, i, j), moves)
        wrong = int((~right).sum())
        _bare(each, f"step {k}: {'all right' if not wrong else f'{wrong} wrong'}")
        if task.startswith("sudoku"):
            block = round(len(y) ** 0.5)
            for place in range(block, len(y), block):
                each.axhline(place - 0.5, color=MUTED, lw=1.0)
                each.axvline(place - 0.5, color=MUTED, lw=1.0)
        if task.startswith("regions"):
            _borders(each, x)
    return figure


def _row(count: int, side: float) -> tuple[Figure, list[Any]]:
    figure = blank(side * count, side + 0.3)
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def _bare(axes: Any, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, color=INK)
    for spine in axes.spines.values():
        spine.set(color=GRID)


def _right(task: str, answer: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which cells are right; several moves may be, see `best_moves`."""
    if task.startswith("mazes"):
        import torch

        from trm_verify.tasks.mazes import best_moves

        best = best_moves(torch.from_numpy(y)[None])[0].numpy()
        return np.asarray(np.take_along_axis(best, answer[..., None], axis=-1)[..., 0] | (y < 0))
    return np.asarray((answer == y) | (y < 0))


def _given(task: str, x: np.ndarray, i: int, j: int) -> bool:
    """Whether a Sudoku's cell was given: its symbol is not the empty one, which comes first."""
    if not task.startswith("sudoku"):
        return False
    return bool(x[i, j].argmax() if x.ndim == 3 else x[i, j])


def _cell(
    axes: Any, task: str, i: int, j: int, label: int, right: bool, y: np.ndarray, given: bool, moves: bool
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    wall = y[i, j] < 0
    fill = WALL if wall and moves else WRONG_FILL if not right else GIVEN_FILL if given or wall else RIGHT_FILL
    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=fill, edgecolor="white" if moves else GRID, lw=0.5))
    if wall:
        return
    sign = ARROWS[label] if moves and label < len(ARROWS) else str(label + 1 if task.startswith("sudoku") else label)
    colour = PROVED if not right else INK if given else FINAL
    points = 72 * SIDE / max(y.shape)  # of a cell
    size = (0.75 if moves else 0.45) * points / len(sign)
    axes.text(j, i, sign, ha="center", va="center", fontsize=size, color=colour, weight="bold" if given else "normal")


def _borders(axes: Any, x: np.ndarray) -> None:
    """Borders of regions that may not be crossed."""
    up, right = 3, 4  # channels: whether the border of the cell's region is open there
    for i, j in np.ndindex(x.shape[:2]):
        if j % (2 * ROOMS) == 2 * ROOMS - 1 and not x[i, j, right]:
            axes.plot([j + 0.5] * 2, [i - 0.5, i + 0.5], color=MEASURED, lw=1.6, solid_capstyle="butt")
        if i and i % (2 * ROOMS) == 0 and not x[i, j, up]:
            axes.plot([j - 0.5, j + 0.5], [i - 0.5] * 2, color=MEASURED, lw=1.6, solid_capstyle="butt")
