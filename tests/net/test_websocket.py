from contextlib import suppress

import pytest
import trio

from tests.joining import admit
from tierlb.model.address import Address
from tierlb.net.websocket import Disconnected, connect, converse, serve
from tierlb.wire.frames import MAX_FRAME_BYTES

DEADLINE_S = 30.0
LISTEN = Address("127.0.0.1", 0)


async def echo(channel):
    while True:
        await channel.send(await channel.receive())


async def start(nursery, handler):
    return f"ws://{await nursery.start(serve, handler, admit, LISTEN)}"


async def test_messages_pass_both_ways(nursery):
    url = await start(nursery, echo)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(b"\x00\xff")
            assert await channel.receive() == b"\x00\xff"


@pytest.mark.parametrize("token", ["?", "Secret", "secret2"])
async def test_a_wrong_token_is_refused(nursery, token):
    url = await start(nursery, echo)
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match="status 401"):
        async with connect(url, token):
            pytest.fail("connected")


@pytest.mark.parametrize("token", ["", "two\r\nlines", "é"])
async def test_without_a_token_that_can_be_sent_nothing_is_dialled(nursery, token):
    url = await start(nursery, echo)
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match="there is no token for it"):
        async with connect(url, token):
            pytest.fail("connected")


async def test_nobody_there_is_disconnected():
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match=r"127\.0\.0\.1:1"):
        async with connect("ws://127.0.0.1:1", "secret"):
            pytest.fail("connected")


async def test_the_reason_of_a_close_arrives_cut_to_what_fits(nursery):
    async def refuse(channel):
        await channel.close("é" * 100)

    url = await start(nursery, refuse)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            with pytest.raises(Disconnected) as caught:
                await channel.receive()
    assert str(caught.value) == "é" * 60


async def test_a_message_over_the_cap_ends_only_its_own_connection(nursery):
    url = await start(nursery, echo)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as big, connect(url, "secret") as small:
            with suppress(Disconnected):
                await big.send(bytes(MAX_FRAME_BYTES + 1))
            with pytest.raises(Disconnected):
                await big.receive()
            await small.send(b"x")
            assert await small.receive() == b"x"


async def test_a_conversation_ends_with_the_first_part_that_finds_the_peer_gone():
    async def fail():
        raise Disconnected("gone")

    with trio.fail_after(DEADLINE_S):
        assert await converse(trio.sleep_forever, fail) == "gone"
