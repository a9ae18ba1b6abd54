"""Clients of TLS that mean harm, for `bench hostile`."""

import contextlib
import ctypes
import ssl

import trio

from scripts.benchmarks.handshakes import client_context

BLOCK = 64 * 1024
UPDATES = 50
"""Of keys, that are made and sent at once."""
REQUEST = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
CLOSED = "closed"
_CONTEXT = client_context()
_libssl = ctypes.CDLL("libssl.so.3", use_errno=True) if ssl.OPENSSL_VERSION_INFO >= (3,) else None


class Secured:
    """TLS on a stream, as far as attacks need it. The objects of `ssl` do not update keys: OpenSSL itself does."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._is_over = False
        self._tls = _CONTEXT.wrap_bio(self._incoming, self._outgoing, server_hostname="shop.test")

    def hello(self) -> bytes:
        """The ClientHello; later what else a step of the handshake sends. Raises ssl.SSLError."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self._is_over = True
        return self._outgoing.read()

    async def shake(self) -> None:
        """Raises trio.BrokenResourceError or ssl.SSLError."""
        await self.stream.send_all(self.hello())
        while True:
            data = await self.stream.receive_some(BLOCK)
            if not data:
                raise trio.BrokenResourceError
            self._incoming.write(data)
            answer = self.hello()
            if answer:  # another hello, if the server wants other keys, or the end
                await self.stream.send_all(answer)
            if self._is_over:
                return

    def sealed(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def updates(self) -> bytes:
        """Many updates of keys, each of which asks for another one (RFC 8446 §4.6.3), and nothing else."""
        pointer = ssl_pointer(self._tls)
        for _ in range(UPDATES):
            _libssl.SSL_key_update(pointer, 1)
            _libssl.SSL_do_handshake(pointer)
        return self._outgoing.read()


def ssl_pointer(tls: ssl.SSLObject) -> ctypes.c_void_p:
    """The `SSL *` of an object of CPython, whose structure has it behind its head and the socket."""
    place = id(tls._sslobj)  # noqa: SLF001
    place += object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    return ctypes.c_void_p(ctypes.c_void_p.from_address(place).value)


async def handshakes(stream: trio.SocketStream) -> None:
    """A full handshake, and no request."""
    with contextlib.suppress(ssl.SSLError):
        await Secured(stream).shake()


async def half_hellos(stream: trio.SocketStream) -> None:
    """The first half of a ClientHello, and then silence."""
    hello = Secured(stream).hello()
    await stream.send_all(hello[: len(hello) // 2])
    while await stream.receive_some(BLOCK):
        pass


async def key_updates(stream: trio.SocketStream) -> str:
    secured = Secured(stream)
    await secured.shake()
    await stream.send_all(secured.sealed(REQUEST))

    async def send() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(secured.updates())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(BLOCK):
                pass
        nursery.cancel_scope.cancel()
    return CLOSED
