"""A name belongs to one process of a network namespace, until that is gone."""

import os
import subprocess
import sys

from tierlb.net.claim import claim

NAME = f"tierlb-test-{os.getpid()}"
HOLD = f"""
import sys
from tierlb.net.claim import claim
held = claim({NAME!r})
print(held is not None, flush=True)
sys.stdin.read()
"""


def test_a_name_is_held_once_and_free_again() -> None:
    held = claim(NAME)
    assert held is not None
    assert claim(NAME) is None
    held.close()
    again = claim(NAME)
    assert again is not None
    again.close()


def test_a_killed_process_holds_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert claim(NAME) is None
        other.kill()
        other.wait(60)
    again = claim(NAME)
    assert again is not None
    again.close()
