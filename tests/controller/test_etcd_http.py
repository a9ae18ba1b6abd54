"""Requests that are given up: nothing is left open, and nobody waits for who does not read."""

import gc
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpcore
import httpx
import pytest
import trio
import trio.testing

from tests.etcd import Access
from tierlb.controller.etcd_http import CLOSE_S, EtcdBody, Transport, _Stream

DEADLINE_S = 30.0


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(tmp_path / "access")


@pytest.fixture
async def http(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    client = httpx.AsyncClient(transport=Transport(access.context), timeout=None)
    yield client
    await client.aclose()


async def test_a_handshake_that_is_given_up_leaves_no_connection(
    nursery: trio.Nursery, http: httpx.AsyncClient
) -> None:
    came, went = trio.Event(), trio.Event()

    async def say_nothing(stream: trio.SocketStream) -> None:
        async with stream:
            came.set()
            async for _ in stream:
                pass
            went.set()

    listeners = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as asking:
            asking.start_soon(http.get, f"https://127.0.0.1:{port}")
            await came.wait()
            await trio.testing.wait_all_tasks_blocked()
            asking.cancel_scope.cancel()
        gc.disable()
        try:
            await went.wait()
        finally:
            gc.enable()


class Unread(httpcore.AsyncNetworkStream):
    """Whose other end has stopped reading, so there is no way to take leave."""

    async def start_tls(self, *_: object) -> httpcore.AsyncNetworkStream:
        return self

    async def aclose(self) -> None:
        await trio.sleep_forever()


async def test_who_does_not_read_is_not_waited_for_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    began_s = trio.current_time()
    stream = await _Stream(Unread()).start_tls(ssl.create_default_context())
    await stream.aclose()
    assert trio.current_time() - began_s == CLOSE_S


async def test_a_body_is_sent_once() -> None:
    body = EtcdBody(b"content")
    assert [part async for part in body] == [b"content"]
    assert [part async for part in body] == []


def test_where_httpx_keeps_its_connections_elsewhere_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "__init__", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="elsewhere than in `_pool`"):
        Transport(None)
