"""The server against real children, and against bytes that no child would send."""

import os
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
import trio.lowlevel

from tests.joining import admit, upgrade_request
from tierlb.model.address import Address
from tierlb.net import websocket_upgrade
from tierlb.net.door import MOST_STRANGERS
from tierlb.net.websocket import Disconnected, connect
from tierlb.net.websocket_server import WebsocketServer
from tierlb.wire.allowance import EXCEEDED, MAX_UNITS
from tierlb.wire.frames import MAX_FRAME_BYTES

DEADLINE_S = 30.0
LISTEN = Address("127.0.0.1", 0)
UPGRADE = upgrade_request("secret")


@attrs.define(eq=False)
class ConnectionHandler:
    """Sends everything back; `fail` makes it a buggy one."""

    connection: object
    received: list = attrs.field(factory=list)
    reasons: list = attrs.field(factory=list)
    came: trio.Event = attrs.field(factory=trio.Event)
    fail: bool = False

    def receive(self, data, now):
        if self.fail or data == b"crash":
            raise RuntimeError("a bug")
        self.received.append(data)
        self.came.set()
        if data == b"bye":
            self.connection.close("go away")
        else:
            self.connection.send(data)

    def ended(self, reason):
        self.reasons.append(reason)
        self.came.set()


@attrs.define
class ServerPort:
    """A running server and the handlers of all connections that it has had."""

    url: str
    address: Address
    handlers: list
    crashes: list

    async def handler(self, index=0):
        with trio.fail_after(DEADLINE_S):
            while len(self.handlers) <= index:  # noqa: ASYNC110 (a real socket is on its way)
                await trio.sleep(0.005)
        return self.handlers[index]

    async def ended(self, index=0):
        handler = await self.handler(index)
        with trio.fail_after(DEADLINE_S):
            while not handler.reasons:  # noqa: ASYNC110
                await trio.sleep(0.005)
        (reason,) = handler.reasons
        return reason


async def started(nursery, **options):
    handlers, crashes = [], []

    def greet(connection):
        handlers.append(ConnectionHandler(connection))
        return handlers[-1]

    address = await nursery.start(WebsocketServer(greet, admit, crashes.append, **options).serve, LISTEN)
    return ServerPort(f"ws://{address}", address, handlers, crashes)


@pytest.fixture
async def port(nursery):
    return await started(nursery)


@asynccontextmanager
async def raw(port, first=UPGRADE):
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(port.address.host, port.address.port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(first)
            if first == UPGRADE:
                assert b"101" in await stream.receive_some(4096)
            yield stream


async def read_all(stream):
    data = b""
    with suppress(trio.BrokenResourceError):
        while chunk := await stream.receive_some(65536):
            data += chunk
    return data


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
async def test_messages_of_all_sizes_pass_both_ways(port, size):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await channel.send(bytes(size))
            assert await channel.receive() == bytes(size)


async def test_many_children_are_read_in_order(port):
    async def talk(number):
        async with connect(port.url, "secret") as channel:
            for count in range(20):
                await channel.send(b"%d %d" % (number, count))
            for count in range(20):
                assert await channel.receive() == b"%d %d" % (number, count)

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(talk, number)


@pytest.mark.parametrize("token", ["?", "Secret", "secret2"])
async def test_a_wrong_token_is_refused(port, token):
    with trio.fail_after(DEADLINE_S), pytest.raises(Disconnected, match="status 401"):
        async with connect(port.url, token):
            pytest.fail("connected")
    assert port.handlers == []


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (UPGRADE.replace(b"tierlb.v1", b"other.v9"), b"HTTP/1.1 400"),
        (UPGRADE.replace(b"Authorization", b"X-Other"), b"HTTP/1.1 401"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"\x16\x03\x01\x02\x00\x01", None),
        (b"GET /" + b"x" * 100_000, b""),
    ],
)
async def test_what_is_no_upgrade_request_gets_no_further(port, first, answer, monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "UPGRADE_TIMEOUT_S", 0.2)
    async with raw(port, first) as stream:
        assert (await read_all(stream)).startswith(answer or b"")
    assert port.handlers == []


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (UPGRADE.replace(b"tierlb.v1", b"other.v9"), b"HTTP/1.1 400"),
        (UPGRADE.replace(b"secret", b"wrong"), b"HTTP/1.1 401"),
    ],
)
async def test_one_that_is_refused_while_it_sends_reads_the_answer_and_no_reset(port, first, answer):
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(port.address.host, port.address.port) as stream:
            await stream.send_all(first + bytes(300_000))
            data = b"".join([piece async for piece in stream])
    assert data.startswith(answer)


async def test_one_that_never_finishes_its_request_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "UPGRADE_TIMEOUT_S", 0.05)
    async with raw(port, UPGRADE[:50]) as stream:
        assert await read_all(stream) == b""


async def test_a_message_in_fragments_byte_by_byte_is_one_message(port):
    frames = b"\x02\x82\x00\x00\x00\x00he" + b"\x89\x80\x00\x00\x00\x00" + b"\x80\x83\x00\x00\x00\x00llo"
    async with raw(port) as stream:
        for at in range(len(frames)):
            await stream.send_all(frames[at : at + 1])
            await trio.lowlevel.checkpoint()
        data = b""
        while b"\x82\x05hello" not in data:
            data += await stream.receive_some(4096)
    assert b"\x8a\x00" in data, "the ping in between was answered"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (b"\x82\x05hello", "unmasked"),
        (b"\xf2\x80\x00\x00\x00\x00", "Reserved bit"),
        (b"\x83\x80\x00\x00\x00\x00", "Invalid opcode"),
        (b"\x81\x81\x00\x00\x00\x00\xff", "utf-8"),
        (b"\x88\x82\x00\x00\x00\x00\x03\xe8", "1000"),
    ],
)
async def test_frames_that_break_the_rules_end_the_connection(port, frames, reason):
    async with raw(port) as stream:
        await stream.send_all(frames)
        assert await read_all(stream)
    assert reason.lower() in (await port.ended()).lower()


async def test_a_child_that_sends_thousands_of_messages_at_once_reads_why_it_was_cut_off(port):
    """Also where its handler closes at the first of them."""
    for first in (b"\x81\x81\x00\x00\x00\x00x", b"\x82\x83\x00\x00\x00\x00bye"):
        async with raw(port) as stream:
            await stream.send_all(first + b"\x81\x81\x00\x00\x00\x00x" * 9_000)
            assert EXCEEDED.encode() in await read_all(stream)
    assert [len(handler.received) for handler in port.handlers] == [MAX_UNITS, 1]


async def test_a_handler_may_close_and_the_child_learns_why(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await channel.send(b"bye")
            with pytest.raises(Disconnected, match="go away"):
                await channel.receive()
    assert await port.ended() == "go away"


async def test_a_child_that_leaves_ends_its_connection(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await channel.send(b"x")
            await channel.receive()
            await channel.close("done here")
    assert await port.ended() == "done here"


async def test_a_child_that_is_cut_off_ends_its_connection(port):
    async with raw(port):
        pass
    assert await port.ended() == "the connection was lost"


async def test_a_bug_in_a_handler_costs_only_its_own_connection(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as good, connect(port.url, "secret") as bad:
            await bad.send(b"crash")
            with pytest.raises(Disconnected, match="internal error"):
                await bad.receive()
            await good.send(b"x")
            assert await good.receive() == b"x"
    assert [str(error) for error in port.crashes] == ["a bug"]


async def test_a_message_over_the_cap_ends_only_its_own_connection(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as big, connect(port.url, "secret") as small:
            with suppress(Disconnected):
                await big.send(bytes(MAX_FRAME_BYTES + 1))
            with pytest.raises(Disconnected):
                await big.receive()
            await small.send(b"x")
            assert await small.receive() == b"x"


async def test_a_child_that_does_not_read_is_cut_off_and_a_slow_one_gets_everything(port):
    async with raw(port) as stream:
        connection = (await port.handler(0)).connection
        for _ in range(1000):
            connection.send(bytes(100_000))
        assert port.handlers[0].reasons == ["the child does not read"]
    async with raw(port) as stream:
        connection = (await port.handler(1)).connection
        sent, waits = 0, False
        while not waits:
            connection.send(bytes(60_000))
            sent += 60_000
            with trio.move_on_after(0.05) as scope:
                await connection.drained()
            waits = scope.cancelled_caught
        got = 0
        while got < sent:
            got += len(await stream.receive_some(65536))
        await connection.drained()


async def test_a_stopped_server_ends_all_lines(nursery):
    handlers = []

    def greet(connection):
        handlers.append(ConnectionHandler(connection))
        return handlers[-1]

    async def run(task_status):
        with trio.CancelScope() as scope:
            server = WebsocketServer(greet, admit, pytest.fail)
            async with trio.open_nursery() as inner:
                address = await inner.start(server.serve, LISTEN)
                task_status.started((address, scope))

    address, scope = await nursery.start(run)
    with trio.fail_after(DEADLINE_S):
        async with connect(f"ws://{address}", "secret") as channel:
            await channel.send(b"x")
            await channel.receive()
            scope.cancel()
            with pytest.raises(Disconnected):
                await channel.receive()
    assert handlers[0].reasons == ["this parent stops"]


@pytest.mark.parametrize("end_fails", [False, True])
async def test_a_connection_on_which_the_server_itself_fails_is_ended_and_others_go_on(port, monkeypatch, end_fails):
    works, failed = os.read, []
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as bad, connect(port.url, "secret") as other:
            for channel in (bad, other):
                await channel.send(b"x")
                assert await channel.receive() == b"x"

            def fail_once(fd, size):
                if not failed:
                    failed.append(fd)
                    raise ValueError(fd)
                return works(fd, size)

            monkeypatch.setattr(os, "read", fail_once)
            if end_fails:
                port.handlers[0].reasons = None  # so its `ended` raises
            await bad.send(b"y")
            with pytest.raises(Disconnected):
                await bad.receive()
            await other.send(b"z")
            assert await other.receive() == b"z"
    assert [type(error) for error in port.crashes] == [ValueError, *[AttributeError] * end_fails]


async def test_more_connections_than_allowed_are_not_taken(nursery):
    port = await started(nursery, most=1)
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await channel.send(b"x")
            await channel.receive()
            async with connect(port.url, "secret") as other:
                with pytest.raises(Disconnected, match="there are 1 children already"):
                    await other.receive()
            async with await trio.open_tcp_stream(port.address.host, port.address.port) as stream:
                await stream.send_all(UPGRADE + bytes(300_000))
                data = b"".join([piece async for piece in stream])
            assert b"there are 1 children already" in data, "one that is sending reads it as well"
            await channel.send(b"y")
            assert await channel.receive() == b"y"


async def test_children_and_pages_get_in_beside_any_number_of_strangers_that_say_nothing(port):
    """Children that are there stay, whatever comes."""
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as child:
            strangers = []
            for _ in range(3 * MOST_STRANGERS):
                strangers.append(await trio.open_tcp_stream(port.address.host, port.address.port))
                await strangers[-1].send_all(b"GET /")
            async with connect(port.url, "secret") as another:
                for channel in (child, another):
                    await channel.send(b"x")
                    assert await channel.receive() == b"x"
            for stream in strangers:
                await trio.aclose_forcefully(stream)
