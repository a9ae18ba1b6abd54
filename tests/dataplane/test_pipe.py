"""Two sockets joined, driven by hand: who hears what, what is counted, what is given back."""

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import trio

from tests.hosts import Host
from tests.silence import Silence, hosts, stuff
from tierlb.dataplane import pipe as pipe_module
from tierlb.dataplane.pipe import UNUSED_S, End, Pipe
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net import peer_liveness
from tierlb.net.asked import tcp_info
from tierlb.net.bulk import MOST_BACKLOGS
from tierlb.net.listeners import open_socket
from tierlb.net.peer_liveness import GONE, LOOK_S
from tierlb.net.reactor import READ, WRITE, Reactor
from tierlb.net.wheel import NEVER, WHEEL_TICK_S

IDLE_S = 75.0
DEADLINE_S = 30.0


class Joined:
    """A pipe between two socket pairs. `client` and `upstream` are the far ends, in the hands of the test."""

    def __init__(self, idle_s: float = IDLE_S, **start: bytes) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.client, near_client = tcp_pair()
        self.upstream, near_upstream = tcp_pair()
        self.ended: list[bool] = []
        self.pipe = Pipe(self.reactor, near_client, near_upstream, idle_s, lambda _, broken: self.ended.append(broken))
        self.pipe.start(**start)

    def turn(self) -> None:
        """Let the reactor do what there is to do."""
        for _ in range(20):
            self.reactor.stint()
        assert self.crashes == []

    def turns_until(self, holds: Callable[[], bool]) -> None:
        """The kernel may take a while to say what it has room for."""
        end = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end
            self.turn()

    def passes(self, seconds: float) -> None:
        """So much time."""
        end = self.reactor.now + seconds
        while self.reactor.now < end:
            self.reactor.now = min(self.reactor.now + WHEEL_TICK_S, end)
            self.reactor.wheel.advance(self.reactor.now)

    def close(self) -> None:
        self.pipe.finish(broken=True)
        self.client.close()
        self.upstream.close()
        self.reactor.dispose()


def tcp_pair() -> tuple[socket.socket, int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.settimeout(5)
    other.setblocking(False)
    return one, other.detach()


@pytest.fixture
def joined() -> Iterator[Joined]:
    pair = Joined()
    yield pair
    pair.close()


def test_what_is_given_at_the_start_is_delivered_first() -> None:
    pair = Joined(to_client=b"to client", to_upstream=b"to upstream")
    pair.turn()
    assert (pair.client.recv(100), pair.upstream.recv(100)) == (b"to client", b"to upstream")
    pair.close()


def test_both_directions_are_counted(joined: Joined) -> None:
    joined.client.sendall(b"12345")
    joined.upstream.sendall(b"123")
    joined.turn()
    assert (joined.upstream.recv(100), joined.client.recv(100)) == (b"12345", b"123")
    assert (joined.pipe.client.carried, joined.pipe.upstream.carried) == (5, 3)


def test_when_something_moved_last_is_known_of_each_direction(joined: Joined) -> None:
    client, upstream = joined.pipe.client, joined.pipe.upstream
    assert (client.moved, upstream.moved, joined.pipe.moved) == (0.0, 0.0, joined.pipe.began)
    joined.client.sendall(b"1")
    joined.turn()
    assert client.moved > joined.pipe.began
    assert upstream.moved == 0.0
    joined.upstream.sendall(b"2")
    joined.turn()
    assert upstream.moved > client.moved
    assert joined.pipe.moved == upstream.moved


@pytest.mark.parametrize("bulk", [False, True], ids=["copied", "in bulk"])
def test_what_a_slow_reader_takes_moves_in_the_direction_to_it(joined: Joined, bulk: bool) -> None:
    client, upstream = joined.pipe.client, joined.pipe.upstream
    if not bulk:
        for _ in range(MOST_BACKLOGS + 1):
            joined.reactor.bulk.begin()
    fill(joined)
    assert bool(client.held) is bulk
    assert bool(upstream.backlog) is not bulk
    joined.upstream.setblocking(False)
    joined.reactor.now = later = joined.reactor.now + 1
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            joined.upstream.recv(256 * 1024)
        upstream.on_ready(WRITE)
        if not client.held and upstream.backlog is None:
            break
    assert (client.moved, upstream.moved) == (later, 0.0)


def test_sides_that_end_together_are_closed_without_passing_on_either_end(joined: Joined) -> None:
    joined.upstream.sendall(b"answer")
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.client.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.client.recv(10) == b"answer"
    assert (joined.client.recv(10), joined.upstream.recv(10)) == (b"", b"")
    assert joined.ended == [False]
    assert not joined.pipe.client.shut
    assert not joined.pipe.upstream.shut


def test_an_end_that_came_with_the_last_bytes_is_found_with_them(joined: Joined) -> None:
    joined.upstream.sendall(b"answer")
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.reactor.stint()
    assert joined.reactor.events == 1
    assert joined.client.recv(10) == b"answer"
    assert joined.client.recv(10) == b""
    assert joined.ended == []


def test_nothing_holds_a_pipe_that_is_over(joined: Joined) -> None:
    """Cycles of objects would stay until the interpreter looks for them."""
    joined.turn()
    joined.pipe.finish(broken=False)
    pipe, client, upstream = joined.pipe, joined.pipe.client, joined.pipe.upstream
    held = [sys.getrefcount(pipe), sys.getrefcount(client), sys.getrefcount(upstream)]
    assert held == [3, 3, 3], "this function, getrefcount, and the bench or the pipe"


def test_a_pipe_that_is_over_cannot_give_way(joined: Joined) -> None:
    joined.pipe.finish(broken=False)
    assert joined.pipe.idle_since(joined.reactor.now + 2 * UNUSED_S) == NEVER


def test_the_pipe_ends_orderly_when_both_sides_have_ended(joined: Joined) -> None:
    joined.client.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.upstream.recv(1) == b""
    assert joined.ended == []
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.client.recv(1) == b""
    assert joined.ended == [False]


def test_while_draining_the_members_end_is_enough(joined: Joined) -> None:
    joined.pipe.end_soon()
    joined.turn()
    assert joined.ended == []
    joined.upstream.sendall(b"last words")
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.client.recv(100) == b"last words"
    assert joined.client.recv(100) == b""
    assert joined.ended == [False]


def test_draining_ends_a_pipe_whose_member_had_ended(joined: Joined) -> None:
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.ended == []
    joined.pipe.end_soon()
    assert joined.ended == [False]


def test_idle_time_starts_again_with_every_byte(joined: Joined) -> None:
    joined.turn()
    joined.passes(IDLE_S - 1)
    joined.pipe.client.on_data(b"x")
    joined.passes(2)
    assert joined.ended == []
    joined.passes(IDLE_S - 2 + WHEEL_TICK_S)
    assert joined.ended == [True]


@pytest.mark.parametrize("idle_s", [IDLE_S, LOOK_S / 2])
def test_the_idle_time_is_as_long_as_was_said_however_often_it_is_looked_at(idle_s: float) -> None:
    joined = Joined(idle_s)
    joined.passes(idle_s - WHEEL_TICK_S)
    assert joined.ended == []
    joined.passes(2 * WHEEL_TICK_S)
    assert joined.ended == [True]
    joined.close()


class Looks:
    """Stands in for looking: notes at what, and finds what it is told to."""

    def __init__(self, joined: Joined) -> None:
        self.joined = joined
        self.found: dict[int, float] = {}
        self.seen: list[tuple[float, int]] = []
        self.began = joined.reactor.now
        joined.reactor.next_look_s = self

    def __call__(self, fd: int) -> float:
        self.seen.append((self.joined.reactor.now - self.began, fd))
        return self.found.get(fd, NEVER)

    @property
    def times_s(self) -> list[float]:
        """When there was a look."""
        return sorted({at for at, _ in self.seen})


def test_a_quiet_pipe_is_looked_at_on_both_sides(joined: Joined) -> None:
    looks = Looks(joined)
    joined.passes(LOOK_S - WHEEL_TICK_S)
    assert looks.seen == []
    joined.passes(2 * WHEEL_TICK_S)
    assert {fd for _, fd in looks.seen} == {joined.pipe.client.fd, joined.pipe.upstream.fd}
    assert joined.ended == []


def says(joined: Joined, end: str) -> None:
    """One byte comes from there."""
    getattr(joined, end).sendall(b"x")
    getattr(joined.pipe, end).on_ready(READ)


def test_ends_that_both_say_something_are_not_looked_at(joined: Joined) -> None:
    looks = Looks(joined)
    for _ in range(6):
        joined.passes(LOOK_S - 2 * WHEEL_TICK_S)
        says(joined, "client")
        says(joined, "upstream")
    assert (joined.pipe.client.carried, joined.pipe.upstream.carried) == (6, 6)
    assert looks.seen == []


ENDS = [("client", "upstream"), ("upstream", "client")]
LIVELY_S = [LOOK_S / 20, LOOK_S / 2, LOOK_S - 2 * WHEEL_TICK_S]
"""How often one end says something."""


@pytest.mark.parametrize("every_s", LIVELY_S)
@pytest.mark.parametrize(("lively", "mute"), ENDS)
def test_what_one_end_says_does_not_hide_that_the_other_is_gone(
    joined: Joined, lively: str, mute: str, every_s: float
) -> None:
    looks = Looks(joined)
    looks.found[getattr(joined.pipe, mute).fd] = GONE
    while not joined.ended and joined.reactor.now < looks.began + 3 * LOOK_S:
        says(joined, lively)
        joined.passes(every_s)
    assert joined.ended == [True]
    first_s, *_, last_s = [at for at, fd in looks.seen if fd == getattr(joined.pipe, mute).fd]
    assert last_s - first_s >= LOOK_S, "what was said lately has had its time to be answered"


def test_an_end_that_said_something_and_is_quiet_since_is_looked_at_no_later(joined: Joined) -> None:
    looks = Looks(joined)
    looks.found[joined.pipe.client.fd] = GONE
    says(joined, "client")
    joined.passes(LOOK_S + WHEEL_TICK_S)
    assert joined.ended == [True]


@pytest.mark.parametrize(("lively", "mute"), ENDS)
def test_an_end_that_was_doubted_and_is_found_there_is_not_cut(joined: Joined, lively: str, mute: str) -> None:
    looks = Looks(joined)
    fd = getattr(joined.pipe, mute).fd
    for number in range(8 * round(LOOK_S)):
        looks.found[fd] = GONE if len(looks.seen) % 2 else LOOK_S
        if number % 2:
            says(joined, lively)
        joined.passes(1.0)
    assert joined.ended == []
    assert len(looks.seen) > 4


def test_an_end_to_which_nothing_was_said_after_it_was_doubted_is_not_doubted_longer_than_a_quiet_one(
    joined: Joined,
) -> None:
    looks = Looks(joined)
    looks.found[joined.pipe.upstream.fd] = GONE
    joined.passes(LOOK_S / 2)
    says(joined, "client")
    joined.passes(LOOK_S - WHEEL_TICK_S)
    assert joined.ended == []
    joined.passes(2 * WHEEL_TICK_S)
    assert joined.ended == [True]


def test_after_a_long_silence_the_next_look_is_no_later(joined: Joined) -> None:
    joined.passes(3.5 * LOOK_S)
    looks = Looks(joined)
    joined.pipe.client.on_data(b"x")
    joined.passes(LOOK_S + WHEEL_TICK_S)
    upstream, client = joined.pipe.upstream.fd, joined.pipe.client.fd
    assert [at for at, fd in looks.seen if fd == client] == pytest.approx([LOOK_S], abs=WHEEL_TICK_S)
    assert [at for at, fd in looks.seen if fd == upstream] == pytest.approx([LOOK_S / 2, LOOK_S], abs=4 * WHEEL_TICK_S)


def test_the_idle_time_is_exact_where_only_one_end_says_something(joined: Joined) -> None:
    Looks(joined)
    for _ in range(20):
        joined.passes(LOOK_S / 3)
        says(joined, "client")
    joined.passes(IDLE_S - WHEEL_TICK_S)
    assert joined.ended == []
    joined.passes(2 * WHEEL_TICK_S)
    assert joined.ended == [True]


def test_a_look_says_when_the_next_is_due(joined: Joined) -> None:
    looks = Looks(joined)
    looks.found[joined.pipe.upstream.fd] = 2.0
    joined.passes(LOOK_S + 2.0 + 2 * WHEEL_TICK_S)
    assert looks.times_s == pytest.approx([LOOK_S, LOOK_S + 2.0], abs=2 * WHEEL_TICK_S)


@pytest.mark.parametrize("end", ["client", "upstream"])
def test_a_pipe_is_cut_when_either_sides_host_is_gone(joined: Joined, end: str) -> None:
    looks = Looks(joined)
    looks.found[getattr(joined.pipe, end).fd] = GONE
    joined.passes(LOOK_S + WHEEL_TICK_S)
    assert joined.ended == [True]
    joined.reactor.stint()
    other = joined.client if end == "upstream" else joined.upstream
    with pytest.raises(ConnectionResetError):
        other.recv(1)


class Relayed:
    """A pipe between connections from and to hosts of their own, as a node accepts and makes them."""

    def __init__(self, reactor: Reactor, silence: Silence, client: Host, upstream: Host) -> None:
        near_client, self.client = accepted(silence, client)
        near_upstream, self.upstream = silence.connected(upstream)
        fds = near_client.detach(), near_upstream.detach()
        self.ended: list[bool] = []
        self.pipe = Pipe(reactor, *fds, IDLE_S, lambda _, broken: self.ended.append(broken))
        self.pipe.start()


def accepted(silence: Silence, there: Host) -> tuple[socket.socket, socket.socket]:
    """A connection as it is taken from a client, and its far end."""
    with silence.here.inside():
        listening = open_socket(Listener(Address(silence.here.address, 0)))
    with listening, there.inside():
        far = socket.create_connection(listening.getsockname(), timeout=DEADLINE_S)
        near, _ = listening.accept()
    for end in (near, far):
        end.setblocking(False)
    silence.ends += (near, far)
    return near, far


Quiet = Callable[[Relayed], bool]
"""Does what leads to a state, and says whether it is reached."""


def stuffs_the_member(relayed: Relayed) -> bool:
    stuff(relayed.client)
    return relayed.pipe.client.held > 0 or relayed.pipe.upstream.backlog is not None


def stuffs_the_client(relayed: Relayed) -> bool:
    stuff(relayed.upstream)
    return relayed.pipe.upstream.paused


def ends_its_half(relayed: Relayed) -> bool:
    relayed.upstream.shutdown(socket.SHUT_WR)
    return relayed.pipe.upstream.eof


BEFORE: dict[str, Quiet] = {
    "nothing was said": lambda relayed: True,
    "the client reads nothing": stuffs_the_client,
    "the member reads nothing": stuffs_the_member,
    "the member had ended its half": ends_its_half,
}


async def test_a_host_that_falls_silent_is_noticed_in_any_state_and_one_that_does_not_read_is_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_liveness, "LOOK_S", 1.0)
    monkeypatch.setattr(peer_liveness, "ASK_EVERY_S", 1)
    crashes: list[BaseException] = []
    reactor = Reactor(crashes.append)
    with hosts() as silence:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            here, mute, live = silence.here, silence.mute, silence.live
            dying = {what: Relayed(reactor, silence, here, mute) for what in BEFORE}
            asked, asking = Relayed(reactor, silence, here, mute), Relayed(reactor, silence, mute, live)
            unasked, pinged = Relayed(reactor, silence, mute, live), Relayed(reactor, silence, here, mute)
            heard = Relayed(reactor, silence, here, live)
            living = {what: Relayed(reactor, silence, here, live) for what in BEFORE}
            with trio.fail_after(DEADLINE_S):
                for what, reached in BEFORE.items():
                    for relayed in (dying[what], living[what]):
                        await until(lambda relayed=relayed, reached=reached: reached(relayed))
                mute.unplug()
                asked.client.send(b"anybody?")
                asking.upstream.send(b"anybody?")
                nursery.start_soon(pings, pinged)
                nursery.start_soon(pings, heard)
                gone = {
                    **dying,
                    "it was asked": asked,
                    "the client was told": asking,
                    "the client was told nothing": unasked,
                    "it is told something all the time": pinged,
                }
                await until(lambda: all(relayed.ended for relayed in gone.values()))
                await until(lambda: silent_s(living["the member reads nothing"].pipe.upstream) > 2.0)
            assert {what: relayed.ended for what, relayed in gone.items()} == {what: [True] for what in gone}
            living["it says nothing to what it is told all the time"] = heard
            assert {what: relayed.ended for what, relayed in living.items()} == {what: [] for what in living}
            nursery.cancel_scope.cancel()
        for relayed in living.values():
            relayed.pipe.finish(broken=True)
        reactor.dispose()
    assert crashes == []


async def pings(relayed: Relayed) -> None:
    """The client says something more often than a look is due."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while not relayed.ended:
            relayed.client.send(b"ping")
            await trio.sleep(0.2)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (the kernel decides)
        await trio.sleep(0.01)


def silent_s(end: End) -> float:
    """Since when nothing was heard of its peer (tcpi_last_ack_recv)."""
    return float(struct.unpack_from("=I", tcp_info(end.fd, 60), 56)[0]) / 1000


def test_an_end_is_told_once(joined: Joined) -> None:
    joined.pipe.finish(broken=True)
    joined.pipe.finish(broken=False)
    assert joined.ended == [True]


def fill(pair: Joined) -> int:
    """Say so much that the direction client → upstream moves in bulk and then stalls: so many bytes."""
    pair.client.setblocking(False)
    sent = stalled = 0
    while stalled < 3:
        try:
            sent += pair.client.send(bytes(1024 * 1024))
            stalled = 0
        except BlockingIOError:
            stalled += 1
        pair.turn()
    return sent


def read_all(pair: Joined, size: int) -> None:
    """Read what was sent, all of it: what the kernel still carries from one socket to the other counts."""
    pair.upstream.setblocking(False)
    end = time.monotonic() + DEADLINE_S
    while size:
        try:
            size -= len(pair.upstream.recv(1 << 20))
        except BlockingIOError:
            assert time.monotonic() < end
            pair.turn()


def test_bulk_goes_through_the_kernel_and_its_pipe_is_given_back(joined: Joined) -> None:
    pipe_module.spare_pipes.clear()
    sent = fill(joined)
    assert joined.pipe.client.kernel is not None
    read_all(joined, sent)
    joined.client.send(b"a little more")  # the last bytes may have filled a read exactly
    joined.turns_until(lambda: joined.pipe.client.kernel is None)
    assert len(pipe_module.spare_pipes) == 1


def test_a_kernel_pipe_is_given_back_where_reads_became_small_meanwhile(joined: Joined) -> None:
    pipe_module.spare_pipes.clear()
    sent = fill(joined)
    for _ in range(MOST_BACKLOGS + 1):
        joined.reactor.bulk.begin()
    assert joined.pipe.client.kernel is not None
    read_all(joined, sent)
    joined.client.send(b"a little more")
    joined.turns_until(lambda: joined.pipe.client.kernel is None)
    assert len(pipe_module.spare_pipes) == 1


def test_a_kernel_pipe_with_bytes_in_it_is_not_given_to_others(joined: Joined) -> None:
    pipe_module.spare_pipes.clear()
    fill(joined)
    assert joined.pipe.client.held > 0
    joined.pipe.finish(broken=True)
    assert pipe_module.spare_pipes == []


def test_without_kernel_pipes_bulk_is_copied(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_descriptors(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    pipe_module.spare_pipes.clear()
    monkeypatch.setattr(pipe_module.os, "pipe2", out_of_descriptors)
    fill(joined)
    assert joined.pipe.client.kernel is None
    assert joined.pipe.upstream.backlog is not None
    assert joined.pipe.client.paused


def test_half_closes_in_both_directions_do_not_cut_what_is_under_way(joined: Joined) -> None:
    """Both ends are closed for reading, one still has bytes to write: the kernel reports a hang-up, no loss follows."""
    fill(joined)
    joined.upstream.shutdown(socket.SHUT_WR)
    joined.turn()
    joined.client.shutdown(socket.SHUT_WR)
    joined.turn()
    assert joined.ended == []
    heard = 0
    joined.upstream.setblocking(False)
    for _ in range(10_000):
        try:
            more = joined.upstream.recv(1 << 20)
        except BlockingIOError:
            joined.turn()
            continue
        if not more:
            break
        heard += len(more)
    assert heard == joined.pipe.client.carried
    assert joined.ended == [False]
