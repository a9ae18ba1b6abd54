"""TLS ClientHello: the server name and the protocols that a client asks for, read without taking part in the handshake.

The message (RFC 8446 §4.1.2) stands at the start of the connection, in one or several records (§5.1), which may be cut
anywhere. Its extensions hold the name (`server_name`, RFC 6066 §3) and the protocols in the client's order
(`application_layer_protocol_negotiation`, RFC 7301 §3.1). All earlier versions of TLS begin in the same way. With
Encrypted ClientHello the name is that of the outer message.

`HelloReader` takes what has arrived so far, from the first byte on, and again when there is more. It says as soon as
that is certain that the bytes are no TLS, or that no server would accept the message. What a server may or may not
accept is left to the server: ciphers, versions, all other extensions.
"""

import enum
import re
from typing import Final

MAX_HELLO_BYTES: Final = 16 * 1024
"""Of the records that hold the message. Ordinary ones have 300 to 700 bytes, and 1,800 with a key share for
post-quantum key exchange."""

HANDSHAKE: Final = 22
"""The type of the records."""
CLIENT_HELLO: Final = 1
"""The type of the message."""
MAJOR_VERSION: Final = 3
"""The first byte of all versions since SSL 3.0."""
MAX_RECORD_BYTES: Final = 1 << 14
"""RFC 8446 §5.1: of one record that is not encrypted."""
RECORD_HEADER_BYTES: Final = 5
MESSAGE_HEADER_BYTES: Final = 4
RANDOM_BYTES: Final = 2 + 32
"""`legacy_version` and `random`."""
MAX_SESSION_ID_BYTES: Final = 32
SERVER_NAME: Final = 0
"""The type of the extension."""
ALPN: Final = 16
"""The type of the extension."""
HOST_NAME_TYPE: Final = 0
"""The only type of names in `server_name`."""
MAX_NAME_BYTES: Final = 255
"""Of a DNS name, in RFC 1035 §2.3.4."""
CUT_SHORT: Final = "it is cut short inside"

_is_visible: Final = re.compile(rb"[!-~]*").fullmatch


class Verdict(enum.Enum):
    """What the bytes are. PARTIAL: the beginning of a ClientHello. MALFORMED: no server would accept it."""

    WHOLE = "whole"
    PARTIAL = "partial"
    NOT_TLS = "not-tls"
    MALFORMED = "malformed"


class ClientHello:
    """What was read. `server_name` is in lower case, empty if the client sent none. `protocols` are those that it
    offers (ALPN). `least_bytes`: of a PARTIAL one, how many bytes there must be, from the first on, before it is worth
    reading again. `problem`: why it is MALFORMED."""

    __slots__ = ("least_bytes", "problem", "protocols", "server_name", "verdict")

    def __init__(
        self,
        verdict: Verdict,
        server_name: str = "",
        protocols: tuple[str, ...] = (),
        least_bytes: int = 0,
        problem: str = "",
    ) -> None:
        self.verdict: Final = verdict
        self.server_name: Final = server_name
        self.protocols: Final = protocols
        self.least_bytes: Final = least_bytes
        self.problem: Final = problem


NO_HELLO: Final = ClientHello(Verdict.NOT_TLS)


class BadHello(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """No server would accept it, and why."""


class HelloReader:
    """Reads what a connection begins with, each time all that has come so far, and goes on where it stopped: a client
    that sends tiny pieces costs no more than its bytes. It keeps none of them. `_taken`: bytes that were looked at;
    `_left`: how many the record lacks there; `_have`: those of the message; `_needed`: all of it, as far as known."""

    __slots__ = ("_have", "_left", "_needed", "_taken")

    def __init__(self) -> None:
        self._taken = 0
        self._left = 0
        self._have = 0
        self._needed = MESSAGE_HEADER_BYTES

    def read(self, data: bytes) -> ClientHello:
        """The verdict on these bytes, which begin with those of the call before."""
        if (data and data[0] != HANDSHAKE) or (len(data) > 1 and data[1] != MAJOR_VERSION):
            return NO_HELLO
        try:
            return self._read_records(data)
        except BadHello as error:
            return ClientHello(Verdict.MALFORMED, problem=str(error))

    def _read_records(self, data: bytes) -> ClientHello:
        """Raises BadHello."""
        size = len(data)
        while True:
            if self._left:
                self._take(data)
                missing = self._needed - self._have
                if missing <= 0:
                    return _read_message(_payload(data, self._needed)[MESSAGE_HEADER_BYTES:])
                if self._left:
                    return _partial(size + missing + (RECORD_HEADER_BYTES if missing > self._left else 0))
            start = self._taken + RECORD_HEADER_BYTES
            if start > size:
                _check_record_start(data[self._taken :])
                return _partial(start + self._needed - self._have)
            _check_record_start(data[self._taken : start])
            self._left = (data[start - 2] << 8) | data[start - 1]
            self._taken = start
            if not 0 < self._left <= MAX_RECORD_BYTES:
                raise BadHello(f"a record of {self._left} bytes")

    def _take(self, data: bytes) -> None:
        """Count what is there of the record. Raises BadHello if that is no ClientHello."""
        part = min(self._left, len(data) - self._taken)
        self._taken += part
        self._left -= part
        self._have += part
        if part and self._needed == MESSAGE_HEADER_BYTES:
            head = _payload(data, min(self._have, MESSAGE_HEADER_BYTES))
            if head[0] != CLIENT_HELLO:
                raise BadHello("another message than a ClientHello")
            if len(head) == MESSAGE_HEADER_BYTES:
                self._needed = MESSAGE_HEADER_BYTES + int.from_bytes(head[1:])


def read_client_hello(data: bytes) -> ClientHello:
    """Read the bytes that a connection begins with."""
    return HelloReader().read(data)


def _payload(data: bytes, count: int) -> bytes:
    """The first bytes that the records hold, which are there."""
    found = bytearray()
    position = 0
    while len(found) < count:
        start = position + RECORD_HEADER_BYTES
        position = start + ((data[start - 2] << 8) | data[start - 1])
        found += data[start:position]
    return bytes(found[:count])


def _check_record_start(header: bytes) -> None:
    if header and header[0] != HANDSHAKE:
        raise BadHello("another record before its end")
    if len(header) > 1 and header[1] != MAJOR_VERSION:
        raise BadHello("a record of another version")


def _partial(least_bytes: int) -> ClientHello:
    """Raises BadHello if so many bytes are more than are read."""
    if least_bytes > MAX_HELLO_BYTES:
        raise BadHello(f"more than {MAX_HELLO_BYTES} bytes")
    return ClientHello(Verdict.PARTIAL, least_bytes=least_bytes)


class Cursor:
    """Reads vectors (RFC 8446 §3.4), each of which has its length before it."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def has_more(self) -> bool:
        return self._position < len(self._data)

    def skip(self, count: int) -> None:
        """Raises BadHello."""
        self._position += count
        if self._position > len(self._data):
            raise BadHello(CUT_SHORT)

    def number(self, size: int) -> int:
        """Of so many bytes. Raises BadHello."""
        start = self._position
        self.skip(size)
        return int.from_bytes(self._data[start : self._position])

    def vector(self, size: int, least: int = 0) -> bytes:
        """The length has so many bytes. Raises BadHello, also if it is less than `least`."""
        length = self.number(size)
        if length < least:
            raise BadHello("a list in it is too short")
        start = self._position
        self.skip(length)
        return self._data[start : self._position]


def _read_message(body: bytes) -> ClientHello:
    """The message without its header. Raises BadHello."""
    cursor = Cursor(body)
    cursor.skip(RANDOM_BYTES)
    if len(cursor.vector(1)) > MAX_SESSION_ID_BYTES:
        raise BadHello("its session id is too long")
    cursor.vector(2, 2)
    cursor.vector(1, 1)
    if not cursor.has_more:
        return ClientHello(Verdict.WHOLE)
    extensions = cursor.vector(2)
    if cursor.has_more:
        raise BadHello("bytes follow its extensions")
    names: bytes | None = None
    protocols: bytes | None = None
    position, end = 0, len(extensions)
    while position < end:
        start = position + 4
        if start > end:
            raise BadHello(CUT_SHORT)
        kind = (extensions[position] << 8) | extensions[position + 1]
        position = start + ((extensions[position + 2] << 8) | extensions[position + 3])
        if position > end:
            raise BadHello(CUT_SHORT)
        if kind == SERVER_NAME:
            if names is not None:
                raise BadHello("two lists of server names")
            names = extensions[start:position]
        elif kind == ALPN:
            if protocols is not None:
                raise BadHello("two lists of protocols")
            protocols = extensions[start:position]
    name = "" if names is None else _read_server_name(names)
    return ClientHello(Verdict.WHOLE, name, () if protocols is None else _read_protocols(protocols))


def _read_server_name(content: bytes) -> str:
    """The host name in a `server_name` extension, without a dot at its end. Raises BadHello."""
    names = Cursor(_only_list(content))
    found = b""
    while names.has_more:
        kind = names.number(1)
        name = names.vector(2, 1)
        if kind == HOST_NAME_TYPE:
            if found:
                raise BadHello("two server names")
            found = name
    if len(found) > MAX_NAME_BYTES:
        raise BadHello("its server name is too long")
    if not _is_visible(found):
        raise BadHello("its server name is not one of DNS")
    return normal_server_name(found.decode("ascii"))


def normal_server_name(name: str) -> str:
    """A name as it is compared: in lower case, without a dot at its end."""
    return name.lower().removesuffix(".")


def _read_protocols(content: bytes) -> tuple[str, ...]:
    """The protocols in an ALPN extension. Raises BadHello."""
    protocols = Cursor(_only_list(content))
    found = []
    while protocols.has_more:
        found.append(protocols.vector(1, 1).decode("latin-1"))
    return tuple(found)


def _only_list(content: bytes) -> bytes:
    """The list that an extension consists of. Raises BadHello."""
    cursor = Cursor(content)
    inner = cursor.vector(2, 1)
    if cursor.has_more:
        raise BadHello("bytes follow a list in it")
    return inner
