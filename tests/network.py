"""Machines as network namespaces: a client, an edge that routes, and hosts behind it, joined by virtual cables.

    client 10.77.0.2 ── 10.77.0.1 edge 10.77.N.1 ── 10.77.N.2 host N        and the same with fd77:0:0:N::

All route through the edge. Needs root, ip(8) and nft(8); `require` skips a test with the reason where something is
missing.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
COMMAND_S = 60.0
DEADLINE_S = 60.0
PAUSE_S = 0.05
TRY = "add table inet t; add chain inet t c { type nat hook output priority 0; }; add rule inet t c ct label set 1"
_numbers = itertools.count(1)


def require() -> None:
    """Skip where namespaces cannot be made or programmed."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: network namespaces need root")
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"NOT TESTED: needs {program}")
    name = f"tl{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=COMMAND_S)
    if made.returncode:
        pytest.skip(f"NOT TESTED: network namespaces: {made.stderr.strip()}")
    try:
        tried = subprocess.run(
            [
                "ip",
                "netns",
                "exec",
                name,
                "nft",
                TRY,
            ],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=COMMAND_S)
    if tried.returncode:
        pytest.skip(f"NOT TESTED: nftables: {tried.stderr.strip()}")


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


class Network:
    """`hosts` machines behind the edge. Machines are called "client", "edge", "host1" and so on."""

    def __init__(self, hosts: int) -> None:
        self._prefix = f"tl{os.getpid()}n{next(_numbers)}"
        self.machines = ["client", "edge", *(f"host{number}" for number in range(1, hosts + 1))]
        self._talking: list[Talking] = []
        self.greeters: list[Talking] = []

    @contextlib.contextmanager
    def up(self) -> Iterator["Network"]:
        """Make everything, and remove it at the end with the processes that are left."""
        try:
            for machine in self.machines:
                self._ip("netns", "add", self.named(machine))
                self.runs(machine, "ip", "link", "set", "lo", "up")
            self._join("client", 0)
            for number, machine in enumerate(self.machines[2:], start=1):
                self._join(machine, number)
            self.sets("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            yield self
        finally:
            self.calm()
            for machine in self.machines:
                subprocess.run(["ip", "netns", "del", self.named(machine)], capture_output=True, timeout=COMMAND_S)

    def calm(self) -> None:
        """End all processes, and leave no rule at the edge."""
        for each in self._talking:
            each.ends(kill=True)
        self._talking.clear()
        self.runs("edge", "nft", "flush", "ruleset")

    def _join(self, machine: str, number: int) -> None:
        far, near = f"v{number}", f"e{number}"
        self._ip(
            "link", "add", far, "netns", self.named(machine), "type", "veth",
            "peer", "name", near, "netns", self.named("edge"),
        )  # fmt: skip
        for place, device, last in ((machine, far, 2), ("edge", near, 1)):
            self.runs(place, "ip", "addr", "add", f"10.77.{number}.{last}/24", "dev", device)
            self.runs(place, "ip", "addr", "add", f"fd77:0:0:{number}::{last}/64", "dev", device, "nodad")
            self.runs(place, "ip", "link", "set", device, "up")
        self.runs(machine, "ip", "route", "add", "default", "via", f"10.77.{number}.1")
        self.runs(machine, "ip", "route", "add", "default", "via", f"fd77:0:0:{number}::1")

    def named(self, machine: str) -> str:
        return f"{self._prefix}-{machine}"

    def sets(self, *settings: str) -> None:
        """Kernel settings of the edge."""
        self.runs("edge", "sysctl", "-qw", *settings)

    def runs(self, machine: str, *command: str, stdin: str = "") -> str:
        """Run a program there to its end; what it printed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.named(machine), *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            cwd=ROOT,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def talks(self, machine: str, script: str, *args: str) -> Talking:
        """Start a script of the tests there, which says a line when it is ready."""
        command = ["ip", "netns", "exec", self.named(machine), sys.executable, "-m", script, *args]
        talking = Talking(command)
        self._talking.append(talking)
        talking.hears()
        return talking

    @staticmethod
    def _ip(*args: str) -> None:
        done = subprocess.run(["ip", *args], capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, (args, done.stderr)
