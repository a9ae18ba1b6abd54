"""Chunked bodies (RFC 9112 §7.1): decoded as they arrive, and encoded again.

Chunk framing is the second way to make proxies disagree, so the decoder accepts one spelling: only CRLF ends a line, a
size is 1 to 16 hexadecimal digits, and extensions must follow the grammar (with the blanks that it allows, BWS). No
recipient may rely on extensions, so they are never passed on. What has to be held back (one unfinished line) is
bounded, as is what is skipped: the memory that a body takes does not depend on its size.

Left out: content codings, and bodies framed by length or by the end of the connection, which need no decoder.
"""

import enum
import re
from typing import Final

from tierlb.wire.http_fields import BadHead, Header, HeaderField, read_field
from tierlb.wire.identity import is_identity

CHUNK_LINE_LIMIT_BYTES: Final = 1024
EXTENSIONS_LIMIT_BYTES: Final = 16 * 1024
"""The most bytes of extensions in one message, beyond one byte for each byte of the body in those chunks: more would
make a proxy read for nothing. Servers that write sizes of fixed width send a few blanks with every chunk, however long
the body is."""
TRAILERS_LIMIT_BYTES: Final = 16 * 1024
TRAILERS_LIMIT: Final = 64
SIZE_LIMIT: Final = 2**63 - 1
CHUNKS_A_CALL: Final = 256
"""The chunks that one call of `feed` reads: about 0.2 ms, in which other connections wait."""
SLOW_CHUNK: Final = 8
"""A chunk that is not plain (an extension, blanks, cut in two) takes as long as so many plain ones."""
STRETCH_CHUNKS: Final = 8192
LEAST_AVERAGE_BYTES: Final = 16
LEAST_STRETCH_S: Final = 8.0
"""A stretch of chunks that hold less than this on average, and came faster than 1024 a second, is refused: reading them
costs more than sending them. Events and log lines are longer, and text that is typed or generated token by token is
slower. HTTP libraries write chunks of some KiB."""

_PLAIN_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}(?=\r\n)")
_NEVER_A_LINE: Final = re.compile(rb"[^\t\r -~\x80-\xff]|\r.", re.DOTALL)  # whatever comes after it
_EXTENSION_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?![0-9A-Fa-f])")
_EXTENSIONS: Final = re.compile(
    rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*[ \t]*" % (_EXTENSION_TOKEN, _EXTENSION_TOKEN, _QUOTED)
)
"""RFC 9112 §7.1.1, and blanks before the end of the line, which servers that write sizes of fixed width send."""

FORBIDDEN_TRAILERS: Final = frozenset(
    b"""
    connection content-length host keep-alive proxy-connection te trailer transfer-encoding upgrade
    authorization cookie proxy-authenticate proxy-authorization set-cookie www-authenticate
    content-encoding content-range content-type
    cache-control expect max-forwards pragma range
    if-match if-modified-since if-none-match if-range if-unmodified-since
    age date expires location retry-after vary warning
    via x-request-id
    """.split()
)
"""RFC 9110 §6.5.1: framing, routing, authentication, request modifiers; and fields that this proxy sets itself. Fields
with the identity of a client (wire/identity.py) are forbidden as well."""


class BadBody(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """A body that must not be forwarded, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()
    BROKEN = enum.auto()


class ChunkedDecoder:
    """Decodes one message body. After BadBody every further `feed` raises it again."""

    __slots__ = (
        "_began",
        "_chunk_bytes",
        "_chunks",
        "_extension_bytes",
        "_held",
        "_left",
        "_reason",
        "_state",
        "_trailer_bytes",
        "_trailers",
        "_work",
    )

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._work = 0
        self._began = -1.0
        self._chunks = 0
        self._chunk_bytes = 0
        self._held = b""
        self._left = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailers: list[HeaderField] = []
        self._reason = ""

    @property
    def done(self) -> bool:
        """Whether the last chunk and the trailer section have been read."""
        return self._state is _State.DONE

    @property
    def trailers(self) -> tuple[Header, ...]:
        """The trailer fields that may be passed on; empty until done."""
        if not self.done:
            return ()
        kept = (f for f in self._trailers if f.lower not in FORBIDDEN_TRAILERS and not is_identity(f.lower))
        return tuple((field.name, field.value) for field in kept)

    def feed(self, data: bytes, now: float = 0.0) -> tuple[list[bytes], bytes]:
        """Take the next bytes. Returns the pieces of body in them, and the bytes that were not taken. When `done`,
        those follow the message; otherwise there were more chunks than one call reads, and they come first in the next
        call.

        A piece is the very `data` where that lies within one chunk. `now` is in seconds by any clock. Raises BadBody.
        """
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        position = 0
        self._work = 0
        try:
            while position < len(data) and self._state is not _State.DONE and self._work < CHUNKS_A_CALL:
                if self._state is _State.SIZE:
                    position = self._read_plain(data, position, pieces)
                    if position == len(data) or self._work >= CHUNKS_A_CALL:
                        break
                advanced = self._step(data, position, pieces)
                if advanced == position:
                    self._held = data[position:]
                    position = len(data)
                    break
                position = advanced
            if self._chunks > STRETCH_CHUNKS:
                self._end_stretch(now)
            elif self._began < 0.0:
                self._began = now
        except BadBody as error:
            self._state, self._reason = _State.BROKEN, error.reason
            raise
        return pieces, data[position:]

    def _end_stretch(self, now: float) -> None:
        """Judge the chunks since the last call of this."""
        if self._chunk_bytes < LEAST_AVERAGE_BYTES * self._chunks and now - self._began < LEAST_STRETCH_S:
            raise BadBody(f"{self._chunks} chunks of less than {LEAST_AVERAGE_BYTES} bytes on average")
        self._began = now
        self._chunks = self._chunk_bytes = 0

    def _read_plain(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Read the chunks that are complete and have nothing but a size; returns the position of anything else."""
        count = 0
        room = CHUNKS_A_CALL - self._work
        while count < room:
            match = _PLAIN_SIZE.match(data, position)
            if match is None:
                break
            size = int(match[0], 16)
            start = match.end() + 2
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            pieces.append(data[start:end])
            self._chunk_bytes += size
            position = end + 2
            count += 1
        self._work += count
        self._chunks += count
        return position

    def _step(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Read one part of the grammar at `position`; return its end, or `position` if unfinished."""
        if self._state is _State.DATA:
            return self._read_data(data, position, pieces)
        if self._state is _State.SIZE:
            return self._read_size(data, position)
        if self._state is _State.DATA_END:
            return self._read_data_end(data, position)
        if self._state is _State.TRAILERS:
            return self._read_trailer(data, position)
        raise BadBody(self._reason)

    def _read_size(self, data: bytes, position: int) -> int:
        end = _line_end(data, position, CHUNK_LINE_LIMIT_BYTES, "a chunk size line is too long")
        if end < 0:
            return position
        match = _SIZE.match(data, position, end)
        if match is None:
            raise BadBody("a chunk size is not a hexadecimal number")
        self._left = int(match[0], 16)
        if self._left > SIZE_LIMIT:
            raise BadBody("a chunk size is not below 2^63")
        self._work += SLOW_CHUNK
        self._chunks += 1
        self._chunk_bytes += self._left
        if match.end() < end:
            self._check_extensions(data, match.end(), end)
            self._extension_bytes = max(0, self._extension_bytes - self._left)
        self._state = _State.DATA if self._left else _State.TRAILERS
        return end + 2

    def _check_extensions(self, data: bytes, start: int, end: int) -> None:
        """Check the bytes between a chunk's size and the end of its line."""
        if not _EXTENSIONS.fullmatch(data, start, end):
            has_extension = data[start:end].lstrip(b" \t").startswith(b";")
            raise BadBody(
                "a chunk extension is malformed" if has_extension else "a chunk size is not a hexadecimal number"
            )
        self._extension_bytes += end - start
        if self._extension_bytes > EXTENSIONS_LIMIT_BYTES:
            raise BadBody("too many bytes of chunk extensions")

    def _read_data(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        end = min(position + self._left, len(data))
        pieces.append(data if end - position == len(data) else data[position:end])
        self._left -= end - position
        if not self._left:
            self._state = _State.DATA_END
        return end

    def _read_data_end(self, data: bytes, position: int) -> int:
        ending = data[position : position + 2]
        if ending == b"\r\n":
            self._state = _State.SIZE
            return position + 2
        if ending != b"\r":
            raise BadBody("a chunk is longer than its size says")
        return position

    def _read_trailer(self, data: bytes, position: int) -> int:
        room = TRAILERS_LIMIT_BYTES - self._trailer_bytes
        end = _line_end(data, position, room, "the trailer section is too long")
        if end < 0:
            return position
        self._trailer_bytes += end - position
        if end == position:
            self._state = _State.DONE
        elif len(self._trailers) == TRAILERS_LIMIT:
            raise BadBody(f"more than {TRAILERS_LIMIT} trailer fields")
        else:
            self._trailers.append(_trailer(data[position:end]))
        return end + 2


def encode_chunk(piece: bytes) -> bytes:
    """One chunk; nothing for an empty piece, since a chunk of size 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def last_chunk(trailers: tuple[Header, ...] = ()) -> bytes:
    """The end of a body. `trailers` come from a decoder and are not checked again."""
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % pair for pair in trailers])


def _line_end(data: bytes, start: int, limit: int, too_long: str) -> int:
    """Where the line's CRLF starts, or -1. Raises BadBody for a long line, finished or not."""
    end = data.find(b"\r\n", start, start + limit + 2)
    if end < 0 and len(data) >= start + limit + 2:
        raise BadBody(too_long)
    if end < 0 and _NEVER_A_LINE.search(data, start):
        raise BadBody("a line holds a bare CR, a bare LF or a control character")
    return end


def _trailer(line: bytes) -> HeaderField:
    try:
        return read_field(line)
    except BadHead as error:
        raise BadBody(f"trailers: {error.reason}") from None
