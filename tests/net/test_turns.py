"""Reactors in a trio run: who waits, and for whom."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tierlb.net import turns
from tierlb.net.reactor import READ, Reactor

DEADLINE_S = 30.0


class Bench:
    """A reactor that echoes what comes to a socket, and notes what it got."""

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self.reactor = Reactor(self.crashes.append)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.got: list[bytes] = []
        self.then: Callable[[], object] = lambda: None
        self.reactor.add(self.near.fileno(), READ, self.on_ready)

    def on_ready(self, mask: int) -> None:
        data = self.near.recv(100)
        self.got.append(data)
        self.near.send(data)
        self.then()

    async def echoes(self, data: bytes) -> None:
        """Return when the reactor has answered."""
        self.far.send(data)
        with trio.fail_after(DEADLINE_S):
            await trio.lowlevel.wait_readable(self.far)
        assert self.far.recv(100) == data

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.reactor.dispose()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A reactor that runs."""
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        yield bench
        nursery.cancel_scope.cancel()
    bench.close()


@pytest.fixture(params=["of trio known", "unknown"])
def kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether trio's epoll set is found."""
    if request.param == "unknown":
        monkeypatch.setattr(turns, "INFO", Path("/nowhere"))


async def test_events_of_both_are_served(kinds: None, bench: Bench) -> None:
    for number in range(20):
        await bench.echoes(b"%d" % number)
    assert len(bench.got) == 20
    assert bench.crashes == []


async def test_deadlines_of_tasks_are_kept_while_the_reactor_waits(kinds: None, bench: Bench) -> None:
    with trio.fail_after(DEADLINE_S):
        for _ in range(5):
            await trio.sleep(0.01)


async def test_a_task_that_a_handler_wakes_runs(kinds: None, bench: Bench) -> None:
    woken = trio.Event()
    bench.then = woken.set
    bench.far.send(b"x")
    with trio.fail_after(DEADLINE_S):
        await woken.wait()


async def test_what_comes_from_a_thread_runs(kinds: None, bench: Bench) -> None:
    with trio.fail_after(DEADLINE_S):
        assert await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(lambda: 7)) == 7


async def test_a_descriptor_of_a_task_that_a_handler_empties_leaves_trio_in_no_wait_of_its_own(bench: Bench) -> None:
    """Both are ready in one batch. The task goes on waiting, and the reactor serves what comes meanwhile."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def handler(mask: int) -> None:
        bench.on_ready(mask)
        with suppress(BlockingIOError):
            ours.recv(100)

    async def wait() -> None:
        await trio.lowlevel.wait_readable(ours)

    bench.reactor.remove(bench.near.fileno())
    bench.reactor.add(bench.near.fileno(), READ, handler)
    answers: list[bytes] = []

    def talk() -> None:
        """From a thread, while no task runs and trio has no deadline."""
        bench.far.setblocking(True)
        bench.far.settimeout(DEADLINE_S)
        for number in range(20):
            theirs.send(b"x")
            bench.far.send(b"%d" % number)
            answers.append(bench.far.recv(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(talk)
        nursery.cancel_scope.cancel()
    assert answers == [b"%d" % number for number in range(20)]
    ours.close()
    theirs.close()


async def test_tasks_and_events_share_the_thread_while_both_are_busy(bench: Bench) -> None:
    bench.reactor.remove(bench.near.fileno())
    calls = 0

    def handler(mask: int) -> None:
        nonlocal calls
        calls += 1

    bench.reactor.add(bench.near.fileno(), READ, handler)
    bench.far.send(b"never read")
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    assert calls >= 10
    before = calls
    await trio.sleep(0.01)
    assert calls > before


async def test_a_quiet_process_sleeps_until_something_is_due(bench: Bench) -> None:
    """Counted, not timed: the reactor polls a bounded number of times."""
    await trio.sleep(0.5)
    before, batches = waits(), bench.reactor.batches
    await trio.sleep(1.0)
    assert waits() - before <= 20
    assert bench.reactor.batches - batches <= 20


def waits() -> int:
    """How often this thread waited."""
    status = Path("/proc/thread-self/status").read_text()
    return int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])


async def test_several_reactors_take_turns_and_one_that_leaves_stops_none(nursery: trio.Nursery, bench: Bench) -> None:
    others = [Bench(), Bench()]
    scopes = [trio.CancelScope() for _ in others]

    async def run(number: int) -> None:
        with scopes[number]:
            await others[number].reactor.run()

    for number in range(len(others)):
        nursery.start_soon(run, number)
    await trio.testing.wait_all_tasks_blocked()
    for each in (bench, *others):
        await each.echoes(b"one")
    scopes[0].cancel()
    await trio.testing.wait_all_tasks_blocked()
    for each in (bench, others[1]):
        await each.echoes(b"two")
    assert others[0].got == [b"one"]
    scopes[1].cancel()
    await trio.testing.wait_all_tasks_blocked()
    for each in others:
        each.close()


async def test_another_reactor_takes_over_from_the_first_one() -> None:
    first, second = Bench(), Bench()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def run_first() -> None:
                with scope:
                    await first.reactor.run()

            nursery.start_soon(run_first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second.reactor.run)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await second.echoes(b"alone")
            await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    for each in (first, second):
        each.close()


async def test_an_error_beside_handlers_is_reported_and_the_reactor_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stint, failures = bench.reactor.stint, [ValueError()]

    def fail(wait_s: float = 0.0) -> bool:
        if failures:
            raise failures.pop()
        return stint(wait_s)

    monkeypatch.setattr(turns.Turns, "_serve", lambda self, wait_s: fail(wait_s))
    await bench.echoes(b"x")
    assert len(bench.crashes) == 1


async def test_virtual_time_goes_on_beside_a_reactor(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.reactor.run)
        await trio.sleep(5000)
        nursery.cancel_scope.cancel()
    bench.close()


async def test_nothing_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    bench.close()
    assert len(os.listdir("/proc/self/fd")) == before
