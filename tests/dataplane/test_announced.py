"""Connections that a balancer above announces: the header is awaited, believed from those that may send one, and told
on; and no peer makes a node wait for one."""

import os
import tempfile

import pytest
import trio

from tests.dataplane.conftest import DATA_KEY, FakeEndpoint, Lab, Voice, l4, l7
from tierlb.model.address import Address
from tierlb.model.listener import ProxyVersion
from tierlb.model.snapshot import Listener, PoolSettings
from tierlb.model.topology import Limits, Timeouts
from tierlb.wire.announcement import ALPN_TLV, AUTHORITY, UNIQUE_ID
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, SSL_TLV, encode_local, encode_tlv, encode_v2
from tierlb.wire.proxy_v1 import encode_v1

FROM_HERE = Listener(Address("127.0.0.1", 0), announced_from=("127.0.0.0/8",))
FROM_ELSEWHERE = Listener(Address("127.0.0.1", 0), announced_from=("192.0.2.0/24",))
CLIENT, SERVICE = ("192.0.2.7", 4711), ("198.51.100.1", 443)
TOLD = {ALPN_TLV: b"h2", AUTHORITY: b"shop.example", SSL_TLV: b"\x01\x00\x00\x00\x00", UNIQUE_ID: b"id-1"}
FORGED = {PARENT: b"edge-1", DATA_KEY_TLV: DATA_KEY}
TLVS = b"".join(encode_tlv(kind, value) for kind, value in {**TOLD, **FORGED}.items())
HEADERS = {"v1": encode_v1(CLIENT, SERVICE), "v2": encode_v2(CLIENT, SERVICE, TLVS)}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
POOL = (PoolSettings("app", announces=ProxyVersion.V2),)


async def served(lab: Lab, kind: str, listener: Listener = FROM_HERE, **options: object) -> tuple[Voice, FakeEndpoint]:
    """A client of a node whose endpoint wants to know its clients."""
    endpoint = await lab.endpoint(announces=ProxyVersion.V2)
    await lab.serves((l4 if kind == "l4" else l7)(endpoint, listener=listener, pools=POOL, **options))
    return await lab.connects(), endpoint


@pytest.mark.parametrize("kind", ["l4", "l7"])
@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_a_header_in_any_pieces_is_believed_and_told_on(lab: Lab, kind: str, version: str, pieces: int) -> None:
    client, endpoint = await served(lab, kind)
    header = HEADERS[version]
    size = max(1, len(header) // pieces)
    for start in range(0, len(header), size):
        await client.says(header[start : start + size])
        if pieces > 1:
            await trio.sleep(0.001)
    await client.says(GET)
    voice = await endpoint.accepts()
    told = await voice.hears_proxy_header()
    assert (told.source, told.destination) == (CLIENT, SERVICE)
    assert told.tlvs == (TOLD if version == "v2" else {})
    head = await voice.hears_head()
    if kind == "l7":
        assert head["x-forwarded-for"] == CLIENT[0]
    await voice.says(OK)
    assert (await client.hears_message()).status == 200


@pytest.mark.parametrize("kind", ["l4", "l7"])
async def test_a_header_and_what_follows_may_come_at_once(lab: Lab, kind: str) -> None:
    client, endpoint = await served(lab, kind)
    await client.says(HEADERS["v2"] + GET)
    voice = await endpoint.accepts()
    assert (await voice.hears_proxy_header()).source == CLIENT
    assert (await voice.hears_head()).first == "GET / HTTP/1.1"


@pytest.mark.parametrize("kind", ["l4", "l7"])
@pytest.mark.parametrize("header", [encode_local(), b"PROXY UNKNOWN\r\n"])
async def test_a_check_of_the_balancer_is_its_own_connection(lab: Lab, kind: str, header: bytes) -> None:
    client, endpoint = await served(lab, kind)
    await client.says(header + GET)
    told = await (await endpoint.accepts()).hears_proxy_header()
    assert (told.source, told.destination) == (client.name, lab.at.sockaddr)


@pytest.mark.parametrize("kind", ["l4", "l7"])
@pytest.mark.parametrize("said", [GET, b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x11", b"PROXX"])
async def test_what_is_no_header_closes_the_connection_and_is_counted(lab: Lab, kind: str, said: bytes) -> None:
    client, _ = await served(lab, kind)
    await client.says(said)
    await client.hears_no_word()
    load = lab.plane.load()
    assert (load.rejected, load.connections, lab.log.count("announcement_refused")) == (1, 0, 1)


@pytest.mark.parametrize("kind", ["l4", "l7"])
@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 192", HEADERS["v2"][:20]])
async def test_a_header_that_does_not_come_in_time_closes_it(lab: Lab, kind: str, said: bytes) -> None:
    client, _ = await served(lab, kind, timeouts=Timeouts(head=0.1))
    await client.says(said)
    await client.hears_no_word()
    load = lab.plane.load()
    assert (load.rejected, load.connections, lab.log.count("announcement_refused")) == (1, 0, 1)


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 192"])
async def test_a_peer_that_leaves_before_its_header_is_forgotten(lab: Lab, said: bytes) -> None:
    client, _ = await served(lab, "l7")
    await client.says(said)
    await client.ends()
    await client.hears_no_word()
    assert lab.plane.load().connections == 0


async def test_from_others_a_header_is_not_believed(lab: Lab) -> None:
    client, endpoint = await served(lab, "l4", FROM_ELSEWHERE)
    await client.says(HEADERS["v1"])
    voice = await endpoint.accepts()
    assert (await voice.hears_proxy_header()).source == client.name
    await voice.hears(HEADERS["v1"])


async def test_the_key_of_the_cluster_in_a_header_from_above_means_nothing(lab: Lab) -> None:
    client, endpoint = await served(lab, "l4")
    await client.says(HEADERS["v2"])
    await endpoint.accepts()
    assert lab.plane.echo("edge-1").arrivals == 0


async def test_a_node_that_ends_lets_go_of_those_that_wait(lab: Lab) -> None:
    client, _ = await served(lab, "l4")
    await client.says(b"PROXY ")
    await trio.sleep(0.01)
    lab.plane.drain()
    lab.plane.serving.cut()
    await client.hears_no_word()
    assert lab.plane.serving.drained


async def test_over_a_unix_socket_a_header_may_come_in_pieces_too(lab: Lab) -> None:
    with tempfile.TemporaryDirectory(prefix="tlb") as folder:
        listener = Listener(Address(os.path.join(folder, "a.sock"), 0), announced_from=("127.0.0.1/32",))
        endpoint = await lab.endpoint(announces=ProxyVersion.V2)
        await lab.serves(l4(endpoint, listener=listener, pools=POOL))
        async with await trio.open_unix_socket(listener.address.host) as stream:
            for start in range(0, len(HEADERS["v2"]), 9):
                await stream.send_all(HEADERS["v2"][start : start + 9])
                await trio.sleep(0.001)
            voice = await endpoint.accepts()
            assert (await voice.hears_proxy_header()).source == CLIENT


async def test_those_that_wait_for_a_header_give_way_at_the_cap(lab: Lab) -> None:
    waiting, endpoint = await served(lab, "l4", limits=Limits(connections=1))
    await lab.until(lambda: lab.plane.load().connections == 1)
    client = await lab.connects()
    await waiting.hears_no_word()
    await client.says(HEADERS["v2"])
    assert (await (await endpoint.accepts()).hears_proxy_header()).source == CLIENT


async def test_a_peer_of_a_unix_socket_that_leaves_early_is_let_go(lab: Lab) -> None:
    with tempfile.TemporaryDirectory(prefix="tlb") as folder:
        listener = Listener(Address(os.path.join(folder, "a.sock"), 0), announced_from=("127.0.0.1/32",))
        await lab.serves(l4(await lab.endpoint(), listener=listener))
        async with await trio.open_unix_socket(listener.address.host) as stream:
            await stream.send_all(b"PROXY TCP4 ")
        await lab.until(lambda: lab.plane.load().rejected == 1)
        assert lab.plane.load().connections == 0
