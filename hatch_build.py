"""Puts the kernel's zipapp into the wheel, built from the sources that the wheel holds."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelArchiveHook(BuildHookInterface[Any]):
    """Adds `trm_verify/trm_kernel.pyz`; an editable installation builds its own when asked."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the archive in a temporary directory and includes it."""
        if version == "editable":
            return
        # Loaded by path: the package itself is not installed in the build environment.
        source = Path(self.root, "trm_verify", "archive.py")
        spec = importlib.util.spec_from_file_location("trm_verify_archive", source)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"expected a Python module at {source}, found none; build from a full checkout")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._directory = tempfile.TemporaryDirectory()
        archive = module.build(Path(self._directory.name, module.NAME))
        build_data["force_include"][str(archive)] = f"trm_verify/{module.NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the temporary directory."""
        if version != "editable":
            self._directory.cleanup()
