"""What a process may hold open, and the one descriptor it keeps for emergencies."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from tierlb.net.descriptors import Spare, connections_for

RAISE = """
import resource
from tierlb.net.descriptors import limit, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 700))
before = limit()
print(before, raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
EXHAUST = """
import os, resource
from tierlb.net.descriptors import Spare
spare = Spare()
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError as error:
    print(error.errno)
with spare.lent() as had:
    fd = os.dup(0)
    print(had)
    os.close(fd)
with spare.lent() as had:
    print(had)
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert run(RAISE) == ["200", "700", "700", "700"]


def test_a_spare_descriptor_can_be_used_when_there_are_no_others_and_is_taken_back() -> None:
    assert run(EXHAUST) == [str(errno.EMFILE), "True", "True"]


def test_a_spare_holds_one_descriptor_until_it_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    spare = Spare()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    spare.close()
    spare.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1024, 448), (20_000, 9_744), (1_048_576, 524_032), (256, 96), (65, 1), (64, 1), (10, 1)],
)
def test_connections_leave_a_reserve_of_descriptors(descriptors: int, connections: int) -> None:
    assert connections_for(descriptors) == connections


def test_the_limit_of_this_process_is_read() -> None:
    from tierlb.net.descriptors import limit

    assert limit() == min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] % 2**64, 2**31)
