"""Machines as network namespaces: a client, an edge that routes, and hosts behind it, joined by virtual cables.

    client 10.77.0.2 ── 10.77.0.1 edge 10.77.N.1 ── 10.77.N.2 host N        and the same with fd77:0:0:N::

All route through the edge. Needs root, ip(8) and nft(8).
"""

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND_S = 60.0
TRY = "add table inet t; add chain inet t c { type nat hook output priority 0; }; add rule inet t c ct label set 1"
_numbers = itertools.count(1)


def lacking() -> str:
    """Why namespaces cannot be made or programmed here; "" if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    name = f"tl{os.getpid()}-try"
    made = _ended(["ip", "netns", "add", name])
    if made.returncode:
        return f"network namespaces: {made.stderr.strip()}"
    try:
        tried = _ended(["ip", "netns", "exec", name, "nft", TRY])
    finally:
        _ended(["ip", "netns", "del", name])
    return f"nftables: {tried.stderr.strip()}" if tried.returncode else ""


def _ended(command: list[str], stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, cwd=ROOT, check=False
    )


class Machines:
    """`hosts` of them are behind the edge. They are called "client", "edge", "host1" and so on."""

    def __init__(self, hosts: int) -> None:
        self._prefix = f"tl{os.getpid()}n{next(_numbers)}"
        self.names = ["client", "edge", *(f"host{number}" for number in range(1, hosts + 1))]

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Make everything, and remove it at the end."""
        try:
            for machine in self.names:
                self._ip("netns", "add", self.named(machine))
                self.runs(machine, "ip", "link", "set", "lo", "up")
            self._join("client", 0)
            for number, machine in enumerate(self.names[2:], start=1):
                self._join(machine, number)
            self.sets("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            yield
        finally:
            for machine in self.names:
                _ended(["ip", "netns", "del", self.named(machine)])

    def _join(self, machine: str, number: int) -> None:
        far, near = f"v{number}", f"e{number}"
        ends = (far, "netns", self.named(machine), "type", "veth", "peer", "name", near, "netns", self.named("edge"))
        self._ip("link", "add", *ends)
        for place, device, last in ((machine, far, 2), ("edge", near, 1)):
            self.runs(place, "ip", "addr", "add", f"10.77.{number}.{last}/24", "dev", device)
            self.runs(place, "ip", "addr", "add", f"fd77:0:0:{number}::{last}/64", "dev", device, "nodad")
            self.runs(place, "ip", "link", "set", device, "up")
        self.runs(machine, "ip", "route", "add", "default", "via", f"10.77.{number}.1")
        self.runs(machine, "ip", "route", "add", "default", "via", f"fd77:0:0:{number}::1")

    def named(self, machine: str) -> str:
        """The namespace."""
        return f"{self._prefix}-{machine}"

    def pids(self, machine: str) -> list[str]:
        """Of the processes that run there."""
        return _ended(["ip", "netns", "pids", self.named(machine)]).stdout.split()

    def inside(self, machine: str, *command: str) -> list[str]:
        """The command that runs another one there."""
        return ["ip", "netns", "exec", self.named(machine), *command]

    def sets(self, *settings: str) -> None:
        """Kernel settings of the edge."""
        self.runs("edge", "sysctl", "-qw", *settings)

    def runs(self, machine: str, *command: str, stdin: str = "") -> str:
        """Run a program there to its end; what it printed. Raises RuntimeError if it fails."""
        done = _ended(self.inside(machine, *command), stdin)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed at {machine}: {done.stderr.strip()}")
        return done.stdout

    @staticmethod
    def _ip(*args: str) -> None:
        done = _ended(["ip", *args])
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(args)} failed: {done.stderr.strip()}")
