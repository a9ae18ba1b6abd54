"""What httpx is told so that a request may be given up at any moment and nothing is left behind.

Requests to etcd are cut off all the time: a member hangs, a lease is about to end, a controller stops. httpcore 1.0
does not close a connection whose handshake is cancelled, and takes leave of one with TLS for as long as that takes.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore
import httpx
import trio

CLOSE_S = 0.5
"""For taking leave, where there is TLS: the other end may not be reading."""
IDLE_CONNECTION_S = 5.0
"""Longer than renewals of a lease are apart."""


class Transport(httpx.AsyncHTTPTransport):
    """httpx's own, over a network that leaves nothing behind; for the tasks of one trio run. httpx has no public way to
    say so, so this replaces what it keeps for itself, and does not work at all where that is not there."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        # without TLS one that knows nobody: the usual one reads all authorities, which takes as long as ten requests
        context = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__(verify=context, trust_env=False)
        if not isinstance(getattr(self, "_pool", None), httpcore.AsyncConnectionPool):
            raise RuntimeError(f"httpx {httpx.__version__} keeps its connections elsewhere than in `_pool`")
        self._pool = httpcore.AsyncConnectionPool(
            context, keepalive_expiry=IDLE_CONNECTION_S, network_backend=_Network()
        )


class EtcdBody(httpx.AsyncByteStream):
    """What is sent. httpx would make an async generator of it, which becomes garbage, and a warning of trio, where the
    connection breaks meanwhile."""

    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class _Network(httpcore.TrioBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's name)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSE_S):
            await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            await self._inner.aclose()  # which closes before it notices that it is cancelled
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
