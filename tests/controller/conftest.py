"""The control plane's values and fixtures (tests/control_plane.py) for the tests of this folder."""

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
