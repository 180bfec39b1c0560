"""A step that contracts only in part of the state space: `region=` proves it there, and that the loop stays there.

python examples/local_proof.py
"""

from __future__ import annotations

import torch

import trm_verify as tv


def main() -> None:
    """z ← cos z: slope 1 somewhere on the line, so two steps contract and one does not; at most sin 1 on [0, 1]."""
    model = tv.recursive(torch.cos, state_shape=(1,))
    everywhere = tv.verify_fixed_point(model)
    print(
        f"on the whole line: {everywhere.verdict}, contraction in one step {everywhere.claims['contraction'].verdict}"
    )

    unit = tv.Box(0, 1)
    local = tv.verify_fixed_point(model, region=unit)
    print(f"on [0, 1]: {local.verdict}, rate {local.rate:.6f}")
    for name, claim in local.claims.items():
        print(f"  {claim.verdict} {name}")
    print(f"within 1e-12 after {local.steps('1e-12', initial_error=1)} steps")

    # The box need not be known: one that holds the start, here 0, and that the loop does not leave is looked for.
    looked_for = tv.verify_fixed_point(model, region="invariant")
    print(f"looked for: {looked_for.verdict}, rate {looked_for.rate:.6f}, {looked_for.trials[0].reason}")

    # [0, 1/2] holds no fixed point, and cos maps it out of itself: nothing may be concluded from the slope there.
    print(f"on [0, 0.5]: {tv.verify_fixed_point(model, region=tv.Box(0, 0.5)).verdict}")


if __name__ == "__main__":
    main()
