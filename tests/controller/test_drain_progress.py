"""What a change waits for while nodes drain, in words."""

import attrs
import pytest
import trio

from tests.controller.played import ANN, texts
from tierlb.controller.drain_progress import under_way, waiting_for
from tierlb.model.load import NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Kind
from tierlb.topology.edit import Scale

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


async def test_a_change_says_what_it_waits_for_while_nodes_drain(site, autojump_clock):
    site.machines.drain_s = 20.0
    progress = await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")
    while not any(line.startswith("stopping") for line in texts(progress)):  # noqa: ASYNC110 (virtual time)
        await trio.sleep(0.1)
    own = NodeLoad(4, 4, 9, 0, 0, 0, 0, 0.0, tunnels=1)
    site.changes.controller.observer.note_rows([NodeRow("web-2", "web", 0.0, own, SubtreeLoad())])
    assert await site.over(progress) == "done"
    (said,) = [line for line in texts(progress) if line.startswith("waiting for")]
    assert said == "waiting for 3 requests and 1 tunnel on web-2, 27 s left"


async def test_a_change_goes_on_if_it_cannot_be_said_what_drains(site, autojump_clock, monkeypatch):
    def fail(found):
        raise ZeroDivisionError

    monkeypatch.setattr("tierlb.controller.drain_progress.waiting_for", fail)
    site.machines.drain_s = 20.0
    assert await site.over(await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")) == "done"
    assert site.changes.controller.errors.counts == {"words about what drains": 1}
