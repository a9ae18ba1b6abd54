"""Listening sockets over snapshots: by value, at the ports that they had, a moment longer than they are named."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.listening import LISTENER_LINGER_S, Listening
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net.reactor import Reactor

ONE, TWO = Listener(Address("127.0.0.1", 0)), Listener(Address("127.0.0.2", 0))


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.counters = Counters()
        self.accepted: list[socket.socket] = []
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.listening = Listening(self.reactor, None, self.accept, lambda sock: False, lambda: self.counters)

    def accept(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        self.accepted.append(sock)

    def names(self, *wanted: Listener, had: dict[Listener, Address] | None = None) -> tuple[Address, ...]:
        opened = self.listening.open(wanted, had or {})
        self.listening.replace(wanted, opened, lambda listener: LISTENER_LINGER_S, self.now)
        return self.listening.addresses(wanted)

    def dispose(self) -> None:
        self.listening.close()
        for sock in self.accepted:
            sock.close()
        self.reactor.dispose()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.dispose()


def listens(address: Address) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address.sockaddr) == 0


def test_a_listener_that_stays_named_stays_as_it_is(bench: Bench) -> None:
    (first,) = bench.names(ONE)
    assert bench.names(TWO, ONE)[1] == first
    assert all(map(listens, bench.names(ONE, TWO)))


def test_one_that_is_named_no_more_lingers(bench: Bench) -> None:
    (address,) = bench.names(ONE)
    bench.names()
    bench.listening.tick(bench.now + LISTENER_LINGER_S - 0.1)
    assert listens(address)
    bench.listening.tick(bench.now + LISTENER_LINGER_S)
    assert not listens(address)


def test_one_that_is_named_again_in_time_was_never_closed(bench: Bench) -> None:
    (address,) = bench.names(ONE)
    bench.names()
    assert bench.names(ONE) == (address,)
    bench.listening.tick(bench.now + 2 * LISTENER_LINGER_S)
    assert listens(address)


def test_a_port_that_it_had_is_taken_again_if_it_is_free(bench: Bench) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        had = Address(*sock.getsockname())
        taken = bench.names(ONE, had={ONE: had})
        assert taken != (had,)
    other = Bench()
    assert other.names(ONE, had={ONE: had}) == (had,)
    other.dispose()


def test_if_one_cannot_be_opened_none_is(bench: Bench) -> None:
    (address,) = bench.names(ONE)
    new, taken = Listener(Address("127.0.0.2", 0)), Listener(Address("127.0.0.1", address.port))
    with pytest.raises(OSError, match="in use"):
        bench.listening.open((new, taken), {})
    assert bench.listening.addresses((ONE, new)) == (address, new.address)


def test_what_waits_in_the_queue_when_the_node_drains_is_taken(bench: Bench) -> None:
    (address,) = bench.names(ONE)
    with socket.create_connection(address.sockaddr):
        bench.listening.drain()
    assert len(bench.accepted) == 1
    assert not listens(address)


def test_strangers_are_counted_while_their_listener_accepts_and_after(bench: Bench) -> None:
    strict: Any = Listener(Address("127.0.0.1", 0), accept_from=("192.0.2.0/24",))
    (address,) = bench.names(strict)
    with socket.create_connection(address.sockaddr):
        bench.listening.drain()
    assert (bench.accepted, bench.listening.strangers, bench.counters.rejected) == ([], 0, 1)
