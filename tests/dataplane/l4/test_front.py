"""The l4 front: what it counts, how it drains, snapshots that change."""

import socket

import attrs
import pytest
import trio

from tests.dataplane.conftest import DEADLINE_S, INNER, Clock, FakeEndpoint, Lab, Voice, l4, l4_parent, send
from tierlb.balance.drain import BELOW_S
from tierlb.dataplane.l4.introduction import HEADER_S
from tierlb.model.load import Guidance
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import DRAIN_S, Admin, Match, Policy, Timeouts


async def joined(lab: Lab) -> tuple[Voice, Voice]:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint))
    client = await lab.connects()
    return client, await endpoint.accepts()


async def test_a_connection_is_counted_while_it_lasts_and_its_bytes_after(lab: Lab) -> None:
    client, voice = await joined(lab)
    await client.says(b"12345")
    await voice.hears(b"12345")
    load = lab.plane.load()
    assert (load.connections, load.in_flight, load.items, load.hosts[0].in_flight) == (1, 1, 1, 1)
    await voice.says(b"123")
    await client.hears(b"123")
    await client.leaves()
    await voice.leaves()
    await lab.until(lambda: lab.front.counters.connections == 0)
    load = lab.plane.load()
    assert (load.in_flight, load.items, load.bytes_in, load.bytes_out) == (0, 1, 5, 3)
    assert (load.hosts[0].in_flight, load.hosts[0].done) == (0, 1)


async def test_drain_lets_connections_end_and_takes_no_new_one(lab: Lab) -> None:
    client, voice = await joined(lab)
    lab.plane.drain()
    await client.says(b"still")
    await voice.hears(b"still")
    assert not lab.front.drained
    await client.ends()
    await voice.hears_end()
    await voice.leaves()
    await client.hears_end()
    await lab.until(lambda: lab.front.drained)


async def test_a_connection_that_is_joined_while_the_node_ends_ends_with_its_member_too(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, listener=INNER))
    parent = await lab.connects()
    await lab.until(lambda: lab.front.connections.pending)
    lab.plane.drain()
    await parent.says(l4_parent(), b"1")
    voice = await endpoint.accepts()
    await voice.hears(b"1")
    await voice.leaves()
    await lab.until(lambda: lab.front.drained)


@pytest.mark.parametrize("below", ["an endpoint", "a node"])
async def test_a_connection_lasts_until_the_deadline_and_is_reset_then(lab: Lab, clock: Clock, below: str) -> None:
    """Nodes below end at the same time, and their last answers are to pass."""
    endpoint = await lab.endpoint(child=below == "a node")
    await lab.serves(l4(endpoint, timeouts=Timeouts(*[1000.0] * 5)))
    client = await lab.connects()
    await client.says(b"1")
    voice = await endpoint.accepts()
    if endpoint.spec.child:
        await voice.hears_proxy_header()
    await voice.hears(b"1")
    lab.plane.drain()
    clock.now += DRAIN_S - 0.1 + (BELOW_S if endpoint.spec.child else 0.0)
    await trio.sleep(0.1)
    await client.says(b"still")
    await voice.hears(b"still")
    clock.now += 0.2
    await client.hears_reset()
    await voice.hears_reset()
    assert ("drain_deadline_reached", {"requests": 0, "tunnels": 0, "connections": 1}) in lab.log.events


async def test_what_is_not_joined_at_the_deadline_ends_and_is_counted_no_more(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint(backlog=0)
    stuffing = [socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock.setblocking(False)
        sock.connect_ex(endpoint.address.sockaddr)
    snapshot = l4(endpoint, timeouts=Timeouts(*[1000.0] * 5), drain_s=HEADER_S / 2)
    await lab.serves(attrs.evolve(snapshot, listeners=(*snapshot.listeners, INNER)))
    inner = lab.plane.apply(attrs.evolve(snapshot, listeners=(*snapshot.listeners, INNER), revision=2))[1]
    client, stranger = await lab.connects(), await lab.connects(inner)
    await lab.until(lambda: len(lab.front.connections.pending) == 2)
    lab.plane.apply(attrs.evolve(snapshot, listeners=(*snapshot.listeners, INNER), revision=3, admin=Admin.DRAIN))
    clock.now += HEADER_S / 2
    await client.hears_no_word()
    await stranger.hears_no_word()
    load = lab.plane.load()
    assert (load.connections, load.hosts[0].in_flight) == (0, 0)
    for sock in stuffing:
        sock.close()


async def test_a_connection_stays_with_its_member_when_the_snapshot_changes(lab: Lab) -> None:
    client, voice = await joined(lab)
    other = await lab.endpoint()
    lab.plane.apply(l4(other, revision=2))
    await client.says(b"as before")
    await voice.hears(b"as before")
    newcomer = await lab.connects()
    await newcomer.says(b"hello")
    await (await other.accepts()).hears(b"hello")


async def test_a_split_gives_each_part_its_share_of_the_connections(lab: Lab) -> None:
    many, few = await lab.endpoint(), await lab.endpoint()
    parts = (send(many, weight=9).destinations[0], Destination(1, ("few",), (few.spec,)))
    await lab.serves(l4(rules=(Rule(Match(), Send(parts)),)))
    for _ in range(50):
        await lab.connects()
        await lab.accepts(many, few)
    assert len(many.voices) + len(few.voices) == 50
    assert 1 <= len(few.voices) <= 13  # the mean is 5, its standard deviation 2.1


async def member_of(lab: Lab, endpoints: list[FakeEndpoint], source: tuple[str, int]) -> str:
    """Who gets the connection of this client; it is over afterwards."""
    client = await lab.connects()
    await client.says(l4_parent(source))
    endpoint, voice = await lab.accepts(*endpoints)
    await client.leaves()
    await voice.hears_end()
    await voice.leaves()
    await lab.until(lambda: lab.front.counters.connections == 0)
    return endpoint.spec.name


async def test_maglev_gives_a_clients_connections_always_to_the_same_member(lab: Lab) -> None:
    endpoints = [await lab.endpoint() for _ in range(4)]
    await lab.serves(l4(*endpoints, balance=Policy.MAGLEV, listener=INNER))
    hosts = [f"192.0.2.{number}" for number in range(1, 13)]
    chosen = {host: await member_of(lab, endpoints, (host, 1000)) for host in hosts}
    assert len(set(chosen.values())) > 1
    assert {host: await member_of(lab, endpoints, (host, 2000)) for host in hosts} == chosen


async def test_other_policies_go_by_no_client(lab: Lab) -> None:
    endpoints = [await lab.endpoint() for _ in range(2)]
    await lab.serves(l4(*endpoints, balance=Policy.ROUND_ROBIN, listener=INNER))
    assert len({await member_of(lab, endpoints, ("192.0.2.1", 1000)) for _ in range(2)}) == 2


async def ticks_for(lab: Lab, clock: Clock, seconds: float) -> None:
    """Time passes, and the node looks at its connections meanwhile."""
    for _ in range(round(seconds)):
        clock.now += 1.0
        lab.ticks()


async def test_quiet_connections_are_parked_and_leave_a_newcomer_its_part_of_those_in_use(
    lab: Lab, clock: Clock
) -> None:
    old, new = await lab.endpoint(), await lab.endpoint()
    timeouts = Timeouts(*[1000.0] * 5)
    await lab.serves(l4(old, timeouts=timeouts))
    quiet = [(await lab.connects(), await old.accepts()) for _ in range(10)]
    await lab.until(lambda: lab.front.counters.tallies.total().connections == 10)
    lab.plane.apply(l4(old, new, timeouts=timeouts, revision=2))
    await ticks_for(lab, clock, 40.0)
    load = lab.plane.load()
    assert (load.in_flight, load.parked) == (10, 10)
    assert [(each.in_flight, each.parked) for each in load.hosts] == [(10, 10), (0, 0)]
    for _ in range(8):
        client = await lab.connects()
        await client.says(b"1")
        await (await lab.accepts(old, new))[1].hears(b"1")
        lab.ticks()
    assert (len(old.voices) - 10, len(new.voices)) == (4, 4)
    await quiet[0][1].says(b"news")
    await quiet[0][0].hears(b"news")
    clock.now += 1.0
    lab.ticks()
    assert lab.plane.load().parked == 9
    for voice in [*old.voices, *new.voices]:
        voice.resets()
    await lab.until(lambda: not lab.front.connections.relayed)
    load = lab.plane.load()
    assert (load.in_flight, load.parked) == (0, 0)
    assert [(each.in_flight, each.parked) for each in load.hosts] == [(0, 0), (0, 0)]


async def test_connections_of_a_parent_are_counted_for_it_as_parked(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, listener=INNER, timeouts=Timeouts(*[1000.0] * 5)))
    parent = await lab.connects()
    await parent.says(l4_parent(), b"1")
    await (voice := await endpoint.accepts()).hears(b"1")
    await voice.says(b"2")
    await parent.hears(b"2")
    await ticks_for(lab, clock, 5.0)
    assert (lab.plane.echo("edge-1").parked, lab.plane.subtree().parked) == (1, 1)
    await parent.leaves()
    await voice.leaves()
    await lab.until(lambda: not lab.front.connections.relayed)
    assert (lab.plane.echo("edge-1").parked, lab.plane.subtree().parked) == (0, 0)


async def test_of_connections_to_nodes_none_is_watched(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True, reports=True)
    await lab.serves(l4(endpoint))
    await lab.connects()
    await endpoint.accepts()
    await lab.until(lambda: lab.front.connections.relayed)
    assert len(lab.front.connections.watch) == 0


async def test_how_long_connections_last_is_remembered(lab: Lab, clock: Clock) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, balance=Policy.PEAK_EWMA))
    client = await lab.connects()
    voice = await endpoint.accepts()
    await lab.until(lambda: lab.front.connections.relayed)
    clock.now += 3.0
    await client.leaves()
    await voice.leaves()
    await lab.until(lambda: lab.front.counters.connections == 0)
    assert lab.host(endpoint).peak.cost == pytest.approx(3.0, rel=0.01)
    assert lab.front.counters.lived_s == pytest.approx(3.0)


async def test_guidance_closes_no_connection(lab: Lab, clock: Clock) -> None:
    client, voice = await joined(lab)
    for _ in range(20):
        lab.plane.note_guidance("edge-1", Guidance(0.01))
        clock.now += 1.0
        lab.ticks()
    await client.says(b"still")
    await voice.hears(b"still")


async def test_the_end_of_a_node_cuts_what_is_left(lab: Lab) -> None:
    full = await lab.endpoint(backlog=0)
    stuffing = [socket.socket() for _ in range(4)]
    for sock in stuffing:
        sock.setblocking(False)
        sock.connect_ex(full.address.sockaddr)
    open_member = await lab.endpoint()
    async with trio.open_nursery() as nursery:
        lab.nursery = nursery
        at = await lab.serves(l4(open_member, full, timeouts=Timeouts(connect=60)))
        clients = [await lab.connects(at) for _ in range(2)]
        await open_member.accepts()
        await lab.until(lambda: lab.front.connections.relayed and lab.front.connections.pending)
        nursery.cancel_scope.cancel()
    for sock in stuffing:
        sock.close()
    heard = []
    for client in clients:
        with trio.fail_after(DEADLINE_S):
            try:
                heard.append(await client.stream.receive_some())
            except trio.BrokenResourceError:
                heard.append(b"reset")
    assert sorted(heard) == [b"", b"reset"]
