"""The attacks over TLS do what they are named after, against a server of `ssl`."""

import ssl
from functools import partial
from pathlib import Path

import pytest
import trio

from scripts.benchmarks import tls_attacks
from scripts.benchmarks.certificate import make_certificate


class Server:
    """`read`: bytes that came on the wire. `shaken`: handshakes that were finished."""

    def __init__(self, directory: Path, enough: int) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(make_certificate(directory))
        self.enough = enough
        self.read = self.shaken = self.answered = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls, shaken = self.context.wrap_bio(incoming, outgoing, server_side=True), False
        while self.read < self.enough and (data := await stream.receive_some(4096)):
            self.read += len(data)
            incoming.write(data)
            try:
                if not shaken:
                    tls.do_handshake()
                    self.shaken, shaken = self.shaken + 1, True
                tls.read(4096)
            except ssl.SSLWantReadError:
                pass
            if answer := outgoing.read():
                self.answered += shaken
                await stream.send_all(answer)


async def serving(nursery: trio.Nursery, server: Server) -> trio.SocketStream:
    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), server.serve, 0)
    return await trio.open_tcp_stream(*listener.socket.getsockname())


async def test_a_handshake_is_finished(nursery: trio.Nursery, tmp_path: Path) -> None:
    server = Server(tmp_path, 10**9)
    with trio.fail_after(30):
        async with await serving(nursery, server) as stream:
            await tls_attacks.handshakes(stream)
        while not server.shaken:
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_half_of_a_hello_is_no_handshake(nursery: trio.Nursery, tmp_path: Path) -> None:
    server = Server(tmp_path, 100)
    with trio.fail_after(30):
        async with await serving(nursery, server) as stream:
            await tls_attacks.half_hellos(stream)
    assert server.read > 100
    assert not server.shaken
    nursery.cancel_scope.cancel()


@pytest.mark.skipif(tls_attacks._libssl is None, reason="needs OpenSSL 3")  # noqa: SLF001
async def test_keys_are_updated_and_answered_until_the_end(nursery: trio.Nursery, tmp_path: Path) -> None:
    server = Server(tmp_path, 50_000)
    with trio.fail_after(30):
        async with await serving(nursery, server) as stream:
            assert await tls_attacks.key_updates(stream) == "closed"
    assert server.shaken == 1
    assert server.answered > 5
    nursery.cancel_scope.cancel()
