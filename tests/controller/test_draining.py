"""What a change waits for while nodes drain, in words."""

import attrs
import pytest

from tierlb.controller.draining import under_way, waiting_for
from tierlb.model.load import NodeLoad
from tierlb.model.topology import Kind

IDLE = NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0)


def load(connections=0, in_flight=0, tunnels=0):
    return attrs.evolve(IDLE, connections=connections, in_flight=in_flight, tunnels=tunnels)


@pytest.mark.parametrize(
    ("kind", "found", "said"),
    [
        (Kind.L7, load(5, 4, 1), "3 requests and 1 tunnel"),
        (Kind.L7, load(5, 2, 2), "2 tunnels"),
        (Kind.L7, load(5, 1), "1 request"),
        (Kind.L7, load(5), ""),
        (Kind.L4, load(1, 1), "1 connection"),
        (Kind.L4, IDLE, ""),
    ],
)
def test_what_is_under_way_is_counted(kind, found, said):
    assert under_way(kind, found) == said


def test_the_nodes_that_have_something_are_named():
    nodes = [("web-2", Kind.L7, load(3, 3, 1)), ("web-3", Kind.L7, IDLE), ("edge-2", Kind.L4, load(2))]
    assert waiting_for(nodes) == "2 requests and 1 tunnel on web-2, 2 connections on edge-2"
    assert waiting_for(nodes[1:2]) == ""
