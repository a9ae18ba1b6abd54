"""The value of a Host field: whether it is valid, and the name that routes compare (RFC 9110 §7.2, RFC 3986 §3.2.2).

A registered name may hold sub-delimiters and escapes, and a dot at its end that only marks it as complete. A port may
be empty. The whole value is empty where the target has no authority; then there is no name.

Refused although a generic URI allows them: IPvFuture, which no address has ever used; zone identifiers, which are
meaningful on their own machine only (RFC 6874); and escapes of the delimiters of a URL, because a server that decodes
first would read another host.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_HOST_BYTES: Final = 512
"""DNS names have at most 253 bytes, each of which may be escaped."""

_ORDINARY_HOST: Final = re.compile(rb"([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::([0-9]{0,5}))?").fullmatch
_REGISTERED: Final = re.compile(rb"((?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?").fullmatch
_BRACKETED: Final = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{0,5}))?").fullmatch
_NOT_IN_NAME: Final = re.compile(rb"[\x00-\x20\x7f/\\?#@:%\[\]]").search


def host_name(value: bytes) -> bytes | None:
    """The name that routes compare: lower case, escapes decoded, without the port and a dot at the end; an IPv6 address
    in brackets in its shortest form. Empty for an empty value, None for an invalid one."""
    found = _ORDINARY_HOST(value)
    if found is not None and len(value) <= MAX_HOST_BYTES:
        return found[1] if _is_port(found[2]) else None
    if not value:
        return b""
    if len(value) > MAX_HOST_BYTES:
        return None
    return _ipv6_host(value) if value.startswith(b"[") else _registered_name(value)


def _is_port(digits: bytes | None) -> bool:
    return not digits or int(digits) <= 65535


def _ipv6_host(value: bytes) -> bytes | None:
    found = _BRACKETED(value)
    if found is None or not _is_port(found[2]):
        return None
    try:
        return b"[%b]" % ipaddress.IPv6Address(found[1].decode()).compressed.encode()
    except ValueError:
        return None


def _registered_name(value: bytes) -> bytes | None:
    found = _REGISTERED(value)
    if found is None or not _is_port(found[2]):
        return None
    name = unquote_to_bytes(found[1]).lower()
    if _NOT_IN_NAME(name):
        return None
    return name.removesuffix(b".") or None
