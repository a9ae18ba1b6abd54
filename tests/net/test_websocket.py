"""The child's end: against a real parent, and against bytes that no parent would send."""

from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from tests.joining import admit
from tierlb.model.address import Address
from tierlb.net.page import say_goodbye
from tierlb.net.websocket import LOST, Disconnected, connect
from tierlb.net.websocket_server import WebsocketServer
from tierlb.net.websocket_upgrade import accept_upgrade
from tierlb.wire.frames import MAX_FRAME_BYTES

DEADLINE_S = 30.0
LISTEN = Address("127.0.0.1", 0)
CLOSE = "close: "


class Echo:
    """Sends everything back, or closes with the reason that it is sent."""

    def __init__(self, connection):
        self.connection = connection

    def receive(self, data, now):
        text = data.decode("latin-1")
        if text.startswith(CLOSE):
            self.connection.close(data[len(CLOSE) :].decode())
        else:
            self.connection.send(data)

    def ended(self, reason):
        pass


@pytest.fixture
async def url(nursery):
    return f"ws://{await nursery.start(WebsocketServer(Echo, admit, pytest.fail).serve, LISTEN)}"


async def test_messages_pass_both_ways(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            for message in (b"\x00\xff", b"", bytes(300_000)):
                await channel.send(message)
                assert await channel.receive() == message
            assert channel.local_host == "127.0.0.1"


@pytest.mark.parametrize("token", ["?", "Secret", "secret2"])
async def test_a_wrong_token_is_refused(url, token):
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match="status 401"):
        async with connect(url, token):
            pytest.fail("connected")


@pytest.mark.parametrize("token", ["", "two\r\nlines", "é"])
async def test_without_a_token_that_can_be_sent_nothing_is_dialled(url, token):
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match="there is no token for it"):
        async with connect(url, token):
            pytest.fail("connected")


async def test_a_refused_connection_is_disconnected():
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match=r"127\.0\.0\.1:1"):
        async with connect("ws://127.0.0.1:1", "secret"):
            pytest.fail("connected")


async def test_the_reason_of_a_close_arrives_cut_to_what_fits(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send((CLOSE + "é" * 100).encode())
            with pytest.raises(Disconnected) as caught:
                await channel.receive()
            assert str(caught.value) == "é" * 60
            with pytest.raises(Disconnected):
                await channel.send(b"too late")


async def test_a_message_over_the_cap_ends_only_its_own_connection(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as big, connect(url, "secret") as small:
            with suppress(Disconnected):
                await big.send(bytes(MAX_FRAME_BYTES + 1))
            with pytest.raises(Disconnected):
                await big.receive()
            await small.send(b"x")
            assert await small.receive() == b"x"


class BodyError(Exception):
    pass


@pytest.mark.parametrize("closes", [False, True])
async def test_an_error_of_the_caller_comes_out_as_it_is(url, closes):
    async def fail():
        async with connect(url, "secret") as channel:
            if closes:
                await channel.send(CLOSE.encode())
            raise BodyError

    with trio.fail_after(DEADLINE_S), pytest.raises(BodyError):
        await fail()


async def test_cancellation_passes(url):
    with trio.fail_after(DEADLINE_S), trio.CancelScope() as scope:
        async with connect(url, "secret") as channel:
            scope.cancel()
            await channel.receive()
    assert scope.cancelled_caught


# Parents that do not behave.


async def answering(nursery, answer):
    """A server that reads a request, sends these bytes and ends the connection, or with None is silent."""

    async def attend(stream):
        with suppress(trio.BrokenResourceError):
            await stream.receive_some(4096)
            if answer is None:
                await trio.sleep_forever()
            await stream.send_all(answer)

    listeners = await nursery.start(trio.serve_tcp, attend, 0)
    return f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "does not answer as a parent: it closed the connection"),
        (b"garbage\r\n\r\n", "does not answer as a parent: that is no answer to an upgrade request"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", "refused the connection with status 503"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "refused the connection with status 404"),
    ],
)
async def test_what_is_no_parent_is_told_apart_at_once(nursery, autojump_clock, answer, reason):
    url = await answering(nursery, answer)
    autojump_clock.autojump_threshold = 0.1
    began_s = trio.current_time()
    with pytest.raises(Disconnected, match=reason):
        async with connect(url, "secret"):
            pytest.fail("connected")
    assert trio.current_time() == began_s


async def test_a_parent_that_does_not_answer_is_given_up(nursery, autojump_clock):
    url = await answering(nursery, None)
    autojump_clock.autojump_threshold = 0.1
    with pytest.raises(Disconnected, match="does not answer as a parent"):
        async with connect(url, "secret"):
            pytest.fail("connected")


@asynccontextmanager
async def talking_to(nursery, *pieces):
    """A channel to a parent that upgrades, sends these bytes and ends the connection."""

    async def attend(stream):
        await accept_upgrade(stream, admit)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"".join(pieces))
            await say_goodbye(stream)

    (listener,) = await nursery.start(partial(trio.serve_tcp, attend, 0, host="127.0.0.1"))
    with trio.fail_after(DEADLINE_S):
        async with connect(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}", "secret") as channel:
            yield channel


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (b"", LOST),
        (b"\x82\x05he", LOST),
        (b"\x88\x02\x03\xe8", "closed with code 1000"),
        (b"\x88\x06\x0f\xa0gone", "gone"),
        (b"\xf2\x00", "Reserved bit set unexpectedly"),
        (b"\x82\x80mask", "unexpected masked frame"),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x50\x00\x00" + bytes(0x500000), "Exceeded maximum message size"),
    ],
)
async def test_however_a_parent_ends_it_the_child_is_disconnected_and_knows_why(nursery, frames, reason):
    async with talking_to(nursery, b"\x82\x02hi", frames) as channel:
        assert await channel.receive() == b"hi"
        with pytest.raises(Disconnected, match=reason):
            await channel.receive()
        with suppress(Disconnected):
            await channel.send(b"x")


async def test_text_is_its_bytes_and_a_ping_is_no_message(nursery):
    async with talking_to(nursery, b"\x89\x01?", b"\x81\x02\xc3\xa9") as channel:
        assert await channel.receive() == "é".encode()
