"""Bound UDP sockets in the reactor: what is read reaches its session, answers leave by the address that was asked."""

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tierlb.model.address import Address, Transport
from tierlb.model.snapshot import Listener
from tierlb.net.datagrams import (
    DATAGRAMS_PER_EVENT,
    DatagramPort,
    DatagramSession,
    datagram_port,
    dial_datagrams,
    open_datagram_socket,
)
from tierlb.net.io import IN_C
from tierlb.net.reactor import READ, Reactor
from tierlb.net.wheel import NEVER


class Echo(DatagramSession):
    """Answers what it gets, but for "fail" and "leave", which it does."""

    def __init__(self, port: DatagramPort, key: Any) -> None:
        self.port = port
        self.key = key
        self.heard: list[bytes] = []
        self.aborted = False
        port.sessions[key] = self

    def ask(self, data: bytes) -> None:
        if data == b"fail":
            raise ValueError("of the test")
        if data == b"leave":
            self.port.leave(self.key)
            return
        self.heard.append(data)
        self.port.answer(data, self.key)

    def abort(self) -> None:
        self.aborted = True


class Bench:
    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.ports: list[DatagramPort] = []
        self.clients: list[socket.socket] = []
        self.lost: list[int] = []
        self.newcomers: list[tuple[tuple[str, int], bytes]] = []

    def opens(self, host: str, **options: Any) -> DatagramPort:
        address = Address(host, 0)
        sock = open_datagram_socket(address, shared=False)
        listener = Listener(address, protocol=Transport.UDP, **options)
        self.ports.append(datagram_port(self.reactor, listener, sock, self.newcomer, self.lost.append))
        return self.ports[-1]

    def newcomer(self, port: DatagramPort, key: Any, data: bytes) -> None:
        self.newcomers.append((port.source_of(key), data))
        if data == b"fail at once":
            raise ValueError("of the test")
        Echo(port, key).ask(data)

    def turn(self) -> None:
        """What is queued has its turn."""
        self.reactor.ready.serve()

    def client(self, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(30)
        sock.bind((host, 0))
        self.clients.append(sock)
        return sock

    def dispose(self) -> None:
        for port in self.ports:
            port.sessions.clear()
            port.close()
        for sock in self.clients:
            sock.close()
        self.reactor.dispose()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.dispose()


def number_of(port: DatagramPort) -> int:
    number: int = port.sock.getsockname()[1]
    return number


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.7"), ("::1", "::1"), ("::", "::1")],
)
def test_an_answer_comes_from_the_address_that_was_asked(bench: Bench, bound: str, asked: str) -> None:
    """A client with a connected socket takes no other."""
    port, client = bench.opens(bound), bench.client("::1" if ":" in asked else "127.0.0.1")
    client.connect((asked, number_of(port)))
    for data in (b"one", b"", b"x" * 60_000):
        client.send(data)
        bench.reactor.stint()
        assert client.recv(65536) == data
    assert [source for source, _ in bench.newcomers] == [client.getsockname()[:2]]


def test_a_client_that_asks_two_addresses_has_two_sessions(bench: Bench) -> None:
    port, client = bench.opens("0.0.0.0"), bench.client("127.0.0.1")
    for host in ("127.0.0.1", "127.0.0.7"):
        client.sendto(b"?", (host, number_of(port)))
        bench.reactor.stint()
        assert client.recvfrom(100) == (b"?", (host, number_of(port)))
    assert len(port.sessions) == 2


def test_those_outside_of_the_networks_are_refused_and_counted(bench: Bench) -> None:
    port = bench.opens("127.0.0.1", accept_from=("127.0.0.2/32",))
    for host in ("127.0.0.1", "127.0.0.2"):
        bench.client(host).sendto(b"?", port.sock.getsockname())
    bench.reactor.stint()
    assert ([source[0] for source, _ in bench.newcomers], port.strangers) == (["127.0.0.2"], 1)


def test_a_turn_is_bounded_and_grows_with_what_there_is(bench: Bench) -> None:
    port, client = bench.opens("127.0.0.1"), bench.client("127.0.0.1")
    for _ in range(DATAGRAMS_PER_EVENT * 3):
        client.sendto(b"?", port.sock.getsockname())
    watch = Watch(bench.reactor, port)
    while watch.heard[-1] < DATAGRAMS_PER_EVENT * 3:
        bench.reactor.stint()
    counts = [later - earlier for earlier, later in itertools.pairwise(watch.heard)]
    assert max(counts) == DATAGRAMS_PER_EVENT
    if not IN_C:
        assert counts[:3] == [1, 2, 4], "reads that find nothing are few"


class Watch:
    """Has a turn after each of the port's, and notes how much has been heard by then."""

    queued = False

    def __init__(self, reactor: Reactor, port: DatagramPort) -> None:
        self.reactor = reactor
        self.port = port
        self.heard = [0]
        reactor.ready.add(self)

    def on_turn(self) -> None:
        self.heard.append(sum(len(session.heard) for session in self.port.sessions.values()))  # type: ignore[attr-defined]
        if self.heard[-1] < DATAGRAMS_PER_EVENT * 3:
            self.reactor.ready.add(self)


def test_an_error_costs_the_session_that_it_is_of(bench: Bench) -> None:
    port, client, other = bench.opens("127.0.0.1"), bench.client("127.0.0.1"), bench.client("127.0.0.1")
    port.burst = DATAGRAMS_PER_EVENT
    for sock in (client, other):
        sock.sendto(b"1", port.sock.getsockname())
    client.sendto(b"fail", port.sock.getsockname())
    bench.client("127.0.0.1").sendto(b"fail at once", port.sock.getsockname())
    other.sendto(b"2", port.sock.getsockname())
    bench.reactor.stint()
    first, second = port.sessions.values()
    assert isinstance(first, Echo)
    assert isinstance(second, Echo)
    assert (first.aborted, second.heard, len(bench.crashes)) == (True, [b"1", b"2"], 2)


def test_a_port_that_is_closed_reads_no_more_and_answers_until_its_last_session_is_over(bench: Bench) -> None:
    port, client = bench.opens("127.0.0.1"), bench.client("127.0.0.1")
    at = port.sock.getsockname()
    client.sendto(b"1", at)
    bench.reactor.stint()
    client.recv(100)
    port.close()
    client.sendto(b"2", at)
    bench.reactor.stint()
    ((key, session),) = port.sessions.items()
    assert isinstance(session, Echo)
    assert session.heard == [b"1"]
    port.answer(b"late answer", key)
    bench.turn()
    assert client.recv(100) == b"late answer"
    port.leave(key)
    bench.reactor.stint()
    assert port.sock.fileno() == -1


def test_a_port_that_finishes_takes_what_is_there_and_goes_on_for_its_sessions(bench: Bench) -> None:
    port, client = bench.opens("127.0.0.1"), bench.client("127.0.0.1")
    at = port.sock.getsockname()
    for data in (b"1", b"2"):
        client.sendto(data, at)
    port.finish()
    client.sendto(b"3", at)
    bench.reactor.stint()
    (session,) = port.sessions.values()
    assert isinstance(session, Echo)
    assert session.heard == [b"1", b"2", b"3"]


def test_a_port_without_sessions_closes_at_once(bench: Bench) -> None:
    for end in ("close", "finish"):
        port = bench.opens("127.0.0.1")
        getattr(port, end)()
        assert port.sock.fileno() == -1


def test_the_number_of_a_port_that_regular_work_closes_is_free_after_the_batch(bench: Bench) -> None:
    """Regular work is done between the poll and the handlers: there may be an event of the port's."""
    port, client = bench.opens("127.0.0.1"), bench.client("127.0.0.1")
    number, heard = port.sock.fileno(), []
    client.sendto(b"1", port.sock.getsockname())

    def work(now: float) -> float:
        if port.sock.fileno() != -1:
            port.close()
            bench.reactor.add(bench.client("127.0.0.1").fileno(), READ, heard.append)
        return NEVER

    bench.reactor.beat.begin(work)
    bench.reactor.stint()
    assert heard == []
    assert bench.client("127.0.0.1").fileno() == number


def test_a_port_out_of_service_reads_no_more_after_the_end_of_its_last_session(bench: Bench) -> None:
    port, client = bench.opens("127.0.0.1"), bench.client("127.0.0.1")
    client.sendto(b"1", port.sock.getsockname())
    bench.reactor.stint()
    client.sendto(b"leave", port.sock.getsockname())
    client.sendto(b"2", port.sock.getsockname())
    port.ended, port.burst = True, DATAGRAMS_PER_EVENT
    bench.reactor.stint()
    assert (port.sock.fileno(), bench.crashes) == (-1, [])


def test_an_answer_that_the_kernel_does_not_take_is_lost_and_counted(bench: Bench) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        port, client = bench.opens(host), bench.client("127.0.0.1")
        client.sendto(b"1", ("127.0.0.1", number_of(port)))
        bench.reactor.stint()
        (key,) = port.sessions
        port.answer(b"x" * 66_000, key)
        bench.turn()
    assert bench.lost == [1, 1]


def test_a_taken_address_is_named(bench: Bench) -> None:
    with bench.client("127.0.0.1") as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            open_datagram_socket(address, shared=False)


def test_a_connected_socket_is_refused_by_a_port_where_nothing_listens(bench: Bench) -> None:
    with bench.client("127.0.0.1") as gone:
        address = Address(*gone.getsockname())
    sock, code = dial_datagrams(address, 0)
    with sock:
        assert code == 0
        sock.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


def test_an_address_without_a_route_is_an_error_at_once() -> None:
    sock, code = dial_datagrams(Address("255.255.255.255", 1), 0)
    sock.close()
    assert code != 0
