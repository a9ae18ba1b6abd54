"""The PROXY header at the start of a connection to an endpoint of a pool with `proxy_protocol`.

Such a connection carries the requests of one client's connection alone. Where an l7 parent sends requests of many
clients on one connection, each client is known by the last address in X-Forwarded-For, which the parent has written
itself: those before it may be the client's invention. It has port 0.
"""

import ipaddress

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.upstream.host import Host
from tierlb.model.listener import ProxyVersion
from tierlb.net.unix_socket import LOCAL_CLIENT
from tierlb.wire.announcement import Origin


def announcement(version: ProxyVersion, plan: RequestPlan, identity: ClientIdentity, host: Host) -> bytes:
    """The header for a request's connection to the host."""
    origin = identity.origin
    if origin is None:
        origin = Origin((_named_client(plan, identity), 0), None)
    there = host.spec.address
    here = LOCAL_CLIENT if there.is_unix else (there.host, there.port)
    return origin.header(version, here, secured=identity.secured)


def kept_for(host: Host, header: bytes) -> list[PooledConnection]:
    """A kept connection with this header, which is taken out of the idle ones; empty if there is none."""
    for connection in host.idle[::-1]:
        if isinstance(connection, PooledConnection) and connection.announced == header:
            host.idle.remove(connection)
            return [connection]
    return []


def _named_client(plan: RequestPlan, identity: ClientIdentity) -> str:
    named = plan.head.get(b"x-forwarded-for") if identity.trusted else None
    if named:
        last = named.rpartition(b",")[2].strip().decode("latin-1")
        try:
            return str(ipaddress.ip_address(last))
        except ValueError:
            pass
    return identity.address.decode()
