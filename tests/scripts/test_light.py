"""What is measured at light load: a proxy that answers, one that fails, and the turns of the peers."""

import os

import pytest
import trio

from scripts.benchmarks.light import _at_rate, _turn
from scripts.benchmarks.peers import Proxy

ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def listen(nursery):
    """Serves every request with the status of the list's last element."""
    status = [b"200 OK"]

    async def answer(stream: trio.SocketStream) -> None:
        async for _ in stream:
            await stream.send_all(ANSWER % status[-1])

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    return f"127.0.0.1:{listener.socket.getsockname()[1]}", status


def test_each_peer_begins_in_turn() -> None:
    assert [_turn(3, number) for number in range(3)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


async def test_a_request_has_its_part_of_what_the_proxy_used(listen, tmp_path) -> None:
    values, problem = await _at_rate(Proxy(listen[0], (os.getpid(),)), 50, 1, tmp_path)
    assert problem is None
    assert 0 <= values["user µs"] <= values["CPU µs"] < 1e6
    assert values["wake-ups"] > 0


async def test_a_request_that_fails_makes_the_cell_invalid(listen, tmp_path) -> None:
    address, status = listen
    status.append(b"503 Service Unavailable")
    _, problem = await _at_rate(Proxy(address, (os.getpid(),)), 50, 1, tmp_path)
    assert problem is not None
    assert "requests failed" in problem
