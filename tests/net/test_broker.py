"""The node's end of the pair over which it borrows listening sockets; the other end answers as the test says."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.net import broker as broker_module
from tierlb.net.broker import DESCRIPTOR_VARIABLE, MAX_OFFERS, OK, TAKE, Broker

ADDRESS = ListenAddress(Address("127.0.0.1", 8080))
OTHER = ListenAddress(Address("::1", 8081), Transport.UDP)


class Lender:
    """The supervisor's end, which answers from a thread, for whoever asks waits."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(5)
        self.broker = Broker(theirs)
        self.theirs = theirs
        self.kept = socket.create_server(("127.0.0.1", 0))
        self.asked: list[bytes] = []

    def answer(self, text: bytes, *descriptors: int) -> None:
        socket.send_fds(self.sock, [text], descriptors)

    def lend(self, request: bytes) -> None:
        self.answer(request + b" " + OK, self.kept.fileno())

    def borrow(self, address: ListenAddress, answer: Callable[[bytes], object]) -> socket.socket:
        """Ask for the address, with a request that is answered so."""

        def serve() -> None:
            self.asked.append(self.sock.recv(100))
            answer(self.asked[-1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return self.broker.listen(address)
        finally:
            thread.join()

    def close(self) -> None:
        for sock in (self.sock, self.theirs, self.kept):
            sock.close()


@pytest.fixture
def lender() -> Iterator[Lender]:
    lender = Lender()
    yield lender
    lender.close()


def test_what_is_borrowed_is_the_very_socket_and_never_blocks(lender: Lender) -> None:
    one, other = (lender.borrow(ADDRESS, lender.lend) for _ in range(2))
    with one, other, socket.create_connection(lender.kept.getsockname()):
        assert not one.getblocking()
        assert one.getsockname() == other.getsockname() == lender.kept.getsockname()
        other.accept()[0].close()
        with pytest.raises(BlockingIOError):
            one.accept()
    assert lender.asked == [b"127.0.0.1:8080"] * 2


def test_the_queue_outlives_who_borrowed_it(lender: Lender) -> None:
    first = lender.borrow(ADDRESS, lender.lend)
    with socket.create_connection(lender.kept.getsockname()) as waiting:
        first.close()
        with lender.borrow(ADDRESS, lender.lend) as next_one:
            accepted, peer = next_one.accept()
            accepted.close()
        assert peer == waiting.getsockname()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"127.0.0.1:8080 tiers.edge.listen: it is taken", "tiers.edge.listen: it is taken"),
        (b"127.0.0.1:8080 ", "cannot listen on 127.0.0.1:8080"),
        (b"127.0.0.1:8080 \xff", "\ufffd"),
    ],
)
def test_a_refusal_is_an_error_with_its_reason(lender: Lender, answer: bytes, reason: str) -> None:
    with pytest.raises(OSError, match=reason) as caught:
        lender.borrow(ADDRESS, lambda request: lender.answer(answer))
    assert caught.value.errno == errno.EADDRINUSE


def test_after_a_refusal_it_may_ask_again(lender: Lender) -> None:
    with pytest.raises(OSError, match="taken"):
        lender.borrow(OTHER, lambda request: lender.answer(request + b" taken"))
    lender.borrow(ADDRESS, lender.lend).close()
    assert lender.asked == [b"[::1]:8081/udp", b"127.0.0.1:8080"]


def test_a_supervisor_that_is_gone_or_silent_is_an_error(lender: Lender) -> None:
    lender.theirs.settimeout(0.01)
    with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1:8080: the supervisor does not answer"):
        lender.broker.listen(ADDRESS)
    lender.sock.close()
    with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1:8080"):
        lender.broker.listen(ADDRESS)


def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_the_next_request(lender: Lender) -> None:
    lender.theirs.settimeout(0.01)
    with pytest.raises(OSError, match="does not answer"):
        lender.broker.listen(OTHER)
    with pytest.raises(OSError, match="does not answer"):
        lender.broker.listen(OTHER)
    lender.theirs.settimeout(5)
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as wrong:
        late = lender.sock.recv(100)
        lender.answer(late + b" " + OK, wrong.fileno())
        lender.answer(lender.sock.recv(100) + b" taken")
        with lender.borrow(ADDRESS, lender.lend) as sock:
            assert sock.getsockname() == lender.kept.getsockname()
    assert len(os.listdir("/proc/self/fd")) == before, "the other socket was closed"


def test_it_waits_for_an_answer_no_longer_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "ANSWER_S", 0.25)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        Broker(theirs)
        assert theirs.gettimeout() == 0.25


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # a process keeps it until it ends
def test_a_process_that_was_given_one_finds_it_once(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, str(os.dup(lender.theirs.fileno())))
    found = Broker.inherited()
    assert found is not None
    own, lender.broker = lender.broker, found
    lender.borrow(ADDRESS, lender.lend).close()
    lender.broker = own
    del found
    assert DESCRIPTOR_VARIABLE not in os.environ, "what it starts itself does not inherit it"
    assert Broker.inherited() is None


@pytest.mark.parametrize("text", ["", "x", "-1"])
def test_a_process_that_was_given_none_has_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, text)
    assert Broker.inherited() is None


def test_a_socket_for_which_this_process_has_no_number_is_a_shortage_of_its_own(lender: Lender) -> None:
    with pytest.raises(OSError, match="no descriptor is free in this process") as caught:
        lender.borrow(ADDRESS, lambda request: lender.answer(request + b" " + OK))
    assert caught.value.errno == errno.EMFILE


def offer(lender: Lender, address: Address) -> None:
    lender.answer(str(address).encode() + b" " + TAKE + b"7", lender.kept.fileno())


def test_queues_of_others_are_offered_without_being_asked_for_and_between_answers(lender: Lender) -> None:
    assert lender.broker.offers() == []
    offer(lender, OTHER)

    def lend(request: bytes) -> None:
        offer(lender, ADDRESS)
        lender.lend(request)

    lender.borrow(ADDRESS, lend).close()
    offered = lender.broker.offers()
    assert [(address, most) for address, _, most in offered] == [(OTHER, 7), (ADDRESS, 7)]
    for _, sock, _ in offered:
        with sock:
            assert sock.getsockname() == lender.kept.getsockname()
    assert lender.broker.offers() == []
    assert lender.theirs.gettimeout(), "the next answer is waited for again"


def test_no_more_are_kept_than_it_gets_to(lender: Lender) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(MAX_OFFERS + 3):
        offer(lender, ADDRESS)
    offered = lender.broker.offers()
    assert len(offered) == MAX_OFFERS
    for _, sock, _ in offered:
        sock.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_it_accepts_from_no_more_is_given_back_without_waiting(lender: Lender) -> None:
    lender.broker.give_back(OTHER)
    assert lender.sock.recv(100) == b"[::1]:8081/udp returned"
    for _ in range(10_000):  # the supervisor does not read
        lender.broker.give_back(OTHER)


def test_that_the_supervisor_is_gone_is_an_error(lender: Lender) -> None:
    offer(lender, ADDRESS)
    lender.sock.close()
    lender.broker.offers()[0][1].close()
    with pytest.raises(ConnectionResetError):
        lender.broker.offers()
    lender.broker.give_back(ADDRESS)
