"""Code repair: lines of Python whose brackets and colons were corrupted.

python examples/snippets.py [--quick] [--out DIR]

The lines are those of the standard library of the Python that runs. A line may have several repairs that parse, so the
original is not always to be guessed; whether Python accepts the answer is another matter, and is counted as well.
"""

from __future__ import annotations

from shared import answers_of, configured, drawn, options, told

from trm_verify.train.run import run


def main() -> None:
    """Train, prove, repair."""
    chosen = options("snippets", __doc__)
    config = configured("snippets", chosen.quick)
    task = config.load()
    done = run(config, chosen.out, progress=True)

    model = done.model.bake()
    steps = model.settles
    for x, y in zip(task.test.x[:4], task.test.y[:4], strict=True):
        answer = answers_of(model, x, steps)[steps] * (y >= 0).numpy()  # the empty token, where the line has ended
        print(task.show(x, answer), end="\n\n")
    logits = model.readout(model.run(task.test.x, steps))
    share = {name: metric(logits, task.test.y) for name, metric in task.metrics.items()}
    print("of the test lines:", ", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items()))
    answers = answers_of(model, task.test.x[0], steps)
    told(done, drawn(task, task.test.x[0], task.test.y[0], answers, chosen.out))


if __name__ == "__main__":
    main()
