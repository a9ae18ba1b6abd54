"""Builds wheels with machine code where TIERLB_COMPILE=1 says so; without it, and for editable installs, all is pure.

TIERLB_COMPILE=quick has the C compiler optimize nothing, which builds sooner: it is for tests.

`[tool.tierlb] compiled` in pyproject.toml lists the modules of the hot path. mypyc makes one group of them, so that
they call each other directly. `tierlb.net._io` is C. All are built in a temporary directory: a module's library beside
its source would hide later edits of the source. Both are in the wheel; Python prefers the library, and tracebacks quote
the source.
"""

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

C_MODULE = "tierlb/net/_io"
LEVELS = {"1": {}, "quick": {"opt_level": "0", "debug_level": "0"}}
"""What TIERLB_COMPILE may be, and how mypyc's defaults differ then."""


class CompiledModules(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling finds this class by its base."""

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling. mypy reads the types of what tierlb imports."""
        return [*self._settings["compilers"], *self.metadata.core.dependencies] if self._compiles else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is to be compiled, and have it in the wheel."""
        if not self._compiles or version == "editable":
            return
        self._directory = tempfile.TemporaryDirectory(prefix="tierlb-build-")
        for library in self._build(Path(self._directory.name)):
            build_data["force_include"][str(library)] = str(library.relative_to(self._directory.name))
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if hasattr(self, "_directory"):
            self._directory.cleanup()

    @property
    def _compiles(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("TIERLB_COMPILE") in LEVELS

    @property
    def _settings(self) -> dict[str, list[str]]:
        settings: dict[str, list[str]] = tomllib.loads(Path(self.root, "pyproject.toml").read_text())["tool"]["tierlb"]
        return settings

    def _build(self, directory: Path) -> list[Path]:
        from mypyc.build import mypycify
        from setuptools import Distribution, Extension

        paths = [f"{module.replace('.', '/')}.py" for module in self._settings["compiled"]]
        with tempfile.TemporaryDirectory() as generated:
            level = LEVELS[os.environ["TIERLB_COMPILE"]]
            extensions = mypycify(paths, group_name="tierlb", target_dir=generated, **level)
            extensions.append(Extension(C_MODULE.replace("/", "."), [f"{C_MODULE}.c"]))
            build = Distribution({"name": "tierlb", "ext_modules": extensions}).get_command_obj("build_ext")
            build.build_lib, build.build_temp = str(directory), generated
            build.ensure_finalized()
            build.run()
        return [Path(library) for library in build.get_outputs()]
