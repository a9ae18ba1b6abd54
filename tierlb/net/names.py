"""Host names to addresses, looked up again and again, so that changes in DNS are noticed.

The system's own resolver is asked (hosts file, search domains, what every other program sees). It gives no TTL, so it
is asked every two seconds: as often as a change should be noticed, and cheap enough for a local resolver. A failed
lookup changes nothing, because it does not show that an address is gone.

The system's resolver blocks a thread for an unbounded time. Each name has one task that waits for it, so there is never
more than one such thread for a name.

Left out: SRV records (net/srv.py), and what is done with the addresses.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")

AGAIN_S = 2.0

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]


async def resolve(host: str) -> tuple[str, ...]:
    """The IP addresses of a host name, in order, each once; an IP address is its own. Empty if the lookup fails."""
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(sorted({str(info[4][0]) for info in found}))


async def follow(
    host: str,
    on_change: Callable[[tuple[T, ...]], None],
    on_silence: Callable[[], None],
    ask: Callable[[str], Awaitable[tuple[T, ...]]],
) -> None:
    """Call `on_change` with the answer, at once and whenever it has changed; `on_silence` once when lookups begin to
    fail. Until cancelled."""
    known: tuple[T, ...] = ()
    silent = False
    while True:
        found = await ask(host)
        if found and found != known:
            known = found
            on_change(found)
        if not found and not silent:
            on_silence()
        silent = not found
        await trio.sleep(AGAIN_S)


def one_family(hosts: Iterable[str]) -> tuple[str, ...]:
    """The IPv4 addresses among these; all of them if there is none."""
    hosts = tuple(hosts)
    return tuple(each for each in hosts if ipaddress.ip_address(each).version == 4) or hosts
