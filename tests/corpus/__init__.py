"""Golden certificates and refusals. Importing any module fills both registers, always in the same order."""

import tests.corpus.registers  # noqa: F401
