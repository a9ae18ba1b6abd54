"""Ports on this machine: whether those that the topology names are free, and free ones for local endpoints.

Ports for endpoints are below the kernel's ephemeral range, so that neither an outgoing connection nor a node's own
`port 0` can take one while its process is being restarted.
"""

import errno
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs

from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.model.listener import TierListener
from tierlb.model.places import bound_listeners
from tierlb.model.topology import Tier, Topology
from tierlb.net.datagrams import open_datagram_socket
from tierlb.net.listeners import BACKLOG
from tierlb.net.sockaddr import has_ipv6, socket_family
from tierlb.net.unix_socket import identity_of, listen_unix, unlink_if

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FROM = 32768
"""The default of Linux, used where /proc is not readable."""
LOWEST_PORT = 20000
CHECK_BACKLOG = 128


class PortTaken(OSError):  # noqa: N818 (the text is the whole message)
    """A required port is taken; the text says for what, why, and what to do."""


def check_free(topology: Topology) -> None:
    """Raise PortTaken for the first public address of a tier that is not free."""
    for tier in topology.tiers.values():
        for address in addresses_here(tier):
            with listen(address, f"tiers.{tier.name}.listen"):
                if address.address.is_unix:  # while it listens, no other process replaces it
                    unlink_if(address.address.host, identity_of(address.address.host))


def addresses_here(tier: Tier) -> dict[ListenAddress, TierListener]:
    """The sockets that listen for the tier on this machine. Of a listener at `*` the one for IPv6 is left out where the
    machine has none."""
    found = bound_listeners(tier)
    return {place: each for place, each in found.items() if place.address == each.address or _has_family(place)}


def _has_family(place: ListenAddress) -> bool:
    return ":" not in place.address.host or has_ipv6()


def listen(address: ListenAddress, purpose: str) -> socket.socket:
    """A listening socket, over UDP a bound one, or PortTaken."""
    sock = bind(address, purpose)
    try:
        start_listening(sock, address, purpose, CHECK_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def start_listening(sock: socket.socket, address: ListenAddress, purpose: str, backlog: int) -> None:
    """Listen on a bound socket; one for datagrams does so already. Raises PortTaken where another process listens there
    by now."""
    if address.transport is Transport.UDP:
        return
    try:
        sock.listen(backlog)
    except OSError as error:
        raise PortTaken(_taken_text(address, purpose, error)) from error


def bind(address: ListenAddress, purpose: str, *, shared: bool = False, mode: int | None = None) -> socket.socket:
    """A bound socket, which still refuses connections unless it is a unix socket, or PortTaken. `shared`: beside other
    sockets of this user's. `mode`: the permissions of a unix socket."""
    try:
        if address.transport is Transport.UDP:
            return open_datagram_socket(address.address, shared=shared)
        return _bind_stream(address.address, shared=shared, mode=mode)
    except OSError as error:
        raise PortTaken(_taken_text(address, purpose, error)) from error


def _bind_stream(address: Address, *, shared: bool, mode: int | None = None) -> socket.socket:
    family = socket_family(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.is_unix:
            listen_unix(sock, address.host, mode, BACKLOG)
            return sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address.sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


@attrs.define
class FreePorts:
    """Gives free ports, each once."""

    rng: random.Random
    _given: set[int] = attrs.field(factory=set, init=False)

    def take(self) -> int:
        """A free port that was not given before."""
        for port in self._candidates():
            if port not in self._given and _is_free(port):
                self._given.add(port)
                return port
        raise PortTaken(f"no free port from {LOWEST_PORT} up: stop something that listens there")

    def _candidates(self) -> Iterator[int]:
        end = max(LOWEST_PORT + 1000, _ephemeral_from())
        start = self.rng.randrange(LOWEST_PORT, end)
        yield from range(start, end)
        yield from range(LOWEST_PORT, start)


def _taken_text(address: ListenAddress, purpose: str, error: OSError) -> str:
    if address.address.is_unix:
        reason = error.strerror or os.strerror(error.errno or errno.EADDRINUSE)
        advice = "Find the process that has it with `ss -lxp` and stop that, or change the address in the file"
        return f"{purpose}: cannot listen on {address}: {reason}. {advice}"
    which = "-ltnp" if address.transport is Transport.TCP else "-lunp"
    reason = os.strerror(error.errno or errno.EADDRINUSE)
    return (
        f"{purpose}: cannot listen on {address}: {reason}. "
        f"Find the process that has it with `ss {which} 'sport = :{address.address.port}'` and stop that, "
        "or change the address in the file"
    )


def _is_free(port: int) -> bool:
    """For connections and for datagrams."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _ephemeral_from() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return EPHEMERAL_FROM
