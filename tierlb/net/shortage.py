"""Connects that fail because this machine lacks a resource, as opposed to faults of a host.

A connect can fail because no descriptor, no local port or no kernel memory is left here. The host is not to blame, so
it counts against none; it is counted here, logged once per burst, and shown while it lasts.

An IPv4 or IPv6 connect without `bind` shares a local port among all destinations (the kernel chooses it in connect(2)),
so ports run out towards one destination at a time, and another host may still be reached. `bind` to more ports than
the kernel's range holds is not done: it could take the port of a service that is about to start.
"""

import errno
import socket
from collections.abc import Callable
from typing import Final

import attrs

from tierlb.model.address import Address
from tierlb.net.wheel import NEVER

BURST_S: Final = 10.0
"""Failures closer together than this are one burst: the beginning and the end are logged, nothing between."""


@attrs.frozen
class Resource:
    """What is lacking, and what an operator can do about it."""

    name: str
    advice: str


_PORTS: Final = Resource("local ports", "widen net.ipv4.ip_local_port_range, or add endpoints or nodes")
_MEMORY: Final = Resource("kernel memory for sockets", "raise the memory limit, or net.ipv4.tcp_mem")

RESOURCES: dict[int, Resource] = {
    errno.EMFILE: Resource("descriptors of this process", "raise the hard limit of open files (ulimit -Hn)"),
    errno.ENFILE: Resource("descriptors of this machine", "raise fs.file-max"),
    errno.ETOOMANYREFS: Resource(
        "descriptors under way to other nodes", "raise the hard limit of open files (ulimit -Hn)"
    ),
    errno.ENOBUFS: _MEMORY,
    errno.ENOMEM: _MEMORY,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.EAGAIN: _PORTS,
    errno.ENOSPC: Resource("epoll watches", "raise fs.epoll.max_user_watches"),
}
"""By the errno with which socket(2), connect(2) and epoll_ctl(2) report it."""


def is_own(code: int) -> bool:
    """Whether a connect with this errno failed because one of RESOURCES ran out here."""
    return code in RESOURCES


def has_route(address: Address) -> bool:
    """Whether this machine has an address from which that one can be reached: without one, as for ::1 where IPv6 is
    off, connect(2) fails with EADDRNOTAVAIL too. UDP asks the routes and takes no TCP port."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            return sock.connect_ex(address.sockaddr) == 0
    except OSError as error:
        return is_own(error.errno or 0)


@attrs.define
class _Burst:
    resource: Resource
    began: float
    last: float
    count: int = 0


Tell = Callable[..., None]
"""A logger's method: an event and its context."""


def _silent(event: str, **context: object) -> None:
    """For owners without a log."""


class Shortages:
    """Counts connects that failed because one of RESOURCES ran out. `count` only grows."""

    __slots__ = ("_bursts", "_tell", "count")

    def __init__(self, tell: Tell = _silent) -> None:
        self._tell = tell
        self._bursts: dict[str, _Burst] = {}
        self.count = 0

    def note(self, code: int, now: float, towards: object) -> None:
        """One more; `code` is one of RESOURCES, `towards` where the connection was to go."""
        self.count += 1
        resource = RESOURCES[code]
        burst = self._bursts.get(resource.name)
        if burst is None:
            burst = self._bursts[resource.name] = _Burst(resource, now, now)
            self._tell(
                "resource_exhausted",
                resource=resource.name,
                error=errno.errorcode[code],
                towards=str(towards),
                advice=resource.advice,
            )
        burst.last = now
        burst.count += 1

    def tick(self, now: float) -> float:
        """Log the end of bursts that are over. Returns when the next one may be."""
        for name, burst in list(self._bursts.items()):
            if now - burst.last >= BURST_S:
                del self._bursts[name]
                lasted_s = round(burst.last - burst.began, 3)
                self._tell("resource_recovered", resource=name, failed=burst.count, lasted_s=lasted_s)
        return min((burst.last + BURST_S for burst in self._bursts.values()), default=NEVER)

    def current(self) -> tuple[str, ...]:
        """What is lacking now, in sentences for an operator."""
        return tuple(f"out of {name}: {burst.resource.advice}" for name, burst in self._bursts.items())
