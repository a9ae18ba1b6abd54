"""Requests that are given up leave nothing open, and connections are kept for a while."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from tests.etcd import Access
from tierlb.controller import etcd_http
from tierlb.controller.etcd_http import CLOSE_S, EtcdAnswer, EtcdConnections, NotSent

DEADLINE_S = 30.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
async def plain() -> AsyncIterator[EtcdConnections]:
    connections = EtcdConnections(None)
    yield connections
    await connections.close()


class Unread(trio.abc.Stream):
    """Its other end answers, has stopped reading then, and leaves no way to end the stream in an orderly way."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return OK.replace(b"200 OK", b"200 OK\r\nConnection: close")

    async def aclose(self) -> None:
        await trio.sleep_forever()


@attrs.define
class Member:
    """Answers every request, as long as it has answers; then it is silent."""

    answers: list[bytes]
    came: int = 0
    open: int = 0
    empty: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.came, self.open = self.came + 1, self.open + 1
        async with stream:
            async for _ in stream:
                if self.answers:
                    await stream.send_all(self.answers.pop(0))
        self.open -= 1
        if not self.open:
            self.empty.set()

    async def listen(self, nursery: trio.Nursery) -> str:
        listeners = await nursery.start(partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1"))
        return f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"


async def test_a_connection_is_kept_for_the_next_request(nursery: trio.Nursery, plain: EtcdConnections) -> None:
    member = Member([OK] * 3)
    place = await member.listen(nursery)
    with trio.fail_after(DEADLINE_S):
        for _ in range(3):
            assert await plain.post(place, "/v3/kv/txn", {}, b"{}") == EtcdAnswer(200, b"{}")
        await plain.close()
        await member.empty.wait()
    assert member.came == 1


@pytest.mark.parametrize("answer", [OK.replace(b"200 OK", b"200 OK\r\nConnection: close"), OK + b"more"])
async def test_one_that_ends_or_is_not_idle_is_not_used_again(
    nursery: trio.Nursery, plain: EtcdConnections, answer: bytes
) -> None:
    member = Member([answer, OK])
    place = await member.listen(nursery)
    with trio.fail_after(DEADLINE_S):
        for _ in range(2):
            assert (await plain.post(place, "/", {}, b"{}")).content == b"{}"
    assert member.came == 2


async def test_one_that_was_idle_for_long_is_not_used_again(
    nursery: trio.Nursery, plain: EtcdConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member([OK] * 2)
    place = await member.listen(nursery)
    monkeypatch.setattr(etcd_http, "ETCD_IDLE_S", 0.0)
    with trio.fail_after(DEADLINE_S):
        for _ in range(2):
            await plain.post(place, "/", {}, b"{}")
    assert member.came == 2


async def test_a_request_that_is_given_up_leaves_no_connection(nursery: trio.Nursery, plain: EtcdConnections) -> None:
    member = Member([])
    place = await member.listen(nursery)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as asking:
            asking.start_soon(plain.post, place, "/", {}, b"{}")
            while not member.came:
                await trio.testing.wait_all_tasks_blocked()
            asking.cancel_scope.cancel()
        await member.empty.wait()


async def test_a_handshake_that_is_given_up_leaves_no_connection(nursery: trio.Nursery, tmp_path: Path) -> None:
    member = Member([])
    place = await member.listen(nursery)
    connections = EtcdConnections(Access(tmp_path / "access").context)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as asking:
            asking.start_soon(connections.post, place, "/", {}, b"{}")
            while not member.came:
                await trio.testing.wait_all_tasks_blocked()
            asking.cancel_scope.cancel()
        await member.empty.wait()
        await connections.close()


@pytest.mark.parametrize("place", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
async def test_where_nothing_listens_nothing_was_sent(plain: EtcdConnections, place: str) -> None:
    with trio.fail_after(DEADLINE_S), pytest.raises(NotSent):
        await plain.post(place, "/", {}, b"{}")


async def test_a_stream_that_does_not_end_is_not_waited_for(
    plain: EtcdConnections, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def open_unread(host: str, port: int) -> Unread:
        return Unread()

    monkeypatch.setattr(etcd_http, "open_stream", open_unread)
    began_s = trio.current_time()
    assert await plain.post("127.0.0.1:1", "/", {}, b"{}") == EtcdAnswer(200, b"{}")
    assert trio.current_time() - began_s == CLOSE_S
