"""Imports of libraries without what these import only to look up a version.

`importlib.metadata` imports `email` and `zipfile`: 1.2 MiB of each process, for one comparison of versions.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

METADATA: Final = "importlib.metadata"


@contextmanager
def versions_only() -> Iterator[None]:
    """What is imported in this block finds an `importlib.metadata` that has nothing but `version`, unless the whole one
    was imported already."""
    if METADATA in sys.modules:
        yield
        return
    brief = ModuleType(METADATA)
    brief.__dict__["version"] = version_of
    sys.modules[METADATA] = brief
    try:
        yield
    finally:
        del sys.modules[METADATA]


def version_of(package: str) -> str:
    """The version that the package states itself. Raises AttributeError if it states none."""
    return str(importlib.import_module(package).__version__)
