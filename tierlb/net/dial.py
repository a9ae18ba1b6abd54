"""Connections to hosts, begun without waiting for them."""

import errno
import os
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from tierlb.model.address import Address
from tierlb.net.asked import asked
from tierlb.net.io import AT_RISK, HERE, SPEAKS_FIRST, start_connect
from tierlb.net.peer_liveness import ask_when_quiet, is_here
from tierlb.net.shortage import has_route
from tierlb.net.sockaddr import pack_sockaddr

Connect: TypeAlias = Callable[[bytes, int, int], tuple[int, int]]
NO_ASKER: Final = -1


class Dial(Protocol):
    """As `dial`."""

    def __call__(
        self,
        address: Address,
        *,
        name: bytes = b"",
        port_at_risk: int = 0,
        speaks_first: bool = False,
        asker: int = NO_ASKER,
    ) -> tuple[int, int]: ...


def dial(
    address: Address,
    *,
    name: bytes = b"",
    port_at_risk: int = 0,
    speaks_first: bool = False,
    asker: int = NO_ASKER,
    connect: Connect = start_connect,
) -> tuple[int, int]:
    """Begin a connection; returns its descriptor, with 0 where it is made and EINPROGRESS where it is under way, or
    -1 with the errno of a failure.

    Where our side `speaks_first`, the handshake's last ACK waits for the first bytes and travels with them: a packet
    less, and the host wakes once (HAProxy does the same). It must not be used otherwise: the peer would wait 40 ms for
    that ACK. With an `asker` our side does if that connection has sent something. A connection under way is made when
    the socket becomes writable without an error. `port_at_risk`: the address's port if the connection may reach itself
    (net/self_connect.py). `name`: the address's `struct sockaddr`, where it is known already. Raises OSError (EMFILE…)
    where no socket can be made.

    Keepalive notices that another machine is gone; loopback needs none, which saves the system calls. There the
    handshake is over when connect(2) returns, and a second call learns that.
    """
    here = is_here(address.host)
    flags = (SPEAKS_FIRST if speaks_first else 0) | (HERE if here else 0) | (AT_RISK if port_at_risk else 0)
    fd, code = connect(name or pack_sockaddr(address.sockaddr), flags, asker)
    if fd < 0:
        return fd, errno.EHOSTUNREACH if code == errno.EADDRNOTAVAIL and not has_route(address) else code
    if not here:
        try:
            asked(fd, ask_when_quiet)
        except BaseException:
            os.close(fd)
            raise
    return fd, code
