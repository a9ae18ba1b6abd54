"""Connections to hosts, begun without waiting for them."""

import errno
import socket
from typing import Protocol

from tierlb.model.address import Address
from tierlb.net.peer_liveness import ask_when_quiet, is_here
from tierlb.net.self_connect import abandon, reaches_itself
from tierlb.net.shortage import has_route
from tierlb.net.sockaddr import socket_family


class Dial(Protocol):
    """As `dial`."""

    def __call__(self, address: Address, *, port_at_risk: int = 0, speaks_first: bool = False) -> tuple[int, int]: ...


def dial(address: Address, *, port_at_risk: int = 0, speaks_first: bool = False) -> tuple[int, int]:
    """Begin a connection; returns its descriptor, with 0 where it is made and EINPROGRESS where it is under way, or
    -1 with the errno of a failure.

    Where our side `speaks_first`, the handshake's last ACK waits for the first bytes and travels with them: a packet
    less (HAProxy does the same). It must not be used otherwise: the peer would wait 40 ms for that ACK. A connection
    under way is made when the socket becomes writable without an error. `port_at_risk`: the address's port if the
    connection may reach itself (net/self_connect.py). Raises OSError (EMFILE…) where no socket can be made.
    """
    sock = socket.socket(socket_family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
    try:
        code = _connect(sock, address, port_at_risk, speaks_first)
    except BaseException:
        sock.close()
        raise
    if code in (0, errno.EINPROGRESS):
        return sock.detach(), code
    sock.close()
    return -1, code


def _connect(sock: socket.socket, address: Address, port_at_risk: int, speaks_first: bool) -> int:
    """Keepalive notices that another machine is gone; loopback needs none, which saves the system calls. There the
    handshake is over when connect(2) returns, and a second call learns that."""
    if address.is_unix:
        return sock.connect_ex(address.sockaddr)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if speaks_first:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    here, there = is_here(address.host), address.sockaddr
    if not here:
        ask_when_quiet(sock)
    code = sock.connect_ex(there)
    if code == errno.EADDRNOTAVAIL and not has_route(address):
        return errno.EHOSTUNREACH
    if code == errno.EINPROGRESS and here:
        code = sock.connect_ex(there)
        if code == errno.EALREADY:
            code = errno.EINPROGRESS
    if port_at_risk and code in (0, errno.EINPROGRESS) and reaches_itself(sock, address):
        abandon(sock)
        return errno.ECONNREFUSED
    return code
