"""Clients and endpoints over UDP, in the hands of the test."""

import contextlib
import socket
from typing import Any

import trio

from tests.dataplane.conftest import CLIENT, DEADLINE_S, QUIET_S, FakeEndpoint, Lab, l4_parent, snapshot
from tierlb.model.address import Address, Transport
from tierlb.model.snapshot import HostSpec, Listener, Snapshot
from tierlb.model.topology import Kind

ANY = Address("127.0.0.1", 0)
UDP = Listener(ANY, protocol=Transport.UDP)
UDP_INNER = Listener(ANY, inner=True, protocol=Transport.UDP)


class Datagrams:
    """One end: a bound socket."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock
        self.address = Address(*sock.getsockname()[:2])

    async def hears(self) -> tuple[bytes, tuple[str, int]]:
        """The next datagram and where it came from."""
        with trio.fail_after(DEADLINE_S):
            data, source = await self.sock.recvfrom(65536)
        return data, source[:2]

    async def hears_nothing(self) -> None:
        with trio.move_on_after(QUIET_S):
            raise AssertionError(f"heard {await self.sock.recvfrom(65536)!r}")

    async def says(self, data: bytes, to: Any) -> None:
        with trio.fail_after(DEADLINE_S):
            await self.sock.sendto(data, to.sockaddr if isinstance(to, Address) else to)


class UdpEndpoint(Datagrams):
    """A server that answers nothing by itself. `spec` is what the node knows of it."""

    def __init__(self, sock: trio.socket.SocketType, name: str = "", **says: Any) -> None:
        super().__init__(sock)
        self.spec = HostSpec(name or f"app/{self.address}", "app", self.address, **says)

    async def echoes(self) -> None:
        """Answers everything with the same, until it is closed."""
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                data, source = await self.sock.recvfrom(65536)
                await self.sock.sendto(data, source)


class UdpLab:
    """Makes clients and endpoints for a lab, and closes them at its end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ends: list[Datagrams] = []

    async def client(self, host: str = "127.0.0.1") -> Datagrams:
        end = Datagrams(await bound(Address(host, 0)))
        self.ends.append(end)
        return end

    async def endpoint(self, *, at: Address = ANY, **says: Any) -> UdpEndpoint:
        end = UdpEndpoint(await bound(at), **says)
        self.ends.append(end)
        return end

    @staticmethod
    def free() -> Address:
        """An address that is free."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            return Address(*sock.getsockname())

    async def serves(self, *endpoints: UdpEndpoint, **options: Any) -> Address:
        """Run a node with these endpoints; where it listens."""
        return await self.lab.serves(udp(*endpoints, **options))

    def close(self) -> None:
        for end in self.ends:
            end.sock.close()


async def bound(at: Address) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_DGRAM)
    await sock.bind(at.sockaddr)
    return sock


def udp_parent(source: tuple[str, int] = CLIENT, **options: Any) -> bytes:
    """What a parent puts before a client's first datagrams."""
    return l4_parent(source, datagrams=True, **options)


def udp(*endpoints: Any, listener: Listener = UDP, **options: Any) -> Snapshot:
    hosts: tuple[FakeEndpoint, ...] = endpoints
    return snapshot(Kind.L4, *hosts, listener=listener, protocol=Transport.UDP, **options)
