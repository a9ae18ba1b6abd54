"""What holds for every test, and the fixtures that several folders share."""

import signal

from hypothesis import HealthCheck, settings

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
settings.load_profile("any-machine")


def pytest_configure() -> None:
    """Let SIGINT mean Ctrl-C, here and in processes that tests start: a shell's background jobs are born deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
