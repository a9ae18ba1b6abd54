"""A real etcd of one or more members on loopback ports, plain or with TLS and users, and a relay in front of one that
breaks on demand."""

import contextlib
import json
import os
import random
import shutil
import signal
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
import trustme

from tests.processes import Process, running
from tierlb.controller.etcd import Etcd, open_etcd
from tierlb.local.ports import FreePorts
from tierlb.model.topology import SharedStore

ETCD = shutil.which("etcd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
READY_S = 20.0
USER, PASSWORD, ROOT_PASSWORD = "tierlb", " p\u00e4ss wörd ", "for root"
ALLOWED = ("test", "tierlb/", "own/", "oracle/", "x")
"""Prefixes of the keys that the user may read and write where there are users."""

_ports = FreePorts(random.Random())


@attrs.frozen(slots=False)
class Access:
    """What it takes to get into an etcd with TLS and users: files in a directory of their own."""

    directory: Path
    authority: trustme.CA = attrs.field(factory=trustme.CA)

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir()
        self.authority.cert_pem.write_to_path(self.directory / "ca.pem")
        self.issue("server", self.authority.issue_cert("127.0.0.1"))
        self.issue("client", self.authority.issue_cert("tierlb.internal"))
        self.issue("stranger", trustme.CA().issue_cert("tierlb.internal"))
        self.issue("named", self.authority.issue_cert("tierlb.internal", common_name=USER))
        self.file("password").write_text(f"{PASSWORD}\n", encoding="utf-8")

    def file(self, name: str) -> Path:
        return self.directory / name

    def issue(self, name: str, issued: trustme.LeafCert) -> None:
        issued.private_key_pem.write_to_path(self.file(f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(self.file(f"{name}.pem"))

    def store(self, url: str, **changes: Any) -> SharedStore:
        files = {key: str(self.file(name)) for key, name in CLIENT_FILES.items()}
        return attrs.evolve(SharedStore(url, user=USER, **files), **changes)

    @cached_property
    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.file("ca.pem"))
        context.load_cert_chain(self.file("client.pem"), self.file("client.key"))
        return context

    def arguments(self) -> tuple[str, ...]:
        """Of a member. Passwords are hashed as cheaply as can be."""
        return (
            *("--client-cert-auth", "--trusted-ca-file", str(self.file("ca.pem")), "--bcrypt-cost", "4"),
            *("--cert-file", str(self.file("server.pem")), "--key-file", str(self.file("server.key"))),
        )


CLIENT_FILES = {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key", "password_file": "password"}


@attrs.define
class Member:
    """One member of an etcd."""

    name: str
    client: str
    peer: str
    directory: Path
    arguments: tuple[str, ...] = ()
    access: Access | None = None
    process: "Process[bytes] | None" = None
    _stack: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    def start(self, members: str) -> None:
        """One that ran before goes on with its data."""
        self.process = self._stack.enter_context(running(self.command(members), self.directory / f"{self.name}.log"))

    def command(self, members: str) -> list[str]:
        """Its command line; `members` as etcd's --initial-cluster."""
        return [
            *(str(ETCD), "--name", self.name, "--data-dir", str(self.directory / self.name), "--logger", "zap"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", f"http://{self.peer}", "--initial-advertise-peer-urls", f"http://{self.peer}"),
            *("--initial-cluster", members, "--unsafe-no-fsync", "--log-level", "warn", *self.arguments),
            *(self.access.arguments() if self.access else ()),
        ]

    @property
    def url(self) -> str:
        """Where its clients reach it."""
        return f"http{'s' if self.access else ''}://{self.client}"

    def call(self, name: str, body: dict[str, Any] | None = None, token: str = "") -> Any:
        """What it answers; raises where that is an error."""
        with self.browser() as browser:
            known = {"authorization": token} if token else {}
            answer = browser.post(f"{self.url}/v3/{name}", json=body or {}, headers=known)
        return answer.raise_for_status().json()

    def browser(self) -> httpx.Client:
        return httpx.Client(verify=self.access.context if self.access else True, timeout=5, trust_env=False)

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
    def access(self) -> Access | None:
        return self.members[0].access

    def store(self, members: Sequence[str] = (), **changes: Any) -> SharedStore:
        """As a topology has it; by other ways to its members where some are given."""
        place = ",".join(members or self.clients)
        return self.access.store(f"etcds://{place}", **changes) if self.access else SharedStore(f"etcd://{place}")

    def client(self, members: Sequence[str] = (), answer_s: float | None = None) -> Etcd:
        """Close it at the end."""
        etcd = open_etcd(self.store(members))
        etcd.answer_s = answer_s or etcd.answer_s
        return etcd

    def described(self) -> str:
        """The store, for the command line of another process."""
        return json.dumps(attrs.asdict(self.store()))

    def add_users(self) -> None:
        """From now on somebody who is not known may do nothing, and USER what is below ALLOWED."""
        (member, *_) = self.members
        for user, password in (("root", ROOT_PASSWORD), (USER, PASSWORD)):
            member.call("auth/user/add", {"name": user, "password": password})
            member.call("auth/role/add", {"name": user})
        for prefix in ALLOWED:
            self.allow(prefix)
        for user in ("root", USER):
            member.call("auth/user/grant", {"user": user, "role": user})
        member.call("auth/enable")

    def allow(self, prefix: str, kind: str = "READWRITE", token: str = "") -> None:
        key, end = (b64encode(text.encode()).decode() for text in (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)))
        perm = {"permType": kind, "key": key, "range_end": end}
        self.members[0].call("auth/role/grant", {"name": USER, "perm": perm}, token)

    def root(self) -> str:
        """A token of who may do everything."""
        return str(self.members[0].call("auth/authenticate", {"name": "root", "password": ROOT_PASSWORD})["token"])

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
            with contextlib.suppress(httpx.TransportError), member.browser() as browser:
                if browser.get(f"{member.url}/health", timeout=1).json() == {"health": "true"}:
                    return
            threading.Event().wait(0.05)
        log = (member.directory / f"{member.name}.log").read_text()
        raise TimeoutError(f"{member.name} was not ready in {READY_S:g} s:\n{log[-2000:]}")

    def compact(self, revision: int) -> None:
        """Have it forget what was before."""
        self.members[0].call("kv/compaction", {"revision": str(revision), "physical": True})

    def leader(self) -> Member:
        """Whom the members have elected."""
        for member in self.members:
            status = member.call("maintenance/status")
            if status["header"]["member_id"] == status["leader"]:
                return member
        raise LookupError("there is no leader")


@contextlib.contextmanager
def running_etcd(directory: Path, members: int = 1, *arguments: str, secure: bool = False) -> Iterator[Server]:
    """For the length of the block; skips, saying so, where there is none. `secure`: clients show certificates, and log
    in as USER."""
    if ETCD is None:
        pytest.skip("NOT TESTED: etcd is not installed (apt-get install etcd-server)")
    directory.mkdir(parents=True, exist_ok=True)
    access = Access(directory / "access") if secure else None
    server = Server([Member(f"m{n}", _address(), _address(), directory, arguments, access) for n in range(members)])
    try:
        server.start()
        if secure:
            server.add_users()
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
