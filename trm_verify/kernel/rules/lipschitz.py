"""R16: how far the logits at the fixed point move with the input, in ℓ2.

For one layer z = φ(Wz + Ux + b) with slopes in [0, 1] and a linear readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from trm_verify.kernel import document
from trm_verify.kernel.affine import AffineForms, Unit, affine_forms
from trm_verify.kernel.claims import Conclusion, Convergence, FixedPoints, Lipschitz, WellPosed
from trm_verify.kernel.context import Context, Witness, number, upper_triangle_size
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import evaluate
from trm_verify.kernel.graph import Graph
from trm_verify.kernel.inequality import Sum
from trm_verify.kernel.linear import Form
from trm_verify.kernel.numbers import MAX_FACTOR, Rows, floor_at, gram, matmul, require_psd, rows_of, transpose
from trm_verify.kernel.relaxation import slaved_states
from trm_verify.kernel.rules.wellposed import MONOTONE_UNIT
from trm_verify.kernel.spans import forms_over
from trm_verify.kernel.tensor import Tensor
from trm_verify.kernel.units import Interval


@dataclass(frozen=True)
class Layer:
    """Between two fixed points: Δa = WΔz + UΔx, Δlogits = CΔz, and Δz_k is a slope of unit k times Δa_k.

    Attributes:
        away, given: I − W and U, both at `exp`. readout: C.
        slopes: 1 or 0 where the slope is that one number, None where it may be anything in [0, 1].
    """

    away: Rows
    given: Rows
    exp: int
    readout: Form
    slopes: Sequence[int | None]

    @property
    def moving(self) -> list[int]:
        """The states that can move."""
        return [k for k, slope in enumerate(self.slopes) if slope != 0]


def layer_of(graph: Graph, premise: Conclusion | None) -> tuple[Layer, Tensor, Tensor]:
    """The layer between the fixed points of a premise, its domain, and the region where each of them is the only one.

    Nothing here asks the domain to be connected: every inequality is between two fixed points, and uses no path.
    """
    if isinstance(premise, FixedPoints) and premise.says("the"):
        box, arguments, region = premise.box, premise.arguments, premise.region
    elif isinstance(premise, (WellPosed, Convergence)) and premise.region is not None:
        box, arguments, region = premise.region, None, premise.region
    else:
        raise CheckError("PREMISE", "a premise with exactly one fixed point for each input", type(premise).__name__)
    if graph.input is None or graph.vocabulary is not None or graph.readout is None:
        raise CheckError("UNSUPPORTED", "a model with real inputs and a readout", "another")
    n, m, domain = graph.size, graph.input_size, premise.domain
    if n > MAX_FACTOR:
        raise CheckError("LIMIT", f"at most {MAX_FACTOR} states", n)
    logits = affine_forms(graph, graph.readout, evaluate(graph, graph.readout, box, domain))
    if logits.units:
        raise CheckError("UNSUPPORTED", "an exactly linear readout", "another")
    form, slopes = _arguments(forms_over(graph, domain, box, None), n, arguments)
    exp = min(form.exp, 0)
    shift, one = form.exp - exp, 1 << -exp
    away = [[one * (i == j) - (v << shift) for j, v in enumerate(row[1 : 1 + n])] for i, row in enumerate(form.rows)]
    given = [[v << shift for v in row[1 + n : 1 + n + m]] for row in form.rows]
    readout = Form([row[1 : 1 + n] for row in logits.outputs.rows], logits.outputs.exp)
    return Layer(away, given, exp, readout, slopes), domain, region


def _arguments(forms: AffineForms, n: int, known: Sequence[Interval] | None) -> tuple[Form, list[int | None]]:
    """The arguments of a step that is exactly φ(Wz + Ux + b), by state, and what is known of the slopes.

    A step without units is affine: the same with the identity for φ.
    """
    if not forms.units:
        return forms.outputs, [1] * n
    own = slaved_states(forms)
    places = [own.get(i, -1) for i in range(n)]
    if sorted(places) != list(range(len(forms.units))) or any(any(row[forms.first :]) for row in forms.arguments.rows):
        raise CheckError("UNSUPPORTED", "a step of the form φ(Wz + Ux + b)", "another form")
    if not {str(unit.op) for unit in forms.units} <= MONOTONE_UNIT:
        raise CheckError("UNSUPPORTED", f"activations among {sorted(MONOTONE_UNIT)}", "another operation")
    rows = [forms.arguments.rows[k] for k in places]
    everywhere: Interval = (None, None)
    return Form(rows, forms.arguments.exp), [_slope(forms.units[k], known[k] if known else everywhere) for k in places]


def _slope(unit: Unit, interval: Interval) -> int | None:
    """The slope between any two arguments in the interval where it is one of 1 and 0; None: anything in [0, 1].

    Rescaled arguments z + α(a − z) serve as well: they lie between the same breakpoints as a, proofs/lipschitz.md.
    """
    if unit.op not in ("relu", "leaky_relu", "clamp"):
        return None
    low, high = interval
    floor, ceiling = (unit.attrs["lo"], unit.attrs["hi"]) if unit.op == "clamp" else (Fraction(0), None)
    over = floor is None or low is not None and low >= floor
    under = ceiling is None or high is not None and high <= ceiling
    if over and under:
        return 1
    below = floor is not None and high is not None and high <= floor
    above = ceiling is not None and low is not None and low >= ceiling
    return 0 if (below or above) and unit.op != "leaky_relu" else None


def lipschitz_matrix(layer: Layer, gamma: Fraction, multipliers: tuple[Rows, int]) -> tuple[Rows, int]:
    """γ²(Λᵀ(I − W) + (I − W)ᵀΛ − CᵀC) − ΛᵀUUᵀΛ over the states that can move, exactly."""
    moving, (rows, scale) = layer.moving, multipliers
    turned = transpose([[rows[k][j] for j in moving] for k in moving])
    own = matmul(turned, [[layer.away[k][j] for j in moving] for k in moving])
    square = gamma * gamma
    square_exp = 1 - square.denominator.bit_length()
    total = Sum(len(moving))
    total.add(own, scale + layer.exp)
    total.add(transpose(own), scale + layer.exp)
    total.add(gram([[row[j] for j in moving] for row in layer.readout.rows]), 2 * layer.readout.exp, -1)
    factor = floor_at(square, square_exp)
    total.rows, total.exp = [[factor * v for v in row] for row in total.rows], total.exp + square_exp
    driven = matmul(turned, [layer.given[k] for k in moving])
    total.add(matmul(driven, transpose(driven)), 2 * (scale + layer.exp), -1)
    return total.rows, total.exp


def lipschitz(context: Context, premises: list[Conclusion], witness: Witness) -> Conclusion:
    """‖logits(z*(x)) − logits(z*(x'))‖₂ ≤ γ‖x − x'‖₂. Sound if: proofs/lipschitz.md.

    Row k of the multipliers Λ weighs (Δa_k − Δz_k): with a number λ ≥ 0 times Δz_k where the slope may vary, with any
    linear form in Δz where Δz_k = Δa_k.
    """
    raw_gamma, raw_rows, raw_factor = document.fields(witness, "gamma", "multipliers", "factor", where="lipschitz")
    gamma, graph = number(raw_gamma, "gamma"), context.graph
    if gamma <= 0:
        raise CheckError("WITNESS", "γ > 0", gamma)
    layer, domain, region = layer_of(graph, premises[0] if len(premises) == 1 else None)
    n, moving = graph.size, layer.moving
    ints, exp = document.vector(raw_rows, n * n, "multipliers")
    multipliers = rows_of(ints, n)
    for k in moving:
        row = multipliers[k]
        if layer.slopes[k] is None and (row[k] < 0 or any(row[j] for j in moving if j != k)):
            raise CheckError("WITNESS", "one multiplier ≥ 0 for a unit whose slope may vary", f"unit of state {k}")
    graph.charge(len(moving) ** 2 * (3 * n + 2 * graph.input_size))
    rows, scale = lipschitz_matrix(layer, gamma, (multipliers, exp))
    factor = document.vector(raw_factor, upper_triangle_size(len(moving)), "factor")
    require_psd(rows, scale, factor, "γ²(Λᵀ(I − W) + (I − W)ᵀΛ − CᵀC) − ΛᵀUUᵀΛ")
    return Lipschitz(domain, region, gamma)
