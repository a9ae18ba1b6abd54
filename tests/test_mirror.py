"""`tests/` mirrors `tierlb/`: whoever looks for what holds a module to its word finds it by the name."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "tierlb"


def has_code(module: Path) -> bool:
    """Whether the module defines a function; values and constants are held to their word by those that use them."""
    tree = ast.parse(module.read_text())
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def mirror_of(module: Path) -> Path:
    return TESTS / module.relative_to(PACKAGE).parent / f"test_{module.stem}.py"


def test_every_module_with_code_has_its_test_file() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if has_code(path)]
    assert len(modules) > 20
    missing = [str(mirror_of(path).relative_to(TESTS.parent)) for path in modules if not mirror_of(path).is_file()]
    assert sorted(missing) == []
