"""A real name server for tests: Debian's dnsmasq on a loopback address of its own, and processes that ask it.

Who is asked is what resolv.conf says. A process that is started by way of `asking` sees another one than the system's,
in a mount namespace of its own; nothing else on the machine does.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import attrs
import pytest

DNSMASQ = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
START_S = 30.0
ZONE = "example.test"
"""Reserved for tests (RFC 6761), so nobody else is ever asked for it."""
BIND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@attrs.define
class NameServer:
    """`host` is where it listens, at port 53, which is the only one that resolv.conf knows."""

    directory: Path
    host: str
    process: "subprocess.Popen[bytes] | None" = None

    def asking(self, *argv: str) -> tuple[str, ...]:
        """A command line for the same with this name server. The process keeps its pid."""
        return ("unshare", "--mount", "sh", "-c", BIND, str(self.directory / "resolv.conf"), *argv)

    def leads(self, **names: Sequence[str]) -> None:
        """The addresses of these names (below `ZONE`) from now on; of others there are none."""
        lines = [f"{address} {name}.{ZONE}\n" for name, addresses in names.items() for address in addresses]
        (self.directory / "hosts").write_text("".join(lines))
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self, *services: str) -> None:
        """Answer; `services` are dnsmasq's --srv-host values. Where it is once, it begins again with these."""
        self.stop()
        (self.directory / "hosts").touch()
        (self.directory / "resolv.conf").write_text(f"nameserver {self.host}\noptions timeout:1 attempts:1\n")
        with (self.directory / "dnsmasq.log").open("ab") as log:
            self.process = subprocess.Popen(self._argv(services), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "dnsmasq.log").read_text())

    def stop(self) -> None:
        """Nobody answers any more."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_S)
            self.process = None

    def _argv(self, services: Sequence[str]) -> list[str]:
        options = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces")
        where = (f"--listen-address={self.host}", "--port=53", f"--local=/{ZONE}/", "--user=root", "--pid-file=")
        names = (f"--addn-hosts={self.directory / 'hosts'}", *(f"--srv-host={each}" for each in services))
        return [str(DNSMASQ), *options, *where, *names, "--log-facility=-", "--log-queries"]

    def _accepts(self) -> bool:
        with socket.socket() as asking:
            asking.settimeout(START_S)
            return asking.connect_ex((self.host, 53)) == 0


@contextmanager
def name_server(directory: Path) -> Iterator[NameServer]:
    """One that answers for the length of the block; skips the test, and says why, where there can be none."""
    if reason := _lack():
        pytest.skip(reason)
    chance = random.Random()
    server = NameServer(directory, f"127.53.{chance.randrange(256)}.{chance.randrange(1, 255)}")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@cache
def _lack() -> str:
    """What is missing for a name server at port 53 and a resolv.conf that names it."""
    if DNSMASQ is None:
        return "dnsmasq is not installed: apt-get install dnsmasq-base"
    if os.geteuid() != 0:
        return "only root can listen at port 53 and give a process a resolv.conf of its own"
    made = subprocess.run(("unshare", "--mount", "true"), capture_output=True, text=True, check=False)
    return f"no mount namespace can be made here: {made.stderr.strip()}" if made.returncode else ""
