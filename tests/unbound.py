"""A real DNS server for tests: Debian's unbound with names of its own, on loopback, as a process of this user. The
system's service is not touched."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Process, running
from tierlb.local.connections import takes_datagrams

UNBOUND = shutil.which("unbound", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
START_S = 30.0
LARGE = 3000
"""Bytes of a record that fits into no datagram of the usual size."""
CONFIG = """\
server:
  interface: {host}@{port}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  num-threads: 1
  do-daemonize: no
  module-config: "iterator"
  access-control: 127.0.0.0/8 allow
  max-udp-size: 4096
  edns-buffer-size: 4096
  local-zone: "test." static
  local-data: "who.test. 0 TXT {name}"
  local-data: 'large.test. 0 TXT {large}'
remote-control:
  control-enable: no
"""


@contextlib.contextmanager
def unbound(address: str, name: str, directory: Path) -> Iterator["Process[bytes]"]:
    """One that answers who.test with its name, and large.test with a long text; skips the test, and says why, where it
    is not installed."""
    if UNBOUND is None:
        pytest.skip("unbound is not installed: apt-get install unbound")
    host, _, port = address.rpartition(":")
    place = directory / f"unbound-{name}"
    place.mkdir(exist_ok=True)
    large = " ".join(f'"{"x" * 200}"' for _ in range(LARGE // 200))
    file = place / "unbound.conf"
    file.write_text(CONFIG.format(host=host, port=port, directory=place, name=name, large=large))
    with running([UNBOUND, "-d", "-c", str(file)], place / "log") as process:
        deadline = time.monotonic() + START_S
        while not takes_datagrams(int(port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((place / "log").read_text()[-1000:])
        yield process
