"""Forwarded (RFC 7239): elements that name a client, the protocol that it used, and the host that it asked for.

Never written of its own accord: `by`, which endpoints know, and obfuscated identifiers.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §5.6.2."""
_PAIR: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|\"([^\"\\]*(?:\\.[^\"\\]*)*)\")"
)
_END: Final = re.compile(rb"[ \t]*(;|,|\Z)[ \t]*")
_ESCAPED: Final = re.compile(rb"\\(.)")
_NODE: Final = re.compile(
    rb"(?:unknown|_[0-9a-z._-]+|[0-9]+(?:\.[0-9]+){3}|\[[0-9a-f:.]+\])(?::(?:[0-9]{1,5}|_[0-9a-z._-]+))?", re.IGNORECASE
)
"""RFC 7239 §6."""
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


def read_forwarded(value: bytes) -> list[dict[bytes, bytes]] | None:
    """The elements of all fields, joined by commas: parameters in lower case, values without quotes. None if the value
    breaks the grammar of RFC 7239 §4, names a parameter twice in an element, or has a `for` that is no node (§6).
    Blanks around a semicolon are taken too: they have one meaning."""
    elements: list[dict[bytes, bytes]] = []
    element: dict[bytes, bytes] = {}
    at = 0
    while True:
        pair = _PAIR.match(value, at)
        if pair is not None:
            name = pair.group(1).lower()
            written = pair.group(2) or _ESCAPED.sub(rb"\1", pair.group(3))
            if name in element or (name == b"for" and not _NODE.fullmatch(written)):
                return None
            element[name] = written
            at = pair.end()
        end = _END.match(value, at)
        if end is None:
            return None
        at = end.end()
        if end.group(1) != b";" and element:
            elements.append(element)
            element = {}
        if not end.group(1):
            return elements


def written_forwarded(elements: list[dict[bytes, bytes]]) -> bytes:
    """The value of the field."""
    return b", ".join(
        b";".join(name + b"=" + token_or_quoted(value) for name, value in element.items()) for element in elements
    )


def clients_of(elements: list[dict[bytes, bytes]]) -> bytes:
    """Their nodes as the value of X-Forwarded-For, `unknown` where an element has none: IPv6 without brackets, unless a
    port follows."""
    nodes = [element.get(b"for", b"unknown") for element in elements]
    return b", ".join(node[1:-1] if node.startswith(b"[") and node.endswith(b"]") else node for node in nodes)
