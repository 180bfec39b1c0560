"""Builds certificates for the tests of the kernel: a `Sheet` is one statement in the making.

Everything goes through the public `check`. A sheet without claims is refused as EMPTY once all its steps are accepted,
so `Sheet.code()` is the code of the first thing wrong, and EMPTY says that nothing else was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.kernel.graphs import Json, Nodes, dyadic, vector
from trm_verify.kernel.check import Valid, check
from trm_verify.kernel.errors import CheckError
from trm_verify.kernel.graph import Graph, parse
from trm_verify.kernel.weights import Weights

ACCEPTED = "EMPTY"  # what a sheet without claims is refused for when every step holds


def graph_json(
    step: Json,
    state: Sequence[Sequence[int]] = ((1,),),
    given: Json | None = None,
    init: Json | None = None,
    readout: Json | None = None,
) -> Json:
    return {"state": [list(s) for s in state], "input": given, "step": step, "init": init, "readout": readout}


def real(*shape: int) -> Json:
    return {"shape": list(shape), "kind": "real"}


def weights_file(tensors: dict[str, Any] | None = None) -> bytes:
    return save(tensors or {})


def kernel_graph(raw: Json, tensors: dict[str, Any] | None = None) -> Graph:
    """The kernel's own parse of a graph."""
    return parse(raw, Weights(weights_file(tensors)))


class Sheet:
    """One statement in the making."""

    def __init__(self, graph: Json, tensors: dict[str, Any] | None = None) -> None:
        self.graph, self.weights = graph, weights_file(tensors)
        self.boxes: list[Json] = []
        self.norms: list[Json] = []
        self.steps: list[Json] = []
        self.claims: list[Json] = []
        self.unused: list[str] = []

    @staticmethod
    def _index(table: list[Json], entry: Json) -> int:
        if entry not in table:
            table.append(entry)
        return table.index(entry)

    def all(self, space: str = "state") -> int:
        return self._index(self.boxes, {"space": space, "all": True})

    def point(self, *values: Any, space: str = "input") -> int:
        return self._index(self.boxes, {"space": space, "point": vector(values)})

    def box(self, lo: Any, hi: Any, space: str = "state") -> int:
        return self._index(
            self.boxes, {"space": space, "lo": vector(np.atleast_1d(lo)), "hi": vector(np.atleast_1d(hi))}
        )

    def block(self, *weights: Any, runs: Sequence[Sequence[int]] | None = None) -> int:
        runs = [[len(weights), 1]] if runs is None else [list(r) for r in runs]
        return self._index(self.norms, {"kind": "block", "runs": runs, "weights": vector(weights)})

    def l2(self, n: int, weight: Any = 1) -> int:
        return self.block(weight, runs=[[1, n]])

    def metric(self, matrix: Any, floor: Any) -> int:
        return self._index(self.norms, {"kind": "metric", "matrix": vector(matrix), "floor": dyadic(floor)})

    def step(self, rule: str, *premises: int, **witness: Any) -> int:
        self.steps.append({"rule": rule, "premises": list(premises), **witness})
        return len(self.steps) - 1

    def claim(self, step: int, name: str, **fields: Any) -> Sheet:
        self.claims.append({"step": step, "claim": name, **fields})
        return self

    def statement(self) -> bytes:
        subject = [{"name": "model.safetensors", "digest": {"sha256": hashlib.sha256(self.weights).hexdigest()}}]
        predicate = {
            "semantics": "real",
            "graph": self.graph,
            "unused": self.unused,
            "boxes": self.boxes,
            "norms": self.norms,
            "steps": self.steps,
            "claims": self.claims,
            "produced_by": {"name": "tests", "version": "0"},
        }
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subject,
            "predicateType": "https://trm-verify.dev/certificate/v1",
            "predicate": predicate,
        }
        return json.dumps(statement).encode()

    def check(self) -> Valid:
        return check(self.statement(), self.weights)

    def refused(self) -> CheckError:
        with pytest.raises(CheckError) as caught:
            self.check()
        return caught.value

    def code(self) -> str:
        return self.refused().code

    def verdict(self) -> str:
        """The code, or ACCEPTED for a valid certificate with claims."""
        try:
            self.check()
        except CheckError as error:
            return error.code
        return ACCEPTED

    # the steps that most tests start from

    def contraction(self, rate: Any, norm: int, region: int | None = None, domain: int | None = None) -> int:
        """A `radius_contraction` step on the whole space and the single (empty) input, unless told otherwise."""
        return self.step(
            "radius_contraction",
            domain=self.point() if domain is None else domain,
            region=self.all() if region is None else region,
            norm=norm,
            rate=dyadic(rate),
        )

    def claim_contraction(
        self,
        step: int,
        rate: Any,
        norm: int,
        region: int | None = None,
        domain: int | None = None,
        operator: Any = "picard",
    ) -> Sheet:
        return self.claim(
            step,
            "contraction",
            operator=operator,
            domain=self.point() if domain is None else domain,
            region=self.all() if region is None else region,
            norm=norm,
            rate=dyadic(rate),
        )


def linear_step(matrix: Any, bias: Any = None, activation: str | None = None, given: bool = False) -> Json:
    """z ↦ φ(Wz + b (+ x)) with literal constants. Node 1 is W."""
    nodes = Nodes()
    matrix = np.asarray(matrix, dtype=object)
    out = nodes.add("linear", nodes.state(), nodes.constant(matrix))
    if bias is not None:
        out = nodes.add("add", out, nodes.constant(np.asarray(bias, dtype=object)))
    if given:
        out = nodes.add("add", out, nodes.add("input"))
    if activation:
        out = nodes.add(activation, out)
    return nodes.function(out)


def linear_model(matrix: Any, bias: Any = None, activation: str | None = None, **rest: Any) -> Json:
    """The model of `linear_step`; its state is one vector."""
    n = len(matrix)
    given = rest.pop("given", None)
    return graph_json(linear_step(matrix, bias, activation, given is not None), [[n]], given, **rest)


def identity_readout(n: int) -> Json:
    nodes = Nodes()
    return nodes.function(nodes.scale(nodes.state(), 1))


def factor_of(matrix: Any, bits: int = 48) -> Json:
    """The factor R of a positive definite M with M − RᵀR about half the least eigenvalue times the identity."""
    m = np.array(matrix, dtype=float)
    r = np.linalg.cholesky(m - np.linalg.eigvalsh(m)[0] / 2 * np.eye(len(m))).T
    return vector([Fraction(round(float(r[i, j]) * 2**bits), 2**bits) for i in range(len(m)) for j in range(i, len(m))])


def zero_factor(n: int) -> Json:
    return vector([0] * (n * (n + 1) // 2))
