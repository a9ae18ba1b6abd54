"""Listening sockets: who is let in, and when the node stands back."""

import errno
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net import listeners
from tierlb.net.asked import asked
from tierlb.net.io import accept4
from tierlb.net.listeners import ACCEPTS_PER_EVENT, Acceptor, open_socket
from tierlb.net.reactor import READ, Reactor
from tierlb.net.wheel import NEVER

LOOPBACK = Address("127.0.0.1", 0)


class Bench:
    """An acceptor whose owner has `room` for so many connections."""

    def __init__(self, listener: Listener, room: int) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.room = room
        self.accepted: list[tuple[int, tuple[str, int]]] = []
        self.accepted_in: list[int] = []
        self.clients: list[socket.socket] = []
        self.exhausted: list[socket.socket] = []
        self.frees = False
        sock = open_socket(listener)
        self.acceptor = Acceptor(self.reactor, listener, sock, lambda: self.room, self.accept, self.free)

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener) -> None:
        self.room -= 1
        self.accepted.append((fd, peer))
        self.accepted_in.append(self.reactor.batches)

    def free(self, listening: socket.socket, listener: Listener) -> bool:
        self.exhausted.append(listening)
        return self.frees

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.acceptor.sock.getsockname()[:2])
        client.settimeout(5)
        self.clients.append(client)
        return client

    def turn(self) -> None:
        for _ in range(3):
            self.reactor.stint()
        assert self.crashes == []

    def close(self) -> None:
        if self.acceptor.sock.fileno() != -1:
            self.acceptor.close()
        self.reactor.dispose()
        for sock in self.clients:
            sock.close()
        for fd, _ in self.accepted:
            os.close(fd)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(Listener(LOOPBACK), room=1000)
    yield bench
    bench.close()


def test_connections_are_accepted_ready_for_the_reactor(bench: Bench) -> None:
    client = bench.connect()
    bench.turn()
    ((fd, peer),) = bench.accepted
    assert peer == client.getsockname()
    assert not os.get_blocking(fd)
    assert asked(fd, lambda sock: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_a_crowd_is_accepted_in_batches(bench: Bench) -> None:
    for _ in range(ACCEPTS_PER_EVENT + 10):
        bench.connect()
    bench.turn()
    assert list(Counter(bench.accepted_in).values()) == [ACCEPTS_PER_EVENT, 10]


def test_without_room_the_rest_waits_in_the_kernel(bench: Bench) -> None:
    bench.room = 2
    for _ in range(3):
        bench.connect()
    bench.turn()
    assert (len(bench.accepted), bench.acceptor.watching) == (2, False)
    before = bench.reactor.events
    bench.turn()
    assert bench.reactor.events == before
    bench.room = 1
    bench.acceptor.come_back()
    bench.turn()
    assert len(bench.accepted) == 3


def failing(error: OSError, times: int = 1_000_000) -> Callable[[socket.socket], tuple[int, str, int] | None]:
    """An accept that fails so many times."""
    left = [times]

    def accept(listening: socket.socket) -> tuple[int, str, int] | None:
        if left[0] == 0:
            return accept4(listening)
        left[0] -= 1
        raise error

    return accept


def test_out_of_descriptors_it_stands_back_for_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.connect()
    with monkeypatch.context() as patch:
        patch.setattr(listeners, "accept4", failing(OSError(errno.EMFILE, "Too many open files")))
        bench.turn()
    assert not bench.acceptor.watching
    bench.turn()
    assert bench.accepted == []
    bench.reactor.wheel.advance(bench.reactor.now + listeners.OUT_OF_DESCRIPTORS_S + 0.5)
    bench.turn()
    assert len(bench.accepted) == 1


def test_out_of_descriptors_it_goes_on_at_once_if_one_can_be_freed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.connect()
    bench.frees = True
    with monkeypatch.context() as patch:
        patch.setattr(listeners, "accept4", failing(OSError(errno.ENFILE, "Too many open files in system")))
        for _ in range(2):
            bench.reactor.stint()
    assert bench.exhausted
    assert set(bench.exhausted) == {bench.acceptor.sock}
    assert bench.acceptor.watching
    bench.turn()
    assert len(bench.accepted) == 1


def test_a_connection_that_died_in_the_queue_is_passed_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "accept4", failing(ConnectionAbortedError(), times=1))
    bench.connect()
    bench.turn()
    assert len(bench.accepted) == 1


NETWORKS = [
    ((), True),
    (("127.0.0.1/32",), True),
    (("192.0.2.0/24", "127.0.0.0/8"), True),
    (("192.0.2.0/24",), False),
    (("::1/128",), False),
]


@pytest.mark.parametrize(("accept_from", "welcome"), NETWORKS)
def test_only_those_who_are_named_are_welcome(accept_from: tuple[str, ...], welcome: bool) -> None:
    bench = Bench(Listener(LOOPBACK, accept_from=accept_from), room=1000)
    clients = [bench.connect() for _ in range(2)]
    bench.turn()
    assert len(bench.accepted) == (2 if welcome else 0)
    assert bench.acceptor.strangers == (0 if welcome else 2)
    if not welcome:
        assert [client.recv(1) for client in clients] == [b"", b""]
    bench.close()


def test_a_closed_acceptor_frees_its_port(bench: Bench) -> None:
    address = bench.acceptor.sock.getsockname()
    bench.acceptor.close()
    bench.reactor.stint()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address):
        pass


def test_a_closed_acceptor_hears_nothing_of_a_socket_that_others_keep_open(bench: Bench) -> None:
    address = bench.acceptor.sock.getsockname()
    with bench.acceptor.sock.dup() as kept:
        bench.acceptor.close()
        bench.reactor.stint()
        with socket.create_connection(address):
            events = bench.reactor.events
            bench.turn()
            assert bench.reactor.events == events
            assert kept.accept()[0].detach() > 0, "it waits for the next who listens there"
    assert bench.accepted == []


def test_the_number_of_an_acceptor_that_regular_work_closes_is_free_after_the_batch(bench: Bench) -> None:
    """Regular work is done between the poll and the handlers: there may be an event of the acceptor's."""
    number, heard = bench.acceptor.sock.fileno(), []
    near, far = socket.socketpair()
    bench.clients += [near, far]

    def work(now: float) -> float:
        if bench.acceptor.sock.fileno() != -1:
            bench.acceptor.close()
            reused = near.dup()
            bench.clients.append(reused)
            bench.reactor.add(reused.fileno(), READ, heard.append)
        return NEVER

    bench.connect()
    bench.reactor.beat.begin(work)
    bench.turn()
    assert heard == []
    assert number == near.dup().detach()
    os.close(number)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with open_socket(Listener(LOOPBACK)) as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(OSError, match=f"cannot listen on {address}") as error:
            open_socket(Listener(address))
    assert error.value.errno == errno.EADDRINUSE


ASKS = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}


@pytest.mark.parametrize(("host", "asks"), [("127.0.0.1", 0), ("127.0.0.2", 0), ("::1", 0), ("0.0.0.0", 1), ("::", 1)])
def test_the_kernel_asks_whether_a_client_that_was_accepted_is_still_there_unless_it_is_on_this_host(
    host: str, asks: int
) -> None:
    with open_socket(Listener(Address(host, 0))) as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
    with accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == asks
        for option, value in ASKS.items():
            assert (accepted.getsockopt(socket.IPPROTO_TCP, option) == value) is bool(asks)


def test_a_shared_port_is_opened_twice() -> None:
    with open_socket(Listener(LOOPBACK, shared=True)) as first:
        address = Address(*first.getsockname())
        with open_socket(Listener(address, shared=True)) as second:
            assert second.getsockname() == first.getsockname()


def test_the_queue_of_another_socket_is_taken_as_far_as_there_is_room(bench: Bench) -> None:
    with open_socket(Listener(LOOPBACK)) as other:
        clients = [socket.create_connection(other.getsockname()) for _ in range(ACCEPTS_PER_EVENT + 5)]
        bench.acceptor.take_from(other, 3)
        assert len(bench.accepted) == 3
        bench.acceptor.take_from(other, 1000)
        assert len(bench.accepted) == ACCEPTS_PER_EVENT + 3
        bench.room = 1
        bench.acceptor.take_from(other, 1000)
        assert [peer for _, peer in bench.accepted] == [client.getsockname() for client in clients[:-1]]
        bench.room = 5
        bench.acceptor.take_from(other, 1000)
        assert len(bench.accepted) == len(clients)
        bench.clients += clients
    assert bench.acceptor.watching


def test_a_shortage_ends_the_help(bench: Bench) -> None:
    class Exhausted:
        calls = 0

        def accept(self) -> None:
            self.calls += 1
            raise OSError(errno.EMFILE, "Too many open files")

        fileno = accept  # what the C module calls of it

    other = Exhausted()
    bench.acceptor.take_from(other, 1000)
    assert other.calls == 1
