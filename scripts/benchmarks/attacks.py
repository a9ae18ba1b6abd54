"""Clients and endpoints that mean harm, for `bench hostile`: each repeats one thing that a peer can do to a proxy.

`python -m scripts.benchmarks.attacks NAME HOST:PORT SECONDS` attacks; `... endpoint HOST:PORT SECONDS` is the endpoint
whose answers are hostile. Everything is loopback only, and each attack has a fixed number of connections that are
opened again when they end, at most REOPENED_PER_S per second. What speaks HTTP/2 is in `http2_attacks`, TLS in
`tls_attacks`.
"""

import enum
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import trio

from scripts.benchmarks import http2_attacks, tls_attacks

BLOCK = 64 * 1024
REOPENED_PER_S = 200.0
TRICKLE_S = 0.5
HOST = b"Host: shop.test\r\n"

Run = Callable[[trio.SocketStream], Awaitable[str | None]]
"""Returns how the proxy ended the connection, if that is of interest."""


class Port(enum.Enum):
    """At which of a proxy's ports an attack is."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TLS = "tls"


@attrs.frozen
class Attack:
    """`connections` at once, each of which does `run` until it ends. `says`: what it is, for the table's reader.
    `per_second`: how many connections may be opened."""

    connections: int
    says: str
    run: Run
    port: Port = Port.HTTP1
    per_second: float = REOPENED_PER_S


@attrs.frozen
class Outcome:
    """`opened`: connections. `ends`: how the proxy ended them, and how often."""

    opened: int
    ends: dict[str, int] = attrs.field(factory=dict)


async def _flood(stream: trio.SocketStream, opening: bytes, block: Callable[[], bytes]) -> None:
    """Send without end and throw away what comes back."""

    async def read() -> None:
        while await stream.receive_some(BLOCK):
            pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await stream.send_all(opening)
        while True:
            await stream.send_all(block())


async def tiny_chunks(stream: trio.SocketStream) -> None:
    block = b"1\r\nx\r\n" * (BLOCK // 6)
    await _flood(stream, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", lambda: block)


async def pipelined(stream: trio.SocketStream) -> None:
    block = (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 1000
    await _flood(stream, b"", lambda: block)


async def connection_options(stream: trio.SocketStream) -> None:
    def block() -> bytes:
        names = b",".join(b"x%b" % os.urandom(2).hex().encode() for _ in range(3000))
        return b"GET / HTTP/1.1\r\n" + HOST + b"Connection: " + names + b"\r\n\r\n"

    await _flood(stream, b"", block)


async def new_heads(stream: trio.SocketStream) -> None:
    def block() -> bytes:
        fields = b"".join(b"X-%d: %b\r\n" % (number, os.urandom(40).hex().encode()) for number in range(20))
        return b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n"

    await _flood(stream, b"", block)


async def garbage(stream: trio.SocketStream) -> None:
    await _flood(stream, b"", lambda: os.urandom(BLOCK))


async def _unread(stream: trio.SocketStream, path: bytes) -> None:
    await stream.send_all(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    await trio.sleep_forever()


async def interim(stream: trio.SocketStream) -> None:
    await _unread(stream, b"/hostile/interim")


async def unread(stream: trio.SocketStream) -> None:
    await _unread(stream, b"/hostile/endless")


async def tiny_answer_chunks(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /hostile/chunks HTTP/1.1\r\n" + HOST + b"\r\n")
    while await stream.receive_some(BLOCK):
        pass


async def _trickle(stream: trio.SocketStream, opening: bytes) -> None:
    await stream.send_all(opening)
    for _ in itertools.count():
        await trio.sleep(TRICKLE_S)
        await stream.send_all(b"x")


async def slow_heads(stream: trio.SocketStream) -> None:
    await _trickle(stream, b"GET / HTTP/1.1\r\n" + HOST + b"X-Slow: ")


async def slow_bodies(stream: trio.SocketStream) -> None:
    await _trickle(stream, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")


async def idle(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    while await stream.receive_some(BLOCK):
        pass


async def silent(stream: trio.SocketStream) -> None:
    while await stream.receive_some(BLOCK):
        pass


ATTACKS = {
    "tiny chunks": Attack(8, "request bodies in chunks of one byte", tiny_chunks),
    "tiny answer chunks": Attack(8, "an endpoint answers in chunks of one byte", tiny_answer_chunks),
    "pipelined": Attack(8, "a thousand requests at once, again and again", pipelined),
    "connection options": Attack(8, "Connection: with 3,000 names, never the same", connection_options),
    "new heads": Attack(8, "20 fields of 80 bytes, never the same", new_heads),
    "garbage": Attack(8, "random bytes", garbage),
    "interim answers": Attack(8, "an endpoint sends 103 without end, the client does not read", interim),
    "unread answers": Attack(64, "endless answers, the client does not read", unread),
    "slow heads": Attack(400, "a byte of a head every half second", slow_heads),
    "slow bodies": Attack(400, "a byte of a body every half second", slow_bodies),
    "idle": Attack(1200, "asks once and stays, more than may connect", idle),
    "silent": Attack(1200, "connects and says nothing, more than may connect", silent),
    "rapid reset": Attack(8, "opens streams and resets them at once", http2_attacks.rapid_reset, Port.HTTP2),
    "made you reset": Attack(
        8, "has the proxy reset streams by errors on them", http2_attacks.made_you_reset, Port.HTTP2
    ),
    "continuations": Attack(8, "a header block that never ends", http2_attacks.continuations, Port.HTTP2),
    "settings": Attack(8, "SETTINGS without end", http2_attacks.settings, Port.HTTP2),
    "pings": Attack(8, "PING without end", http2_attacks.pings, Port.HTTP2),
    "priorities": Attack(8, "PRIORITY of streams that do not exist, without end", http2_attacks.priorities, Port.HTTP2),
    "empty data": Attack(8, "a body of frames without bytes", http2_attacks.empty_data, Port.HTTP2),
    "references": Attack(
        8, "16,000 references to a field of 4,000 bytes in each request", http2_attacks.references, Port.HTTP2
    ),
    "large heads": Attack(8, "heads of 100 KiB, never the same", http2_attacks.large_heads, Port.HTTP2),
    "zero windows": Attack(
        32, "50 endless answers for each, the windows never open", http2_attacks.zero_windows, Port.HTTP2
    ),
    "endless upload": Attack(8, "bodies without end", http2_attacks.endless_upload, Port.HTTP2),
    "handshakes": Attack(32, "full TLS handshakes without end", tls_attacks.handshakes, Port.TLS, 5000.0),
    "half hellos": Attack(400, "half of a ClientHello, then silence", tls_attacks.half_hellos, Port.TLS),
    "key updates": Attack(8, "TLS 1.3 updates of keys without end", tls_attacks.key_updates, Port.TLS),
}


async def attack(name: str, host: str, port: int, seconds: float) -> Outcome:
    """Carry one out for so long."""
    chosen = ATTACKS[name]
    limiter = Pace(chosen.per_second + chosen.connections)
    opened = 0
    ends: Counter[str] = Counter()

    async def keep() -> None:
        nonlocal opened
        while True:
            await limiter.wait()
            try:
                async with await trio.open_tcp_stream(host, port) as stream:
                    opened += 1
                    if (end := await chosen.run(stream)) is not None:
                        ends[end] += 1
            except* (OSError, trio.BrokenResourceError):
                pass  # the proxy has had enough of this connection: the next one

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(chosen.connections):
                nursery.start_soon(keep)
    return Outcome(opened, dict(ends))


class Pace:
    """Lets at most so many through per second."""

    def __init__(self, per_second: float) -> None:
        self._apart_s = 1.0 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        now = trio.current_time()
        self._next = max(self._next + self._apart_s, now)
        await trio.sleep(self._next - now)


async def endpoint(host: str, port: int, seconds: float) -> None:
    """The hostile endpoint: what it answers depends on the path."""
    parts = {
        b"interim": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000),
        b"chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * (BLOCK // 6)),
        b"endless": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * BLOCK),
    }

    async def answer(stream: trio.SocketStream) -> None:
        head = await stream.receive_some(BLOCK)
        if b"/hostile/sink" in head:
            while await stream.receive_some(BLOCK):
                pass
            return
        for word, (opening, block) in parts.items():
            if word in head:
                await stream.send_all(opening)
                while True:
                    await stream.send_all(block)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await answer(stream)
        except (OSError, trio.BrokenResourceError):
            return  # the proxy has had enough

    with trio.move_on_after(seconds):
        await trio.serve_tcp(serve, port, host=host)


def main() -> None:
    """From the command line; an attack prints its outcome."""
    name, target, seconds = sys.argv[1:]
    host, _, port = target.rpartition(":")
    if name == "endpoint":
        trio.run(endpoint, host, int(port), float(seconds))
    else:
        print(json.dumps(attrs.asdict(trio.run(attack, name, host, int(port), float(seconds)))))


if __name__ == "__main__":
    main()
