"""One GET of a small document over plain HTTP, for a URL beside the sidecar. h11 parses; nothing is kept open.

Left out: TLS, redirects and names with several addresses that differ: the app is on this host or in this pod.
"""

from urllib.parse import urlsplit

import attrs
import h11
import trio

from tierlb.net.self_connect import open_stream

READ_BYTES = 16 * 1024


class Unreachable(Exception):  # noqa: N818 (an event of normal operation)
    """Nobody listens there."""


class NoAnswer(Exception):  # noqa: N818 (an event of normal operation)
    """Somebody listens but did not give the document in time."""


@attrs.frozen
class Url:
    """Where the document is."""

    host: str
    port: int
    target: str


def parse_url(text: str) -> Url:
    """Raises ValueError with a sentence that says what to write."""
    parts = urlsplit(text)
    try:
        port = 80 if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or parts.username is not None:
        raise ValueError(f"{text!r} cannot be read: write it as http://HOST:PORT/PATH")
    return Url(parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


async def get(url: Url, timeout_s: float, max_bytes: int) -> bytes:
    """The body of a 200. Raises Unreachable and NoAnswer."""
    with trio.move_on_after(timeout_s):
        try:
            stream = await open_stream(url.host, url.port)
        except OSError as error:
            raise Unreachable(f"{url.host}:{url.port}: {error.strerror or error}") from error
        async with stream:
            try:
                return await _converse(stream, url, max_bytes)
            except (trio.BrokenResourceError, h11.ProtocolError) as error:
                raise NoAnswer(f"{url.host}:{url.port}: {error}") from error
    raise NoAnswer(f"{url.host}:{url.port}: nothing in {timeout_s:g} s")


async def _converse(stream: trio.SocketStream, url: Url, max_bytes: int) -> bytes:
    connection = h11.Connection(h11.CLIENT)
    host = f"[{url.host}]" if ":" in url.host else url.host
    fields = [("host", f"{host}:{url.port}"), ("connection", "close"), ("accept", "application/json")]
    request = h11.Request(method="GET", target=url.target, headers=fields)
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(READ_BYTES))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise NoAnswer(f"{url.host}:{url.port}{url.target} answers {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_bytes:
                raise NoAnswer(f"{url.host}:{url.port}{url.target} answers more than {max_bytes} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return body
