"""Nodes that meet."""

from pathlib import Path

import pytest

from tests.dataplane.conftest import Lab


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab
