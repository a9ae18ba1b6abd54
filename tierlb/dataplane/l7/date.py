"""The Date field of answers that this node makes itself (RFC 9110 §6.6.1), written once a second."""

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final


class DateField:
    """`clock`: seconds since 1970."""

    __slots__ = ("_clock", "_line", "_second")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """`Date: …` with its CRLF, for now."""
        second = int(self._clock())
        if self._second != second:
            self._second, self._line = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


DATE_FIELD: Final = DateField(time.time)
"""That of this process."""
