"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# A test that takes long on a busy machine is not wrong; where speed matters a test measures processor time.
settings.register_profile("trm_verify", deadline=None)
settings.load_profile("trm_verify")
