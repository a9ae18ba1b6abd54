"""The guard against a supervisor that is really killed."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import trio

from tests.control_plane import KeptLog
from tierlb.local import guard as guard_module
from tierlb.local.guard import Guard
from tierlb.telemetry.internal_errors import InternalErrors

DEADLINE_S = 60.0
SUPERVISOR = """
import subprocess, trio
from tierlb.local.guard import Guard

async def main():
    async with Guard() as guard:
        keep, crossed_off = (
            subprocess.Popen(
                guard.command(["sh", "-c", "echo; exec sleep 60"]),
                stdin=guard.pipe, stdout=subprocess.PIPE, start_new_session=True,
            )
            for _ in "ab"
        )
        for process in (keep, crossed_off):
            process.stdout.readline()
        guard.remove(crossed_off.pid)
        print(keep.pid, crossed_off.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
WITHOUT_ITS_GUARD = """
import os, signal, subprocess, trio
from tierlb.local.guard import Guard
from tierlb.telemetry.internal_errors import InternalErrors

class Log:
    def __init__(self):
        self.started = trio.Event()

    def info(self, event, **fields):
        assert event == "guard_started", event
        self.started.set()

    def warning(self, event, **fields):
        assert (event, fields["how"]) == ("guard_ended", "SIGKILL"), event

    error = warning

async def start(guard):
    argv = guard.command(["sh", "-c", "echo; exec sleep 60"])
    output = {"stdout": subprocess.PIPE, "start_new_session": True}
    process = await trio.lowlevel.open_process(argv, stdin=guard.pipe, **output)
    guard.enter(process.pid)
    await process.stdout.receive_some()
    return process

async def main():
    log = Log()
    async with Guard() as guard, trio.open_nursery() as nursery:
        before, removed = await start(guard), await start(guard)
        nursery.start_soon(guard.keep, log, InternalErrors(log))
        for _ in range(2):
            log.started = trio.Event()
            os.kill(guard.pid, signal.SIGKILL)
            meanwhile = await start(guard)
            await log.started.wait()
        guard.remove(removed.pid)
        after = await start(guard)
        os.write(1, f"{removed.pid} {before.pid} {meanwhile.pid} {after.pid}\\n".encode())
        await trio.sleep_forever()

trio.run(main)
"""
KILLED_AT_ONCE = """
import os, signal, subprocess, trio
from tierlb.local.guard import Guard

async def main():
    async with Guard() as guard:
        started = subprocess.Popen(guard.command(["sleep", "60"]), stdin=guard.pipe, start_new_session=True)
        os.write(1, f"{started.pid}\\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_what_a_killed_supervisor_leaves_is_killed():
    supervisor = await trio.lowlevel.open_process([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE)
    with trio.fail_after(DEADLINE_S):
        line = b""
        while not line.endswith(b"\n"):
            line += await supervisor.stdout.receive_some()
        guarded, crossed_off = map(int, line.split())
        supervisor.kill()
        await supervisor.wait()
        await supervisor.stdout.aclose()
        while is_alive(guarded):
            await trio.lowlevel.checkpoint()
    assert is_alive(crossed_off)
    os.kill(crossed_off, signal.SIGKILL)


async def test_a_guard_that_was_killed_is_replaced_by_one_that_knows_all_groups():
    supervisor = await trio.lowlevel.open_process([sys.executable, "-c", WITHOUT_ITS_GUARD], stdout=subprocess.PIPE)
    with trio.fail_after(DEADLINE_S):
        line = b""
        while not line.endswith(b"\n"):
            line += await supervisor.stdout.receive_some()
        removed, *guarded = map(int, line.split())
        assert len(guarded) == 3
        supervisor.kill()
        await supervisor.wait()
        await supervisor.stdout.aclose()
        while any(map(is_alive, guarded)):
            await trio.lowlevel.checkpoint()
    assert is_alive(removed)
    os.kill(removed, signal.SIGKILL)


async def test_the_end_of_a_group_that_the_guard_does_not_know_changes_nothing():
    """As of one that ended while there was no guard."""
    process = await trio.lowlevel.open_process(["sleep", "60"], start_new_session=True)
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            guard.enter(process.pid)
            guard.remove(2**22)
            guard.remove(process.pid)
        assert process.poll() is None
        process.kill()
        await process.wait()


async def test_a_guard_that_reads_nothing_holds_up_nobody():
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            os.kill(guard.pid, signal.SIGSTOP)
            try:
                for group in range(2**22, 2**22 + 20_000):
                    guard.enter(group)
                    guard.remove(group)
            finally:
                os.kill(guard.pid, signal.SIGKILL)


async def test_a_guard_that_cannot_be_started_is_tried_again(nursery, monkeypatch):
    log, lacking, works = KeptLog(), [OSError(errno.EAGAIN, "fork"), ValueError()], trio.lowlevel.open_process
    errors = InternalErrors(log)

    async def start(*argv, **options):
        if lacking:
            raise lacking.pop()
        return await works(*argv, **options)

    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            monkeypatch.setattr(trio.lowlevel, "open_process", start)
            nursery.start_soon(guard.keep, log, errors)
            os.kill(guard.pid, signal.SIGKILL)
            while "guard_started" not in [event for event, _ in log.events]:  # noqa: ASYNC110 (real processes)
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
    assert errors.counts == {"guard": 2}
    assert [event for event, _ in log.events].count("guard_ended") == 1


async def said_by(script):
    """What a supervisor says before it ends or is killed."""
    supervisor = await trio.lowlevel.open_process([sys.executable, "-c", script], stdout=subprocess.PIPE)
    line = b""
    while not line.endswith(b"\n"):
        line += await supervisor.stdout.receive_some()
    await supervisor.stdout.aclose()
    await supervisor.wait()
    return int(line)


async def test_what_was_started_in_the_instant_before_the_kill_is_killed_too():
    with trio.fail_after(DEADLINE_S):
        for _ in range(10):
            started = await said_by(KILLED_AT_ONCE)
            while is_alive(started):
                await trio.lowlevel.checkpoint()


async def start(guard, *argv):
    return await trio.lowlevel.open_process(
        guard.command(argv), stdin=guard.pipe, stdout=subprocess.PIPE, start_new_session=True
    )


async def test_an_orderly_end_kills_nothing_that_was_removed():
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            process = await start(guard, "sh", "-c", "echo; exec sleep 60")
            await process.stdout.receive_some()
            guard.remove(process.pid)
        assert process.poll() is None
        process.kill()
        await process.wait()


async def test_a_guarded_process_is_what_it_was_to_be_and_holds_nothing_of_the_guard():
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            process = await start(guard, "sh", "-c", "echo $0-$1 $(readlink /proc/self/fd/0)", "a b", "$c")
            said = b""
            while piece := await process.stdout.receive_some():
                said += piece
            assert await process.wait() == 0
    assert said == b"a b-$c /dev/null\n"


async def killed(guard):
    os.kill(guard.pid, signal.SIGKILL)
    while is_alive(guard.pid):
        await trio.lowlevel.checkpoint()


async def test_a_guard_that_was_killed_is_no_harm():
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            await killed(guard)
            process = await start(guard, "true")
            assert await process.wait() == 0
            guard.remove(process.pid)
            assert not is_alive(guard.pid)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_an_orderly_end_does_not_wait_for_a_guard_that_works_no_more(number, monkeypatch):
    """And kills in its place."""
    monkeypatch.setattr(guard_module, "GUARD_END_S", 0.1)
    with trio.fail_after(DEADLINE_S):
        async with Guard() as guard:
            os.kill(guard.pid, number)
            process = await start(guard, "sleep", "60")
            guard.enter(process.pid)
        assert await process.wait() == -signal.SIGKILL
        assert not is_alive(guard.pid)


async def test_processes_begin_with_the_limit_of_open_files_that_they_are_given():
    with trio.fail_after(DEADLINE_S):
        async with Guard(321) as guard:
            process = await start(guard, "sh", "-c", "ulimit -S -n; ulimit -H -n")
            said = b""
            while piece := await process.stdout.receive_some():
                said += piece
            assert await process.wait() == 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert said.split() == [b"321", b"unlimited" if hard == resource.RLIM_INFINITY else str(hard).encode()]
