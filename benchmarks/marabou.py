"""The same question to Marabou: small ReLU loops, unrolled, and whether its answer is ours.

    python benchmarks/marabou.py write out/marabou     # with trm-verify[onnx]: queries, and our own verdicts
    python benchmarks/marabou.py ask out/marabou       # with maraboupy, in an environment of its own: counts both

maraboupy 2.0.0 reads its networks with older releases of onnx, onnxruntime (1.16.2, 1.19.2) and NumPy (1.26.4) than
ours, so the two halves share nothing but the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

EPSILONS, STEPS, INPUTS, SEEDS, SECONDS = ("0.05", "0.2", "0.5"), 10, 4, 6, 20
UNITS, FEATURES, CLASSES = 5, 3, 4


def write(folder: Path) -> None:
    """A directory of queries for each model and radius, with our verdicts about the loops (for every later step)."""
    import torch

    import trm_verify as tv
    from trm_verify.deploy.queries import export_queries

    verdicts: dict[str, list[str]] = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        mix, feed = torch.nn.Linear(UNITS, UNITS), torch.nn.Linear(FEATURES, UNITS)
        read = torch.nn.Linear(UNITS, CLASSES)
        with torch.no_grad():
            mix.weight.mul_(0.5 / torch.linalg.matrix_norm(mix.weight, 2))
        model = tv.recursive(
            lambda z, x, mix=mix, feed=feed: torch.relu(mix(z) + feed(x)),
            readout=read, state_shape=(UNITS,), input_shape=(FEATURES,), domain=tv.Box(-1, 1),
        )  # fmt: skip
        x = torch.rand(INPUTS, FEATURES) * 2 - 1
        for eps in EPSILONS:
            name = f"{seed}-{eps}"
            asked = export_queries(model, x, folder / name, steps=STEPS, eps=eps, timeout=SECONDS)
            found = tv.verify_fixed_point(model, x, eps=eps, answer=[each.labels for each in asked])
            verdicts[name] = [str(each.verdict) for each in found]
    (folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1) + "\n")
    print(Counter(v for each in verdicts.values() for v in each))


def ask(folder: Path) -> None:
    """Marabou's answers against ours."""
    from maraboupy import Marabou

    counts: Counter[tuple[str, str]] = Counter()
    for name, verdicts in json.loads((folder / "verdicts.json").read_text()).items():
        for i, verdict in enumerate(verdicts):
            network = Marabou.read_onnx(str(folder / name / "onnx" / "unrolled.onnx"))
            options = Marabou.createOptions(verbosity=0, timeoutInSeconds=SECONDS)
            query = str(folder / name / "vnnlib" / f"query_{i}.vnnlib")
            word, *_ = network.solve(propertyFilename=query, verbose=False, options=options)
            counts[verdict, word] += 1
            print(name, i, verdict, word, file=sys.stderr, flush=True)
    for (verdict, word), count in sorted(counts.items()):
        print(f"{count:4} {verdict:8} {word}")


def main() -> None:
    """One half or the other."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("half", choices=("write", "ask"))
    command.add_argument("folder", type=Path)
    options = command.parse_args()
    {"write": write, "ask": ask}[options.half](options.folder)


if __name__ == "__main__":
    main()
