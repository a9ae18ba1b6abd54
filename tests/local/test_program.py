"""One run of a program, real but small."""

import os
import signal

import pytest
import trio

from tests.local.fake_processes import Recorder
from tierlb.local.program import Lending, Program
from tierlb.local.sockets import Sockets

DEADLINE_S = 30.0
TELLS = """
import os, socket
s = socket.socket(fileno=int(os.environ["TIERLB_SOCKETS"]))
assert s.recv(512) == b"web-2"
s.send(b"127.0.0.1:1")
s.send(s.recv(512))
"""
"""It returns what it is answered."""


class Answering(Sockets):
    """Sockets whose answers are seen."""

    async def serve(self, sock, tier, number, pid):
        request = await sock.recv(512)
        await sock.send(request + f" for {tier} {number}".encode())
        self.seen = await sock.recv(512)


@pytest.fixture
def seen():
    return Recorder()


async def test_what_a_process_started_itself_ends_with_it(seen):
    with trio.fail_after(DEADLINE_S):
        running = await Program(("sh", "-c", "sleep 61 & wait"), os.environ, seen).start()
        assert seen.entered == [running.pid]
        while len(_group(running.pid)) < 2:
            await trio.lowlevel.checkpoint()
        await running.end()
        while _group(running.pid):
            await trio.lowlevel.checkpoint()
    assert (seen.crossed_off, running.how_it_ended) == ([running.pid], "SIGKILL")


@pytest.mark.parametrize(("command", "how"), [("exit 0", "status 0"), ("exit 3", "status 3"), ("kill $$", "SIGTERM")])
async def test_how_it_ended_is_a_status_or_a_signal(seen, command, how):
    with trio.fail_after(DEADLINE_S):
        running = await Program(("sh", "-c", command), os.environ, seen).start()
        await running.wait_gone()
        assert running.how_it_ended == how
        running.signal(signal.SIGTERM)  # to none that is left
        await running.end()


async def test_what_it_may_borrow_is_lent_after_its_introduction(seen):
    sockets = Answering()
    program = Program(("python3", "-c", TELLS), os.environ, seen, Lending(sockets, "web", 2, lambda: b"web-2"))
    with trio.fail_after(DEADLINE_S):
        running = await program.start()
        await running.lend()
        await running.wait_gone()
        await running.end()
    assert (sockets.seen, running.how_it_ended) == (b"127.0.0.1:1 for web 2", "status 0")


async def test_without_anything_to_lend_it_inherits_no_descriptor(seen):
    with trio.fail_after(DEADLINE_S):
        running = await Program(("sh", "-c", "test -z $TIERLB_SOCKETS"), os.environ, seen).start()
        await running.lend()
        await running.wait_gone()
        await running.end()
    assert running.how_it_ended == "status 0"


def cannot_introduce():
    raise ValueError


@pytest.mark.parametrize(("argv", "error"), [(("/nowhere/demo",), FileNotFoundError), (("sleep", "60"), ValueError)])
async def test_what_cannot_be_started_leaves_nothing_open(seen, argv, error):
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(error):
        await Program(argv, os.environ, seen, Lending(Sockets(), "web", 1, cannot_introduce)).start()
    assert (os.listdir("/proc/self/fd"), seen.entered) == (open_before, [])


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
