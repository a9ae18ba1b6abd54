"""What mypyc asks of the modules that are compiled, and of tests that touch them, found without a compiler.

CONTRIBUTING.md has the rules. What only the compiler or a run of compiled code finds is left to
`scripts/test --compiled`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tierlb"]["compiled"]
IMPORTS = re.compile("from ({}) import".format("|".join({*COMPILED, *(each.rpartition(".")[0] for each in COMPILED)})))
NO_IDENTITY = {"NEVER"}
"""Floats, which compiled code makes anew."""
NOT_NATIVE = {"Protocol", "Enum", "IntEnum", "NamedTuple", "TypedDict", "Exception", "ValueError", "OSError"}
"""Classes with these bases stay classes of Python, which Python may subclass."""


def file_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def files_with(text: str, folder: str) -> list[Path]:
    """Those that import from a compiled module and have this text."""
    read = [(file, file.read_text(encoding="utf-8")) for file in (ROOT / folder).rglob("*.py")]
    return [file for file, source in read if text in source and IMPORTS.search(source)]


@cache
def classes_of(module: str) -> dict[str, ast.ClassDef]:
    return {each.name: each for each in tree_of(file_of(module)).body if isinstance(each, ast.ClassDef)}


def imported(tree: ast.Module) -> dict[str, str]:
    """What the names of a module's imports stand for."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def bases_of(owner: ast.ClassDef) -> list[str]:
    """Their names, without Generic."""
    written = [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in owner.bases]
    return [name for name in written if name != "Generic"]


def is_native(owner: ast.ClassDef) -> bool:
    decorated = any("attrs" in ast.unparse(each) or "dataclass" in ast.unparse(each) for each in owner.decorator_list)
    return not decorated and not any(base.rpartition(".")[2] in NOT_NATIVE for base in bases_of(owner))


def may_be_subclassed(owner: ast.ClassDef) -> bool:
    return any("allow_interpreted_subclasses=True" in ast.unparse(each) for each in owner.decorator_list)


def constants_and_functions_of(module: str) -> set[str]:
    """Names of a module that compiled code does not look up when it runs."""
    body = tree_of(file_of(module)).body
    functions = {each.name for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
    return functions | {
        each.target.id
        for each in body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and ast.unparse(each.annotation).startswith("Final")
    }


def test_the_list_is_in_order_and_names_what_there_is() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert [module for module in COMPILED if not file_of(module).exists()] == []


@pytest.mark.parametrize("module", COMPILED)
def test_its_classes_have_one_base_and_no_fields_of_attrs(module: str) -> None:
    for owner in classes_of(module).values():
        assert len(bases_of(owner)) <= 1 or "Protocol" in bases_of(owner), owner.name
        fields = [each for each in owner.body if "attrs.field(" in ast.unparse(each).split("\n")[0]]
        assert not fields, f"{owner.name}: a plain class with annotations, or a default"


@pytest.mark.parametrize("module", COMPILED)
def test_its_floats_are_compared_by_value(module: str) -> None:
    for node in ast.walk(tree_of(file_of(module))):
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Is | ast.IsNot) for each in node.ops):
            assert not NO_IDENTITY & {ast.unparse(each) for each in node.comparators}, ast.unparse(node)


def jumps_in(body: list[ast.stmt]) -> Iterator[int]:
    """The lines of `break` and `continue` that belong to a loop around these statements."""
    for node in body:
        if isinstance(node, ast.Break | ast.Continue):
            yield node.lineno
        elif not isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef):
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from jumps_in(getattr(node, part, []))


@pytest.mark.parametrize("module", COMPILED)
def test_it_leaves_no_block_with_a_clean_up_by_break_or_continue(module: str) -> None:
    """mypyc has not got that; `return` is possible."""
    for node in ast.walk(tree_of(file_of(module))):
        if isinstance(node, ast.With) or (isinstance(node, ast.Try) and node.finalbody):
            assert list(jumps_in(node.body)) == [], f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", COMPILED)
def test_its_loops_go_backwards_through_slices_or_new_lists(module: str) -> None:
    """mypyc fails on `reversed` of a list whose items are Any, and what the items are cannot be seen here."""
    for node in ast.walk(tree_of(file_of(module))):
        if isinstance(node, ast.For) and ast.unparse(node.iter).startswith("reversed("):
            assert ast.unparse(node.iter).startswith("reversed(list("), f"{module}:{node.lineno}: use items[::-1]"


@pytest.mark.parametrize("module", COMPILED)
def test_its_functions_give_exceptions_of_two_types_two_names(module: str) -> None:
    """A name has the type that comes first, and the second exception would raise TypeError."""
    for function in ast.walk(tree_of(file_of(module))):
        if isinstance(function, ast.FunctionDef):
            named: dict[str, set[str]] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    named.setdefault(node.name, set()).add(ast.unparse(node.type))
            assert all(len(types) == 1 for types in named.values()), f"{module}:{function.lineno}: {named}"


def interpreted_subclasses() -> Iterator[tuple[str, str]]:
    """The places of classes in Python, and the compiled classes that they extend."""
    compiled = {file_of(module) for module in COMPILED}
    for file in [*files_with("class ", "tierlb"), *files_with("class ", "tests"), *files_with("class ", "scripts")]:
        if file in compiled:
            continue
        tree = tree_of(file)
        names = imported(tree)
        for owner in ast.walk(tree):
            if isinstance(owner, ast.ClassDef):
                for base in bases_of(owner):
                    first, _, rest = base.partition(".")
                    full = names.get(first, first) + (f".{rest}" if rest else "")
                    module, _, name = full.rpartition(".")
                    if module in COMPILED and name in classes_of(module):
                        yield f"{file.relative_to(ROOT)}:{owner.lineno} {owner.name}", full


def test_compiled_classes_say_so_where_python_subclasses_them() -> None:
    found = list(interpreted_subclasses())
    assert found
    for place, full in found:
        module, _, name = full.rpartition(".")
        base = classes_of(module)[name]
        assert not is_native(base) or may_be_subclassed(base), f"{place}: {full} needs @mypyc_attr, or compile this"


def patches(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """What a test's `setattr(module, "name", …)` replaces."""
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            owner, name = node.args[0], node.args[1]
            if isinstance(owner, ast.Name) and isinstance(name, ast.Constant):
                yield names.get(owner.id, owner.id), str(name.value), node.lineno


def is_looked_up(module: str, name: str) -> bool:
    """Whether compiled code finds the name in the module each time that it uses it."""
    home, _, original = imported(tree_of(file_of(module))).get(name, f"{module}.{name}").rpartition(".")
    return home not in COMPILED or original not in constants_and_functions_of(home)


def test_tests_replace_nothing_that_compiled_code_does_not_look_up() -> None:
    for file in files_with("setattr", "tests"):
        for owner, name, line in patches(tree_of(file)):
            if owner in COMPILED:
                assert is_looked_up(owner, name), f"{file.relative_to(ROOT)}:{line}: inject {name}"
