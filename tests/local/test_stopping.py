"""Processes that hold a state directory, and what becomes of them."""

import os
import signal
import subprocess
import sys

import pytest

from tierlb.controller.store import StateFiles, holder
from tierlb.local.stopping import NotStopped, stop

DEADLINE_S = 30.0
HOLD = """
# tierlb is a word in here, and no argument
import signal, sys
from pathlib import Path
from tierlb.controller.store import StateFiles
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
store = StateFiles(Path(sys.argv[1]))
store.load()
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def hold(tmp_path):
    """Have a process hold the directory; `name` is an argument of its command."""
    started = []

    def hold(name, how="polite"):
        arguments = [sys.executable, "-c", HOLD, str(tmp_path), how, name]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_one_that_holds_it_is_asked_and_waited_for(hold, tmp_path):
    process = hold("bin/tierlb")
    assert stop(tmp_path, DEADLINE_S) == process.pid
    assert process.wait(0) == -signal.SIGTERM
    assert holder(tmp_path) is None


def test_where_nobody_is_nothing_is_stopped(tmp_path):
    with pytest.raises(NotStopped, match="no cluster runs with its state in"):
        stop(tmp_path / "nowhere", DEADLINE_S)
    StateFiles(tmp_path).load()
    with pytest.raises(NotStopped, match=f"process {os.getpid()}, .* is no tierlb"):
        stop(tmp_path, DEADLINE_S)


def test_a_process_of_another_program_is_left_alone(hold, tmp_path):
    process = hold("something-else")
    with pytest.raises(NotStopped, match="is no tierlb: nothing was stopped"):
        stop(tmp_path, DEADLINE_S)
    assert process.poll() is None


def test_a_number_that_was_left_behind_means_nobody(hold, tmp_path):
    process = hold("bin/tierlb")
    process.kill()
    process.wait()
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    with pytest.raises(NotStopped, match="no cluster runs"):
        stop(tmp_path, DEADLINE_S)


def test_nothing_is_killed_that_does_not_end(hold, tmp_path):
    process = hold("bin/tierlb", "deaf")
    with pytest.raises(NotStopped, match=r"still runs after 0\.05 s"):
        stop(tmp_path, 0.05)
    assert process.poll() is None
