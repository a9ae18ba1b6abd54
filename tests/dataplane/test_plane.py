"""The seam to the control plane: snapshots in, counts out, ports kept, caps held."""

import socket
from typing import Any

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.dataplane.agent_checks import comes_up, reserved
from tests.dataplane.conftest import ANY_PORT, INNER, Clock, FakeEndpoint, Lab, Voice, l4, l4_parent, l7, l7_parent
from tierlb.dataplane import plane as plane_module
from tierlb.dataplane.plane import Plane, Refused
from tierlb.dataplane.runtime import Runtime
from tierlb.model.address import Address, ListenAddress, parse_address
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.snapshot import Destination, FoundEndpoint, Listener, PoolSettings, Rule, Send, Snapshot
from tierlb.model.topology import DRAIN_S, Admin, HealthCheck, Limits, Match, Policy, Respond
from tierlb.net import names
from tierlb.net.beat import BEAT_S
from tierlb.telemetry.sketch import decode_sketch
from tierlb.wire.agent_check import AGENT_NOTICE_S

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHILD = {"child": True, "reports": True}
BROKEN = b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = (Rule(Match(), Respond(200, "hello\n")),)
STRANGERS = Listener(ANY_PORT.address, accept_from=("192.0.2.0/24", "2001:db8::/32"))
FRIENDS = Listener(ANY_PORT.address, accept_from=("192.0.2.0/24", "127.0.0.0/8"))


async def test_the_addresses_bound_are_parallel_to_the_listeners(lab: Lab) -> None:
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, INNER))
    await lab.serves(snapshot)
    first, second = lab.plane.apply(attrs.evolve(snapshot, revision=2))
    assert first == lab.at != second
    for address, introduction in ((first, b""), (second, l7_parent())):
        assert (await (await lab.connects(address)).asks(introduction + GET)).status == 200
    assert lab.plane.apply(attrs.evolve(snapshot, revision=3, listeners=snapshot.listeners[::-1])) == (second, first)


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_module, "LISTENER_LINGER_S", 0.3)


async def is_closed(lab: Lab, address: Address) -> None:
    """Wait until nobody listens there."""
    with trio.fail_after(30):
        while True:
            try:
                await lab.connects(address)
            except OSError:
                return
            await trio.sleep(0.05)


async def test_a_port_that_is_no_longer_named_closes_a_little_later_and_its_connections_stay(
    lab: Lab,
) -> None:
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, INNER))
    first = await lab.serves(snapshot)
    client = await lab.connects()
    lab.plane.apply(attrs.evolve(snapshot, revision=2, listeners=snapshot.listeners[1:]))
    assert (await client.asks(GET)).status == 200
    late = await lab.connects(first)
    assert (await late.asks(GET)).status == 200
    await is_closed(lab, first)
    assert (await client.asks(GET)).status == 200


async def test_a_port_that_is_named_again_in_time_was_never_closed(lab: Lab, short_linger: None) -> None:
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, INNER))
    first = await lab.serves(snapshot)
    lab.plane.apply(attrs.evolve(snapshot, revision=2, listeners=snapshot.listeners[1:]))
    assert lab.plane.apply(attrs.evolve(snapshot, revision=3))[0] == first
    await trio.sleep(0.6)
    assert (await (await lab.connects(first)).asks(GET)).status == 200


async def test_who_waits_in_the_queue_when_a_node_drains_is_answered(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    with socket.create_connection(lab.at.sockaddr) as waiting:  # the reactor has had no turn
        waiting.sendall(GET)
        lab.plane.drain()
        waiting.setblocking(False)
        client = Voice(trio.SocketStream(trio.socket.from_stdlib_socket(waiting)))
        answer = await client.hears_message()
    assert answer.status == 200
    assert ("connection", "close") in answer.fields


async def test_a_node_that_comes_back_takes_the_inner_ports_that_it_had(lab: Lab) -> None:
    had = parse_address(free_address())
    snapshot = attrs.evolve(l7(rules=HELLO), listeners=(ANY_PORT, INNER))
    await lab.serves(l7())
    public, inner = lab.plane.apply(snapshot, (had, had))
    assert inner == had != public
    assert lab.plane.apply(attrs.evolve(snapshot, revision=2)) == (public, inner), "that is no other listener"
    assert (await (await lab.connects(inner)).asks(l7_parent() + GET)).status == 200


async def test_an_inner_port_that_somebody_else_has_now_is_left_to_them(lab: Lab) -> None:
    await lab.serves(l7())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        had = Address(*taken.getsockname())
        (inner,) = lab.plane.apply(l7(rules=HELLO, listener=INNER), (had,))
    assert inner.port not in (0, had.port)


async def test_a_port_in_use_is_refused_and_the_node_goes_on(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address(*taken.getsockname())
        wanted = attrs.evolve(l7(), revision=2, listeners=(INNER, Listener(address)))
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


async def test_a_raised_cap_takes_effect_with_its_snapshot(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, limits=Limits(connections=1)))
    first = await lab.connects()
    await first.says(GET)
    await endpoint.accepts()
    assert (await (await lab.connects()).hears_message()).status == 503
    lab.plane.apply(l7(endpoint, limits=Limits(connections=2), revision=2))
    second = await lab.connects()
    await second.says(GET)
    await (await endpoint.accepts()).hears_head()


class Lender:
    """Whoever keeps public sockets, and shares them with other nodes."""

    def __init__(self, address: Address) -> None:
        self.sock = socket.create_server(address.sockaddr, reuse_port=True)
        self.sock.setblocking(False)
        self.lent: list[socket.socket] = []
        self.ends = socket.socketpair()
        self.returned: list[ListenAddress] = []

    def listen(self, address: ListenAddress) -> socket.socket:
        assert address == ListenAddress(Address(*self.sock.getsockname()))
        self.lent.append(self.sock.dup())
        return self.lent[-1]

    def give_back(self, address: ListenAddress) -> None:
        self.returned.append(address)

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def close(self) -> None:
        for sock in (self.sock, *self.ends):
            sock.close()


async def test_a_node_in_drain_leaves_a_borrowed_queue_to_others_until_it_is_ready_again(lab: Lab) -> None:
    listener = Listener(Address("127.0.0.1", parse_address(free_address()).port), shared=True)
    lab.broker = Lender(listener.address)
    await lab.serves(l7(rules=HELLO, listener=listener))
    client = await lab.connects()
    assert (await client.asks(GET)).status == 200
    lab.plane.apply(l7(rules=HELLO, listener=listener, revision=2, admin=Admin.DRAIN))
    waiting = await lab.connects()
    await waiting.says(GET)
    await waiting.hears_nothing()
    assert (await client.asks(GET)).status == 200
    lab.plane.apply(l7(rules=HELLO, listener=listener, revision=3))
    assert (await waiting.hears_message()).status == 200
    assert lab.broker.returned == [ListenAddress(listener.address)]
    lab.broker.close()


async def test_a_node_in_drain_refuses_clients_at_a_port_of_its_own_until_it_is_ready_again(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    assert lab.plane.apply(l7(rules=HELLO, revision=2, admin=Admin.DRAIN)) == (lab.at,)
    with pytest.raises(OSError, match="all attempts to connect"):
        await lab.connects()
    assert lab.plane.apply(l7(rules=HELLO, revision=3)) == (lab.at,)
    assert (await (await lab.connects()).asks(GET)).status == 200


async def test_a_look_for_what_is_due_that_fails_is_followed_by_others(
    lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, failures = Runtime.tick, [ValueError(), ValueError()]

    def look(self: Runtime, now: float, *, ends: bool) -> float:
        if failures:
            raise failures.pop()
        return works(self, now, ends=ends)

    monkeypatch.setattr(Runtime, "tick", look)
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    await client.says(GET)
    await endpoint.accepts()
    lab.plane.apply(l7(endpoint, revision=2, admin=Admin.DRAIN))
    clock.now += DRAIN_S
    await lab.until(lambda: lab.plane.errors.counts == {"room": 2})
    clock.now += BEAT_S
    assert (await client.hears_message()).status == 503
    assert lab.plane.errors.counts == {"room": 2}
    lab.log.events.clear()  # or the error would be a surprise


@pytest.mark.parametrize("kind", [l4, l7])
async def test_a_node_says_that_it_drains_and_no_snapshot_takes_back_that_its_process_ends(lab: Lab, kind: Any) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(kind(endpoint))
    client = await lab.connects()
    await client.says(GET)
    await endpoint.accepts()
    lab.plane.apply(kind(endpoint, revision=2, admin=Admin.DRAIN))
    assert lab.plane.subtree().draining
    lab.plane.apply(kind(endpoint, revision=3))
    assert not lab.plane.subtree().draining
    lab.plane.drain()
    lab.plane.apply(kind(endpoint, revision=4))
    assert lab.plane.subtree().draining


async def test_whoever_waits_in_the_queue_of_a_port_when_the_drain_begins_is_answered(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    with socket.create_connection(lab.at.sockaddr) as queued:  # synchronous: the node cannot have accepted it yet
        lab.plane.apply(l7(rules=HELLO, revision=2, admin=Admin.DRAIN))
        client = Voice(trio.SocketStream(trio.socket.from_stdlib_socket(queued)))
        answer = await client.asks(GET)
    assert (answer.status, answer["connection"]) == (200, "close")


@pytest.mark.parametrize("said", [l7_parent(), l4_parent()], ids=["l7", "l4"])
async def test_a_node_in_drain_accepts_from_its_parents(lab: Lab, said: bytes) -> None:
    await lab.serves(l7(rules=HELLO, listener=INNER))
    lab.plane.apply(l7(rules=HELLO, listener=INNER, revision=2, admin=Admin.DRAIN))
    parent = await lab.connects()
    assert (await parent.asks(said + GET))["connection"] == "close"


async def test_whoever_waits_in_a_borrowed_queue_when_the_drain_begins_is_left_to_others(lab: Lab) -> None:
    listener = Listener(Address("127.0.0.1", parse_address(free_address()).port), shared=True)
    lab.broker = Lender(listener.address)
    await lab.serves(l7(rules=HELLO, listener=listener))
    with socket.create_connection(listener.address.sockaddr) as queued:  # the node cannot have accepted it yet
        lab.plane.apply(l7(rules=HELLO, listener=listener, revision=2, admin=Admin.DRAIN))
        await lab.until(lambda: lab.broker.lent[0].fileno() < 0)
        accepted, peer = lab.broker.sock.accept()
        assert peer == queued.getsockname()
        accepted.close()
    assert lab.broker.returned == [ListenAddress(listener.address)]
    lab.broker.close()


async def test_a_node_in_drain_accepts_until_an_agent_check_that_asks_has_heard_of_it(lab: Lab, clock: Clock) -> None:
    with reserved() as agent:
        await lab.serves(l7(rules=HELLO, agent_check=agent))
        await comes_up(agent)
        lab.plane.apply(l7(rules=HELLO, agent_check=agent, revision=2, admin=Admin.DRAIN))
        assert lab.plane.subtree().draining
        assert (await (await lab.connects()).asks(GET)).status == 200
        clock.now += AGENT_NOTICE_S
        await is_closed(lab, lab.at)


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
    assert (load.connections, load.items, load.hosts) == (0, 0, ())
    plane.reactor.dispose()


async def test_load_tells_how_busy_the_thread_was(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    now, waited_s = lab.plane.reactor.look(), lab.plane.reactor.waited_s()
    for step in range(41):
        lab.upkeep.account.sample(now + step * 0.05, waited_s + step * 0.05 * 0.75)
    assert lab.plane.load().busy == pytest.approx(0.25)


# What children say, and what is said of this node.


async def two_children(lab: Lab, snapshot_of: type = l7) -> tuple[FakeEndpoint, FakeEndpoint]:
    """A node that chooses by load between two children it knows nothing of."""
    one, two = await lab.endpoint(name="web-1", **CHILD), await lab.endpoint(name="web-2", **CHILD)
    await lab.serves(snapshot_of(one, two, balance=Policy.LOAD_AWARE))
    return one, two


def reports(lab: Lab, name: str, echo: Echo | None = None, **load: Any) -> None:
    lab.plane.note_report(name, SubtreeLoad(**{"capacity": 100.0, "response_s": 1.0, **load}), echo or Echo())
    lab.ticks()


async def serves_next(lab: Lab, client: Voice, *endpoints: FakeEndpoint) -> str:
    """Who gets the next request, on a new connection; the answer says that it is not kept."""
    await client.says(GET)
    endpoint, voice = await lab.accepts(*endpoints)
    await voice.hears_proxy_header()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert (await client.hears_message()).status == 200
    return endpoint.spec.name


async def test_a_childs_report_moves_the_choice(lab: Lab, clock: Clock) -> None:
    one, two = await two_children(lab)
    client = await lab.connects()
    reports(lab, "web-1", in_flight=50)
    reports(lab, "web-2", in_flight=5)
    assert [await serves_next(lab, client, one, two) for _ in range(4)] == ["web-2"] * 4
    reports(lab, "web-2", in_flight=90)
    assert [await serves_next(lab, client, one, two) for _ in range(4)] == ["web-1"] * 4


async def test_a_childs_report_moves_the_choice_of_connections(lab: Lab, clock: Clock) -> None:
    one, two = await two_children(lab, l4)
    for hot, cool in (("web-1", two), ("web-2", one)):
        reports(lab, "web-1", Echo(1, 1, 1), in_flight=50 if hot == "web-1" else 0, connections=10)
        reports(lab, "web-2", Echo(1, 1, 1), in_flight=50 if hot == "web-2" else 0, connections=10)
        client = await lab.connects()
        await cool.accepts()
        await client.leaves()


async def test_a_child_that_drains_gets_nothing_new(lab: Lab) -> None:
    one, two = await two_children(lab)
    client = await lab.connects()
    reports(lab, "web-1", draining=True)
    reports(lab, "web-2", in_flight=1000)
    assert [await serves_next(lab, client, one, two) for _ in range(4)] == ["web-2"] * 4
    reports(lab, "web-1")
    assert await serves_next(lab, client, one, two) == "web-1"


async def test_a_child_whose_control_connection_is_lost_still_gets_traffic(lab: Lab) -> None:
    one, two = await two_children(lab)
    client = await lab.connects()
    for name in ("web-1", "web-2"):
        reports(lab, name)
    lab.plane.note_lost("web-1")
    reports(lab, "web-2", in_flight=10)
    assert await serves_next(lab, client, one, two) == "web-1"
    assert [load.availability for load in lab.plane.load().hosts] == ["available", "available"]


async def test_who_is_no_child_is_not_heard_and_not_guided(lab: Lab) -> None:
    await two_children(lab)
    reports(lab, "web-1", utilisation=0.4)
    reports(lab, "web-9", utilisation=0.9)
    lab.plane.note_lost("web-9")
    reports(lab, "web-2", utilisation=0.4)
    assert lab.plane.guide("web-9") is None
    guidance = lab.plane.guide("web-2")
    assert guidance is not None
    assert guidance.target == pytest.approx(0.4)


async def test_what_is_below_is_part_of_what_is_said(lab: Lab) -> None:
    await two_children(lab)
    reports(lab, "web-1", leaves=3, ready_leaves=2)
    reports(lab, "web-2", leaves=3, ready_leaves=3)
    load = lab.plane.subtree()
    assert (load.capacity, load.ready_leaves, load.leaves, load.draining) == (200.0, 5, 6, False)
    row = lab.plane.row()
    assert (row.node, row.tier, row.subtree.leaves) == ("node-1", "tier", 6)
    assert [each.name for each in row.own.hosts] == ["web-1", "web-2"]
    client = await lab.connects()
    await client.says(GET[:-4])
    await lab.until(lambda: any(each.in_head for each in lab.front.clients))
    lab.plane.drain()
    assert lab.plane.subtree().draining


async def test_times_of_items_are_kept_for_rows_and_since_the_start(lab: Lab, clock: Clock) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears_head()
    clock.now += 0.2
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await client.hears_message()
    lab.ticks()
    recent = decode_sketch(lab.plane.row().latency)
    for sketch in (recent, lab.plane.metrics().latency):
        assert sketch.count == 1
        assert sketch.quantile_s(0.5) == pytest.approx(0.2, rel=0.03)


async def test_before_the_first_snapshot_whatever_is_said_is_taken_in_silence(lab: Lab) -> None:
    plane = Plane("n", lab.log)
    plane.note_report("web-1", SubtreeLoad(), Echo())
    plane.note_lost("web-1")
    plane.note_guidance("edge-1", Guidance(0.5))
    plane.explain("n1", 1e9)
    assert plane.guide("web-1") is None
    assert (plane.subtree(), plane.echo("edge-1")) == (SubtreeLoad(), Echo())
    assert (plane.row().node, plane.metrics().node) == ("n", "n")
    plane.reactor.dispose()


async def test_run_returns_once_drained(lab: Lab) -> None:
    plane = Plane("n", lab.log)
    (address,) = plane.apply(l7(rules=HELLO))
    with trio.fail_after(30):
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


async def test_an_internal_error_drops_its_connection_and_no_other(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    victim, other = await lab.connects(), await lab.connects()
    await other.asks(GET)
    lab.front.config.books[False].known[BROKEN] = "no plan"
    await victim.says(BROKEN)
    await victim.hears_end()
    assert (await other.asks(GET)).status == 200
    ((_, fields),) = lab.log.events
    assert isinstance(fields["exc_info"], (AttributeError, TypeError))
    lab.log.events.clear()
    assert lab.plane.load().connections == 1


# Pools that are looked up in DNS.

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@pytest.fixture
def zone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[FoundEndpoint, ...]]:
    """What names lead to; asked many times a second."""
    zone: dict[str, tuple[FoundEndpoint, ...]] = {}

    async def ask(name: str) -> tuple[FoundEndpoint, ...]:
        await trio.lowlevel.checkpoint()
        return zone.get(name, ())

    lab.ask = ask
    monkeypatch.setattr(names, "AGAIN_S", 0.01)
    return zone


def far(*endpoints: FakeEndpoint, **says: Any) -> Snapshot:
    """A node whose only destination holds these endpoints and those of a pool in DNS."""
    destination = Destination(1.0, ("app", "far"), tuple(each.spec for each in endpoints))
    pool = PoolSettings("far", dns="far.internal:80", parents=3, **says)
    return l7(rules=(Rule(Match(), Send((destination,))),), pools=(pool,))


async def until_known(lab: Lab, *expected: FakeEndpoint) -> None:
    wanted = {each.spec.name for each in expected}
    with trio.fail_after(5.0):
        while {each.name for each in lab.front.registry.hosts} != wanted:  # noqa: ASYNC110 (it tells nobody)
            await trio.sleep(0.001)


async def test_what_a_name_leads_to_serves_at_once_and_what_it_no_longer_does_finishes(
    lab: Lab, zone: dict[str, tuple[FoundEndpoint, ...]]
) -> None:
    first, second = [await lab.endpoint(target="far") for _ in range(2)]
    zone["far.internal:80"] = (FoundEndpoint(first.address),)
    await lab.serves(far())
    await until_known(lab, first)
    client, other = await lab.connects(), await lab.connects()
    await client.says(GET)
    under_way = await first.accepts()
    await under_way.hears_head()
    zone["far.internal:80"] = (FoundEndpoint(second.address, 0.5),)
    await until_known(lab, second)
    await other.says(GET)
    voice = await second.accepts()
    await voice.hears_head()
    for speaker, listener in ((under_way, client), (voice, other)):
        await speaker.says(OK % (2, b"ok"))
        assert (await listener.hears_message()).body == b"ok"
    await under_way.hears_end()
    host = lab.host(second)
    assert (host.spec.parents, host.weight) == (3, 0.5)


async def test_until_a_name_leads_anywhere_the_node_says_that_nothing_below_is_ready(
    lab: Lab, zone: dict[str, tuple[FoundEndpoint, ...]], at_once: None
) -> None:
    await lab.serves(far())
    assert (await (await lab.connects()).asks(GET)).status == 503
    load = lab.plane.subtree()
    assert (load.leaves, load.ready_leaves) == (1, 0)
    found = await lab.endpoint(target="far")
    zone["far.internal:80"] = (FoundEndpoint(found.address),)
    await until_known(lab, found)
    load = lab.plane.subtree()
    assert (load.leaves, load.ready_leaves) == (1, 1)


async def test_members_that_are_listed_serve_whatever_dns_says(
    lab: Lab, zone: dict[str, tuple[FoundEndpoint, ...]]
) -> None:
    listed = await lab.endpoint()
    lab.background.start_soon(listed.answers_all, OK % (2, b"ok"))
    await lab.serves(far(listed))
    client = await lab.connects()
    assert (await client.asks(GET)).status == 200
    nobody = await lab.nobody("far")
    zone["far.internal:80"] = (FoundEndpoint(nobody.address),)
    await until_known(lab, listed, nobody)
    assert {(await client.asks(GET)).status for _ in range(4)} == {200}


async def test_what_is_found_stays_over_snapshots_and_is_checked(
    lab: Lab, zone: dict[str, tuple[FoundEndpoint, ...]]
) -> None:
    found = await lab.endpoint(target="far")
    zone["far.internal:80"] = (FoundEndpoint(found.address),)
    await lab.serves(far())
    await until_known(lab, found)
    host = lab.host(found)
    lab.plane.apply(attrs.evolve(far(health=HealthCheck(path="/up")), revision=2))
    assert lab.host(found) is host
    assert b"GET /up" in (await (await found.accepts()).hears_head()).raw


async def test_an_l4_node_relays_to_what_a_name_leads_to(lab: Lab, zone: dict[str, tuple[FoundEndpoint, ...]]) -> None:
    found = await lab.endpoint(target="far")
    zone["far.internal:80"] = (FoundEndpoint(found.address),)
    snapshot = far()
    await lab.serves(l4(rules=snapshot.rules, pools=snapshot.pools))
    await until_known(lab, found)
    client = await lab.connects()
    await client.says(b"hello")
    await (await found.accepts()).hears(b"hello")
