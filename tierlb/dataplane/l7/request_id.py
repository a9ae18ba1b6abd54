"""Ids of requests: where a client brings none that is believed, this node makes one up."""

import secrets
from typing import Final

MOST_CHARS: Final = 128
"""Ids in use have 16 to 64; a longer one would fill the log."""


class RequestIds:
    """An id is `prefix`, which no other process has, and a number in hexadecimal digits; `count` is the last number."""

    __slots__ = ("count", "prefix")

    def __init__(self) -> None:
        self.prefix = b"%b-" % secrets.token_hex(6).encode()
        self.count = 0

    def next(self) -> int:
        """The number of the next id."""
        self.count += 1
        return self.count

    def text(self, number: int) -> str:
        return f"{self.prefix.decode()}{number:x}"


def printable_id(value: bytes) -> str:
    """The id as text of one line: what is no visible ASCII becomes a question mark."""
    return "".join(chr(byte) if 33 <= byte <= 126 else "?" for byte in value[:MOST_CHARS])
