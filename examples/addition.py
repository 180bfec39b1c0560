"""Addition: a carry that runs from bit to bit, at a length it was never trained on.

python examples/addition.py [--quick] [--out DIR]

Bit by bit, low bits first, each position looks at the one before it: where the carry comes from. Trained on 16 bits,
run on 64: Python's integers say whether it is right.
"""

from __future__ import annotations

import torch
from shared import answers_of, configured, drawn, options, told

from trm_verify.train.run import run

NUMBERS = (9_223_372_036_854_775_807, 81_985_529_216_486_895)


def main() -> None:
    """Train on short numbers, prove the loop on long ones, add two of them."""
    chosen = options("addition", __doc__)
    config = configured("addition", chosen.quick)
    done = run(config, chosen.out, progress=True)

    task = config.load().at(config.size or 64)
    bits = task.input_shape[0]  # one more than the numbers have
    a, b = (number % 2 ** (bits - 1) for number in NUMBERS)
    x = torch.tensor([[float(n >> i & 1) for n in (a, b)] for i in range(bits)])
    y = torch.tensor([(a + b) >> i & 1 for i in range(bits)])
    answers = answers_of(done.model.bake(), x, bits)
    found = sum(int(bit) << i for i, bit in enumerate(answers[bits]))
    print(f"{a} + {b} = {found}: {'right' if found == a + b else f'wrong, it is {a + b}'}")

    short = config.load()  # and how the carry runs, on a length that fits a figure
    x, y = short.test.x[0], short.test.y[0]
    small = done.model.at(tokens=len(y)).bake()
    told(done, drawn(short, x, y, answers_of(small, x, len(y)), chosen.out))


if __name__ == "__main__":
    main()
