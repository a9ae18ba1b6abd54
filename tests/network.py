"""Machines as network namespaces (`scripts.benchmarks.machines`), with processes that tests talk to."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.benchmarks.machines import COMMAND_S, ROOT, Machines, lacking

DEADLINE_S = 60.0
PAUSE_S = 0.05


def require() -> None:
    """Skip where namespaces cannot be made or programmed."""
    if lack := lacking():
        pytest.skip(f"NOT TESTED: {lack}")


def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for a state that nothing announces. `what` says what there is instead."""
    for _ in range(round(DEADLINE_S / PAUSE_S)):
        if holds():
            return
        threading.Event().wait(PAUSE_S)
    raise AssertionError(f"not in {DEADLINE_S} s: {what()}")


class Talking:
    """A process that answers each line of JSON with one."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
        )

    def hears(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait(COMMAND_S)}"
        return json.loads(line)

    def says(self, **told: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self.hears()

    def is_to_end(self) -> None:
        """It finds no more input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def ends(self, *, kill: bool = False) -> int:
        """Wait for its end; the exit code."""
        assert self.process.stdout is not None
        if kill:
            self.process.kill()
        self.is_to_end()
        try:
            return self.process.wait(COMMAND_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process.stdout.close()


class Network(Machines):
    """`greeters`: what runs on the hosts, for the length of one test."""

    def __init__(self, hosts: int) -> None:
        super().__init__(hosts)
        self._talking: list[Talking] = []
        self.greeters: list[Talking] = []

    @contextlib.contextmanager
    def up(self) -> Iterator["Network"]:
        """Make everything, and remove it at the end with the processes that are left."""
        with self.made():
            try:
                yield self
            finally:
                self.calm()

    def calm(self) -> None:
        """End all processes, and leave no rule at the edge."""
        for each in self._talking:
            each.ends(kill=True)
        self._talking.clear()
        self.runs("edge", "nft", "flush", "ruleset")

    def talks(self, machine: str, script: str, *args: str) -> Talking:
        """Start a script of the tests there, which says a line when it is ready."""
        talking = Talking(self.inside(machine, sys.executable, "-m", script, *args))
        self._talking.append(talking)
        talking.hears()
        return talking
