"""What is tested is what was meant: the source, or after `scripts/test --compiled` the modules that were compiled."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.builds import TESTED

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tierlb"]


@pytest.mark.parametrize("module", SETTINGS["compiled"])
def test_each_module_of_the_hot_path_is_of_the_build_that_is_tested(module: str) -> None:
    file = importlib.import_module(module).__file__
    assert file is not None
    assert ("pure" if file.endswith(".py") else "compiled") == TESTED


def test_processes_that_tests_start_here_are_of_that_build() -> None:
    command = [sys.executable, "-m", "tierlb", "--version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"({TESTED})" in said


@pytest.mark.skipif(TESTED == "pure", reason="there is no other build of the source that could be tested by mistake")
def test_the_source_is_refused_where_the_compiled_modules_are_to_be_tested() -> None:
    command = [sys.executable, "-m", "pytest", "-o", "pythonpath=.", "-q", "tests/test_build.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "to test the compiled build, but imports the pure one" in done.stderr
