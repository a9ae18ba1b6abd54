"""What the tests of the reporters and the sidecar share."""

import pytest

from scripts.benchmarks.cluster import free_address
from tierlb.model.address import parse_address


@pytest.fixture
def free_port():
    """A port that nobody listens on now, and none that is given to outgoing connections."""
    return parse_address(free_address()).port


@pytest.fixture
def autojump_clock(autojump_clock):
    """Time that jumps where nothing happens; on a real socket something may be about to."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock
