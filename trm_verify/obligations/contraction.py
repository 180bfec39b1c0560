"""Side conditions of the rules about norms, contraction and well-posed models (R1 to R4, R10)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod

from trm_verify.kernel import document
from trm_verify.kernel.claims import Contraction, Gain, Spectral, WellPosed
from trm_verify.kernel.context import number as number_of
from trm_verify.kernel.context import numbers, upper_triangle_size
from trm_verify.kernel.graph import ACTIVATIONS
from trm_verify.kernel.norms import BlockNorm, Norm
from trm_verify.kernel.numbers import dyadic
from trm_verify.kernel.radius import Gains
from trm_verify.kernel.rules.wellposed import PROJECTIONS
from trm_verify.kernel.tensor import Tensor
from trm_verify.obligations.forms import Forms, Row, entry_of
from trm_verify.obligations.radii import Radii
from trm_verify.obligations.radius import RadiusPass
from trm_verify.obligations.scene import Scene
from trm_verify.obligations.terms import (
    ONE,
    ZERO,
    NotExported,
    Script,
    Term,
    absolute,
    add,
    at_most,
    below,
    equal,
    every,
    negative,
    number,
    sub,
)
from trm_verify.obligations.values import Values
from trm_verify.obligations.walker import rows_of, varies


def _matrix(scene: Scene) -> list[list[Term]]:
    """The constant matrix that a spectral step speaks of, from the weights."""
    graph = scene.graph
    index = document.integer(scene.witness["matrix"], 0, len(graph.step.nodes) - 1, "matrix")
    node = graph.step.nodes[index]
    terms = Values(scene.script, graph, graph.step, [], [], (), "w").coefficients(index)
    if terms is None or len(node.shape) != 2 or node.kind:
        raise NotExported("a matrix that is not constant and exact")
    return rows_of(terms, node.shape[1])


def _transposed(rows: list[list[Term]]) -> list[list[Term]]:
    return [list(column) for column in zip(*rows, strict=True)]


def require_norm(scene: Scene, rows: list[list[Term]], sigma: Fraction, what: str) -> None:
    """σ²I − WᵀW is positive semidefinite by the step's factor, and σ ≥ 0."""
    n, script, bound = len(rows[0]), scene.script, number(sigma)

    def entry(i: int, j: int) -> Term:
        inner = [script.mul(row[i], row[j]) for row in rows]
        return sub(script.mul(bound, bound) if i == j else ZERO, script.define("ww", add(inner)))

    script.show(at_most(ZERO, bound), f"{what} ≥ 0")
    factor = document.vector(scene.witness["factor"], upper_triangle_size(n), "factor")
    scene.definite(n, entry, factor, "σ²I − WᵀW")


def spectral(scene: Scene) -> None:
    """‖W‖₂ ≤ σ: σ²I − WᵀW is positive semidefinite."""
    rows = _matrix(scene)
    smaller = rows if len(rows) >= len(rows[0]) else _transposed(rows)
    require_norm(scene, smaller, _bound(scene), "σ")


def _bound(scene: Scene) -> Fraction:
    if not isinstance(scene.conclusion, Spectral):
        raise NotExported("no bound is stated")
    return scene.conclusion.bound


def spectral_abs(scene: Scene) -> None:
    """‖W‖₂ ≤ σ: |W|ᵀ|W|v ≤ σ²v for a positive v."""
    rows, script = _matrix(scene), scene.script
    sigma = number(_bound(scene))
    v = [number(each) for each in numbers(scene.witness["vector"], len(rows[0]), "vector")]
    script.show(every([at_most(ZERO, sigma), *(below(ZERO, each) for each in v)]), "σ ≥ 0 and v > 0")
    sizes = [[absolute(w) for w in row] for row in rows]
    image = [script.combine("u", list(zip(row, v, strict=True))) for row in sizes]
    for column, each in zip(_transposed(sizes), v, strict=True):
        total = add([script.mul(w, u) for w, u in zip(column, image, strict=True)])
        script.show(at_most(total, script.mul(sigma, sigma, each)), "|W|ᵀ|W|v ≤ σ²v")


def bounds_of(scene: Scene) -> dict[int, Fraction]:
    """Proved norms of constant nodes, from the premises."""
    found: dict[int, Fraction] = {}
    for premise in scene.premises:
        if not isinstance(premise, (Spectral, Gain)):
            raise NotExported("premises that are neither spectral bounds nor row gains")
        if isinstance(premise, Gain):
            continue
        found[premise.matrix] = min(premise.bound, found.get(premise.matrix, premise.bound))
    if found:
        scene.script.facts["spectral bounds of the premises, which have scripts of their own"] += len(found)
    return found


def gains_of(scene: Scene, region: Tensor, domain: Tensor) -> Gains:
    """Proved gains of subgraphs, from the premises, which hold over at least this region and domain."""
    found: Gains = {}
    for premise in scene.premises:
        if isinstance(premise, Gain):
            scene.inside(region, premise.region, "the region lies in that of the row gains")
            scene.inside(domain, premise.domain, "the domain lies in that of the row gains")
            for inputs, output in premise.places:
                found.setdefault(output, []).append((inputs, premise.gains))
    if found:
        scene.script.facts["row gains of the premises, which have scripts of their own"] += len(found)
    return found


def state_parts(scene: Scene, groups: list[int], values: list[Term]) -> list[Radii | None]:
    """Radii of the state's parts when group g of the flattened state has radius values[g]."""
    parts: list[Radii | None] = []
    start = 0
    for size in map(prod, scene.graph.state):
        own = groups[start : start + size]
        start += size
        first = own[0]
        single = len(set(own)) == size
        parts.append(Radii(None if single else [g - first for g in own], values[first : own[-1] + 1]))
    return parts


def radius_contraction(scene: Scene) -> None:
    """One pass over the graph takes the norm's weights d to at most ρd."""
    done, script = _contraction(scene), scene.script
    norm = done.norm
    if not isinstance(norm, BlockNorm):
        raise NotExported("a norm of another kind")
    states, inputs = scene.states(done.region), scene.inputs(done.domain)
    values = scene.values(scene.graph.step, done.region, done.domain, states, inputs)
    weights = [number(norm.weight(g)) for g in range(len(norm.sizes))]
    script.show(every([below(ZERO, d) for d in weights]), "the weights d are positive")
    passed = RadiusPass(values, bounds_of(scene), gains_of(scene, done.region, done.domain))
    radii = passed.run(state_parts(scene, norm.groups, weights))
    out = passed.outputs(radii, norm.groups)
    _require_rate(scene, done.rate)
    for value, d in zip(out.values, weights, strict=True):
        script.show(at_most(value, script.mul(number(done.rate), d)), "the radius of each group is at most ρd")


def _contraction(scene: Scene) -> Contraction:
    if not isinstance(scene.conclusion, Contraction):
        raise NotExported("no contraction is stated")
    return scene.conclusion


def _require_rate(scene: Scene, rate: Fraction) -> None:
    scene.script.show(every([at_most(ZERO, number(rate)), below(number(rate), ONE)]), "0 ≤ ρ < 1")


def damping(scene: Scene) -> None:
    """α is constant on each group, and ρ' ≥ 1 − α(1 − ρ)."""
    done, premise = _contraction(scene), scene.premises[0]
    if not isinstance(premise, Contraction) or not isinstance(premise.norm, BlockNorm):
        raise NotExported("a premise that is no contraction in a block norm")
    script = scene.script
    first: dict[int, Fraction] = {}
    for g, alpha in zip(premise.norm.groups, done.operator.alpha, strict=True):
        own = first.setdefault(g, alpha)
        script.show(equal(number(own), number(alpha)), "α is constant on each group")
    for alpha in dict.fromkeys(done.operator.alpha):
        a, rate = number(alpha), number(premise.rate)
        damped = add([ONE, negative(a), script.mul(a, rate)])
        script.show(at_most(damped, number(done.rate)), "1 − α(1 − ρ) is at most the new rate")
    _require_rate(scene, done.rate)


def sector_terms(
    script: Script, m: Term, sector: tuple[Fraction, Fraction], row: Row, places: tuple[int, int, int]
) -> list[Term]:
    """What a unit with multiplier λ and argument v adds to entry (i, j): −λ(s+t)φv and its transpose, 2λφ², 2λst v²."""
    (low, high), (unit, i, j) = sector, places
    terms = [
        negative(script.mul(m, number(low + high), entry_of(row, other)))
        for place, other in ((i, j), (j, i)) if place == unit
    ]  # fmt: skip
    if i == j == unit:
        terms.append(script.mul(number(2), m))
    terms.append(script.mul(number(2), m, number(low), number(high), entry_of(row, i), entry_of(row, j)))
    return terms


def metric_contraction(scene: Scene) -> None:
    """ρ²P − QᵀPQ − (sectors of the units) is positive semidefinite, and P ⪰ pI."""
    done, graph, script = _contraction(scene), scene.graph, scene.script
    states, inputs = scene.states(done.region), scene.inputs(done.domain)
    forms = Forms(scene.values(graph.step, done.region, done.domain, states, inputs))
    if any(not unit.arguments for unit in forms.units):
        raise NotExported("a step with operations other than activations")
    outputs, n, size = forms.flat(), graph.size, forms.width
    metric = _metric(scene, done.norm)
    multipliers = [number(v) for v in numbers(scene.witness["multipliers"], len(forms.units), "multipliers")]
    script.show(every([at_most(ZERO, m) for m in multipliers]), "multipliers ≥ 0")
    _require_rate(scene, done.rate)
    rate = number(done.rate)
    images = [
        [script.combine(f"p{r}.{b}", [(metric(r, s), entry_of(outputs[s], b)) for s in range(n)]) for b in range(size)]
        for r in range(n)
    ]
    ends = [forms.sector(unit) for unit in forms.units]
    arguments: list[Row] = [unit.arguments[0] for unit in forms.units]

    def entry(i: int, j: int) -> Term:
        terms = [script.mul(rate, rate, metric(i, j))] if i < n and j < n else []
        terms += [negative(script.mul(entry_of(outputs[r], i), images[r][j])) for r in range(n)]
        for k, (m, (low, high), row) in enumerate(zip(multipliers, ends, arguments, strict=True)):
            terms += sector_terms(script, m, (low, high), row, (n + k, i, j))
        return script.define(f"m{i}.{j}", add(terms))

    factor = document.vector(scene.witness["factor"], upper_triangle_size(size), "factor")
    scene.definite(size, entry, factor, "the contraction matrix")


def _metric(scene: Scene, norm: Norm) -> Callable[[int, int], Term]:
    """(i, j) ↦ P_ij, with P ⪰ pI shown; the identity for an ℓ2 norm of one group."""
    if isinstance(norm, BlockNorm):
        if len(norm.sizes) != 1:
            raise NotExported("an ℓ2 norm of several groups")
        return lambda i, j: ONE if i == j else ZERO
    floor = number(norm.floor)
    scene.script.show(below(ZERO, floor), "p > 0")

    def entry(i: int, j: int) -> Term:
        return number(dyadic(norm.rows[i][j], norm.exp))

    for i in range(norm.size):
        for j in range(i):
            scene.script.show(equal(entry(i, j), entry(j, i)), "P is symmetric")
    factor = document.vector(scene.witness["norm_factor"], upper_triangle_size(norm.size), "norm_factor")
    scene.definite(norm.size, lambda i, j: sub(entry(i, j), floor) if i == j else entry(i, j), factor, "P − pI")
    return entry


def implicit_matrix(scene: Scene, domain: Tensor) -> list[list[Term]]:
    """W of a step of the form φ(Wz + u(x)), or affine, as terms."""
    graph, n = scene.graph, scene.graph.size
    everywhere = Tensor((n,))
    values = scene.values(graph.step, everywhere, domain, scene.states(everywhere), scene.inputs(domain))
    forms = Forms(values)
    outputs = forms.flat()
    rows = outputs
    if forms.units:
        plain = len(forms.units) == n and all(outputs[k] == {n + k: ONE} for k in range(n))
        if not plain or any(not u.arguments or any(c >= n for c in u.arguments[0]) for u in forms.units):
            raise NotExported("a step that is not of the form φ(Wz + Ux + b)")
        rows = [unit.arguments[0] for unit in forms.units]
        for unit in forms.units:
            low, high = map(number, forms.sector(unit))
            scene.script.show(every([at_most(ZERO, low), at_most(high, ONE)]), "slopes lie in [0, 1]")
    return [[entry_of(row, j) for j in range(n)] for row in rows]


def monotone(scene: Scene) -> None:
    """(2 − 2m)I − W − Wᵀ is positive semidefinite, m > 0."""
    done, script = _well_posed(scene), scene.script
    if done.slack is None:
        raise NotExported("no monotone model is stated")
    w, m = implicit_matrix(scene, done.domain), number(done.slack)
    script.show(below(ZERO, m), "m > 0")

    def entry(i: int, j: int) -> Term:
        shift = [number(2), negative(script.mul(number(2), m))] if i == j else []
        return add([*shift, negative(w[i][j]), negative(w[j][i])])

    factor = document.vector(scene.witness["factor"], upper_triangle_size(len(w)), "factor")
    scene.definite(len(w), entry, factor, "(2 − 2m)I − W − Wᵀ")


def _well_posed(scene: Scene) -> WellPosed:
    if not isinstance(scene.conclusion, WellPosed):
        raise NotExported("no well-posed model is stated")
    return scene.conclusion


def log_norm(scene: Scene) -> None:
    """W_ii + Σ |W_ij| d_j/d_i ≤ μ_i < 1 in every row."""
    done, script = _well_posed(scene), scene.script
    w = implicit_matrix(scene, done.domain)
    d = [number(v) for v in numbers(scene.witness["vector"], len(w), "vector")]
    script.show(every([below(ZERO, v) for v in d]), "d > 0")
    for i, (row, diagonal, measure) in enumerate(zip(w, done.diagonal, done.measures, strict=True)):
        away = [script.mul(script.define("size", absolute(v)), d[j]) for j, v in enumerate(row) if j != i]
        total = add([script.mul(row[i], d[i]), *away])
        script.show(at_most(total, script.mul(number(measure), d[i])), "W_ii d_i + Σ |W_ij| d_j ≤ μ_i d_i")
        script.show(every([below(number(measure), ONE), equal(row[i], number(diagonal))]), "μ_i < 1")


def monotone_convergence(scene: Scene) -> None:
    """‖I − W‖₂ ≤ σ, 0 < α < 2m/σ² and ρ² ≥ 1 − 2αm + α²σ²."""
    premise, script = scene.premises[0], scene.script
    if not isinstance(premise, WellPosed) or premise.slack is None:
        raise NotExported("a premise that is no monotone model")
    ops = {node.op for node in scene.graph.step.nodes if node.op in ACTIVATIONS and varies(node)}
    if not ops <= PROJECTIONS:
        raise NotExported("an activation that is no projection")
    w = implicit_matrix(scene, premise.domain)
    apart = [[sub(ONE if i == j else ZERO, v) for j, v in enumerate(row)] for i, row in enumerate(w)]
    sigma, alpha, rate = (number_of(scene.witness[key], key) for key in ("sigma", "alpha", "rate"))
    defined = [[script.define("a", v) for v in row] for row in apart]
    require_norm(scene, defined, sigma, "σ")
    s, a, m, r = map(number, (sigma, alpha, premise.slack, rate))
    script.show(every([below(ZERO, a), below(script.mul(a, s, s), script.mul(number(2), m))]), "0 < ασ² < 2m")
    square = add([ONE, negative(script.mul(number(2), a, m)), script.mul(a, a, s, s)])
    script.show(at_most(square, script.mul(r, r)), "1 − 2αm + α²σ² ≤ ρ²")
    _require_rate(scene, rate)


def log_norm_convergence(scene: Scene) -> None:
    """α_i (1 − min(W_ii, 0)) ≤ 1 and ρ ≥ 1 − α_i (1 − max(μ_i, 0))."""
    premise, script = scene.premises[0], scene.script
    if not isinstance(premise, WellPosed) or premise.norm is None:
        raise NotExported("a premise that is no log-norm model")
    rate = number(number_of(scene.witness["rate"], "rate"))
    alphas = numbers(scene.witness["alpha"], None, "alpha")
    alphas = alphas * len(premise.diagonal) if len(alphas) == 1 else alphas
    for alpha, own, mu in zip(alphas, premise.diagonal, premise.measures, strict=True):
        a, w, clipped = number(alpha), number(own), number(mu)
        script.show(every([below(ZERO, a), at_most(a, ONE), at_most(sub(a, script.mul(a, w)), ONE)]), "α(1 − W_ii) ≤ 1")
        for least in (clipped, ZERO):
            damped = add([ONE, negative(a), script.mul(a, least)])
            script.show(at_most(damped, rate), "1 − α_i (1 − max(μ_i, 0)) ≤ ρ")
    _require_rate(scene, rate.value or Fraction(0))
