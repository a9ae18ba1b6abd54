"""A parent's PROXY header is read before a connection is relayed, and nothing behind it is."""

import attrs
import pytest
import trio

from tests.dataplane.conftest import CLIENT, DATA_KEY, INNER, FakeEndpoint, Lab, Voice, below, l4, l4_parent, l7_parent
from tierlb.dataplane.l4 import introduction
from tierlb.model.load import Echo
from tierlb.wire.proxy_protocol import DATA_KEY_TLV, PARENT, PROCESS, VIA, encode_local

HEADER = l4_parent(name="edge-1")


async def introduced(lab: Lab) -> tuple[Voice, FakeEndpoint]:
    endpoint = await lab.endpoint(child=True)
    await lab.serves(l4(endpoint, listener=INNER))
    return await lab.connects(), endpoint


async def source_heard(voice: Voice) -> tuple[str, int] | None:
    return (await voice.hears_proxy_header()).source


async def test_two_l4_tiers_pass_the_client_on(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True)
    inner = await lab.serves(l4(endpoint, listener=INNER))
    outer = await lab.serves(l4(below(inner, "node-1")))
    client = await lab.connects(outer)
    await client.says(b"hello")
    voice = await endpoint.accepts()
    header = await voice.hears_proxy_header()
    assert header.source == client.name
    speaks_for_itself = {PARENT: b"node-1", DATA_KEY_TLV: DATA_KEY, PROCESS: b"boot-1"}
    assert header.tlvs == {**speaks_for_itself, VIA: b"node-2/boot-2"}
    assert lab.planes[0].echo("node-2") == Echo(1, 1, 1)
    await voice.hears(b"hello")
    await voice.says(b"welcome")
    await client.hears(b"welcome")
    await client.ends()
    await voice.hears_end()


async def test_the_way_through_all_parents_above_is_passed_on(lab: Lab) -> None:
    client, endpoint = await introduced(lab)
    await client.says(l4_parent(name="mid-1", boot_id="b2", way=b"edge-1/b1\ntop-1/b0"))
    header = await (await endpoint.accepts()).hears_proxy_header()
    assert header.tlvs[VIA] == b"mid-1/b2\nedge-1/b1\ntop-1/b0"


async def test_what_follows_the_header_is_relayed(lab: Lab) -> None:
    client, endpoint = await introduced(lab)
    await client.says(HEADER + b"hello")
    voice = await endpoint.accepts()
    assert await source_heard(voice) == CLIENT
    await voice.hears(b"hello")


async def test_a_header_in_pieces_is_read_and_small_talk_goes_on(lab: Lab) -> None:
    client, endpoint = await introduced(lab)
    for byte in HEADER:
        await client.says(bytes([byte]))
        await trio.sleep(0.002)
    voice = await endpoint.accepts()
    assert await source_heard(voice) == CLIENT
    for letter in (b"a", b"b"):
        await client.says(letter)
        await voice.hears(letter)


async def test_a_local_header_leaves_the_peer_as_the_client(lab: Lab) -> None:
    client, endpoint = await introduced(lab)
    await client.says(l7_parent())
    assert await source_heard(await endpoint.accepts()) == client.name


REFUSED = {
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "another version": HEADER[:12] + b"\x11",
    "a zero byte": b"\x00",
    "no key": encode_local(),
    "a wrong key": l4_parent(key=b"guessed"),
    "a wrong key of an l7 parent": l7_parent(key=b"guessed"),
}


@pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED)
async def test_anything_else_is_refused_and_counted(lab: Lab, start: bytes) -> None:
    client, endpoint = await introduced(lab)
    await client.says(start)
    await client.hears_no_word()
    await endpoint.is_left_alone()
    load = lab.plane.load()
    assert (load.rejected, load.items, load.connections) == (1, 0, 0)
    assert lab.log.count("connection_refused") == 1


async def test_what_comes_from_a_parent_is_counted_as_its(lab: Lab) -> None:
    client, endpoint = await introduced(lab)
    await client.says(HEADER)
    voice = await endpoint.accepts()
    await lab.until(lambda: lab.front.connections.relayed)
    assert lab.plane.echo("edge-1") == Echo(1, 1, 1)
    assert lab.plane.echo("edge-2") == Echo()
    await client.leaves()
    await voice.leaves()
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert lab.plane.echo("edge-1") == Echo(0, 1, 0)


@pytest.mark.parametrize("start", [b"", HEADER[:20]])
async def test_an_end_before_the_header_is_refused_at_once(
    lab: Lab, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introduction, "HEADER_S", 60.0)
    client, _ = await introduced(lab)
    if start:
        await client.says(start)
        await trio.sleep(0.01)
    await client.ends()
    await client.hears_no_word()
    assert lab.plane.load().rejected == 1


async def test_a_header_that_does_not_come_is_not_waited_for_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introduction, "HEADER_S", 0.1)
    client, _ = await introduced(lab)
    await client.hears_end()
    assert lab.plane.load().connections == 0


async def test_a_reset_before_the_header_is_forgotten(lab: Lab) -> None:
    client, _ = await introduced(lab)
    await lab.until(lambda: lab.front.connections.pending)
    client.resets()
    await lab.until(lambda: not lab.front.connections.pending)
    assert lab.plane.load().connections == 0


DIRECT = attrs.evolve(INNER, direct=True)


async def test_where_a_parent_forwards_in_the_kernel_clients_are_taken_as_they_come(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True)
    await lab.serves(l4(endpoint, listener=DIRECT, parents=("edge-1/b",), kernel_parents=("edge-1/b",)))
    client = await lab.connects()
    await client.says(b"hello")
    voice = await endpoint.accepts()
    assert await source_heard(voice) == client.name
    await voice.hears(b"hello")
    assert lab.plane.echo("edge-1") == Echo(1, 1, 1)


async def test_a_client_that_waits_for_the_greeting_of_its_host_gets_it(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, listener=DIRECT))
    client = await lab.connects()
    voice = await endpoint.accepts()
    await voice.says(b"220 ready\r\n")
    await client.hears(b"220 ready\r\n")


async def test_a_parent_is_one_where_clients_come_too(lab: Lab) -> None:
    endpoint = await lab.endpoint(child=True)
    await lab.serves(l4(endpoint, listener=DIRECT))
    client = await lab.connects()
    for byte in HEADER:
        await client.says(bytes((byte,)))
    assert await source_heard(await endpoint.accepts()) == CLIENT
    stranger = await lab.connects()
    await stranger.says(l4_parent(key=b"guessed"))
    await stranger.hears_no_word()


async def test_a_client_that_leaves_without_a_word_is_no_news(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l4(endpoint, listener=DIRECT))
    await (await lab.connects()).leaves()
    await lab.until(lambda: lab.plane.load().connections == 0)
    assert not lab.log.count("connection_refused")
