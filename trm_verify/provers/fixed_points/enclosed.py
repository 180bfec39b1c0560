"""What a search for an enclosure by continuity hands on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trm_verify.provers.fixed_points.reduced import Reduced
from trm_verify.provers.fixed_points.relaxed import BITS, FEW_BITS, Relaxed
from trm_verify.provers.problem import Floats


@dataclass(frozen=True)
class Enclosed:
    """Self-consistent intervals of the unknowns, the kept states and then the arguments, with what shows them.

    Shape: lo, hi (U,) intervals of all arguments; box (2, kept); low, high (E,), what is shown of each unknown inside.

    Attributes:
        sides: (unknown, sign) of each row of the multipliers; sign 0 stands for both sides.
        reduced: the system of the units that bend, where the search was made there.
    """

    relaxed: Relaxed
    lo: Tensor
    hi: Tensor
    box: Tensor
    low: Tensor
    high: Tensor
    sides: list[tuple[int, int]]
    multipliers: Floats
    reduced: Reduced | None = None

    @property
    def kept(self) -> int:
        return len(self.relaxed.system.kept)

    @property
    def bits(self) -> int:
        """Of the multipliers in the certificate: with fewer, the kernel is done sooner; if it rejects, more follow."""
        return BITS if self.reduced is None else FEW_BITS

    @property
    def unstable(self) -> int:
        """Units whose argument may have either sign."""
        return int(((self.low < 0) & (self.high > 0))[self.kept :].sum())
