"""What holds for every test, and the fixtures that several folders share."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.builds import mistaken
from tests.control_plane import (
    controller,
    declined,
    etcd,
    log,
    make_plane,
    plane,
    relay,
    server,
    shop_with_agents,
    topology,
)

__all__ = (
    "controller",
    "declined",
    "etcd",
    "log",
    "make_plane",
    "plane",
    "relay",
    "server",
    "shop_with_agents",
    "topology",
)

settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("brief", settings.get_profile("any-machine"), max_examples=20)
settings.load_profile("any-machine")


def pytest_configure() -> None:
    """Refuse to test another build than is meant, and let SIGINT mean Ctrl-C, here and in processes that tests start: a
    shell's background jobs are born deaf to it."""
    if mistake := mistaken():
        raise pytest.UsageError(mistake)
    signal.signal(signal.SIGINT, signal.default_int_handler)
