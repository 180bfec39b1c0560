"""What a loop does where nothing is proved: its attractors, and refutations of what was claimed.

The name is not `audit`: importing a package of that name would replace the function `tv.audit`.
"""

from __future__ import annotations

from trm_verify.auditing.maps import Attractor, AttractorMap, attractors
from trm_verify.auditing.refutations import RefutationResult, refute

__all__ = ["Attractor", "AttractorMap", "RefutationResult", "attractors", "refute"]
