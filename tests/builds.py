"""Which build of tierlb the tests are of: the source, or with `scripts/test --compiled` what `.venv-compiled` holds."""

import sys
from pathlib import Path

from tierlb.model.build import BUILD

TESTED = "compiled" if Path(sys.prefix).name == ".venv-compiled" else "pure"


def mistaken() -> str:
    """Why these tests would say nothing about that build; empty where they do."""
    if BUILD == TESTED:
        return ""
    return (
        f"{sys.executable} is to test the {TESTED} build, but imports the {BUILD} one: "
        "run ./scripts/test, or ./scripts/test --compiled, without PYTHONPATH"
    )
