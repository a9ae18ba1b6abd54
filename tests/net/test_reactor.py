"""The reactor: batches that cannot be confused, crashes that stay where they are, time that is accounted for."""

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.lowlevel
import trio.testing

from tierlb.net import reactor
from tierlb.net.beat import BEAT_S, LONGEST_PAUSE_S
from tierlb.net.reactor import POLL_S, READ, STINT_S, WRITE, Reactor
from tierlb.net.wheel import NEVER, WHEEL_TICK_S, Timed

DEADLINE_S = 30.0
TRIES = 20


class Bench:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append, clock)
        self.sockets: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.sockets += [near, far]
        return near, far

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.reactor.dispose()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_handler_hears_what_its_descriptor_is_ready_for(bench: Bench) -> None:
    near, far = bench.pair()
    heard: list[int] = []

    def handler(mask: int) -> None:
        heard.append(mask)
        bench.reactor.remove(near.fileno())

    bench.reactor.add(near.fileno(), READ, handler)
    bench.reactor.stint()
    assert heard == []
    far.send(b"x")
    bench.reactor.stint()
    assert heard == [READ]


def test_in_a_batch_it_is_known_where_something_happened_and_which_handlers_were_called(bench: Bench) -> None:
    bench.reactor.tracks = True
    near, quiet = [bench.pair()[0] for _ in range(2)], bench.pair()[0]
    seen: list[tuple[bool, set[int]]] = []
    for sock in (*near, quiet):
        bench.reactor.add(
            sock.fileno(), READ, lambda mask: seen.append((bench.reactor.polled, set(bench.reactor.unserved)))
        )
    for far in bench.sockets[1:4:2]:
        far.send(b"x")
    assert not bench.reactor.polled
    bench.reactor.stint()
    assert seen[0][0]
    assert [len(unserved) for _, unserved in seen[:2]] == [1, 0]
    assert seen[0][1] < {sock.fileno() for sock in near}
    assert not bench.reactor.polled, "outside of a batch nothing is known"


def test_a_batch_that_may_have_left_descriptors_out_says_nothing_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.reactor.tracks = True
    monkeypatch.setattr(reactor, "BATCH_EVENTS", 1)
    near, far = bench.pair()
    seen: list[bool] = []
    bench.reactor.add(near.fileno(), READ, lambda mask: seen.append(bench.reactor.polled))
    far.send(b"x")
    bench.reactor.stint()
    assert not any(seen)
    assert seen


def test_a_mask_can_be_changed_and_a_descriptor_given_to_another_handler(bench: Bench) -> None:
    near, far = bench.pair()
    first: list[int] = []
    second: list[int] = []

    def take_over(mask: int) -> None:
        second.append(mask)
        bench.reactor.modify(near.fileno(), 0)

    bench.reactor.add(near.fileno(), 0, first.append)
    far.send(b"x")
    bench.reactor.stint()
    bench.reactor.replace(near.fileno(), READ | WRITE, take_over)
    bench.reactor.stint()
    assert (first, second) == ([], [READ | WRITE])


@pytest.mark.parametrize("at_once", [False, True])
def test_a_descriptor_number_used_again_in_a_batch_does_not_hear_of_its_previous_owner(
    bench: Bench, at_once: bool
) -> None:
    """Both sockets are ready in one batch. Whoever comes first closes the other and opens a new socket, which would
    get the same number if that were free before the end of the batch."""
    close = bench.reactor.close_at_once if at_once else bench.reactor.close
    heard: list[str] = []
    pairs = [bench.pair() for _ in range(2)]

    def make_handler(mine: socket.socket, other: socket.socket) -> None:
        def handler(mask: int) -> None:
            heard.append("ready")
            given_up = other.detach()
            close(given_up)
            newcomer, far = bench.pair()
            assert given_up not in (newcomer.fileno(), far.fileno())
            bench.reactor.add(newcomer.fileno(), READ, lambda mask: heard.append("confused"))
            mine.recv(1)

        bench.reactor.add(mine.fileno(), READ, handler)

    make_handler(pairs[0][0], pairs[1][0])
    make_handler(pairs[1][0], pairs[0][0])
    for _, far in pairs:
        far.send(b"x")
    bench.reactor.stint()
    assert heard == ["ready"]
    assert sorted(near.fileno() == -1 for near, _ in pairs) == [False, True]


def test_what_is_closed_at_once_is_closed_before_the_batch_is_over_and_not_watched_any_more(bench: Bench) -> None:
    near, far = bench.pair()
    heard: list[int] = []
    bench.reactor.add(near.fileno(), READ, heard.append)
    far.setblocking(False)
    with near.dup() as kept:
        number = near.detach()
        bench.reactor.close_at_once(number)
        far.send(b"x")
        assert number not in {sock.fileno() for sock in bench.pair()}
        bench.reactor.stint()
        assert kept.recv(1) == b"x"
    assert far.recv(1) == b""
    assert (heard, number) == ([], bench.pair()[0].fileno())


def test_what_cannot_be_watched_is_not_known(bench: Bench) -> None:
    near, _ = bench.pair()
    bench.reactor.add(near.fileno(), READ, lambda mask: None)
    other = near.dup()
    number = other.detach()
    os.close(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        bench.reactor.add(number, READ, lambda mask: None)
    with pytest.raises(KeyError):
        bench.reactor.remove(number)


class Fragile(Timed):
    """A handler's owner that fails, and maybe fails again when it is told to go."""

    def __init__(self, bench: Bench, sock: socket.socket, *, twice: bool) -> None:
        self.bench = bench
        self.sock = sock
        self.twice = twice
        self.deadline = NEVER
        self.filed = NEVER

    def on_ready(self, mask: int) -> None:
        raise ValueError("first")

    def on_deadline(self) -> None:
        raise ValueError("late")

    def abort(self) -> None:
        self.bench.reactor.close(self.sock.detach())
        if self.twice:
            raise ValueError("second")


@pytest.mark.parametrize("twice", [False, True])
def test_a_handler_that_fails_drops_its_connection_and_no_other(bench: Bench, twice: bool) -> None:
    (bad, bad_far), (good, good_far) = bench.pair(), bench.pair()
    heard: list[bytes] = []
    bench.reactor.add(bad.fileno(), READ, Fragile(bench, bad, twice=twice).on_ready)
    bench.reactor.add(good.fileno(), READ, lambda mask: heard.append(good.recv(10)))
    for word in (b"one", b"two"):
        good_far.send(word)
        if not bench.crashes:
            bad_far.send(b"x")
        bench.reactor.stint()
    assert heard == [b"one", b"two"]
    assert [str(error) for error in bench.crashes] == ["first", "second"][: 1 + twice]
    assert bad.fileno() == -1


def test_a_deadline_that_fails_drops_its_connection(bench: Bench) -> None:
    near, far = bench.pair()
    owner = Fragile(bench, near, twice=False)
    owner.deadline = bench.reactor.now + 0.1
    bench.reactor.wheel.file(owner)
    bench.reactor.wheel.advance(bench.reactor.now + 1)
    bench.reactor.stint()
    assert [str(error) for error in bench.crashes] == ["late"]
    assert far.recv(1) == b""


async def test_other_tasks_get_their_turn_under_load(bench: Bench) -> None:
    near, far = bench.pair()
    far.send(b"never read")
    bench.reactor.add(near.fileno(), READ, lambda mask: None)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.reactor.run)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert bench.reactor.batches > 20


async def test_it_wakes_for_events_and_keeps_time(bench: Bench) -> None:
    near, far = bench.pair()
    heard = trio.Event()

    def handler(mask: int) -> None:
        near.recv(1)
        heard.set()

    bench.reactor.add(near.fileno(), READ, handler)
    owner = Fragile(bench, near, twice=False)
    fired = trio.Event()
    owner.abort = fired.set  # type: ignore[method-assign]
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.reactor.run)
            await trio.testing.wait_all_tasks_blocked()
            far.send(b"x")
            await heard.wait()
            owner.deadline = bench.reactor.now + 0.01
            bench.reactor.wheel.file(owner)
            await fired.wait()
            nursery.cancel_scope.cancel()
    assert [str(error) for error in bench.crashes] == ["late"]


class ClockedBench(Bench):
    """Its clock goes on only when a test says so. Polls take the times of `lasting_s`, one after the other; all but the
    last find something."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(lambda: self.now)

    def poll_in_steps(self, monkeypatch: pytest.MonkeyPatch, lasting_s: list[float]) -> None:
        monkeypatch.setattr(self.reactor, "_epoll", ScriptedPolls(self, lasting_s))


class ScriptedPolls:
    """An epoll set of which it is known how long each poll takes. After those of `lasting_s`, polls find nothing, and
    wait `nothing_s` at most."""

    def __init__(self, bench: ClockedBench, lasting_s: list[float], nothing_s: float = 0.0) -> None:
        self.bench = bench
        self.nothing_s = nothing_s
        self.lasting_s = lasting_s
        self.waits_s: list[float] = []

    def poll(self, timeout_s: float, most: int) -> list[tuple[int, int]]:
        self.waits_s.append(timeout_s)
        if not self.lasting_s:
            self.bench.now += min(timeout_s, self.nothing_s)
            return []
        self.bench.now += self.lasting_s.pop(0)
        return [(999, READ)] if self.lasting_s else []

    def close(self) -> None:
        pass


@pytest.fixture
def clocked() -> Iterator[ClockedBench]:
    bench = ClockedBench()
    yield bench
    bench.close()


def test_a_stint_ends_while_there_is_still_work(clocked: ClockedBench) -> None:
    near, far = clocked.pair()
    far.send(b"never read")
    calls: list[int] = []

    def handler(mask: int) -> None:
        calls.append(mask)
        clocked.now += 0.3 * STINT_S

    clocked.reactor.add(near.fileno(), READ, handler)
    assert clocked.reactor.stint()
    assert len(calls) == clocked.reactor.events == 4, "the one in which its time is up is the last"


def test_a_stint_that_is_ended_ends_with_its_batch(bench: Bench) -> None:
    near, far = bench.pair()
    far.send(b"never read")
    calls: list[int] = []

    def handler(mask: int) -> None:
        calls.append(mask)
        bench.reactor.end_stint()

    bench.reactor.add(near.fileno(), READ, handler)
    assert bench.reactor.stint(60.0)
    assert len(calls) == 1


POLLS = [
    # how long each poll takes -> how much of that was waiting
    ([0.0], 0),
    ([POLL_S / 2, 1.0], 1.0 - POLL_S),  # the system call itself is work
    ([POLL_S, 1.0], 1.0 - POLL_S),
    ([POLL_S, POLL_S / 2, POLL_S, 1.0], 1.0 - POLL_S),  # and however many there are do not add up
    ([POLL_S + 2e-6, 1.0], 2e-6 + 1.0 - POLL_S),
]


@pytest.mark.parametrize(("polls", "waited_s"), POLLS)
def test_a_poll_is_waiting_beyond_what_it_costs(
    clocked: ClockedBench, monkeypatch: pytest.MonkeyPatch, polls: list[float], waited_s: float
) -> None:
    clocked.poll_in_steps(monkeypatch, polls)
    clocked.reactor.stint(sum(polls))
    assert clocked.reactor.waited_s() == pytest.approx(waited_s, abs=1e-9)


def test_work_is_not_waiting_and_what_others_do_meanwhile_is(clocked: ClockedBench) -> None:
    near, far = clocked.pair()

    def handler(mask: int) -> None:
        near.recv(1)
        clocked.now += 5

    clocked.reactor.add(near.fileno(), READ, handler)
    far.send(b"x")
    clocked.reactor.stint(1.0)
    assert clocked.reactor.waited_s() == 0
    clocked.now += 10
    assert clocked.reactor.waited_s() == 10
    clocked.reactor.stint()
    assert clocked.reactor.waited_s() == 10


# What time brings.


def rest(clocked: ClockedBench) -> None:
    """Until regular work is as seldom as it becomes."""
    for _ in range(8):
        clocked.now += LONGEST_PAUSE_S
        clocked.reactor.stint()


def test_a_poll_waits_no_longer_than_until_the_next_deadline(
    clocked: ClockedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest(clocked)
    owner = Fragile(clocked, clocked.pair()[0], twice=False)
    owner.deadline = clocked.now + 0.3
    clocked.reactor.wheel.file(owner)
    polls = ScriptedPolls(clocked, [0.5, BEAT_S, 60.0])
    monkeypatch.setattr(clocked.reactor, "_epoll", polls)
    clocked.reactor.stint(60.0)
    assert polls.waits_s == pytest.approx([0.5, BEAT_S, BEAT_S])
    assert [str(error) for error in clocked.crashes] == ["late"]
    assert owner.filed == NEVER


def test_a_stint_goes_on_after_regular_work_and_ends_when_its_time_is_over(
    clocked: ClockedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each piece of regular work would take a round through trio's scheduler."""
    rest(clocked)
    polls = ScriptedPolls(clocked, [], nothing_s=LONGEST_PAUSE_S)
    monkeypatch.setattr(clocked.reactor, "_epoll", polls)
    clocked.reactor.stint(4.5 * LONGEST_PAUSE_S)
    assert [wait_s for wait_s in polls.waits_s if wait_s] == pytest.approx(
        [LONGEST_PAUSE_S] * 4 + [LONGEST_PAUSE_S / 2]
    )


def test_a_stint_that_has_waited_is_over_even_if_the_clock_stands_still(clocked: ClockedBench) -> None:
    """As it does in tests: trio's own deadlines come all the same."""
    rest(clocked)
    assert not clocked.reactor.stint(0.001)


def test_regular_work_is_done_before_the_events_that_end_a_rest(clocked: ClockedBench) -> None:
    done: list[str] = []
    near, far = clocked.pair()

    def work(now: float) -> float:
        done.append(f"work at {now - 1000:g}")
        return NEVER

    def handler(mask: int) -> None:
        near.recv(1)
        done.append("event")

    clocked.reactor.add(near.fileno(), READ, handler)
    clocked.reactor.beat.begin(work)
    clocked.reactor.stint()
    clocked.now += 0.2
    clocked.reactor.stint()
    clocked.now += 0.1
    far.send(b"x")
    clocked.reactor.stint()
    assert done == ["work at 0", "work at 0.2", "work at 0.3", "event"]
    clocked.now += 0.049
    far.send(b"x")
    clocked.reactor.stint()
    assert done[4:] == ["event"], "it is not done more often than every BEAT_S"
    clocked.now += 0.002
    clocked.reactor.stint()
    assert done[5:] == ["work at 0.351"], "but so soon after something has happened"


def test_a_deadline_that_fires_is_followed_by_regular_work(clocked: ClockedBench) -> None:
    times: list[float] = []

    def work(now: float) -> float:
        times.append(now)
        return NEVER

    clocked.reactor.beat.begin(work)
    rest(clocked)
    owner = Fragile(clocked, clocked.pair()[0], twice=False)
    owner.deadline = clocked.now + 0.1
    clocked.reactor.wheel.file(owner)
    before = len(times)
    clocked.now += WHEEL_TICK_S
    clocked.reactor.stint()
    assert len(clocked.crashes) == 1
    assert times[before:] == [clocked.now]


def test_an_event_of_a_nested_set_is_no_work(clocked: ClockedBench) -> None:
    """Regular work is not done sooner for it, and a stint does not take it for something that happened here."""
    times: list[float] = []

    def work(now: float) -> float:
        times.append(now)
        return NEVER

    clocked.reactor.beat.begin(work)
    rest(clocked)
    before = len(times)
    near, far = clocked.pair()
    clocked.reactor.nest(near.fileno(), lambda mask: clocked.reactor.end_stint())
    far.send(b"x")
    clocked.now += 0.1
    assert not clocked.reactor.stint(60.0)
    assert len(times) == before


async def test_a_loop_that_waits_is_idle(bench: Bench) -> None:
    for _ in range(TRIES):
        if (share := await busy(bench)) < 0.3:  # it may have been made to wait for the processor
            break
    assert share < 0.3


async def test_a_loop_that_works_is_busy(bench: Bench) -> None:
    near, far = bench.pair()
    far.send(b"never read")
    bench.reactor.add(near.fileno(), READ, lambda mask: burn(0.001))
    assert await busy(bench) > 0.5


async def busy(bench: Bench) -> float:
    """The share of a tenth of a second in which it did not wait."""
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.reactor.run)
            began, waited_s = time.monotonic(), bench.reactor.waited_s()
            await trio.sleep(0.1)
            share = 1 - (bench.reactor.waited_s() - waited_s) / (time.monotonic() - began)
            nursery.cancel_scope.cancel()
    return share


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_look_at_the_clock_is_the_time_for_all_that_follows(clocked: ClockedBench) -> None:
    clocked.now += 7
    assert clocked.reactor.look() == clocked.now
    assert clocked.reactor.now == clocked.now


class Gathering:
    """Notes what had come each time that it was called."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.came = 0
        self.calls: list[int] = []

    def note(self) -> None:
        self.came += 1
        if self.came == 1:
            self.bench.reactor.later(self.gather)

    def gather(self) -> None:
        self.calls.append(self.came)


def test_what_may_wait_for_company_is_done_at_the_end_of_the_stint(bench: Bench) -> None:
    gathering = Gathering(bench)
    for _ in range(2):
        near, far = bench.pair()
        far.send(b"x")
        bench.reactor.add(near.fileno(), READ, lambda mask, near=near: (near.recv(1), gathering.note()))
    bench.reactor.stint()
    assert gathering.calls == [2]
    bench.reactor.stint()
    assert gathering.calls == [2]


def test_late_work_that_fails_keeps_no_other_from_its_turn(bench: Bench) -> None:
    def fails() -> None:
        raise RuntimeError("late")

    gathering = Gathering(bench)
    bench.reactor.later(fails)
    gathering.note()
    bench.reactor.stint()
    assert gathering.calls == [1]
    assert [str(crash) for crash in bench.crashes] == ["late"]


async def test_late_work_of_a_reactor_that_sleeps_is_done_with_a_tick(bench: Bench) -> None:
    gathering = Gathering(bench)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.reactor.run)
        await trio.lowlevel.checkpoint()
        gathering.note()
        with trio.fail_after(DEADLINE_S):
            while not gathering.calls:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def test_dispose_gives_every_descriptor_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    bench = Bench()
    near, _ = bench.pair()
    bench.reactor.add(near.fileno(), READ, lambda mask: None)
    bench.reactor.close(near.detach())
    bench.close()
    assert len(os.listdir("/proc/self/fd")) == before
