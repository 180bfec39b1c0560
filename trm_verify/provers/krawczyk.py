"""Witnesses of R5 about one state, in doubles: a small box, slopes of the units there, and the inverse of I − f′.

The box test is Krawczyk's: z + Y(f(z) − z) maps the box into its interior. With Y near (I − f′)⁻¹ that map is almost
constant, whether the fixed point attracts or repels, so that a box a little larger than the error of the doubles
passes where the step is smooth, or linear, and I − f′ is not close to singular.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import frexp

import numpy as np
import torch
from scipy.linalg import solve_triangular

from trm_verify.certificate import derive
from trm_verify.encode import Json, integers, quantized, vector
from trm_verify.kernel.affine import AffineForms, Unit
from trm_verify.kernel.claims import FixedPoints
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.relaxation import PROJECTIONS
from trm_verify.kernel.rules.fixed_points import forms_over
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import PIECEWISE
from trm_verify.provers.factors import as_floats
from trm_verify.provers.problem import Floats, floats
from trm_verify.provers.relaxed import apply

REACHES = (-26, -34, -18, -12, -8)  # radii, as powers of two, relative to the largest coordinate
PLACES = 20  # binary places of the centre, and of a radius, beyond the radius
BITS = 44  # of the entries of the matrix and of slopes, relative to the largest
MOST_WORK = 1 << 29  # multiplications of one box test that are worth trying
