"""Bodies of messages as a simulated endpoint and a client read them: bytes in, payload out, and where they end."""

import enum
import re

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
LINE_END = b"\r\n"


class Sized:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.rest = b""

    @property
    def ended(self) -> bool:
        """Nothing of it is missing. What came after it is in `rest`."""
        return not self._left

    def feed(self, data: bytes) -> bytes:
        """The payload in these bytes."""
        mine, self.rest = data[: self._left], data[self._left :]
        self._left -= len(mine)
        return mine


class _Expects(enum.Enum):
    SIZE = "a chunk's size"
    DATA = "a chunk's data"
    DATA_END = "the line end after a chunk's data"
    TRAILER = "a trailer line, or the empty one"
    NOTHING = "nothing more"


class Chunked:
    """A body in chunks. Trailers are dropped."""

    def __init__(self) -> None:
        self._expects = _Expects.SIZE
        self._left = 0
        self.rest = b""

    @property
    def ended(self) -> bool:
        """Nothing of it is missing. What came after it is in `rest`."""
        return self._expects is _Expects.NOTHING

    def feed(self, data: bytes) -> bytes:
        """The payload in these bytes. Raises ValueError for a size that is no number."""
        received, payload = self.rest + data, []
        while not self.ended:
            if self._expects is _Expects.DATA:
                mine, received = received[: self._left], received[self._left :]
                payload.append(mine)
                self._left -= len(mine)
                if self._left:
                    break
                self._expects = _Expects.DATA_END
            line, end, after = received.partition(LINE_END)
            if not end:
                break
            received = after
            self._line(line)
        self.rest = received
        return b"".join(payload)

    def _line(self, line: bytes) -> None:
        if self._expects is _Expects.SIZE:
            self._left = int(line.partition(b";")[0], 16)
            self._expects = _Expects.DATA if self._left else _Expects.TRAILER
        elif self._expects is _Expects.DATA_END:
            self._expects = _Expects.SIZE
        elif not line:
            self._expects = _Expects.NOTHING


Body = Sized | Chunked


def body_of(head: bytes) -> Body:
    """What follows a head; nothing if it says nothing."""
    if CHUNKED.search(head):
        return Chunked()
    length = LENGTH.search(head)
    return Sized(int(length[1]) if length else 0)


def chunk(payload: bytes) -> bytes:
    """One chunk; the last one of a body if empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)
