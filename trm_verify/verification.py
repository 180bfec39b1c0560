"""One model under verification: what holds for the model as a whole, then what holds for single inputs.

Everything here is orchestration: provers search, the kernel's rules conclude, and the collected certificate is
checked as a whole before any verdict is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from trm_verify.box import Box
from trm_verify.certificate import Certificate, CertificateBuilder, Derivation
from trm_verify.encode import Json, dyadic, fractions, integers
from trm_verify.export import Exported, export
from trm_verify.kernel.check import Valid
from trm_verify.kernel.check import check as kernel_check
from trm_verify.kernel.claims import Contraction, Convergence
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.evaluate import initial_state
from trm_verify.kernel.norms import MetricNorm, coordinate_scale
from trm_verify.kernel.numbers import power_up
from trm_verify.kernel.tensor import Tensor
from trm_verify.lowering import lower
from trm_verify.model import Damped, ModelSpec, flatten_state, spec_of
from trm_verify.model import trace as recursive_trace
from trm_verify.models.base import ConfiguredModel
from trm_verify.provers import norms, wellposed
from trm_verify.provers.local import prove_invariant
from trm_verify.provers.problem import ALL_INPUTS, ALL_STATES, NO_INPUT, Attempt, Problem
from trm_verify.provers.spectral import spectral_bounds
from trm_verify.result import PROVED, UNKNOWN, ClaimResult

DEFAULT_EPSILON = Fraction(1, 1 << 20)  # the ε of the K(ε) that every certificate over a bounded domain states
Progress = Callable[[int, int, str], None]


def box_json(space: str, box: Box) -> Json:
    """A box in the certificate's form, rounded outward where its ends are not binary fractions."""
    outer = box.outward(96)
    if outer.is_point:
        return {"space": space, "point": fractions(outer.lo)}
    return {"space": space, "lo": fractions(outer.lo), "hi": fractions(outer.hi)}


def multiplier_hints(model: nn.Module) -> list[np.ndarray]:
    """Vectors ψ that layers suggest to the metric prover (see `nn.SandwichStep`); untrusted."""
    found = [getattr(module, "psi", None) for module in model.modules()]
    return [h.detach().cpu().double().numpy() for h in found if isinstance(h, torch.Tensor) and h.dim() == 1]


def state_json(box: Tensor) -> Json:
    """A kernel box of states in the certificate's form."""
    ends = [box.fraction(i) for i in range(box.size)]
    if box.is_point:
        return {"space": "state", "point": fractions([a for a, _ in ends])}
    return {"space": "state", "lo": fractions([a for a, _ in ends]), "hi": fractions([b for _, b in ends])}


def norm_json(convergence: Convergence, size: int) -> Json:
    """The block norm of an R4 convergence: ℓ2, or weighted ℓ∞ with the log-norm's weights."""
    norm = convergence.norm
    if isinstance(norm, MetricNorm):
        raise TypeError("expected a block norm")
    runs = [[1, size]] if len(norm.sizes) == 1 and size > 1 else [[size, 1]]
    return {"kind": "block", "runs": runs, "weights": integers(norm.weights, norm.exp)}


@dataclass(frozen=True)
class Deployed:
    """A model as it is certified: baked, exported, with the bytes of its weights file."""

    model: nn.Module
    spec: ModelSpec
    exported: Exported
    weights: bytes

    @classmethod
    def of(cls, model: nn.Module) -> Deployed:
        """Bakes the library's own models; other models are exported with their parameter-only parts folded.

        Raises:
            ExportError: the step cannot be exported. ValueError: the model's description is wrong.
        """
        deployed = model.bake() if isinstance(model, ConfiguredModel) else model
        exported = export(deployed)
        return cls(deployed, spec_of(deployed), exported, exported.to_bytes())

    def problem(self) -> Problem:
        return Problem(self.exported.graph, self.weights, multiplier_hints(self.model))


def operator_json(spec: ModelSpec) -> object:
    """The operator of the model's stated iteration."""
    if isinstance(spec.iteration, Damped):
        return {"outer_damped": fractions(spec.iteration.alpha)}
    return spec.iteration


class Verification:
    """One model under verification: the global facts once, then any number of inputs."""

    def __init__(self, model: nn.Module, domain: Box | None, region: Box | None) -> None:
        self.deployed = Deployed.of(model)
        self.spec = self.deployed.spec
        self.problem = self.deployed.problem()
        self.lowered = lower(self.deployed.exported.graph, self.deployed.exported.tensors)
        self.domain_box = self._domain(domain)
        self.domain = (
            NO_INPUT if self.spec.input_shape is None
            else ALL_INPUTS if self.domain_box is None else box_json("input", self.domain_box)
        )  # fmt: skip
        self.region = ALL_STATES if region is None else box_json("state", region.expand((self.spec.state_size,)))
        self.operator = operator_json(self.spec)
        self.builder = CertificateBuilder(self.deployed.exported.graph, self.deployed.weights, self.problem.unused)
        self.attempts: list[Attempt] = []
        self.claims: dict[str, ClaimResult] = {}
        self.contraction: Derivation | None = None
        self.convergence: Derivation | None = None
        self.posed: Attempt | None = None

    def _domain(self, given: Box | None) -> Box | None:
        if given is not None and self.spec.input_shape is None:
            raise ValueError("expected no domain for a model without input")
        domain = self.spec.domain
        if given is not None:
            given = given.expand(self.spec.input_shape or ())
            domain = given if domain is None else domain.intersect(given)
        return domain

    # global facts

    def prove_global(
        self, norm: str, provers: Sequence[str] | None, deadline: float, progress: Progress | None
    ) -> None:
        """Contraction, exactly one fixed point, and convergence of the model's iteration, as far as they hold."""
        attempts = norms.contraction_attempts(self.problem, self.domain, self.region, norm, provers)
        for done, attempt in enumerate(attempts, 1):
            self.attempts.append(attempt)
            if progress is not None:
                progress(done, len(norms.PROVERS), f"{attempt.prover} {attempt.norm}")
            if time.monotonic() > deadline:
                break
        best = norms.best(self.attempts)
        if best is not None and best.derivation is not None:
            self._from_contraction(best.derivation)
        if "exactly_one" not in self.claims or not self.claims["exactly_one"] or self.convergence is None:
            self._from_well_posedness()
        reason = "no norm was found in which the step contracts (see the trials)"
        for name in ("contraction", "exactly_one", *(() if self.operator == "implicit" else ("convergence",))):
            self.claims.setdefault(name, ClaimResult(name, UNKNOWN, reason=reason))

    def _prove(self, name: str, derivation: Derivation, **fields: Any) -> None:
        """File a proved claim under its name (the first word of which is the kernel's)."""
        self.builder.claim(self.builder.add(derivation), name.split()[0], **fields)
        self.claims[name] = ClaimResult(name, PROVED)

    def _from_contraction(self, contraction: Derivation) -> None:
        norm: Json = contraction.steps[-1]["norm"]
        operator: object = "picard"
        if isinstance(self.operator, dict):
            damped = contraction.then("damping", alpha=self.operator["outer_damped"])
            try:
                self.problem.conclude(damped)
                contraction, operator = damped, self.operator
            except CheckError as error:  # an ℓ2 group with several factors: say so, and prove what holds for Picard
                self.claims["convergence"] = ClaimResult("convergence", UNKNOWN, reason=str(error))
        concluded = self.problem.conclude_as(contraction, Contraction)
        self.contraction = contraction
        common = {"operator": operator, "domain": self.domain, "norm": norm, "rate": dyadic(concluded.rate)}
        self._prove("contraction", contraction, region=self.region, **common)
        premises, joined = self._with_invariance(contraction, operator)
        if premises is None:
            self._prove("at_most_one", contraction.then("at_most_one"), domain=self.domain, region=self.region)
            return
        self._prove("exactly_one", joined.then("exactly_one", premises), domain=self.domain, region=self.region)
        if "convergence" in self.claims or self.operator == "implicit":
            return
        start, convergence = self._start(joined, premises)
        self.convergence = convergence
        fields = {**common, "start": start, "constant": {"exp": 0, "int": "1"}, "epsilon": None, "steps": None}
        self._prove("convergence", convergence, **fields)
        self._claim_steps(convergence, fields)

    def _with_invariance(self, contraction: Derivation, operator: object) -> tuple[list[int] | None, Derivation]:
        """Premises for Banach's theorem: the contraction, and an invariant set when the region is a box."""
        if self.region == ALL_STATES:
            return [len(contraction.steps) - 1], contraction
        bounds = spectral_bounds(self.problem, self.domain)
        guess = self.fixed_points(self._centre_input(), 2000)[0]
        invariant, reason = prove_invariant(
            self.problem, contraction, self.domain, self.region, operator, bounds, guess
        )
        if invariant is None:
            for name in ("exactly_one", "convergence"):
                self.claims[name] = ClaimResult(
                    name, UNKNOWN, reason=f"the region was not shown to be invariant: {reason}"
                )
            return None, contraction
        joined, first, last = contraction.join(invariant)
        if invariant.steps[-1]["rule"] != "invariant_ball":
            self._prove("invariant", invariant, operator=operator, domain=self.domain, region=self.region)
        return [first, last], joined

    def _start(self, joined: Derivation, premises: list[int]) -> tuple[Json, Derivation]:
        """Where convergence starts: the whole invariant set if it is a box, else init(X), else the ball's centre."""
        last = joined.steps[-1]
        if last["rule"] != "invariant_ball":
            return self.region, joined.then("convergence", premises, start=self.region)
        centre: Json = {"space": "state", "point": last["center"]}
        initial = initial_state(self.problem.graph, self.problem.box(self.domain))
        if initial.bounded:
            start = state_json(initial)
            try:
                derivation = joined.then("convergence", premises, start=start)
                self.problem.conclude(derivation)
                return start, derivation
            except CheckError:  # init(X) lies outside the ball
                pass
        return centre, joined.then("convergence", premises, start=centre)

    def initial_bound(self) -> Convergence | None:
        """Convergence from init over the whole domain with a bound on the initial error, when the domain is bounded."""
        bounded = None if self.convergence is None else self._initial_bound(self.convergence, self.domain)
        return None if bounded is None else self.problem.conclude_as(bounded, Convergence)

    @property
    def converging(self) -> Convergence | None:
        """The proved convergence of the model's iteration."""
        return None if self.convergence is None else self.problem.conclude_as(self.convergence, Convergence)

    def _claim_steps(self, convergence: Derivation, fields: Json) -> None:
        """K(ε) from init, when the domain is bounded."""
        bounded = self._initial_bound(convergence, self.domain)
        if bounded is None:
            return
        concluded = self.problem.conclude_as(bounded, Convergence)
        epsilon = DEFAULT_EPSILON
        steps = steps_to(concluded, epsilon)
        if steps is not None:
            self.builder.claim(
                self.builder.add(bounded), "convergence",
                **{**fields, "start": "init", "epsilon": dyadic(epsilon), "steps": steps},
            )  # fmt: skip

    def _initial_bound(self, convergence: Derivation, domain: Json) -> Derivation | None:
        if "all" in domain:
            return None
        zeros = {"exp": 0, "int": " ".join(["0"] * self.spec.state_size)}
        bounded = convergence.then("initial_bound", domain=domain, center=zeros)
        try:
            self.problem.conclude(bounded)
        except CheckError:
            return None
        return bounded

    def _from_well_posedness(self) -> None:
        """R4, for implicit models and for steps that contract in no norm."""
        for prove in (wellposed.prove_log_norm, wellposed.prove_monotone):
            attempt = prove(self.problem, self.domain)
            self.attempts.append(attempt)
            if attempt.derivation is None:
                continue
            if not self.claims.get("exactly_one"):
                self._prove("exactly_one", attempt.derivation, domain=self.domain, region=ALL_STATES)
            own = self.operator["outer_damped"] if isinstance(self.operator, dict) else None
            converging = wellposed.prove_convergence(self.problem, self.domain, attempt, own)
            if converging.derivation is None or converging.rate is None:
                return
            concluded = self.problem.conclude_as(converging.derivation, Convergence)
            name = "convergence" if own is not None else f"convergence of {concluded.operator}"
            if own is not None:
                self.convergence = converging.derivation
            alpha = converging.derivation.steps[-1]["alpha"]
            self._prove(
                name, converging.derivation,
                operator={"outer_damped" if attempt.prover == "log_norm" else "inner_damped": alpha},
                domain=self.domain, start=ALL_STATES, norm=norm_json(concluded, self.problem.graph.size),
                constant={"exp": 0, "int": "1"}, rate=dyadic(concluded.rate), epsilon=None, steps=None,
            )  # fmt: skip
            return

    def certify(self, extra: Callable[[CertificateBuilder], None] | None = None) -> tuple[Certificate, Valid]:
        """The certificate of what was proved (and of `extra` claims), accepted by the kernel.

        Raises:
            CheckError: the kernel rejects it, which is a defect of this library.
        """
        builder = self.builder.copy()
        if extra is not None:
            extra(builder)
        certificate = builder.build()
        return certificate, kernel_check(certificate.to_bytes(), self.deployed.weights)

    # inputs

    def _centre_input(self) -> torch.Tensor | None:
        if self.spec.input_shape is None:
            return None
        if self.spec.vocabulary is not None or self.domain_box is None:
            return torch.zeros(1, *self.spec.input_shape, dtype=torch.float64)
        return torch.from_numpy(np.asarray(self.domain_box.center(), dtype=np.float64)).reshape(
            1, *self.spec.input_shape
        )

    def fixed_points(self, x: torch.Tensor | None, iterations: int = 20000) -> np.ndarray:
        """Approximate fixed points by iterating in float64, flattened. Shape: (batch, n)."""
        parts = self.lowered.init(x)
        alpha: torch.Tensor | float = 1.0
        if isinstance(self.spec.iteration, Damped):
            alpha = torch.tensor([float(a) for a in self.spec.iteration.alpha], dtype=torch.float64)
        flat = _flat(parts)
        for _ in range(iterations):
            after = alpha * _flat(self.lowered.step(self._parts(flat), x)) + (1 - alpha) * flat
            moved = float((after - flat).abs().max())
            flat = after
            if not moved > 1e-15 * (1 + float(flat.abs().max())):
                break
        found: np.ndarray = np.nan_to_num(flat.numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        return found

    def trace(self, x: torch.Tensor | None, steps: int) -> np.ndarray:
        """The model's own iterates in its own floating point, flattened, as doubles. Shape: (steps + 1, n)."""
        like = next((p for p in self.deployed.model.parameters() if p.is_floating_point()), None)
        dtype = torch.get_default_dtype() if like is None else like.dtype
        batch = None
        if x is not None:
            batch = x[None] if self.spec.vocabulary is not None else x[None].to(dtype)
            if like is not None:
                batch = batch.to(like.device)
        with torch.no_grad():
            own = getattr(self.deployed.model, "trace", None)  # a model may bring its own solver
            run = partial(recursive_trace, self.deployed.model) if own is None else own
            states = run(batch, steps)
        return torch.cat([flatten_state(z).double().cpu() for z in states]).numpy()

    def _parts(self, flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        split = torch.split(flat, [int(np.prod(p)) for p in self.spec.parts], dim=1)
        return tuple(t.reshape(flat.shape[0], *part) for t, part in zip(split, self.spec.parts, strict=True))

    def labels(self, flat: np.ndarray) -> np.ndarray:
        """Arg-max per output position. Shape: (batch, n) to (batch, positions)."""
        logits = self.lowered.readout(self._parts(torch.from_numpy(flat)))
        return logits.argmax(dim=-1).reshape(len(flat), -1).numpy()

    @property
    def has_readout(self) -> bool:
        return self.problem.graph.readout is not None


def _flat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([p.reshape(p.shape[0], -1) for p in parts], dim=1).double()


def steps_to(convergence: Convergence, epsilon: Fraction, initial: Fraction | None = None) -> int | None:
    """The smallest K with C ρᴷ N0 c ≤ ε, c from the norm to plain ℓ∞; None above 10¹² or when N0 is unknown."""
    start = convergence.initial if initial is None else initial
    if start is None or epsilon <= 0:
        return None
    scale = convergence.constant * start * coordinate_scale(convergence.norm)

    def reached(k: int) -> bool:
        return power_up(convergence.rate, k) * scale <= epsilon

    if not reached(10**12):
        return None
    low, high = -1, 10**12
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
