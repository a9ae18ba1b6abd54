"""What the tests of the reporters and the sidecar share."""

import socket

import pytest


@pytest.fixture
def free_port():
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
