"""A parent's PROXY header is read before a connection is relayed, and nothing behind it is."""

import pytest
import trio

from tests.dataplane.conftest import ANY_PORT, Lab, PlayedMember, Voice, l4
from tierlb.dataplane.l4 import introduction
from tierlb.model.snapshot import Listener
from tierlb.wire.proxy_protocol import encode_local, encode_v2, parse_v2

INNER = Listener(ANY_PORT.address, proxy_protocol=True, inner=True)
HEADER = encode_v2(("192.0.2.7", 1234), ("192.0.2.1", 80))


async def introduced(lab: Lab) -> tuple[Voice, PlayedMember]:
    member = await lab.member(proxy_protocol=True)
    await lab.serves(l4(member, listener=INNER))
    return await lab.connects(), member


async def source_heard(voice: Voice) -> tuple[str, int]:
    header = parse_v2(await voice.hears_count(28))
    assert header is not None
    assert header.source is not None
    return header.source


async def test_two_l4_tiers_pass_the_client_on(lab: Lab) -> None:
    member = await lab.member(proxy_protocol=True)
    inner = await lab.serves(l4(member, listener=INNER))
    parent_view = PlayedMember.__new__(PlayedMember)
    parent_view.member = member.member.__class__("inner", "inner", inner, True)
    outer = await lab.serves(l4(parent_view))
    client = await lab.connects(outer)
    await client.says(b"hello")
    voice = await member.accepts()
    assert await source_heard(voice) == client.name
    await voice.hears(b"hello")
    await voice.says(b"welcome")
    await client.hears(b"welcome")
    await client.ends()
    await voice.hears_end()


async def test_what_follows_the_header_is_relayed(lab: Lab) -> None:
    client, member = await introduced(lab)
    await client.says(HEADER + b"hello")
    voice = await member.accepts()
    assert await source_heard(voice) == ("192.0.2.7", 1234)
    await voice.hears(b"hello")


async def test_a_header_in_pieces_is_read_and_small_talk_goes_on(lab: Lab) -> None:
    client, member = await introduced(lab)
    for byte in HEADER:
        await client.says(bytes([byte]))
        await trio.sleep(0.002)
    voice = await member.accepts()
    assert await source_heard(voice) == ("192.0.2.7", 1234)
    for letter in (b"a", b"b"):
        await client.says(letter)
        await voice.hears(letter)


async def test_a_local_header_leaves_the_peer_as_the_client(lab: Lab) -> None:
    client, member = await introduced(lab)
    await client.says(encode_local())
    assert await source_heard(await member.accepts()) == client.name


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", HEADER[:12] + b"\x11", b"\x00"])
async def test_anything_else_is_refused(lab: Lab, start: bytes) -> None:
    client, member = await introduced(lab)
    await client.says(start)
    await client.hears_no_word()
    await member.is_left_alone()
    load = lab.plane.load()
    assert (load.rejected, load.connections) == (1, 0)


@pytest.mark.parametrize("start", [b"", HEADER[:20]])
async def test_an_end_before_the_header_is_refused_at_once(lab: Lab, start: bytes) -> None:
    client, _ = await introduced(lab)
    if start:
        await client.says(start)
        await trio.sleep(0.01)
    await client.ends()
    with trio.fail_after(1):
        await client.hears_no_word()
    assert lab.plane.load().rejected == 1


async def test_a_header_that_does_not_come_is_not_waited_for_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introduction, "HEADER_S", 0.1)
    client, _ = await introduced(lab)
    await client.hears_end()
    assert lab.plane.load().connections == 0


async def test_a_reset_before_the_header_is_forgotten(lab: Lab) -> None:
    client, _ = await introduced(lab)
    await lab.until(lambda: lab.front.introductions)
    client.resets()
    await lab.until(lambda: not lab.front.introductions)
    assert lab.plane.load().connections == 0
