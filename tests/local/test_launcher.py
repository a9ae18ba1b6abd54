"""What all processes get, and how long they may take to end."""

import sys
from pathlib import Path

from tierlb.local.launcher import environment
from tierlb.node.process import TOKEN_VARIABLE


def test_this_very_interpreter_is_found_first_and_the_token_is_not_handed_on(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    monkeypatch.setenv("PATH", "/usr/bin")
    env = environment()
    assert env["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert TOKEN_VARIABLE not in env
