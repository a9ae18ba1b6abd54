"""What is imported for the version of a library, in processes of their own."""

import importlib.metadata
import subprocess
import sys

import pytest

from tierlb.net.brief_imports import version_of

WHOLE = """
import sys
import tierlb.net.websocket
assert "trio_websocket" in sys.modules
assert "email.message" not in sys.modules and "zipfile" not in sys.modules, "what is not needed"
import importlib.metadata
assert importlib.metadata.distribution("trio").version == importlib.metadata.version("trio")
"""
FIRST = """
import importlib.metadata
import sys
before = sys.modules["importlib.metadata"]
from tierlb.net.brief_imports import versions_only
with versions_only():
    from importlib.metadata import distribution
assert sys.modules["importlib.metadata"] is before
"""


@pytest.mark.parametrize("program", [WHOLE, FIRST], ids=["afterwards all is there", "what is there stays"])
def test_a_library_that_asks_for_a_version_does_not_import_all_that_reads_packages(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert version_of("trio") == importlib.metadata.version("trio")
    with pytest.raises(AttributeError):
        version_of("json.scanner")


def test_a_library_that_fails_leaves_the_whole_module() -> None:
    program = """
import sys
from tierlb.net.brief_imports import versions_only
try:
    with versions_only():
        raise ImportError
except ImportError:
    pass
assert "importlib.metadata" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
