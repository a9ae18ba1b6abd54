"""The kernel's netfilter: what it tracks and counts is read over netlink, rules are written by nft(8).

A dump is read in portions, each of which the kernel makes when it is asked for. One takes some 0.2 ms, what is made of
it about as much, and `REST_S` lies between two, so a hundred thousand connections take 15 s. A thread asks and reads,
since the kernel goes through the whole table of tracked connections for the few that are asked for: 10 ms where it is
empty and has 262,144 places. nft runs as a process of its own with a deadline.

Rules are not written over netlink because nft(8) and libnftables are what the kernel's developers keep up: maps of
verdicts with draws and hashes are dozens of nested attributes.
"""

import errno
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from tierlb.wire.netlink import ask_tables, outcome
from tierlb.wire.nft_ruleset import Family

NETLINK_NETFILTER = 12
PORTION_BYTES = 64 * 1024
"""The kernel fills 32 KiB of it at most."""
REST_S = 0.02
NO_ANSWER_S = 2.0
"""A dump is answered at once; without an answer for so long it is given up."""
NFT_S = 10.0
"""A transaction takes 20 ms, and one with thousands of slots 0.2 s."""
SYSTEM_PATHS = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where nft is, which are not in everybody's PATH."""
LONGEST_COMPLAINT = 300
SETTINGS = Path("/proc/sys/net")
FORWARDING = {Family.IPV4: "ipv4/ip_forward", Family.IPV6: "ipv6/conf/all/forwarding"}


def open_netlink() -> socket.socket:
    """Raises OSError where the kernel has no netfilter."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
    try:
        sock.bind((0, 0))
    except OSError:
        sock.close()
        raise
    return sock


def find_nft() -> str | None:
    """The path of nft(8)."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATHS}")


def forwarded_families() -> frozenset[Family]:
    """Those whose packets this machine sends on to others."""
    return frozenset(family for family, setting in FORWARDING.items() if _is_on(setting))


def _is_on(setting: str) -> bool:
    try:
        return (SETTINGS / setting).read_text().strip() not in ("", "0")
    except OSError:
        return False


def is_own_address(host: str) -> bool:
    """Whether the address is one of this machine's: the kernel sends to its own addresses from the same ones."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))
            return bool(sock.getsockname()[0] == host)
    except OSError:
        return False


def why_not() -> str:
    """Why the kernel cannot be programmed from here, and what to do about it; "" if it can."""
    if find_nft() is None:
        return "the program nft is missing: install the package nftables"
    try:
        with open_netlink() as sock:
            sock.send(ask_tables())
            code = outcome(sock.recv(PORTION_BYTES))
    except OSError as error:
        code = error.errno or errno.EIO
    if code in (errno.EPERM, errno.EACCES):
        return (
            "it lacks the capability CAP_NET_ADMIN: run it as root, or give it that (systemd: AmbientCapabilities=, "
            "containers: cap_add: [NET_ADMIN])"
        )
    if code:
        return (
            f"the kernel has no nftables ({os.strerror(code)}): load the modules nf_tables, nft_chain_nat, nft_numgen"
        )
    return ""


@attrs.frozen
class Dumped:
    """`code`: 0, or the errno of what the kernel refused. `cpu_s`: what asking and taking took of the processor."""

    code: int
    cpu_s: float


async def dump_netlink(request: bytes, take: Callable[[bytes], object]) -> Dumped:
    """Ask, and give each portion of the answer to `take`."""
    with open_netlink() as sock:
        sock.settimeout(NO_ANSWER_S)
        cpu_s = await trio.to_thread.run_sync(_ask, sock, request)
        while True:
            try:
                portion, more_s = await trio.to_thread.run_sync(_read, sock)
            except TimeoutError:
                return Dumped(errno.ETIMEDOUT, cpu_s)
            began_s = time.thread_time()
            take(portion)
            code = outcome(portion)
            cpu_s += more_s + time.thread_time() - began_s
            if code is not None:
                return Dumped(code, cpu_s)
            await trio.sleep(REST_S)


def _ask(sock: socket.socket, request: bytes) -> float:
    began_s = time.thread_time()
    sock.send(request)
    return time.thread_time() - began_s


def _read(sock: socket.socket) -> tuple[bytes, float]:
    began_s = time.thread_time()
    portion = sock.recv(PORTION_BYTES)
    return portion, time.thread_time() - began_s


def send_netlink(requests: bytes) -> None:
    """Send requests whose answers do not matter."""
    with open_netlink() as sock:
        sock.send(requests)


async def run_nft(script: str) -> str:
    """Carry out a script as one transaction. Returns what nft complains about, "" if it was done."""
    path = find_nft()
    if path is None:
        return why_not()
    with trio.move_on_after(NFT_S):
        done = await trio.run_process(
            [path, "-f", "-"],
            stdin=script.encode(),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode == 0:
            return ""
        text = done.stdout.decode(errors="replace").strip()
        return text[:LONGEST_COMPLAINT] or f"nft ended with {done.returncode}"
    return f"nft took longer than {NFT_S:g} s"
