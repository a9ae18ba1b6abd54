"""Forwarded (RFC 7239): elements that name a client, the protocol that it used, and the host that it asked for.

Left out: `by`, which endpoints know, and obfuscated identifiers.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §5.6.2."""
FORWARDED: Final = b"forwarded"


def forwarded_node(address: bytes) -> bytes:
    """An address as the value of `for`: IPv6 in brackets, and quoted because of these (RFC 7239 §6)."""
    return b'"[%b]"' % address if address.count(b":") > 1 and not address.startswith(b"[") else token_or_quoted(address)


def token_or_quoted(value: bytes) -> bytes:
    """A value as it is, or as a quoted string (RFC 9110 §5.6.4) where it is no token."""
    if _TOKEN.fullmatch(value):
        return value
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def converted(clients: bytes, proto: bytes, host: bytes) -> bytes:
    """The elements for the values of X-Forwarded-For, -Proto and -Host (RFC 7239 §7.4); empty without a client.
    Protocol and host are those that the first client used."""
    elements = [b"for=" + forwarded_node(each.strip()) for each in clients.split(b",") if each.strip()]
    if elements:
        elements[0] += b";proto=" + token_or_quoted(proto) if proto else b""
        elements[0] += b";host=" + token_or_quoted(host) if host else b""
    return b", ".join(elements)
