"""Contraction and well-posedness: one rate in a norm, for all states (R1–R4)."""
