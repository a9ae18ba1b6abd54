"""What a pool's name in DNS leads to: NAME:PORT to the name's addresses, a name of SRV records to hosts with ports.

An endpoint may have an IPv4 and an IPv6 address. Counted as two, it would get twice its share and fail twice, so only
one family is used: IPv4 where there is any.
"""

import importlib
from collections.abc import Awaitable, Callable

import trio

from tierlb.model.address import Address
from tierlb.model.snapshot import FoundEndpoint
from tierlb.net.names import one_family, resolve

LookUp = Callable[[str], Awaitable[tuple[FoundEndpoint, ...]]]


async def look_up(name: str) -> tuple[FoundEndpoint, ...]:
    """The endpoints, in order, each once. Empty if no resolver answers now."""
    if name.startswith("_"):
        return await _look_up_services(name)
    host, _, port = name.rpartition(":")
    return tuple(FoundEndpoint(Address(each, int(port))) for each in one_family(await resolve(host)))


async def _look_up_services(name: str) -> tuple[FoundEndpoint, ...]:
    """By a library that takes a tenth of a second to import: in a thread, for traffic goes on meanwhile."""
    await trio.to_thread.run_sync(importlib.import_module, "tierlb.net.srv")
    from tierlb.net.srv import services

    return await services(name)
