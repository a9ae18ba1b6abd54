"""One GET of a small document over plain HTTP, for a URL beside the sidecar. Nothing is kept open.

Left out: TLS, redirects and names with several addresses that differ: the app is on this host or in this pod.
"""

from urllib.parse import urlsplit

import attrs
import trio

from tierlb.net.http_client import BadAnswer, HttpConnection
from tierlb.net.self_connect import open_stream


class AppUnreachable(Exception):  # noqa: N818 (an event of normal operation)
    """Nothing listens there."""


class NoAnswer(Exception):  # noqa: N818 (an event of normal operation)
    """Something listens there but did not give the document in time."""


@attrs.frozen
class Url:
    """Where the document is."""

    host: str
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{self.target}"


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


async def fetch(url: Url, timeout_s: float, max_bytes: int) -> bytes:
    """The body of a 200. Raises Unreachable and NoAnswer."""
    with trio.move_on_after(timeout_s):
        try:
            stream = await open_stream(url.host, url.port)
        except OSError as error:
            raise AppUnreachable(f"{url.host}:{url.port}: {error.strerror or error}") from error
        async with stream:
            try:
                return await _converse(HttpConnection(stream), url, max_bytes)
            except (trio.BrokenResourceError, BadAnswer) as error:
                raise NoAnswer(f"{url}: {error}") from error
    raise NoAnswer(f"{url}: nothing in {timeout_s:g} s")


async def _converse(http: HttpConnection, url: Url, max_bytes: int) -> bytes:
    host = f"[{url.host}]" if ":" in url.host else url.host
    fields = [("Host", f"{host}:{url.port}"), ("Connection", "close"), ("Accept", "application/json")]
    head = await http.ask("GET", url.target, fields)
    if head.status != 200:
        raise NoAnswer(f"{url} answers {head.status}")
    return await http.body(max_bytes)
