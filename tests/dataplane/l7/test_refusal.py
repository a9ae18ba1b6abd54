"""Turned away: the answer arrives whatever the client sends, and few linger at once."""

import os
import socket
from collections.abc import Iterator

import pytest

from tierlb.dataplane.l7 import refusal
from tierlb.dataplane.l7.refusal import MOST_LINGERING, Refusals
from tierlb.net.reactor import Reactor


class Bench:
    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.refusals = Refusals("web-1", self.reactor)
        self.clients: list[socket.socket] = []
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=200)

    def connects(self) -> int:
        """The descriptor of the node's end; the client's is the last of `clients`."""
        client = socket.create_connection(self.listening.getsockname())
        client.settimeout(10)
        self.clients.append(client)
        sock, _ = self.listening.accept()
        sock.setblocking(False)
        return sock.detach()

    def turn(self) -> None:
        for _ in range(3):
            self.reactor.stint()
        assert self.crashes == []


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.refusals.close()
    bench.reactor.dispose()
    for sock in [*bench.clients, bench.listening]:
        sock.close()


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def answer(client: socket.socket) -> bytes:
    whole = b""
    while piece := client.recv(4096):
        whole += piece
    return whole


def test_a_client_that_goes_on_sending_still_gets_the_answer_and_the_end(bench: Bench) -> None:
    fd = bench.connects()
    (client,) = bench.clients
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
    bench.refusals.refuse(fd)
    client.sendall(b"x" * 50_000)
    bench.turn()
    told = answer(client)
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in told
    assert told.endswith(b"web-1: this node is full, try again in a moment\n")
    client.close()
    bench.turn()
    assert is_closed(fd)


def test_one_whose_client_stays_is_closed_after_a_moment(bench: Bench) -> None:
    fd = bench.connects()
    bench.refusals.refuse(fd)
    bench.reactor.wheel.advance(bench.reactor.now + refusal.REFUSED_LINGER_S + 1)
    bench.turn()
    assert is_closed(fd)


def test_the_oldest_makes_room_for_the_next(bench: Bench) -> None:
    fds = [bench.connects() for _ in range(MOST_LINGERING + 3)]
    for fd in fds:
        bench.refusals.refuse(fd)
    bench.reactor.stint()
    assert [is_closed(fd) for fd in fds] == [True] * 3 + [False] * MOST_LINGERING


def test_at_once_holds_nothing(bench: Bench) -> None:
    fd = bench.connects()
    bench.refusals.refuse_at_once(fd)
    assert is_closed(fd)
    assert answer(bench.clients[0]).startswith(b"HTTP/1.1 503 ")
