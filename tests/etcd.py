"""A real etcd of one or more members on loopback ports, and a relay in front of one that breaks on demand."""

import contextlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from tests.processes import Process, running
from tierlb.cluster.ports import FreePorts

ETCD = shutil.which("etcd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
READY_S = 20.0

_ports = FreePorts(random.Random())


@attrs.define
class Member:
    """One member of an etcd."""

    name: str
    client: str
    peer: str
    directory: Path
    arguments: tuple[str, ...] = ()
    process: "Process[bytes] | None" = None
    _stack: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    def start(self, members: str) -> None:
        """One that ran before goes on with its data."""
        self.process = self._stack.enter_context(running(self.command(members), self.directory / f"{self.name}.log"))

    def command(self, members: str) -> list[str]:
        """Its command line; `members` as etcd's --initial-cluster."""
        return [
            *(str(ETCD), "--name", self.name, "--data-dir", str(self.directory / self.name), "--logger", "zap"),
            *("--listen-client-urls", f"http://{self.client}", "--advertise-client-urls", f"http://{self.client}"),
            *("--listen-peer-urls", f"http://{self.peer}", "--initial-advertise-peer-urls", f"http://{self.peer}"),
            *("--initial-cluster", members, "--unsafe-no-fsync", "--log-level", "warn", *self.arguments),
        ]

    def kill(self) -> None:
        """As if its machine had lost power."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are still accepted, by the kernel, but nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@attrs.define
class Server:
    """All members."""

    members: list[Member]

    @property
    def clients(self) -> tuple[str, ...]:
        return tuple(member.client for member in self.members)

    def start(self) -> None:
        for member in self.members:
            self.start_one(member)
        for member in self.members:
            self.await_ready(member)

    def start_one(self, member: Member) -> None:
        member.start(",".join(f"{each.name}=http://{each.peer}" for each in self.members))

    def await_ready(self, member: Member) -> None:
        for _ in range(int(READY_S / 0.05)):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{member.client}/health", timeout=1, trust_env=False).json() == {"health": "true"}:
                    return
            threading.Event().wait(0.05)
        log = (member.directory / f"{member.name}.log").read_text()
        raise TimeoutError(f"{member.name} was not ready in {READY_S:g} s:\n{log[-2000:]}")

    def compact(self, revision: int) -> None:
        """Have it forget what was before."""
        body = {"revision": str(revision), "physical": True}
        url = f"http://{self.clients[0]}/v3/kv/compaction"
        httpx.post(url, json=body, trust_env=False).raise_for_status()

    def leader(self) -> Member:
        """Whom the members have elected."""
        for member in self.members:
            status = httpx.post(f"http://{member.client}/v3/maintenance/status", json={}, trust_env=False).json()
            if status["header"]["member_id"] == status["leader"]:
                return member
        raise LookupError("there is no leader")


@contextlib.contextmanager
def running_etcd(directory: Path, members: int = 1, *arguments: str) -> Iterator[Server]:
    """For the length of the block; skips, saying so, where there is none."""
    if ETCD is None:
        pytest.skip("NOT TESTED: etcd is not installed (apt-get install etcd-server)")
    directory.mkdir(parents=True, exist_ok=True)
    server = Server([Member(f"m{n}", _address(), _address(), directory, arguments) for n in range(members)])
    try:
        server.start()
        yield server
    finally:
        for member in server.members:
            member.stop()


def _address() -> str:
    return f"127.0.0.1:{_ports.take()}"


def _passing() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


@attrs.define
class Relay:
    """Passes connections on to `target` until told otherwise. `run` says where it listens. `swallowed`: so many
    answers will not arrive, and their connections are cut instead."""

    target: str
    address: str = ""
    swallowed: int = 0
    accepted: int = 0
    _passing: trio.Event = attrs.field(factory=_passing)
    _scopes: set[trio.CancelScope] = attrs.field(factory=set)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        await trio.serve_listeners(self._serve, listeners)

    def cut(self) -> None:
        """End every connection that there is."""
        for scope in self._scopes:
            scope.cancel()

    def freeze(self) -> None:
        """What is sent from now on waits, and nobody is told."""
        self._passing = trio.Event()

    def thaw(self) -> None:
        """What waited goes on, also where the sender has gone meanwhile."""
        self._passing.set()

    async def _serve(self, near: trio.SocketStream) -> None:
        self.accepted += 1
        with trio.CancelScope() as scope, contextlib.suppress(trio.BrokenResourceError, OSError):
            self._scopes.add(scope)
            host, _, port = self.target.rpartition(":")
            async with near, await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, near, far)
                await self._pass(far, near)
                nursery.cancel_scope.cancel()
        self._scopes.discard(scope)

    async def _pass(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                await self._passing.wait()
                if self.swallowed and source.socket.getpeername()[1] == int(self.target.rpartition(":")[2]):
                    self.swallowed -= 1
                    return
                await sink.send_all(data)
