"""`tv.recursive` around a function: Kepler's equation E = M + e·sin E, solved by iterating it.

python examples/kepler.py
"""

from __future__ import annotations

import torch

import trm_verify as tv

ECCENTRICITY = 0.5


def step(anomaly: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """One iteration for a batch of orbits."""
    return mean + ECCENTRICITY * torch.sin(anomaly)


def main() -> None:
    """For every mean anomaly: one solution, and the number of iterations that a wanted accuracy takes."""
    model = tv.recursive(step, state_shape=(1,), input_shape=(1,), domain=tv.Box(0, "6.2832"))
    result = tv.verify_fixed_point(model)
    print(f"{result.verdict}: exactly one solution for every M, reached at rate {result.rate}")
    for epsilon in ("1e-3", "1e-6", "1e-12"):
        print(f"within {epsilon} after {result.steps(epsilon)} iterations")

    one = tv.verify_fixed_point(model, torch.tensor([1.0]))
    center, radius = float(one.enclosure.center[0]), float(one.enclosure.radius[0])
    print(f"M = 1: E = {center:.12f}, proved to within 1e-12: {radius <= 1e-12}")


if __name__ == "__main__":
    main()
