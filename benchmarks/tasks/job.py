"""One job in a process of its own: every line on stdout is a JSON object, `{phase: {…}}`, a part of the result.

python -m benchmarks.tasks.job TASK VARIANT SEED FOLDER PHASE… [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.tasks import clock
from benchmarks.tasks.jobs import Job

LIMITS = {"learn": 7200, "prove": 1800, "solve": 600}  # processor seconds; what was reported until then is kept


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.tasks.job", description=__doc__)
    for name in ("task", "variant"):
        parser.add_argument(name)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("phases", nargs="+", choices=list(LIMITS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    job = Job(options.task, options.variant, options.seed, options.quick)
    options.folder.mkdir(parents=True, exist_ok=True)
    for phase in options.phases:
        clock.limit(LIMITS[phase])
        # a job that only trains does not load the provers
        for part in import_module(f"benchmarks.tasks.{phase}").run(job, options.folder):
            print(json.dumps({phase: part}, allow_nan=False), flush=True)
        print(json.dumps({phase: {"done": True}}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
