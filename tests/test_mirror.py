"""`tests/` mirrors `tierlb/`: whoever looks for what holds a module to its word finds it by the name."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "tierlb"


def has_code(module: Path) -> bool:
    """Whether the module defines a function; values and protocols are held to their word by those that use them."""
    tree = ast.parse(module.read_text())
    protocols = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and is_protocol(node)]
    promised = {id(node) for protocol in protocols for node in ast.walk(protocol)}
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(id(node) not in promised for node in functions)


def is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def mirror_of(module: Path) -> Path:
    return TESTS / module.relative_to(PACKAGE).parent / f"test_{module.stem}.py"


def test_every_module_with_code_has_its_test_file() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if has_code(path)]
    assert len(modules) > 20
    missing = [str(mirror_of(path).relative_to(TESTS.parent)) for path in modules if not mirror_of(path).is_file()]
    assert sorted(missing) == []
