"""What tierlb imports comes with it: an installation without extras is all that an image has."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [\n")[2].partition("\n]")[0].splitlines()
REQUIRED = {line.partition(">=")[0] for line in PROJECT["dependencies"]}
OWN = {"tierlb", *sys.stdlib_module_names}


def imported(file: Path) -> set[str]:
    """The top-level modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def distributions(modules: set[str]) -> set[str]:
    known = packages_distributions()
    return {known[module][0].lower().replace("_", "-") for module in modules}


@pytest.mark.parametrize("part", sorted(path.name for path in (ROOT / "tierlb").iterdir() if path.is_dir()))
def test_all_that_is_imported_is_required(part: str) -> None:
    modules = {name for file in (ROOT / "tierlb" / part).rglob("*.py") for name in imported(file)}
    assert distributions(modules - OWN) <= REQUIRED


def test_all_that_is_required_is_imported() -> None:
    modules = {name for file in (ROOT / "tierlb").rglob("*.py") for name in imported(file)}
    assert distributions(modules - OWN) >= REQUIRED


@pytest.mark.parametrize("line", LINES)
def test_each_library_is_listed_with_its_reason(line: str) -> None:
    assert len(line.partition("  # ")[2].strip()) > 10
