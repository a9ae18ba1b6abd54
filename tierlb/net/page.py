"""Plain HTTP on a port for websockets: a page for clients that send a simple GET, such as a collector of metrics.

One request, one answer, and the connection ends. Only a whole head shows whether the client requests a page or a
websocket, so all heads are read here, by the strict parser of the data path. Any client can connect: the head's size is
bounded here and the time by the caller, and a costly page should not be made anew for each request.

Left out: bodies, connections that stay, and every method but GET.
"""

from collections.abc import Callable
from http import HTTPStatus

import attrs
import trio

from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import find_head_end, parse_request_head

MAX_PAGE_HEAD_BYTES = 16 * 1024
PAGE_READ_BYTES = 16 * 1024
LAST_READ_S = 1.0
MOST_LAST_READS = 64
LAST_READ_BYTES = 64 * 1024


@attrs.frozen
class Page:
    """The type of the content, the content, and the status that it comes with."""

    kind: str
    body: bytes
    status: int = 200


Pages = Callable[[str], Page | None]
"""By path, without its query; None: there is no such page."""


def plain_page(text: str, status: int = 200) -> Page:
    """A line of text."""
    return Page("text/plain; charset=utf-8", f"{text}\n".encode(), status)


async def upgrade_or_page(stream: trio.abc.Stream, pages: Pages) -> bytes:
    """The bytes of a request to upgrade, for the caller to answer; b"" where there was none, which is answered here
    then.

    Raises what `pages` raises, after a 500.
    """
    data = b""
    while (end := find_head_end(data)) < 0:
        if len(data) > MAX_PAGE_HEAD_BYTES:
            await _refuse(stream, 431, f"the request head is larger than {MAX_PAGE_HEAD_BYTES} bytes")
            return b""
        piece = bytes(await stream.receive_some(PAGE_READ_BYTES))
        data += piece
        if not piece or not data[:1].isupper():  # gone, or no HTTP: a method begins with a capital letter
            return b""
    try:
        head = parse_request_head(data[:end])
    except BadHead as error:
        await _refuse(stream, error.status, error.reason)
        return b""
    if head.upgrade is not None:
        return data
    await _answer_plainly(stream, pages, head.method, head.target)
    return b""


async def say_goodbye(stream: trio.SocketStream) -> None:
    """Let the peer read the answer: a socket closed with unread bytes resets the connection and drops it."""
    with trio.move_on_after(LAST_READ_S):
        await stream.send_eof()
        for _ in range(MOST_LAST_READS):
            if not await stream.receive_some(LAST_READ_BYTES):
                return


async def _answer_plainly(stream: trio.abc.Stream, pages: Pages, method: bytes, target: bytes) -> None:
    if method != b"GET":
        await _refuse(stream, 400, "only GET is answered here")
        return
    try:
        page = pages(target.partition(b"?")[0].decode("latin-1"))
    except Exception:
        await _refuse(stream, 500, "this page cannot be made: see the log")
        raise
    if page is None:
        await _refuse(stream, 404, "there is no such page")
    else:
        await _answer_page(stream, page)


async def _refuse(stream: trio.abc.Stream, status: int, reason: str) -> None:
    await _answer_page(stream, plain_page(reason, status))


async def _answer_page(stream: trio.abc.Stream, page: Page) -> None:
    head = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\n"
        f"Content-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    await stream.send_all(head.encode() + page.body)
    if isinstance(stream, trio.SocketStream):
        await say_goodbye(stream)
