"""PROXY protocol version 1: the client's address as one line of text at the start of a connection.

The format is HAProxy's (proxy-protocol.txt §2.1). A reader refuses at the first byte that cannot be part of a line, and
a line that is longer than the longest valid one. `PROXY UNKNOWN` stands for a connection that the sender makes on its
own behalf, as LOCAL does in version 2: the addresses of the connection itself count.
"""

import ipaddress
import re
from typing import Final

from tierlb.wire.proxy_protocol import BadProxyHeader, ProxyHeader, SocketEndpoint

_PREFIX: Final = b"PROXY "
MOST_LINE_BYTES: Final = 107
"""The worst case of the specification, with the line's end."""
LOCAL_V1: Final = b"PROXY UNKNOWN\r\n"

_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})")


def encode_v1(source: SocketEndpoint, destination: SocketEndpoint) -> bytes:
    """The line for a TCP connection; if one end is IPv6, an IPv4 end is written as ::ffff:a.b.c.d. Raises ValueError
    for a host that is not an IP address."""
    hosts = [ipaddress.ip_address(host.partition("%")[0]) for host in (source[0], destination[0])]
    family = 4 if all(host.version == 4 for host in hosts) else 6
    names = [f"::ffff:{host}" if host.version < family else str(host) for host in hosts]
    return b"PROXY TCP%d %b %b %d %d\r\n" % (
        family,
        names[0].encode(),
        names[1].encode(),
        source[1],
        destination[1],
    )


def may_be_v1(buffer: bytes) -> bool:
    """Whether a line may begin like this."""
    return _PREFIX.startswith(buffer[: len(_PREFIX)])


def parse_v1(buffer: bytes) -> ProxyHeader | None:
    """The line at the start of `buffer`, or None while it is unfinished. Raises BadProxyHeader."""
    if not may_be_v1(buffer):
        raise BadProxyHeader("no PROXY line")
    end = buffer.find(b"\r\n", 0, MOST_LINE_BYTES)
    if end < 0:
        if len(buffer) >= MOST_LINE_BYTES:
            raise BadProxyHeader("the PROXY line is too long")
        return None
    line, length = buffer[:end], end + 2
    if line == LOCAL_V1[:-2] or line.startswith(LOCAL_V1[:-2] + b" "):
        return ProxyHeader(None, None, length)
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadProxyHeader("the PROXY line is not as version 1 has it")
    kind = ipaddress.IPv4Address if found[1] == b"4" else ipaddress.IPv6Address
    try:
        source, destination = (_plain(kind(text.decode())) for text in found.group(2, 3))
        ports = [_port(text) for text in found.group(4, 5)]
    except ValueError:
        raise BadProxyHeader("the PROXY line has an address that is none") from None
    return ProxyHeader((source, ports[0]), (destination, ports[1]), length)


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """A mapped address as IPv4, so that one client has one name."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _port(text: bytes) -> int:
    if (text.startswith(b"0") and text != b"0") or int(text) > 65535:
        raise ValueError("not a port")
    return int(text)
