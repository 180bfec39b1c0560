"""A second opinion: the side conditions of a certificate as SMT-LIB 2 scripts, for any solver (docs/obligations.md)."""

from __future__ import annotations

from trm_verify.obligations.export import EXPORTED, NO_ARITHMETIC, NOT_EXPORTED, Obligation, Obligations, export

__all__ = ["EXPORTED", "NOT_EXPORTED", "NO_ARITHMETIC", "Obligation", "Obligations", "export"]
