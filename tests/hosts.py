"""Hosts of a test's own: network namespaces with an address each at one switch, whose cables can be pulled and cut.

A process on a host has the pid that this machine knows it by, and sockets of this process may be on any host, for a
socket belongs to the namespace in which it was made. Between hosts there are: no cable (`unplugged`), a host that does
not hear another one (`deaf_to`, `parted`), and a long and bad cable (`far`).

The bad cable is two TAP devices, between which frames pass through this process, late, out of order or not at all. The
kernel's own (tc netem) is a module that many machines, and most of those that run tests, do not have.
"""

import contextlib
import ctypes
import fcntl
import heapq
import http.client
import itertools
import os
import random
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import attrs
import pytest
import trio

from tests.processes import Process, running

NETWORK = "10.77.0"
ROOT_NAMES = Path("/etc/netns")
BRIDGE = "switch"
TABLE = "tests"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
IP, NFT = (shutil.which(program, path=PATH) or program for program in ("ip", "nft"))
NEEDED = {IP: "iproute2", NFT: "nftables"}
ANSWER_S = 15.0
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
TAP_WITHOUT_INFO = 0x1002
MAX_FRAME_BYTES = 2048
MOST_LATE = 1000
"""Frames under way on one bad cable; more are lost, as in a full queue."""

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


@attrs.define(eq=False)
class Host:
    """One host at the switch. Its processes are ended with the network, if not before."""

    name: str
    address: str
    namespace: str
    switch: str
    stack: contextlib.ExitStack
    processes: list["Process[bytes]"] = attrs.field(factory=list)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command line for the same on this host. The process keeps its pid."""
        return [IP, "netns", "exec", self.namespace, *argv]

    def run(self, argv: Sequence[str], log: Path, **pipes: int) -> "Process[bytes]":
        """A process for as long as the network is there."""
        process = self.stack.enter_context(running(self.argv(argv), log, **pipes))
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        """As if the power went: nobody says goodbye. The cable is another matter."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes.clear()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes in the block are on this host."""
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.namespace}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    async def dial(self, host: str, port: int) -> trio.SocketStream:
        """A connection from this host."""
        with self.inside():
            sock = trio.socket.socket()
        try:
            await sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def get(self, address: str, path: str) -> tuple[int, bytes]:
        """Ask by HTTP from this host. Raises OSError and HTTPException."""
        return await trio.to_thread.run_sync(self._exchange, address, "GET", path, None, {})

    async def post(self, address: str, path: str, body: bytes, fields: Mapping[str, str]) -> tuple[int, bytes]:
        """The same with something to say."""
        return await trio.to_thread.run_sync(self._exchange, address, "POST", path, body, fields)

    def _exchange(
        self, address: str, method: str, path: str, body: bytes | None, fields: Mapping[str, str]
    ) -> tuple[int, bytes]:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
        with contextlib.closing(connection):
            with self.inside():
                connection.connect()
            connection.request(method, path, body, dict(fields))
            answer = connection.getresponse()
            return answer.status, answer.read()

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """Nothing comes or goes, and nobody is told."""
        self.unplug()
        try:
            yield
        finally:
            self.plug()

    def unplug(self) -> None:
        _ip("-n", self.switch, "link", "set", self.name, "down")

    def plug(self) -> None:
        _ip("-n", self.switch, "link", "set", self.name, "up")

    @contextlib.contextmanager
    def deaf_to(self, *others: "Host") -> Iterator[None]:
        """What they send never arrives here; what is sent from here does arrive there."""
        self._nft(f"add table inet {TABLE}")
        self._nft(f"add chain inet {TABLE} in {{ type filter hook input priority 0; }}")
        for other in others:
            self._nft(f"add rule inet {TABLE} in ip saddr {other.address} drop")
        try:
            yield
        finally:
            self._nft(f"delete table inet {TABLE}")

    def knows(self, **names: Sequence[str]) -> None:
        """These names lead to these addresses from now on, for processes started here after the first call."""
        directory = ROOT_NAMES / self.namespace
        if not directory.exists():
            directory.mkdir(parents=True)
            self.stack.callback(shutil.rmtree, directory)
            (directory / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        lines = ["127.0.0.1 localhost\n"]
        lines += [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        with (directory / "hosts").open("w") as file:  # in place: processes have this very file mounted
            file.writelines(lines)

    def _nft(self, command: str) -> None:
        _run(*self.argv([NFT, command]))


@attrs.define
class Network:
    """One switch and its hosts. `make` adds a host, `running_network` makes the network."""

    prefix: str
    stack: contextlib.ExitStack
    hosts: dict[str, Host] = attrs.field(factory=dict)

    @property
    def switch(self) -> str:
        """The namespace that the switch is in."""
        return f"{self.prefix}-{BRIDGE}"

    def make(self, name: str, number: int) -> Host:
        """A host with the address `NETWORK.number`."""
        namespace = f"{self.prefix}-{name}"
        host = Host(name, f"{NETWORK}.{number}", namespace, self.switch, self.stack)
        self._namespace(namespace)
        _ip("-n", self.switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self.switch, "link", "set", name, "master", BRIDGE, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        self.hosts[name] = host
        return host

    def end_processes(self) -> None:
        """Ask all at once, so that the end takes no longer than the slowest needs."""
        for host in self.hosts.values():
            for process in host.processes:
                process.terminate()

    @contextlib.asynccontextmanager
    async def far(self, host: Host, cable: "Cable") -> AsyncIterator["Cable"]:
        """Put the host at the end of a long cable for the length of the block."""
        number = host.address.rpartition(".")[2]
        aside, near, far = f"aside{number}", f"near{number}", f"far{number}"
        with contextlib.ExitStack() as stack:
            self._bridge(aside)
            stack.callback(_ip, "-n", self.switch, "link", "delete", aside)
            cable.ends = [stack.enter_context(self._tap(name, at)) for name, at in ((near, aside), (far, BRIDGE))]
            _ip("-n", self.switch, "link", "set", host.name, "master", aside)
            stack.callback(_ip, "-n", self.switch, "link", "set", host.name, "master", BRIDGE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cable.run)
                yield cable
                nursery.cancel_scope.cancel()

    def build(self) -> None:
        """The switch alone."""
        self._namespace(self.switch)
        self._bridge(BRIDGE)

    def _namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self.stack.callback(_ip, "netns", "delete", name)

    def _bridge(self, name: str) -> None:
        _ip("-n", self.switch, "link", "add", name, "type", "bridge")
        _ip("-n", self.switch, "link", "set", name, "up")

    @contextlib.contextmanager
    def _tap(self, name: str, bridge: str) -> Iterator[int]:
        """The end of a cable in the switch; it goes when the descriptor closes."""
        with Host(name, "", self.switch, self.switch, self.stack).inside():
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_INFO))
        try:
            _ip("-n", self.switch, "link", "set", name, "master", bridge, "up")
            yield descriptor
        finally:
            os.close(descriptor)


@attrs.define
class Cable:
    """Frames need `delay_s`, more or less `jitter_s`, and a part `loss` of them never arrives."""

    delay_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    rng: random.Random = attrs.field(factory=lambda: random.Random(1))
    ends: list[int] = attrs.field(factory=list)
    carried: int = 0
    lost: int = 0

    async def run(self) -> None:
        """Carry frames both ways, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, self.ends[0], self.ends[1])
            nursery.start_soon(self._carry, self.ends[1], self.ends[0])

    async def _carry(self, source: int, sink: int) -> None:
        under_way: list[tuple[float, int, bytes]] = []
        while True:
            due_s = under_way[0][0] if under_way else float("inf")
            with trio.move_on_at(due_s):
                await trio.lowlevel.wait_readable(source)
            with contextlib.suppress(BlockingIOError):
                while len(under_way) < MOST_LATE:
                    self._take(os.read(source, MAX_FRAME_BYTES), under_way)
            while under_way and under_way[0][0] <= trio.current_time():
                with contextlib.suppress(OSError):  # the other end is down: lost as well
                    os.write(sink, heapq.heappop(under_way)[2])

    def _take(self, frame: bytes, under_way: list[tuple[float, int, bytes]]) -> None:
        self.carried += 1
        if self.rng.uniform(0.0, 1.0) < self.loss:
            self.lost += 1
            return
        takes_s = self.delay_s + self.rng.uniform(-self.jitter_s, self.jitter_s)
        heapq.heappush(under_way, (trio.current_time() + takes_s, self.carried, frame))


@contextlib.contextmanager
def running_network() -> Iterator[Network]:
    """A switch for the length of the block; of it and its hosts nothing is left. Skips the test, and says why, where
    there can be none."""
    if reason := _lack():
        pytest.skip(f"NOT TESTED: {reason}")
    with contextlib.ExitStack() as stack:
        network = Network(f"tierlb-{os.getpid()}-{next(_numbers)}", stack)
        network.build()
        try:
            yield network
        finally:
            network.end_processes()


@contextlib.contextmanager
def parted(some: Sequence[Host], others: Sequence[Host]) -> Iterator[None]:
    """Neither side hears the other for the length of the block."""
    with contextlib.ExitStack() as stack:
        for host in some:
            stack.enter_context(host.deaf_to(*others))
        for host in others:
            stack.enter_context(host.deaf_to(*some))
        yield


@cache
def _lack() -> str:
    """What is missing for hosts of our own."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            return f"there is no {program}: apt-get install {package}"
    name = f"tierlb-{os.getpid()}-{next(_numbers)}"
    made = _try(IP, "netns", "add", name)
    if made.returncode == 0:
        done = _try(IP, "-n", name, "link", "add", BRIDGE, "type", "bridge")
        _ip("netns", "delete", name)
        made = done
    return f"no hosts can be made here: {made.stderr.strip()}" if made.returncode else ""


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _ip(*arguments: str) -> None:
    _run(IP, *arguments)


def _run(*argv: str) -> None:
    done = _try(*argv)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"


def _try(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, check=False)
