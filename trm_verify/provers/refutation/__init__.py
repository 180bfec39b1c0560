"""Refutations: second fixed points, cycles, expanding pairs, searched in doubles and proved by the kernel."""
