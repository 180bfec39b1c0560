"""MNIST images as exact boxes, and the trained equilibrium models, from the folder given with --data."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

import trm_verify as tv

MEAN, STD = Fraction(1307, 10000), Fraction(3081, 10000)
LEVELS = 256
TOLERANCE = 1e-12  # of solutions in doubles, relative to the sizes in the equation


@dataclass(frozen=True, eq=False)
class Images:
    """The first images of the test set. Shape: pixels (count, 784), bytes; labels (count,)."""

    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, folder: Path, count: int) -> Images:
        pixels = _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784)
        return cls(pixels[:count], _idx(folder / "t10k-labels-idx1-ubyte.gz", 8)[:count].astype(int))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def normalised(self) -> Tensor:
        """The images as the models read them, in doubles. Shape: (count, 784)."""
        table = np.array([float(normalised(Fraction(level, LEVELS - 1))) for level in range(LEVELS)])
        return torch.from_numpy(table[self.pixels])

    def ends(self, eps: str) -> tuple[Tensor, Tensor]:
        """The ends of every image's box, rounded to doubles. Shape: (count, 784) each."""
        low, high = (np.array([float(v) for v in side]) for side in _ends(eps))
        return torch.from_numpy(low[self.pixels]), torch.from_numpy(high[self.pixels])

    def box(self, index: int, eps: str) -> tv.Box:
        """The exact ball about one image, clipped to [0, 1] and then normalised."""
        low, high = _ends(eps)
        return tv.Box(*([side[p] for p in self.pixels[index]] for side in (low, high)))


def normalised(pixel: Fraction) -> Fraction:
    return (pixel - MEAN) / STD


def _ends(eps: str) -> tuple[list[Fraction], list[Fraction]]:
    """Both ends of the interval about each of the 256 grey levels."""
    radius, pixels = Fraction(eps), [Fraction(level, LEVELS - 1) for level in range(LEVELS)]
    low = [normalised(max(p - radius, Fraction(0))) for p in pixels]
    return low, [normalised(min(p + radius, Fraction(1))) for p in pixels]


def _idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


@dataclass(frozen=True, eq=False)
class Mondeq:
    """A trained monotone equilibrium model: as it is stored, and widened to doubles for everything that only samples.

    Attributes:
        digest: SHA-256 of its file.
    """

    name: str
    model: tv.models.MonotoneEquilibrium
    wide: tv.models.MonotoneEquilibrium
    digest: str

    @classmethod
    def load(cls, folder: Path, name: str) -> Mondeq:
        raw = (folder / f"mnist_{name}.safetensors").read_bytes()
        tensors = load(raw)
        m = float(tensors.pop("m"))
        build = tv.models.MonotoneEquilibrium.from_tensors
        wide = build(**{key: value.double() for key, value in tensors.items()}, m=m)
        return cls(name, build(**tensors, m=m), wide, hashlib.sha256(raw).hexdigest())

    @cached_property
    def matrix(self) -> Tensor:
        """W in doubles."""
        return self.wide.matrix(self.wide.b)

    def states(self, x: Tensor) -> Tensor:
        """Fixed points in doubles. Shape: (batch, 784) to (batch, state)."""
        with torch.no_grad():
            return self.wide.solve(x, TOLERANCE)

    def answers(self, x: Tensor) -> np.ndarray:
        """What the model as it is stored answers, in float32. Shape: (batch, 784) to (batch,)."""
        with torch.no_grad():
            return self.model.logits(x.float()).argmax(dim=1).numpy()
