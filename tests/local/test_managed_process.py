"""Supervised processes, real but small."""

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest
import trio

from tests.local.fake_processes import Recorder
from tierlb.channel.backoff import Backoff
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.program import Lending, Program
from tierlb.local.sockets import Sockets

DEADLINE_S = 30.0
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@pytest.fixture
def seen():
    return Recorder()


def make(seen, argv, **more):
    return ManagedProcess("demo", program(seen, argv), seen, on_exit=seen.exits.append, **more)


def program(seen, argv, sockets=None, introduce=bytes):
    lending = None if sockets is None else Lending(sockets, "web", 1, introduce)
    return Program(argv, os.environ, seen, lending)


class Starts:
    """A watch that hands out the pid of each process."""

    def __init__(self):
        self.send, self.receive = trio.open_memory_channel(10)

    async def watch(self, pid):
        await self.send.send(pid)
        await trio.sleep_forever()


async def test_a_process_that_dies_is_started_again(seen, nursery):
    starts = Starts()
    child = make(seen, ("sleep", "60"), watch=starts.watch)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        first = await starts.receive.receive()
        os.kill(first, signal.SIGKILL)
        second = await starts.receive.receive()
        assert first != second
        assert seen.exits == [first]
        assert seen.crossed_off == [first]
        assert child.problem == "demo ended with SIGKILL"
        await child.stop(5)
    assert seen.exits == [first, second]
    assert seen.crossed_off == seen.entered == seen.exits


async def test_failures_in_a_row_are_counted_for_the_back_off(seen, nursery):
    backoff = Backoff(first_s=0.001)
    child = make(seen, ("sh", "-c", "exit 3"), backoff=backoff)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        while len(seen.exits) < 4:
            await trio.lowlevel.checkpoint()
        await child.stop(5)
    assert child.problem == "demo ended with status 3"
    assert backoff.failures >= 3


async def test_one_that_ignores_sigterm_is_killed_at_its_deadline(seen, nursery):
    starts = Starts()
    child = make(seen, (sys.executable, "-c", STUBBORN), watch=starts.watch)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        pid = await starts.receive.receive()
        while not _ignores_sigterm(pid):
            await trio.lowlevel.checkpoint()
        await child.stop(0.05)
    assert seen.exits == [pid]
    assert ("process_killed", {"process": "demo", "deadline_s": 0.05}) in seen.events


async def test_a_cancelled_child_is_killed_at_once(seen):
    starts = Starts()
    child = make(seen, ("sleep", "60"), watch=starts.watch)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            pid = await starts.receive.receive()
            nursery.cancel_scope.cancel()
    assert seen.exits == [pid]
    assert seen.crossed_off == seen.exits


class Failing:
    """Sockets that cannot be served, a watch that fails and a controller that cannot be told."""

    def __init__(self, error):
        self.error = error

    async def serve(self, sock, tier, number, pid):
        raise self.error

    async def watch(self, pid):
        raise self.error

    def on_exit(self, pid):
        raise self.error


@pytest.mark.parametrize("part", ["sockets", "watch", "on_exit"])
async def test_what_fails_beside_a_process_ends_neither_it_nor_others(seen, nursery, part):
    failing, starts = Failing(OSError(errno.EMFILE, "Too many open files")), Starts()
    more = {"watch": failing.watch} if part == "watch" else {}
    on_exit = failing.on_exit if part == "on_exit" else seen.exits.append
    run = program(seen, ("sleep", "60"), failing if part == "sockets" else None)
    child = ManagedProcess("demo", run, seen, on_exit=on_exit, **more)
    other = make(seen, ("sleep", "61"), watch=starts.watch)
    nursery.start_soon(child.run)
    nursery.start_soon(other.run)
    with trio.fail_after(DEADLINE_S):
        await starts.receive.receive()
        while child.pid is None:
            await trio.lowlevel.checkpoint()
        first = child.pid
        if part != "on_exit":
            while not child.errors.counts:
                await trio.lowlevel.checkpoint()
            assert child.pid == first
        os.kill(first, signal.SIGKILL)
        while child.pid in (first, None):
            await trio.lowlevel.checkpoint()
        assert other.pid is not None
        await child.stop(5)
        await other.stop(5)
    assert [fields["exc_info"].errno for event, fields in seen.events if event == "internal_error"] == [errno.EMFILE]


async def test_the_end_of_a_process_is_counted_even_if_it_cannot_be_told(seen, nursery):
    starts, failing = Starts(), Failing(ValueError())
    run = program(seen, ("sleep", "60"))
    child = ManagedProcess("demo", run, seen, on_exit=failing.on_exit, watch=starts.watch)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        os.kill(await starts.receive.receive(), signal.SIGKILL)
        await starts.receive.receive()
        assert (child.crashes, child.problem) == (1, "demo ended with SIGKILL")
        await child.stop(5)
    assert child.errors.counts == {"process end": 2}


async def test_a_start_on_which_the_program_fails_is_tried_again(seen, nursery):
    starts, failures = Starts(), [ValueError(), ValueError()]

    def introduce():
        if failures:
            raise failures.pop()
        return b"who it is"

    run = program(seen, ("sleep", "60"), Sockets(), introduce)
    child = ManagedProcess("demo", run, seen, watch=starts.watch, backoff=Backoff(first_s=0.001))
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        assert await starts.receive.receive() == child.pid
        await child.stop(5)
    assert child.errors.counts == {"process": 2}


@pytest.mark.parametrize(
    "error", [OSError(errno.EAGAIN, "fork"), RuntimeError("can't start new thread"), MemoryError()], ids=repr
)
async def test_what_lacks_for_a_start_is_waited_for(seen, nursery, error, monkeypatch):
    open_process, lacking = trio.lowlevel.open_process, [error, error]

    async def scarce(*arguments, **options):
        if lacking:
            raise lacking.pop()
        return await open_process(*arguments, **options)

    monkeypatch.setattr(trio.lowlevel, "open_process", scarce)
    starts = Starts()
    child = make(seen, ("sleep", "60"), watch=starts.watch, backoff=Backoff(first_s=0.001))
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        assert await starts.receive.receive() == child.pid
        await child.stop(5)
    assert [event for event, _ in seen.events].count("process_start_failed") == 2


async def test_a_process_that_cannot_be_waited_for_is_looked_at(seen, nursery, monkeypatch):
    async def wait(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.Process, "wait", wait)
    starts = Starts()
    child = make(seen, ("sleep", "60"), watch=starts.watch)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        first = await starts.receive.receive()
        os.kill(first, signal.SIGKILL)
        assert await starts.receive.receive() != first
        await child.stop(5)
    assert child.errors.counts == {}


ASK = """
import os, socket, sys
s = socket.socket(fileno=int(os.environ["TIERLB_SOCKETS"]))
for _ in range(2):
    sys.stdin.readline()
    s.send(sys.argv[1].encode())
    print(socket.recv_fds(s, 512, 1)[0].decode(), flush=True)
sys.stdin.readline()
"""
OUT_OF_DESCRIPTORS = """
import os, resource, subprocess, sys
import trio
from tierlb.local.managed_process import ManagedProcess
from tierlb.local.program import Lending, Program
from tierlb.local.guard import Guard
from tierlb.local.sockets import Sockets
from tierlb.model.address import parse_listen_address

class Log:
    def info(self, event, **fields): print(event, fields, flush=True)
    warning = error = info

class Open(Guard):
    pipe = property(lambda self: asks[0])
    def command(self, argv): return argv

asks = os.pipe()

async def main():
    sockets, held, others = Sockets(), [], []
    sockets.open(parse_listen_address(sys.argv[2]), "web")
    async with Open() as guard, trio.open_nursery() as nursery:
        argv = (sys.executable, "-c", *sys.argv[1:])
        program = Program(argv, dict(os.environ), guard, Lending(sockets, "web", 1, bytes))
        child = ManagedProcess("web-1", program, Log())
        nursery.start_soon(child.run)
        while child.pid is None:
            await trio.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True: held.append(os.dup(0))
        except OSError: pass
        for _ in range(2):
            os.write(asks[1], b"\\n")
            await trio.to_thread.run_sync(sys.stdin.readline)
        print("alive" if child.crashes == 0 else "crashed", flush=True)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


async def test_a_supervisor_without_a_free_descriptor_still_lends_sockets_and_goes_on():
    """In a process of its own, which opens descriptors until there are no more."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [sys.executable, "-c", OUT_OF_DESCRIPTORS, ASK, address]
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = b""
        for lines in (1, 2, 3):
            while said.count(b"\n") < lines:
                piece = await process.stdout.receive_some()
                assert piece, said
                said += piece
            if lines < 3:
                await process.stdin.send_all(b"\n")
        assert await process.wait() == 0
    assert said.decode().splitlines() == [f"{address} ok", f"{address} ok", "alive"]


async def test_a_program_that_is_not_there_is_told(seen, nursery):
    child = make(seen, ("/nowhere/demo",))
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        while not child.problem:
            await trio.lowlevel.checkpoint()
        await child.stop(1)
    assert "demo cannot be started: [Errno 2]" in child.problem


def _ignores_sigterm(pid):
    with open(f"/proc/{pid}/status") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigIgn"))
    return bool(int(mask, 16) & 1 << signal.SIGTERM - 1)
