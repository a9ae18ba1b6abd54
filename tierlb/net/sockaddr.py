"""Addresses as the kernel has them: `struct sockaddr_in`, `sockaddr_in6` (netinet/in.h) and `sockaddr_un` (sys/un.h).

A datagram's address stays in this form from its receipt to the answer: it is a key and goes back as it came.
"""

import os
import socket
import struct
from functools import cache
from typing import TypeAlias

from tierlb.model.address import Address

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As in the socket module: host, port, and for IPv6 flow label and scope."""


def socket_family(address: Address) -> socket.AddressFamily:
    """In which family a socket for the address is."""
    if address.is_unix:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


@cache
def has_ipv6() -> bool:
    """Whether this machine has IPv6 at all."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


_FAMILY = struct.Struct("=H")
_V4 = struct.Struct("!H4s8x")
_V6 = struct.Struct("!HI16s")
_PATH = struct.Struct("108s")


def pack_sockaddr(address: SocketAddress | str) -> bytes:
    """Of an address or the path of a unix socket. Raises OSError if the host is not a numeric address."""
    if isinstance(address, str):
        return _FAMILY.pack(socket.AF_UNIX) + _PATH.pack(os.fsencode(address))
    host, port = address[:2]
    if ":" not in host:
        return _FAMILY.pack(socket.AF_INET) + _V4.pack(port, socket.inet_pton(socket.AF_INET, host))
    flow, scope = address[2:] or (0, 0)
    body = _V6.pack(port, flow, socket.inet_pton(socket.AF_INET6, host))
    return _FAMILY.pack(socket.AF_INET6) + body + struct.pack("=I", scope)


def unpack_sockaddr(raw: bytes) -> SocketAddress:
    """Raises ValueError for anything that is not a whole IPv4 or IPv6 address."""
    try:
        (family,) = _FAMILY.unpack_from(raw)
        if family == socket.AF_INET:
            port, packed = _V4.unpack_from(raw, 2)
            return socket.inet_ntop(socket.AF_INET, packed), port
        if family == socket.AF_INET6:
            port, flow, packed = _V6.unpack_from(raw, 2)
            (scope,) = struct.unpack_from("=I", raw, 2 + _V6.size)
            return socket.inet_ntop(socket.AF_INET6, packed), port, flow, scope
    except struct.error:
        pass
    raise ValueError(f"not an IPv4 or IPv6 socket address: {raw!r}")
