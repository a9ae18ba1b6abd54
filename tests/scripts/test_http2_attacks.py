"""The attacks over HTTP/2 say what they are named after, and see how they are ended; `hpack` is the oracle."""

from collections.abc import Awaitable, Callable
from functools import partial

import hpack
import pytest
import trio

from scripts.benchmarks import http2_attacks
from scripts.benchmarks.http2_attacks import (
    CONTINUATION,
    DATA,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Ending,
    frame,
    literal,
    with_path,
)

FLOODS: dict[str, tuple[Callable[[trio.SocketStream], Awaitable[str]], list[int]]] = {
    "rapid reset": (http2_attacks.rapid_reset, [HEADERS, RST_STREAM] * 3),
    "made you reset": (http2_attacks.made_you_reset, [HEADERS, WINDOW_UPDATE] * 3),
    "continuations": (http2_attacks.continuations, [HEADERS] + [CONTINUATION] * 5),
    "settings": (http2_attacks.settings, [SETTINGS] * 5),
    "pings": (http2_attacks.pings, [PING] * 5),
    "priorities": (http2_attacks.priorities, [PRIORITY] * 5),
    "empty data": (http2_attacks.empty_data, [HEADERS] + [DATA] * 5),
    "references": (http2_attacks.references, [HEADERS] * 3),
    "large heads": (http2_attacks.large_heads, [HEADERS] + [CONTINUATION] * 8 + [HEADERS]),
    "zero windows": (http2_attacks.zero_windows, [HEADERS] * 50),
    "endless upload": (http2_attacks.endless_upload, [HEADERS] + [DATA] * 4),
}


class Attacked:
    """Takes a connection, reads so many frames behind the first SETTINGS, and ends it with GOAWAY."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.frames: list[tuple[int, int, int, bytes]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while len(data) < len(PREFACE):
            data += await stream.receive_some(65536)
        assert data.startswith(PREFACE)
        data = data[len(PREFACE) :]
        while len(self.frames) <= self.count:
            while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3]):
                data += await stream.receive_some(65536)
            end = 9 + int.from_bytes(data[:3])
            self.frames.append((data[3], data[4], int.from_bytes(data[5:9]), data[9:end]))
            data = data[end:]
        await stream.send_all(frame(GOAWAY, 0, 0, bytes(4) + (11).to_bytes(4)))
        await stream.send_eof()
        while await stream.receive_some(65536):
            pass


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_what_it_is_called_and_sees_its_end(name: str, nursery: trio.Nursery) -> None:
    attack, kinds = FLOODS[name]
    attacked = Attacked(len(kinds))
    (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), attacked.serve, 0)
    with trio.fail_after(30):
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            assert await attack(stream) == "GOAWAY 11"
    assert attacked.frames[0][0] == SETTINGS
    assert [kind for kind, *_ in attacked.frames[1:]] == kinds
    opened = [number for kind, _, number, _ in attacked.frames if kind == HEADERS]
    assert opened == sorted(set(opened))
    nursery.cancel_scope.cancel()


def test_blocks_are_read_as_they_were_meant() -> None:
    block = with_path(b"/hostile/sink", b"\x83") + literal(b"x", b"1" * 300)
    fields = [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]
    assert fields == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/hostile/sink"),
        (b":authority", b"shop.test"),
        (b"x", b"1" * 300),
    ]


def test_each_reference_of_the_bomb_stands_for_a_large_field() -> None:
    decoder = hpack.Decoder(max_header_list_size=10**6)
    decoder.decode(GET + literal(b"x", b"1" * 3900, indexed=True), raw=True)
    assert [len(value) for _, value in decoder.decode(b"\xbe" * 3, raw=True)] == [3900] * 3


def test_windows_and_the_end_are_read_in_any_cut() -> None:
    data = (
        frame(SETTINGS, 0, 0, (4).to_bytes(2) + (100_000).to_bytes(4))
        + frame(WINDOW_UPDATE, 0, 0, (7).to_bytes(4))
        + frame(WINDOW_UPDATE, 0, 1, (9).to_bytes(4))
        + frame(GOAWAY, 0, 0, bytes(7) + b"\x01" + b"why")
    )
    ending = Ending()
    for at in range(len(data)):
        ending.feed(data[at : at + 1])
    assert (ending.window, ending.stream_window, ending.words) == (65542, 100_009, "GOAWAY 1")
    assert Ending().words == "closed"
