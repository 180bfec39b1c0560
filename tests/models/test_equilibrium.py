"""Implicit models: W derived exactly, fixed points against oracles, gradients, baking, saving, training, proofs."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import optimize
from torch import nn

import trm_verify as tv
from trm_verify.export import export
from trm_verify.kernel.evaluate import constants
from trm_verify.kernel.graph import CONSTANT, STATE
from trm_verify.models import MODELS, LogNormEquilibrium, MonotoneEquilibrium, NotConverged
from trm_verify.models.equilibrium import ACTS
from trm_verify.pretrained import from_pretrained, save_pretrained
from trm_verify.provers.problem import Problem
from trm_verify.tasks import Split, Task, digits
from trm_verify.train import evaluate, train

FAMILIES = [MonotoneEquilibrium, LogNormEquilibrium]
SIZES = {"state": 4, "inputs": 3, "classes": 3}
DOUBLE = {**SIZES, "dtype": torch.float64}


def drawn(seed: int = 0, dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def tensors(n: int = 4, rank: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return drawn(1, dtype, A=(rank, n), B=(n, n), U=(n, 3), b=(n,), C=(3, n), c=(3,))


def turning(strength: float = 20.0) -> MonotoneEquilibrium:
    """W = [[0, −s], [s, 0]]: m = 1, and Picard iteration diverges."""
    eye = torch.eye(2, dtype=torch.float64)
    b = torch.tensor([[0.0, -strength], [0.0, 0.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    return MonotoneEquilibrium.from_tensors(A=torch.zeros_like(eye), B=b, U=eye, b=zero, C=eye, c=zero, m=1.0)


def inputs(rows: int = 8, dtype: torch.dtype = torch.float64, seed: int = 5) -> torch.Tensor:
    return 2 * torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parts(model, x):
    with torch.no_grad():
        return model.matrix(model.b).double().numpy(), (x @ model.U.T + model.b).double().numpy()


def exact_monotone(a: torch.Tensor, b: torch.Tensor, m: float) -> list[list[Fraction]]:
    """(1 − m)I − AᵀA + B − Bᵀ in rational arithmetic."""
    p, q = ([[Fraction(v) for v in row] for row in t.tolist()] for t in (a, b))
    n, one = len(q), 1 - Fraction(m)
    return [
        [one * (i == j) - sum(row[i] * row[j] for row in p) + q[i][j] - q[j][i] for j in range(n)] for i in range(n)
    ]


def log_norms(w: torch.Tensor, d: torch.Tensor) -> list[Fraction]:
    rows, s = [[Fraction(v) for v in row] for row in w.tolist()], [Fraction(v) for v in d.tolist()]
    n = len(rows)
    return [rows[i][i] + sum(abs(rows[i][j]) * s[j] / s[i] for j in range(n) if j != i) for i in range(n)]


def equal(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(
        one[key].dtype == two[key].dtype and torch.equal(one[key], two[key]) for key in one
    )


# --- the exact matrix ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "rank", "m"), [(4, 2, 20.0), (10, 12, 0.1), (1, 1, 1.5)])
def test_the_graph_derives_w_exactly_from_the_stored_tensors(n, rank, m):
    given = tensors(n, rank)
    model = MonotoneEquilibrium.from_tensors(**given, m=m)
    exported = export(model.bake())
    assert exported.tensors.keys() == given.keys()
    assert all(torch.equal(value, given[name]) for name, value in exported.tensors.items())
    graph = Problem(exported.graph, exported.to_bytes()).graph
    nodes = graph.step.nodes
    (product,) = [node for node in nodes if node.op == "linear" and node.kind == STATE]
    assert nodes[product.args[1]].kind == CONSTANT
    value = constants(graph, graph.step)[product.args[1]]
    assert value.is_point and value.shape == (n, n)
    found = [Fraction(v) * Fraction(2) ** value.exp for v in value.ends()[0]]
    wanted = [v for row in exact_monotone(given["A"], given["B"], m) for v in row]
    assert found == wanted
    rounded = model.matrix(model.b).flatten().tolist()
    assert rounded == pytest.approx([float(v) for v in wanted], rel=1e-4, abs=1e-4)
    assert n == 1 or [Fraction(v) for v in rounded] != wanted, "float32 cannot hold this W"


def test_no_export_option_changes_the_graph():
    model = MonotoneEquilibrium(**SIZES)
    assert export(model).digest == export(model, fold=False).digest == export(model.bake()).digest


# --- loading tensors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_given_tensors_are_kept_exactly_and_copied(dtype):
    given = tensors(dtype=dtype)
    given["B"] = given["B"].T  # another memory layout
    model = MonotoneEquilibrium.from_tensors(**given, m=0.1, domain=(-0.5, 2.0), act="tanh")
    assert model.baked and not any(p.requires_grad for p in model.parameters())
    assert model.m == 0.1 and model.config["m"] == 0.1 and model.domain == tv.Box(-0.5, 2).expand((3,))
    state = model.state_dict()
    assert set(state) == set(given)
    before = {name: value.clone() for name, value in given.items()}
    given["A"].zero_()
    assert all(state[name].dtype == dtype and torch.equal(state[name], before[name]) for name in given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"A": torch.ones(2, 5)}, r"expected B of shape \(5, 5\), found \(4, 4\)"),
        ({"B": torch.ones(4, 3)}, "expected B of shape"),
        ({"U": torch.ones(3, 4)}, r"expected U of shape \(4, i\), found \(3, 4\)"),
        ({"b": torch.ones(1, 4)}, "expected b of shape"),
        ({"C": torch.ones(4, 3)}, "expected C of shape"),
        ({"c": torch.ones(2)}, "expected c of shape"),
        ({"A": [[1.0, 2.0, 3.0, 4.0]]}, "expected A to be a float32 or float64 tensor, found list"),
        ({"B": torch.ones(4, 4, dtype=torch.int64)}, "found torch.int64"),
        ({"b": torch.ones(4, dtype=torch.float16)}, "found torch.float16"),
        ({"b": torch.ones(4, dtype=torch.float64)}, "one dtype, found b in torch.float64"),
        ({"A": torch.full((2, 4), float("nan"))}, "finite numbers in A"),
        ({"c": torch.full((3,), float("inf"))}, "finite numbers in c"),
        ({"m": 0.0}, "expected m to be a positive finite float, found 0.0"),
        ({"m": -1.0}, "expected m"),
        ({"m": float("nan")}, "expected m"),
        ({"m": float("inf")}, "expected m"),
        ({"m": "20"}, "expected m"),
        ({"m": True}, "expected m"),
        ({"m": Fraction(1, 3)}, "expected m"),
        ({"m": 2**53 + 1}, "expected m"),
        ({"act": "gelu"}, "slopes in"),
        ({"act": "identity"}, "slopes in"),
        ({"domain": (1.0, 0.0)}, "expected"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        MonotoneEquilibrium.from_tensors(**{**tensors(), **changes})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "changes", [{"state": 0}, {"inputs": 0}, {"classes": 1}, {"act": "abs"}, {"act": "maxmin"}, {"domain": (2.0, 1.0)}]
)
def test_bad_arguments_are_refused(family, changes):
    with pytest.raises(ValueError, match="expected"):
        family(**{**SIZES, **changes})


def test_bad_constants_are_refused():
    for wrong in ({"m": 0.0}, {"m": -2}, {"rank": 0}):
        with pytest.raises(ValueError, match="expected"):
            MonotoneEquilibrium(**SIZES, **wrong)
    for margin in (0, -0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected margin"):
            LogNormEquilibrium(**SIZES, margin=margin)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_and_seed_decide_the_model(family):
    torch.manual_seed(3)
    model = family(**SIZES, act="tanh", seed=3, domain=(-1.0, 1.0))
    again = family(**model.config)
    assert equal(model, again) and model.config == again.config
    assert not torch.equal(family(**SIZES, seed=4).U, model.U)
    assert MODELS[family.__name__] is family


# --- the log-norm inequality -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("slack", [None, -300.0])
def test_the_baked_w_satisfies_the_inequality_exactly(dtype, spread, slack):
    """Also where softplus leaves no room at all (slack −300), so that only the rounding decides."""
    for seed in range(5):
        model = LogNormEquilibrium(9, 3, 3, 0.1, seed=seed, dtype=dtype)
        with torch.no_grad():
            model.free.mul_(3)
            model.log_d.copy_(spread * drawn(seed, dtype, d=(9,))["d"])
            if slack is not None:
                model.free.diagonal().fill_(slack)
        baked = model.bake()
        assert baked.baked and not model.baked
        assert set(baked.state_dict()) == {"W", "U", "b", "C", "c"} and baked.W.dtype == dtype
        assert torch.allclose(baked.W, model.matrix(model.b), rtol=1e-4, atol=1e-4)
        measures = log_norms(baked.W, baked.d)
        assert max(measures) <= 1 - Fraction(0.1)
        if slack is not None:  # and not lower than rounding demands
            assert min(measures) > 1 - Fraction(0.1) - 100 * Fraction(torch.finfo(dtype).eps)
        again = baked.bake()
        assert again is not baked and equal(again, baked) and torch.equal(again.d, baked.d)


def test_log_norm_tensors_are_loaded_with_the_margin_they_have():
    w = torch.tensor([[0.5, 100.0], [0.0, 0.25]])
    rest = drawn(0, U=(2, 3), b=(2,), C=(3, 2), c=(3,))
    model = LogNormEquilibrium.from_tensors(W=w, **rest)
    assert model.baked and torch.equal(model.W, w)
    worst = max(log_norms(w, model.d))
    assert worst <= 1 - Fraction(model.margin) and model.margin == pytest.approx(float(1 - worst))
    given = LogNormEquilibrium.from_tensors(W=w, d=torch.tensor([1000.0, 1.0]), **rest)
    assert given.margin == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("w", "d", "words"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], None, "found"),
        ([[0.0, 2.0], [2.0, 0.0]], None, "no weights"),
        ([[0.5, 100.0], [0.0, 0.25]], [1.0, 1.0], "found 100.5"),
        ([[2.0, 0.0], [0.0, 0.0]], [-1.0, 1.0], "d > 0"),
        ([[0.5, 0.0], [0.0, 0.5]], [1.0, 1.0, 1.0], "expected d of shape"),
        ([[float("nan"), 0.0], [0.0, 0.5]], None, "finite numbers in W"),
    ],
)
def test_a_w_without_log_norm_below_one_is_refused(w, d, words):
    rest = drawn(0, U=(2, 3), b=(2,), C=(3, 2), c=(3,))
    d = None if d is None else torch.tensor(d)
    with pytest.raises(ValueError, match=words):
        LogNormEquilibrium.from_tensors(W=torch.tensor(w), d=d, **rest)


# --- solving ---------------------------------------------------------------------------------------------------


def by_enumeration(w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The fixed point of ReLU(Wz + u): the one pattern of active units that is consistent."""
    n, found = len(u), []
    for pattern in itertools.product([0.0, 1.0], repeat=n):
        active = np.diag(pattern)
        z = np.linalg.solve(np.eye(n) - active @ w, active @ u)
        a = w @ z + u
        if (z >= -1e-12).all() and all(v >= -1e-12 if on else v <= 1e-12 for v, on in zip(a, pattern, strict=True)):
            found.append(z)
    assert found and all(np.allclose(z, found[0]) for z in found)
    return found[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_relu_fixed_points_are_those_found_by_enumeration(family, seed):
    model, x = family(**DOUBLE, seed=seed), inputs()
    w, u = parts(model, x)
    solved = model.solve(x, tol=1e-13).detach().numpy()
    assert solved.any() and not solved.all()
    for row, drive in zip(solved, u, strict=True):
        assert row == pytest.approx(by_enumeration(w, drive), abs=1e-11)
    single = model.float().solve(x.float())
    assert single.dtype == torch.float32 and np.allclose(single.detach().numpy(), solved, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("act", [a for a in ACTS if a != "relu"])
@pytest.mark.parametrize("strength", [0.2, 6.0])
def test_other_activations_against_a_root_finder(family, act, strength):
    """Weak and strong couplings: the splitting steps lie above and below 1."""
    model, x = family(**DOUBLE, act=act), inputs(3)
    with torch.no_grad():
        for parameter in (model.A, model.B) if family is MonotoneEquilibrium else (model.free,):
            parameter.mul_(strength)
    w, u = parts(model, x)

    def gap(z: np.ndarray, drive: np.ndarray) -> np.ndarray:
        return z - model.act(torch.from_numpy(w @ z + drive)).numpy()

    for row, drive in zip(model.solve(x, tol=1e-13).detach().numpy(), u, strict=True):
        assert np.abs(gap(row, drive)).max() < 1e-11
        root = optimize.root(gap, np.zeros(4), args=(drive,), tol=1e-12)
        if root.success:
            assert row == pytest.approx(root.x, abs=1e-8)


@pytest.mark.parametrize("strength", [20.0, 60.0])
def test_where_picard_diverges_the_solver_arrives(strength):
    model = turning(strength)
    x = torch.tensor([[1.0, 2.0], [-1.0, 3.0], [5.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    w, u = parts(model, x)
    assert w.tolist() == [[0, -strength], [strength, 0]]
    solved = model.solve(x)
    for row, drive in zip(solved.numpy(), u, strict=True):
        assert row == pytest.approx(by_enumeration(w, drive), abs=1e-8)
    z = solved + 1e-3
    for _ in range(60):
        z = model.step(z, x)
    assert float((z - solved).abs().max()) > 0.1, "Picard iteration does not come back"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_solver_that_has_not_arrived_raises(family):
    model, x = family(**SIZES), inputs(dtype=torch.float32)
    with pytest.raises(NotConverged, match=r"at most 1e-05 .* within 2 iterations, found .*max_iter"):
        model.solve(x, tol=1e-5, max_iter=2)
    broken = x.clone()
    broken[3, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN"):
        model.solve(broken)
    with pytest.raises(FloatingPointError, match="NaN"):
        model.solve(broken.nan_to_num(nan=float("inf")))
    with torch.no_grad():
        (model.B if family is MonotoneEquilibrium else model.free)[0, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN"):
        model.logits(x)


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_inputs_and_options_are_refused(family):
    model = family(**SIZES)
    for wrong in (torch.zeros(3), torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.float64), None):
        with pytest.raises(ValueError, match=r"expected x of shape \(batch, 3\) in torch.float32"):
            model.solve(wrong)
        with pytest.raises(ValueError, match="expected x"):
            model.trace(wrong, 2)
    for options in ({"tol": 0.0}, {"tol": -1.0}, {"tol": float("nan")}, {"max_iter": 0}):
        with pytest.raises(ValueError, match="expected tol"):
            model.solve(torch.zeros(2, 3), **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trace_is_the_solvers(family):
    model, x = family(**DOUBLE), inputs()
    states = model.trace(x, 400)
    assert len(states) == 401 and not states[-1].requires_grad
    assert torch.equal(states[0], torch.zeros(8, 4, dtype=torch.float64))
    solved = model.solve(x, tol=1e-13).detach()
    assert torch.allclose(states[-1], solved, atol=1e-10)
    assert float((states[5] - solved).abs().max()) < float((states[0] - solved).abs().max())
    assert model.solve(x[:0]).shape == (0, 4) and model.logits(x).shape == (8, 3)
    with torch.inference_mode():
        assert torch.equal(model.solve(x, tol=1e-13), solved)


# --- gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("act", ACTS)
def test_gradients_are_those_of_the_fixed_point(family, act):
    model = family(3, 3, 2, act=act, seed=2, dtype=torch.float64)
    x = inputs(1).requires_grad_()

    def logits(*_: torch.Tensor) -> torch.Tensor:  # gradcheck moves the very tensors that the model holds
        return model.readout(model.solve(x, tol=1e-12))

    # Entry by entry for relu; along random directions, which is faster, for activations that need an inner iteration.
    assert torch.autograd.gradcheck(logits, (x, *model.parameters()), fast_mode=act != "relu")


def test_a_known_gradient_and_what_has_none():
    model, x = turning(), torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.solve(x).sum(), x)
    assert slope[0].tolist() == pytest.approx([0.0, 1.0]), "unit 1 is off, so z = (0, x₂)"
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(model.solve(x).sum(), x, create_graph=True)
    with torch.no_grad():
        assert not model.solve(x).requires_grad
    assert not model.solve(x.detach()).requires_grad, "a baked model has nothing to train"


# --- saving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"act": "tanh", "dtype": torch.float64, "domain": None}])
def test_saved_models_come_back(family, changes, tmp_path):
    model = family(**SIZES, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(drawn(7, parameter.dtype, p=tuple(parameter.shape))["p"] / 3)
    path = save_pretrained(model, tmp_path)
    baked = model.bake()
    assert load_file(path).keys() == baked.state_dict().keys()
    loaded, trainable = from_pretrained(tmp_path), from_pretrained(tmp_path, trainable=True)
    assert equal(loaded, baked) and loaded.baked and export(loaded).digest == export(baked).digest
    assert equal(trainable, model) and all(p.requires_grad for p in trainable.parameters())
    if family is LogNormEquilibrium:
        assert torch.equal(loaded.d, baked.d)
    x = inputs(dtype=model.b.dtype)
    assert torch.equal(loaded.logits(x), baked.logits(x))


def test_loaded_tensors_are_saved_as_they_are(tmp_path):
    given = tensors()
    path = save_pretrained(MonotoneEquilibrium.from_tensors(**given, m=0.3), tmp_path)
    stored = load_file(path)
    assert stored.keys() == given.keys() and all(torch.equal(stored[name], given[name]) for name in given)
    assert from_pretrained(tmp_path).m == 0.3


# --- proofs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (turning(), "monotone"),
        (MonotoneEquilibrium.from_tensors(**tensors(3, 2), m=0.5, act="tanh"), "monotone"),
        (MonotoneEquilibrium(3, 3, 3, 0.25, seed=1), "monotone"),
        (LogNormEquilibrium(3, 3, 3, seed=1), "log_norm"),
        (LogNormEquilibrium(3, 3, 3, 2.0**-20, act="softplus", seed=2, domain=None), "log_norm"),
    ],
)
def test_exactly_one_fixed_point_is_proved(model, rule, tmp_path):
    result = tv.verify_fixed_point(model)
    assert result.verdict is tv.PROVED and result.claims["exactly_one"].verdict is tv.PROVED
    used = {trial.prover for trial in result.trials if trial.reason == "proved"}
    assert used == {rule}
    path = tmp_path / "m"
    save_pretrained(model, path)
    checked = tv.check(result.certificate, path / "model.safetensors", expect="exactly_one()", model=model)
    assert "graph" not in checked.not_compared and f'"{rule}"'.encode() in result.certificate.to_bytes()


# --- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_training_loop_trains_at_the_fixed_point(family):
    x = torch.rand(600, 3, generator=torch.Generator().manual_seed(0))
    y = x.argmax(dim=1)
    task = Task(
        "largest", *(Split(x[i : i + 200], y[i : i + 200]) for i in (0, 200, 400)), 3, tv.Box(0, 1).expand((3,))
    )
    model = family(8, 3, 3)
    before = evaluate(model, task.test, task, 1)[-1]
    result = train(model, task, epochs=15, batch_size=20, lr=0.02, depth=(1, 3))
    reached = evaluate(model, task.test, task, 3)
    assert reached[-1] > max(before, 0.85) and len(set(reached)) == 1
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    start = family(8, 3, 3)
    assert all(not torch.equal(p, start.get_parameter(name)) for name, p in model.named_parameters())


def test_an_implicit_model_without_solver_is_not_unrolled():
    layer, x = nn.Linear(3, 3), torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    split = Split(x, x.argmax(dim=1))
    task = Task("largest", split, split, split, 3, None)
    model = tv.recursive(
        lambda z, x: torch.tanh(layer(z) / 4 + x),
        state_shape=(3,), input_shape=(3,), readout=nn.Identity(), iteration="implicit",
    )  # fmt: skip
    with pytest.raises(ValueError, match="override trace"):
        train(model, task, epochs=1, batch_size=10)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_forty_units_learn_the_digits(family):
    task = digits()
    model = family(40, 64, 10)
    train(model, task, epochs=30, lr=0.01)
    assert evaluate(model, task.test, task, 1)[-1] > 0.95
    assert tv.verify_fixed_point(model)
