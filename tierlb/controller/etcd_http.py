"""Connections to the members of one etcd, and requests on them that may be given up at any moment.

Requests to etcd are cut off all the time: a member hangs, a lease is about to end, a controller stops. A connection
whose request has not ended is closed then, and one that is closed is not waited for long. After a whole answer it is
kept for a few seconds, since renewals and transactions follow each other.
"""

import select
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from tierlb.net.http_client import BadAnswer, HttpConnection
from tierlb.net.self_connect import open_stream

CONNECT_S = 1.0
CLOSE_S = 0.5
"""For the end of a TLS connection: the other end may not be reading."""
ETCD_IDLE_S = 5.0
"""Longer than renewals of a lease are apart."""
MAX_ETCD_ANSWER_BYTES = 2**28
"""128 values of 1.5 MiB, which are the most of one transaction, in base64."""
MAX_WATCH_LINE_BYTES = 2**24
"""A change of one value, in base64, several times over."""

NO_ANSWER = (BadAnswer, trio.BrokenResourceError)
"""What a request ends with that was sent and not answered."""


class NotSent(Exception):  # noqa: N818 (an event of normal operation)
    """There was no connection, so nothing was asked. `__cause__` is why."""


@attrs.frozen
class EtcdAnswer:
    """A whole answer."""

    status: int
    content: bytes


@attrs.define(eq=False)
class EtcdConnections:
    """For the tasks of one trio run; `close` it at the end."""

    _tls: ssl.SSLContext | None
    _idle: dict[str, list[tuple[float, HttpConnection]]] = attrs.field(factory=dict, init=False)

    async def post(self, member: str, path: str, fields: dict[str, str], content: bytes) -> EtcdAnswer:
        """Ask a member and read the whole answer. Raises NotSent and NO_ANSWER."""
        async with self.asking(member, path, fields, content) as (status, http):
            return EtcdAnswer(status, await http.body(MAX_ETCD_ANSWER_BYTES))

    @asynccontextmanager
    async def asking(
        self, member: str, path: str, fields: dict[str, str], content: bytes
    ) -> AsyncIterator[tuple[int, HttpConnection]]:
        """Ask a member; the status of the answer, and the connection to read the rest from. Raises as `post`."""
        http = await self._connection(member)
        try:
            head = await http.ask("POST", path, [("Host", member), *fields.items()], content)
            yield head.status, http
        except BaseException:
            await _close(http)
            raise
        if http.renew():
            self._idle.setdefault(member, []).append((trio.current_time(), http))
        else:
            await _close(http)

    async def close(self) -> None:
        """Close what is kept."""
        idle, self._idle = self._idle, {}
        for _, http in (each for kept in idle.values() for each in kept):
            await _close(http)

    async def _connection(self, member: str) -> HttpConnection:
        """One that is kept and still open, or a new one. Raises NotSent."""
        kept = self._idle.get(member, [])
        while kept:
            since, http = kept.pop()
            if trio.current_time() - since < ETCD_IDLE_S and not _has_ended(http):
                return http
            await _close(http)
        host, _, port = member.rpartition(":")
        try:
            with trio.fail_after(CONNECT_S):
                return HttpConnection(await self._opened(host.strip("[]"), int(port)))
        except (OSError, trio.BrokenResourceError) as error:
            raise NotSent(str(error)) from error
        except trio.TooSlowError as error:
            raise NotSent(f"no connection in {CONNECT_S:g} s") from error

    async def _opened(self, host: str, port: int) -> trio.abc.Stream:
        stream = await open_stream(host, port)
        if self._tls is None:
            return stream
        secured = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def _has_ended(http: HttpConnection) -> bool:
    """Whether the other end has closed a connection on which nothing was asked, or sent what nothing asked for."""
    stream = http.stream.transport_stream if isinstance(http.stream, trio.SSLStream) else http.stream
    assert isinstance(stream, trio.SocketStream)
    poll = select.poll()
    poll.register(stream.socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _close(http: HttpConnection) -> None:
    with trio.move_on_after(CLOSE_S, shield=True):
        try:
            await http.stream.aclose()
        except trio.BrokenResourceError:
            return
