"""A huge body through edge and l7 tier, up and down: how fast, and how much memory the nodes take meanwhile.

Client and endpoint are plain blocking sockets with one buffer, so neither holds the body. Memory is the peak
of each node's resident set while the body passed (VmHWM, reset before), less what it had before.
"""

import re
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from scripts.benchmarks.cluster import ClusterFailed, free_address, running_cluster

COMMAND = shlex.join((sys.executable, str(Path(__file__).with_name("endpoint.py")), "{port}"))
GIB = 1024**3
MOST_GROWTH_BYTES = 32 * 1024 * 1024
BUFFER_BYTES = 1024 * 1024
SILENCE_S = 20.0
RESET_PEAK = "5"
"""Written to clear_refs, it sets VmHWM to what is resident now (proc_pid_clear_refs(5))."""


@attrs.frozen
class Passage:
    """One body. `growth_bytes`: by node, its peak less what it had before."""

    direction: str
    sent_bytes: int
    received_bytes: int
    seconds: float
    growth_bytes: dict[str, int]

    @property
    def problems(self) -> list[str]:
        """What must not be; empty when the body arrived whole and memory stayed flat."""
        found = [
            f"{name} grew by {growth} bytes" for name, growth in self.growth_bytes.items() if growth > MOST_GROWTH_BYTES
        ]
        if self.sent_bytes != self.received_bytes:
            found.append(f"{self.sent_bytes} bytes were sent, {self.received_bytes} arrived")
        return found

    def __str__(self) -> str:
        growth = ", ".join(f"{name} +{count / 1024**2:.1f} MiB" for name, count in self.growth_bytes.items())
        gib, speed = self.received_bytes / GIB, self.received_bytes / self.seconds / 1024**2
        return f"{self.direction} {gib:g} GiB in {self.seconds:.1f} s ({speed:.0f} MiB/s): {growth}"


def pass_up(address: tuple[str, int], prefix: str, count: int, pids: Mapping[str, int]) -> Passage:
    """POST that many zeros. Raises OSError, also when nothing moves for SILENCE_S."""
    before = {name: reset_peak(pid) for name, pid in pids.items()}
    begun_s = time.monotonic()
    with socket.create_connection(address, SILENCE_S) as sock:
        sock.sendall(b"POST %b/sink HTTP/1.1\r\nHost: body\r\nContent-Length: %d\r\n\r\n" % (prefix.encode(), count))
        zeros, left = memoryview(bytes(BUFFER_BYTES)), count
        while left:
            left -= sock.send(zeros[: min(left, BUFFER_BYTES)])
        arrived = int(_read_answer(sock))
    seconds = time.monotonic() - begun_s
    return Passage("up", count, arrived, seconds, _growth(before, pids))


def pass_down(address: tuple[str, int], prefix: str, count: int, pids: Mapping[str, int]) -> Passage:
    """GET that many zeros. Raises OSError, also when nothing moves for SILENCE_S."""
    before = {name: reset_peak(pid) for name, pid in pids.items()}
    begun_s = time.monotonic()
    buffer, arrived = memoryview(bytearray(BUFFER_BYTES)), 0
    with socket.create_connection(address, SILENCE_S) as sock:
        sock.sendall(b"GET %b/zeros/%d HTTP/1.1\r\nHost: body\r\n\r\n" % (prefix.encode(), count))
        arrived = len(_read_head(sock)[1])
        while arrived < count and (received := sock.recv_into(buffer)):
            arrived += received
    seconds = time.monotonic() - begun_s
    return Passage("down", count, arrived, seconds, _growth(before, pids))


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """The answer's head, which must say 200, and what came with it of the body."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError(f"the answer ended after {received[:200]!r}")
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"not a 200: {received[:200]!r}")
    return head, body


def _read_answer(sock: socket.socket) -> bytes:
    _, body = _read_head(sock)
    while not body.endswith(b"\n"):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError(f"the answer's body ended after {body[:200]!r}")
        body += data
    return body


def reset_peak(pid: int) -> int:
    """Make what is resident now the peak, and return it."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
    return peak_bytes(pid)


def _growth(before: Mapping[str, int], pids: Mapping[str, int]) -> dict[str, int]:
    return {name: peak_bytes(pid) - before[name] for name, pid in pids.items()}


def peak_bytes(pid: int) -> int:
    """The most that was ever resident since the last reset."""
    line = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if line is None:
        raise OSError(f"no VmHWM for process {pid}: is it dead?")
    return int(line[1]) * 1024


def topology(listen: str, admin: str) -> str:
    """One path: edge, one l7 node, one endpoint."""
    return f"""\
cluster: body
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web}}
  web: {{kind: l7, to: app}}
pools:
  app: {{run: {{command: "{COMMAND}"}}}}
"""


def measure(count: int, directory: Path) -> list[Passage]:
    """Start the cluster, pass bodies of that many bytes. Raises ClusterFailed or OSError."""
    listen, admin = free_address(), free_address()
    host, _, port = listen.rpartition(":")
    with running_cluster(topology(listen, admin), admin, directory) as cluster:
        pids = {name: node["pid"] for tier in ("edge", "web") for name, node in cluster.nodes(tier).items()}
        return [one((host, int(port)), "", count, pids) for one in (pass_up, pass_down)]


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--gib", type=click.FloatRange(min=0, min_open=True), default=4, show_default=True)
def main(gib: float) -> None:
    """Print speed and memory; exit code 1 if bytes were lost or memory grew."""
    with tempfile.TemporaryDirectory(prefix="tierlb-body-") as directory:
        try:
            passages = measure(round(gib * GIB), Path(directory))
        except (ClusterFailed, OSError) as error:
            raise click.ClickException(str(error)) from error
    problems = [problem for passage in passages for problem in passage.problems]
    click.echo("\n".join((*map(str, passages), *(f"  WRONG: {problem}" for problem in problems))))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
