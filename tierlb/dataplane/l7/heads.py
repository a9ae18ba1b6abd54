"""Where the head of a request ends in what has come so far. Pure."""

from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import find_head_end
from tierlb.wire.http_start import check_request_start


def request_head_end(buffer: bytes, seen: int, limit: int) -> int:
    """The index behind the head with which the buffer begins; -1 while it is not complete. Of an incomplete head, the
    first `seen` bytes were looked at before. Raises BadHead, as soon as no head can come of it."""
    end = find_head_end(buffer)
    if end > limit or (end < 0 and len(buffer) > limit):
        if b"\r\n" in buffer[:limit]:
            raise BadHead(431, f"the request head is larger than the {limit} bytes allowed here")
        raise BadHead(414, f"the request line is longer than the {limit} bytes allowed here")
    if end < 0 and buffer:
        check_request_start(buffer, seen)
    return end
