"""Supervised processes, real but small."""

import os
import signal
import subprocess
import sys

import pytest
import trio

from tierlb.cluster.child import Child
from tierlb.controlplane.backoff import Backoff

DEADLINE_S = 30.0
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


class Recorder:
    """A guard and a log that note what they are told."""

    def __init__(self):
        self.events, self.crossed_off, self.exits = [], [], []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = error = info

    pipe = subprocess.DEVNULL

    def command(self, argv):
        return argv

    def remove(self, group):
        self.crossed_off.append(group)


@pytest.fixture
def seen():
    return Recorder()


def make(seen, argv, **more):
    return Child("demo", argv, os.environ, seen, seen, on_exit=seen.exits.append, **more)


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
    assert seen.crossed_off == seen.exits


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
    assert ("killed at its deadline", {"process": "demo", "deadline_s": 0.05}) in seen.events


async def test_what_a_process_started_itself_ends_with_it(seen, nursery):
    starts = Starts()
    child = make(seen, ("sh", "-c", "sleep 61 & wait"), watch=starts.watch)
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        pid = await starts.receive.receive()
        while len(_group(pid)) < 2:
            await trio.lowlevel.checkpoint()
        await child.stop(5)
        while _group(pid):
            await trio.lowlevel.checkpoint()
    assert seen.exits == [pid]


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


async def test_a_program_that_is_not_there_is_told(seen, nursery):
    child = make(seen, ("/nowhere/demo",))
    nursery.start_soon(child.run)
    with trio.fail_after(DEADLINE_S):
        while not child.problem:
            await trio.lowlevel.checkpoint()
        await child.stop(1)
    assert "demo cannot be started: [Errno 2]" in child.problem


def _group(leader):
    members = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == leader and fields[0] not in "ZX":
            members.append(int(entry))
    return members


def _ignores_sigterm(pid):
    with open(f"/proc/{pid}/status") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigIgn"))
    return bool(int(mask, 16) & 1 << signal.SIGTERM - 1)
