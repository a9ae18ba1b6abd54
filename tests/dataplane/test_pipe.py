"""Two sockets joined, driven by hand: who hears what, what is counted, what is given back."""

import socket
from collections.abc import Iterator

import pytest

from tierlb.dataplane import pipe as pipe_module
from tierlb.dataplane.pipe import Pipe
from tierlb.net.reactor import Reactor

IDLE_S = 10.0


class Joined:
    """A pipe between two socket pairs. `client` and `member` are the far ends, in the hands of the test."""

    def __init__(self, **start: bytes) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.client, near_client = tcp_pair()
        self.member, near_member = tcp_pair()
        self.ended: list[bool] = []
        self.pipe = Pipe(self.reactor, near_client, near_member, IDLE_S, lambda _, broken: self.ended.append(broken))
        self.pipe.start(**start)

    def turn(self) -> None:
        """Let the reactor do what there is to do."""
        for _ in range(20):
            self.reactor._stint()
        assert self.crashes == []

    def close(self) -> None:
        self.pipe.finish(broken=True)
        self.client.close()
        self.member.close()
        self.reactor.dispose()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.settimeout(5)
    other.setblocking(False)
    return one, other


@pytest.fixture
def joined() -> Iterator[Joined]:
    pair = Joined()
    yield pair
    pair.close()


def test_what_is_given_at_the_start_is_delivered_first() -> None:
    pair = Joined(to_client=b"to client", to_member=b"to member")
    pair.turn()
    assert (pair.client.recv(100), pair.member.recv(100)) == (b"to client", b"to member")
    pair.close()


def test_both_directions_are_counted(joined: Joined) -> None:
    joined.client.sendall(b"12345")
    joined.member.sendall(b"123")
    joined.turn()
    assert (joined.member.recv(100), joined.client.recv(100)) == (b"12345", b"123")
    assert (joined.pipe.client.carried, joined.pipe.member.carried) == (5, 3)


def test_the_pipe_ends_orderly_when_both_sides_have_ended(joined: Joined) -> None:
    joined.client.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.member.recv(1) == b""
    assert joined.ended == []
    joined.member.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.client.recv(1) == b""
    assert joined.ended == [False]


def test_while_draining_the_members_end_is_enough(joined: Joined) -> None:
    joined.pipe.end_soon()
    joined.turn()
    assert joined.ended == []
    joined.member.sendall(b"last words")
    joined.member.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.client.recv(100) == b"last words"
    assert joined.client.recv(100) == b""
    assert joined.ended == [False]


def test_draining_ends_a_pipe_whose_member_had_ended(joined: Joined) -> None:
    joined.member.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.ended == []
    joined.pipe.end_soon()
    assert joined.ended == [False]


def test_idle_time_starts_again_with_every_byte(joined: Joined) -> None:
    joined.turn()
    start = joined.reactor.now
    joined.reactor.now = start + IDLE_S - 1
    joined.pipe.client.on_data(b"x")
    joined.reactor.wheel.advance(start + IDLE_S + 1)
    assert joined.ended == []
    joined.reactor.wheel.advance(start + 2 * IDLE_S)
    assert joined.ended == [True]


def test_an_end_is_told_once(joined: Joined) -> None:
    joined.pipe.finish(broken=True)
    joined.pipe.finish(broken=False)
    assert joined.ended == [True]


def fill(pair: Joined) -> None:
    """Say so much that the direction client → member moves in bulk and then stalls."""
    pair.client.setblocking(False)
    stalled = 0
    while stalled < 3:
        try:
            pair.client.send(bytes(1024 * 1024))
            stalled = 0
        except BlockingIOError:
            stalled += 1
        pair.turn()


def test_bulk_goes_through_the_kernel_and_its_pipe_is_given_back(joined: Joined) -> None:
    pipe_module._spare_pipes.clear()
    fill(joined)
    assert joined.pipe.client.kernel is not None
    joined.member.setblocking(False)
    heard = joined.pipe.client.carried
    while heard:
        try:
            heard -= len(joined.member.recv(1 << 20))
        except BlockingIOError:
            before = joined.pipe.client.carried
            joined.turn()
            heard += joined.pipe.client.carried - before
    joined.turn()
    assert joined.pipe.client.kernel is None
    assert len(pipe_module._spare_pipes) == 1


def test_a_kernel_pipe_with_bytes_in_it_is_not_given_to_others(joined: Joined) -> None:
    pipe_module._spare_pipes.clear()
    fill(joined)
    assert joined.pipe.client.held > 0
    joined.pipe.finish(broken=True)
    assert pipe_module._spare_pipes == []


def test_without_kernel_pipes_bulk_is_copied(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_descriptors(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    pipe_module._spare_pipes.clear()
    monkeypatch.setattr(pipe_module.os, "pipe2", out_of_descriptors)
    fill(joined)
    assert joined.pipe.client.kernel is None
    assert joined.pipe.member.backlog is not None
    assert joined.pipe.client.paused


def test_half_closes_in_both_directions_do_not_cut_what_is_under_way(joined: Joined) -> None:
    """Both ends are closed for reading, one still has bytes to write: the kernel reports a hang-up, no loss follows."""
    fill(joined)
    joined.member.shutdown(socket.SHUT_WR)
    joined.turn()
    joined.client.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.ended == []
    heard = 0
    joined.member.setblocking(False)
    for _ in range(10_000):
        try:
            more = joined.member.recv(1 << 20)
        except BlockingIOError:
            joined.turn()
            continue
        if not more:
            break
        heard += len(more)
    assert heard == joined.pipe.client.carried
    assert joined.ended == [False]
