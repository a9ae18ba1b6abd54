"""The guard against a supervisor that is really killed."""

import os
import signal
import subprocess
import sys

import trio

from tierlb.cluster.guard import Guard

SUPERVISOR = """
import os, subprocess, trio
from tierlb.cluster.guard import Guard

async def main():
    async with Guard() as guard:
        keep, crossed_off = (subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in "ab")
        guard.add(keep.pid)
        guard.add(crossed_off.pid)
        guard.remove(crossed_off.pid)
        print(keep.pid, crossed_off.pid, flush=True)
        await trio.sleep_forever()

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
    with trio.fail_after(10):
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


async def test_an_orderly_end_kills_nothing_that_was_removed():
    process = await trio.lowlevel.open_process(["sleep", "60"], start_new_session=True)
    with trio.fail_after(5):
        async with Guard() as guard:
            guard.add(process.pid)
            guard.remove(process.pid)
        assert process.poll() is None
        process.kill()
        await process.wait()


async def test_a_guard_that_was_killed_is_no_harm():
    with trio.fail_after(5):
        async with Guard() as guard:
            guard._process.kill()
            await guard._process.wait()
            guard.add(1 << 22)
            assert guard._process.returncode == -signal.SIGKILL
