"""The seam to the control plane: snapshots in, counts out, ports kept, caps held."""

import socket

import attrs
import pytest
import trio

from tests.dataplane.conftest import ANY_PORT, Lab, l4, l7
from tierlb.dataplane.plane import Plane, Refused
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Rule
from tierlb.model.topology import Limits, Match, Respond

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
STRANGERS = Listener(ANY_PORT.address, accept_from=("192.0.2.0/24", "2001:db8::/32"))
FRIENDS = Listener(ANY_PORT.address, accept_from=("192.0.2.0/24", "127.0.0.0/8"))


async def test_the_addresses_bound_are_parallel_to_the_listeners(lab: Lab) -> None:
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, attrs.evolve(ANY_PORT, inner=True)))
    await lab.serves(snapshot)
    first, second = lab.plane.apply(attrs.evolve(snapshot, revision=2))
    assert first == lab.at != second
    for address in (first, second):
        assert (await (await lab.connects(address)).asks(GET)).status == 200
    assert lab.plane.apply(attrs.evolve(snapshot, revision=3, listeners=snapshot.listeners[::-1])) == (second, first)


async def test_a_port_that_is_no_longer_named_closes_and_its_connections_stay(lab: Lab) -> None:
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, attrs.evolve(ANY_PORT, inner=True)))
    first = await lab.serves(snapshot)
    client = await lab.connects()
    lab.plane.apply(attrs.evolve(snapshot, revision=2, listeners=snapshot.listeners[1:]))
    assert (await client.asks(GET)).status == 200
    await trio.sleep(0.01)
    with pytest.raises(OSError, match="all attempts"):
        await lab.connects(first)


async def test_a_port_in_use_is_refused_and_the_node_goes_on(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address(*taken.getsockname())
        wanted = attrs.evolve(l7(), revision=2, listeners=(attrs.evolve(ANY_PORT, inner=True), Listener(address)))
        with pytest.raises(Refused, match=f"cannot listen on {address}"):
            lab.plane.apply(wanted)
    assert (await (await lab.connects()).asks(GET)).body == b"hello\n"


async def test_a_node_keeps_its_kind(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    with pytest.raises(Refused, match="l7 to l4"):
        lab.plane.apply(l4(revision=2))
    assert (await (await lab.connects()).asks(GET)).status == 200


async def test_a_shared_port_is_opened_by_several_nodes(lab: Lab) -> None:
    first = await lab.serves(l7(rules=HELLO, listener=Listener(ANY_PORT.address, shared=True)))
    again = await lab.serves(l7(rules=HELLO, listener=Listener(first, shared=True)))
    assert first == again
    heard = set()
    for _ in range(40):
        client = await lab.connects(first)
        assert (await client.asks(GET)).status == 200
        await client.leaves()
    heard = {plane.load().items for plane in lab.planes}
    assert 0 not in heard
    assert sum(plane.load().items for plane in lab.planes) == 40


async def test_the_connection_cap_leaves_the_rest_to_the_kernel_until_there_is_room(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=2)))
    clients = [await lab.connects() for _ in range(3)]
    answers = [await client.asks(GET) for client in clients[:2]]
    assert [answer.status for answer in answers] == [200, 200]
    await clients[2].says(GET)
    await clients[2].hears_nothing()
    assert lab.plane.load().connections == 2
    await clients[0].leaves()
    assert (await clients[2].hears_message()).status == 200


async def test_a_raised_cap_takes_effect_with_its_snapshot(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(connections=1)))
    first, second = await lab.connects(), await lab.connects()
    assert (await first.asks(GET)).status == 200
    await second.says(GET)
    await second.hears_nothing()
    lab.plane.apply(l7(rules=HELLO, limits=Limits(connections=2), revision=2))
    assert (await second.hears_message()).status == 200


async def test_strangers_are_closed_at_once_and_counted(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, listener=STRANGERS))
    client = await lab.connects()
    await client.hears_end()
    load = lab.plane.load()
    assert (load.connections, load.rejected) == (0, 1)
    lab.plane.apply(l7(rules=HELLO, listener=FRIENDS))
    assert lab.plane.load().rejected == 1


async def test_friends_are_served(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO, listener=FRIENDS))
    assert (await (await lab.connects()).asks(GET)).status == 200


async def test_a_node_without_a_snapshot_has_nothing_to_report(lab: Lab) -> None:
    plane = Plane("n", lab.log)
    load = plane.load()
    assert (load.connections, load.items, load.members) == (0, 0, ())
    plane.reactor.dispose()


async def test_load_tells_how_busy_the_thread_was(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    lab.plane.load()
    await trio.sleep(0.3)
    assert lab.plane.load().busy < 0.3
    client = await lab.connects()
    lab.plane.load()
    for _ in range(200):
        await client.asks(GET * 1)
    assert 0 < lab.plane.load().busy <= 1


async def test_run_returns_once_drained(lab: Lab) -> None:
    plane = Plane("n", lab.log)
    (address,) = plane.apply(l7(rules=HELLO))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.run)
            client = await lab.connects(address)
            await client.asks(GET)
            plane.drain()
            assert plane.apply(l7(rules=HELLO, revision=2)) == (address,)
    await client.hears_end()


async def test_an_ipv6_port_is_served(lab: Lab) -> None:
    try:
        await lab.serves(l7(rules=HELLO, listener=Listener(Address("::1", 0))))
    except Refused as refused:
        pytest.skip(f"NOT TESTED: {refused}")
    assert (await (await lab.connects()).asks(GET)).status == 200


async def test_an_internal_error_drops_its_connection_and_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.serves(l7(rules=HELLO))
    victim, other = await lab.connects(), await lab.connects()
    await other.asks(GET)
    with monkeypatch.context() as patched:
        patched.setattr(lab.front, "action", lambda plan: 1 / 0)
        await victim.says(GET)
        await victim.hears_end()
    assert (await other.asks(GET)).status == 200
    ((_, fields),) = lab.log.events
    assert isinstance(fields["exc_info"], ZeroDivisionError)
    lab.log.events.clear()
    assert lab.plane.load().connections == 1
