"""What a stream reports of its socket, one event at a time."""

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
import trio

from tests.silence import hosts
from tierlb.net import peer_liveness
from tierlb.net.bulk import BULK_READ_BYTES, MOST_BACKLOGS, READ_BYTES
from tierlb.net.reactor import READ, Reactor
from tierlb.net.stream import Stream
from tierlb.net.wheel import NEVER

DEADLINE_S = 30.0


class Noted(Stream):
    """Notes what it hears."""

    def __init__(self, reactor: Reactor, fd: int) -> None:
        super().__init__(reactor, fd)
        self.heard: list[object] = []
        self.data = b""
        self.pause_on_data = False

    def on_data(self, data: bytes) -> None:
        self.data += data
        self.heard.append(len(data))
        if self.pause_on_data:
            self.pause()

    def on_eof(self) -> None:
        self.heard.append("eof")

    def on_broken(self, error: OSError) -> None:
        self.heard.append(errno.errorcode[error.errno or 0])
        self.close()

    def on_progress(self) -> None:
        if self.heard[-1:] != ["progress"]:
            self.heard.append("progress")

    def on_drained(self) -> None:
        self.heard.append("drained")

    def on_deadline(self) -> None:
        self.heard.append("deadline")


class Bench:
    """A stream and the far end of its connection."""

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            self.far = socket.create_connection(listening.getsockname())
            near, _ = listening.accept()
        self.far.settimeout(5)
        near.setblocking(False)
        self.stream = Noted(self.reactor, near.detach())
        self.stream.watch()

    def turn(self) -> None:
        for _ in range(5):
            self.reactor.stint()
        assert self.crashes == []

    def reset(self) -> None:
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()

    def fill(self) -> int:
        """Send until there is a backlog; how many bytes were given to the stream."""
        sent = 0
        while self.stream.backlog is None:
            self.stream.send(bytes(1 << 20))
            sent += 1 << 20
        return sent

    def read(self, count: int) -> int:
        """Read at the far end, letting the reactor run."""
        heard = 0
        while heard < count:
            heard += len(self.far.recv(min(count - heard, 1 << 20)))
            self.reactor.stint()
        return heard

    def close(self) -> None:
        self.far.close()
        self.stream.close()
        self.reactor.dispose()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_data_and_end_are_reported_in_order(bench: Bench) -> None:
    bench.far.sendall(b"hello")
    bench.turn()
    bench.far.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.stream.heard == [5, "eof"]
    assert bench.stream.data == b"hello"


def test_the_end_is_reported_once_and_writing_goes_on(bench: Bench) -> None:
    bench.far.shutdown(socket.SHUT_WR)
    bench.turn()
    bench.turn()
    bench.stream.send(b"answer")
    assert bench.far.recv(10) == b"answer"
    assert bench.stream.heard == ["eof"]


@pytest.mark.parametrize("end", ["close", "detach", "take_over"])
def test_a_stream_that_ended_is_no_more_among_those_that_read_much(bench: Bench, end: str) -> None:
    bench.far.sendall(bytes(READ_BYTES + 5))
    bench.turn()
    if end == "take_over":
        Noted(bench.reactor, bench.stream.fd).take_over(bench.stream)
    else:
        getattr(bench.stream, end)()
    for _ in range(MOST_BACKLOGS + 1):
        bench.reactor.bulk.begin()
    assert bench.stream.read_bytes == BULK_READ_BYTES
    os.close(bench.stream.fd)


def test_a_read_that_fills_its_buffer_makes_the_next_one_larger(bench: Bench) -> None:
    bench.far.sendall(bytes(READ_BYTES + 5))
    bench.turn()
    assert bench.stream.heard[0] == READ_BYTES
    assert bench.stream.read_bytes == BULK_READ_BYTES


def test_where_many_have_a_backlog_a_full_read_makes_the_next_one_no_larger(bench: Bench) -> None:
    for _ in range(MOST_BACKLOGS + 1):
        bench.reactor.bulk.begin()
    bench.far.sendall(bytes(READ_BYTES + 5))
    bench.turn()
    assert (bench.stream.heard[0], bench.stream.read_bytes) == (READ_BYTES, READ_BYTES)


@pytest.mark.parametrize("end", ["drained", "closed", "reset", "detached", "broken"])
def test_a_backlog_is_counted_until_it_is_over_however_it_ends(bench: Bench, end: str) -> None:
    bench.fill()
    assert bench.reactor.bulk.backlogs == 1
    bench.stream.send(b"more")
    match end:
        case "drained":
            while bench.stream.backlog is not None:
                bench.far.recv(1 << 20)
                bench.turn()
        case "closed":
            bench.stream.close()
            bench.stream.close()
        case "reset":
            bench.stream.reset()
        case "detached":
            os.close(bench.stream.detach())
            bench.stream.close()
        case "broken":
            bench.reset()
            bench.turn()
    assert bench.reactor.bulk.backlogs == 0


def test_a_reset_is_reported_as_one(bench: Bench) -> None:
    bench.reset()
    bench.turn()
    assert bench.stream.heard == ["ECONNRESET"]


def test_a_reset_is_reported_after_what_came_before_it(bench: Bench) -> None:
    bench.far.sendall(b"last words")
    bench.reset()
    bench.turn()
    assert bench.stream.heard == [10, "ECONNRESET"]


def test_a_reset_that_a_write_meets_first_is_still_no_end(bench: Bench) -> None:
    bench.far.sendall(b"last words")
    bench.reset()
    bench.stream.send(b"too late")
    bench.turn()
    assert bench.stream.heard == [10, "ECONNRESET"]


def test_a_reset_that_the_backlog_meets_first_leaves_what_was_said_readable(bench: Bench) -> None:
    bench.fill()
    bench.far.sendall(b"last words")
    bench.far.close()  # with bytes unread: a reset
    bench.turn()
    assert bench.stream.heard == [10, "ECONNRESET"]


def test_a_paused_stream_does_not_read_and_hears_of_a_reset(bench: Bench) -> None:
    bench.stream.pause()
    bench.far.sendall(b"hello")
    bench.turn()
    assert bench.stream.heard == []
    bench.reset()
    bench.turn()
    assert bench.stream.heard == ["ECONNRESET"]


def test_a_paused_stream_reads_on_when_resumed(bench: Bench) -> None:
    bench.stream.pause()
    bench.far.sendall(b"hello")
    bench.turn()
    bench.stream.resume()
    bench.turn()
    assert bench.stream.data == b"hello"


def test_a_hang_up_waits_until_a_paused_stream_has_read_the_rest(bench: Bench) -> None:
    """Both directions are closed: the kernel reports it without end, so the stream leaves the set meanwhile."""
    bench.stream.pause()
    bench.far.sendall(b"the rest")
    bench.far.shutdown(socket.SHUT_WR)
    bench.stream.shutdown_write()
    bench.turn()
    assert bench.stream.heard == []
    before = bench.reactor.events
    bench.turn()
    assert bench.reactor.events == before
    bench.stream.resume()
    bench.turn()
    assert bench.stream.heard == [8, "eof"]


def test_a_hang_up_from_before_it_resumed_is_not_taken_for_news(bench: Bench) -> None:
    bench.stream.pause()
    bench.far.sendall(b"the rest")
    bench.far.shutdown(socket.SHUT_WR)
    bench.stream.shutdown_write()
    bench.stream.resume()
    bench.stream.on_ready(0x10)  # EPOLLHUP of a poll while it was paused
    bench.turn()
    assert bench.stream.heard == [8, "eof"]


def test_both_directions_ended_orderly_is_not_broken(bench: Bench) -> None:
    bench.far.shutdown(socket.SHUT_WR)
    bench.turn()
    bench.stream.shutdown_write()
    bench.turn()
    assert bench.stream.heard == ["eof"]


def test_a_peer_that_is_gone_altogether_is_heard_of_after_its_end(bench: Bench) -> None:
    bench.far.close()
    bench.turn()
    bench.stream.send(b"anybody?")
    bench.turn()
    bench.stream.send(b"anybody?")
    bench.turn()
    assert bench.stream.heard[0] == "eof"
    assert bench.stream.heard[1] in ("ECONNRESET", "EPIPE")


def test_what_the_kernel_does_not_take_waits_and_is_reported_when_gone(bench: Bench) -> None:
    sent = bench.fill()
    bench.stream.send(b"more")
    assert bench.read(sent + 4) == sent + 4
    bench.turn()
    assert bench.stream.backlog is None
    assert bench.stream.heard[-1] == "drained"
    assert not bench.stream.mask & 4


def test_progress_of_a_large_backlog_is_reported(bench: Bench) -> None:
    sent = bench.fill()
    for _ in range(32):
        bench.stream.send(bytes(1 << 20))
    bench.read(sent + (16 << 20))
    assert bench.stream.heard == ["progress"]


def test_order_is_kept_through_the_backlog(bench: Bench) -> None:
    sent = bench.fill()
    for letter in (b"a", b"b", b"c"):
        bench.stream.send(letter)
    bench.read(sent)
    bench.turn()
    assert bench.far.recv(10) == b"abc"


def test_reset_is_seen_as_one(bench: Bench) -> None:
    bench.stream.send(b"half")
    bench.stream.reset()
    bench.reactor.stint()
    with pytest.raises(ConnectionResetError):
        assert bench.far.recv(100) == b"half" and bench.far.recv(100)  # noqa: PT018 (either may be reset)


def test_a_closed_stream_takes_no_more(bench: Bench) -> None:
    bench.stream.arm(1.0)
    bench.stream.close()
    bench.stream.close()
    bench.stream.send(b"x")
    bench.stream.pause()
    bench.stream.resume()
    bench.reactor.stint()
    assert bench.far.recv(1) == b""
    assert len(bench.reactor.wheel) == 0
    assert bench.stream.deadline == NEVER


def test_abort_breaks_the_connection_even_if_its_owner_fails_again(bench: Bench) -> None:
    def fails(error: OSError) -> None:
        raise ValueError("again")

    bench.stream.on_broken = fails  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="again"):
        bench.stream.abort()
    assert bench.stream.closed


def test_a_detached_socket_is_nobody_elses(bench: Bench) -> None:
    bench.stream.arm(1.0)
    fd = bench.stream.detach()
    bench.far.sendall(b"for the new owner")
    bench.turn()
    assert bench.stream.heard == []
    assert len(bench.reactor.wheel) == 0
    again = Noted(bench.reactor, fd)
    again.watch(READ)
    bench.turn()
    assert again.data == b"for the new owner"
    again.close()


def test_a_deadline_moved_later_is_one_assignment(bench: Bench) -> None:
    bench.stream.arm(1.0)
    filed = bench.stream.filed
    bench.stream.arm(10.0)
    assert bench.stream.filed == filed
    bench.reactor.wheel.advance(bench.reactor.now + 5)
    assert bench.stream.heard == []
    bench.reactor.wheel.advance(bench.reactor.now + 11)
    assert bench.stream.heard == ["deadline"]


def test_disarm_takes_the_deadline_back(bench: Bench) -> None:
    bench.stream.arm(1.0)
    bench.stream.disarm()
    bench.reactor.wheel.advance(bench.reactor.now + 5)
    assert bench.stream.heard == []


async def test_an_error_that_the_kernel_finds_is_heard_by_who_reads_and_by_who_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_liveness, "LOOK_S", 1.0)
    monkeypatch.setattr(peer_liveness, "ASK_EVERY_S", 1)
    crashes: list[BaseException] = []
    reactor = Reactor(crashes.append)
    with hosts() as silence:
        streams = {
            what: Noted(reactor, silence.connected(silence.mute)[0].detach())
            for what in ("reads", "paused", "heard all")
        }
        for stream in streams.values():
            stream.watch()
        streams["paused"].pause()
        silence.ends[-1].shutdown(socket.SHUT_WR)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reactor.run)
                while not streams["heard all"].heard:  # noqa: ASYNC110 (the kernel decides)
                    await trio.sleep(0.01)
                silence.mute.unplug()
                while not all(stream.closed for stream in streams.values()):  # noqa: ASYNC110
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        silent = {errno.errorcode[code] for code in peer_liveness.SILENT}
        assert streams["heard all"].heard.pop(0) == "eof"
        for what, stream in streams.items():
            (error,) = stream.heard
            assert error in silent, what
        reactor.dispose()
    assert crashes == []


class Slow(Noted):
    """Works through three bytes a turn."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data[:3])
        self.put_back(data[3:])


@pytest.fixture
def slow(bench: Bench) -> Slow:
    near = bench.stream.detach()
    bench.stream = stream = Slow(bench.reactor, near)
    stream.watch()
    return stream


def test_what_was_put_back_comes_again_before_anything_new(bench: Bench, slow: Slow) -> None:
    bench.far.sendall(b"abcdefg")
    bench.turn()
    bench.far.sendall(b"hi")
    bench.turn()
    assert slow.data == b"abcdefghi"
    assert slow.heard == [3, 3, 1, 2]


def test_nothing_is_read_while_something_is_put_back(bench: Bench, slow: Slow) -> None:
    bench.far.sendall(b"abcdef")
    slow.on_ready(READ)
    bench.far.sendall(b"ghi")
    bench.far.shutdown(socket.SHUT_WR)
    slow.on_ready(READ)
    assert slow.heard == [3]
    bench.turn()
    assert slow.data == b"abcdefghi"
    assert slow.heard[-1] == "eof"


def test_others_have_their_turn_in_between(bench: Bench, slow: Slow) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    other = Slow(bench.reactor, near.detach())
    other.watch()
    order: list[object] = []
    for name, stream in (("slow", slow), ("other", other)):
        stream.heard = Named(name, order)  # type: ignore[assignment]
    bench.far.sendall(b"a" * 9)
    far.sendall(b"b" * 6)
    bench.turn()
    other.close()
    far.close()
    assert sorted(order[:2]) == ["other", "slow"]
    assert sorted(order[2:4]) == ["other", "slow"]
    assert order[4:] == ["slow"]


class Named(list[object]):
    def __init__(self, name: str, order: list[object]) -> None:
        super().__init__()
        self.name, self.order = name, order

    def append(self, item: object) -> None:
        self.order.append(self.name)


def test_a_pause_holds_up_what_was_put_back(bench: Bench, slow: Slow) -> None:
    slow.pause_on_data = True
    bench.far.sendall(b"abcdef")
    bench.turn()
    assert slow.data == b"abc"
    slow.pause_on_data = False
    slow.resume()
    bench.turn()
    assert slow.data == b"abcdef"


def test_what_a_closed_stream_put_back_is_dropped(bench: Bench, slow: Slow) -> None:
    bench.far.sendall(b"abcdef")
    slow.on_ready(READ)
    slow.close()
    bench.turn()
    assert slow.data == b"abc"


def test_a_reset_drops_what_was_put_back(bench: Bench, slow: Slow) -> None:
    bench.far.sendall(b"abcdefghi")
    slow.on_ready(READ)
    bench.reset()
    bench.turn()
    assert slow.heard[-1] == "ECONNRESET"
    assert slow.closed
    assert slow.data != b"abcdefghi"


async def test_work_that_a_deadline_queued_is_done_though_no_event_comes(bench: Bench) -> None:
    stream = bench.stream
    turns: list[str] = []

    class Waiting(Noted):
        def on_deadline(self) -> None:
            self.reactor.ready.add(self)

        def on_turn(self) -> None:
            turns.append("turn")
            if len(turns) < 3:
                self.reactor.ready.add(self)
            else:
                nursery.cancel_scope.cancel()

    waiting = Waiting(bench.reactor, stream.detach())
    waiting.watch()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.reactor.run)
            waiting.arm(0.1)
    waiting.close()
    assert turns == ["turn"] * 3
