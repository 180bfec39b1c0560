"""What a model answers at each step, for one item: a maze filling in, a Sudoku settling, a parity running ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.table import Json
from trm_verify.report.figures import FINAL, GRID, INK, MUTED, PROVED, blank
from trm_verify.tasks.base import IGNORE
from trm_verify.tasks.denoise import LEVELS

PANELS = 6
RIGHT_FILL, WRONG_FILL, GIVEN_FILL = "#dff0e6", "#f7ddd6", "#ffffff"
ARROWS = "↑→↓←●"
WALL = "#3b4148"

Symbol = Callable[[int], str]


def drawing(task: str, item: Json) -> Any | None:
    """A figure of the item's answers step by step; None for a kind of item that nobody has drawn yet."""
    y = np.array(item["y"])
    answers = {int(k): np.array(labels) for k, labels in item["answers"].items()}
    x = np.array(item["x"])
    if task.startswith("sudoku") and y.ndim == 1:  # cells in row-major order
        square = (round(len(y) ** 0.5),) * 2
        x, y = x.reshape(*square, *x.shape[1:]), y.reshape(square)
        answers = {k: labels.reshape(square) for k, labels in answers.items()}
    if task.startswith("denoise"):
        return _pictures(x[..., 0], y, answers)
    if y.ndim == 1:
        return _sequence(task, y, answers)
    if y.ndim == 2:
        return _grids(task, x, y, answers)
    return None


def _chosen(answers: dict[int, np.ndarray]) -> list[int]:
    """Steps worth a panel: those where the answer changes, thinned out evenly, with the first and the last one."""
    steps = sorted(answers)
    changing = [k for k, before in zip(steps[1:], steps, strict=False) if (answers[k] != answers[before]).any()]
    kept = list(dict.fromkeys([steps[0], *changing, steps[-1]]))
    if len(kept) <= PANELS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (PANELS - 1))] for i in range(PANELS)]


def _row(count: int, side: float = 1.9) -> tuple[Any, list[Any]]:
    figure = blank(side * count, side + 0.3)
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def _bare(axes: Any, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, color=INK)
    for spine in axes.spines.values():
        spine.set(color=GRID)


def _pictures(noisy: np.ndarray, y: np.ndarray, answers: dict[int, np.ndarray]) -> Any:
    """Grey levels: the noisy image, the answers, the clean image."""
    steps = _chosen(answers)
    figure, axes = _row(len(steps) + 2, 1.5)
    shown = [
        ("input", noisy), *((f"step {k}", answers[k] / (LEVELS - 1)) for k in steps), ("clean", y / (LEVELS - 1)),
    ]  # fmt: skip
    for each, (title, image) in zip(axes, shown, strict=True):
        each.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        _bare(each, title)
    return figure


def _sequence(task: str, y: np.ndarray, answers: dict[int, np.ndarray]) -> Any:
    """Right and wrong answers, position by position, down the steps."""
    from matplotlib.colors import ListedColormap

    steps = sorted(answers)
    right = np.array([(answers[k] == y) | (y == IGNORE) for k in steps])
    figure = blank(max(4.0, 0.22 * len(y) + 1.6), max(1.8, 0.2 * len(steps) + 0.9))
    axes = figure.subplots()
    axes.imshow(right, aspect="auto", cmap=ListedColormap([PROVED, RIGHT_FILL]), vmin=0, vmax=1)
    for row, k in enumerate(steps):
        for column, label in enumerate(answers[k]):
            if len(y) <= 40 and label < 10:
                colour = INK if right[row, column] else "white"
                axes.text(column, row, str(label), ha="center", va="center", fontsize=7.5, color=colour)
    axes.set(xlabel="position", ylabel="step", yticks=range(len(steps)), yticklabels=steps, xticks=[])
    axes.set_title(f"{task}: the answer at each step (red: wrong)", fontsize=10, color=INK)
    axes.tick_params(labelsize=7.5, colors=MUTED)
    return figure


def _grids(task: str, x: np.ndarray, y: np.ndarray, answers: dict[int, np.ndarray]) -> Any:
    """A grid a step, each cell with its answer, right or wrong."""
    steps = _chosen(answers)
    figure, axes = _row(len(steps))
    moves = task.startswith(("mazes", "regions"))
    for each, k in zip(axes, steps, strict=True):
        right = _right(task, answers[k], y)
        each.set(xlim=(-0.5, y.shape[1] - 0.5), ylim=(y.shape[0] - 0.5, -0.5), aspect="equal")
        for (i, j), label in np.ndenumerate(answers[k]):
            _cell(each, task, i, j, int(label), bool(right[i, j]), int(y[i, j]), _given(task, x, i, j), moves)
        wrong = int((~right & (y != IGNORE)).sum())
        _bare(each, f"step {k}: {'all right' if not wrong else f'{wrong} wrong'}")
        if task.startswith("sudoku"):
            block = round(len(y) ** 0.5)
            for place in range(block, len(y), block):
                each.axhline(place - 0.5, color=MUTED, lw=1.0)
                each.axvline(place - 0.5, color=MUTED, lw=1.0)
    return figure


def _right(task: str, answer: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which cells are right; several moves may be, see `best_moves`."""
    if task.startswith("mazes"):
        import torch

        from trm_verify.tasks.mazes import best_moves

        best = best_moves(torch.from_numpy(y)[None])[0].numpy()
        return np.take_along_axis(best, answer[..., None], axis=-1)[..., 0] | (y == IGNORE)
    return np.asarray((answer == y) | (y == IGNORE))


def _given(task: str, x: np.ndarray, i: int, j: int) -> bool:
    """Whether a Sudoku's cell was given: its symbol is not the empty one, which comes first."""
    if not task.startswith("sudoku"):
        return False
    return bool(x[i, j].argmax() if x.ndim == 3 else x[i, j])


def _cell(
    axes: Any, task: str, i: int, j: int, label: int, right: bool, target: int, given: bool, moves: bool
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    wall = target == IGNORE
    fill = WALL if wall and moves else WRONG_FILL if not right else GIVEN_FILL if given or wall else RIGHT_FILL
    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=fill, edgecolor="white" if moves else GRID, lw=0.5))
    if wall:
        return
    sign = ARROWS[label] if moves and label < len(ARROWS) else str(label + 1 if task.startswith("sudoku") else label)
    colour = PROVED if not right else INK if given else FINAL
    weight = "bold" if given else "normal"
    axes.text(j, i, sign, ha="center", va="center", fontsize=62 / len(str(sign)) / max(8, 1.3 * axes.get_xlim()[1] + 2),
              color=colour, weight=weight)  # fmt: skip
