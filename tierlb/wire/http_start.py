"""Whether the bytes so far can be the start of a head, so that other protocols are answered at once and not after a
timeout: TLS, SSH, HTTP/2, HTTP/0.9, lines that end with LF alone.

Each byte is checked once, as it arrives; complete heads are checked by http_head.py.
"""

import re
from typing import Final

from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import check_request_line

SHOWN_BYTES: Final = 16

_NEVER: Final = re.compile(rb"[^\t\r\n -~\x80-\xff]|(?<!\r)\n|\r(?!\n|\Z)")
_NO_METHOD: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_RESPONSE_START: Final = b"HTTP/1."
_SPEAKERS: Final = (
    (re.compile(rb"[\x14-\x17]\x03"), "it speaks TLS"),
    (re.compile(rb"SSH-"), "it speaks SSH"),
    (re.compile(rb"\x00[\x00-\xff]{2}\x04|HTTP/2"), "it speaks HTTP/2"),
    (re.compile(rb"[2-5][0-9]{2}[ -]"), "it greets as mail and FTP servers do"),
    (re.compile(rb"[+-](?:OK|ERR|DENIED)|\*[0-9]+\r\n"), "it speaks as Redis and POP3 servers do"),
)


def check_request_start(buffer: bytes, seen: int) -> None:
    """Raise BadHead if a request cannot begin like this. The first `seen` bytes were looked at before."""
    if not seen and buffer.startswith((b"\x16\x03", b"\x80")):
        raise BadHead(
            400, "this port speaks HTTP without TLS, and the client speaks TLS: use http:// instead of https://"
        )
    found = _NEVER.search(buffer, max(0, seen - 1))
    if found is not None:
        raise BadHead(400, _why_never(found[0]))
    line_end = buffer.find(b"\r\n")
    if line_end >= 0 and seen < line_end + 2:
        check_request_line(buffer[:line_end])
    if line_end < 0:
        _check_method_start(buffer, seen)


def _check_method_start(buffer: bytes, seen: int) -> None:
    if buffer.find(b" ", 0, seen) >= 0 or buffer == b"\r":  # it has ended, or an empty line comes first
        return
    end = buffer.find(b" ", seen)
    if end == 0 or _NO_METHOD.search(buffer, seen, end if end > 0 else len(buffer)):
        raise BadHead(400, "the request does not begin with a method")


def why_no_response(data: bytes, seen: int) -> str | None:
    """Why a response cannot begin like this, or None if it can. The first `seen` bytes were looked at before."""
    if not data.startswith(_RESPONSE_START[: len(data)]):
        speaks = next((what for start, what in _SPEAKERS if start.match(data)), None)
        return speaks or f"its first bytes are no HTTP/1.1 response ({data[:SHOWN_BYTES]!r})"
    found = _NEVER.search(data, max(0, seen - 1))
    return None if found is None else _why_never(found[0])


def _why_never(what: bytes) -> str:
    if what == b"\n":
        return "a line ends with LF alone instead of CRLF"
    if what == b"\r":
        return "a line holds a bare CR"
    return "a head holds a control character"
