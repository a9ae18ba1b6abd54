"""A stream speaks through any layer: here one that turns every byte round."""

from collections.abc import Iterator

import pytest

from tests.net.test_stream import Bench, Noted
from tierlb.net.io import recv
from tierlb.net.layer import Layer
from tierlb.net.stream import Stream
from tierlb.net.wheel import Timed

TURNED = bytes(255 - byte for byte in range(256))


class Turning(Layer):
    """Ends with the byte 0."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.ended = False
        self.calls: list[str] = []

    def move_to(self, stream: Timed) -> None:
        assert isinstance(stream, Stream)
        self.stream = stream

    def moved(self) -> None:
        self.calls.append("moved")

    def read(self) -> None:
        data = recv(self.stream.fd, self.stream.read_bytes) or b""
        whole, end, _ = data.partition(b"\0")
        self.ended = bool(end)
        if whole:
            self.stream.on_data(whole.translate(TURNED))
        if self.ended and not self.stream.paused:
            self.stream.take_end()

    def sealed(self, data: bytes | memoryview) -> bytes:
        return bytes(data).translate(TURNED)

    def shut(self) -> None:
        self.calls.append("shut")

    def leave(self) -> None:
        self.calls.append("leave")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.stream.layer = Turning(bench.stream)
    yield bench
    bench.far.close()
    bench.stream.close()
    bench.reactor.dispose()


def test_what_comes_and_goes_passes_the_layer(bench: Bench) -> None:
    bench.far.sendall(b"abc".translate(TURNED))
    bench.turn()
    assert bench.stream.data == b"abc"
    bench.stream.send(b"xyz")
    assert bench.far.recv(10).translate(TURNED) == b"xyz"


def test_an_end_that_the_layer_found_waits_until_the_stream_goes_on(bench: Bench) -> None:
    bench.stream.pause_on_data = True
    bench.far.sendall(b"abc".translate(TURNED) + b"\0")
    bench.turn()
    assert bench.stream.end_waits
    bench.stream.resume()
    bench.turn()
    assert bench.stream.heard == [3, "eof"]
    assert not bench.stream.end_waits


def test_the_layer_is_asked_for_what_ends_a_side_and_the_whole(bench: Bench) -> None:
    layer = bench.stream.layer
    assert isinstance(layer, Turning)
    bench.stream.shutdown_write()
    bench.stream.close()
    assert layer.calls == ["shut", "leave"]


def test_a_reset_asks_the_layer_for_nothing(bench: Bench) -> None:
    layer = bench.stream.layer
    assert isinstance(layer, Turning)
    bench.stream.reset()
    assert layer.calls == []


def test_the_next_stream_on_the_socket_has_the_layer(bench: Bench) -> None:
    before = bench.stream
    after = bench.stream = Noted(bench.reactor, before.fd)
    after.take_over(before)
    assert before.layer is None
    assert isinstance(after.layer, Turning)
    assert after.layer.stream is after
    bench.far.sendall(b"abc".translate(TURNED))
    bench.turn()
    assert after.data == b"abc"


def test_what_a_stream_has_not_sent_is_taken_as_the_layer_made_it(bench: Bench) -> None:
    much = bytes(64 * 1024 * 1024)
    bench.stream.send(much)
    unsent = bench.stream.take_unsent()
    assert unsent.strip(b"\xff") == b""
    assert bench.stream.backlog is None
