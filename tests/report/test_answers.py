"""Figures of answers step by step show every answer, and mark the wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from trm_verify.report.answers import answers_figure
from trm_verify.report.figures import PROVED
from trm_verify.report.grids import WRONG_FILL, chosen
from trm_verify.tasks import load_task
from trm_verify.tasks.base import IGNORE


def texts(figure):
    return [[(t.get_text(), t.get_color()) for t in axes.texts] for axes in figure.axes]


def filled(axes, colour):
    """Cells of this colour."""
    from matplotlib.colors import to_rgba

    return sum(isinstance(p, Rectangle) and p.get_facecolor() == to_rgba(colour) for p in axes.patches)


def test_a_sequence_has_a_row_a_step_and_red_where_it_is_wrong():
    task = load_task("brackets", length=8, train=4, validation=4, test=4)
    x, y = task.test.x[0], task.test.y[0].numpy()
    given = x.argmax(dim=-1).numpy()
    wrong = int((given != y).sum())
    assert wrong > 0
    figure = answers_figure("brackets", x.numpy(), y, {1: given, 2: given, 5: y})
    (written,) = texts(figure)
    assert "".join(sign for sign, _ in written) == "".join("([)]"[s] for s in (*given, *given, *y))
    assert sum(colour == PROVED for _, colour in written) == wrong == filled(figure.axes[0], WRONG_FILL)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["input", "step 1", "step 5"]
    still = answers_figure("brackets", x.numpy(), y, {1: given})
    assert [label.get_text() for label in still.axes[0].get_yticklabels()][-1] == "target"


def test_what_does_not_count_is_shown_as_it_is_given():
    task = load_task("characters", length=16, train=4, validation=4, test=4)
    x, y = task.test.x[0].numpy(), task.test.y[0].numpy()
    assert IGNORE in y
    figure = answers_figure("characters", x, y, {3: np.zeros_like(y)})
    (written,) = texts(figure)
    assert [s for s, _ in written[:16]] == [s if k < 0 else "▁" for (s, _), k in zip(written[16:32], y, strict=True)]
    line = load_task("snippets", train=4, validation=4, test=4)
    tokens = int((line.test.y[0] >= 0).sum())
    x, y = line.test.x[0].numpy(), line.test.y[0].numpy()
    figure = answers_figure("snippets", x, y, {k: np.where(y < 0, k, y) for k in (1, 2, 3)})
    # the input, the first and the last step: no column for the padding, and no row for what changes there alone
    assert len(texts(figure)[0]) == 3 * tokens


def test_a_long_sequence_is_a_map():
    y = np.arange(60) % 2
    figure = answers_figure("parity", y[:, None].astype(float), y, {1: np.zeros(60, int), 2: y})
    (mesh,) = figure.axes[0].collections
    assert np.array_equal(np.asarray(mesh.get_array()), [y == 0, y == y])


def test_a_maze_counts_every_best_move_as_right():
    task = load_task("mazes", size=7, train=4, validation=4, test=16)
    x, y = task.test.x[0].numpy(), task.test.y[0].numpy()
    blank = np.zeros_like(y)
    figure = answers_figure("mazes", x, y, {1: blank, 2: np.maximum(y, 0)})
    wrong = 1 - float(task.metrics["position"](torch.nn.functional.one_hot(torch.from_numpy(blank)[None], 5),
                                              torch.from_numpy(y)[None]))  # fmt: skip
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[1] == "step 2: all right"
    assert int(titles[0].split()[2]) == filled(figure.axes[0], WRONG_FILL) <= round(wrong * (y >= 0).sum())


@pytest.mark.parametrize(("name", "options"), [("sudoku", {}), ("regions", {}), ("denoise", {"copies": 1})])
def test_grids_have_a_panel_a_step(name, options):
    small = {} if name == "denoise" else {"train": 4, "validation": 4, "test": 4}
    task = load_task(name, **(small | options))
    x, y = task.test.x[0].numpy(), task.test.y[0].numpy()
    figure = answers_figure(name, x, y, {1: np.zeros_like(y), 2: np.maximum(y, 0)})
    assert len(figure.axes) == (4 if name == "denoise" else 2)
    if name != "denoise":
        assert figure.axes[1].get_title() == "step 2: all right" and filled(figure.axes[1], WRONG_FILL) == 0
        assert filled(figure.axes[0], WRONG_FILL) == int(((y != 0) & (y >= 0)).sum())


def test_steps_worth_a_panel():
    answers = {k: np.array([min(k, 30)]) for k in range(1, 41)}
    assert chosen({1: answers[1], 2: answers[1], 9: answers[1]}, 6) == [1, 9]
    kept = chosen(answers, 6)
    assert len(kept) == 6 and kept[0] == 1 and kept[-1] == 40


def test_other_shapes_are_refused():
    for y, answers in ((np.zeros(()), {1: np.zeros(())}), (np.zeros(3), {}), (np.zeros(3), {1: np.zeros(4)})):
        with pytest.raises(ValueError, match="expected a sequence or a grid"):
            answers_figure("parity", np.zeros((3, 1)), y, answers)
