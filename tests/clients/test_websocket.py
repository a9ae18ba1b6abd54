"""A WebSocket client through edge and l7 tier: the upgrade, then a tunnel that is transparent both ways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.clients.app import MAX_MESSAGE_BYTES, pattern
from tests.clients.conftest import Site

DEADLINE_S = 60.0
MIB = 1024 * 1024


@asynccontextmanager
async def conversation(site: Site, *subprotocols: str) -> AsyncIterator[WebSocketConnection]:
    """A websocket on a stream of ours: the library leaves its own one open when the peer closes first."""
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*site.sockaddr) as stream, trio.open_nursery() as nursery:
            websocket = await wrap_client_stream(
                nursery,
                stream,
                site.listen,
                "/conversation",
                subprotocols=list(subprotocols) or None,
                max_message_size=MAX_MESSAGE_BYTES,
            )
            yield websocket
            await websocket.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("message", ["hello", "grüße, 世界", b"\x00\xff", b"", pattern(MIB)], ids=len)
async def test_a_message_comes_back_as_it_was_sent(site: Site, message: str | bytes) -> None:
    async with conversation(site) as websocket:
        await websocket.send_message(message)
        assert await websocket.get_message() == message


async def test_messages_keep_their_order(site: Site) -> None:
    messages = [f"{number}" for number in range(500)]
    async with conversation(site) as websocket, trio.open_nursery() as nursery:

        async def send_all() -> None:
            for message in messages:
                await websocket.send_message(message)

        nursery.start_soon(send_all)
        assert [await websocket.get_message() for _ in messages] == messages


async def test_the_subprotocol_that_the_application_chose_is_passed_on(site: Site) -> None:
    async with conversation(site, "other", "echo") as websocket:
        assert websocket.subprotocol == "echo"


async def test_a_ping_is_answered_through_the_tunnel(site: Site) -> None:
    async with conversation(site) as websocket:
        await websocket.ping(b"through")
        await websocket.send_message("after")
        assert await websocket.get_message() == "after"


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, "away"), (4321, "as agreed")])
async def test_the_application_s_close_code_reaches_the_client(site: Site, code: int, reason: str) -> None:
    async with conversation(site) as websocket:
        await websocket.send_message(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.get_message()
        assert (closed.value.reason.code, closed.value.reason.reason) == (code, reason)


async def test_many_conversations_go_on_side_by_side(site: Site) -> None:
    heard: dict[int, str | bytes] = {}

    async def talk(number: int) -> None:
        async with conversation(site) as websocket:
            await websocket.send_message(f"I am {number}")
            heard[number] = await websocket.get_message()

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(talk, number)
    assert heard == {number: f"I am {number}" for number in range(30)}
