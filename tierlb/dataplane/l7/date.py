"""The Date field of answers that this node makes itself (RFC 9110 §6.6.1), written once a second."""

import time
from email.utils import formatdate

_written: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """`Date: …` with its CRLF, for now."""
    global _written
    second = int(time.time())
    if _written[0] != second:
        _written = (second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode())
    return _written[1]
