"""Both registers, filled: importing the modules below adds their cases."""

from __future__ import annotations

import tests.corpus.good_loops
import tests.corpus.good_norms
import tests.corpus.good_operations  # noqa: F401
from tests.corpus.good import GOOD

# an older certificate with the same weights file names it, so the later ones come later
import tests.corpus.good_fixed_points  # isort: skip
import tests.corpus.good_refutations  # isort: skip
import tests.corpus.good_lipschitz  # isort: skip
import tests.corpus.good_reach  # isort: skip
import tests.corpus.good_exhibited  # isort: skip
import tests.corpus.good_rows  # isort: skip
import tests.corpus.good_triangular  # isort: skip
import tests.corpus.good_several_steps  # isort: skip
import tests.corpus.good_divergence  # isort: skip
import tests.corpus.good_commits  # noqa: F401  # isort: skip

# the refusals are made of good certificates
import tests.corpus.bad_answers  # isort: skip
import tests.corpus.bad_contraction  # isort: skip
import tests.corpus.bad_files  # isort: skip
import tests.corpus.bad_graphs  # isort: skip
import tests.corpus.bad_invariance  # isort: skip
import tests.corpus.bad_spectral  # isort: skip
import tests.corpus.bad_wellposed  # isort: skip
import tests.corpus.bad_enclosures  # isort: skip
import tests.corpus.bad_fixed_points  # isort: skip
import tests.corpus.bad_fixed_point_answers  # isort: skip
import tests.corpus.bad_refutation  # isort: skip
import tests.corpus.bad_lipschitz  # isort: skip
import tests.corpus.bad_reach  # isort: skip
import tests.corpus.bad_exhibited  # isort: skip
import tests.corpus.bad_rows  # isort: skip
import tests.corpus.bad_triangular  # isort: skip
import tests.corpus.bad_several_steps  # isort: skip
import tests.corpus.bad_divergence  # isort: skip
import tests.corpus.bad_commits  # noqa: F401  # isort: skip
from tests.corpus.bad import BAD  # isort: skip

__all__ = ["BAD", "GOOD"]
