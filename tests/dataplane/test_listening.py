"""Listening sockets over snapshots: by value, at the ports that they had, a moment longer than they are named."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.handoff.listener import HandoffListener
from tierlb.dataplane.listening import LISTENER_LINGER_S, Listening
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net.broker import OK, TAKE, Broker
from tierlb.net.datagrams import DatagramPort
from tierlb.net.reactor import Reactor

ONE, TWO = Listener(Address("127.0.0.1", 0)), Listener(Address("127.0.0.2", 0))


class Bench:
    def __init__(self, broker: Broker | None = None) -> None:
        self.now = 100.0
        self.counters = Counters()
        self.accepted: list[int] = []
        self.taken: list[bytes] = []
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        takers: Any = None
        handoffs = HandoffListener("node-1", None, takers)
        handoffs.drain = handoffs.close = lambda: None  # type: ignore[method-assign]
        self.listening = Listening(
            self.reactor, broker, handoffs, self.accept, lambda sock: False, self.take, lambda: self.counters
        )

    def take(self, port: DatagramPort, key: Any, data: bytes) -> None:
        self.taken.append(data)

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener) -> None:
        self.accepted.append(fd)

    def names(self, *wanted: Listener, had: dict[Listener, Address] | None = None) -> tuple[Address, ...]:
        opened = self.listening.open(wanted, had or {})
        self.listening.replace(wanted, opened, lambda listener: LISTENER_LINGER_S, self.now)
        return self.listening.addresses(wanted)

    def dispose(self) -> None:
        self.listening.close()
        for fd in self.accepted:
            os.close(fd)
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


def test_two_with_different_settings_at_one_place_are_refused(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = Address(*free.getsockname())
    plain, redirecting = Listener(place, shared=True), Listener(place, shared=True, redirect_https=443)
    with pytest.raises(OSError, match=f"different settings are both at {place}"):
        bench.listening.open((plain, redirecting), {})
    assert not listens(place)
    bench.names(plain, Listener(place, shared=True, spare=True))  # `*` where the node is to listen at ::
    assert listens(place)


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


class Lender:
    """The supervisor's end of a pair: it lends a socket, and offers the queue of another one."""

    def __init__(self) -> None:
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.broker = Broker(theirs)
        self.theirs = theirs
        self.kept, self.other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.listener = Listener(Address(*self.kept.getsockname()), shared=True)

    def send(self, word: bytes, sock: socket.socket) -> None:
        socket.send_fds(self.end, [str(self.listener.address).encode() + b" " + word], [sock.fileno()])

    def close(self) -> None:
        for sock in (self.end, self.theirs, self.kept, self.other):
            sock.close()


@pytest.fixture
def lender() -> Iterator[Lender]:
    lender = Lender()
    yield lender
    lender.close()


@pytest.fixture
def borrowing(lender: Lender) -> Iterator[Bench]:
    made = Bench(lender.broker)
    lender.send(OK, lender.kept)
    made.names(lender.listener)
    yield made
    made.dispose()
    assert made.crashes == []


def test_what_waits_in_the_queue_of_another_node_is_taken_when_the_supervisor_asks(
    lender: Lender, borrowing: Bench
) -> None:
    lender.other.setblocking(False)
    with socket.create_connection(lender.other.getsockname()), socket.create_connection(lender.other.getsockname()):
        lender.send(TAKE + b"9", lender.other)
        borrowing.reactor.stint()
    assert len(borrowing.accepted) == 2


def test_a_node_that_listens_there_no_more_takes_nothing_and_has_given_its_socket_back(
    lender: Lender, borrowing: Bench
) -> None:
    assert lender.end.recv(100) == str(lender.listener.address).encode()
    borrowing.names()
    assert lender.end.recv(100) == f"{lender.listener.address} returned".encode()
    lender.other.setblocking(False)
    with socket.create_connection(lender.other.getsockname()):
        lender.send(TAKE + b"9", lender.other)
        borrowing.reactor.stint()
        assert borrowing.accepted == []
        lender.other.accept()[0].close()


def test_a_socket_that_was_borrowed_in_vain_is_given_back(lender: Lender) -> None:
    bench = Bench(lender.broker)
    lender.send(OK, lender.kept)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bench.listening.open((lender.listener, Listener(Address(*taken.getsockname()))), {})
    assert lender.end.recv(100) + lender.end.recv(100) == (f"{lender.listener.address}" * 2 + " returned").encode()
    bench.dispose()


def test_a_supervisor_that_is_gone_is_no_reason_to_stop(lender: Lender, borrowing: Bench) -> None:
    lender.end.close()
    borrowing.reactor.stint()
    events = borrowing.reactor.events
    borrowing.reactor.stint()
    assert borrowing.reactor.events == events
    with socket.create_connection(lender.kept.getsockname()):
        borrowing.reactor.stint()
    assert len(borrowing.accepted) == 1
