"""A connection waits for its ClientHello where its route depends on it, and every byte of that reaches the host."""

import socket
from pathlib import Path

import attrs
import pytest
import trio
import trio.lowlevel

from tests.certificates import NAME, Authority, connects_by_tls
from tests.dataplane.conftest import CLIENT, INNER, Clock, FakeEndpoint, Lab, Voice, below, l4, l4_parent, l7, send
from tests.hellos import alpn, hello, hybrid_key_share, message, records, server_name
from tierlb.dataplane.l4.hello import HelloWait
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Rule, Snapshot
from tierlb.model.topology import Forwarding, Limits, Match, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTP = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SHORT_HEAD = Timeouts(head=0.1)
LARGE = records(message(hybrid_key_share(), server_name(b"a.example.com")), 500)


def routed(*routes: tuple[Match, FakeEndpoint], **options: object) -> Snapshot:
    return l4(rules=tuple(Rule(match, send(endpoint)) for match, endpoint in routes), **options)


@pytest.fixture
def meeting(lab: Lab, tmp_path: Path) -> None:
    """Nodes meet in a directory."""
    tmp_path.chmod(0o700)
    lab.meets_in = tmp_path


@attrs.frozen
class Site:
    """A node with a route by SNI, one by ALPN and, unless it is left out, a default."""

    lab: Lab
    by_name: FakeEndpoint
    by_protocol: FakeEndpoint
    default: FakeEndpoint

    async def goes_to(self, start: bytes, *pieces: bytes) -> FakeEndpoint:
        """The endpoint that gets what a client sends, and nothing else."""
        client = await self.lab.connects()
        await client.says(start, *pieces)
        endpoint, voice = await self.lab.accepts(self.by_name, self.by_protocol, self.default)
        await voice.hears(start + b"".join(pieces))
        await voice.says(b"welcome")
        await client.hears(b"welcome")
        await client.says(b"more")
        await voice.hears(b"more")
        await client.leaves()
        await voice.hears_end()
        await voice.leaves()
        return endpoint


async def site(lab: Lab, *, has_default: bool = True, **options: object) -> Site:
    made = Site(lab, *[await lab.endpoint(name=name) for name in ("by-name", "by-protocol", "default")])
    routes = [
        (Match(sni=("a.example.com", "*.b.example.com")), made.by_name),
        (Match(alpn=("h2", "acme-tls/1")), made.by_protocol),
        *([(Match(), made.default)] if has_default else []),
    ]
    await lab.serves(routed(*routes, **options))
    return made


async def waits(lab: Lab, count: int = 1) -> None:
    """Until so many connections wait for their ClientHello."""
    await lab.until(lambda: sum(isinstance(each, HelloWait) for each in lab.front.connections.pending) == count)


async def test_a_client_gets_the_host_of_its_name_or_protocol(lab: Lab) -> None:
    here = await site(lab)
    assert await here.goes_to(hello("a.example.com")) is here.by_name
    assert await here.goes_to(hello("deep.in.b.example.com", ["h2"])) is here.by_name
    assert await here.goes_to(hello("b.example.com", ["http/1.1", "h2"])) is here.by_protocol
    assert await here.goes_to(hello("c.example.com", ["http/1.1"])) is here.default
    assert await here.goes_to(hello()) is here.default
    assert await here.goes_to(HTTP) is here.default
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert (lab.plane.load().items, lab.plane.load().rejected) == (6, 0)


@pytest.mark.parametrize("cut", [1, 3, 5, 9, 40, len(LARGE) // 2, len(LARGE) - 1])
async def test_a_hello_in_several_packets_is_awaited(lab: Lab, cut: int) -> None:
    here = await site(lab)
    client = await lab.connects()
    await client.says(LARGE[:cut])
    await waits(lab)
    await client.says(LARGE[cut:])
    voice = await here.by_name.accepts()
    await voice.hears(LARGE)
    for letter in (b"a", b"b"):
        await client.says(letter)
        await voice.hears(letter)


async def test_a_hello_that_comes_byte_by_byte_wakes_the_node_seldom(lab: Lab) -> None:
    here = await site(lab)
    client = await lab.connects()
    await waits(lab)
    (wait,) = lab.front.connections.pending
    sizes = set()
    for byte in LARGE:
        await client.says(bytes([byte]))
        await trio.lowlevel.checkpoint()
        sizes.add(wait.seen_bytes)
    voice = await here.by_name.accepts()
    await voice.hears(LARGE)
    assert len(sizes) < 20


async def test_without_a_hello_in_time_the_other_routes_decide(lab: Lab) -> None:
    here = await site(lab, timeouts=SHORT_HEAD)
    silent, slow = await lab.connects(), await lab.connects()
    await slow.says(hello("a.example.com")[:50])
    for _ in range(2):
        voice = await here.default.accepts()
        await voice.says(b"220 ready")
    await silent.hears(b"220 ready")
    await slow.hears(b"220 ready")


async def test_where_addresses_decide_nothing_is_awaited(lab: Lab) -> None:
    near, port, far = [await lab.endpoint(name=name) for name in ("near", "port", "far")]
    await lab.serves(routed((Match(sources=("127.0.0.2/32",)), far), (Match(sources=("127.0.0.0/8",)), near)))
    await lab.connects()
    await near.accepts()
    assert not lab.front.connections.pending
    await lab.serves(
        routed(
            (Match(sni=("a",), sources=("10.0.0.0/8",)), far),
            (Match(sni=("a",), ports=(1,)), far),
            (Match(), port),
        )
    )
    await lab.connects()
    await port.accepts()


async def test_the_port_is_the_one_that_the_client_connected_to(lab: Lab) -> None:
    endpoint, other = await lab.endpoint(), await lab.endpoint(name="other")
    at = await lab.serves(routed((Match(ports=(1,)), other), (Match(), endpoint)))
    await lab.connects()
    await endpoint.accepts()
    lab.plane.apply(routed((Match(ports=(at.port,)), other), (Match(), endpoint)))
    await lab.connects()
    await other.accepts()


async def test_what_no_route_takes_is_closed_counted_and_logged_once(lab: Lab) -> None:
    here = await site(lab, has_default=False)
    for start in (hello("c.example.com"), HTTP, b"\x16\x03\x01\x00\x00"):
        client = await lab.connects()
        await client.says(start)
        await client.hears_no_word()
    await here.by_name.is_left_alone()
    load = lab.plane.load()
    assert (load.rejected, load.errors, load.connections, load.items) == (3, 0, 0, 0)
    assert lab.log.count("connection_unrouted") == 1


async def test_over_a_unix_socket_it_is_awaited_likewise(lab: Lab, tmp_path: Path) -> None:
    path = str(tmp_path / "edge.sock")
    here = await site(lab, listener=Listener(Address(path, 0)))
    client = Voice(await trio.open_unix_socket(path))
    lab.voices.append(client)
    await client.says(LARGE[:700])
    await waits(lab)
    batches = lab.plane.reactor.events
    await trio.sleep(0.01)
    assert lab.plane.reactor.events <= batches + 1
    await client.says(LARGE[700:])
    await (await here.by_name.accepts()).hears(LARGE)


async def test_a_client_that_ends_with_part_of_it_is_closed(lab: Lab) -> None:
    here = await site(lab)
    client = await lab.connects()
    await waits(lab)
    client.says_now(LARGE[:700])
    client.stream.socket.shutdown(socket.SHUT_WR)
    await client.hears_no_word()
    await here.default.is_left_alone()


@pytest.mark.parametrize("start", [b"", hello("a.example.com")[:100]])
async def test_a_connection_that_ends_before_its_hello_is_closed(lab: Lab, start: bytes) -> None:
    here = await site(lab)
    client = await lab.connects()
    if start:
        await client.says(start)
    await waits(lab)
    await client.ends()
    await client.hears_no_word()
    await here.default.is_left_alone()
    assert (lab.plane.load().connections, lab.plane.load().rejected) == (0, 0)


async def test_a_reset_before_the_hello_is_forgotten(lab: Lab) -> None:
    await site(lab)
    client = await lab.connects()
    await waits(lab)
    client.resets()
    await lab.until(lambda: lab.plane.load().connections == 0)


async def test_at_the_cap_those_that_wait_give_way(lab: Lab, clock: Clock) -> None:
    here = await site(lab, limits=Limits(connections=2))
    first = await lab.connects()
    await waits(lab)
    clock.now += 1.0
    second = await lab.connects()
    await waits(lab, 2)
    clock.now += 3.0
    third = await lab.connects()
    await third.says(hello("a.example.com"))
    await (await here.by_name.accepts()).hears(hello("a.example.com"))
    await first.hears_no_word()
    assert lab.plane.load().gave_way == 1
    await second.says(HTTP)
    await (await here.default.accepts()).hears(HTTP)


async def test_a_drain_waits_for_them_and_its_end_cuts_them(lab: Lab) -> None:
    here = await site(lab)
    first, second = await lab.connects(), await lab.connects()
    await waits(lab, 2)
    lab.plane.drain()
    await first.says(hello("a.example.com"))
    voice = await here.by_name.accepts()
    await voice.hears(hello("a.example.com"))
    assert not lab.front.drained
    lab.front.cut()
    await second.hears_no_word()


async def test_two_tiers_each_have_routes_of_their_own(lab: Lab) -> None:
    first, second = await lab.endpoint(name="first"), await lab.endpoint(name="second")
    inner = await lab.serves(
        routed((Match(sni=("a",), sources=("127.0.0.0/8",)), first), (Match(), second), listener=INNER)
    )
    edge = await lab.serves(routed((Match(sni=("a", "b")), below(inner, "node-1")), (Match(), second)))
    for name, endpoint in (("a", first), ("b", second), ("c", second)):
        client = await lab.connects(edge)
        await client.says(hello(name))
        await (await endpoint.accepts()).hears(hello(name))


async def test_a_parent_names_the_port_and_the_address_that_routes_go_by(lab: Lab) -> None:
    first, second = await lab.endpoint(name="first"), await lab.endpoint(name="second")
    by_port = Match(ports=(80,), sources=(f"{CLIENT[0]}/32",))  # as `l4_parent` has them
    await lab.serves(routed((by_port, first), (Match(), second), listener=INNER))
    client = await lab.connects()
    await client.says(l4_parent() + b"hello")
    await (await first.accepts()).hears(b"hello")


async def test_sockets_are_handed_over_after_it_as_before(lab: Lab, meeting: None) -> None:
    first, second = await lab.endpoint(name="first"), await lab.endpoint(name="second")
    inner = await lab.serves(routed((Match(sni=("a",)), first), (Match(), second), listener=INNER))
    child = below(inner, lab.plane.name)
    edge = await lab.serves(routed((Match(alpn=("h2",)), child), (Match(), second), forward=Forwarding.AUTO))
    await lab.until(lambda: lab.log.count("handoff_began") == 2)
    sent = records(message(hybrid_key_share(), alpn(b"h2"), server_name(b"a")), 300)
    client = await lab.connects(edge)
    await client.says(sent[:700])
    await waits(lab)
    await client.says(sent[700:])
    voice = await first.accepts()
    await voice.hears(sent)
    await voice.says(b"welcome")
    await client.hears(b"welcome")
    assert lab.front.counters.handed == 1
    assert len(lab.planes[0].serving.front.connections.relayed) == 1


async def test_a_connection_that_no_host_took_goes_to_another_one_of_its_route(lab: Lab) -> None:
    dead, alive, other = await lab.nobody(), await lab.endpoint(name="alive"), await lab.endpoint(name="other")
    await lab.serves(l4(rules=(Rule(Match(sni=("a",)), send(dead, alive)), Rule(Match(), send(other)))))
    for _ in range(3):
        client = await lab.connects()
        await client.says(hello("a"))
        await (await alive.accepts()).hears(hello("a"))
    await other.is_left_alone()


async def test_a_snapshot_that_comes_meanwhile_decides(lab: Lab) -> None:
    here = await site(lab)
    client = await lab.connects()
    await waits(lab)
    lab.plane.apply(routed((Match(sni=("a.example.com",)), here.by_protocol), (Match(), here.default)))
    await client.says(hello("a.example.com"))
    await (await here.by_protocol.accepts()).hears(hello("a.example.com"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "tls").mkdir()
    return Authority(tmp_path / "tls")


@pytest.mark.parametrize("way", [Forwarding.AUTO, Forwarding.RELAY])
async def test_at_one_port_tls_is_passed_to_an_l7_node_that_ends_it_and_to_a_pool(
    lab: Lab, authority: Authority, meeting: None, way: Forwarding
) -> None:
    web, pool = await lab.endpoint(name="web"), await lab.endpoint(name="pool")
    lab.background.start_soon(web.answers_all, OK)
    at = await lab.serves(l7(web, listener=INNER, tls=authority.tls()))
    child = below(at, lab.plane.name)
    await lab.serves(routed((Match(sni=(NAME,)), child), (Match(), pool), forward=way))
    if way is Forwarding.AUTO:
        await lab.until(lambda: lab.log.count("handoff_began") == 2)
    client = await connects_by_tls(lab, authority.client())
    for _ in range(2):
        assert (await client.asks(HTTP)).body == b"ok"
    assert lab.front.counters.handed == (way is Forwarding.AUTO)
    other = await lab.connects()
    await other.says(hello("db.example"))
    await (await pool.accepts()).hears(hello("db.example"))


async def test_a_tier_that_ends_tls_routes_by_the_name_of_the_handshake(lab: Lab, authority: Authority) -> None:
    by_name, default = await lab.endpoint(name="by-name"), await lab.endpoint(name="default")
    tls = authority.tls(NAME, "other.example")
    await lab.serves(routed((Match(sni=(NAME,)), by_name), (Match(), default), tls=tls))
    for name, endpoint in ((NAME, by_name), ("other.example", default)):
        client = await connects_by_tls(lab, authority.client(), name=name)
        await client.says(b"hello")
        await (await endpoint.accepts()).hears(b"hello")
