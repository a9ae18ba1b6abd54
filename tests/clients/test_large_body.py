"""A body far larger than any buffer passes whole, both ways, and no node's memory grows with it.

The receiver may be as fast as the sender, or stand still: then the sender must be made to stand still too.
"""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trio

from scripts.benchmarks.body import (
    GIB,
    MOST_GROWTH_BYTES,
    Passage,
    pass_down,
    pass_up,
    peak_bytes,
    reset_peak,
)
from tests.clients.conftest import Site

BODY_BYTES = (4 if os.environ.get("TIERLB_SLOW") else 1) * GIB
"""`TIERLB_SLOW=1` and scripts/benchmarks/body.py pass 4 GiB."""
MIB = 1024 * 1024
STALLED_BYTES = 256 * MIB
STILL_S = 2.5
"""Nodes report every second: as long as this without a change, nothing moves."""
DEADLINE_S = 90.0
HOPS = 3
KERNEL_BYTES = 16 * MIB + HOPS * sum(
    int(Path(f"/proc/sys/net/ipv4/tcp_{direction}mem").read_text().split()[-1]) for direction in "rw"
)
"""What the kernel may hold in socket buffers and pipes on the way; a node that buffered by itself would take all."""
Pass = Callable[[tuple[str, int], str, int, Mapping[str, int]], Passage]


def pids(site: Site) -> dict[str, int]:
    nodes = {**site.cluster.nodes("edge"), **site.cluster.nodes("web")}
    return {name: node["pid"] for name, node in nodes.items()}


@pytest.mark.parametrize("direction", [pass_up, pass_down])
def test_a_huge_body_passes_with_flat_memory(site: Site, direction: Pass) -> None:
    passage = direction(site.sockaddr, "/raw", BODY_BYTES, pids(site))
    print(passage)
    assert passage.received_bytes == BODY_BYTES
    assert len(passage.growth_bytes) == 4
    assert max(passage.growth_bytes.values()) < MOST_GROWTH_BYTES


async def test_a_client_that_does_not_read_stops_the_sender(site: Site) -> None:
    before = {pid: reset_peak(pid) for pid in pids(site).values()}
    await site.cluster.wait_until("nodes report anew", reported_since(site, time.monotonic()), DEADLINE_S)
    passed_before = bytes_out(site)
    with socket.create_connection(site.sockaddr, DEADLINE_S) as sock:
        sock.sendall(b"GET /raw/zeros/%d HTTP/1.1\r\nHost: body\r\n\r\n" % STALLED_BYTES)
        await site.cluster.wait_until("nothing moves", still(lambda: bytes_out(site), passed_before), DEADLINE_S)
        passed = bytes_out(site) - passed_before
        assert 0 < passed < KERNEL_BYTES
        assert max(peak_bytes(pid) - was for pid, was in before.items()) < MOST_GROWTH_BYTES
        assert await trio.to_thread.run_sync(count_body, sock) == STALLED_BYTES


def test_an_endpoint_that_does_not_read_stops_the_client(site: Site) -> None:
    before = {pid: reset_peak(pid) for pid in pids(site).values()}
    with socket.create_connection(site.sockaddr, DEADLINE_S) as sock:
        with halted(site, "raw"):
            sock.sendall(b"POST /raw/ HTTP/1.1\r\nHost: body\r\nContent-Length: %d\r\n\r\n" % STALLED_BYTES)
            sent = send_until_full(sock, STALLED_BYTES)
            assert 0 < sent < KERNEL_BYTES
            assert max(peak_bytes(pid) - was for pid, was in before.items()) < MOST_GROWTH_BYTES
        sock.sendall(bytes(STALLED_BYTES - sent))
        answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n%d\n" % STALLED_BYTES)


def bytes_out(site: Site) -> int:
    """What the l7 nodes handed on towards clients, as they reported."""
    return sum(node["load"]["bytes_out"] for node in site.cluster.nodes("web").values() if node["load"])


def reported_since(site: Site, then_s: float) -> Callable[[], bool]:
    """A condition that holds once every l7 node's report is younger than that."""

    def holds() -> bool:
        ages_s = [node["report_age_s"] for node in site.cluster.nodes("web").values()]
        return all(age is not None and age < time.monotonic() - then_s for age in ages_s)

    return holds


def still(read: Callable[[], int], before: int) -> Callable[[], bool]:
    """A condition that holds once a figure is no more what it was before and has stayed the same for STILL_S."""
    latest = before
    since_s = time.monotonic()

    def holds() -> bool:
        nonlocal latest, since_s
        now = read()
        if now != latest:
            latest, since_s = now, time.monotonic()
        return latest != before and time.monotonic() - since_s > STILL_S

    return holds


def count_body(sock: socket.socket) -> int:
    """Read an answer of STALLED_BYTES; how many bytes its body had before it, or the connection, ended."""
    head, _, body = sock.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    buffer, received = bytearray(1024 * 1024), len(body)
    while received < STALLED_BYTES and (more := sock.recv_into(buffer)):
        received += more
    return received


def send_until_full(sock: socket.socket, most_bytes: int) -> int:
    """Send zeros until the socket takes no more for STILL_S; how many it took."""
    zeros, sent = bytes(1024 * 1024), 0
    while sent < most_bytes and select.select([], [sock], [], STILL_S)[1]:
        sent += sock.send(zeros[: most_bytes - sent], socket.MSG_DONTWAIT)
    return sent


@contextlib.contextmanager
def halted(site: Site, pool: str) -> Iterator[None]:
    """The pool's processes do nothing at all while the block runs."""
    endpoints = [endpoint["pid"] for endpoint in site.cluster.status()["pools"][pool]["endpoints"]]
    try:
        for pid in endpoints:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in endpoints:
            os.kill(pid, signal.SIGCONT)
