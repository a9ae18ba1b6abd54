"""Connections that go to nodes on the same machine as sockets, between real nodes."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.dataplane.conftest import INNER, Lab, below, l4, l7
from tests.dataplane.handing import FakeParent
from tierlb.dataplane.l4 import handoff
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Forwarding, Limits, Policy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKS = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """Whose nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path
    return lab


async def webs(lab: Lab, count: int, **options: Any) -> list[Any]:
    """L7 nodes before an endpoint that answers, as children of an edge."""
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    children = []
    for _ in range(count):
        at = await lab.serves(l7(endpoint, listener=INNER, **options))
        children.append(below(at, lab.plane.name))
    return children


async def stacked(lab: Lab, count: int = 1, web: dict[str, Any] | None = None, **options: Any) -> list[Any]:
    """The same, and the edge, which is served last and has met all of them."""
    children = await webs(lab, count, **web or {})
    await lab.serves(l4(*children, **options))
    await lab.until(lambda: lab.log.count("handoff_began") == 2 * count)
    return children


async def test_a_connection_is_the_childs_and_no_byte_passes_here(lab: Lab) -> None:
    await stacked(lab)
    client = await lab.connects()
    for _ in range(3):
        assert (await client.asks(ASKS)).body == b"ok"
    edge, web = lab.planes[1].load(), lab.planes[0].load()
    assert (edge.connections, edge.in_flight, edge.bytes_in, edge.bytes_out) == (1, 1, 0, 0)
    assert (web.connections, web.items) == (1, 3)
    assert edge.hosts[0].in_flight == 1
    assert len(lab.front.connections) == 0
    await client.leaves()
    await lab.until(lambda: lab.planes[1].load().connections == 0)
    edge = lab.planes[1].load()
    assert (edge.in_flight, edge.items, edge.hosts[0].in_flight, edge.hosts[0].done) == (0, 1, 0, 1)


@pytest.mark.parametrize("forward", [Forwarding.RELAY, Forwarding.AUTO])
async def test_the_tier_says_how_connections_get_to_a_host(lab: Lab, forward: Forwarding) -> None:
    children = await webs(lab, 1)
    await lab.serves(l4(*children, forward=forward))
    if forward is Forwarding.AUTO:
        await lab.until(lambda: lab.log.count("handoff_began") == 2)
    client = await lab.connects()
    assert (await client.asks(ASKS)).body == b"ok"
    relayed = len(lab.front.connections.relayed)
    assert (relayed, lab.front.counters.handed) == ((1, 0) if forward is Forwarding.RELAY else (0, 1))
    assert [host.way for host in lab.plane.load().hosts] == ["relay" if forward is Forwarding.RELAY else "handoff"]


@pytest.mark.parametrize("forward", [Forwarding.AUTO, Forwarding.HANDOFF])
async def test_what_another_network_lent_stays_here_unless_it_is_to_be_handed_on(lab: Lab, forward: Forwarding) -> None:
    children = await webs(lab, 1)
    await lab.serves(l4(*children, listener=INNER, forward=forward))
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    parent = await FakeParent.of(lab).is_welcome(b"that of another container")
    parent.gives(1)
    assert (await parent.given[1].asks(ASKS)).body == b"ok"
    assert (len(lab.front.connections.relayed), lab.front.counters.handed) == (
        (1, 0) if forward is Forwarding.AUTO else (0, 1)
    )
    parent.dies()
    if forward is Forwarding.AUTO:
        await parent.given[1].hears_end()


async def test_a_tier_that_is_to_relay_from_now_on_keeps_what_it_handed_over(lab: Lab) -> None:
    children = await stacked(lab)
    old = await lab.connects()
    assert (await old.asks(ASKS)).body == b"ok"
    lab.plane.apply(l4(*children, forward=Forwarding.RELAY, revision=2))
    new = await lab.connects()
    for client in (old, new):
        assert (await client.asks(ASKS)).body == b"ok"
    assert (len(lab.front.connections.relayed), lab.front.counters.handed) == (1, 1)
    await old.leaves()
    await lab.until(lambda: lab.front.counters.handed == 0)


async def test_a_tier_that_is_to_hand_over_again_does_though_what_it_handed_over_before_is_open(lab: Lab) -> None:
    children = await stacked(lab)
    old = await lab.connects()
    assert (await old.asks(ASKS)).body == b"ok"
    for revision, forward in enumerate((Forwarding.RELAY, Forwarding.AUTO, Forwarding.RELAY, Forwarding.HANDOFF), 2):
        lab.plane.apply(l4(*children, forward=forward, revision=revision))
    new = await lab.connects()
    for client in (old, new):
        assert (await client.asks(ASKS)).body == b"ok"
    assert (len(lab.front.connections.relayed), lab.front.counters.handed) == (0, 2)
    assert lab.log.count("handoff_began") == 2
    assert lab.plane.load().shortages == ()


async def test_a_child_that_cannot_be_met_gets_its_connections_in_another_way(lab: Lab) -> None:
    lab.meets_in, here = None, lab.meets_in
    children = await webs(lab, 1)
    lab.meets_in = here
    await lab.serves(l4(*children))
    client = await lab.connects()
    assert (await client.asks(ASKS)).body == b"ok"
    assert len(lab.front.connections.relayed) == 1


async def test_where_nothing_else_is_wanted_such_a_child_gets_none_and_the_log_says_why(lab: Lab) -> None:
    lab.meets_in, here = None, lab.meets_in
    children = await webs(lab, 1)
    lab.meets_in = here
    await lab.serves(l4(*children, forward=Forwarding.HANDOFF))
    await (await lab.connects()).hears_end()
    reason = "node-1 cannot be handed connections: it does not listen in the directory that --handoff names"
    assert lab.log.events[-1] == ("connection_dropped", {"reason": reason, "tried": ["node-1"]})
    assert lab.plane.load().hosts[0].availability == "available"
    assert lab.plane.load().shortages == (reason,)
    assert lab.plane.load().hosts[0].way == ""


async def test_a_node_without_a_directory_says_why(lab: Lab) -> None:
    lab.meets_in, lab.why_none = None, "the directory that --handoff names cannot be used (it is full)"
    children = await webs(lab, 1)
    await lab.serves(l4(*children, forward=Forwarding.HANDOFF))
    assert lab.plane.load().shortages == (f"node-1 cannot be handed connections: {lab.why_none}",)


async def test_a_child_that_can_be_met_later_is_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "LOOK_AGAIN_S", 0.0)
    lab.meets_in, here = None, lab.meets_in
    children = await webs(lab, 1)
    lab.meets_in = here
    await lab.serves(l4(*children))
    edge = lab.plane
    assert lab.log.count("handoff_began") == 0
    web = lab.planes[0]
    assert here is not None
    web.listening.handoffs.place = handoff.MeetingPlace(here)
    web.apply(attrs.evolve(web.serving.snapshot, revision=2))  # type: ignore[attr-defined]
    await lab.connects()
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    client = await lab.connects()
    assert (await client.asks(ASKS)).body == b"ok"
    assert edge.load().connections == 2
    assert lab.front.counters.handed >= 1


async def test_connections_of_a_child_that_drains_go_to_another(lab: Lab) -> None:
    await stacked(lab, 2, balance=Policy.ROUND_ROBIN)
    clients = [await lab.connects() for _ in range(4)]
    for client in clients:
        assert (await client.asks(ASKS)).body == b"ok"
    lab.planes[0].drain()
    late = [await lab.connects() for _ in range(4)]
    for client in late:
        assert (await client.asks(ASKS)).body == b"ok"
    await lab.until(lambda: lab.planes[0].load().connections == 0)
    await lab.until(lambda: lab.planes[1].load().connections == 6)
    await lab.until(lambda: lab.plane.load().connections == 6)


async def test_a_full_child_is_passed_over_and_the_last_one_answers(lab: Lab) -> None:
    await stacked(lab, 2, {"limits": Limits(connections=2)}, balance=Policy.ROUND_ROBIN)
    busy = [await lab.connects() for _ in range(4)]
    for client in busy:
        await client.says(ASKS[:-2])
    await lab.until(lambda: lab.front.counters.handed == 4)
    await lab.until(lambda: all(plane.load().connections == 2 for plane in lab.planes[:2]))
    assert (await (await lab.connects()).asks(ASKS)).status == 503
    await busy[0].leaves()
    await lab.until(lambda: lab.front.counters.handed == 3)
    assert (await (await lab.connects()).asks(ASKS)).body == b"ok"


async def test_what_is_handed_over_does_not_count_to_the_limit_here(lab: Lab) -> None:
    await stacked(lab, 1, limits=Limits(connections=1))
    clients = [await lab.connects() for _ in range(5)]
    for client in clients:
        assert (await client.asks(ASKS)).body == b"ok"
    load = lab.plane.load()
    assert (load.connections, load.turned_away, load.gave_way) == (5, 0, 0)


@pytest.mark.parametrize("forward", [Forwarding.HANDOFF, Forwarding.RELAY])
async def test_what_comes_from_a_node_above_is_handed_on(lab: Lab, forward: Forwarding) -> None:
    """As a socket, or behind a PROXY header."""
    (web,) = await webs(lab, 1)
    at = await lab.serves(l4(web, listener=INNER))
    await lab.serves(l4(below(at, "node-2"), forward=forward))
    handed = forward is Forwarding.HANDOFF
    await lab.until(lambda: lab.log.count("handoff_began") == 2 + 2 * handed)
    client = await lab.connects()
    for _ in range(2):
        assert (await client.asks(ASKS)).body == b"ok"
    assert [plane.load().connections for plane in lab.planes] == [1, 1, 1]
    (served,) = lab.planes[0].serving.front.clients  # type: ignore[attr-defined]
    assert served.downstream.identity.processes == ("node-2/boot-2", "node-3/boot-3")
    assert served.downstream.identity.address.decode() == client.name[0]
    assert [plane.serving.front.counters.handed for plane in lab.planes[1:]] == [1, handed]  # type: ignore[attr-defined]
    await client.leaves()
    await lab.until(lambda: [plane.load().connections for plane in lab.planes] == [0, 0, 0])


async def test_an_explanation_reaches_the_client(lab: Lab) -> None:
    await stacked(lab)
    for plane in lab.planes:
        plane.explain("once", plane.reactor.look() + 60)
    client = await lab.connects()
    answer = await client.asks(ASKS[:-2] + b"X-Tierlb-Explain: once\r\n\r\n")
    lines = answer.all("x-tierlb-explain")
    assert ['"way":"handoff"' in line for line in lines] == [True, False]
    assert ['"node":"node-2"' in lines[0], '"node":"node-1"' in lines[1]] == [True, True]


async def test_all_of_a_burst_are_served(lab: Lab) -> None:
    await stacked(lab, 2)
    served = []

    async def one() -> None:
        client = await lab.connects()
        served.append((await client.asks(ASKS)).body)

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(one)
    assert served == [b"ok"] * 200
    counts = [plane.load().items for plane in lab.planes[:2]]
    assert sum(counts) == 200
    assert min(counts) > 20


async def test_a_parents_key_that_changes_is_no_obstacle(lab: Lab) -> None:
    children = await webs(lab, 1, data_key="new key")
    edge: Snapshot = l4(*children, data_key="new key")
    await lab.serves(edge)
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    assert (await (await lab.connects()).asks(ASKS)).body == b"ok"


async def test_a_wrong_key_is_relayed_in_vain_and_the_log_says_so(lab: Lab) -> None:
    children = await webs(lab, 1)
    await lab.serves(l4(*children, data_key="stolen"))
    await lab.until(lambda: lab.log.count("handoff_failed"))
    (fields,) = [fields for event, fields in lab.log.events if event == "handoff_failed"]
    assert fields == {"host": "node-1", "reason": "it does not know the key of this cluster"}
