"""What a model answers at each step, for one item: a maze filling in, a Sudoku settling, a parity running ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from trm_verify.report.figures import INK, MUTED, PROVED, blank, styled
from trm_verify.report.grids import RIGHT_FILL, WRONG_FILL, Answers, board, chosen, pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 17  # steps of a sequence that are written out
LONGEST = 48  # positions of a sequence that is written out; longer ones are drawn as a map
SPACE = "·"  # how a blank is written


def answers_figure(task: str, x: Any, y: Any, answers: Mapping[int, Any]) -> Figure:
    """The answers to one item step by step: right ones on green, wrong ones in red.

    Args:
        task: its name, which says how inputs and answers are written.
        x, y: the item. answers: its answer after each of these numbers of steps.

    Shape: x (*input_shape), y and every answer (positions,) or (height, width).

    Raises:
        ValueError: answers that are neither a sequence nor a grid.
        ModuleNotFoundError: matplotlib is not installed.
    """
    x, y = np.asarray(x), np.asarray(y)
    found = {int(k): np.asarray(labels) for k, labels in sorted(answers.items())}
    if y.ndim not in (1, 2) or not found or any(labels.shape != y.shape for labels in found.values()):
        raise ValueError(
            "answers_figure: expected a sequence or a grid of answers, all of the target's shape, found a target of "
            f"shape {y.shape} and answers of shapes {sorted({labels.shape for labels in found.values()})}"
        )
    if task.startswith("sudoku") and y.ndim == 1:  # cells in row-major order
        square = (round(len(y) ** 0.5),) * 2
        x, y = x.reshape(*square, *x.shape[1:]), y.reshape(square)
        found = {k: labels.reshape(square) for k, labels in found.items()}
    if task.startswith(("denoise", "arc")):
        return pictures(task, x, y, found)
    if y.ndim == 2:
        return board(task, x, y, found)
    return _written(task, x, y, found) if len(y) <= LONGEST else _map(task, y, found)


def _written(task: str, x: np.ndarray, y: np.ndarray, answers: Answers) -> Figure:
    """A line of text a step, below the input."""
    from matplotlib.patches import Rectangle

    given, names = _signs(task, x)
    counts = y >= 0
    if task.startswith("snippets"):  # padding is not worth a column
        given, y, counts = [line[: counts.sum()] for line in given], y[counts], counts[counts]
    answers = {k: np.where(counts, labels[: len(y)], 0) for k, labels in answers.items()}
    steps = chosen(answers, ROWS)
    lines: list[tuple[str, list[str], Any]] = [("input", line, None) for line in given]
    for k in steps:
        labels = answers[k]
        cells = zip(labels, counts, given[0], strict=True)
        text = [names[label] if kept else sign for label, kept, sign in cells]
        lines.append((f"step {k}", text, labels == y))
    if not (lines[-1][2] | ~counts).all():  # the model is wrong in the end
        lines.append(("target", [names[label] if kept else "" for label, kept in zip(y, counts, strict=True)], None))
    widths = [max(1.7, *(len(text[i]) + 0.7 for _, text, _ in lines)) for i in range(len(y))]
    edges = list(accumulate(widths, initial=0.0))
    figure = blank(max(4.0, 0.105 * edges[-1] + 0.9), 0.235 * len(lines) + 0.5)
    axes = figure.subplots()
    for row, (_, text, right) in enumerate(lines):
        for i, sign in enumerate(text):
            fill, colour = "white", INK if right is None or counts[i] else MUTED
            if right is not None and counts[i]:
                fill, colour = (RIGHT_FILL, INK) if right[i] else (WRONG_FILL, PROVED)
            axes.add_patch(Rectangle((edges[i], row - 0.5), widths[i], 1, facecolor=fill, edgecolor="white", lw=0.8))
            axes.text(edges[i] + widths[i] / 2, row, sign, ha="center", va="center", fontsize=8.5, color=colour)
    axes.set(xlim=(0, edges[-1]), ylim=(len(lines) - 0.5, -0.5), xticks=[], yticks=range(len(lines)))
    axes.set_yticklabels([label for label, _, _ in lines])
    axes.set_title(f"{task}: the answer at each step")
    styled(axes)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _map(task: str, y: np.ndarray, answers: Answers) -> Figure:
    """Right and wrong positions of a long sequence, down the steps."""
    from matplotlib.colors import ListedColormap

    steps = sorted(answers)
    right = np.array([(answers[k] == y) | (y < 0) for k in steps])
    figure = blank(6.4, 3.8)
    axes = figure.subplots()
    edges = [steps[0] - 1, *steps]  # row k reaches from the step before it
    axes.pcolormesh(np.arange(len(y) + 1), edges, right, cmap=ListedColormap([PROVED, RIGHT_FILL]), vmin=0, vmax=1)
    axes.set(xlabel="position", ylabel="step", ylim=(steps[-1], steps[0] - 1))
    axes.set_title(f"{task}: right answers (green) at each step")
    styled(axes)
    return figure


def _signs(task: str, x: np.ndarray) -> tuple[list[list[str]], Sequence[str]]:
    """The input as lines of text, and how answers are written."""
    if x.ndim == 2 and x.shape[1] > 2:
        names = _names(task, x.shape[1])
        return [[names[symbol] for symbol in x.argmax(axis=-1)]], names
    if x.ndim == 1:
        return [[str(symbol) for symbol in x]], _names(task, 0)
    return [[f"{value:g}" for value in column] for column in x.T], _names(task, 0)


def _names(task: str, symbols: int) -> Sequence[str]:
    if task.startswith("brackets"):
        kinds = symbols // 2
        return "([{"[:kinds] + ")]}"[:kinds]
    if task.startswith("snippets"):
        from trm_verify.tasks.snippets import TOKENS

        return [token or SPACE for token in TOKENS]
    if task.startswith("characters"):
        from trm_verify.tasks.characters import ALPHABET

        return ALPHABET.replace(" ", SPACE) + "▁"
    return [str(number) for number in range(100)]
