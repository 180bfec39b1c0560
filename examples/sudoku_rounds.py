"""Contract, then commit, proved: which cells of a 4×4 Sudoku each round fills in, and that it stops with this grid.

python examples/sudoku_rounds.py
"""

from __future__ import annotations

import torch

import trm_verify as tv
from trm_verify.model import RecursiveModel
from trm_verify.tasks.sudoku import units


def eliminating() -> RecursiveModel:
    """z ← z/2 + (what the input shows − what row, column and block of each cell show)/2: logits of the candidates.

    Nothing here is trained; a trained model is certified in the same way. The cells are open, or given, in the input
    alone, so one round fills in what follows at once, and the next round sees it as given.
    """
    peers = torch.zeros(16, 16)
    for unit in units(2):
        for cell in unit:
            peers[cell, list(unit)] = 1
    peers.fill_diagonal_(0)

    def step(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        shown = x[..., 1:]
        return z / 2 + (shown - torch.clamp(peers @ shown, 0, 1)) / 2

    return tv.recursive(
        step, state_shape=(16, 4), input_shape=(16, 5), readout=lambda z: z / 1, domain=tv.Box(0, 1),
    )  # fmt: skip


def one_hot(puzzle: str) -> torch.Tensor:
    """Shape: (16, 5), the blank first."""
    return torch.nn.functional.one_hot(torch.tensor([int(c) for c in puzzle]), 5).float()


def main() -> None:
    """A puzzle that takes six rounds, noise on what is given, too few steps, and a puzzle that is never finished."""
    model = eliminating()
    puzzle = one_hot("0401100400030010")
    result = tv.verify_commit(model, puzzle, threshold=0.5)
    print(f"{result.verdict}: {result.rounds} rounds of {result.steps} or more steps")
    if result.answer is not None and result.committed is not None:
        for row in range(4):
            cells = range(4 * row, 4 * row + 4)
            print(" ".join(str(result.answer[c] + 1) for c in cells), "  rounds", *(result.committed[c] for c in cells))
    noisy = tv.Box(puzzle - (puzzle[:, :1] == 0) / 64, puzzle + (puzzle[:, :1] == 0) / 64)
    print("with noise on the givens:", tv.verify_commit(model, noisy, threshold=0.5).verdict)
    unfinished = tv.verify_commit(model, one_hot("0001000000000010"), threshold=0.5)
    print("a puzzle with two givens:", unfinished.verdict)
    print("with too few steps:", tv.verify_commit(model, puzzle, threshold=0.5, steps=1).explain().splitlines()[-1])


if __name__ == "__main__":
    main()
